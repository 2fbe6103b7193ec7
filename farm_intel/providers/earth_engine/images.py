"""From the listing of an image to our scenes: identity, time, footprint, and an address for every band."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyproj
import shapely
import shapely.geometry

from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.geo import BBox
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import BandFile, Scene, SceneProblem
from farm_intel.providers.collections.earth_engine import BAND_FILLS, MODIS_TILES_ACROSS, ImageCollection
from farm_intel.providers.earth_engine.addresses import (
    SINUSOIDAL,
    BandAddress,
    NativeGrid,
    native_grid,
    sinusoidal_wkt,
)

_EDGE_POINTS = 9
_HALF_TURN_DEG = 180.0


class ImageReader:
    """Turns listed images of one collection into scenes."""

    def __init__(self, provider: str, profile: CollectionProfile, source: ImageCollection) -> None:
        self._provider = provider
        self._profile = profile
        self._source = source

    def scenes(self, image: Mapping[str, Any], box: BBox) -> Iterator[Scene | SceneProblem]:
        """Yield the image's scenes over the box (one, except for global mosaics), or why it cannot be one."""
        image_id = str(image.get("id") or image.get("name", "").partition("/assets/")[2])
        index = image_id.rpartition("/")[2]
        if not image_id or "startTime" not in image:
            yield SceneProblem(
                scene_id=index or "?", kind=SceneProblemKind.MISSING_DATETIME, detail="listed without id or start time"
            )
            return
        grids = self._grids(image)
        if not grids:
            yield SceneProblem(
                scene_id=index, kind=SceneProblemKind.UNKNOWN_GRID, detail="no band with a grid we can read"
            )
            return
        if not self._source.tiled:
            yield self._scene(
                image, (image_id, index, self._tile(image)), grids, _lonlat_box(next(iter(grids.values())))
            )
            return
        for column, row in tiles_over(next(iter(grids.values())), box):
            name = f"h{column:02d}v{row:02d}"
            cut = {band: grid.tile(column, row, MODIS_TILES_ACROSS) for band, grid in grids.items()}
            yield self._scene(image, (image_id, f"{index}_{name}", name), cut, _lonlat_box(next(iter(cut.values()))))

    def _grids(self, image: Mapping[str, Any]) -> dict[str, NativeGrid]:
        """Return the grids of the bands we know, by common name."""
        declared = {band.get("id"): native_grid(band.get("grid", {})) for band in image.get("bands", [])}
        found = {name: declared.get(band) for name, band in self._source.assets.items()}
        return {name: grid for name, grid in found.items() if grid is not None}

    def _scene(
        self, image: Mapping[str, Any], names: tuple[str, str, str], grids: Mapping[str, NativeGrid], box: BBox
    ) -> Scene:
        image_id, scene_id, tile = names
        properties = image.get("properties", {})
        bands = {name: self._band(image_id, name, grid) for name, grid in grids.items()}
        baseline = properties.get(self._source.baseline_property)
        return Scene(
            scene_id=scene_id,
            provider=self._provider,
            dialect=self._profile.dialect,
            collection=self._profile.collection,
            acquired_at=self._acquired_at(str(image["startTime"]), box),
            tile=tile,
            platform=self._platform(properties),
            bbox=box,
            footprint_wkb=None if self._source.tiled else _footprint(image.get("geometry")),
            bands=bands,
            revision=tuple(str(properties.get(name, "")) for name in self._profile.newest_by),
            processing_baseline=None if baseline is None else str(baseline),
            offset_applied=True,
            updated=str(image.get("updateTime", "")),
            epsg=_epsg(next(iter(grids.values())).crs_code),
            problems=(),
            properties={},
        )

    def _band(self, image_id: str, name: str, grid: NativeGrid) -> BandFile:
        fills = BAND_FILLS[self._profile.collection]
        fill = fills.get(name, fills[""])
        band = self._source.assets[name]
        address = BandAddress(
            image_id=image_id,
            band=band,
            crs_code=grid.crs_code,
            pixel_m=grid.pixel_m,
            west_m=grid.west_m,
            north_m=grid.north_m,
            width_px=grid.width_px,
            height_px=grid.height_px,
            dtype=fill.dtype,
            fill=fill.fill,
        )
        return BandFile(common_name=name, asset_key=band, href=address.href, nodata=float(fill.fill))

    def _acquired_at(self, text: str, box: BBox) -> datetime:
        """Return the time of the image; images that carry only a UTC day get the overpass over the scene's middle.

        East of about 157 degrees a morning overpass falls on the UTC day before the solar day it belongs to.
        """
        moment = datetime.fromisoformat(text).astimezone(UTC)
        if self._source.overpass_solar_hour is None:
            return moment
        middle = box.west + ((box.east - box.west) % 360.0) / 2
        return moment + timedelta(hours=(self._source.overpass_solar_hour - middle / 15.0) % 24.0)

    def _platform(self, properties: Mapping[str, Any]) -> str:
        told = str(properties.get(self._source.platform_property, "")).lower().replace("_", "-")
        return told or self._source.platform

    def _tile(self, image: Mapping[str, Any]) -> str:
        properties = image.get("properties", {})
        values = [properties.get(name) for name in self._source.tile_properties]
        return "".join(
            value if isinstance(value, str) else f"{int(value):03d}" for value in values if value is not None
        )


