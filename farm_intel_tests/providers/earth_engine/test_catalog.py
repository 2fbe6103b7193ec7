"""Scenes of Earth Engine's collections, found through the real client."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import shapely

from farm_intel.domain.errors import NotConfiguredError, SceneProblemKind
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import SceneQuery, solar_day
from farm_intel.providers.collections import profile
from farm_intel.providers.collections.earth_engine import ImageCollection
from farm_intel.providers.earth_engine.addresses import parse_href
from farm_intel.providers.earth_engine.images import ImageReader
from farm_intel.simulation.emulators.faults import Fault, FaultKind
from farm_intel.simulation.landsat import landsat_scenes
from farm_intel_tests.providers.earth_engine.support import LANDSAT, MODIS, S2, Rig

pytestmark = pytest.mark.xdist_group("earth-engine")


def test_every_acquisition_is_found_once_with_its_grids(rig: Rig) -> None:
    days = rig.world.acquisition_days

    found = rig.search(days[0], days[-1])

    assert {(s.tile, solar_day(s.acquired_at, 36.0)) for s in found.scenes} == {
        (f"{tile.name:0>5}", day) for tile in rig.world.tiles for day in days
    }
    assert len(found.scenes) == 2 * len(days)
    assert found.problems == ()
    tiles = {f"{tile.name:0>5}": tile for tile in rig.world.tiles}
    for scene in found.scenes:
        red, mask = (parse_href(scene.bands[name].href, scene.scene_id) for name in ("red", "scl"))
        assert red.grid == tiles[scene.tile].grid
        assert (mask.pixel_m, mask.width_px * 2) == (20.0, red.width_px)
        assert scene.platform in {"sentinel-2b", "sentinel-2c"}
        assert scene.processing_baseline in {"05.11", "03.01"}


def test_only_the_days_asked_for_come_back(rig: Rig) -> None:
    day = rig.world.acquisition_days[2]

    found = rig.search(day, day)

    assert {solar_day(scene.acquired_at, 36.0) for scene in found.scenes} == {day}


def test_pages_are_followed(rig: Rig) -> None:
    days = rig.world.acquisition_days
    whole = rig.search(days[0], days[-1])
    rig.server.log.clear()

    paged = rig.with_options(page_size=4).search(days[0], days[-1])

    assert paged.scenes == whole.scenes
    assert paged.requests == len(rig.server.log) == 5


def test_images_outside_the_box_are_not_listed(rig: Rig) -> None:
    far = BBox(west=10.0, south=40.0, east=10.1, north=40.1)
    days = rig.world.acquisition_days

    found = rig.catalog().search(
        SceneQuery(collection=S2, bbox=far, start=days[0], end=days[-1], bands=frozenset({"red"}))
    )

    assert found.scenes == ()


def test_landsat_platforms_are_merged_under_one_row(rig: Rig) -> None:
    expected = landsat_scenes(rig.world)

    found = rig.search(expected[0].day, expected[-1].day, LANDSAT)

    assert {(s.platform, solar_day(s.acquired_at, 36.0)) for s in found.scenes} == {
        (s.platform, s.day) for s in expected
    }
    assert {scene.tile for scene in found.scenes} == {"168061"}
    assert {scene.epsg for scene in found.scenes} == {32637}, "Landsat's zones are northern ones everywhere"


def test_a_band_the_platform_lacks_is_a_problem_of_the_scene(rig: Rig) -> None:
    first = landsat_scenes(rig.world)[0].day

    (scene,) = rig.search(first, first, LANDSAT, bands={"red", "rededge071"}).scenes

    assert [(p.kind, p.band) for p in scene.problems] == [(SceneProblemKind.MISSING_ASSET, "rededge071")]


def test_a_daily_modis_mosaic_becomes_the_tiles_over_the_farms(rig: Rig) -> None:
    start = rig.world.options.start

    found = rig.search(start, start + timedelta(days=1), MODIS)

    # 36 E, 1.1 S lies in tile h21v09 of the MODIS sinusoidal grid
    assert {scene.tile for scene in found.scenes} == {"h21v09"}
    assert [solar_day(s.acquired_at, 36.0) for s in found.scenes] == [start, start + timedelta(days=1)]
    scene = found.scenes[0]
    red, state = (parse_href(scene.bands[name].href, scene.scene_id) for name in ("red", "state"))
    assert (red.width_px, red.height_px, state.width_px) == (2400, 2400, 1200)
    assert scene.bbox.intersects(rig.box)
    assert scene.bbox.east - scene.bbox.west < 11.0


@pytest.mark.parametrize(("longitude", "turned"), [(-170.0, 0), (3.0, 0), (100.0, 0), (150.0, 0), (170.0, 1)])
def test_modis_images_get_the_overpass_in_local_time(longitude: float, turned: int) -> None:
    source = ImageCollection(
        asset_id=MODIS, assets={"red": "sur_refl_b01"}, platform="terra", overpass_solar_hour=10.5, tiled=True
    )
    listed = {
        "id": f"{MODIS}/2026_03_10",
        "startTime": "2026-03-10T00:00:00Z",
        "bands": [
            {
                "id": "sur_refl_b01",
                "grid": {
                    "crsCode": "SR-ORG:6974",
                    "dimensions": {"width": 86400, "height": 43200},
                    "affineTransform": {
                        "scaleX": 463.312716527,
                        "scaleY": -463.312716527,
                        "translateX": -20015109.354,
                        "translateY": 10007554.677,
                    },
                },
            }
        ],
    }
    box = BBox(west=longitude - 0.01, south=5.0, east=longitude + 0.01, north=5.02)

    (scene,) = ImageReader("ee", profile("earth-engine", MODIS), source).scenes(listed, box)

    # Terra passes at 10:30; beyond 157.5 degrees east that is the UTC day before its solar day
    assert solar_day(scene.acquired_at, longitude) == date(2026, 3, 10) + timedelta(days=turned)


def test_footprints_are_kept_where_they_are_usable(rig: Rig) -> None:
    day = rig.world.acquisition_days[0]

    for scene in rig.search(day, day).scenes:
        outline = shapely.from_wkb(scene.footprint_wkb)
        box = shapely.box(scene.bbox.west, scene.bbox.south, scene.bbox.east, scene.bbox.north)
        assert outline.intersection(box).area == pytest.approx(outline.area, rel=1e-6)


def test_a_query_for_another_collection_is_refused(rig: Rig) -> None:
    day = rig.world.acquisition_days[0]
    query = SceneQuery(collection=LANDSAT, bbox=rig.box, start=day, end=day)

    with pytest.raises(NotConfiguredError, match="serves COPERNICUS"):
        rig.catalog().search(query)


def test_refresh_changes_nothing(rig: Rig) -> None:
    day = rig.world.acquisition_days[0]
    scene = rig.search(day, day).scenes[0]

    assert rig.catalog().refresh(scene) is scene


def test_a_collection_that_is_not_there_is_a_matter_of_setup(rig: Rig) -> None:
    """So that another provider is asked, as for a refused account."""
    day = rig.world.acquisition_days[0]
    rig.server.faults.add(Fault(kind=FaultKind.NOT_FOUND, path=":listAssets", times=0))

    with pytest.raises(NotConfiguredError, match="S2_SR_HARMONIZED"):
        rig.search(day, day)
