"""From an item as the catalogue wrote it to a Scene, or to the problem that keeps it from being one.

Works on plain dictionaries, not on pystac objects: pystac migrates items while reading them (`proj:epsg` becomes
`proj:code`, raster bands move), and what the catalogue really said is what the offset rules need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.geo import BBox
from farm_intel.domain.products import CollectionProfile, OffsetRule
from farm_intel.domain.scenes import BandFile, Scene, SceneProblem, solar_hours
from farm_intel.providers.stac.assets import band_files
from farm_intel.providers.stac.geometry import parse_outline

_BASELINE_KEYS = ("s2:processing_baseline", "sentinel2:processing_baseline", "processing:version")
_OFFSET_FLAG_KEYS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_TILE_IN_ID = re.compile(r"[_.]T?(\d{1,2}[C-HJ-NP-X][A-HJ-NP-Z]{2})(?:[_.]|$)")
_TILE_PAIRS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "landsat:wrs_path": ("landsat:wrs_row", "{:03d}{:03d}"),
        "modis:horizontal-tile": ("modis:vertical-tile", "h{:02d}v{:02d}"),
    }
)
"""First property of a tile name made of two numbers -> second property and how the two are written together."""
_EPSG_IN_WKT = re.compile(r'(?:ID|AUTHORITY)\["EPSG","?(\d+)"?\]\]\s*$')


def scene_from_item(
    item: Mapping[str, Any],
    profile: CollectionProfile,
    base_href: str,
    *,
    provider: str,
    needed: frozenset[str] = frozenset(),
) -> Scene | SceneProblem:
    """Return the scene an item describes, or why it cannot be one.

    A single missing band, the mask included, is a problem noted on the scene; an item without a time, a place or any
    band of the profile is no scene. A missing projection is no problem here: the files say their own.

    Args:
        item: the item as JSON.
        profile: how this catalogue serves the collection.
        base_href: where the item was found; relative hrefs count from there.
        provider: name the scenes carry.
        needed: common names whose absence is to be noted, besides the mask.

    """
    scene_id = str(item.get("id") or "(item without id)")
    properties = _mapping(item.get("properties"))
    acquired_at = _acquired_at(properties)
    if acquired_at is None:
        said = properties.get("datetime") or properties.get("start_datetime")
        return _problem(scene_id, SceneProblemKind.MISSING_DATETIME, f"the item's time is {said!r}")
    bbox, footprint_wkb = parse_outline(item)
    if bbox is None:
        detail = "the item has neither a usable geometry nor a bbox"
        return _problem(scene_id, SceneProblemKind.MISSING_PROJECTION, detail)
    assets = _assets(item, properties)
    bands = band_files(assets, profile, base_href)
    if not bands.keys() & profile.bands:
        expected = ", ".join(sorted(profile.assets.values()))
        return _problem(
            scene_id,
            SceneProblemKind.MISSING_ASSET,
            f"none of the assets {expected} of {profile.dialect}/{profile.collection}; it has {_listed(assets)}",
        )
    scene = Scene(
        scene_id=scene_id,
        provider=provider,
        dialect=profile.dialect,
        collection=profile.collection,
        acquired_at=acquired_at if profile.composite_days == 1 else _first_noon(acquired_at, bbox),
        tile=_tile(scene_id, properties, profile),
        # Before STAC 1.0 it was `eo:platform`; USGS writes LANDSAT_8 where others write landsat-8.
        platform=str(properties.get("platform") or properties.get("eo:platform") or "").lower().replace("_", "-"),
        bbox=bbox,
        footprint_wkb=footprint_wkb,
        bands={name: _with_nodata(file, profile) for name, file in bands.items()},
        revision=tuple(_order_text(properties.get(key)) for key in profile.newest_by),
        processing_baseline=next((str(properties[key]) for key in _BASELINE_KEYS if properties.get(key)), None),
        offset_applied=next((properties[k] for k in _OFFSET_FLAG_KEYS if isinstance(properties.get(k), bool)), None),
        updated=str(properties.get("updated") or properties.get("created") or ""),
        cloud_cover_percent=_percent(properties.get("eo:cloud_cover")),
        epsg=_epsg(properties, assets, bands),
        problems=_nodata_problems(scene_id, bands, profile),
        properties={**_scalars(properties), ASSET_KEYS: tuple(assets)},
    )
    return note_missing_bands(scene, profile, needed)


ASSET_KEYS = "assets"
"""Key of `Scene.properties` under which the item's asset keys stand, so that a missing one can be explained."""


def note_missing_bands(scene: Scene, profile: CollectionProfile, needed: frozenset[str]) -> Scene:
    """Return the scene with a problem for every needed band, and every mask band, that it does not offer."""
    known = {problem.band for problem in scene.problems if problem.kind is SceneProblemKind.MISSING_ASSET}
    masks = {profile.mask.band, *(rule.band for rule in profile.more_masks)}
    missing = sorted((needed | masks) - scene.bands.keys() - known)
    if not missing:
        return scene
    keys = scene.properties.get(ASSET_KEYS, ())
    has = _listed(keys if isinstance(keys, tuple) else ())
    found = tuple(
        _problem(
            scene.scene_id,
            SceneProblemKind.MISSING_ASSET,
            f"no asset {profile.assets.get(name, name)!r} for band {name!r}; the item has {has}",
            band=name,
        )
        for name in missing
    )
    return replace(scene, problems=scene.problems + found)


