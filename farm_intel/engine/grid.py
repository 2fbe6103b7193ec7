"""Farm boundaries on a scene's own pixel grid: the geometry is projected first, windows are taken after.

Taking bounds before projecting goes wrong at the antimeridian (the box spans the globe) and by metres elsewhere.
Windows are snapped outwards to multiples of the coarsest band's pixel, so that coarse bands are exact repeats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from farm_intel.domain.batches import FarmShape
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.geo import PixelGrid
from farm_intel.engine.coverage import cut_farms

_SNAP_TOLERANCE_PX = 1e-6
_FAR_DEG = 40.0
"""A farm this far from a tile's centre cannot lie in it; projecting it there may fold it back into the tile."""
_MAX_WINDOW_PX = 65_535
"""Pixel positions in a window are 16-bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmGeometries:
    """All boundaries as one run of vertices, ready to be projected together."""

    lonlat: npt.NDArray[np.float64]
    """(n, 2) degrees."""
    rings: npt.NDArray[np.int64]
    """(r + 1,) where each closed ring starts."""
    holes: npt.NDArray[np.bool_]
    """(r,) True for interior rings."""
    farm_rings: npt.NDArray[np.int64]
    """(f, 2) first and end ring of each farm."""
    farm_vertices: npt.NDArray[np.int64]
    """(f + 1,) where each farm's vertices start."""
    bounds: npt.NDArray[np.float64]
    """(f, 4) west, south, east, north in degrees; east > 180 where the farm crosses the antimeridian."""

    def __len__(self) -> int:
        """Return the number of farms."""
        return len(self.farm_rings)


def load_geometries(farms: Sequence[FarmShape]) -> FarmGeometries:
    """Return the vertices of all farms.

    Raises:
        BadRequestError: a boundary is not a non-empty polygon or multipolygon.

    """
    shapes = shapely.force_2d(shapely.from_wkb([farm.boundary_wkb for farm in farms]))
    kinds = shapely.get_type_id(shapes)
    for farm, kind, empty in zip(farms, kinds, shapely.is_empty(shapes), strict=True):
        if kind not in (3, 6) or empty:
            raise BadRequestError(
                f"farm {farm.farm_id}: the boundary is not a polygon.", hint="Import the farm again from its source."
            )
    # multipolygons throughout: one layout of offsets, however the farms are mixed
    parts, part_farm = shapely.get_parts(shapes, return_index=True)
    ring_shapes, ring_part = shapely.get_rings(parts, return_index=True)
    lonlat, vertex_ring = shapely.get_coordinates(ring_shapes, return_index=True)
    rings = np.concatenate([[0], np.cumsum(np.bincount(vertex_ring, minlength=len(ring_shapes)))]).astype(np.int64)
    holes = np.concatenate([[False], ring_part[1:] == ring_part[:-1]])
    ring_farm = part_farm[ring_part]
    edges = np.searchsorted(ring_farm, np.arange(len(farms) + 1)).astype(np.int64)
    farm_vertices = rings[edges]
    return FarmGeometries(
        lonlat=lonlat,
        rings=rings,
        holes=holes,
        farm_rings=np.stack([edges[:-1], edges[1:]], axis=1),
        farm_vertices=farm_vertices,
        bounds=_lonlat_bounds(lonlat, farm_vertices),
    )


