"""From gathered pixels to results per farm: prepares the arrays of one kernel call and wraps what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import RASTER_NODATA, RasterClip
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.observations import STATISTICS
from farm_intel.domain.products import REASON_COUNT
from farm_intel.engine.gathering import PixelArrays, find_runs
from farm_intel.engine.grid import FarmCells, PixelSet
from farm_intel.engine.kernels import AreaArrays, BundleArrays, PixelData, ResultArrays, evaluate
from farm_intel.engine.options import EngineOptions
from farm_intel.indices.index import SpectralIndex
from farm_intel.indices.program import BundleProgram

_MAX_INPUTS = 62
"""Inputs are bits of an int64."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GatheredPixels:
    """Surface reflectance and mask reasons of the pixels of some areas."""

    reflectance: npt.NDArray[np.float32]
    """(K, n), NaN where there is no data."""
    reasons: npt.NDArray[np.uint8]
    """(n,) PixelReason."""
    starts: npt.NDArray[np.int64]
    """(areas + 1,) where each area's pixels start."""
    days: npt.NDArray[np.float32] | None = None
    """(n,) day of the year each pixel was seen on, NaN where it is not told; None for single acquisitions."""

    def area(self, k: int) -> GatheredPixels:
        """Return a copy of one area's pixels."""
        span = slice(int(self.starts[k]), int(self.starts[k + 1]))
        return GatheredPixels(
            reflectance=self.reflectance[:, span].copy(),
            reasons=self.reasons[span].copy(),
            starts=np.array([0, span.stop - span.start], np.int64),
            days=None if self.days is None else self.days[span].copy(),
        )


def empty_pixels(bands: int, counts: npt.NDArray[np.int64], unknown: int, *, with_days: bool = False) -> GatheredPixels:
    """Return room for the pixels of areas, all NaN and with reason `unknown` until something is gathered."""
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    total = int(starts[-1])
    return GatheredPixels(
        reflectance=np.full((bands, total), np.nan, np.float32),
        reasons=np.full(total, unknown, np.uint8),
        starts=starts,
        days=np.full(total, np.nan, np.float32) if with_days else None,
    )


def join_pixels(parts: Sequence[GatheredPixels]) -> GatheredPixels:
    """Return the pixels of several areas after one another."""
    counts = [np.diff(part.starts) for part in parts]
    days = [part.days for part in parts if part.days is not None]
    return GatheredPixels(
        reflectance=np.concatenate([part.reflectance for part in parts], axis=1),
        reasons=np.concatenate([part.reasons for part in parts]),
        starts=np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64),
        days=np.concatenate(days) if len(days) == len(parts) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZonalResult:
    """Results of F farms; arrays as in domain.batches.FarmDayBatch."""

    statistics: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int32]
    """(F, I, 3) touched, valid, used."""
    n_effective: npt.NDArray[np.float64]
    used_area_px: npt.NDArray[np.float64]
    mixed: npt.NDArray[np.bool_]
    fractions: npt.NDArray[np.float64]
    clips: tuple[RasterClip | None, ...]


def empty_result(farms: int, indices: int) -> ZonalResult:
    """Return what farms without pixels have: NaN, zeros, no rasters."""
    return ZonalResult(
        statistics=np.full((farms, indices, len(STATISTICS)), np.nan),
        counts=np.zeros((farms, indices, 3), np.int32),
        n_effective=np.zeros((farms, indices)),
        used_area_px=np.zeros((farms, indices)),
        mixed=np.zeros((farms, indices), np.bool_),
        fractions=np.zeros((farms, indices, REASON_COUNT)),
        clips=(None,) * farms,
    )


