"""From items, as real catalogues wrote them, to scenes and problems."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import shapely

from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.geo import BBox
from farm_intel.domain.products import CollectionProfile, OffsetRule
from farm_intel.domain.scenes import Scene, SceneProblem
from farm_intel.providers.collections import profile
from farm_intel.providers.stac.parsing import scene_from_item
from farm_intel_tests.support.stac_items import (
    SHARED_DATA,
    cassette_items,
    make_item,
    needs_shared_data,
    recorded_json,
)

EARTH_SEARCH = profile("earth-search", "sentinel-2-l2a")
PLANETARY_COMPUTER = profile("planetary-computer", "sentinel-2-l2a")
CDSE = profile("cdse", "sentinel-2-l2a")
MORNING = datetime(2026, 1, 4, 7, 41, 1, tzinfo=UTC)
ITEM = make_item("S2B_37MBV_20260104_0_L2A", MORNING)
BASE = "https://example.test/catalog/items/item.json"


def parsed(item: dict[str, Any], row: CollectionProfile = EARTH_SEARCH, base: str = BASE) -> Scene:
    scene = scene_from_item(item, row, base, provider="stac")
    assert isinstance(scene, Scene), str(scene)
    return scene


def refused(item: dict[str, Any], row: CollectionProfile = EARTH_SEARCH) -> SceneProblem:
    problem = scene_from_item(item, row, BASE, provider="stac")
    assert isinstance(problem, SceneProblem)
    return problem


def changed(**properties: Any) -> dict[str, Any]:
    item = copy.deepcopy(ITEM)
    item["properties"].update(properties)
    return item


RECORDED_ITEMS = [
    ("cdse/issue1043_FeatureCollection.json", CDSE),
    ("cdse/issue1547_FeatureCollection.json", CDSE),
    ("xcube-stac/StacDataStoreTest.test_open_data_cdse_sen2.yaml", CDSE),
    ("xcube-stac/StacDataStoreTest.test_search_data_cdse_sentinel_2.yaml", CDSE),
    ("xcube-stac/StacDataStoreTest.test_search_data_searchable_catalog.yaml", EARTH_SEARCH),
    ("pystac-client/test_multiple_collections.yaml", EARTH_SEARCH),
    ("mapchete-eo/S2A_12RWT_20240106_0_L2A.json", EARTH_SEARCH),
    ("mapchete-eo/S2A_OPER_MSI_L2A_TL_2APS_20230602T025701_A041483_T01WCR.json", EARTH_SEARCH),
    ("mapchete-eo/S2A_OPER_MSI_L2A_TL_2APS_20230603T031757_A041497_T01WCQ.json", EARTH_SEARCH),
    ("odc-stac/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json", PLANETARY_COMPUTER),
    ("odc-stac/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531_raster_ext.json", PLANETARY_COMPUTER),
    ("odc-stac/site1-20200606-tall-strip-africa.geojson", PLANETARY_COMPUTER),
    ("odc-stac/site2-2020_jun_jul-35MNM.geojson", PLANETARY_COMPUTER),
]


def recorded_items(name: str) -> list[dict[str, Any]]:
    if name.endswith(".yaml"):
        items = list(cassette_items(name))
    else:
        document = recorded_json(name)
        items = document["features"] if document["type"] == "FeatureCollection" else [document]
    return [item for item in items if str(item["collection"]).startswith("sentinel")]


@needs_shared_data
@pytest.mark.parametrize(("name", "row"), RECORDED_ITEMS, ids=[name for name, _ in RECORDED_ITEMS])
def test_recorded_items_offer_every_band_of_their_profile(name: str, row: CollectionProfile) -> None:
    """Real answers of three catalogues: all thirteen bands, projection, tile and time are understood."""
    items = recorded_items(name)

    assert items
    for item in items:
        scene = parsed(item, row)
        assert set(scene.bands) == set(row.assets)
        assert {file.asset_key for file in scene.bands.values()} == set(row.assets.values())
        assert scene.problems == ()
        assert scene.epsg is not None
        assert scene.epsg // 100 in (326, 327)
        assert scene.epsg % 100 == int(scene.tile[:2])
        assert scene.acquired_at == datetime.fromisoformat(item["properties"]["datetime"])
        assert scene.platform in ("sentinel-2a", "sentinel-2b", "sentinel-2c")
        assert scene.processing_baseline is not None
        assert all(file.nodata == 0 for file in scene.bands.values())


@needs_shared_data
@pytest.mark.parametrize(("name", "row"), RECORDED_ITEMS[:7] + RECORDED_ITEMS[9:], ids=lambda value: str(value)[:60])
def test_boxes_agree_with_the_catalogue_away_from_the_antimeridian(name: str, row: CollectionProfile) -> None:
    for item in recorded_items(name):
        scene = parsed(item, row)
        box = scene.bbox
        assert (box.west, box.south, box.east, box.north) == pytest.approx(item["bbox"], abs=1e-4)
        assert shapely.from_wkb(scene.footprint_wkb).equals(shapely.geometry.shape(item["geometry"]))


@needs_shared_data
@pytest.mark.parametrize(
    ("tile", "west", "east"),
    [
        ("20230602T025701_A041483_T01WCR", (179.5, 67.55), (-179.5, 68.0)),
        ("20230603T031757_A041497_T01WCQ", (179.95, 66.65), (-179.6, 66.9)),
    ],
)
def test_a_tile_over_the_antimeridian_is_small_and_in_two_parts(
    tile: str, west: tuple[float, float], east: tuple[float, float]
) -> None:
    """The recorded item's own box runs from -179 to 178, once around the globe."""
    scene = parsed(recorded_json(f"mapchete-eo/S2A_OPER_MSI_L2A_TL_2APS_{tile}.json"))
    footprint = shapely.from_wkb(scene.footprint_wkb)

    assert scene.bbox.crosses_antimeridian
    assert sum(part.east - part.west for part in scene.bbox.split()) < 5
    assert footprint.is_valid
    assert len(footprint.geoms) == 2
    assert footprint.area < 4
    assert footprint.intersects(shapely.Point(west))
    assert footprint.intersects(shapely.Point(east))
    assert not footprint.intersects(shapely.Point(0, west[1]))
    assert not scene.bbox.intersects(BBox(west=0, south=60, east=1, north=70))


