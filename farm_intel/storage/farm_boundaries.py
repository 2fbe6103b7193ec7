"""From a geometry as a file holds it to a boundary we can stand by, or to the reason why not.

Nothing is repaired: `make_valid` and `buffer(0)` are not used anywhere (a 400-vertex polygon hangs the former for
20 s), and every change that is not a repair (dropped heights, shifted longitudes) is noted.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.errors import FarmRejectedError
from farm_intel.domain.geo import BBox
from farm_intel.domain.mgrs import mgrs_square
from farm_intel.storage.farm_drafts import Boundary, FarmLimits

HASH_DECIMALS = 7
"""1e-7 degrees is 1 cm: what GDAL writes to GeoJSON, so a boundary that went through a file and back is the same."""
AREA_OF_USE_MARGIN_DEG = 3.0
"""How far outside its CRS's area of use a farm may lie: half a UTM zone, as neighbours often share one zone."""
KM_PER_DEGREE = 111.32

_GEOD = pyproj.Geod(ellps="WGS84")
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Placed:
    """The same boundary twice: cut at the antimeridian (to store), and in one piece (to measure)."""

    cut: BaseGeometry
    whole: list[shapely.Polygon]
    """Longitudes continuous, so they may pass 180."""
    notes: tuple[str, ...]


