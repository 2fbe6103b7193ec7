"""From a feature of the Catalog API to a scene with symbolic band references."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.geo import BBox, PixelGrid
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import BandFile, Scene, SceneProblem
from farm_intel.providers.collections.sentinel_hub import BAND_GSD_M
from farm_intel.providers.sentinel_hub.tiles import BandReference, scene_grid, tile_epsg

_PRODUCT = re.compile(
    r"(?P<platform>S2[A-D])_MSIL2A_\d{8}T\d{6}_N(?P<baseline>\d{4})_R\d{3}"
    r"_T(?P<tile>\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])_(?P<generated>\d{8}T\d{6})"
)
"""A Sentinel-2 product name, which is the id of its feature (ESA, S2 Products Specification, 3.5)."""
_PLATFORMS = {"S2A": "sentinel-2a", "S2B": "sentinel-2b", "S2C": "sentinel-2c", "S2D": "sentinel-2d"}


def scene_from_feature(
    feature: Mapping[str, Any], profile: CollectionProfile, *, provider: str
) -> Scene | SceneProblem:
    """Return the scene a feature describes, or why it cannot be one.

    Tile, processing baseline and time of processing stand in the product's name; zone, time, cloud and outline in the
    feature itself. A feature without any of what the pixel grid needs is a problem, not a guess.
    """
    scene_id = str(feature.get("id") or "(feature without id)")
    properties: Mapping[str, Any] = feature.get("properties") or {}
    acquired_at = _moment(properties.get("datetime"))
    if acquired_at is None:
        return _problem(scene_id, SceneProblemKind.MISSING_DATETIME, f"its time is {properties.get('datetime')!r}")
    outline = _outline(feature.get("geometry"))
    if outline is None:
        return _problem(scene_id, SceneProblemKind.MISSING_PROJECTION, "the feature has no usable geometry")
    name = _PRODUCT.search(scene_id)
    if name is None:
        detail = "the id is no Sentinel-2 product name, so tile and processing baseline are not known"
        return _problem(scene_id, SceneProblemKind.UNKNOWN_GRID, detail)
    epsg = _epsg(properties, name["tile"])
    wkb = shapely.to_wkb(outline)
    grid = scene_grid(name["tile"], epsg, wkb) if epsg is not None else None
    if epsg is None or grid is None:
        return _problem(scene_id, SceneProblemKind.UNKNOWN_GRID, f"tile {name['tile']} has no grid in EPSG:{epsg}")
    baseline = f"{name['baseline'][:2]}.{name['baseline'][2:]}"
    return Scene(
        scene_id=scene_id,
        provider=provider,
        dialect=profile.dialect,
        collection=profile.collection,
        acquired_at=acquired_at,
        tile=name["tile"],
        platform=str(properties.get("platform") or _PLATFORMS[name["platform"]]).lower(),
        bbox=_bbox(outline),
        footprint_wkb=wkb,
        bands=_bands(profile, acquired_at, grid),
        revision=(name["baseline"], name["generated"]),
        processing_baseline=baseline,
        updated=name["generated"],
        cloud_cover_percent=_number(properties.get("eo:cloud_cover")),
        epsg=epsg,
        properties={key: value for key, value in properties.items() if isinstance(value, str | int | float | bool)},
    )


def _bands(profile: CollectionProfile, acquired_at: datetime, grid: PixelGrid) -> dict[str, BandFile]:
    gsd = BAND_GSD_M[profile.dialect, profile.collection]
    files = {}
    for common_name, band in profile.assets.items():
        reference = BandReference(
            collection=profile.collection, band=band, acquired_at=acquired_at, grid=coarser(grid, gsd[band])
        )
        files[common_name] = BandFile(
            common_name=common_name,
            asset_key=band,
            href=reference.href,
            nodata=float(profile.radiometry.nodata),
        )
    return files


def coarser(grid: PixelGrid, pixel_m: float) -> PixelGrid:
    """Return the grid of a band of another ground sample distance over the same ground; edges are multiples of 60 m."""
    ratio = pixel_m / grid.pixel_m
    return PixelGrid(
        crs=grid.crs,
        width_px=round(grid.width_px / ratio),
        height_px=round(grid.height_px / ratio),
        pixel_m=float(pixel_m),
        west_m=grid.west_m,
        north_m=grid.north_m,
    )


def _problem(scene_id: str, kind: SceneProblemKind, detail: str) -> SceneProblem:
    return SceneProblem(scene_id=scene_id, kind=kind, detail=detail)


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _outline(value: object) -> BaseGeometry | None:
    """Return a polygon or multipolygon; the service's geometries carry an outdated `crs` member, which is CRS84."""
    if not isinstance(value, Mapping):
        return None
    try:
        shape = shapely.geometry.shape(dict(value))
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError):
        return None
    return shape if shape.geom_type in {"Polygon", "MultiPolygon"} and not shape.is_empty else None


def _bbox(outline: BaseGeometry) -> BBox:
    """Return the box; west > east where the outline was cut at longitude 180 (RFC 7946)."""
    west, south, east, north = outline.bounds
    if east - west > 180.0:
        parts = [part.bounds for part in shapely.get_parts(outline).tolist()]
        west = min((part[0] for part in parts if part[0] > 0), default=west)
        east = max((part[2] for part in parts if part[2] < 0), default=east)
    return BBox(west=west, south=south, east=east, north=north)


def _epsg(properties: Mapping[str, Any], tile: str) -> int | None:
    told = properties.get("proj:epsg")
    if isinstance(told, int) and not isinstance(told, bool) and 32601 <= told <= 32760:
        return told
    return tile_epsg(tile)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
