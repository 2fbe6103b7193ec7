"""Landsat and MODIS pixels of the world against the closed form they are means of, and their files."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.products import PixelReason
from farm_intel.domain.scenes import Scene
from farm_intel.providers.collections import landsat as landsat_rows
from farm_intel.providers.collections import modis as modis_rows
from farm_intel.providers.collections import profile
from farm_intel.providers.stac.parsing import scene_from_item
from farm_intel.simulation import landsat, modis
from farm_intel.simulation.catalogue import WorldFiles, write_world
from farm_intel.simulation.world import FarmWorld
from farm_intel_tests.simulation.conftest import SMALL

QUIET = replace(SMALL, noise=0.0)
SENSORS = ("sentinel-2", "landsat", "modis")


@pytest.fixture(scope="module")
def quiet() -> FarmWorld:
    return FarmWorld(QUIET)


@pytest.fixture(scope="module")
def ground(quiet: FarmWorld) -> landsat.LandsatGround:
    return landsat.LandsatGround(quiet)


@pytest.fixture(scope="module")
def composites(quiet: FarmWorld) -> modis.ModisGround:
    return modis.ModisGround(quiet)


def points_of(grid, rows, cols, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (pixels, n * n) coordinates of n x n points in each pixel."""
    steps = (np.arange(n) + 0.5) / n
    across, down = (values.ravel() for values in np.meshgrid(steps, steps))
    x = grid.west_m + (cols[:, None] + across) * grid.pixel_m
    y = grid.north_m - (rows[:, None] + down) * grid.pixel_m
    return x, y


def test_landsat_pixels_are_means_of_the_ground_and_sky_in_them(quiet, ground) -> None:
    scene = next(s for s in landsat.landsat_scenes(quiet) if len(quiet.sky(s.day)) and not s.saturated)
    arrays = ground.render(scene)
    rng = np.random.default_rng(5)
    cover = ground._ground._labels
    assert len(np.unique(cover)) > 10
    rows, cols = (rng.integers(0, edge, 700) for edge in (ground.grid.height_px, ground.grid.width_px))
    x, y = points_of(ground.grid, rows, cols, 12)
    truth = quiet.reflectance(x, y, scene.day, 32637)
    for name in ("blue", "nir08", "swir16"):
        expected = truth[name].mean(axis=1)
        seen = arrays.bands[name][rows, cols] * 2.75e-05 - 0.2

        # Points within a millimetre of an edge may fall to either side.
        assert np.quantile(np.abs(seen - expected), 0.995) < 2e-5 + 1e-6
        assert expected.std() > 0.01


def test_the_landsat_grid_is_a_northern_zone_with_edges_at_odd_multiples_of_15_m(quiet, ground) -> None:
    grid = ground.grid

    assert grid.crs == "EPSG:32637"
    assert grid.north_m < 0
    assert grid.west_m % 30 == 15
    assert grid.north_m % 30 == 15
    assert {(s.day - QUIET.start).days % 8 for s in landsat.landsat_scenes(quiet)} == {3}
    assert {s.platform for s in landsat.landsat_scenes(quiet)} == {"landsat-8", "landsat-9"}


def test_landsat_pixels_called_clear_hold_nothing_of_the_sky(quiet, ground) -> None:
    scene = next(s for s in landsat.landsat_scenes(quiet) if len(quiet.sky(s.day)) and not s.saturated)
    arrays = ground.render(scene)
    bare = landsat.LandsatGround(FarmWorld(replace(QUIET, cloudiness=0.0))).render(scene)
    clear = landsat_rows.PIXEL_QUALITY.lookup()[arrays.qa_pixel] == PixelReason.VALID

    assert 0.05 < clear.mean() < 0.999
    assert np.array_equal(arrays.bands["nir08"][clear], bare.bands["nir08"][clear])
    assert not np.array_equal(arrays.bands["nir08"], bare.bands["nir08"])


def test_saturation_is_told_by_qa_radsat_alone(quiet, ground) -> None:
    (scene,) = (s for s in landsat.landsat_scenes(quiet) if s.saturated)
    arrays = ground.render(scene)
    spot = landsat_rows.SATURATION.lookup()[arrays.qa_radsat] == PixelReason.SATURATED

    assert 20 < spot.sum() < 100
    assert (arrays.bands["red"][spot] == landsat.SATURATED_DN).all()


def test_modis_pixels_are_means_over_their_own_day(quiet, composites) -> None:
    scene = modis.modis_scenes(quiet)[1]
    arrays = composites.render(scene)
    to_lonlat = Transformer.from_crs(modis.SINUSOIDAL_WKT, "EPSG:4326", always_xy=True)
    rng = np.random.default_rng(3)
    shape = arrays.day_of_year.shape
    rows, cols = (rng.integers(0, edge, 40) for edge in shape)
    x, y = points_of(composites.grid, rows, cols, 96)
    lon, lat = to_lonlat.transform(x, y)
    for i, (row, col) in enumerate(zip(rows, cols, strict=True)):
        day = scene.first + timedelta(days=int(arrays.day_of_year[row, col]) - scene.first.timetuple().tm_yday)
        truth = quiet.reflectance(lon[i], lat[i], day, 4326)
        for name in ("red", "nir08"):
            assert arrays.bands[name][row, col] / 10_000 == pytest.approx(truth[name].mean(), abs=1e-4)
    assert scene.first.timetuple().tm_yday % 8 == 1
    assert len(np.unique(arrays.day_of_year)) >= 5
    assert set(np.unique(arrays.day_of_year)) <= {day.timetuple().tm_yday for day in scene.days}