class BoundaryChecker:
    """Turns geometries of one CRS into boundaries."""

    def __init__(self, crs: pyproj.CRS, limits: FarmLimits) -> None:
        self._crs = crs
        self._limits = limits
        same = crs.is_geographic and crs.equals(pyproj.CRS.from_epsg(4326), ignore_axis_order=True)
        self._to_lonlat = None if same else pyproj.Transformer.from_crs(crs, 4326, always_xy=True)

    def check(self, geometry: BaseGeometry | None) -> Boundary:
        """Return the boundary of a geometry.

        Args:
            geometry: x before y, in the checker's CRS; heights are dropped with a note.

        Raises:
            FarmRejectedError: it cannot be a boundary; the message says why.

        """
        polygons = self._polygons(geometry)
        notes = ["heights (Z) dropped"] if any(polygon.has_z for polygon in polygons) else []
        polygons = [shapely.force_2d(polygon) for polygon in polygons]
        placed = self._place([self._lonlat(polygon) for polygon in polygons])
        notes.extend(placed.notes)
        area_ha = _area_ha(placed.cut)
        box = self._measure(area_ha, placed.whole)
        largest = max(placed.whole, key=lambda polygon: float(polygon.area))
        point = shapely.point_on_surface(largest)
        longitude, latitude = _wrap(float(point.x)), float(point.y)
        return Boundary(
            wkb=shapely.to_wkb(placed.cut, byte_order=1, output_dimension=2),
            sha=boundary_hash(placed.cut),
            bbox=box,
            longitude_deg=longitude,
            latitude_deg=latitude,
            area_ha=area_ha,
            home_tile=mgrs_square(longitude, latitude),
            notes=tuple(notes),
        )

    def _polygons(self, geometry: BaseGeometry | None) -> list[shapely.Polygon]:
        """Return the parts, after the checks that cost next to nothing."""
        if geometry is None or geometry.is_empty:
            raise FarmRejectedError("the geometry is empty")
        if not isinstance(geometry, shapely.Polygon | shapely.MultiPolygon):
            raise FarmRejectedError(f"the geometry is a {geometry.geom_type}; a farm is a Polygon or MultiPolygon")
        vertices = int(shapely.get_num_coordinates(geometry))
        if vertices > self._limits.max_vertices:
            raise FarmRejectedError(f"{vertices:,} vertices; at most {self._limits.max_vertices:,} are allowed")
        if not np.isfinite(shapely.get_coordinates(geometry)).all():
            raise FarmRejectedError("a coordinate is not a finite number")
        parts = [geometry] if isinstance(geometry, shapely.Polygon) else list(geometry.geoms)
        if any(part.is_empty for part in parts):
            raise FarmRejectedError("one part of the geometry is empty")
        return parts

    def _lonlat(self, polygon: shapely.Polygon) -> shapely.Polygon:
        """Return the polygon in longitude/latitude, or say why its coordinates cannot be right."""
        if self._to_lonlat is None:
            moved = polygon
        else:
            if self._crs.is_projected:
                _require_valid(polygon)
            forward = self._to_lonlat

            def project(xy: FloatArray) -> FloatArray:
                return np.column_stack(forward.transform(xy[:, 0], xy[:, 1], errcheck=False))

            moved = shapely.transform(polygon, project)
        self._require_on_earth(shapely.get_coordinates(moved), shapely.get_coordinates(polygon))
        return moved

    def _require_on_earth(self, lonlat: FloatArray, given: FloatArray) -> None:
        if not np.isfinite(lonlat).all():
            raise FarmRejectedError(f"coordinates are outside what {self._crs.name} can express{_degrees_hint(given)}")
        lon, lat = lonlat[:, 0], lonlat[:, 1]
        if (np.abs(lat) > 90.0).any():
            worst = float(lat[np.argmax(np.abs(lat))])
            swapped = (np.abs(lon) <= 90.0).all() and (np.abs(lat) <= 180.0).all()
            hint = "; longitude and latitude look swapped" if swapped else _metres_hint(given)
            raise FarmRejectedError(f"latitude {worst:g} is outside -90 to 90{hint}")
        if (np.abs(lon) > 360.0).any():
            worst = float(lon[np.argmax(np.abs(lon))])
            raise FarmRejectedError(f"longitude {worst:g} is outside -180 to 180{_metres_hint(given)}")
        use = self._crs.area_of_use
        if self._crs.is_projected and use is not None:
            margin = AREA_OF_USE_MARGIN_DEG
            span = (use.east - use.west) % 360.0
            east_of_west = (lon - (use.west - margin)) % 360.0
            inside = (lat >= use.south - margin) & (lat <= use.north + margin)
            inside &= (east_of_west <= span + 2 * margin) | (use.east - use.west >= 360.0 - 2 * margin)
            if not inside.all():
                raise FarmRejectedError(
                    f"coordinates are outside the area of {self._crs.name} ({use.name}){_degrees_hint(given)}"
                )

    def _place(self, polygons: list[shapely.Polygon]) -> _Placed:
        """Make longitudes continuous, then cut at 180 where the boundary passes it."""
        unwrapped = [_unwrap(polygon) for polygon in polygons]
        for polygon in unwrapped:
            _require_valid(polygon)
        middle = _middle(max(unwrapped, key=lambda polygon: float(polygon.area)))
        whole = [_shift(polygon, -360.0 * round((_middle(polygon) - middle) / 360.0)) for polygon in unwrapped]
        shift = -360.0 * math.floor((middle + 180.0) / 360.0)
        whole = [_shift(polygon, shift) for polygon in whole]
        pieces = [piece for polygon in whole for piece in _cut(polygon)]
        cut: BaseGeometry = pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)
        _require_valid(cut)
        notes = []
        if any((np.abs(shapely.get_coordinates(polygon)[:, 0]) > 180.0).any() for polygon in polygons):
            notes.append("longitudes beyond 180 moved to -180 to 180")
        if len(pieces) > len(polygons):
            notes.append("cut at the antimeridian")
        return _Placed(shapely.orient_polygons(cut, exterior_cw=False), whole, tuple(notes))

    def _measure(self, area_ha: float, whole: list[shapely.Polygon]) -> BBox:
        """Check the size and return the box around all parts."""
        limits = self._limits
        if area_ha > limits.max_area_ha:
            raise FarmRejectedError(f"{area_ha:,.1f} ha; at most {limits.max_area_ha:,.0f} ha are allowed")
        if area_ha < limits.min_area_ha:
            least_m2 = limits.min_area_ha * 10_000
            raise FarmRejectedError(f"{area_ha * 10_000:.3g} m2; at least {least_m2:g} m2 are needed")
        west, south, east, north = shapely.total_bounds(whole)
        width_km = (east - west) * KM_PER_DEGREE * math.cos(math.radians((south + north) / 2))
        extent_km = max(width_km, (north - south) * KM_PER_DEGREE)
        if extent_km > limits.max_extent_km:
            raise FarmRejectedError(
                f"its parts lie {extent_km:,.0f} km apart; at most {limits.max_extent_km:,.0f} km are allowed"
            )
        return BBox(west=_wrap(west), south=float(south), east=_wrap(east), north=float(north))


