"""Opens a scene: its band files, their common grid, and the decided radiometry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind, TransientError
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.products import CollectionProfile, PixelReason
from farm_intel.domain.scenes import Scene, SceneProblem
from farm_intel.engine.blocks import BandHeader, BlockReader, OpenBand
from farm_intel.engine.gathering import Scaling
from farm_intel.engine.reflectance import (
    DARK_BANDS,
    ProbeResult,
    SceneRadiometry,
    decide_radiometry,
    probe_offset,
    resolve_radiometry,
)
from farm_intel.indices.program import BundleProgram
from farm_intel.resilience import deadlines

_PROBE_EDGE_PX = 512
_ORIGIN_TOLERANCE_PX = 0.01
_RATIO_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandSlot:
    """One open band of a scene, placed on the scene's base grid."""

    band: OpenBand
    header: BandHeader
    ratio: int
    """Pixel edge in base pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenScene:
    """A scene that can be read."""

    scene: Scene
    grid: PixelGrid
    """Of the finest band."""
    inputs: tuple[BandSlot | None, ...]
    """In the order of the bundle's inputs; None where the scene does not offer the band."""
    mask: BandSlot
    more_masks: tuple[BandSlot, ...] = ()
    """In the order of the profile's `more_masks`."""
    day: BandSlot | None = None
    """Each pixel's day of the year, for composites that offer it."""
    scalings: tuple[Scaling, ...]
    radiometry: SceneRadiometry
    problems: tuple[SceneProblem, ...]
    """Of single bands; the scene is usable without them."""

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(K,) which inputs there are."""
        return np.array([slot is not None for slot in self.inputs], np.bool_)

    @property
    def ratios(self) -> tuple[int, ...]:
        """(K,) pixel edge of every input in base pixels; 1 for a missing one."""
        return tuple(1 if slot is None else slot.ratio for slot in self.inputs)


def known_ratios(slots: Sequence[BandSlot | None]) -> tuple[int, ...]:
    """Return the pixel edges, in base pixels, for which farms must be cut: those of the bands, ascending from 1."""
    return tuple(sorted({1, *(slot.ratio for slot in slots if slot is not None)}))


class SceneOpener:
    """Opens each scene at most once per run; knows which bands the bundle needs."""

    def __init__(
        self,
        reader: BlockReader,
        executor: Executor,
        profile: CollectionProfile,
        program: BundleProgram,
        *,
        refresh: Callable[[Scene], Scene] | None,
        announce: Callable[[PixelGrid, tuple[int, ...]], object],
    ) -> None:
        """Remember what to open.

        Args:
            reader: opens band files.
            executor: for `refresh`.
            profile: of the collection.
            program: knows the bands.
            refresh: called before a scene is opened.
            announce: told a scene's grid and `known_ratios` as soon as its headers are read.

        """
        self._reader = reader
        self._executor = executor
        self._profile = profile
        self._program = program
        self._refresh = refresh
        self._announce = announce
        self._lookup = profile.mask.lookup()

    async def open(self, scene: Scene) -> OpenScene:
        """Return the open scene.

        Raises:
            SceneProblemError: a needed file, grid or the radiometry is unusable.
            TransientError: catalogue or server did not answer.

        """
        problems = self._check_assets(scene)
        if self._refresh is not None:
            loop = asyncio.get_running_loop()
            scene = await loop.run_in_executor(self._executor, deadlines.carried(self._refresh), scene)
        names = [name for name in self._program.inputs if name in scene.bands]
        mask_name = self._profile.mask.band
        beside = [rule.band for rule in self._profile.more_masks]
        day_name = self._profile.day_band if self._profile.day_band in scene.bands else None
        wanted = (*names, mask_name, *beside, *([day_name] if day_name else []))
        opened = await _all([self._reader.open(scene.bands[name], scene_id=scene.scene_id) for name in wanted])
        bands = dict(zip(wanted, opened, strict=True))
        grid = min((band.header.grid for band in opened), key=lambda g: g.pixel_m)
        slots = {
            name: BandSlot(band=band, header=band.header, ratio=_ratio(scene.scene_id, name, grid, band.header.grid))
            for name, band in bands.items()
        }
        self._announce(grid, known_ratios([slots[name] for name in (*names, mask_name)]))
        radiometry = await self._radiometry(scene, names, bands)
        return OpenScene(
            scene=scene,
            grid=grid,
            inputs=tuple(slots.get(name) for name in self._program.inputs),
            mask=slots[mask_name],
            more_masks=tuple(slots[name] for name in beside),
            day=slots[day_name] if day_name else None,
            scalings=tuple(
                self._scaling(scene, slots[name], name, radiometry) if name in slots else Scaling(np.nan, 1.0, 0.0)
                for name in self._program.inputs
            ),
            radiometry=radiometry,
            problems=problems,
        )

    def _check_assets(self, scene: Scene) -> tuple[SceneProblem, ...]:
        """Return a problem per missing input; refuse a scene that serves no index at all."""
        for rule in (self._profile.mask, *self._profile.more_masks):
            if rule.band not in scene.bands:
                raise SceneProblemError(
                    SceneProblemKind.MISSING_ASSET,
                    scene.scene_id,
                    f"no mask band {rule.band}",
                    hint="Without a mask no pixel can be called clear.",
                )
        missing = [name for name in self._program.inputs if name not in scene.bands]
        gone = np.array([name in missing for name in self._program.inputs], np.bool_)
        if missing and bool((self._program.used_inputs & gone).any(axis=1).all()):
            raise SceneProblemError(
                SceneProblemKind.MISSING_ASSET,
                scene.scene_id,
                f"no band {', '.join(missing)}",
                hint="Every index asked for needs it.",
            )
        return tuple(
            SceneProblem(
                scene_id=scene.scene_id, kind=SceneProblemKind.MISSING_ASSET, detail=f"no band {name}", band=name
            )
            for name in missing
        )

    def _scaling(self, scene: Scene, slot: BandSlot, name: str, radiometry: SceneRadiometry) -> Scaling:
        """Return the band's rule; the file's nodata beats the catalogue's, which beats the profile's."""
        candidates = (slot.header.nodata, scene.bands[name].nodata, float(self._profile.radiometry.nodata))
        nodata = next(value for value in candidates if value is not None)
        rule = radiometry.bands[name]
        return Scaling(float(nodata), float(rule.scale), float(rule.offset))

    async def _radiometry(self, scene: Scene, names: list[str], bands: dict[str, OpenBand]) -> SceneRadiometry:
        rules = {name: resolve_radiometry(self._profile, scene, scene.bands[name]) for name in names}
        probe = None
        if any(rule.needs_probe for rule in rules.values()):
            probe = await self._probe(scene, bands)
        return decide_radiometry(scene.scene_id, rules, probe)

    async def _probe(self, scene: Scene, bands: dict[str, OpenBand]) -> ProbeResult | None:
        """Ask the pixels of the darkest band there is; None where the scene has none."""
        name = next((name for name in DARK_BANDS if name in scene.bands), None)
        if name is None:
            return None
        dark_band = bands.get(name)
        if dark_band is None:
            # not an input of the bundle, but the only witness
            dark_band = await self._reader.open(scene.bands[name], scene_id=scene.scene_id)
        dark, mask = await _all(
            [dark_band.read_overview(_PROBE_EDGE_PX), bands[self._profile.mask.band].read_overview(_PROBE_EDGE_PX)]
        )
        rows = np.arange(dark.shape[0]) * mask.shape[0] // dark.shape[0]
        cols = np.arange(dark.shape[1]) * mask.shape[1] // dark.shape[1]
        values = np.clip(mask[rows][:, cols].astype(np.int64), 0, len(self._lookup) - 1)
        return probe_offset(dark, self._lookup[values] == PixelReason.VALID)


async def _all[T](jobs: list[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results; on the first failure the others are awaited too, so that none is left running."""
    results = await asyncio.gather(*jobs, return_exceptions=True)
    good = [result for result in results if not isinstance(result, BaseException)]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return good