def bundle_arrays(
    program: BundleProgram,
    indices: Sequence[SpectralIndex],
    ratios: tuple[Sequence[int], Sequence[int]],
    options: EngineOptions,
) -> BundleArrays:
    """Return the compiled indices with their rules for one band layout.

    Args:
        program: from `compile_bundle(indices, …)`.
        indices: in the program's order.
        ratios: pixel edge of every input in base pixels, and the ratios that purity is known for.
        options: purity and reflectance limits.

    Raises:
        BadRequestError: more than 62 input bands.

    """
    band_ratios, known = ratios
    if len(program.inputs) > _MAX_INPUTS:
        raise BadRequestError(f"{len(program.inputs)} bands at once; at most {_MAX_INPUTS} are possible.")
    coarsest = coarsest_ratios(program, band_ratios)
    places = list(known)
    bits = np.array([1 << k for k in range(len(program.inputs))], np.int64)
    return BundleArrays(
        ops=np.ascontiguousarray(program.ops, np.int32),
        constants=program.constants.astype(np.float32),
        n_registers=program.n_registers,
        outputs=program.outputs.astype(np.int32),
        used=np.where(program.used_inputs, bits, 0).sum(axis=1).astype(np.int64),
        low=np.array([index.valid_range[0] for index in indices], np.float64),
        high=np.array([index.valid_range[1] for index in indices], np.float64),
        step=np.array([index.encoding.scale for index in indices], np.float64),
        origin=np.array([index.encoding.offset for index in indices], np.float64),
        ratio2=coarsest.astype(np.float64) ** 2,
        pure_bit=np.array([1 << places.index(int(ratio)) for ratio in coarsest], np.uint8),
        min_pure=float(options.min_pure_pixels),
        reflectance_max=float(options.reflectance_max),
    )


def coarsest_ratios(program: BundleProgram, band_ratios: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return (I,) the coarsest input of each index, in base pixels."""
    return np.where(program.used_inputs, np.array(band_ratios, np.int64), 1).max(axis=1)


def pixel_arrays(pixels: PixelSet) -> PixelArrays:
    """Return a pixel set as the gathering kernels take it."""
    return PixelArrays(
        pixels.windows, pixels.ptr, pixels.rows, pixels.cols, *find_runs(pixels.ptr, pixels.rows, pixels.cols)
    )


def evaluate_farms(
    cells: FarmCells,
    chosen: npt.NDArray[np.int64],
    pixels: GatheredPixels,
    bundle: BundleArrays,
    parts: npt.NDArray[np.int64] | None = None,
) -> ZonalResult:
    """Compute every index of the chosen farms.

    Args:
        cells: the grid's farms.
        chosen: (F,) positions in `cells`.
        pixels: of the chosen farms, in that order.
        bundle: from `bundle_arrays`.
        parts: (F,) which areas of `pixels` are the chosen farms, where they are not all of them in order.

    """
    starts = pixels.starts[:-1] if parts is None else pixels.starts[parts]
    farms, indices = len(chosen), len(bundle.outputs)
    room = cells.windows[chosen, 2].astype(np.int64) * cells.windows[chosen, 3] * indices
    clip_starts = np.concatenate([[0], np.cumsum(room)]).astype(np.int64)
    blank = empty_result(farms, indices)
    clip = np.full(int(clip_starts[-1]), RASTER_NODATA, np.int16)
    evaluate(
        chosen,
        AreaArrays(cells.windows, cells.ptr, cells.rows, cells.cols, cells.coverage, cells.purity),
        PixelData(pixels.reflectance, pixels.reasons, starts),
        bundle,
        ResultArrays(
            blank.statistics,
            blank.counts,
            blank.n_effective,
            blank.used_area_px,
            blank.mixed,
            blank.fractions,
            clip,
            clip_starts[:-1],
        ),
    )
    edges = clip_starts.tolist()
    clips = []
    for f, area in enumerate(chosen.tolist()):
        grid = cells.clip_grids[area]
        data = clip[edges[f] : edges[f + 1]].reshape(indices, grid.height_px, grid.width_px)
        clips.append(RasterClip(grid=grid, data=data))
    return ZonalResult(
        statistics=blank.statistics,
        counts=blank.counts,
        n_effective=blank.n_effective,
        used_area_px=blank.used_area_px,
        mixed=blank.mixed,
        fractions=blank.fractions,
        clips=tuple(clips),
    )