@needs_shared_data
def test_real_earth_search_items_keep_the_flag_apart_from_the_contradicting_metadata() -> None:
    """In these, the offset was removed from the pixels (flag) and is declared all the same (raster metadata)."""
    folder = SHARED_DATA / "sentinel2_33T_120m" / "items"
    scenes = [parsed(json.loads(path.read_text()), base=str(path)) for path in sorted(folder.glob("*.json"))]

    assert len(scenes) == 10
    assert EARTH_SEARCH.radiometry.offset_rule is OffsetRule.FLAG
    for scene in scenes:
        assert scene.offset_applied is True
        assert scene.bands["red"].declared_offset == -0.1
        assert scene.tile in ("33TWL", "33TWM")
        for file in scene.bands.values():
            assert (SHARED_DATA / "sentinel2_33T_120m" / scene.scene_id).samefile(file.href.rpartition("/")[0])


def test_native_resolution_keys_are_chosen_where_a_catalogue_offers_copies() -> None:
    assert CDSE.assets["nir"] == "B08_10m"
    assert CDSE.assets["nir08"] == "B8A_20m"
    assert CDSE.assets["coastal"] == "B01_60m"
    assert CDSE.assets["scl"] == "SCL_20m"


@pytest.mark.parametrize(
    ("properties", "epsg"),
    [
        ({"proj:epsg": 32737}, 32737),
        ({"proj:epsg": None, "proj:code": "EPSG:32737"}, 32737),
        ({"proj:epsg": "32737"}, 32737),
        ({"proj:epsg": None, "proj:code": 32737}, 32737),
        ({"proj:epsg": None, "proj:wkt2": 'PROJCRS["WGS 84 / UTM 37S",ID["EPSG",32737]]'}, 32737),
        (
            {"proj:epsg": None, "proj:wkt2": 'PROJCRS["Sinusoidal",BASEGEOGCRS["x",ID["EPSG",4326]],CS[Cartesian,2]]'},
            None,
        ),
        ({"proj:epsg": None, "proj:projjson": {"id": {"authority": "EPSG", "code": 32737}}}, 32737),
        ({"proj:epsg": None}, None),
        ({"proj:epsg": None, "proj:code": "IAU_2015:30100"}, None),
    ],
)
def test_projection_is_understood_in_every_spelling_and_may_be_missing(
    properties: dict[str, Any], epsg: int | None
) -> None:
    scene = parsed(changed(**properties))

    assert scene.epsg == epsg
    assert scene.problems == ()