def _ratio(scene_id: str, name: str, base: PixelGrid, grid: PixelGrid) -> int:
    """Return the band's pixel edge in base pixels; the two grids must share CRS and corner."""
    ratio = grid.pixel_m / base.pixel_m
    whole = round(ratio)
    tolerance = base.pixel_m * _ORIGIN_TOLERANCE_PX
    same_corner = abs(grid.west_m - base.west_m) <= tolerance and abs(grid.north_m - base.north_m) <= tolerance
    if grid.crs != base.crs or not same_corner or abs(ratio - whole) > _RATIO_TOLERANCE * whole:
        raise SceneProblemError(
            SceneProblemKind.UNKNOWN_GRID,
            scene_id,
            f"band {name} does not lie on the grid of the finest band ({grid} against {base})",
            hint="Bands of one scene must share CRS and upper-left corner.",
        )
    return whole


def problem_of(error: SceneProblemError | TransientError, scene: Scene) -> SceneProblem:
    """Return an error as the record of a scene; a transient one is a file that could not be read today."""
    if isinstance(error, SceneProblemError):
        return SceneProblem(scene_id=scene.scene_id, kind=error.kind, detail=error.detail)
    return SceneProblem(scene_id=scene.scene_id, kind=SceneProblemKind.UNREADABLE_FILE, detail=str(error))