def _lonlat_bounds(lonlat: npt.NDArray[np.float64], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return (f, 4) bounds; farms with vertices on both sides of longitude 180 get an east beyond 180."""
    box = _bounds(lonlat, starts)
    crossing = box[:, 2] - box[:, 0] > 180
    if crossing.any():
        turned = lonlat.copy()
        turned[turned[:, 0] < 0, 0] += 360
        box[crossing] = _bounds(turned, starts)[crossing]
    return box


def _bounds(xy: npt.NDArray[np.float64], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    low = np.minimum.reduceat(xy, starts[:-1], axis=0)
    high = np.maximum.reduceat(xy, starts[:-1], axis=0)
    return np.concatenate([low, high], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelSet:
    """Pixels of n areas (farms, or holes to fill) on one grid, as windows and positions in them."""

    windows: npt.NDArray[np.int32]
    """(n, 4) row, col, height, width in base pixels; may reach outside the grid."""
    ptr: npt.NDArray[np.int64]
    """(n + 1,) where each area's pixels start."""
    rows: npt.NDArray[np.uint16]
    cols: npt.NDArray[np.uint16]
    """Relative to the window, row-major per area."""

    def counts(self) -> npt.NDArray[np.int64]:
        """Return the number of pixels per area."""
        return np.diff(self.ptr)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarmCells(PixelSet):
    """The pixels of all farms that touch one grid, with their exact coverage; made once, reused for every date."""

    grid: PixelGrid
    """Of the finest band."""
    ratios: tuple[int, ...]
    """Band pixel edges in base pixels that purity is known for, ascending, starting with 1."""
    farm_index: npt.NDArray[np.int64]
    """(n,) position in the run's list of farms, ascending."""
    position: npt.NDArray[np.int64]
    """(farms of the run,) where a farm stands in this set, -1 where it is not in it."""
    coverage: npt.NDArray[np.uint8]
    purity: npt.NDArray[np.uint8]
    """Bit j: the pixel of `ratios[j]` lies wholly inside the farm."""
    inside_fraction: npt.NDArray[np.float64]
    """(n,) share of the farm's area on the grid."""
    centre_distance_m: npt.NDArray[np.float64]
    """(n,) from the farm's window to the grid's centre."""
    clip_grids: tuple[PixelGrid, ...]
    """(n,) the grid of each farm's raster."""


def pixel_coordinates(
    geometries: FarmGeometries, grid: PixelGrid, xy: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (n, 2) vertices as (col, row) of the grid; `xy` is (n, 2) in its CRS; vertices off the map become NaN."""
    columns = (xy[:, 0] - grid.west_m) / grid.pixel_m
    rows = (grid.north_m - xy[:, 1]) / grid.pixel_m
    out = np.stack([columns, rows], axis=1)
    out[~np.isfinite(out).all(axis=1)] = np.nan
    far = _far_farms(geometries, grid)
    if far.any():
        out[np.repeat(far, np.diff(geometries.farm_vertices))] = np.nan
    return out


def project(geometries: FarmGeometries, crs: str) -> npt.NDArray[np.float64]:
    """Return (n, 2) vertices in a CRS; each vertex on its own, so a ring across the antimeridian stays whole."""
    transformer = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = transformer.transform(geometries.lonlat[:, 0], geometries.lonlat[:, 1])
    return np.stack([x, y], axis=1)


def grid_centre_deg(grid: PixelGrid) -> tuple[float, float]:
    """Return longitude and latitude of the grid's centre."""
    left, bottom, right, top = grid.bounds
    transformer = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    longitude, latitude = transformer.transform((left + right) / 2, (bottom + top) / 2)
    return float(longitude), float(latitude)


def _far_farms(geometries: FarmGeometries, grid: PixelGrid) -> npt.NDArray[np.bool_]:
    longitude, latitude = grid_centre_deg(grid)
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        return np.zeros(len(geometries), np.bool_)
    box = geometries.bounds
    # the longitude difference is taken on the circle
    turn = np.abs(((box[:, 0] + box[:, 2]) / 2 - longitude + 180) % 360 - 180)
    polar = np.abs((box[:, 1] + box[:, 3]) / 2) > 85
    far: npt.NDArray[np.bool_] = ((turn > _FAR_DEG) & ~polar) | (np.abs(box[:, 1] - latitude) > _FAR_DEG)
    return far


def cut_cells(
    geometries: FarmGeometries, grid: PixelGrid, ratios: Sequence[int], xy: npt.NDArray[np.float64]
) -> FarmCells:
    """Return the pixels of every farm that touches the grid.

    Args:
        geometries: all farms of the run.
        grid: the finest band's.
        ratios: pixel edges of the bands in base pixels.
        xy: vertices in the grid's CRS, from `project`.

    Raises:
        BadRequestError: a farm spans more than 65,535 pixels.

    """
    wanted = tuple(sorted({1, *ratios}))
    snap = math.lcm(*wanted)
    pixels = pixel_coordinates(geometries, grid, xy)
    box = _bounds(pixels, geometries.farm_vertices)
    with np.errstate(invalid="ignore"):
        touching = (box[:, 0] < grid.width_px) & (box[:, 1] < grid.height_px) & (box[:, 2] > 0) & (box[:, 3] > 0)
    farm_index = np.nonzero(touching)[0].astype(np.int64)
    box = box[farm_index]
    low = np.floor((box[:, :2] + _SNAP_TOLERANCE_PX) / snap).astype(np.int64) * snap
    high = np.maximum(np.ceil((box[:, 2:] - _SNAP_TOLERANCE_PX) / snap).astype(np.int64) * snap, low + snap)
    spans = np.stack([low[:, 1], low[:, 0], high[:, 1] - low[:, 1], high[:, 0] - low[:, 0]], axis=1)
    widest = int(spans[:, 2:].max(initial=0))
    if widest > _MAX_WINDOW_PX:
        raise BadRequestError(
            f"a farm spans {widest} pixels of {grid.pixel_m} m; at most {_MAX_WINDOW_PX} are possible.",
            hint="Split the farm.",
        )
    windows = spans.astype(np.int32)
    ptr, rows, cols, coverage, pure = _cut(geometries, pixels, farm_index, windows, wanted)
    position = np.full(len(geometries), -1, np.int64)
    position[farm_index] = np.arange(len(farm_index))
    middle = windows[:, :2] + windows[:, 2:] / 2 - np.array([grid.height_px, grid.width_px]) / 2
    return FarmCells(
        windows=windows,
        ptr=ptr,
        rows=rows,
        cols=cols,
        grid=grid,
        ratios=wanted,
        farm_index=farm_index,
        position=position,
        coverage=coverage,
        purity=pure,
        inside_fraction=_inside_fraction(grid, windows, ptr, (rows, cols, coverage)),
        centre_distance_m=np.hypot(middle[:, 0], middle[:, 1]) * grid.pixel_m,
        clip_grids=tuple(_clip_grid(grid, window) for window in windows.tolist()),
    )


type _Arrays = tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.uint16],
    npt.NDArray[np.uint16],
    npt.NDArray[np.uint8],
    npt.NDArray[np.uint8],
]
_FARMS_AT_ONCE = 256
"""Bounds the scratch of cutting, which is as large as the windows."""


