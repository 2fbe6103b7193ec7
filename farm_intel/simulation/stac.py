"""The world's STAC documents, field for field after recorded `sentinel-2-l2a` items of Earth Search v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation.render import SWATH_EDGE_SLOPE, swath_edge_m
from farm_intel.simulation.scenes import WorldScene, platform_code
from farm_intel.simulation.spectra import BANDS, SimulatedBand
from farm_intel.simulation.world import FarmWorld, lonlat_boundary

COLLECTION_ID = "sentinel-2-l2a"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
_EXTENSIONS = ("raster/v1.1.0", "mgrs/v1.0.0", "grid/v1.0.0", "projection/v1.1.0", "eo/v1.1.0", "view/v1.0.0")
_CLASS_PERCENTAGES = {
    "s2:nodata_pixel_percentage": (0,),
    "s2:cloud_shadow_percentage": (3,),
    "s2:vegetation_percentage": (4,),
    "s2:not_vegetated_percentage": (5,),
    "s2:water_percentage": (6,),
    "s2:medium_proba_clouds_percentage": (8,),
    "s2:high_proba_clouds_percentage": (9,),
    "s2:thin_cirrus_percentage": (10,),
    "s2:snow_ice_percentage": (11,),
    "eo:cloud_cover": (8, 9, 10),
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFootprints:
    """Geometries that items of one world share."""

    world: FarmWorld

    def of(self, scene: WorldScene) -> BaseGeometry:
        """Return where the scene has data, EPSG:4326, split at longitude 180."""
        grid = scene.tile.grid
        west, south, east, north = grid.bounds
        shape = box(west, south, east, north)
        if scene.swath_edge:
            top = west + swath_edge_m(grid.width_px)
            bottom = top - SWATH_EDGE_SLOPE * (north - south)
            shape = Polygon([(top, north), (east, north), (east, south), (bottom, south)])
        return lonlat_boundary(shape, scene.tile.epsg)


def scene_item(world: FarmWorld, scene: WorldScene, classes: npt.NDArray[np.uint8]) -> Json:
    """Return the STAC item of a scene; its asset hrefs are file names beside the item.

    Args:
        world: the world.
        scene: the scene.
        classes: its scene classification, for the percentages.

    """
    footprint = WorldFootprints(world=world).of(scene)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [f"https://stac-extensions.github.io/{name}/schema.json" for name in _EXTENSIONS],
        "id": scene.scene_id,
        "collection": COLLECTION_ID,
        "geometry": shapely.geometry.mapping(footprint),
        "bbox": _bbox(footprint),
        "properties": {**_properties(scene), **_percentages(classes)},
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        ],
        "assets": {
            **{band.asset_key: _band_asset(band, scene) for band in BANDS},
            "scl": _classification_asset(scene.tile.grid),
        },
    }


def collection(world: FarmWorld, scenes: Sequence[WorldScene]) -> Json:
    """Return the STAC collection over the scenes."""
    footprints = WorldFootprints(world=world)
    boxes = [_bbox(footprints.of(scene)) for scene in scenes]
    crossing = any(west > east for west, _, east, _ in boxes)
    wests = [b[0] % 360.0 if crossing else b[0] for b in boxes]
    easts = [b[2] % 360.0 if crossing else b[2] for b in boxes]
    west, east = (_signed(edge) for edge in (min(wests), max(easts)))
    times = sorted(scene.acquired_at for scene in scenes)
    return {
        "type": "Collection",
        "id": COLLECTION_ID,
        "stac_version": "1.0.0",
        "title": "Sentinel-2 Level-2A (simulated)",
        "description": "Simulated surface reflectance with closed-form truth, in the form of Earth Search v1.",
        "license": "proprietary",
        "extent": {
            "spatial": {"bbox": [[west, min(b[1] for b in boxes), east, max(b[3] for b in boxes)]]},
            "temporal": {"interval": [[_stamp(times[0]), _stamp(times[-1])]]},
        },
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            *(
                {"rel": "item", "href": f"./{s.scene_id}/{s.scene_id}.json", "type": "application/geo+json"}
                for s in scenes
            ),
        ],
    }


def catalog(collections: Sequence[str] = (COLLECTION_ID,)) -> Json:
    """Return the root catalogue over collections, each a folder of its id."""
    return {
        "type": "Catalog",
        "id": "simulated-farm-world",
        "stac_version": "1.0.0",
        "description": "The simulated farm world: every farm's true index is known on every day.",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            *(
                {"rel": "child", "href": f"./{name}/collection.json", "type": "application/json"}
                for name in collections
            ),
        ],
    }


def farms_geojson(world: FarmWorld) -> Json:
    """Return the farms as an importable GeoJSON feature collection."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {
                    "id": farm.farm_id,
                    "name": farm.name,
                    "crop": farm.crop,
                    "planting_date": farm.planting_date.isoformat(),
                },
                "geometry": shapely.geometry.mapping(shapely.from_wkb(farm.boundary_wkb)),
            }
            for farm in world.farms
        ],
    }