def test_a_missing_mask_is_a_problem_that_names_what_the_item_has() -> None:
    item = copy.deepcopy(ITEM)
    del item["assets"]["scl"]

    scene = parsed(item)

    assert [(p.kind, p.band) for p in scene.problems] == [(SceneProblemKind.MISSING_ASSET, "scl")]
    assert "blue, green, nir, red, swir16" in scene.problems[0].detail


def test_a_missing_band_is_a_problem_only_for_who_needs_it() -> None:
    needed = frozenset({"red", "swir22"})

    assert parsed(ITEM).problems == ()
    scene = scene_from_item(ITEM, EARTH_SEARCH, BASE, provider="stac", needed=needed)
    assert isinstance(scene, Scene)
    assert [(p.kind, p.band) for p in scene.problems] == [(SceneProblemKind.MISSING_ASSET, "swir22")]


def test_an_item_without_any_band_is_refused_with_the_keys_it_has() -> None:
    item = {**ITEM, "assets": {"thumbnail": {"href": "t.jpg"}, "VV": {"href": "vv.tif"}}}

    problem = refused(item)

    assert problem.kind is SceneProblemKind.MISSING_ASSET
    assert "VV, thumbnail" in problem.detail
    assert "rededge1" in problem.detail


def test_renamed_assets_are_found_by_their_common_name_at_the_best_resolution() -> None:
    item = copy.deepcopy(ITEM)
    red = item["assets"].pop("red")
    names = [{"name": n, "common_name": n} for n in ("red", "green", "blue")]
    item["assets"] |= {
        "preview": {"href": "p.tif", "eo:bands": names, "gsd": 10},
        "B04_60m": red | {"href": "r60.tif", "gsd": 60},
        "B04": {**red, "href": "r10.tif", "gsd": 10, "bands": [{"eo:common_name": "red"}]},
        "B04-jp2": red | {"href": "r10.jp2", "gsd": 10, "type": "image/jp2"},
        "SCL": item["assets"].pop("scl"),
    }

    scene = parsed(item)

    assert scene.bands["red"].asset_key == "B04"
    assert scene.bands["scl"].asset_key == "SCL"


def test_a_wrong_common_name_does_not_win_over_the_profile() -> None:
    """Planetary Computer labels B8A `rededge`, and a narrow infrared band must not be taken for one of red edge."""
    item = copy.deepcopy(ITEM)
    item["assets"] = {
        "B8A": {"href": "b8a.tif", "eo:bands": [{"common_name": "rededge"}]},
        "B05": {"href": "b05.tif", "eo:bands": [{"common_name": "rededge"}]},
        "SCL": {"href": "scl.tif"},
    }

    scene = parsed(item, PLANETARY_COMPUTER)

    assert {name: file.asset_key for name, file in scene.bands.items()} == {
        "nir08": "B8A",
        "rededge071": "B05",
        "scl": "SCL",
    }


@pytest.mark.parametrize("said", [None, "", "yesterday"])
def test_an_item_without_a_time_is_refused(said: str | None) -> None:
    assert refused(changed(datetime=said)).kind is SceneProblemKind.MISSING_DATETIME


