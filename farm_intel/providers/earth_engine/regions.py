"""The farms' areas as Earth Engine takes them: whole, and the pixels that lie wholly inside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from farm_intel.engine.grid import FarmCells, FarmGeometries

_SHRINK_PX = 0.05
"""Taken off every side of the pixels' outline: rounding on the way must not let in a neighbour, and centres stay in."""
_CENTIMETRES = 2


def whole_region(geometries: FarmGeometries, xy: npt.NDArray[np.float64], farm: int) -> BaseGeometry:
    """Return a farm's boundary in the CRS its vertices `xy` are in, rounded to centimetres."""
    first, end = geometries.farm_rings[farm].tolist()
    parts: list[tuple[npt.NDArray[np.float64], list[npt.NDArray[np.float64]]]] = []
    for ring in range(first, end):
        line = np.round(xy[geometries.rings[ring] : geometries.rings[ring + 1]], _CENTIMETRES)
        if geometries.holes[ring] and parts:
            parts[-1][1].append(line)
        else:
            parts.append((line, []))
    polygons = [shapely.Polygon(outer, holes) for outer, holes in parts]
    return polygons[0] if len(polygons) == 1 else shapely.union_all(polygons)


def pure_count(cells: FarmCells, area: int, ratio: int) -> int:
    """Return how many base pixels lie in pixels of `ratio` wholly inside a farm."""
    return int(np.count_nonzero(_purity(cells, area, ratio)))


def _purity(cells: FarmCells, area: int, ratio: int) -> npt.NDArray[np.bool_]:
    span = slice(int(cells.ptr[area]), int(cells.ptr[area + 1]))
    inside: npt.NDArray[np.bool_] = (cells.purity[span] & np.uint8(1 << cells.ratios.index(ratio))) != 0
    return inside


def pure_region(cells: FarmCells, area: int, ratio: int) -> BaseGeometry:
    """Return the outline of a farm's pixels of `ratio` that lie wholly inside, a hair smaller, in the grid's CRS."""
    span = slice(int(cells.ptr[area]), int(cells.ptr[area + 1]))
    inside = _purity(cells, area, ratio)
    top, left = cells.windows[area, :2].tolist()
    rows = cells.rows[span][inside].astype(np.int64) + top
    cols = cells.cols[span][inside].astype(np.int64) + left
    # runs of neighbours: pixels come row by row
    starts = np.flatnonzero(np.r_[True, (np.diff(rows) != 0) | (np.diff(cols) != 1)])
    ends = np.r_[starts[1:], len(rows)] - 1
    grid = cells.grid
    west = grid.west_m + cols[starts] * grid.pixel_m
    east = grid.west_m + (cols[ends] + 1) * grid.pixel_m
    north = grid.north_m - rows[starts] * grid.pixel_m
    boxes = shapely.box(west, north - grid.pixel_m, east, north)
    outline = shapely.union_all(boxes, grid_size=grid.pixel_m / 1024)
    shrunk = shapely.buffer(outline, -_SHRINK_PX * grid.pixel_m, join_style="mitre")
    return shapely.set_precision(shrunk, 10.0**-_CENTIMETRES)