def _properties(scene: WorldScene) -> Mapping[str, object]:
    zone, square = scene.tile.name[:-3], scene.tile.name[-3:]
    product = (
        f"{platform_code(scene.platform)}_MSIL2A_{scene.acquired_at:%Y%m%dT%H%M%S}_N{scene.baseline.replace('.', '')}"
        f"_R092_T{scene.tile.name}_{scene.generated_at:%Y%m%dT%H%M%S}.SAFE"
    )
    updated = _stamp(scene.generated_at + timedelta(hours=1))
    return {
        "datetime": _stamp(scene.acquired_at),
        "created": updated,
        "updated": updated,
        "platform": scene.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": 10,
        "proj:epsg": scene.tile.epsg,
        "mgrs:utm_zone": int(zone),
        "mgrs:latitude_band": square[0],
        "mgrs:grid_square": square[1:],
        "grid:code": f"MGRS-{zone}{square}",
        "view:sun_azimuth": 121.0,
        "view:sun_elevation": 58.0,
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": scene.baseline,
        "s2:product_uri": product,
        "s2:generation_time": _stamp(scene.generated_at),
        "s2:sequence": str(scene.sequence),
        "earthsearch:boa_offset_applied": scene.dialect.flag_applied,
    }


def _percentages(classes: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return percentages of the pixels with data; nodata is a percentage of all."""
    counts = np.bincount(classes.ravel(), minlength=12).astype(float)
    seen = max(counts[1:].sum(), 1.0)
    return {
        name: round(100.0 * float(counts[list(values)].sum()) / (counts.sum() if values == (0,) else seen), 6)
        for name, values in _CLASS_PERCENTAGES.items()
    }


def _band_asset(band: SimulatedBand, scene: WorldScene) -> Json:
    return {
        "href": f"./{band.number}.tif",
        "type": COG_TYPE,
        "title": f"{band.asset_key} ({band.number}) - {band.gsd_m}m",
        "eo:bands": [
            {
                "name": band.asset_key,
                "common_name": band.declared_common_name,
                "center_wavelength": band.center_um,
                "full_width_half_max": band.width_um,
            }
        ],
        "gsd": band.gsd_m,
        **_projection(scene.tile.grid, band.gsd_m),
        "raster:bands": [
            {
                "nodata": 0,
                "data_type": "uint16",
                "bits_per_sample": 15,
                "spatial_resolution": band.gsd_m,
                "scale": 0.0001,
                "offset": scene.dialect.declared_offset,
            }
        ],
        "roles": ["data", "reflectance"],
    }


def _classification_asset(grid: PixelGrid) -> Json:
    return {
        "href": "./SCL.tif",
        "type": COG_TYPE,
        "title": "Scene classification map (SCL)",
        **_projection(grid, 20),
        "raster:bands": [{"nodata": 0, "data_type": "uint8", "spatial_resolution": 20}],
        "roles": ["data", "reflectance"],
    }


def _projection(grid: PixelGrid, gsd_m: int) -> Json:
    edge = grid.width_px * 10 // gsd_m
    return {
        "proj:shape": [edge, edge],
        "proj:transform": [gsd_m, 0, int(grid.west_m), 0, -gsd_m, int(grid.north_m)],
    }


def _bbox(shape: BaseGeometry) -> list[float]:
    """Return west, south, east, north; west > east where the shape was split at longitude 180 (RFC 7946)."""
    west, south, east, north = shape.bounds
    if east - west > 180.0:
        parts = [part.bounds for part in shapely.get_parts(shape).tolist()]
        west = min(part[0] for part in parts if part[0] > 0)
        east = max(part[2] for part in parts if part[2] < 0)
    return [west, south, east, north]


def _signed(longitude: float) -> float:
    return longitude - 360.0 if longitude > 180.0 else longitude


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
