"""The closed form: layout, seasons, sky and truth, each against an independent count."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
import shapely
from shapely.geometry import box

from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.indices.registry import load_registry
from farm_intel.simulation.layout import OVERLAP_M, transformer
from farm_intel.simulation.phenology import CROPS, green_cover, residue_cover
from farm_intel.simulation.spectra import BAND_NAMES, SPECTRA
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.simulation.conftest import SMALL, Contrast

DAY = date(2026, 2, 8)


def inside_points(wkb: bytes, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a regular grid of longitude/latitude points inside a boundary."""
    shape = shapely.from_wkb(wkb)
    west, south, east, north = shape.bounds
    steps = (np.arange(side) + 0.5) / side
    lon, lat = np.meshgrid(west + steps * (east - west), south + steps * (north - south))
    inside = shapely.contains_xy(shape, lon, lat)
    return lon[inside], lat[inside]


def test_same_options_give_the_same_world_and_another_seed_another() -> None:
    once, again, other = FarmWorld(SMALL), FarmWorld(SMALL), FarmWorld(replace(SMALL, seed=8))

    assert once.farms == again.farms
    assert np.array_equal(once.sky(DAY), again.sky(DAY))
    assert once.true_index("F004", DAY, Contrast()) == again.true_index("F004", DAY, Contrast())
    assert once.farms != other.farms


def test_truth_equals_numerical_integration_over_the_ground(world: FarmWorld) -> None:
    """Points in longitude/latitude through the public reflectance know nothing of the quadrature."""
    uneven = 0
    for farm in world.farms:
        lon, lat = inside_points(farm.boundary_wkb, 150)
        seen = Contrast().evaluate(world.reflectance(lon, lat, DAY, 4326, through_sky=False))
        uneven += not farm.even

        assert world.true_index(farm.farm_id, DAY, Contrast()) == pytest.approx(seen.mean(), abs=2e-4), farm
        assert (seen.std() < 1e-12) == farm.even, farm
    assert uneven >= 1


def test_truth_of_an_uneven_field_is_not_the_index_of_its_mean(world: FarmWorld) -> None:
    """The quadrature matters: taking the index of the mean reflectance would be wrong by more than rounding."""
    farm = next(farm for farm in world.farms if not farm.even)
    lon, lat = inside_points(farm.boundary_wkb, 150)
    ground = world.reflectance(lon, lat, DAY, 4326, through_sky=False)
    of_mean = Contrast().evaluate({name: np.array(values.mean()) for name, values in ground.items()})

    assert abs(world.true_index(farm.farm_id, DAY, Contrast()) - float(of_mean)) > 1e-4


def test_a_place_looks_the_same_in_both_zones_and_in_degrees(world: FarmWorld) -> None:
    west, east = world.tiles
    x = world.extent.center[0] + np.linspace(-600.0, 600.0, 50)
    y = world.extent.center[1] + np.linspace(-900.0, 900.0, 50)
    in_east = world.reflectance(x, y, DAY, east.epsg)
    for epsg in (west.epsg, 4326):
        moved = world.reflectance(*transformer(east.epsg, epsg).transform(x, y), DAY, epsg)
        for name in BAND_NAMES:
            np.testing.assert_allclose(moved[name], in_east[name], atol=1e-9)


@pytest.mark.parametrize("number", [2, 6, 7])
def test_clear_fraction_agrees_with_the_classification(world: FarmWorld, number: int) -> None:
    day = world.acquisition_days[number]
    for farm in world.farms[::3]:
        lon, lat = inside_points(farm.boundary_wkb, 90)
        clear = np.isin(world.classes(lon, lat, day, 4326), (4, 5))

        assert world.clear_fraction(farm.farm_id, day) == pytest.approx(clear.mean(), abs=0.02)


def test_every_class_of_the_sky_occurs_and_looks_the_part(world: FarmWorld) -> None:
    """Clouds and snow are bright, shadow is dark, haze lifts blue."""
    x, y = np.meshgrid(
        np.linspace(world.extent.west_m, world.extent.east_m, 250),
        np.linspace(world.extent.south_m, world.extent.north_m, 250),
    )
    found: dict[int, float] = {}
    epsg = world.site.epsg_east
    for day in world.acquisition_days:
        classes = world.classes(x, y, day, epsg)
        blue = world.reflectance(x, y, day, epsg)["blue"]
        found |= {int(value): float(blue[classes == value].mean()) for value in np.unique(classes)}

    assert set(found) == {3, 4, 5, 6, 8, 9, 10, 11}
    assert found[9] > 0.5 > found[8] > 0.2
    assert found[11] > 0.6
    assert found[3] < 0.5 * found[5]
    assert found[10] > 1.5 * found[5]


def test_farms_have_the_area_of_their_class_and_fields_keep_apart(world: FarmWorld) -> None:
    ordinary = [plot for plot in world.layout.plots if plot.farm_id.startswith("F")]
    assert {plot.size_class_ha for plot in ordinary} == set(SMALL.sizes_ha)
    for plot in ordinary:
        assert plot.boundary.area / 10_000.0 == pytest.approx(plot.size_class_ha, rel=1e-6)
    apart = [*(field.shape for field in world.layout.fields), *world.layout.waters]
    for i, shape in enumerate(apart):
        for other in apart[i + 1 :]:
            assert shape.distance(other) > 20.0
    for road in world.layout.roads:
        assert all(not field.shape.intersects(road) for field in world.layout.fields)


