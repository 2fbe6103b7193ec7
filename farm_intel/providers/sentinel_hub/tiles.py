"""From a catalogue item to the pixel grid of its tile, and to references that name one band of one scene.

The Catalog API tells the zone, but its `proj:bbox` is the box of a re-projected footprint (recorded: 696896.57 to
814572.57 for tile 32TQM, whose pixels begin at 699960), so the grid is built from the tile's name: Sentinel-2 tiles are
MGRS 100 km squares, 109.8 km wide, whose upper-left corner lies on whole 60 m (recorded: 399960/6800040 for 06VVN,
600000/7600020 for 55WFR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pyproj
import shapely

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.mgrs import COLUMN_LETTERS, ROW_LETTERS

SCHEME = "sentinel-hub"

TILE_M = 109_800.0
_CORNER_M = 60.0
_SQUARE_M = 100_000.0
_ROW_CYCLE_M = 2_000_000.0
_NEARLY_WHOLE = 0.9
"""A footprint at least this wide and high gets the whole tile's grid: plans made for one date then serve the others."""
_SLACK_M = 1.0
"""Footprints are rounded to 1e-7 degrees or so; an edge this near a corner of the 60 m grid is on it."""


def tile_epsg(tile: str) -> int | None:
    """Return the UTM code of a tile `37MBV`, None for a name that is none."""
    if len(tile) != 5 or not tile[:2].isdigit() or not 1 <= int(tile[:2]) <= 60:
        return None
    return (32600 if tile[2] >= "N" else 32700) + int(tile[:2])


def tile_corner(tile: str, northing_m: float) -> tuple[float, float] | None:
    """Return the upper-left corner (x, y) of a tile in its zone, metres; None for a name that is none.

    Args:
        tile: `37MBV`.
        northing_m: of any point of the tile; row letters come again every 2,000 km.

    """
    if tile_epsg(tile) is None or tile[4] not in ROW_LETTERS:
        return None
    zone = int(tile[:2])
    columns = COLUMN_LETTERS[(zone - 1) % 3]
    if tile[3] not in columns:
        return None
    easting = (columns.index(tile[3]) + 1) * _SQUARE_M
    row = (ROW_LETTERS.index(tile[4]) - (5 if zone % 2 == 0 else 0)) % 20
    bottom = row * _SQUARE_M
    bottom += round((northing_m - bottom - _SQUARE_M / 2) / _ROW_CYCLE_M) * _ROW_CYCLE_M
    west = math.floor(easting / _CORNER_M) * _CORNER_M
    north = math.ceil((bottom + _SQUARE_M) / _CORNER_M) * _CORNER_M
    return west, north


def scene_grid(tile: str, epsg: int, footprint_wkb: bytes) -> PixelGrid | None:
    """Return the 10 m grid of a scene, aligned to its tile; None where the tile's name does not tell it.

    Whole tiles get the tile's grid of 10,980 pixels, scenes with less data the part of it that their footprint needs.

    Args:
        tile: `37MBV`.
        epsg: of the scene's pixels.
        footprint_wkb: where the scene has data, EPSG:4326.

    """
    transformer = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    lonlat = shapely.get_coordinates(shapely.from_wkb(footprint_wkb))
    x, y = transformer.transform(lonlat[:, 0], lonlat[:, 1])
    corner = tile_corner(tile, float((min(y) + max(y)) / 2))
    if corner is None:
        return None
    west, north = corner
    left, right = _span(min(x) - west, max(x) - west)
    top, bottom = _span(north - max(y), north - min(y))
    if right - left >= _NEARLY_WHOLE * TILE_M:
        left, right = 0.0, TILE_M
    if bottom - top >= _NEARLY_WHOLE * TILE_M:
        top, bottom = 0.0, TILE_M
    if right <= left or bottom <= top:
        return None
    return PixelGrid(
        crs=f"EPSG:{epsg}",
        width_px=round((right - left) / 10.0),
        height_px=round((bottom - top) / 10.0),
        pixel_m=10.0,
        west_m=west + left,
        north_m=north - top,
    )


def _span(low_m: float, high_m: float) -> tuple[float, float]:
    """Snap outwards to 60 m, within the tile."""
    low = math.floor((low_m + _SLACK_M) / _CORNER_M) * _CORNER_M
    high = math.ceil((high_m - _SLACK_M) / _CORNER_M) * _CORNER_M
    return max(0.0, low), min(TILE_M, high)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandReference:
    """One band of one scene as its symbolic href names it: what to ask for, of when, on which grid."""

    collection: str
    band: str
    """The service's own name: `B04`."""
    acquired_at: datetime
    grid: PixelGrid
    """Of the band itself."""

    @property
    def href(self) -> str:
        """`sentinel-hub://sentinel-2-l2a/B04?…`; it needs no signature and never ends."""
        query = {
            "at": self.acquired_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "crs": self.grid.crs,
            "west": f"{self.grid.west_m:.12g}",
            "north": f"{self.grid.north_m:.12g}",
            "pixel": f"{self.grid.pixel_m:.12g}",
            "size": f"{self.grid.width_px}x{self.grid.height_px}",
        }
        return f"{SCHEME}://{quote(self.collection)}/{quote(self.band)}?{urlencode(query)}"

    @property
    def period(self) -> tuple[datetime, datetime]:
        """First and last second that may hold the scene; the service knows whole seconds."""
        start = self.acquired_at.astimezone(UTC).replace(microsecond=0)
        return start - timedelta(seconds=1), start + timedelta(seconds=2)


def parse_reference(href: str, scene_id: str) -> BandReference:
    """Return what a symbolic href names.

    Raises:
        SceneProblemError: the href is none of ours.

    """
    parts = urlsplit(href)
    query = dict(parse_qsl(parts.query))
    if parts.scheme != SCHEME:
        raise _no_reference(href, scene_id)
    try:
        width, _, height = query["size"].partition("x")
        return BandReference(
            collection=unquote(parts.netloc),
            band=unquote(parts.path.lstrip("/")),
            acquired_at=datetime.fromisoformat(query["at"]),
            grid=PixelGrid(
                crs=query["crs"],
                width_px=int(width),
                height_px=int(height),
                pixel_m=float(query["pixel"]),
                west_m=float(query["west"]),
                north_m=float(query["north"]),
            ),
        )
    except (KeyError, ValueError) as error:
        raise _no_reference(href, scene_id) from error


def _no_reference(href: str, scene_id: str) -> SceneProblemError:
    return SceneProblemError(
        SceneProblemKind.UNREADABLE_FILE,
        scene_id,
        f"{href!r} is no Sentinel Hub reference",
        hint="Scenes of Sentinel Hub are read with its own reader only.",
    )