def boundary_hash(geometry: BaseGeometry) -> str:
    """Return the first 16 hex digits of SHA-256 over the normalised geometry.

    Ring order, start points, direction and differences below 1 cm do not change it.
    """
    rounded = shapely.transform(geometry, lambda xy: np.round(xy, HASH_DECIMALS) + 0.0)
    return hashlib.sha256(shapely.to_wkb(shapely.normalize(rounded), byte_order=1)).hexdigest()[:16]


def _require_valid(geometry: BaseGeometry) -> None:
    if not shapely.is_valid(geometry):
        raise FarmRejectedError(f"the geometry is invalid: {shapely.is_valid_reason(geometry)}")


def _area_ha(geometry: BaseGeometry) -> float:
    return abs(float(_GEOD.geometry_area_perimeter(geometry)[0])) / 10_000.0


def _wrap(longitude_deg: float) -> float:
    """Return a longitude of a continuous form as -180 to 180; both ends stay themselves."""
    if longitude_deg > 180.0:
        return float(longitude_deg) - 360.0
    return float(longitude_deg) + 360.0 if longitude_deg < -180.0 else float(longitude_deg)


def _middle(polygon: BaseGeometry) -> float:
    west, _, east, _ = polygon.bounds
    return float((west + east) / 2)


def _shift(polygon: shapely.Polygon, by_deg: float) -> shapely.Polygon:
    return polygon if by_deg == 0 else shapely.transform(polygon, lambda xy: xy + np.array([by_deg, 0.0]))


def _unwrap(polygon: shapely.Polygon) -> shapely.Polygon:
    """Return the polygon with no step of more than 180 degrees between neighbouring vertices.

    No farm is half the earth wide, so such a step can only mean that the ring passes the antimeridian.
    """
    rings = [shapely.get_coordinates(ring) for ring in (polygon.exterior, *polygon.interiors)]
    if all((np.abs(np.diff(ring[:, 0])) <= 180.0).all() for ring in rings):
        return polygon
    for ring in rings:
        ring[:, 0] = np.unwrap(ring[:, 0], period=360.0)
        if abs(ring[0, 0] - ring[-1, 0]) > 1.0:
            raise FarmRejectedError("the boundary goes around a pole")
        ring[-1, 0] = ring[0, 0]
        ring[:, 0] -= 360.0 * round((ring[:, 0].mean() - rings[0][:, 0].mean()) / 360.0)
    return shapely.Polygon(rings[0], rings[1:])


def _cut(polygon: shapely.Polygon) -> list[shapely.Polygon]:
    """Return the polygon's pieces on either side of longitude 180, each within -180 to 180."""
    west, _, east, _ = polygon.bounds
    if west >= -180.0 and east <= 180.0:
        return [polygon]
    pieces: list[shapely.Polygon] = []
    for turn in (-360.0, 0.0, 360.0):
        if west >= 180.0 + turn or east <= -180.0 + turn:
            continue
        inside = shapely.intersection(polygon, shapely.box(-180.0 + turn, -91.0, 180.0 + turn, 91.0))
        pieces.extend(_shift(p, -turn) for p in shapely.get_parts(inside) if isinstance(p, shapely.Polygon))
    return pieces


def _degrees_hint(given: FloatArray) -> str:
    looks_geographic = (np.abs(given[:, 0]) <= 180.0).all() and (np.abs(given[:, 1]) <= 90.0).all()
    return "; the values look like degrees, not metres" if looks_geographic else ""


def _metres_hint(given: FloatArray) -> str:
    return "; the values look like metres: is the CRS right?" if (np.abs(given) > 1000.0).any() else ""
