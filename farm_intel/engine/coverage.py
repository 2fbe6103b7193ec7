"""Exact share of every pixel that lies inside a polygon, by signed-area accumulation.

Each edge adds its signed area to the cells it runs through and its height to the cell right of it; a running sum along
the row then gives the covered share of every cell exactly (Levien, font-rs, 2016; the same idea as FreeType's
smooth rasteriser). Cost is O(edges + cells), holes and parts only differ in sign, and edges that two parts share
cancel out, which is what a polygon cut at the antimeridian needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.engine.jit import kernel

WHOLE = 255
"""8-bit coverage of a pixel wholly inside; no smaller share is rounded up to it."""
_NOISE = 1e-6
"""Shares closer than this to 0 or 1 are rounding of the running sum."""


@kernel
def _edge(area: npt.NDArray[np.float64], start: Any, end: Any, sign: float) -> None:
    """Add one edge, given as (x, y) in pixels of the window; `area` is (height, width + 2)."""
    x0, y0 = start
    x1, y1 = end
    if y0 == y1:
        return
    direction = sign
    if y0 > y1:
        x0, y0, x1, y1 = x1, y1, x0, y0
        direction = -sign
    slope = (x1 - x0) / (y1 - y0)
    for row in range(int(y0), min(area.shape[0], int(np.ceil(y1)))):
        top = max(float(row), y0)
        bottom = min(row + 1.0, y1)
        height = (bottom - top) * direction
        left = x0 + (top - y0) * slope
        right = x0 + (bottom - y0) * slope
        if left > right:
            left, right = right, left
        # rounding may leave the edge by an ulp
        left = max(left, min(x0, x1))
        right = max(left, min(right, max(x0, x1)))
        _span(area[row], left, right, height)


@kernel
def _span(line: npt.NDArray[np.float64], left: float, right: float, height: float) -> None:
    """Add the part of an edge within one row, from x `left` to x `right`."""
    first = int(left)
    last = int(np.ceil(right))
    if last <= first + 1:
        share = 0.5 * (left + right) - first
        line[first] += height * (1.0 - share)
        line[first + 1] += height * share
        return
    per_px = 1.0 / (right - left)
    covered = 0.0
    for col in range(first, last):
        # area right of the edge inside this cell, for the part of the edge that runs through it
        a = max(left, float(col))
        b = min(right, col + 1.0)
        done_before = (a - left) * per_px
        here = (b - a) * per_px
        total = done_before + here * (1.0 - (0.5 * (a + b) - col))
        line[col] += height * (total - covered)
        covered = total
    line[last] += height * (1.0 - covered)


@kernel
def _ring_area(xy: npt.NDArray[np.float64], first: int, end: int) -> float:
    """Twice the signed area of a ring."""
    total = 0.0
    for k in range(first, end - 1):
        total += (xy[k, 0] - xy[first, 0]) * (xy[k + 1, 1] - xy[first, 1])
        total -= (xy[k + 1, 0] - xy[first, 0]) * (xy[k, 1] - xy[first, 1])
    return total


@kernel
def coverage_window(
    xy: npt.NDArray[np.float64],
    rings: npt.NDArray[np.int64],
    holes: npt.NDArray[np.bool_],
    shape: Any,
) -> npt.NDArray[np.float64]:
    """Return the covered share (height, width) of every pixel of a window.

    Args:
        xy: (n, 2) vertices in pixels from the window's upper-left corner, x right, y down, inside the window.
        rings: (r + 1,) where each closed ring starts in `xy`.
        holes: (r,) True for interior rings; orientation does not matter.
        shape: (height, width) in pixels.

    """
    height, width = shape
    area = np.zeros((height, width + 2))
    for r in range(holes.size):
        sign = 1.0 if _ring_area(xy, rings[r], rings[r + 1]) > 0 else -1.0
        if holes[r]:
            sign = -sign
        for k in range(rings[r], rings[r + 1] - 1):
            _edge(area, (xy[k, 0], xy[k, 1]), (xy[k + 1, 0], xy[k + 1, 1]), sign)
    for row in range(height):
        total = 0.0
        for col in range(width):
            total += area[row, col]
            # y grows downwards, so the sign of the sum depends on the axis only; the magnitude is the share
            area[row, col] = min(1.0, abs(total))
    return area[:, :width]


@kernel
def quantise(share: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return 8-bit coverage: 0 only outside, 255 only wholly inside, else the nearest of 1..254."""
    out = np.zeros(share.shape, np.uint8)
    for row in range(share.shape[0]):
        for col in range(share.shape[1]):
            value = share[row, col]
            if value >= 1.0 - _NOISE:
                out[row, col] = WHOLE
            elif value > _NOISE:
                out[row, col] = min(WHOLE - 1, max(1, int(value * WHOLE + 0.5)))
    return out


