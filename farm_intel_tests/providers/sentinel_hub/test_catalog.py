"""Scenes from the Catalog API: paging, tile grids, what real features look like."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import shapely

from farm_intel.domain.errors import NotConfiguredError, SceneProblemError, SceneProblemKind, TransientError
from farm_intel.domain.geo import BBox, PixelGrid
from farm_intel.domain.scenes import Scene, SceneProblem, SceneQuery
from farm_intel.providers.collections.sentinel_hub import BAND_GSD_M
from farm_intel.providers.sentinel_hub.catalog import SentinelHubCatalog, parse_page
from farm_intel.providers.sentinel_hub.client import Answer
from farm_intel.providers.sentinel_hub.options import SentinelHubOptions
from farm_intel.providers.sentinel_hub.scenes import scene_from_feature
from farm_intel.providers.sentinel_hub.tiles import parse_reference, tile_corner, tile_epsg
from farm_intel.simulation.scenes import plan_scenes
from farm_intel_tests.providers.sentinel_hub.conftest import PROFILE, Hub, guard

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "stac_recorded"

FEATURE = {
    "stac_version": "1.0.0",
    "id": "S2A_MSIL2A_20200823T100031_N0214_R122_T32TQM_20200823T121427",
    "type": "Feature",
    "geometry": {
        "type": "MultiPolygon",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC::CRS84"}},
        "coordinates": [
            [
                [
                    [11.3628, 42.4269],
                    [12.7457, 42.3902],
                    [12.8054, 41.4028],
                    [11.4432, 41.4385],
                    [11.3628, 42.4269],
                ]
            ]
        ],
    },
    "bbox": [11.3628, 41.4028, 12.8054, 42.4269],
    "collection": "sentinel-2-l2a",
    "properties": {
        "datetime": "2020-08-23T10:08:09Z",
        "platform": "sentinel-2a",
        "instruments": ["msi"],
        "constellation": "sentinel-2",
        "gsd": 10,
        "eo:cloud_cover": 39.16,
        "proj:epsg": 32632,
        "proj:bbox": [696896.5684521495, 4586375.95284284, 814572.5734874466, 4704040.517882267],
    },
    "assets": {"data": {"href": "s3://sentinel-s2-l2a/tiles/32/T/QM/2020/8/23/0/", "type": "inode/directory"}},
}
"""After recorded features of the service's catalogue (ids, properties and the misleading proj:bbox are recorded)."""


def scene_of(feature: dict[str, object]) -> Scene:
    scene = scene_from_feature(feature, PROFILE, provider="sentinel_hub")
    assert isinstance(scene, Scene)
    return scene


def test_a_real_feature_becomes_a_scene_on_its_tiles_grid() -> None:
    """The grid is the tile's 10,980 pixels (ESA: 32TQM begins at 699960, 4700040), not the recorded proj:bbox."""
    scene = scene_of(FEATURE)
    red, swir = (parse_reference(scene.bands[name].href, "x") for name in ("red", "swir16"))

    assert (scene.tile, scene.platform, scene.epsg) == ("32TQM", "sentinel-2a", 32632)
    assert scene.processing_baseline == "02.14"
    assert scene.acquired_at == datetime(2020, 8, 23, 10, 8, 9, tzinfo=UTC)
    assert scene.cloud_cover_percent == 39.16
    assert red.grid == PixelGrid(
        crs="EPSG:32632", width_px=10980, height_px=10980, pixel_m=10.0, west_m=699960.0, north_m=4700040.0
    )
    assert swir.grid.bounds == red.grid.bounds
    assert swir.grid.pixel_m == 20.0
    assert set(scene.bands) == set(PROFILE.assets)


def recorded_corners() -> dict[str, tuple[float, float]]:
    """Return tile -> upper-left corner of the 10 m bands in recorded items of other catalogues."""
    corners = {}
    for name in (
        "cdse/issue1547_FeatureCollection.json",
        "cdse/issue1043_FeatureCollection.json",
        "mapchete-eo/S2A_OPER_MSI_L2A_TL_2APS_20230603T031757_A041497_T01WCQ.json",
        "mapchete-eo/S2A_OPER_MSI_L2A_TL_2APS_20230602T025701_A041483_T01WCR.json",
        "mapchete-eo/S2A_12RWT_20240106_0_L2A.json",
        "odc-stac/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531_raster_ext.json",
    ):
        content = json.loads((RECORDED / name).read_text())
        for item in content.get("features", [content]):
            properties = item["properties"]
            tile = str(properties.get("s2:mgrs_tile") or properties.get("grid:code")).removeprefix("MGRS-").zfill(5)
            for asset in item["assets"].values():
                transform = asset.get("proj:transform", [0])
                if transform[0] == 10:
                    corners[tile] = (float(transform[2]), float(transform[5]))
    return corners


@pytest.mark.skipif(not RECORDED.exists(), reason="the shared recorded answers are not on this machine")
def test_tile_corners_are_those_of_recorded_items() -> None:
    """North and south, odd and even zones: the corner follows from the tile's name."""
    corners = recorded_corners()

    assert len(corners) >= 6
    for tile, corner in corners.items():
        assert tile_corner(tile, corner[1] - 30_000.0) == corner, tile
        assert tile_corner(tile, corner[1] - 109_000.0) == corner, tile


