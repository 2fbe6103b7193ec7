"""Landsat, MODIS and HLS items as real catalogues wrote them, through their rows."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, solar_day
from farm_intel.providers.collections import profile
from farm_intel.providers.stac.parsing import scene_from_item
from farm_intel_tests.support.stac_items import SHARED_DATA, cassette_items, needs_shared_data, recorded_json

USGS = profile("usgs", "landsat-c2l2-sr")
EARTH_SEARCH = profile("earth-search", "landsat-c2-l2")
SURFACE = profile("planetary-computer", "modis-09A1-061")
VEGETATION = profile("planetary-computer", "modis-13Q1-061")
HLS = profile("planetary-computer", "hls2-s30")
BASE = "https://example.test/items/item.json"


def parsed(item: dict[str, Any], row: CollectionProfile, needed: frozenset[str] = frozenset()) -> Scene:
    scene = scene_from_item(item, row, BASE, provider="landsat", needed=needed)
    assert isinstance(scene, Scene), str(scene)
    return scene


@needs_shared_data
@pytest.mark.parametrize(
    ("name", "platform", "tile", "epsg", "red"),
    [
        ("LC08_L2SP_028030_20200114_20200824_02_T1_SR.json", "landsat-8", "028030", 32615, "SR_B4.TIF"),
        ("LE07_L2SP_044033_20210329_20210424_02_T1_SR.json", "landsat-7", "044033", 32610, "SR_B3.TIF"),
    ],
)
def test_usgs_items_of_two_sensors(name: str, platform: str, tile: str, epsg: int, red: str) -> None:
    """The common name finds the right band although the sensors number them differently; hrefs are the s3 ones."""
    scene = parsed(recorded_json(f"odc-stac/{name}"), USGS, frozenset({"red", "nir08", "swir16"}))

    assert (scene.platform, scene.tile, scene.epsg) == (platform, tile, epsg)
    assert scene.bands["red"].href.startswith("s3://usgs-landsat/")
    assert scene.bands["red"].href.endswith(red)
    assert scene.bands.keys() >= {"blue", "green", "red", "nir08", "swir16", "swir22", "qa_pixel", "qa_radsat"}
    assert scene.problems == ()
    assert scene.bands["red"].nodata == 0.0


@needs_shared_data
def test_landsat_items_in_earth_search_answers() -> None:
    items = [
        item
        for name in ("test_multiple_collections.yaml", "test_fallback_strategy.yaml")
        for item in cassette_items(f"pystac-client/{name}")
        if item["collection"] == "landsat-c2-l2"
    ]
    scenes = [parsed(item, EARTH_SEARCH) for item in items]

    assert len(scenes) >= 2
    for scene, item in zip(scenes, items, strict=True):
        properties = item["properties"]
        assert scene.tile == f"{int(properties['landsat:wrs_path']):03d}{int(properties['landsat:wrs_row']):03d}"
        assert scene.platform in {"landsat-8", "landsat-9"}
        assert scene.bands.keys() >= USGS.bands | {"qa_pixel", "qa_radsat"}
        assert scene.bands["red"].declared_scale == pytest.approx(USGS.radiometry.scale)
        assert scene.bands["red"].declared_offset == pytest.approx(USGS.radiometry.offset)


@needs_shared_data
@pytest.mark.parametrize("folder", ["008059", "017036"])
def test_items_from_before_stac_1_are_understood(folder: str) -> None:
    """`eo:platform`, a date without a time, assets keyed by file name: found by common name, except the masks."""
    path = next((SHARED_DATA / "landsat_c2_l2" / folder).glob("*_SR_stac.json"))
    item = json.loads(path.read_text())
    scene = parsed(item, USGS)

    assert scene.platform == "landsat-8"
    assert scene.tile == folder
    assert scene.bands.keys() == USGS.bands | {"qa_pixel", "qa_radsat"}
    assert scene.bands["red"].asset_key == "SR_B4.TIF"
    assert scene.bands["qa_pixel"].asset_key == "QA_PIXEL.TIF"


def composite(row: CollectionProfile, name: str) -> dict[str, Any]:
    """Return a recorded item with the assets the Planetary Computer adds (the recorded ones are NASA's HDF only)."""
    item = copy.deepcopy(recorded_json(name))
    for key in row.assets.values():
        item["assets"][key] = {
            "href": f"https://modiseuwest.blob.core.windows.net/modis-061-cogs/{item['id']}_{key}.tif",
            "raster:bands": [{"data_type": "int16", "scale": 0.0001}],
        }
    return item


@needs_shared_data
@pytest.mark.parametrize(
    ("row", "name", "tile", "first"),
    [
        (SURFACE, "modis/MOD09A1.A2022033.h19v10.061.json", "h19v10", date(2022, 2, 2)),
        (VEGETATION, "modis/MOD13Q1.A2022017.h12v11.061.json", "h12v11", date(2022, 1, 17)),
    ],
)
def test_a_composite_lies_on_the_first_day_of_its_window_everywhere(
    row: CollectionProfile, name: str, tile: str, first: date
) -> None:
    """`datetime` is null, the window starts at midnight UTC: west of Greenwich a naive day would be one too early."""
    scene = parsed(composite(row, name), row)
    east = scene.bbox.east + (360 if scene.bbox.crosses_antimeridian else 0)

    assert scene.tile == tile
    assert scene.platform == "terra"
    assert scene.epsg is None
    assert scene.problems == ()
    assert {solar_day(scene.acquired_at, lon) for lon in (scene.bbox.west, east)} == {first}
    assert scene.bands["red"].nodata == row.radiometry.nodata


@needs_shared_data
def test_a_composite_that_offers_only_its_source_file_is_refused_with_what_it_has() -> None:
    item = recorded_json("modis/MOD09A1.A2022033.h19v10.061.json")
    problem = scene_from_item(item, SURFACE, BASE, provider="modis")

    assert not isinstance(problem, Scene)
    assert problem.kind is SceneProblemKind.MISSING_ASSET
    assert "hdf" in problem.detail


def test_projection_as_sinusoidal_wkt_is_no_epsg_and_no_problem() -> None:
    wkt = (
        'PROJCS["unnamed",GEOGCS["Unknown datum based upon the custom spheroid",DATUM["Not specified",'
        'SPHEROID["Custom spheroid",6371007.181,0]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433,'
        'AUTHORITY["EPSG","9122"]]],PROJECTION["Sinusoidal"],PARAMETER["longitude_of_center",0],'
        'UNIT["Meter",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    )
    item = {
        "id": "MOD09A1.A2026001.h21v09.061",
        "bbox": [30.0, -10.0, 40.6, 0.0],
        "properties": {
            "datetime": None,
            "start_datetime": "2026-01-01T00:00:00Z",
            "end_datetime": "2026-01-08T23:59:59Z",
            "proj:epsg": None,
            "proj:wkt2": wkt,
            "modis:horizontal-tile": 21,
            "modis:vertical-tile": 9,
        },
        "assets": {key: {"href": f"./{key}.tif"} for key in SURFACE.assets.values()},
    }
    scene = parsed(item, SURFACE)

    assert (scene.tile, scene.epsg, scene.problems) == ("h21v09", None, ())
    assert scene.acquired_at == datetime(2026, 1, 1, 10, tzinfo=UTC)


def test_a_missing_saturation_band_is_noted() -> None:
    item = {
        "id": "LC08_L2SP_168061_20260105_02_T1",
        "bbox": [35.0, -2.0, 37.0, 0.0],
        "properties": {"datetime": "2026-01-05T07:40:00Z", "landsat:wrs_path": "168", "landsat:wrs_row": "061"},
        "assets": {key: {"href": f"./{key}.tif"} for key in EARTH_SEARCH.assets.values() if key != "qa_radsat"},
    }
    scene = parsed(item, EARTH_SEARCH)

    assert [(problem.kind, problem.band) for problem in scene.problems] == [
        (SceneProblemKind.MISSING_ASSET, "qa_radsat")
    ]


def test_hls_tiles_are_read_from_the_id() -> None:
    item = {
        "id": "HLS.S30.T37MBV.2026005T074101.v2.0",
        "bbox": [36.0, -2.0, 37.0, -1.0],
        "properties": {"datetime": "2026-01-05T07:41:01Z", "platform": "sentinel-2b"},
        "assets": {key: {"href": f"./{key}.tif"} for key in (*HLS.assets.values(), "B08")},
    }
    scene = parsed(item, HLS)

    assert scene.tile == "37MBV"
    assert scene.bands["nir08"].asset_key == "B8A"
