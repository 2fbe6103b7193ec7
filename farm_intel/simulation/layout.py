"""Where things lie: two tiles either side of a UTM zone boundary, fields in a loose grid, roads, a river and a lake.

Everything is laid out in the world's plane, the eastern tile's UTM zone continued over the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import shapely
from pyproj import Transformer
from shapely.affinity import rotate, scale, translate
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation.phenology import CROPS, Crop
from farm_intel.simulation.sky import Extent

OVERLAP_M = 1_400.0
"""Width both tiles see; real Sentinel-2 tiles share about 10 km."""
_CELL_M = 760.0
"""A field of 20 ha fits into a cell in any rotation."""
_OUTSIDE_NORTH_M = 25_000.0
_STRIP_HALF_M = 850.0
_RESERVED_CELLS = 4
"""The lake, the farm with a hole, the tiny one and the overlapping pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSite:
    """A place on a UTM zone boundary, south of the equator."""

    name: str
    boundary_longitude_deg: float
    latitude_deg: float
    epsg_west: int
    epsg_east: int
    tile_west: str
    """MGRS 100 km square just west of the boundary, zone without a leading zero as Earth Search writes it."""
    tile_east: str


SITES: dict[str, WorldSite] = {
    site.name: site
    for site in (
        WorldSite(
            name="kenya",
            boundary_longitude_deg=36.0,
            latitude_deg=-1.1,
            epsg_west=32736,
            epsg_east=32737,
            tile_west="36MZD",
            tile_east="37MAU",
        ),
        WorldSite(
            name="antimeridian",
            boundary_longitude_deg=180.0,
            latitude_deg=-16.8,
            epsg_west=32760,
            epsg_east=32701,
            tile_west="60KZG",
            tile_east="1KAB",
        ),
    )
}
"""Narok in Kenya (zones 36/37), and Taveuni in Fiji (zones 60/1) for everything that breaks at longitude 180."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldTile:
    """One tile of the world."""

    name: str
    epsg: int
    grid: PixelGrid
    """The 10 m grid; the 20 m and 60 m grids share its upper-left corner."""
    longitude_deg: float
    """Of the site, decides the time of overpass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field: a shape with one crop, even or with a linear gradient of green cover."""

    shape: BaseGeometry
    """Polygon or MultiPolygon in the world's plane, metres."""
    crop: Crop
    planted: date
    unevenness: float = 0.0
    """Relative change of green cover at the field's edge, 0..0.2."""
    direction_rad: float = 0.0
    """Where the gradient points, counter-clockwise from east."""

    def gradient(self) -> tuple[float, float, float]:
        """Return (gx, gy, g0) so that s = gx * x + gy * y + g0 runs within -1..1 and is 0 at the centroid."""
        if self.unevenness == 0.0:
            return 0.0, 0.0, 0.0
        center = self.shape.centroid
        axis = np.array([np.cos(self.direction_rad), np.sin(self.direction_rad)])
        along = (shapely.get_coordinates(self.shape) - (center.x, center.y)) @ axis
        gx, gy = axis / np.abs(along).max()
        return float(gx), float(gy), float(-gx * center.x - gy * center.y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One farm before it becomes public: id, its own boundary and the field it stands on."""

    farm_id: str
    name: str
    boundary: BaseGeometry
    """In the world's plane; differs from the field where farms overlap."""
    field: int
    """Position in Layout.fields."""
    size_class_ha: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Everything that does not move."""

    roads: tuple[BaseGeometry, ...]
    waters: tuple[BaseGeometry, ...]
    fields: tuple[Field, ...]
    plots: tuple[Plot, ...]


@lru_cache(maxsize=64)
def transformer(source_epsg: int, target_epsg: int) -> Transformer:
    """Return a cached longitude-first transformer."""
    return Transformer.from_crs(source_epsg, target_epsg, always_xy=True)


def build_tiles(site: WorldSite, tile_px: int) -> tuple[WorldTile, WorldTile]:
    """Return the western and the eastern tile; origins on whole 60 m, so that every band's pixels nest."""
    reach = tile_px * 10.0 - OVERLAP_M / 2
    tiles = []
    for name, epsg, west_of_boundary in (
        (site.tile_west, site.epsg_west, reach),
        (site.tile_east, site.epsg_east, OVERLAP_M / 2),
    ):
        x, y = transformer(4326, epsg).transform(site.boundary_longitude_deg, site.latitude_deg)
        grid = PixelGrid(
            crs=f"EPSG:{epsg}",
            width_px=tile_px,
            height_px=tile_px,
            pixel_m=10.0,
            west_m=round((x - west_of_boundary) / 60.0) * 60.0,
            north_m=round((y + tile_px * 5.0) / 60.0) * 60.0,
        )
        tiles.append(WorldTile(name=name, epsg=epsg, grid=grid, longitude_deg=site.boundary_longitude_deg))
    return tiles[0], tiles[1]


def build_extent(site: WorldSite, tile_px: int) -> Extent:
    """Return the box both tiles cover together, in the world's plane."""
    x, y = transformer(4326, site.epsg_east).transform(site.boundary_longitude_deg, site.latitude_deg)
    reach, half = tile_px * 10.0 - OVERLAP_M / 2, tile_px * 5.0
    return Extent(west_m=x - reach, south_m=y - half, east_m=x + reach, north_m=y + half)


class LayoutBuilder:
    """Draws the world once; same arguments, same world."""

    def __init__(self, *, seed: int, extent: Extent, start: date) -> None:
        self._rng = np.random.default_rng([seed, 11])
        self._extent = extent
        self._start = start
        self._x, self._y = extent.center
        self._fields: list[Field] = []
        self._plots: list[Plot] = []
        self._cells = self._free_cells()

    def build(self, sizes_ha: tuple[float, ...], farms: int, estate_m: float = 0.0) -> Layout:
        """Return the layout: `farms` ordinary farms in turn of the size classes, then the six special ones.

        Args:
            sizes_ha: the size classes.
            farms: how many ordinary ones.
            estate_m: edge of one more, square, even field, S-ESTATE; 0 for none.

        """
        estate = self._estate(estate_m) if estate_m else None
        if estate is not None:
            self._cells = [(x, y) for x, y in self._cells if estate.distance(Point(x, y)) > _CELL_M / 2**0.5]
        room = len(self._cells) - _RESERVED_CELLS
        if farms > room:
            raise BadRequestError(
                f"{farms} farms do not fit into a world with room for {room}",
                hint="Ask for fewer farms or larger tiles (tile_px).",
            )
        width = self._extent.east_m - self._extent.west_m
        roads = tuple(
            box(self._extent.west_m, y - 4.0, self._extent.east_m, y + 4.0) for y in self._boundaries(1)[1:-1:2]
        )
        lake = Point(self._cells.pop()).buffer(330.0, quad_segs=16)
        river_x = self._boundaries(0)[-2]
        bends = np.linspace(self._extent.south_m, self._extent.north_m, 40)
        river = LineString(np.column_stack([river_x + 8.0 * np.sin(bends / 300.0), bends])).buffer(12.0)
        for number in range(farms):
            self._ordinary(number, sizes_ha[number % len(sizes_ha)])
        self._special(width)
        if estate is not None:
            self._plant("S-ESTATE", estate, estate.area / 10_000.0)
        return Layout(roads=roads, waters=(lake, river), fields=tuple(self._fields), plots=tuple(self._plots))

    def _estate(self, edge_m: float) -> Polygon:
        """Return the large square, in the eastern tile between the strip's end and the edge of the world."""
        west, east = self._x + _STRIP_HALF_M + 50.0, self._extent.east_m
        x, half = (west + east) / 2, edge_m / 2
        if edge_m > min(east - west, self._extent.north_m - self._extent.south_m) - 200.0:
            raise BadRequestError(f"an estate of {edge_m:g} m does not fit", hint="Ask for larger tiles (tile_px).")
        return box(x - half, self._y - half, x + half, self._y + half)

    def _boundaries(self, axis: int) -> list[float]:
        low, high = (
            (self._extent.west_m, self._extent.east_m) if axis == 0 else (self._extent.south_m, self._extent.north_m)
        )
        count = int((high - low - 60.0) // _CELL_M)
        first = (low + high - count * _CELL_M) / 2
        return [first + i * _CELL_M for i in range(count + 1)]

    def _free_cells(self) -> list[tuple[float, float]]:
        """Return cell centres in random order, without the middle row around the zone boundary (the strip's place)."""
        columns, rows = self._boundaries(0), self._boundaries(1)
        self._strip_y = rows[(len(rows) - 1) // 2] + _CELL_M / 2
        cells = [
            (x + _CELL_M / 2, y + _CELL_M / 2)
            for x in columns[:-1]
            for y in rows[:-1]
            if not (abs(y + _CELL_M / 2 - self._strip_y) < 1.0 and abs(x + _CELL_M / 2 - self._x) < 1_350.0)
        ]
        return [cells[i] for i in self._rng.permutation(len(cells))]

    def _shape(self, area_ha: float, *, irregular: bool) -> BaseGeometry:
        """Return a field around (0, 0): a rotated rectangle, or a convex outline of five to seven corners."""
        if irregular:
            corners = int(self._rng.integers(5, 8))
            angles = (np.arange(corners) + self._rng.uniform(-0.2, 0.2, corners)) * 2 * np.pi / corners
            radii = self._rng.uniform(0.9, 1.1, corners)
            shape = Polygon(np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])).convex_hull
        else:
            aspect = self._rng.uniform(1.0, 1.6)
            shape = box(0.0, 0.0, aspect, 1.0)
        factor = float(np.sqrt(area_ha * 10_000.0 / shape.area))
        shape = rotate(scale(shape, factor, factor), self._rng.uniform(0.0, 180.0))
        return translate(shape, -shape.centroid.x, -shape.centroid.y)

    def _season(self) -> tuple[Crop, date]:
        crop = CROPS[int(self._rng.integers(len(CROPS)))]
        return crop, self._start - timedelta(days=int(self._rng.integers(-5, 60)))

    def _plant(self, farm_id: str, shape: BaseGeometry, size_class_ha: float, unevenness: float = 0.0) -> None:
        crop, planted = self._season()
        self._fields.append(
            Field(
                shape=shape,
                crop=crop,
                planted=planted,
                unevenness=unevenness,
                direction_rad=float(self._rng.uniform(0.0, 2 * np.pi)),
            )
        )
        self._own(farm_id, shape, size_class_ha)

    def _own(self, farm_id: str, boundary: BaseGeometry, size_class_ha: float) -> None:
        field = len(self._fields) - 1
        self._plots.append(
            Plot(
                farm_id=farm_id,
                name=f"{farm_id} {self._fields[field].crop.name}",
                boundary=boundary,
                field=field,
                size_class_ha=size_class_ha,
            )
        )

    def _ordinary(self, number: int, area_ha: float) -> None:
        x, y = self._cells.pop()
        shape = translate(self._shape(area_ha, irregular=number % 2 == 1), x, y)
        self._plant(f"F{number + 1:03d}", shape, area_ha, 0.2 if area_ha >= 1.0 and number % 3 == 0 else 0.0)

    def _special(self, width: float) -> None:
        x, y = self._cells.pop()
        ring = Polygon(box(-190, -110, -10, 110).exterior, [box(-130, -50, -70, 50).exterior])
        self._plant("S-HOLE", translate(MultiPolygon([ring, box(40, -60, 160, 60)]), x, y), 5.0)
        x, y = self._cells.pop()
        self._plant("S-TINY", translate(box(-3.5, -3.5, 3.5, 3.5), x, y), 0.005)
        x, y = self._cells.pop()
        left, right = translate(box(-120, -71, 22, 71), x, y), translate(box(-22, -71, 120, 71), x, y)
        self._plant("S-OVERLAP-A", left.union(right), 2.0)
        self._plots.pop()
        self._own("S-OVERLAP-A", left, 2.0)
        self._own("S-OVERLAP-B", right, 2.0)
        half = min(_STRIP_HALF_M, width / 2 - 100.0)
        strip = rotate(box(-half, -59.0, half, 59.0), 3.0)
        self._plant("S-STRIP", translate(strip, self._x, self._strip_y), 20.0)
        north = self._extent.north_m + _OUTSIDE_NORTH_M
        self._plant("S-OUTSIDE", translate(self._shape(1.0, irregular=False), self._x + 500.0, north), 1.0)