def test_the_modis_grid_is_a_part_of_the_global_one(composites) -> None:
    """Pixel edge and alignment follow from the product's definition: 2400 pixels to each of 36 tiles around."""
    grid = composites.grid
    tile_m = np.pi * 6371007.181 / 18

    assert grid.pixel_m == pytest.approx(463.3127165, abs=1e-6)
    assert (grid.west_m / grid.pixel_m) == pytest.approx(round(grid.west_m / grid.pixel_m), abs=1e-6)
    assert int(grid.west_m // tile_m) + 18 == 21
    assert {(s.horizontal, s.vertical) for s in modis.modis_scenes(FarmWorld(QUIET))} == {(21, 9)}


def test_clear_modis_pixels_hold_nothing_of_the_sky(quiet, composites) -> None:
    """Over a composite in which some pixels never were clear."""
    cloudy = FarmWorld(replace(QUIET, cloudiness=12.0))
    ground = modis.ModisGround(cloudy)
    scene = modis.modis_scenes(cloudy)[0]
    arrays = ground.render(scene)
    clear = modis_rows.STATE_500M.lookup()[arrays.state] == PixelReason.VALID
    bare = modis.ModisGround(FarmWorld(replace(QUIET, cloudiness=0.0)))

    assert 0.0 < clear.mean() < 1.0
    for day in scene.days:
        here = clear & (arrays.day_of_year == day.timetuple().tm_yday)
        view = bare._ground.sky(day)
        if len(bare.world.sky(day)):
            continue
        expected = np.rint(bare._ground.reflectance(view, "red").astype(float) * 10_000)
        assert np.array_equal(arrays.bands["red"][here], expected[here])


def test_modis_is_refused_where_its_grid_is_cut() -> None:
    with pytest.raises(BadRequestError, match="180"):
        modis.ModisGround(FarmWorld(replace(QUIET, site="antimeridian")))


def test_landsat_crosses_the_antimeridian_in_one_zone() -> None:
    world = FarmWorld(replace(QUIET, site="antimeridian"))
    ground = landsat.LandsatGround(world)
    scene = landsat.landsat_scenes(world)[0]

    assert ground.grid.crs == "EPSG:32601"
    assert (ground.render(scene).bands["red"] > 0).all()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    return write_world(FarmWorld(SMALL), tmp_path_factory.mktemp("sensors") / "world", sensors=SENSORS)


def test_other_sensors_are_added_without_touching_what_is_there(written: WorldFiles, files: WorldFiles) -> None:
    for path in sorted(files.folder.rglob("*")):
        if path.is_file() and path.name != "catalog.json":
            assert (written.folder / path.relative_to(files.folder)).read_bytes() == path.read_bytes()
    children = [link["href"] for link in json.loads(written.catalog.read_text())["links"] if link["rel"] == "child"]
    assert children == [f"./{name}/collection.json" for name in ("sentinel-2-l2a", "landsat-c2-l2", "modis-09A1-061")]
    before = written.catalog.stat().st_mtime_ns
    write_world(FarmWorld(SMALL), written.folder, sensors=SENSORS)
    assert written.catalog.stat().st_mtime_ns == before
    assert not list(written.folder.glob(".*"))


@pytest.mark.parametrize("collection", ["landsat-c2-l2", "modis-09A1-061"])
def test_written_items_parse_through_their_rows_and_their_files_are_as_told(
    written: WorldFiles, collection: str
) -> None:
    row = profile("planetary-computer", collection)
    paths = sorted((written.folder / collection).glob("*/*.json"))
    assert len(paths) == 5
    for path in paths:
        item = json.loads(path.read_text())
        scene = scene_from_item(item, row, str(path), provider="test", needed=row.bands)
        assert isinstance(scene, Scene)
        wanted = row.bands & ({*landsat.BANDS} if row.sensor == "" else {*modis.BANDS})
        assert scene.bands.keys() >= wanted | {row.mask.band}
        assert scene.problems == ()
        for band in scene.bands.values():
            with rasterio.open(Path(band.href)) as source:
                assert [source.height, source.width] == item["properties"]["proj:shape"]
                assert list(source.transform)[:6] == pytest.approx(item["properties"]["proj:transform"])
                assert source.profile["tiled"]
                if row.sensor == "modis":
                    assert source.crs.to_epsg() is None
                    assert source.nodata is None


def test_unknown_sensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="aster"):
        write_world(FarmWorld(SMALL), tmp_path / "w", sensors=("sentinel-2", "aster"))
    assert not list(tmp_path.iterdir())
