"""Farm files of every supported format as plain features: attributes as the file has them, geometry not yet judged.

GeoJSON is read here and not by GDAL, which closes open rings, drops broken features and coerces ids without a word.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.errors import BadRequestError, FarmRejectedError
from farm_intel.storage.farm_drafts import FarmFileOptions, FarmLimits

LON_LAT = "OGC:CRS84"
"""What GeoJSON and GeoParquet mean when they name no CRS."""
MIN_RING_POSITIONS = 4


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of a file."""

    properties: Mapping[str, Any]
    geometry: Callable[[], BaseGeometry | None]
    """Raises FarmRejectedError where the file holds something that is not a geometry."""


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """A whole file."""

    features: Sequence[Feature]
    columns: tuple[str, ...]
    crs: pyproj.CRS
    notes: tuple[str, ...] = ()


def read_features(path: Path, options: FarmFileOptions, limits: FarmLimits) -> FeatureSource:
    """Return the features of a file, by its suffix.

    Raises:
        BadRequestError: the file is missing, of no supported format, damaged, empty or without a CRS.

    """
    readers: dict[str, Callable[[], FeatureSource]] = {
        ".geojson": lambda: _read_geojson(path, limits),
        ".json": lambda: _read_geojson(path, limits),
        ".parquet": lambda: _read_geoparquet(path),
        ".geoparquet": lambda: _read_geoparquet(path),
        ".gpkg": lambda: _read_with_gdal(path, options),
        ".zip": lambda: _read_with_gdal(path, options),
        ".shp": lambda: _read_with_gdal(path, options),
        ".fgb": lambda: _read_with_gdal(path, options),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadRequestError(
            f"{path.name}: farm files of this kind are not supported",
            hint=f"Use one of {', '.join(sorted(readers))} (.zip is a zipped shapefile).",
        )
    if not path.is_file():
        raise BadRequestError(f"{path}: there is no such file", hint="Check the path.")
    source = reader()
    if not source.features:
        raise BadRequestError(f"{path.name}: the file holds no features")
    return source


def _parse_crs(text: Any, file_name: str) -> pyproj.CRS:
    try:
        return pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as error:
        raise BadRequestError(f"{file_name}: its CRS is not understood: {error}") from error


# --- GeoJSON -----------------------------------------------------------------------------------------------------


def _read_geojson(path: Path, limits: FarmLimits) -> FeatureSource:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadRequestError(f"{path.name}: not readable as GeoJSON: {error}") from error
    members = _geojson_members(document, path.name)
    features = [_geojson_feature(member, limits) for member in members]
    columns = tuple(dict.fromkeys(name for feature in features for name in feature.properties))
    named = document.get("crs") or {}
    crs_name = named.get("properties", {}).get("name") if isinstance(named, dict) else None
    return FeatureSource(features, columns, _parse_crs(crs_name or LON_LAT, path.name))


def _geojson_members(document: Any, file_name: str) -> list[Any]:
    """Return the features of a FeatureCollection, a lone Feature or a bare geometry."""
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        return list(document["features"])
    if kind == "Feature":
        return [document]
    if isinstance(document, dict) and ("coordinates" in document or "geometries" in document):
        return [{"type": "Feature", "properties": {}, "geometry": document}]
    raise BadRequestError(f"{file_name}: not GeoJSON: it is neither a FeatureCollection, a Feature nor a geometry")


def _geojson_feature(member: Any, limits: FarmLimits) -> Feature:
    if not isinstance(member, dict):
        return Feature({}, lambda: _geojson_geometry("no object", limits))
    properties = dict(member.get("properties") or {})
    if member.get("id") is not None:
        properties["id"] = member["id"]
    return Feature(properties, lambda: _geojson_geometry(member.get("geometry"), limits))


def _geojson_geometry(value: Any, limits: FarmLimits) -> BaseGeometry | None:
    """Return the geometry, built only if it is small enough, exactly as written (no ring is closed for it)."""
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("Polygon", "MultiPolygon"):
        found = kind or type(value).__name__
        raise FarmRejectedError(f"the geometry is a {found}; a farm is a Polygon or MultiPolygon")
    coordinates = value.get("coordinates")
    if not isinstance(coordinates, list):
        raise FarmRejectedError("the geometry has no coordinates")
    if not coordinates:
        return None
    parts = [coordinates] if kind == "Polygon" else coordinates
    vertices = sum(_length(ring) for part in parts for ring in (part if isinstance(part, list) else []))
    if vertices > limits.max_vertices:
        raise FarmRejectedError(f"{vertices:,} vertices; at most {limits.max_vertices:,} are allowed")
    polygons = [_geojson_polygon(part) for part in parts]
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _geojson_polygon(rings: Any) -> shapely.Polygon:
    if not isinstance(rings, list) or not rings:
        raise FarmRejectedError("one part of the geometry is empty")
    arrays = [_geojson_ring(ring) for ring in rings]
    return shapely.Polygon(arrays[0], arrays[1:])


def _geojson_ring(ring: Any) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    try:
        array = np.array([position[:3] for position in ring], dtype=np.float64)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise FarmRejectedError(f"a ring has positions that are not [longitude, latitude]: {error}") from error
    if array.ndim != 2 or array.shape[1] < 2:
        raise FarmRejectedError("a ring has positions that are not [longitude, latitude]")
    if len(array) < MIN_RING_POSITIONS:
        raise FarmRejectedError(f"a ring has {len(array)} positions; the smallest has {MIN_RING_POSITIONS}")
    if not np.isfinite(array[:, :2]).all():
        raise FarmRejectedError("a coordinate is not a finite number")
    if (array[0, :2] != array[-1, :2]).any():
        raise FarmRejectedError("a ring is not closed: its first and last position differ")
    return array


# --- GeoParquet --------------------------------------------------------------------------------------------------


def _read_geoparquet(path: Path) -> FeatureSource:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadRequestError(f"{path.name}: not readable as Parquet: {error}") from error
    metadata = (table.schema.metadata or {}).get(b"geo")
    if metadata is None:
        raise BadRequestError(f"{path.name}: Parquet without geometry", hint="Write it as GeoParquet.")
    try:
        geo = json.loads(metadata)
        column = geo["primary_column"]
        described = geo["columns"][column]
        values = table.column(column).to_pylist()
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequestError(f"{path.name}: its GeoParquet metadata is damaged: {error}") from error
    if described.get("encoding") != "WKB":
        raise BadRequestError(
            f"{path.name}: geometry encoding {described.get('encoding')} is not supported", hint="Write it as WKB."
        )
    if "crs" in described and described["crs"] is None:
        raise BadRequestError(f"{path.name}: the file says its CRS is unknown", hint="Write it with its CRS.")
    attributes = table.drop_columns([column])
    rows = attributes.to_pylist() if attributes.num_columns else [{} for _ in values]
    features = [Feature(row, _wkb_geometry(wkb)) for row, wkb in zip(rows, values, strict=True)]
    return FeatureSource(features, tuple(attributes.column_names), _parse_crs(described.get("crs", LON_LAT), path.name))


def _wkb_geometry(wkb: bytes | None) -> Callable[[], BaseGeometry | None]:
    def read() -> BaseGeometry | None:
        if wkb is None:
            return None
        try:
            return shapely.from_wkb(wkb)
        except (shapely.errors.ShapelyError, TypeError) as error:
            raise FarmRejectedError(f"the geometry cannot be read: {error}") from error

    return read


# --- formats read by GDAL ----------------------------------------------------------------------------------------


def _read_with_gdal(path: Path, options: FarmFileOptions) -> FeatureSource:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            layer = options.layer or _only_layer(path)
            meta, fids, geometry, columns = pyogrio.raw.read(path, layer=layer, return_fids=True)
        except (DataSourceError, DataLayerError, OSError, ValueError) as error:
            raise BadRequestError(f"{path.name}: not readable: {error}") from error
    names = [str(name) for name in meta["fields"]]
    if meta["crs"] is None and not options.crs:
        raise BadRequestError(
            f"{path.name}: the file does not say which CRS its coordinates are in",
            hint="Name it with --crs EPSG:…, or add the .prj file.",
        )
    fid_name = [] if "fid" in (name.lower() for name in names) else ["fid"]
    rows = zip(*columns, fids, strict=True) if fid_name else zip(*columns, strict=True)
    features = [
        Feature(dict(zip(names + fid_name, row, strict=True)), _wkb_geometry(wkb))
        for row, wkb in zip(rows, geometry, strict=True)
    ]
    notes = tuple(dict.fromkeys(f"{warning.message}" for warning in heard))
    return FeatureSource(features, tuple(names), _parse_crs(meta["crs"] or options.crs, path.name), notes)


def _only_layer(path: Path) -> str:
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if len(layers) != 1:
        raise BadRequestError(
            f"{path.name}: {len(layers)} layers with geometry: {', '.join(layers) or 'none'}",
            hint="Name one with --layer." if layers else "",
        )
    return layers[0]