def test_a_composite_is_dated_by_its_first_day() -> None:
    scene = parsed(changed(datetime=None, start_datetime="2026-01-01T00:00:00Z", end_datetime="2026-01-08T00:00:00Z"))

    assert scene.acquired_at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("said", ["2026-01-04T07:41:01Z", "2026-01-04T10:41:01+03:00", "2026-01-04T07:41:01"])
def test_times_are_utc_whatever_their_zone(said: str) -> None:
    scene = parsed(changed(datetime=said))

    assert scene.acquired_at == MORNING
    assert scene.acquired_at.tzinfo is UTC


def test_an_item_that_is_nowhere_is_refused() -> None:
    item = {**ITEM, "geometry": None, "bbox": None}

    assert refused(item).kind is SceneProblemKind.MISSING_PROJECTION


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [
        ([36, -1, 37, 0], BBox(west=36, south=-1, east=37, north=0)),
        ([36, -1, 0, 37, 0, 900], BBox(west=36, south=-1, east=37, north=0)),
        ([179, -1, -179, 0], BBox(west=179, south=-1, east=-179, north=0)),
        ([-179, -1, 179, 0], BBox(west=179, south=-1, east=-179, north=0)),
        ([-180, -90, 180, 90], BBox(west=-180, south=-90, east=180, north=90)),
    ],
)
def test_without_a_geometry_the_box_is_used(bbox: list[float], expected: BBox) -> None:
    scene = parsed({**ITEM, "geometry": None, "bbox": bbox})

    assert scene.bbox == expected
    assert scene.footprint_wkb is None


def ring(*points: tuple[float, float]) -> list[list[list[float]]]:
    return [[list(point) for point in (*points, points[0])]]


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon", "coordinates": ring((179, 0), (-179, 0), (-179, 1), (179, 1))},
        {"type": "Polygon", "coordinates": ring((179, 0), (181, 0), (181, 1), (179, 1))},
        {
            "type": "MultiPolygon",
            "coordinates": [
                ring((179, 0), (180, 0), (180, 1), (179, 1)),
                ring((-180, 0), (-179, 0), (-179, 1), (-180, 1)),
            ],
        },
    ],
    ids=["jumping ring", "longitudes above 180", "cut in two"],
)
def test_every_way_to_draw_a_tile_over_the_antimeridian_gives_the_same_scene(geometry: dict[str, Any]) -> None:
    scene = parsed({**ITEM, "geometry": geometry})
    footprint = shapely.from_wkb(scene.footprint_wkb)

    assert scene.bbox == BBox(west=179, south=0, east=-179, north=1)
    assert footprint.area == pytest.approx(2.0)
    assert footprint.intersects(shapely.Point(-179.5, 0.5))
    assert footprint.intersects(shapely.Point(179.5, 0.5))


def test_undeclared_nodata_is_noted_and_the_profiles_is_used() -> None:
    item = copy.deepcopy(ITEM)
    for name in ("red", "nir"):
        item["assets"][name]["raster:bands"] = [{"scale": 0.0001, "offset": -0.1}]

    scene = parsed(item)

    assert [p.kind for p in scene.problems] == [SceneProblemKind.MISSING_NODATA]
    assert "nir, red" in scene.problems[0].detail
    assert scene.bands["red"].nodata == 0