@kernel
def purity(coverage: npt.NDArray[np.uint8], ratios: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return per pixel a bit per ratio: bit j is set where the pixel of `ratios[j]` base pixels' edge is wholly inside.

    The window's edges are multiples of every ratio, so coarse pixels never straddle them.
    """
    out = np.zeros(coverage.shape, np.uint8)
    for j in range(ratios.size):
        ratio = ratios[j]
        bit = np.uint8(1 << j)
        for row in range(0, coverage.shape[0], ratio):
            for col in range(0, coverage.shape[1], ratio):
                # plain loops: slicing and np.all would allocate for every pixel
                whole = True
                for a in range(row, row + ratio):
                    for b in range(col, col + ratio):
                        whole = whole and coverage[a, b] == WHOLE
                if whole:
                    for a in range(row, row + ratio):
                        for b in range(col, col + ratio):
                            out[a, b] |= bit
    return out


@kernel
def cut_farms(
    xy: npt.NDArray[np.float64],
    rings: npt.NDArray[np.int64],
    holes: npt.NDArray[np.bool_],
    farm_rings: npt.NDArray[np.int64],
    windows: npt.NDArray[np.int32],
    ratios: npt.NDArray[np.int64],
) -> Any:
    """Return (ptr, rows, cols, coverage, purity) of all pixels the farms touch, farm after farm, row-major.

    Args:
        xy: (n, 2) vertices in pixels of the grid.
        rings: (r + 1,) ring starts in `xy`.
        holes: (r,) True for interior rings.
        farm_rings: (f, 2) first and end ring of each farm.
        windows: (f, 4) row, col, height, width of each farm, multiples of every ratio.
        ratios: pixel edges, in base pixels, for which purity is wanted.

    """
    farms = windows.shape[0]
    ptr = np.zeros(farms + 1, np.int64)
    most = 0
    for f in range(farms):
        most += np.int64(windows[f, 2]) * windows[f, 3]
    rows = np.empty(most, np.uint16)
    cols = np.empty(most, np.uint16)
    cover = np.empty(most, np.uint8)
    pure = np.empty(most, np.uint8)
    n = 0
    for f in range(farms):
        first, end = farm_rings[f, 0], farm_rings[f, 1]
        a, b = rings[first], rings[end]
        height, width = windows[f, 2], windows[f, 3]
        local = np.empty((b - a, 2))
        for k in range(a, b):
            local[k - a, 0] = min(max(xy[k, 0] - windows[f, 1], 0.0), float(width))
            local[k - a, 1] = min(max(xy[k, 1] - windows[f, 0], 0.0), float(height))
        share = coverage_window(local, rings[first : end + 1] - a, holes[first:end], (height, width))
        eighth = quantise(share)
        whole = purity(eighth, ratios)
        for row in range(height):
            for col in range(width):
                if eighth[row, col]:
                    rows[n] = row
                    cols[n] = col
                    cover[n] = eighth[row, col]
                    pure[n] = whole[row, col]
                    n += 1
        ptr[f + 1] = n
    return ptr, rows[:n].copy(), cols[:n].copy(), cover[:n].copy(), pure[:n].copy()
