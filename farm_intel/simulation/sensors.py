"""Writes what other sensors saw of a world: Landsat and MODIS collections beside the Sentinel-2 one.

Items have the shape the Planetary Computer gives them (recorded items of odc-stac and stactools), with hrefs relative
to the item; the STAC API emulator dresses them for other catalogues.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from pyproj import Transformer
from rasterio.transform import Affine
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation import hls, landsat, modis
from farm_intel.simulation.world import FarmWorld, lonlat_boundary

Json = dict[str, Any]
SENTINEL_2, LANDSAT, MODIS, MODIS_VI = "sentinel-2", "landsat", "modis", "modis-vi"
HLS_L30, HLS_S30 = "hls-l30", "hls-s30"
COLLECTIONS: Mapping[str, str] = {
    SENTINEL_2: "sentinel-2-l2a",
    LANDSAT: "landsat-c2-l2",
    MODIS: "modis-09A1-061",
    MODIS_VI: "modis-13Q1-061",
    HLS_L30: "hls2-l30",
    HLS_S30: "hls2-s30",
}
"""Sensor -> folder and collection id in a written world."""
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_LANDSAT_EXTENSIONS = ("raster/v1.0.0", "eo/v1.0.0", "view/v1.0.0", "projection/v1.0.0", "scientific/v1.0.0")
_MODIS_EXTENSIONS = ("raster/v1.1.0", "eo/v1.0.0", "projection/v1.0.0")
_WORKERS = 2
_BLOCK_PX = 256


def check_sensors(sensors: tuple[str, ...]) -> None:
    """Raise UnknownNameError where a sensor is none of ours, or Sentinel-2 is missing."""
    unknown = sorted(set(sensors) - set(COLLECTIONS))
    if unknown or SENTINEL_2 not in sensors:
        raise UnknownNameError(
            f"a world cannot be written for the sensors {', '.join(sensors) or 'none'}",
            hint=f"Name {SENTINEL_2}, and any of {', '.join(COLLECTIONS)} beside it.",
        )


def write_sensor(world: FarmWorld, folder: Path, sensor: str) -> None:
    """Write one sensor's collection into `folder`, which must not exist yet.

    Args:
        world: the world.
        folder: becomes the collection's folder.
        sensor: `landsat`, `modis`, `modis-vi`, `hls-l30` or `hls-s30`.

    """
    folder.mkdir(parents=True)
    if sensor == LANDSAT:
        items = _write_landsat(world, folder)
    elif sensor in {MODIS, MODIS_VI}:
        items = _write_modis(world, folder, modis.SURFACE if sensor == MODIS else modis.VEGETATION)
    else:
        items = _write_hls(world, folder, COLLECTIONS[sensor])
    _dump(folder / "collection.json", _collection(COLLECTIONS[sensor], items))


def _write_landsat(world: FarmWorld, folder: Path) -> list[Json]:
    ground = landsat.LandsatGround(world)

    def write(scene: landsat.LandsatScene) -> Json:
        arrays = ground.render(scene)
        home = folder / scene.scene_id
        home.mkdir()
        for name, band in landsat.BANDS.items():
            write_cog(home / f"{scene.scene_id}_{band}.TIF", arrays.bands[name], ground.grid, nodata=0)
        write_cog(home / f"{scene.scene_id}_QA_PIXEL.TIF", arrays.qa_pixel, ground.grid, nodata=1)
        write_cog(home / f"{scene.scene_id}_QA_RADSAT.TIF", arrays.qa_radsat, ground.grid, nodata=None)
        cloudy = float((arrays.qa_pixel == landsat.CLOUD).mean() * 100)
        item = landsat_item(ground.grid, scene, cloudy)
        _dump(home / f"{scene.scene_id}.json", item)
        return item

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(write, landsat.landsat_scenes(world)))


def _write_modis(world: FarmWorld, folder: Path, product: modis.ModisProduct) -> list[Json]:
    ground = modis.ModisGround(world, product)

    def write(scene: modis.ModisScene) -> Json:
        arrays = ground.render(scene)
        home = folder / scene.scene_id
        home.mkdir()
        for name, band in product.bands.items():
            # The producer's own fill is not in the files' tags, as the items do not declare it either.
            write_cog(home / f"{scene.scene_id}_{band}.tif", arrays.bands[name], ground.grid, nodata=None)
        state = arrays.state if product is modis.SURFACE else modis.reliability(arrays.state)
        write_cog(home / f"{scene.scene_id}_{product.quality_key}.tif", state, ground.grid, nodata=None)
        write_cog(home / f"{scene.scene_id}_{product.day_key}.tif", arrays.day_of_year, ground.grid, nodata=None)
        item = modis_item(ground.grid, scene, product)
        _dump(home / f"{scene.scene_id}.json", item)
        return item

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(write, modis.modis_scenes(world, product)))


def _write_hls(world: FarmWorld, folder: Path, collection: str) -> list[Json]:
    grounds = {tile.name: hls.HlsGround(world, tile) for tile in world.tiles}

    def write(scene: hls.HlsScene) -> Json:
        ground = grounds[scene.tile.name]
        bands, mask = ground.render(scene)
        home = folder / scene.scene_id
        home.mkdir()
        for name, band in scene.bands.items():
            write_cog(home / f"{scene.scene_id}.{band}.tif", bands[name], ground.grid, nodata=hls.FILL)
        write_cog(home / f"{scene.scene_id}.Fmask.tif", mask, ground.grid, nodata=255)
        item = hls_item(ground.grid, scene, collection)
        _dump(home / f"{scene.scene_id}.json", item)
        return item

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(write, hls.hls_scenes(world, collection.removeprefix("hls2-"))))


def hls_item(grid: PixelGrid, scene: hls.HlsScene, collection: str) -> Json:
    """Return a granule's STAC item in the Planetary Computer's shape: neither scale nor nodata is declared."""
    west, south, east, north = grid.bounds
    outline = lonlat_boundary(box(west, south, east, north), int(grid.crs.removeprefix("EPSG:")))
    assets = {
        band: {**_asset(f"{scene.scene_id}.{band}.tif"), "eo:bands": [_band(name, band)]}
        for name, band in scene.bands.items()
    }
    assets["Fmask"] = _asset(f"{scene.scene_id}.Fmask.tif")
    made = _stamp(scene.acquired_at + timedelta(days=3))
    properties = {
        "datetime": _stamp(scene.acquired_at),
        "created": made,
        "updated": made,
        "platform": scene.platform,
        "proj:epsg": int(grid.crs.removeprefix("EPSG:")),
        **_projection(grid),
    }
    return _item(scene.scene_id, collection, outline, properties, assets, _LANDSAT_EXTENSIONS)


def _band(name: str, band: str) -> Json:
    # Red edges have one common name for all there.
    return {"name": band, "common_name": "rededge" if name.startswith("rededge") else name}


def landsat_item(grid: PixelGrid, scene: landsat.LandsatScene, cloud_percent: float) -> Json:
    """Return a Landsat scene's STAC item in the Planetary Computer's shape."""
    west, south, east, north = grid.bounds
    outline = lonlat_boundary(box(west, south, east, north), int(grid.crs.removeprefix("EPSG:")))
    processed = _stamp(scene.acquired_at + timedelta(days=2))
    raster = {"nodata": 0, "data_type": "uint16", "spatial_resolution": 30}
    assets = {
        name: {
            **_asset(f"{scene.scene_id}_{band}.TIF"),
            "eo:bands": [{"name": f"OLI_{band.removeprefix('SR_')}", "common_name": name, "gsd": 30}],
            "raster:bands": [{**raster, "scale": landsat.SCALE, "offset": landsat.OFFSET}],
        }
        for name, band in landsat.BANDS.items()
    }
    bits = {"data_type": "uint16", "spatial_resolution": 30, "unit": "bit index"}
    pixel, radsat = f"{scene.scene_id}_QA_PIXEL.TIF", f"{scene.scene_id}_QA_RADSAT.TIF"
    assets["qa_pixel"] = {**_asset(pixel), "raster:bands": [{**bits, "nodata": 1}], "roles": ["cloud", "snow-ice"]}
    assets["qa_radsat"] = {**_asset(radsat), "raster:bands": [bits], "roles": ["saturation"]}
    properties = {
        "datetime": _stamp(scene.acquired_at),
        "created": processed,
        "updated": processed,
        "platform": scene.platform,
        "instruments": ["oli", "tirs"],
        "gsd": 30,
        "eo:cloud_cover": round(cloud_percent, 2),
        "landsat:cloud_cover_land": round(cloud_percent, 2),
        "landsat:wrs_type": "2",
        "landsat:wrs_path": f"{scene.path:03d}",
        "landsat:wrs_row": f"{scene.row:03d}",
        "landsat:collection_category": "T1",
        "landsat:collection_number": "02",
        "landsat:correction": "L2SP",
        "proj:epsg": int(grid.crs.removeprefix("EPSG:")),
        **_projection(grid),
    }
    return _item(scene.scene_id, COLLECTIONS[LANDSAT], outline, properties, assets, _LANDSAT_EXTENSIONS)


def modis_item(grid: PixelGrid, scene: modis.ModisScene, product: modis.ModisProduct) -> Json:
    """Return a composite's STAC item in the Planetary Computer's shape: no datetime, no EPSG code, no nodata."""
    west, south, east, north = grid.bounds
    to_lonlat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    corners = [(west, south), (east, south), (east, north), (west, north)]
    outline = shapely.Polygon([to_lonlat.transform(x, y) for x, y in corners])
    assets = {}
    quality_type = "uint16" if product is modis.SURFACE else "int8"
    kinds = {**dict.fromkeys(product.bands.values(), "int16"), product.quality_key: quality_type}
    for band, data_type in {**kinds, product.day_key: "uint16"}.items():
        scale = {"scale": 0.0001} if data_type == "int16" else {}
        raster = {"data_type": data_type, "spatial_resolution": round(product.pixel_m / 463 * 500), **scale}
        assets[band] = {**_asset(f"{scene.scene_id}_{band}.tif"), "raster:bands": [raster]}
    made = f"{scene.last + timedelta(days=3):%Y-%m-%d}T04:35:14Z"
    properties = {
        "datetime": None,
        "start_datetime": f"{scene.first:%Y-%m-%d}T00:00:00Z",
        "end_datetime": f"{scene.last:%Y-%m-%d}T23:59:59Z",
        "created": made,
        "updated": made,
        "platform": "terra",
        "instruments": ["modis"],
        "modis:horizontal-tile": scene.horizontal,
        "modis:vertical-tile": scene.vertical,
        "modis:tile-id": f"51{scene.horizontal:03d}{scene.vertical:03d}",
        "proj:epsg": None,
        "proj:wkt2": grid.crs,
        **_projection(grid),
    }
    collection = COLLECTIONS[MODIS if product is modis.SURFACE else MODIS_VI]
    return _item(scene.scene_id, collection, outline, properties, assets, _MODIS_EXTENSIONS)


def _item(
    item_id: str,
    collection: str,
    outline: BaseGeometry,
    properties: Json,
    assets: Json,
    extensions: tuple[str, ...],
) -> Json:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [f"https://stac-extensions.github.io/{name}/schema.json" for name in extensions],
        "id": item_id,
        "collection": collection,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": properties,
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        ],
        "assets": assets,
    }


def _asset(name: str) -> Json:
    return {"href": f"./{name}", "type": _COG, "roles": ["data"]}


def _projection(grid: PixelGrid) -> Json:
    return {
        "proj:shape": [grid.height_px, grid.width_px],
        "proj:transform": [grid.pixel_m, 0.0, grid.west_m, 0.0, -grid.pixel_m, grid.north_m],
    }


def _collection(collection: str, items: list[Json]) -> Json:
    boxes = np.array([item["bbox"] for item in items]) if items else np.array([[-180.0, -90.0, 180.0, 90.0]])
    times = sorted(item["properties"]["datetime"] or item["properties"]["start_datetime"] for item in items)
    bbox = [float(v) for v in (boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max())]
    return {
        "type": "Collection",
        "id": collection,
        "stac_version": "1.0.0",
        "title": f"{collection} (simulated)",
        "description": "Simulated surface reflectance with closed-form truth, in the form of the Planetary Computer.",
        "license": "proprietary",
        "extent": {
            "spatial": {"bbox": [bbox]},
            "temporal": {"interval": [[times[0], times[-1]] if times else [None, None]]},
        },
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            *({"rel": "item", "href": f"./{i['id']}/{i['id']}.json", "type": "application/geo+json"} for i in items),
        ],
    }


def write_cog(path: Path, values: npt.NDArray[np.generic], grid: PixelGrid, *, nodata: float | None) -> None:
    """Write one band as a tiled, deflated, cloud-optimised GeoTIFF."""
    with rasterio.open(
        path,
        "w",
        driver="COG",
        dtype=values.dtype,
        count=1,
        height=values.shape[0],
        width=values.shape[1],
        crs=grid.crs,
        transform=Affine(*grid.transform),
        nodata=nodata,
        compress="DEFLATE",
        predictor=2,
        blocksize=_BLOCK_PX,
        overview_resampling="nearest",
    ) as target:
        target.write(values, 1)


def _dump(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
