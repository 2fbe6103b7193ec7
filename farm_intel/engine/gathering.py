"""Kernels that pick the farms' pixels out of blocks; the only loops that see digital numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farm_intel.domain.products import PixelReason
from farm_intel.engine.jit import kernel

_NODATA = int(PixelReason.NODATA)
_VALID = int(PixelReason.VALID)
_CLOUD = int(PixelReason.CLOUD)
_SHADOW = int(PixelReason.SHADOW)
_NEAR_CLOUD = int(PixelReason.NEAR_CLOUD)


class PixelArrays(NamedTuple):
    """A PixelSet as a kernel takes it, with the runs of side-by-side pixels that make gathering fast."""

    windows: npt.NDArray[np.int32]
    ptr: npt.NDArray[np.int64]
    rows: npt.NDArray[np.uint16]
    cols: npt.NDArray[np.uint16]
    run_ptr: npt.NDArray[np.int64]
    """(n + 1,) where each area's runs start."""
    runs: npt.NDArray[np.int64]
    """(runs + 1,) where each run's pixels start; a run ends where the next one starts."""


class BlockPlace(NamedTuple):
    """Where a block lies, in pixels of its band."""

    row: int
    col: int
    height: int
    """Rows that belong to the image; a padded edge block has fewer than it holds."""
    width: int
    ratio: int
    """Band pixel edge in base pixels."""


class Scaling(NamedTuple):
    """How a digital number becomes surface reflectance."""

    nodata: float
    """NaN where there is none."""
    scale: float
    offset: float


@kernel
def _shift_of(ratio: int) -> int:
    """Return log2 of a power of two, else -1: shifting costs a tenth of dividing."""
    for shift in range(16):
        if ratio == 1 << shift:
            return shift
    return -1


