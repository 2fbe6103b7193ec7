"""Pixels against the closed form they are means of."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import shapely

from farm_intel.simulation.kernels import digital_numbers
from farm_intel.simulation.layout import transformer
from farm_intel.simulation.render import RenderedScene, TileGround
from farm_intel.simulation.scenes import RadiometricDialect, WorldScene, plan_scenes
from farm_intel.simulation.world import FarmWorld
from farm_intel_tests.simulation.conftest import SMALL

QUIET = replace(SMALL, noise=0.0)


@pytest.fixture(scope="module")
def quiet() -> FarmWorld:
    return FarmWorld(QUIET)


@pytest.fixture(scope="module")
def grounds(quiet: FarmWorld) -> dict[str, TileGround]:
    return {tile.name: TileGround(quiet, tile) for tile in quiet.tiles}


def render(grounds: dict[str, TileGround], scene: WorldScene) -> tuple[RenderedScene, dict[str, np.ndarray]]:
    rendered = grounds[scene.tile.name].render(scene)
    return rendered, {band.common_name: numbers for band, numbers in rendered.bands()}


def sound_scene(world: FarmWorld, day: date, tile: str) -> WorldScene:
    return next(s for s in reversed(plan_scenes(world)) if s.day == day and s.tile.name == tile)


@pytest.mark.parametrize(("tile", "number"), [(0, 4), (1, 8)])
def test_a_pixel_is_the_mean_of_the_ground_and_sky_in_it(quiet, grounds, tile: int, number: int) -> None:
    """Whole tiles: field edges, cloud edges, gradients, in both zones; counted at the public points, 2.5 m apart."""
    place, day = quiet.tiles[tile], quiet.acquisition_days[number]
    _, bands = render(grounds, replace(sound_scene(quiet, day, place.name), dialect=RadiometricDialect.OFFSET_REMOVED))
    n = place.grid.width_px * 4
    steps = (np.arange(n) + 0.5) * 2.5
    x, y = np.meshgrid(place.grid.west_m + steps, place.grid.north_m - steps)
    points = quiet.reflectance(x, y, day, place.epsg)
    for band, edge in (("red", 4), ("nir", 4), ("swir16", 8), ("coastal", 24)):
        expected = 10_000 * points[band].reshape(n // edge, edge, n // edge, edge).mean(axis=(1, 3))
        wrong = np.abs(bands[band] - expected) > 0.51

        assert expected.std() > 50.0
        # A point within a millimetre of an edge may fall to either side: some ten of the two million.
        assert wrong.sum() < 20


@pytest.mark.parametrize("dialect", list(RadiometricDialect))
def test_a_pure_pixel_is_the_digital_number_of_its_field(quiet, grounds, dialect: RadiometricDialect) -> None:
    farm = next(farm for farm in quiet.farms if farm.size_class_ha == 20.0 and farm.even and farm.farm_id[0] == "F")
    shape = next(plot.boundary for plot in quiet.layout.plots if plot.farm_id == farm.farm_id)
    center = shape.representative_point()
    day = quiet.acquisition_days[0]
    for tile in quiet.tiles:
        x, y = transformer(quiet.site.epsg_east, tile.epsg).transform(center.x, center.y)
        row, col = int((tile.grid.north_m - y) // 10), int((x - tile.grid.west_m) // 10)
        if not (0 <= col < tile.grid.width_px):
            continue
        _, bands = render(grounds, replace(sound_scene(quiet, day, tile.name), dialect=dialect))
        rho = quiet.reflectance([x], [y], day, tile.epsg)
        offset = 1000 if dialect is RadiometricDialect.OFFSET_PRESENT else 0
        for name in ("blue", "red", "nir"):
            assert bands[name][row, col] == round(float(rho[name][0]) * 10_000) + offset


def test_pixels_classified_clear_hold_nothing_of_the_sky(quiet, grounds) -> None:
    """The mask is complete: with the sky removed, pixels of classes 4 to 6 stay the same to the last count."""
    day = next(d for d in quiet.acquisition_days[2:] if 0.01 < (sky_share(quiet, grounds, d)) < 0.9)
    scene = sound_scene(quiet, day, quiet.tiles[1].name)
    rendered, bands = render(grounds, scene)
    below = FarmWorld(replace(QUIET, cloudiness=0.0))
    _, bare = render({t.name: TileGround(below, t) for t in below.tiles}, scene)
    clear = np.repeat(np.repeat(np.isin(rendered.classes, (4, 5, 6)), 2, 0), 2, 1)

    assert 0.1 < clear.mean() < 0.99
    for name in ("blue", "red", "nir"):
        assert np.array_equal(bands[name][clear], bare[name][clear])
        assert not np.array_equal(bands[name], bare[name])


def sky_share(world: FarmWorld, grounds: dict[str, TileGround], day: date) -> float:
    scene = sound_scene(world, day, world.tiles[1].name)
    random_sky = day not in {world.events.snow, world.events.haze, world.events.overcast} and not scene.swath_edge
    return float(np.isin(grounds[scene.tile.name].render(scene).classes, (3, 8, 9)).mean()) if random_sky else 0.0


def test_outside_the_swath_every_band_is_nodata(quiet, grounds) -> None:
    scene = next(scene for scene in plan_scenes(quiet) if scene.swath_edge)
    rendered, bands = render(grounds, scene)
    outside = rendered.classes == 0

    assert 0.1 < outside.mean() < 0.6
    assert np.array_equal(bands["nir08"] == 0, outside)
    assert np.array_equal(bands["red"] == 0, np.repeat(np.repeat(outside, 2, 0), 2, 1))
    # A 60 m pixel with any nodata below it is nodata.
    assert np.array_equal(bands["coastal"] == 0, outside.reshape(60, 3, 60, 3).any(axis=(1, 3)))


@pytest.mark.parametrize("rho", [0.01, 0.25, 0.5])
def test_noise_is_unbiased_and_grows_with_the_signal(rho: float) -> None:
    numbers = np.empty((600, 600), np.uint16)
    flat = np.full((600, 600), rho, np.float32)
    digital_numbers(flat, np.zeros((600, 600), np.bool_), np.uint64(99), 0.002, 1000, numbers)
    error = (numbers.astype(float) - 1000) / 10_000 - rho

    assert abs(error.mean()) < 2e-5
    assert error.std() == pytest.approx(max(0.002 * np.sqrt(rho / 0.25), 0.0004), rel=0.02)
    # Neighbours share nothing.
    assert abs(np.corrcoef(error[:, :-1].ravel(), error[:, 1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(error[:-1].ravel(), error[1:].ravel())[0, 1]) < 0.01


def test_noise_hardly_moves_a_ratio(world: FarmWorld) -> None:
    """Its mean bias on the most sensitive ground (dark soil) stays far below the accuracy targets."""
    red, nir = (np.empty((800, 800), np.uint16) for _ in range(2))
    none = np.zeros((800, 800), np.bool_)
    digital_numbers(np.full((800, 800), 0.15, np.float32), none, np.uint64(1), 0.002, 0, red)
    digital_numbers(np.full((800, 800), 0.22, np.float32), none, np.uint64(2), 0.002, 0, nir)
    ratio = (nir.astype(float) - red) / (nir.astype(float) + red)

    assert abs(ratio.mean() - 0.07 / 0.37) < 2e-4


def test_noise_differs_between_bands_days_and_processings(world: FarmWorld) -> None:
    ground = TileGround(world, world.tiles[1])
    scenes = [scene for scene in plan_scenes(world) if scene.tile.name == world.tiles[1].name][:3]
    lake = shapely.centroid(world.layout.waters[0])
    row = int((world.tiles[1].grid.north_m - lake.y) // 10)
    col = int((lake.x - world.tiles[1].grid.west_m) // 10)
    if not 10 <= col < 350:
        row, col = 5, 5
    draws = []
    for scene in scenes:
        bands = {band.common_name: numbers.astype(float) for band, numbers in ground.render(scene).bands()}
        draws += [bands[name][row - 5 : row + 5, col - 5 : col + 5].ravel() for name in ("red", "green")]
    correlations = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]

    assert len(scenes) == 3
    assert np.abs(correlations).max() < 0.5