def test_scale_offset_and_nodata_are_read_in_old_and_new_stac() -> None:
    item = copy.deepcopy(ITEM)
    item["assets"]["red"].pop("raster:bands")
    item["assets"]["red"] |= {"nodata": 7, "raster:scale": 0.0002, "raster:offset": -0.2}
    item["assets"]["nir"].pop("raster:bands")
    item["assets"]["nir"]["bands"] = [{"nodata": "nan", "raster:scale": 0.0003, "raster:offset": 0}]

    bands = parsed(item).bands

    assert (bands["red"].nodata, bands["red"].declared_scale, bands["red"].declared_offset) == (7, 0.0002, -0.2)
    assert (bands["nir"].declared_scale, bands["nir"].declared_offset) == (0.0003, 0)
    assert bands["nir"].nodata != bands["nir"].nodata
    assert (bands["blue"].nodata, bands["blue"].declared_scale, bands["blue"].declared_offset) == (0, 0.0001, -0.1)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"s2:processing_baseline": "02.12"}, {"s2:processing_baseline": "05.10"}),
        ({"s2:processing_baseline": "05.09"}, {"s2:processing_baseline": "05.10"}),
        ({"s2:sequence": "9"}, {"s2:sequence": "10"}),
        ({"updated": "2026-01-02T00:00:00Z"}, {"updated": "2026-01-03T00:00:00Z"}),
        ({"s2:generation_time": "2022-01-01T00:00:00Z"}, {"s2:generation_time": "2023-01-01T00:00:00Z"}),
    ],
)
def test_revisions_order_reprocessings(older: dict[str, Any], newer: dict[str, Any]) -> None:
    assert parsed(changed(**older)).revision < parsed(changed(**newer)).revision


@pytest.mark.parametrize(
    ("scene_id", "properties", "tile"),
    [
        ("x", {"grid:code": "MGRS-37MBV"}, "37MBV"),
        ("x", {"grid:code": "MGRS-1WCR"}, "01WCR"),
        ("x", {"grid:code": None, "s2:mgrs_tile": "06VVN"}, "06VVN"),
        ("S2B_37MBV_20260104_0_L2A", {"grid:code": None}, "37MBV"),
        ("S2B_T37MBV_20260104T074101_L2A", {"grid:code": None}, "37MBV"),
        ("S2A_MSIL2A_20200307T101021_R022_T01WCR_20200307T144000", {"grid:code": None}, "01WCR"),
        ("no_tile_here", {"grid:code": None}, ""),
        ("x", {"grid:code": "WRS2-168061"}, "168061"),
    ],
)
def test_tiles_have_one_spelling(scene_id: str, properties: dict[str, Any], tile: str) -> None:
    assert parsed({**changed(**properties), "id": scene_id}).tile == tile


@pytest.mark.parametrize(
    ("href", "base", "expected"),
    [
        ("./a/b.tif", "https://h/c/items/x.json", "https://h/c/items/a/b.tif"),
        ("../b.tif", "https://h/c/items/x.json", "https://h/c/b.tif"),
        ("s3://bucket/b.tif", "https://h/c/items/x.json", "s3://bucket/b.tif"),
        ("./a/b.tif", "/data/items/x.json", "/data/items/a/b.tif"),
        ("../b.tif", "/data/items/x.json", "/data/b.tif"),
        ("/elsewhere/b.tif", "/data/items/x.json", "/elsewhere/b.tif"),
        ("file:///elsewhere/b%20c.tif", "/data/items/x.json", "/elsewhere/b c.tif"),
        ("https://h/b.tif", "/data/items/x.json", "https://h/b.tif"),
    ],
)
def test_hrefs_count_from_where_the_item_is(href: str, base: str, expected: str) -> None:
    item = copy.deepcopy(ITEM)
    item["assets"]["red"]["href"] = href

    assert parsed(item, base=base).bands["red"].href == expected


def test_a_remote_catalogue_cannot_make_us_open_local_files() -> None:
    item = copy.deepcopy(ITEM)
    item["assets"]["red"]["href"] = "file:///etc/passwd"

    assert "red" not in parsed(item, base="https://h/x.json").bands


def test_a_signature_left_in_a_planetary_computer_href_is_dropped() -> None:
    item = copy.deepcopy(ITEM)
    item["assets"] = {"B04": {"href": "https://acc.blob.core.windows.net/c/B04.tif?st=1&se=2&sp=rl&sig=abc"}}

    assert parsed(item, PLANETARY_COMPUTER).bands["red"].href == "https://acc.blob.core.windows.net/c/B04.tif"