def _assets(item: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the assets; bands that are numbers, as before STAC 1.0, count in the item's own list of bands."""
    listed = properties.get("eo:bands")
    assets: dict[str, Mapping[str, Any]] = {}
    for key, asset in _mapping(item.get("assets")).items():
        if not isinstance(asset, Mapping):
            continue
        numbers = asset.get("eo:bands")
        if isinstance(listed, list) and isinstance(numbers, list) and all(isinstance(n, int) for n in numbers):
            found = [listed[n] for n in numbers if 0 <= n < len(listed)]
            assets[str(key)] = {**asset, "eo:bands": found}
        else:
            assets[str(key)] = asset
    return assets


def _problem(scene_id: str, kind: SceneProblemKind, detail: str, *, band: str | None = None) -> SceneProblem:
    return SceneProblem(scene_id=scene_id, kind=kind, detail=detail, band=band)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(keys: Mapping[str, Any] | tuple[str, ...]) -> str:
    return ", ".join(sorted(map(str, keys))) or "no assets"


def _acquired_at(properties: Mapping[str, Any]) -> datetime | None:
    """Return the nominal time in UTC; composites without one are dated by their first day."""
    for key in ("datetime", "start_datetime"):
        text = properties.get(key)
        if not isinstance(text, str):
            continue
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return None


def _first_noon(start: datetime, bbox: BBox) -> datetime:
    """Return local solar noon of a composite's first day.

    A window begins at midnight UTC by its label, which west of Greenwich is still the day before; its pixels were seen
    by day, and the solar day of the scene has to be the day in the label.
    """
    east = bbox.east + 360.0 if bbox.crosses_antimeridian else bbox.east
    middle = (bbox.west + east) / 2
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(hours=12 - solar_hours(middle))


def _tile(scene_id: str, properties: Mapping[str, Any], profile: CollectionProfile) -> str:
    """Return the tile name in one spelling: `MGRS-1WCR`, `T01WCR` and `01WCR` are one tile."""
    for key in profile.tile_properties:
        value = _joined(properties, key) if key in _TILE_PAIRS else properties.get(key)
        if isinstance(value, str) and value:
            return _padded(value.rpartition("-")[2].removeprefix("T"))
    match = _TILE_IN_ID.search(scene_id)
    return _padded(match[1]) if match else ""


def _joined(properties: Mapping[str, Any], key: str) -> str | None:
    """Return a tile name made of two numbers (path and row), or None where one is missing or no number."""
    other, form = _TILE_PAIRS[key]
    try:
        return form.format(int(properties[key]), int(properties[other]))
    except (KeyError, TypeError, ValueError):
        return None


def _padded(tile: str) -> str:
    return tile.zfill(5) if len(tile) == 4 and tile[:1].isdigit() and not tile.isdigit() else tile


def _with_nodata(file: BandFile, profile: CollectionProfile) -> BandFile:
    return file if file.nodata is not None else replace(file, nodata=float(profile.radiometry.nodata))


def _nodata_problems(
    scene_id: str, bands: Mapping[str, BandFile], profile: CollectionProfile
) -> tuple[SceneProblem, ...]:
    """Note reflectance bands without a declared nodata, where the catalogue otherwise declares it.

    A catalogue whose profile goes by the baseline, or whose product is fixed, declares nothing it would be needed for;
    that is its way and not this scene's fault.
    """
    if profile.radiometry.offset_rule in {OffsetRule.BASELINE, OffsetRule.FIXED}:
        return ()
    silent = sorted(name for name, file in bands.items() if file.nodata is None and name in profile.bands)
    if not silent:
        return ()
    detail = f"{', '.join(silent)} declare no nodata; the profile's {profile.radiometry.nodata} is used"
    return (_problem(scene_id, SceneProblemKind.MISSING_NODATA, detail),)


def _order_text(value: object) -> str:
    """Return a text whose alphabetical order is the order of the values: numbers are padded."""
    if value is None:
        return ""
    text = str(value)
    return ".".join(part.zfill(4) for part in text.split(".")) if re.fullmatch(r"\d+(\.\d+)*", text) else text


def _percent(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _epsg(properties: Mapping[str, Any], assets: Mapping[str, Any], bands: Mapping[str, BandFile]) -> int | None:
    """Return the EPSG code the item or its band assets tell, in any of the ways projection v1 and v2 allow."""
    for place in (properties, *(assets[file.asset_key] for file in bands.values())):
        for key in ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson"):
            code = _epsg_of(place.get(key))
            if code is not None:
                return code
    return None


def _epsg_of(value: object) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return int(value)
    if isinstance(value, Mapping):
        identity = _mapping(value.get("id"))
        return _epsg_of(identity.get("code")) if identity.get("authority") == "EPSG" else None
    text = str(value).strip()
    if text.upper().startswith("EPSG:"):
        text = text[5:]
    if text.isdigit():
        return int(text)
    match = _EPSG_IN_WKT.search(text)
    return int(match[1]) if match else None


def _scalars(properties: Mapping[str, Any]) -> dict[str, object]:
    return {key: value for key, value in properties.items() if isinstance(value, str | int | float | bool)}