def test_the_special_farms_are_what_they_are_called(world: FarmWorld) -> None:
    plots = {plot.farm_id: plot.boundary for plot in world.layout.plots}
    hole = plots["S-HOLE"]
    assert hole.geom_type == "MultiPolygon"
    assert sum(len(part.interiors) for part in shapely.get_parts(hole).tolist()) == 1
    assert plots["S-TINY"].area < 100.0
    assert plots["S-OVERLAP-A"].intersection(plots["S-OVERLAP-B"]).area > 1_000.0
    west, _, east, _ = plots["S-STRIP"].bounds
    assert west < world.extent.center[0] - OVERLAP_M / 2
    assert east > world.extent.center[0] + OVERLAP_M / 2
    outside = shapely.from_wkb(world.farm("S-OUTSIDE").boundary_wkb)
    for tile in world.tiles:
        assert not box(*tile.grid.bounds).intersects(
            box(*transformer(4326, tile.epsg).transform_bounds(*outside.bounds))
        )
    assert [farm.farm_id for farm in world.farms if not farm.inside_world] == ["S-OUTSIDE"]


def test_canopies_soil_and_water_give_the_indices_known_from_the_field() -> None:
    """Ranges: dense canopies, dry bare soil and open water as in Sentinel-2 index references."""
    registry = load_registry()
    expected = {
        "maize": {
            "ndvi": (0.8, 0.95),
            "evi": (0.5, 0.9),
            "savi": (0.5, 0.8),
            "ndmi": (0.3, 0.6),
            "ndwi": (-0.85, -0.6),
        },
        "pasture": {
            "ndvi": (0.7, 0.9),
            "evi": (0.4, 0.8),
            "savi": (0.4, 0.7),
            "ndmi": (0.1, 0.5),
            "ndwi": (-0.8, -0.5),
        },
        "soil": {
            "ndvi": (0.1, 0.25),
            "evi": (0.05, 0.2),
            "savi": (0.05, 0.2),
            "ndmi": (-0.3, 0.0),
            "ndwi": (-0.5, -0.2),
        },
        "straw": {"ndvi": (0.1, 0.3), "ndmi": (-0.3, 0.0)},
        "water": {"ndvi": (-0.8, 0.0), "ndwi": (0.2, 0.9)},
        "snow": {"ndvi": (-0.2, 0.1), "ndwi": (-0.1, 0.3)},
    }
    for thing, ranges in expected.items():
        bands = dict(zip(BAND_NAMES, SPECTRA[thing], strict=True))
        for slug, (low, high) in ranges.items():
            value = float(registry.get(slug).evaluate(bands))

            assert low <= value <= high, (thing, slug, value)


@pytest.mark.parametrize("crop", CROPS, ids=lambda crop: crop.name)
def test_a_season_rises_once_falls_once_and_never_covers_more_than_the_ground(crop) -> None:
    green = np.array([green_cover(crop, day) for day in range(-60, 300)])
    residue = np.array([residue_cover(crop, day) for day in range(-60, 300)])
    peak = int(green.argmax())

    assert (np.diff(green[:peak]) >= 0).all()
    assert (np.diff(green[peak:]) <= 0).all()
    assert green.max() > 1.8 * crop.green_min
    assert ((1.2 * green + residue) <= 1.0).all()


def test_land_stays_darker_than_the_offset_in_blue(world: FarmWorld) -> None:
    """What a pixel probe relies on: a median blue below 0.1 on clear land of any day."""
    for days in range(0, 300, 20):
        mean, slope = world.ground(world.options.start + timedelta(days=days))

        assert (mean + np.abs(slope)).min() > 0.0
        assert (mean + np.abs(slope))[:, BAND_NAMES.index("blue")].max() < 0.1


def test_farms_across_longitude_180_are_split_and_keep_their_truth() -> None:
    world = FarmWorld(replace(SMALL, site="antimeridian"))
    strip = shapely.from_wkb(world.farm("S-STRIP").boundary_wkb)
    west, _, east, _ = strip.bounds
    assert (west, east) == (-180.0, 180.0)
    assert all(part.bounds[2] - part.bounds[0] < 0.02 for part in shapely.get_parts(strip).tolist())
    for part in shapely.get_parts(strip).tolist():
        inner = part.representative_point()
        seen = world.reflectance([inner.x], [inner.y], DAY, 4326, through_sky=False)

        assert float(Contrast().evaluate(seen)[0]) == pytest.approx(world.true_index("S-STRIP", DAY, Contrast()))


def test_options_survive_json_and_impossible_worlds_are_refused() -> None:
    assert WorldOptions.from_dict(SMALL.as_dict()) == SMALL
    with pytest.raises(BadRequestError, match="another version"):
        WorldOptions.from_dict({**SMALL.as_dict(), "moons": 2})
    with pytest.raises(BadRequestError, match="tile_px"):
        WorldOptions(tile_px=250)
    with pytest.raises(BadRequestError, match="20 ha"):
        WorldOptions(sizes_ha=(30.0,))
    with pytest.raises(UnknownNameError, match="atlantis"):
        WorldOptions(site="atlantis")
    with pytest.raises(BadRequestError, match="do not fit"):
        FarmWorld(replace(SMALL, farms=60))
    with pytest.raises(UnknownNameError, match="no farm"):
        FarmWorld(SMALL).true_index("nobody", DAY, Contrast())
