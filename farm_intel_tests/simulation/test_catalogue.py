"""What is written: bytes, layout, documents, and every special scene."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.scenes import solar_day
from farm_intel.simulation.catalogue import WorldFiles, load_world, write_world
from farm_intel.simulation.scenes import RadiometricDialect, WorldScene, plan_scenes
from farm_intel.simulation.spectra import BANDS
from farm_intel.simulation.world import FarmWorld
from farm_intel_tests.simulation.conftest import SMALL, Contrast, scene_folder

RECORDED = Path(__file__).parents[3] / "shared/data/sentinel2_33T_120m/items_original/S2A_33TWL_20230815_0_L2A.json"
TINY = replace(SMALL, days=6, farms=4, tile_px=252)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(files: WorldFiles, scene: WorldScene, name: str) -> np.ndarray:
    with rasterio.open(scene_folder(files, scene.scene_id) / name) as source:
        return source.read(1)


def scenes_where(world: FarmWorld, **wanted: object) -> list[WorldScene]:
    return [s for s in plan_scenes(world) if all(getattr(s, key) == value for key, value in wanted.items())]


def items(files: WorldFiles) -> list[pystac.Item]:
    return list(pystac.Catalog.from_file(str(files.catalog)).get_items(recursive=True))


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    world = FarmWorld(TINY)
    first = digests(write_world(world, tmp_path / "a").folder)
    second = digests(write_world(FarmWorld(TINY), tmp_path / "b").folder)
    other = digests(write_world(FarmWorld(replace(TINY, seed=8)), tmp_path / "c").folder)

    assert len(first) > 50
    assert first == second
    assert first != other


def test_a_world_that_is_there_is_left_alone_and_anything_else_is_refused(files: WorldFiles, world, tmp_path) -> None:
    before = {path: path.stat().st_mtime_ns for path in files.folder.rglob("*")}
    assert write_world(world, files.folder) == files
    assert {path: path.stat().st_mtime_ns for path in files.folder.rglob("*")} == before

    with pytest.raises(BadRequestError, match="other options"):
        write_world(FarmWorld(TINY), files.folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    with pytest.raises(BadRequestError, match="no simulated world"):
        write_world(world, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep me"


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    class Interrupting:
        def advance(self, done: int, total: int, detail: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(FarmWorld(TINY), tmp_path / "world", progress=Interrupting())
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_scene(tmp_path: Path) -> None:
    class Counting:
        seen: list[tuple[int, int]] = []

        def advance(self, done: int, total: int, detail: str) -> None:
            self.seen.append((done, total))

    progress = Counting()
    world = FarmWorld(TINY)
    write_world(world, tmp_path / "world", progress=progress)
    total = len(plan_scenes(world))

    assert progress.seen == [(done, total) for done in range(1, total + 1)]


def test_the_world_is_rebuilt_from_its_folder(files: WorldFiles, world: FarmWorld) -> None:
    again = load_world(files.folder)
    day = world.acquisition_days[3]

    assert again.farms == world.farms
    assert again.true_index("F004", day, Contrast()) == world.true_index("F004", day, Contrast())
    with pytest.raises(BadRequestError, match="farm-intel demo"):
        load_world(files.folder / "nothing")


def test_documents_are_valid_stac(files: WorldFiles, world: FarmWorld) -> None:
    """Against the core schemas that pystac carries (1.1; it migrates our 1.0 on reading)."""
    validator = JsonSchemaSTACValidator()
    catalog = pystac.Catalog.from_file(str(files.catalog))
    collection = catalog.get_child("sentinel-2-l2a")
    assert collection is not None
    for thing, kind in [
        (catalog, pystac.STACObjectType.CATALOG),
        (collection, pystac.STACObjectType.COLLECTION),
        *((item, pystac.STACObjectType.ITEM) for item in items(files)),
    ]:
        validator.validate_core(thing.to_dict(), kind, "1.1.0")
    assert {item.id for item in items(files)} == {scene.scene_id for scene in plan_scenes(world)}


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded Earth Search item is not at hand")
def test_items_say_nothing_that_a_recorded_item_does_not_say(files: WorldFiles, world: FarmWorld) -> None:
    recorded = json.loads(RECORDED.read_text())
    scene = plan_scenes(world)[0]
    ours = json.loads((scene_folder(files, scene.scene_id) / f"{scene.scene_id}.json").read_text())

    # `gsd` of the item is from older Earth Search items; this one has it on the assets only.
    assert set(ours["properties"]) - set(recorded["properties"]) == {"gsd"}
    assert set(ours["assets"]) <= set(recorded["assets"])
    for key, asset in ours["assets"].items():
        theirs = recorded["assets"][key]
        assert set(asset) <= set(theirs)
        assert asset["raster:bands"] == theirs["raster:bands"]
        for band, their_band in zip(asset.get("eo:bands", []), theirs.get("eo:bands", []), strict=True):
            assert band == {name: value for name, value in their_band.items() if name != "description"}
    assert ours["properties"]["earthsearch:boa_offset_applied"] is True


def test_files_are_cogs_with_the_blocks_and_overviews_of_the_real_thing(files: WorldFiles, world: FarmWorld) -> None:
    scene = plan_scenes(world)[0]
    tile = scene.tile.grid
    # As with real tiles, all resolutions share corners: the origin is a whole number of 60 m pixels.
    assert all(edge % 60 == 0 for each in world.tiles for edge in (each.grid.west_m, each.grid.north_m))
    for name, gsd, dtype, overviews in [
        *((f"{band.number}.tif", band.gsd_m, "uint16", {10: [2], 20: [], 60: []}[band.gsd_m]) for band in BANDS),
        ("SCL.tif", 20, "uint8", []),
    ]:
        with rasterio.open(scene_folder(files, scene.scene_id) / name) as source:
            structure = source.tags(ns="IMAGE_STRUCTURE")
            assert (source.dtypes[0], source.nodata, source.crs.to_epsg()) == (dtype, 0, scene.tile.epsg)
            assert source.shape == (tile.height_px * 10 // gsd,) * 2
            assert (source.transform.a, source.transform.c, source.transform.f) == (gsd, tile.west_m, tile.north_m)
            assert source.block_shapes[0] == (256, 256)
            assert source.overviews(1) == overviews
            assert (structure["LAYOUT"], structure["COMPRESSION"], structure["PREDICTOR"]) == ("COG", "DEFLATE", "2")


def test_items_agree_with_their_files(files: WorldFiles, world: FarmWorld) -> None:
    for item in items(files)[:4]:
        for asset in item.assets.values():
            with rasterio.open(asset.get_absolute_href()) as source:
                assert asset.extra_fields["proj:shape"] == list(source.shape)
                assert asset.extra_fields["proj:transform"] == list(source.transform)[:6]
        with rasterio.open(item.assets["scl"].get_absolute_href()) as source:
            classes = source.read(1)
        assert item.properties["eo:cloud_cover"] == pytest.approx(100 * np.isin(classes, (8, 9, 10)).mean(), abs=0.01)


def test_every_dialect_occurs_and_declares_what_it_should(files: WorldFiles, world: FarmWorld) -> None:
    by_id = {item.id: item for item in items(files)}
    met = set()
    for scene in plan_scenes(world):
        met.add(scene.dialect)
        properties = by_id[scene.scene_id].properties
        declared = by_id[scene.scene_id].assets["red"].to_dict()["raster:bands"][0]
        flag, offset, baseline_04 = {
            RadiometricDialect.OFFSET_REMOVED: (True, -0.1, True),
            RadiometricDialect.OFFSET_PRESENT: (False, -0.1, True),
            RadiometricDialect.MISLABELLED: (False, -0.1, True),
            RadiometricDialect.BEFORE_0400: (False, 0.0, False),
        }[scene.dialect]
        assert properties["earthsearch:boa_offset_applied"] is flag
        assert (declared["scale"], declared["offset"]) == (0.0001, offset)
        assert (float(properties["s2:processing_baseline"]) >= 4.0) is baseline_04
        clear = np.isin(read(files, scene, "SCL.tif"), (4, 5))
        if clear.mean() > 0.05:
            blue = read(files, scene, "B02.tif")[::2, ::2][clear]
            assert (np.median(blue) > 1000) is np.bool_(scene.dialect is RadiometricDialect.OFFSET_PRESENT)
    assert met == set(RadiometricDialect)


def test_both_tiles_see_the_same_ground_where_they_overlap(files: WorldFiles, world: FarmWorld) -> None:
    """Two zones, two grids, two dialects, one place: medians over the shared strip agree."""
    day = world.acquisition_days[0]
    shared = []
    for scene in scenes_where(world, day=day):
        grid = scene.tile.grid
        columns = slice(-120, -20) if scene.tile.epsg == world.site.epsg_west else slice(20, 120)
        offset = 1000 if scene.dialect.offset_in_pixels else 0
        shared.append((read(files, scene, "B08.tif")[:, columns].astype(float) - offset) / 10_000)
        assert grid.width_px * 10 == SMALL.tile_px * 10
    assert {scene.tile.epsg for scene in scenes_where(world, day=day)} == {32736, 32737}
    assert np.median(shared[0]) == pytest.approx(np.median(shared[1]), abs=0.001)
    assert shared[0].mean() == pytest.approx(shared[1].mean(), abs=0.003)


def test_a_reprocessed_duplicate_has_a_newer_baseline_and_better_pixels(files: WorldFiles, world: FarmWorld) -> None:
    (older,) = [scene for scene in plan_scenes(world) if scene.artefact]
    (newer,) = scenes_where(world, day=older.day, tile=older.tile, sequence=1)
    by_id = {item.id: item.properties for item in items(files)}
    old, new = by_id[older.scene_id], by_id[newer.scene_id]

    assert (older.scene_id.replace("_0_", "_1_"), older.acquired_at) == (newer.scene_id, newer.acquired_at)
    for key in ("s2:processing_baseline", "s2:sequence", "updated", "s2:generation_time"):
        assert new[key] > old[key]
    wrong = read(files, older, "B08.tif").astype(float) - read(files, newer, "B08.tif")
    assert wrong.mean() == pytest.approx(200.0, abs=1.0)
    assert abs((read(files, older, "B04.tif").astype(float) - read(files, newer, "B04.tif")).mean()) < 1.0


def test_truncated_files_open_and_then_fail(files: WorldFiles, world: FarmWorld) -> None:
    """One has a sound older processing, one has no alternative."""
    cut = [scene for scene in plan_scenes(world) if scene.truncated_band]
    assert [len(scenes_where(world, day=scene.day, tile=scene.tile)) for scene in cut] == [2, 1]
    for scene in cut:
        with rasterio.open(scene_folder(files, scene.scene_id) / "B04.tif") as source, pytest.raises(RasterioIOError):
            source.read(1, window=Window(100, source.height - 50, 50, 50))
        assert read(files, scene, "B08.tif").any()
    (sound,) = scenes_where(world, day=cut[0].day, tile=cut[0].tile, sequence=0)
    assert read(files, sound, "B04.tif").all()
    assert sound.baseline < cut[0].baseline


def test_days_of_cloud_snow_haze_and_swath_edge(files: WorldFiles, world: FarmWorld) -> None:
    def share(day: object, *values: int) -> float:
        found = [np.isin(read(files, scene, "SCL.tif"), values).mean() for scene in scenes_where(world, day=day)]
        return float(np.mean(found))

    assert share(world.events.overcast, 9) == 1.0
    assert share(world.events.snow, 11) > 0.1
    assert share(world.events.haze, 10) > 0.1
    (edge,) = scenes_where(world, swath_edge=True)
    footprint = next(item for item in items(files) if item.id == edge.scene_id)
    missing = float((read(files, edge, "SCL.tif") == 0).mean())
    assert footprint.properties["s2:nodata_pixel_percentage"] == pytest.approx(100 * missing, abs=0.01)
    shape = geopandas.GeoSeries.from_wkt([_wkt(footprint)], crs=4326).to_crs(edge.tile.epsg)
    assert float(shape.area.iloc[0]) == pytest.approx((1 - missing) * (SMALL.tile_px * 10.0) ** 2, rel=0.01)


def test_overpasses_are_in_the_morning_of_the_solar_day(world: FarmWorld) -> None:
    antimeridian = FarmWorld(replace(SMALL, site="antimeridian"))
    for each in (world, antimeridian):
        for scene in plan_scenes(each):
            east_of_greenwich = min(scene.tile.longitude_deg, 179.99)
            assert solar_day(scene.acquired_at, east_of_greenwich) == scene.day
            local = scene.acquired_at + timedelta(hours=scene.tile.longitude_deg / 15)
            assert local.hour == 10
    assert {scene.acquired_at.strftime("%H:%M") for scene in plan_scenes(world)} <= {"07:41"}
    platforms = [scene.platform for scene in plan_scenes(world) if scene.tile is world.tiles[0]]
    assert set(platforms) == {"sentinel-2b", "sentinel-2c"}


def test_farms_are_an_importable_file(files: WorldFiles, world: FarmWorld) -> None:
    frame = geopandas.read_file(files.farms)

    assert list(frame["id"]) == [farm.farm_id for farm in world.farms]
    assert frame.geometry.is_valid.all()
    assert set(frame.geom_type) == {"Polygon", "MultiPolygon"}
    assert frame.crs.to_epsg() == 4326
    area = frame.to_crs(world.site.epsg_east).area / 10_000
    np.testing.assert_allclose(area, [farm.area_ha for farm in world.farms], rtol=1e-4)


def test_a_world_on_the_antimeridian_says_so_in_its_boxes(tmp_path: Path) -> None:
    world = FarmWorld(replace(TINY, site="antimeridian", days=1))
    files = write_world(world, tmp_path / "fiji")
    crossing = [item for item in items(files) if item.bbox is not None and item.bbox[0] > item.bbox[2]]

    assert len(crossing) == 2
    assert all(item.geometry is not None and item.geometry["type"] == "MultiPolygon" for item in crossing)
    collection = json.loads((files.folder / "sentinel-2-l2a" / "collection.json").read_text())
    west, _, east, _ = collection["extent"]["spatial"]["bbox"][0]
    assert 179.9 < west < 180.0
    assert -180.0 < east < -179.9


def _wkt(item: pystac.Item) -> str:
    from shapely.geometry import shape

    return shape(item.geometry).wkt