def test_tile_codes() -> None:
    assert tile_epsg("37MBV") == 32737
    assert tile_epsg("33TVM") == 32633
    assert tile_epsg("1KAB") is None
    assert tile_epsg("99ABC") is None


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"id": "something"}, SceneProblemKind.UNKNOWN_GRID),
        ({"geometry": None}, SceneProblemKind.MISSING_PROJECTION),
        ({"geometry": {"type": "Point", "coordinates": [1, 2]}}, SceneProblemKind.MISSING_PROJECTION),
        ({"properties": {}}, SceneProblemKind.MISSING_DATETIME),
        ({"properties": {"datetime": "soon"}}, SceneProblemKind.MISSING_DATETIME),
    ],
)
def test_what_cannot_be_placed_is_a_problem(change: dict[str, object], kind: SceneProblemKind) -> None:
    found = scene_from_feature({**FEATURE, **change}, PROFILE, provider="sentinel_hub")

    assert isinstance(found, SceneProblem)
    assert found.kind is kind


def test_a_missing_projection_is_read_off_the_tile() -> None:
    properties = {"datetime": "2020-08-23T10:08:09Z"}

    assert scene_of({**FEATURE, "properties": properties}).epsg == 32632


def test_search_finds_every_scene_over_all_pages(hub: Hub) -> None:
    """Three to a page: paging follows `context.next` to the end, and finds what one large page finds."""
    paged = hub.catalog(page_size=3).search(hub.query())
    whole = hub.catalog().search(hub.query())
    planned = {(scene.tile.name, scene.acquired_at.replace(microsecond=0)) for scene in plan_scenes(hub.world)}

    assert {(scene.tile, scene.acquired_at) for scene in paged.scenes} == planned
    assert {scene.scene_id for scene in paged.scenes} == {scene.scene_id for scene in whole.scenes}
    assert paged.requests == -(-len(planned) // 3)
    assert whole.requests == 1
    assert not paged.problems


def test_grids_are_the_worlds_own(hub: Hub) -> None:
    """References lead to the very pixels the satellites of the world took."""
    tiles = {tile.name: tile.grid for tile in hub.world.tiles}
    gsd = BAND_GSD_M[PROFILE.dialect, PROFILE.collection]
    whole = [scene for scene in hub.scenes() if scene.acquired_at.date() == date(2026, 1, 4)]

    assert len(whole) == 2
    for scene in whole:
        for file in scene.bands.values():
            reference = parse_reference(file.href, scene.scene_id)
            assert reference.grid.bounds == tiles[scene.tile].bounds
            assert reference.grid.pixel_m == gsd[reference.band]
            assert reference.acquired_at == scene.acquired_at


def test_only_the_days_asked_for(hub: Hub) -> None:
    found = hub.catalog().search(hub.query(date(2026, 1, 9), date(2026, 1, 9)))

    assert {scene.acquired_at.date() for scene in found.scenes} == {date(2026, 1, 9)}
    assert len(found.scenes) == 2


def test_elsewhere_there_is_nothing(hub: Hub) -> None:
    query = SceneQuery(
        collection=PROFILE.collection,
        bbox=BBox(west=10.0, south=45.0, east=11.0, north=46.0),
        start=date(2026, 1, 1),
        end=date(2026, 3, 1),
    )

    assert hub.catalog().search(query).scenes == ()


def test_another_collection_is_refused(hub: Hub) -> None:
    query = SceneQuery(
        collection="landsat-ot-l2",
        bbox=BBox(west=1, south=1, east=2, north=2),
        start=date(2026, 1, 1),
        end=date(2026, 1, 2),
    )
    with pytest.raises(NotConfiguredError, match="landsat-ot-l2"):
        hub.catalog().search(query)


def test_a_foreign_href_is_refused() -> None:
    with pytest.raises(SceneProblemError, match="no Sentinel Hub reference"):
        parse_reference("https://example.com/B04.tif", "a scene")
    with pytest.raises(SceneProblemError, match="no Sentinel Hub reference"):
        parse_reference("sentinel-hub://sentinel-2-l2a/B04?at=now", "a scene")


def test_pages_without_features_or_context() -> None:
    assert parse_page(Answer(content=b'{"features": []}', headers={})) == ([], None)
    for content in (b"", b"<html>", b'{"features": null}', b"[]", b'{"context": {}}'):
        with pytest.raises(TransientError):
            parse_page(Answer(content=content, headers={}))


def test_options_keep_the_secret_and_refuse_open_roads() -> None:
    options = SentinelHubOptions(client_id="me", client_secret="s3cret")  # noqa: S106 - made up

    assert "s3cret" not in repr(options)
    assert options.host == "services.sentinel-hub.com"
    with pytest.raises(NotConfiguredError, match="only https"):
        SentinelHubOptions(client_id="me", client_secret="s3cret", token_url="http://example.com/t")  # noqa: S106
    with pytest.raises(NotConfiguredError, match="OAuth client"):
        SentinelHubOptions(client_id="", client_secret="")


def test_footprints_across_longitude_180_are_two_boxes() -> None:
    outline = shapely.MultiPolygon([shapely.box(179.5, -17, 180, -16), shapely.box(-180, -17, -179.6, -16)])
    feature = {
        **FEATURE,
        "id": FEATURE["id"].replace("32TQM", "01KAB"),  # type: ignore[attr-defined]  # parsed JSON
        "geometry": shapely.geometry.mapping(outline),
        "properties": {"datetime": "2020-08-23T22:08:09Z", "proj:epsg": 32701},
    }
    scene = scene_of(feature)

    assert scene.bbox == BBox(west=179.5, south=-17, east=-179.6, north=-16)


def test_the_catalogue_is_what_the_port_asks_for(hub: Hub) -> None:
    catalog = SentinelHubCatalog(hub.options(), PROFILE, guard(), provider="sentinel_hub")
    scene = hub.scenes()[0]

    assert catalog.refresh(scene) is scene
    assert scene.provider == catalog.provider == "sentinel_hub"