@kernel
def find_runs(
    ptr: npt.NDArray[np.int64], rows: npt.NDArray[np.uint16], cols: npt.NDArray[np.uint16]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where each area's runs start, and where each run of side-by-side pixels starts, with one end each.

    Args:
        ptr: (n + 1,) where each area's pixels start.
        rows: of the pixels, relative to the area's window.
        cols: likewise.

    """
    run_ptr = np.zeros(ptr.size, np.int64)
    runs = np.empty(rows.size + 1, np.int64)
    count = 0
    for area in range(ptr.size - 1):
        for p in range(ptr[area], ptr[area + 1]):
            if p == ptr[area] or rows[p] != rows[p - 1] or cols[p] != cols[p - 1] + 1:
                runs[count] = p
                count += 1
        run_ptr[area + 1] = count
    runs[count] = rows.size
    return run_ptr, runs[: count + 1].copy()


@kernel
def _band_row(row: int, shift: int, place: BlockPlace) -> int:
    """Return the row in the block of a base row, -1 where it is not in it."""
    inside = (row >> shift if shift >= 0 else row // place.ratio) - place.row
    return inside if 0 <= inside < place.height else -1


@kernel
def gather_reflectance(
    block: Any,
    place: BlockPlace,
    areas: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    pixels: PixelArrays,
    scaling: Scaling,
    out: npt.NDArray[np.float32],
) -> None:
    """Write the surface reflectance of the areas' pixels that lie in the block; nodata becomes NaN before scaling.

    Args:
        block: (>= height, >= width) digital numbers; widened to float64 before the arithmetic, so integers cannot wrap.
        place: where the block lies.
        areas: positions in `pixels` of the areas that touch the block.
        starts: where each of these areas' pixels go in `out`.
        pixels: all areas.
        scaling: nodata, scale, offset.
        out: pixels outside the block are left alone.

    """
    shift = _shift_of(place.ratio)
    for k in range(areas.size):
        area = areas[k]
        move = starts[k] - pixels.ptr[area]
        for run in range(pixels.run_ptr[area], pixels.run_ptr[area + 1]):
            p = pixels.runs[run]
            q = pixels.runs[run + 1]
            row = _band_row(np.int64(pixels.windows[area, 0]) + pixels.rows[p], shift, place)
            if row >= 0:
                left = np.int64(pixels.windows[area, 1]) + pixels.cols[p]
                low = max(0, place.col * place.ratio - left)
                high = min(q - p, (place.col + place.width) * place.ratio - left)
                _scale_run(block[row], (left, low, high, shift), place, scaling, out[move + p : move + q])


@kernel
def _scale_run(line: Any, span: Any, place: BlockPlace, scaling: Scaling, out: npt.NDArray[np.float32]) -> None:
    """Scale the pixels low..high of a run that starts at base column `left`."""
    left, low, high, shift = span
    if high <= low:
        return
    nothing = np.float32(np.nan)
    if shift == 0:
        # slices that start at 0 need no look for negative places, and are scaled many pixels at a time
        source = line[left + low - place.col : left + high - place.col]
        target = out[low:high]
        for t in range(target.size):
            number = np.float64(source[t])
            target[t] = nothing if number == scaling.nodata else np.float32(number * scaling.scale + scaling.offset)
        return
    for t in range(low, high):
        col = (left + t) >> shift if shift > 0 else (left + t) // place.ratio
        number = np.float64(line[np.uint64(col - place.col)])
        out[np.uint64(t)] = nothing if number == scaling.nodata else np.float32(number * scaling.scale + scaling.offset)


@kernel
def gather_reasons(
    block: Any,
    place: BlockPlace,
    areas: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    pixels: PixelArrays,
    lookup: npt.NDArray[np.uint8],
    out: npt.NDArray[np.uint8],
) -> None:
    """Write why each pixel of the areas in the block does or does not count; arguments as in `gather_reflectance`.

    `lookup` maps mask values to PixelReason; a value beyond it is no data.
    """
    shift = _shift_of(place.ratio)
    for k in range(areas.size):
        area = areas[k]
        move = starts[k] - pixels.ptr[area]
        for run in range(pixels.run_ptr[area], pixels.run_ptr[area + 1]):
            p = pixels.runs[run]
            q = pixels.runs[run + 1]
            row = _band_row(np.int64(pixels.windows[area, 0]) + pixels.rows[p], shift, place)
            if row >= 0:
                left = np.int64(pixels.windows[area, 1]) + pixels.cols[p]
                low = max(0, place.col * place.ratio - left)
                high = min(q - p, (place.col + place.width) * place.ratio - left)
                for t in range(low, high):
                    col = (left + t) >> shift if shift >= 0 else (left + t) // place.ratio
                    value = np.int64(block[row, col - place.col])
                    out[move + p + t] = lookup[value] if 0 <= value < lookup.size else _NODATA


@kernel
def paste_reasons(block: Any, place: BlockPlace, corner: Any, lookup: npt.NDArray[np.uint8], canvas: Any) -> None:
    """Write the reasons of the part of a block that lies in `canvas`, whose upper-left mask pixel is `corner`."""
    top, left = corner
    for row in range(max(top, place.row), min(top + canvas.shape[0], place.row + place.height)):
        for col in range(max(left, place.col), min(left + canvas.shape[1], place.col + place.width)):
            value = np.int64(block[row - place.row, col - place.col])
            canvas[row - top, col - left] = lookup[value] if 0 <= value < lookup.size else _NODATA


@kernel
def dilate_reasons(reasons: npt.NDArray[np.uint8], radius: int) -> npt.NDArray[np.uint8]:
    """Return reasons where valid pixels within `radius` (square neighbourhood) of cloud or shadow are NEAR_CLOUD."""
    height, width = reasons.shape
    near = np.zeros((height, width), np.bool_)
    for row in range(height):
        for col in range(width):
            if reasons[row, col] == _CLOUD or reasons[row, col] == _SHADOW:
                near[row, max(0, col - radius) : col + radius + 1] = True
    out = reasons.copy()
    for row in range(height):
        for col in range(width):
            if near[row, col]:
                for other in range(max(0, row - radius), min(height, row + radius + 1)):
                    if out[other, col] == _VALID:
                        out[other, col] = _NEAR_CLOUD
    return out


@kernel
def gather_canvas(
    canvas: npt.NDArray[np.uint8], corner: Any, area: int, ratio: int, pixels: PixelArrays, out: npt.NDArray[np.uint8]
) -> None:
    """Write the reasons of one area's pixels from a canvas of mask pixels; pixels outside it are left alone."""
    first = pixels.ptr[area]
    for p in range(first, pixels.ptr[area + 1]):
        row = (np.int64(pixels.windows[area, 0]) + pixels.rows[p]) // ratio - corner[0]
        col = (np.int64(pixels.windows[area, 1]) + pixels.cols[p]) // ratio - corner[1]
        if 0 <= row < canvas.shape[0] and 0 <= col < canvas.shape[1]:
            out[p - first] = canvas[row, col]


@kernel
def count_missing(
    reflectance: npt.NDArray[np.float32],
    reasons: npt.NDArray[np.uint8],
    present: npt.NDArray[np.bool_],
    starts: npt.NDArray[np.int64],
    out: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Return per area how many pixels the scene has no data for, and mark them in `out`.

    A pixel misses data where the mask says so, or where it is clear and a band the scene should have is nodata.
    Pixels masked for another reason are known: nothing fills them.

    Args:
        reflectance: (K, n).
        reasons: (n,) PixelReason.
        present: (K,) bands the scene offers.
        starts: (areas + 1,) where each area's pixels start.
        out: (n,) set True where data is missing.

    """
    for p in range(reasons.size):
        out[p] = False
    for band in range(present.size):
        if present[band]:
            values = reflectance[band]
            for p in range(reasons.size):
                out[p] |= np.isnan(values[p])
    missing = np.zeros(starts.size - 1, np.int64)
    for k in range(starts.size - 1):
        for p in range(starts[k], starts[k + 1]):
            gone = (reasons[p] == _NODATA) | ((reasons[p] == _VALID) & out[p])
            out[p] = gone
            missing[k] += gone
    return missing
