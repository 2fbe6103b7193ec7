"""A world's STAC items as each real catalogue would write them: keys, ids, properties, versions and hrefs.

Shapes follow recorded items of Earth Search v1, the Planetary Computer, CDSE and USGS landsatlook. What the pixels
hold decides what the metadata may say: the Planetary Computer and CDSE have no "offset removed" products, so scenes
without the offset in their pixels appear there as products of a baseline before 04.00.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm_intel.domain.errors import UnknownNameError
from farm_intel.simulation.sensors import COLLECTIONS, HLS_L30, HLS_S30, LANDSAT, MODIS, MODIS_VI, SENTINEL_2
from farm_intel.simulation.spectra import BANDS

Json = dict[str, Any]
EARTH_SEARCH, PLANETARY_COMPUTER, CDSE, USGS = "earth-search", "planetary-computer", "cdse", "usgs"
SERVED: Mapping[str, tuple[str, ...]] = {
    EARTH_SEARCH: (SENTINEL_2, LANDSAT),
    PLANETARY_COMPUTER: (SENTINEL_2, LANDSAT, MODIS, MODIS_VI, HLS_L30, HLS_S30),
    CDSE: (SENTINEL_2,),
    USGS: (LANDSAT,),
}
"""Dialect -> sensors it has."""
BLOB_CONTAINERS: Mapping[str, str] = {
    SENTINEL_2: "sentinel2l2a01/sentinel2-l2",
    LANDSAT: "landsateuwest/landsat-c2",
    MODIS: "modiseuwest/modis-061-cogs",
    MODIS_VI: "modiseuwest/modis-061-cogs",
    HLS_L30: "hlssa/hls2",
    HLS_S30: "hlssa/hls2",
}
"""Sensor -> storage account and container of the Planetary Computer."""
_BAND_NUMBERS = {band.asset_key: band for band in BANDS}
_CDSE_EXTENSIONS = ("eo/v2.0.0", "projection/v2.0.0", "raster/v2.0.0", "storage/v2.0.0", "alternate-assets/v1.2.0")


@dataclass(frozen=True, slots=True)
class WorldItems:
    """Every item of a written world."""

    folder: Path
    items: tuple[tuple[str, Json], ...]
    """(sensor, item) with hrefs as paths below the folder."""
    offset_present: frozenset[str]
    """Ids of Sentinel-2 scenes whose pixels carry the additive offset."""


def read_world_items(folder: Path) -> WorldItems:
    """Return the items of the world in `folder`, by sensor, time and id."""
    truth = json.loads((folder / "truth.json").read_text())
    found: list[tuple[str, Json]] = []
    for sensor, collection in COLLECTIONS.items():
        for path in sorted((folder / collection).glob("*/*.json")):
            item = json.loads(path.read_text())
            for asset in item["assets"].values():
                asset["href"] = str((path.parent / asset["href"]).resolve().relative_to(folder.resolve()))
            found.append((sensor, item))
    found.sort(key=lambda entry: (COLLECTIONS[entry[0]], moment(entry[1]), entry[1]["id"]))
    present = frozenset(name for name, scene in truth["scenes"].items() if scene["dialect"] == "offset_present")
    return WorldItems(folder=folder, items=tuple(found), offset_present=present)


def moment(item: Json) -> str:
    """Return an item's time as text: composites begin with their window."""
    return str(item["properties"]["datetime"] or item["properties"]["start_datetime"])


def dressed_items(world: WorldItems, dialect: str) -> list[Json]:
    """Return the items of a dialect; public hrefs are left as `{base}/…` for the server's own address.

    Raises:
        UnknownNameError: no such dialect.

    """
    if dialect not in SERVED:
        raise UnknownNameError(f"no catalogue dialect {dialect!r}", hint=f"There are: {', '.join(SERVED)}.")
    items = []
    for sensor, item in world.items:
        if sensor not in SERVED[dialect]:
            continue
        own = copy.deepcopy(item)
        own["links"] = []
        items.append(_DRESS[dialect](own, sensor, world))
    return items


def _earth_search(item: Json, sensor: str, world: WorldItems) -> Json:  # noqa: ARG001 - one signature for all dialects
    for asset in item["assets"].values():
        path = asset["href"]
        asset["href"] = "{base}/data/" + path if sensor == SENTINEL_2 else f"s3://usgs-landsat/{path}"
    if sensor == LANDSAT:
        item["properties"]["storage:requester_pays"] = True
    return item


def _planetary_computer(item: Json, sensor: str, world: WorldItems) -> Json:
    account, _, container = BLOB_CONTAINERS[sensor].partition("/")
    for asset in item["assets"].values():
        # Plain http, so that the real readers can be sent here through an HTTP proxy without a tunnel.
        asset["href"] = f"http://{account}.blob.core.windows.net/{container}/{asset['href']}"
    return _planetary_sentinel(item, world) if sensor == SENTINEL_2 else item