def tiles_over(grid: NativeGrid, box: BBox) -> list[tuple[int, int]]:
    """Return (column, row) of the global grid's tiles that may hold part of a box."""
    size = grid.width_px // MODIS_TILES_ACROSS * grid.pixel_m
    found = set()
    for part in box.split():
        longitudes, latitudes = np.meshgrid(
            np.linspace(part.west, part.east, 33), np.linspace(part.south, part.north, 33)
        )
        to_grid = pyproj.Transformer.from_crs("EPSG:4326", sinusoidal_wkt(), always_xy=True)
        x, y = to_grid.transform(longitudes, latitudes)
        columns = np.floor((x - grid.west_m) / size).astype(int)
        rows = np.floor((grid.north_m - y) / size).astype(int)
        found |= set(zip(columns.ravel().tolist(), rows.ravel().tolist(), strict=True))
    return sorted(place for place in found if 0 <= place[0] < MODIS_TILES_ACROSS and 0 <= place[1] < 18)


def _lonlat_box(grid: NativeGrid) -> BBox:
    """Return the box around a grid; west > east where it crosses longitude 180."""
    steps = np.linspace(0.0, 1.0, _EDGE_POINTS)
    x, y = np.meshgrid(
        grid.west_m + steps * grid.width_px * grid.pixel_m, grid.north_m - steps * grid.height_px * grid.pixel_m
    )
    crs = sinusoidal_wkt() if grid.crs_code == SINUSOIDAL else grid.crs_code
    longitude, latitude = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    seen = np.isfinite(longitude) & np.isfinite(latitude)
    longitude, latitude = longitude[seen], latitude[seen]
    if np.ptp(longitude) > _HALF_TURN_DEG:
        west, east = longitude[longitude > 0].min(), longitude[longitude < 0].max()
    else:
        west, east = longitude.min(), longitude.max()
    return BBox(west=float(west), south=float(latitude.min()), east=float(east), north=float(latitude.max()))


def _footprint(geometry: Mapping[str, Any] | None) -> bytes | None:
    """Return the footprint, None where there is no usable one; Earth Engine also writes bare rings."""
    if not geometry or not geometry.get("coordinates"):
        return None
    kind, coordinates = geometry.get("type"), geometry["coordinates"]
    if kind == "LinearRing":
        kind, coordinates = "Polygon", [coordinates]
    if kind not in {"Polygon", "MultiPolygon"}:
        return None
    shape = shapely.geometry.shape({"type": kind, "coordinates": coordinates})
    west, _, east, _ = shape.bounds
    return None if not shape.is_valid or east - west > _HALF_TURN_DEG else shapely.to_wkb(shape)


def _epsg(crs_code: str) -> int | None:
    authority, _, code = crs_code.partition(":")
    return int(code) if authority == "EPSG" and code.isdigit() else None
