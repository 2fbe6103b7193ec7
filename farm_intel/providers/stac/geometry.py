"""Item outlines: boxes and footprints that stay right where a tile crosses the antimeridian.

Catalogues draw such tiles in three ways: as a ring that jumps from 180 to -180 (Earth Search, with a box from -179 to
178 that wraps the whole globe), as two polygons cut at 180, or with longitudes above 180. All three end as a box with
`west > east` and a footprint of two polygons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import shape

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.geo import BBox

_WIDEST_FOOTPRINT_DEG = 90.0
"""No single acquisition is wider; a wider outline really spans the globe (composites, mosaics)."""


def parse_outline(item: Mapping[str, Any]) -> tuple[BBox | None, bytes | None]:
    """Return an item's box and its footprint as WKB (EPSG:4326), from `geometry` or else from `bbox`.

    The geometry is preferred because boxes of tiles over the antimeridian are often wrong.
    """
    geometry = item.get("geometry")
    if isinstance(geometry, Mapping):
        try:
            outline = shape(dict(geometry))
        except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError):
            outline = None  # a broken outline is not worth the scene: the box still finds it
        if outline is not None and not outline.is_empty:
            found = _from_geometry(shapely.force_2d(outline))
            if found is not None:
                return found
    return _from_bbox(item.get("bbox")), None


def _from_geometry(outline: shapely.Geometry) -> tuple[BBox, bytes] | None:
    points = shapely.get_coordinates(outline)
    if not np.isfinite(points).all():
        return None
    longitudes = points[:, 0]
    unwrapped = np.where(longitudes < 0, longitudes + 360.0, longitudes)
    wraps = longitudes.max() > 180.0 or (
        np.ptp(longitudes) > 180.0 and 0.0 < np.ptp(unwrapped) <= _WIDEST_FOOTPRINT_DEG
    )
    if not wraps:
        box = _box(longitudes.min(), points[:, 1].min(), longitudes.max(), points[:, 1].max())
        return None if box is None else (box, shapely.to_wkb(outline))
    box = _box(unwrapped.min(), points[:, 1].min(), unwrapped.max(), points[:, 1].max())
    return None if box is None else (box, shapely.to_wkb(_cut_at_antimeridian(outline)))


def _cut_at_antimeridian(outline: shapely.Geometry) -> shapely.Geometry:
    """Return the outline as polygons on both sides of longitude 180."""
    unwrapped = shapely.transform(
        outline, lambda xy: np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360.0, xy[:, 0]), xy[:, 1]])
    )
    unwrapped = shapely.make_valid(unwrapped)
    west = shapely.intersection(unwrapped, shapely.box(0, -90, 180, 90))
    east = shapely.intersection(unwrapped, shapely.box(180, -90, 360, 90))
    east = shapely.transform(east, lambda xy: xy - [360.0, 0.0])
    return shapely.MultiPolygon([part for side in (west, east) for part in _polygons(side)])


def _polygons(geometry: shapely.Geometry) -> Iterator[shapely.Polygon]:
    for part in shapely.get_parts(geometry):
        if isinstance(part, shapely.Polygon) and part.area > 0:
            yield part


def _from_bbox(values: object) -> BBox | None:
    """Return the item's own box (four or six numbers), or None."""
    if not isinstance(values, Sequence) or len(values) not in (4, 6):
        return None
    half = len(values) // 2
    try:
        west, south = float(values[0]), float(values[1])
        east, north = float(values[half]), float(values[half + 1])
    except (TypeError, ValueError):
        return None
    if east - west > 360.0 - _WIDEST_FOOTPRINT_DEG and not (west <= -180.0 and east >= 180.0):
        west, east = east, west  # minimum and maximum of a ring over the antimeridian, taken without looking
    return _box(west, south, east, north)


def _box(west: float, south: float, east: float, north: float) -> BBox | None:
    try:
        return BBox(west=_wrap(float(west)), south=float(south), east=_wrap(float(east)), north=float(north))
    except BadRequestError:
        return None


def _wrap(longitude_deg: float) -> float:
    return longitude_deg - 360.0 if longitude_deg > 180.0 else longitude_deg
