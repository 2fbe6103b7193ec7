"""Which pixels of a farm a provider is asked about, as a polygon it cannot misread.

The engine's own coverage decides which pixels lie wholly inside the farm; their union, smaller by a hair, contains
exactly their centres and no part of another pixel, so a rule by pixel centres and a rule by coverage take the same
pixels. Where fewer than the pure minimum lie inside, the pixels whose centre is inside stand in, and are flagged mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import MultiPolygon, Polygon

from farm_intel.domain.batches import FarmShape
from farm_intel.domain.geo import PixelGrid
from farm_intel.engine.grid import FarmCells, cut_cells, load_geometries, project

HAIR_M = 0.01
"""Far below a pixel, far above what coordinates lose as text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarmArea:
    """The pixels of one farm at one ground sample distance."""

    polygon: Polygon | MultiPolygon
    """In the grid's CRS."""
    pixels: int
    """Base pixels in it."""
    area_px: float
    """Area of the farm inside them, in base pixels."""
    mixed: bool
    """True where edge pixels had to be taken."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarmPlace:
    """A farm on its home tile's grid."""

    grid: PixelGrid
    tile: str
    touched: int
    """Base pixels the farm touches."""
    areas: tuple[FarmArea | None, ...]
    """In the order of the ratios asked for; None where no pixel centre is inside the farm."""


def place_farms(
    farms: Sequence[FarmShape], grids: Sequence[tuple[str, PixelGrid]], ratios: Sequence[int], *, min_pure: int
) -> list[FarmPlace | None]:
    """Return every farm on the tile that holds most of it (then: whose centre is nearest, then by name), None outside.

    Args:
        farms: boundaries in EPSG:4326.
        grids: (tile, base grid), one per tile.
        ratios: pixel edges, in base pixels, that areas are wanted for.
        min_pure: pixels of that size wholly inside from which on only they are taken.

    Raises:
        BadRequestError: a boundary is not a polygon.

    """
    geometries = load_geometries(farms)
    cut = [
        (tile, cut_cells(geometries, grid, tuple(ratios), project(geometries, grid.crs)))
        for tile, grid in sorted(grids, key=lambda pair: pair[0])
    ]
    places: list[FarmPlace | None] = []
    for number, farm in enumerate(farms):
        options = [(tile, cells) for tile, cells in cut if cells.position[number] >= 0]
        options = [pair for pair in options if pair[1].inside_fraction[pair[1].position[number]] > 0]
        if not options:
            places.append(None)
            continue
        tile, cells = min(options, key=lambda pair: _preference(pair[1], number))
        places.append(_place(farm, number, tile, cells, ratios, min_pure))
    return places


def _preference(cells: FarmCells, number: int) -> tuple[float, float]:
    area = cells.position[number]
    return -round(float(cells.inside_fraction[area]), 4), float(cells.centre_distance_m[area])


def _place(
    farm: FarmShape, number: int, tile: str, cells: FarmCells, ratios: Sequence[int], min_pure: int
) -> FarmPlace:
    area = int(cells.position[number])
    span = slice(int(cells.ptr[area]), int(cells.ptr[area + 1]))
    row, col = (int(cells.windows[area, axis]) for axis in (0, 1))
    rows, cols = cells.rows[span].astype(np.int64) + row, cells.cols[span].astype(np.int64) + col
    coverage = cells.coverage[span].astype(np.float64) / 255.0
    return FarmPlace(
        grid=cells.grid,
        tile=tile,
        touched=int(span.stop - span.start),
        areas=tuple(
            _area(
                _Pixels(rows=rows, cols=cols, coverage=coverage, grid=cells.grid),
                (cells.purity[span] & (1 << cells.ratios.index(ratio))) != 0,
                farm,
                min_pure * ratio * ratio,
            )
            for ratio in ratios
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pixels:
    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]
    coverage: npt.NDArray[np.float64]
    grid: PixelGrid


def _area(pixels: _Pixels, pure: npt.NDArray[np.bool_], farm: FarmShape, fewest: int) -> FarmArea | None:
    chosen, mixed = pure, False
    if np.count_nonzero(pure) < fewest:
        chosen = _centre_inside(pixels, farm)
        mixed = bool((chosen & ~pure).any())
    if not chosen.any():
        return None
    return FarmArea(
        polygon=outline(pixels.rows[chosen], pixels.cols[chosen], pixels.grid),
        pixels=int(np.count_nonzero(chosen)),
        area_px=float(pixels.coverage[chosen].sum()),
        mixed=mixed,
    )


def _centre_inside(pixels: _Pixels, farm: FarmShape) -> npt.NDArray[np.bool_]:
    """Return which pixels have their centre inside the farm, projected vertex by vertex as the engine does."""
    grid = pixels.grid
    geometries = load_geometries([farm])
    xy = project(geometries, grid.crs)
    shape = shapely.set_coordinates(shapely.force_2d(shapely.from_wkb(farm.boundary_wkb)), xy)
    x = grid.west_m + (pixels.cols + 0.5) * grid.pixel_m
    y = grid.north_m - (pixels.rows + 0.5) * grid.pixel_m
    inside: npt.NDArray[np.bool_] = shapely.contains_xy(shapely.make_valid(shape), x, y)
    return inside


def outline(rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], grid: PixelGrid) -> Polygon | MultiPolygon:
    """Return the union of pixels in the grid's CRS, smaller by `HAIR_M` on every side.

    Args:
        rows: of the pixels, in row-major order with `cols`.
        cols: of the pixels.
        grid: of the pixels.

    """
    breaks = np.nonzero((np.diff(rows) != 0) | (np.diff(cols) != 1))[0] + 1
    first = np.concatenate([[0], breaks])
    last = np.concatenate([breaks, [len(rows)]]) - 1
    pixel = grid.pixel_m
    boxes = shapely.box(
        grid.west_m + cols[first] * pixel,
        grid.north_m - (rows[first] + 1) * pixel,
        grid.west_m + (cols[last] + 1) * pixel,
        grid.north_m - rows[first] * pixel,
    )
    union = shapely.simplify(shapely.union_all(boxes), 0.0)
    shrunk = shapely.buffer(union, -HAIR_M, join_style="mitre")
    return shrunk if isinstance(shrunk, Polygon) else MultiPolygon(shapely.get_parts(shrunk).tolist())
