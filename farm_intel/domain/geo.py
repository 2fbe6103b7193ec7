"""Coordinates that cannot be misread: boxes with named sides, grids with their transform."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from farm_intel.domain.errors import BadRequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class BBox:
    """A longitude/latitude box in degrees (EPSG:4326); `west > east` means it crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float

    def __post_init__(self) -> None:
        """Refuse boxes that no part of the earth has."""
        if not (-90 <= self.south <= self.north <= 90 and -180 <= self.west <= 180 and -180 <= self.east <= 180):
            raise BadRequestError(f"no such box: {self}")

    @property
    def crosses_antimeridian(self) -> bool:
        """True where the box spans longitude 180."""
        return self.west > self.east

    def split(self) -> tuple[BBox, ...]:
        """Return one box, or the two halves of a box that crosses the antimeridian."""
        if not self.crosses_antimeridian:
            return (self,)
        return (
            BBox(west=self.west, south=self.south, east=180.0, north=self.north),
            BBox(west=-180.0, south=self.south, east=self.east, north=self.north),
        )

    def intersects(self, other: BBox) -> bool:
        """True where the two boxes share at least a point."""
        return any(
            a.west <= b.east and b.west <= a.east and a.south <= b.north and b.south <= a.north
            for a in self.split()
            for b in other.split()
        )


def union_bbox(boxes: Iterable[BBox]) -> BBox:
    """Return the smallest box over all; boxes crossing the antimeridian keep crossing it.

    Raises:
        BadRequestError: if there are no boxes.

    """
    items = list(boxes)
    if not items:
        raise BadRequestError("no boxes to unite")
    crossing = any(box.crosses_antimeridian for box in items)
    wests = [box.west + 360 if crossing and box.west < 0 else box.west for box in items]
    easts = [box.east + 360 if crossing and box.east < 0 else box.east for box in items]
    west, east = min(wests), max(easts)
    return BBox(
        west=west if west <= 180 else west - 360,
        south=min(box.south for box in items),
        east=east if east <= 180 else east - 360,
        north=max(box.north for box in items),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelGrid:
    """A north-up raster grid: shape, origin, pixel size and CRS."""

    crs: str
    """`EPSG:n` where the code is known, else WKT2."""
    width_px: int
    height_px: int
    pixel_m: float
    """Square pixel edge in CRS units (metres for projected CRSs)."""
    west_m: float
    """x of the upper-left corner of the upper-left pixel."""
    north_m: float
    """y of the same corner."""

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The affine transform as (a, b, c, d, e, f): x = a*col + c, y = e*row + f."""
        return (self.pixel_m, 0.0, self.west_m, 0.0, -self.pixel_m, self.north_m)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in CRS units."""
        return (
            self.west_m,
            self.north_m - self.height_px * self.pixel_m,
            self.west_m + self.width_px * self.pixel_m,
            self.north_m,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelWindow:
    """A window of a grid, in pixels from its upper-left corner; may reach outside the grid."""

    row: int
    col: int
    height_px: int
    width_px: int