def _cut(
    geometries: FarmGeometries,
    pixels: npt.NDArray[np.float64],
    farm_index: npt.NDArray[np.int64],
    windows: npt.NDArray[np.int32],
    ratios: tuple[int, ...],
) -> _Arrays:
    edges = np.array(ratios, np.int64)
    pieces = [
        cut_farms(
            pixels,
            geometries.rings,
            geometries.holes,
            geometries.farm_rings[farm_index[start : start + _FARMS_AT_ONCE]],
            windows[start : start + _FARMS_AT_ONCE],
            edges,
        )
        for start in range(0, max(1, len(farm_index)), _FARMS_AT_ONCE)
    ]
    counts = np.concatenate([np.diff(piece[0]) for piece in pieces])
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows, cols, coverage, pure = (np.concatenate([piece[k] for piece in pieces]) for k in range(1, 5))
    return ptr, rows, cols, coverage, pure


def _inside_fraction(
    grid: PixelGrid,
    windows: npt.NDArray[np.int32],
    ptr: npt.NDArray[np.int64],
    pixels: tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.uint8]],
) -> npt.NDArray[np.float64]:
    """Return (n,) the share of each farm's area on the grid; only farms whose window leaves it need a sum."""
    share = np.ones(len(windows))
    row, col, height, width = windows.T
    leaving = (row < 0) | (col < 0) | (row + height > grid.height_px) | (col + width > grid.width_px)
    for k in np.nonzero(leaving)[0].tolist():
        span = slice(int(ptr[k]), int(ptr[k + 1]))
        r, c = (pixels[axis][span].astype(np.int64) + windows[k, axis] for axis in (0, 1))
        weight = pixels[2][span].astype(np.float64)
        on_grid = (r >= 0) & (c >= 0) & (r < grid.height_px) & (c < grid.width_px)
        share[k] = weight[on_grid].sum() / weight.sum() if weight.size else 0.0
    return share


def _clip_grid(grid: PixelGrid, window: list[int]) -> PixelGrid:
    row, col, height, width = window
    return PixelGrid(
        crs=grid.crs,
        width_px=width,
        height_px=height,
        pixel_m=grid.pixel_m,
        west_m=grid.west_m + col * grid.pixel_m,
        north_m=grid.north_m - row * grid.pixel_m,
    )