def _planetary_sentinel(item: Json, world: WorldItems) -> Json:
    properties = item["properties"]
    baseline = _baseline(item, world)
    product = _product(item, baseline)
    tile = item["properties"]["grid:code"].removeprefix("MGRS-").zfill(5)
    kept = {key: properties[key] for key in ("datetime", "created", "updated", "eo:cloud_cover", "proj:epsg")}
    item["id"] = re.sub(r"_N\d{4}_", "_", product)
    item["properties"] = {
        **kept,
        "platform": f"Sentinel-{properties['platform'].removeprefix('sentinel-').upper()}",
        "constellation": "Sentinel 2",
        "instruments": ["msi"],
        "s2:mgrs_tile": tile,
        "s2:processing_baseline": baseline,
        "s2:generation_time": properties["s2:generation_time"],
        "s2:product_uri": f"{product}.SAFE",
        "s2:nodata_pixel_percentage": properties["s2:nodata_pixel_percentage"],
    }
    assets = {}
    for key, asset in item["assets"].items():
        asset.pop("raster:bands", None)
        band = _BAND_NUMBERS.get(key)
        if band is not None:
            common = "rededge" if band.number == "B8A" else band.declared_common_name
            asset["eo:bands"] = [{"name": band.number, "common_name": common, "center_wavelength": band.center_um}]
        assets[band.number if band else key.upper()] = asset
    item["assets"] = assets
    return item


def _cdse(item: Json, sensor: str, world: WorldItems) -> Json:  # noqa: ARG001 - one signature for all dialects
    properties = item["properties"]
    baseline = _baseline(item, world)
    epsg = properties["proj:epsg"]
    offset = -0.1 if item["id"] in world.offset_present else 0.0
    item["stac_version"] = "1.1.0"
    item["stac_extensions"] = [f"https://stac-extensions.github.io/{name}/schema.json" for name in _CDSE_EXTENSIONS]
    assets = {}
    for key, asset in item["assets"].items():
        band = _BAND_NUMBERS.get(key)
        gsd = band.gsd_m if band else 20
        path = Path(asset["href"]).with_suffix(".jp2").as_posix()
        own = {
            "href": f"s3://eodata/{path}",
            "type": "image/jp2",
            "roles": ["data", "reflectance", f"gsd:{gsd}m"] if band else ["data"],
            "gsd": gsd,
            "proj:code": f"EPSG:{epsg}",
            "proj:shape": asset["proj:shape"],
            "proj:transform": asset["proj:transform"],
            "nodata": 0,
            "data_type": "uint16" if band else "uint8",
            "alternate": {"https": {"href": "https://download.dataspace.copernicus.eu/odata/v1/Products(x)/$value"}},
        }
        if band:
            names = {"name": band.number, "eo:common_name": band.declared_common_name}
            own |= {"raster:scale": 0.0001, "raster:offset": offset, "bands": [names]}
        assets[f"{band.number if band else 'SCL'}_{gsd}m"] = own
    item["assets"] = assets
    item["id"] = _product(item, baseline)
    kept = ("datetime", "created", "updated", "platform", "constellation", "instruments", "eo:cloud_cover", "grid:code")
    item["properties"] = {key: properties[key] for key in kept} | {
        "gsd": 10,
        "processing:version": baseline,
        "processing:datetime": properties["s2:generation_time"],
        "product:type": "S2MSI2A",
    }
    return item


def _usgs(item: Json, sensor: str, world: WorldItems) -> Json:  # noqa: ARG001 - one signature for all dialects
    item["id"] += "_SR"
    item["collection"] = "landsat-c2l2-sr"
    item["properties"]["platform"] = item["properties"]["platform"].upper().replace("-", "_")
    for asset in item["assets"].values():
        path = asset["href"]
        asset.pop("raster:bands", None)
        asset["type"] = "image/vnd.stac.geotiff; cloud-optimized=true"
        # The https way needs a login there; nobody here answers it.
        asset["href"] = f"https://landsatlook.usgs.gov/data/{path}"
        s3 = {"storage:platform": "AWS", "storage:requester_pays": True, "href": f"s3://usgs-landsat/{path}"}
        asset["alternate"] = {"s3": s3}
    return item


_DRESS = {EARTH_SEARCH: _earth_search, PLANETARY_COMPUTER: _planetary_computer, CDSE: _cdse, USGS: _usgs}


def _baseline(item: Json, world: WorldItems) -> str:
    return item["properties"]["s2:processing_baseline"] if item["id"] in world.offset_present else "03.01"


def _product(item: Json, baseline: str) -> str:
    uri = str(item["properties"]["s2:product_uri"]).removesuffix(".SAFE")
    return re.sub(r"_N\d{4}_", f"_N{baseline.replace('.', '')}_", uri)
