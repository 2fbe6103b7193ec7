"""What Earth Engine's expressions are about: grids, images with pixels on demand, regions, features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Pixels = tuple[FloatArray, BoolArray]
"""Values and where they count."""

SINUSOIDAL = "SR-ORG:6974"
LONLAT = "EPSG:4326"
_SINUSOIDAL_PROJ = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
_SUPERSAMPLING = 16
_KEPT_GRIDS = 2


class EmulatorRefusalError(Exception):
    """What the emulated service answers instead of a result."""

    def __init__(self, message: str, *, code: int = 400, status: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@lru_cache(maxsize=64)
def transformer(source: str, target: str) -> Transformer:
    """Return the transformer between two projections by Earth Engine's names."""
    a, b = (CRS.from_user_input(_SINUSOIDAL_PROJ if name == SINUSOIDAL else name) for name in (source, target))
    return Transformer.from_crs(a, b, always_xy=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A CRS and where its pixels lie."""

    crs: str
    pixel_m: float
    west_m: float
    north_m: float

    def grid(self, bounds: tuple[float, float, float, float]) -> Grid:
        """Return the pixels that touch a box in the CRS."""
        west, south, east, north = bounds
        left = int(np.floor((west - self.west_m) / self.pixel_m + 1e-9))
        right = int(np.ceil((east - self.west_m) / self.pixel_m - 1e-9))
        top = int(np.floor((self.north_m - north) / self.pixel_m + 1e-9))
        bottom = int(np.ceil((self.north_m - south) / self.pixel_m - 1e-9))
        return Grid(
            crs=self.crs,
            pixel_m=self.pixel_m,
            west_m=self.west_m + left * self.pixel_m,
            north_m=self.north_m - top * self.pixel_m,
            width=max(1, right - left),
            height=max(1, bottom - top),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Pixels to be computed."""

    crs: str
    pixel_m: float
    west_m: float
    north_m: float
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """Return x and y of the pixels' centres."""
        x = self.west_m + (np.arange(self.width) + 0.5) * self.pixel_m
        y = self.north_m - (np.arange(self.height) + 0.5) * self.pixel_m
        mesh = np.meshgrid(x, y)
        return mesh[0], mesh[1]

    def window(self, inner: Grid) -> tuple[slice, slice]:
        """Return where an aligned grid lies in this one."""
        row = round((self.north_m - inner.north_m) / self.pixel_m)
        col = round((inner.west_m - self.west_m) / self.pixel_m)
        return slice(row, row + inner.height), slice(col, col + inner.width)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raster:
    """Stored pixels of one band."""

    projection: Projection
    width: int
    height: int
    dtype: str
    load: Callable[[], npt.NDArray[Any]]
    """Gives the pixels that are stored, from `first` on; beyond them everything is masked."""
    fill: int | None
    """The value that is masked."""
    first: tuple[int, int] = (0, 0)
    """Row and column of the first stored pixel."""

    def read(self, grid: Grid) -> Pixels:
        """Return the nearest stored pixel of every pixel, as Earth Engine does at native and finer scales."""
        x, y = grid.centres()
        home = self.projection
        if grid.crs != home.crs:
            x, y = transformer(grid.crs, home.crs).transform(x, y)
        stored = self.load()
        with np.errstate(invalid="ignore"):
            cols = np.floor((x - home.west_m) / home.pixel_m + 1e-9) - self.first[1]
            rows = np.floor((home.north_m - y) / home.pixel_m + 1e-9) - self.first[0]
            inside = (cols >= 0) & (rows >= 0) & (cols < stored.shape[1]) & (rows < stored.shape[0])
        values = np.zeros(grid.shape)
        values[inside] = stored[rows[inside].astype(int), cols[inside].astype(int)]
        return values, inside if self.fill is None else inside & (values != self.fill)


class Band:
    """One band of an image: pixels on demand, remembered for the grids asked last."""

    def __init__(self, compute: Callable[[Grid], Pixels], dtype: str = "float64") -> None:
        self.dtype = dtype
        self._compute = compute
        self._known: dict[Grid, Pixels] = {}

    def read(self, grid: Grid) -> Pixels:
        """Return values and mask."""
        if grid not in self._known:
            found = self._compute(grid)
            if len(self._known) >= _KEPT_GRIDS:
                self._known.pop(next(iter(self._known)))
            self._known[grid] = found
        return self._known[grid]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """Named bands with properties."""

    bands: Mapping[str, Band]
    properties: Mapping[str, Any] = field(default_factory=dict)
    projection: Projection | None = None

    def with_bands(self, bands: Mapping[str, Band]) -> Image:
        """Return other bands under the same properties."""
        return replace(self, bands=bands)

    def band(self, selector: str | float) -> str:
        """Return the name of the band a selector means."""
        names = list(self.bands)
        if isinstance(selector, int | float):
            return names[int(selector)]
        if selector in self.bands:
            return selector
        raise EmulatorRefusalError(
            f"Image.select: Band pattern '{selector}' did not match any bands. Available bands: {names}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """A geometry with planar edges in its CRS."""

    shape: BaseGeometry
    crs: str = LONLAT

    def to(self, crs: str) -> BaseGeometry:
        """Return the shape in another CRS; edges are bent at a few points each."""
        if crs == self.crs:
            return self.shape
        west, south, east, north = self.shape.bounds
        dense = shapely.segmentize(self.shape, max(east - west, north - south, 1e-9) / 8)
        to_crs = transformer(self.crs, crs)
        return shapely.transform(dense, lambda xy: np.column_stack(to_crs.transform(xy[:, 0], xy[:, 1])))

    def as_json(self) -> dict[str, Any]:
        """Return GeoJSON in longitude and latitude."""
        found: dict[str, Any] = shapely.geometry.mapping(self.to(LONLAT))
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feature:
    """A region with properties; None as a value means that the property is not there."""

    region: Region | None
    properties: Mapping[str, Any]
    feature_id: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the GeoJSON the service writes: properties without a value are absent."""
        known = {name: value for name, value in self.properties.items() if value is not None}
        geometry = None if self.region is None else self.region.as_json()
        return {"type": "Feature", "geometry": geometry, "id": self.feature_id, "properties": known}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collection:
    """Images or features in order."""

    items: Sequence[Any]


@lru_cache(maxsize=4096)
def coverage(shape: BaseGeometry, grid: Grid) -> FloatArray:
    """Return the share of every pixel inside a shape, from 16 x 16 points in each; not to be written to."""
    step = grid.pixel_m / _SUPERSAMPLING
    fine = Affine(step, 0.0, grid.west_m, 0.0, -step, grid.north_m)
    inside = rasterize(
        [(shape, 1)],
        out_shape=(grid.height * _SUPERSAMPLING, grid.width * _SUPERSAMPLING),
        transform=fine,
        dtype="uint8",
    )
    blocks = inside.reshape(grid.height, _SUPERSAMPLING, grid.width, _SUPERSAMPLING)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float64)


@lru_cache(maxsize=4096)
def centres_inside(shape: BaseGeometry, grid: Grid) -> BoolArray:
    """Return which pixels have their centre inside a shape; not to be written to."""
    x, y = grid.centres()
    return np.asarray(shapely.contains_xy(shape, x, y), np.bool_)
