"""The emulated Earth Engine where it is asked directly: what it refuses, and the service's traps it keeps."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import pytest
import requests
import shapely

from farm_intel.simulation.emulators.earth_engine import EarthEngineEmulator, earth_engine_app
from farm_intel.simulation.emulators.earth_engine_reducers import RegionReducer, combine, simple
from farm_intel.simulation.emulators.earth_engine_values import (
    Band,
    Collection,
    Feature,
    Grid,
    Image,
    Projection,
    Region,
    coverage,
)
from farm_intel.simulation.emulators.earth_engine_world import coarse_state
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.world import FarmWorld, WorldOptions

PROJECTION = Projection(crs="EPSG:32737", pixel_m=10.0, west_m=0.0, north_m=100.0)


@pytest.fixture(scope="module")
def emulator() -> EarthEngineEmulator:
    return earth_engine_app(FarmWorld(WorldOptions(seed=3, start=date(2026, 1, 4), days=6, farms=4, tile_px=240)))


@pytest.fixture(scope="module")
def server(emulator: EarthEngineEmulator) -> Iterator[EmulatorServer]:
    with EmulatorServer(emulator) as running:
        yield running


def ask(server: EmulatorServer, verb: str, body: Any) -> requests.Response:
    claims = "eyJpc3MiOiAibWUifQ"  # {"iss": "me"}
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": f"a.{claims}.c"}
    token = requests.post(f"{server.base_url}/token", data=form, timeout=10).json()["access_token"]
    return requests.post(
        f"{server.base_url}/v1/projects/p/{verb}",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"functionInvocationValue": {"functionName": name, "arguments": arguments}}


def pixels_of(server: EmulatorServer, node: dict[str, Any], edge: int = 4) -> requests.Response:
    grid = {
        "crsCode": "EPSG:32737",
        "dimensions": {"width": edge, "height": edge},
        "affineTransform": {"scaleX": 10, "scaleY": -10, "translateX": 0, "translateY": 0},
    }
    body = {"expression": {"result": "0", "values": {"0": node}}, "fileFormat": "NPY", "grid": grid}
    return ask(server, "image:computePixels", body)


def number(value: float) -> dict[str, Any]:
    return call("Image.constant", value={"constantValue": value})


def test_a_function_it_does_not_know_is_refused_by_name(server: EmulatorServer) -> None:
    answer = pixels_of(server, call("Image.entropy", image=number(1.0)))

    assert answer.status_code == 400
    assert "Image.entropy" in answer.json()["error"]["message"]


def test_an_argument_it_does_not_know_is_refused(server: EmulatorServer) -> None:
    answer = pixels_of(server, call("Image.add", image1=number(1.0), image2=number(2.0), weight=number(3.0)))

    assert answer.status_code == 400
    assert "weight" in answer.json()["error"]["message"]


def test_an_image_there_is_not_is_told_in_the_services_words(server: EmulatorServer) -> None:
    answer = pixels_of(server, call("Image.load", id={"constantValue": "COPERNICUS/NOPE/1"}))

    assert "not found (does not exist or caller does not have access)" in answer.json()["error"]["message"]


def test_masked_pixels_look_like_zeros(server: EmulatorServer) -> None:
    masked = call("Image.updateMask", image=number(7.0), mask=number(0.0))

    array = np.load(io.BytesIO(pixels_of(server, masked).content))

    assert (array["constant"] == 0).all()


def test_a_division_by_zero_is_zero(server: EmulatorServer) -> None:
    array = np.load(io.BytesIO(pixels_of(server, call("Image.divide", image1=number(3.0), image2=number(0.0))).content))

    assert (array["constant"] == 0).all()


def test_answers_have_a_largest_size(server: EmulatorServer) -> None:
    answer = pixels_of(server, number(1.0), edge=6000)

    assert "must be less than or equal to 50331648 bytes" in answer.json()["error"]["message"]


def test_without_a_token_nothing_is_answered(server: EmulatorServer) -> None:
    answer = requests.post(f"{server.base_url}/v1/projects/p/image:computePixels", json={}, timeout=10)

    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_a_filter_it_does_not_know_is_refused(server: EmulatorServer) -> None:
    claims = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "a.eyJpc3MiOiAibWUifQ.c"}
    token = requests.post(f"{server.base_url}/token", data=claims, timeout=10).json()["access_token"]
    url = f"{server.base_url}/v1/projects/earthengine-public/assets/COPERNICUS/S2_SR_HARMONIZED:listAssets"

    answer = requests.get(
        url, params={"filter": "properties.CLOUD < 5"}, headers={"Authorization": f"Bearer {token}"}, timeout=10
    )

    assert answer.status_code == 400
    assert "properties.CLOUD < 5" in answer.json()["error"]["message"]


def test_the_description_is_googles_own_and_points_back_here(server: EmulatorServer) -> None:
    described = requests.get(f"{server.base_url}/$discovery/rest", params={"version": "v1"}, timeout=10).json()

    assert described["rootUrl"] == f"{server.base_url}/"
    assert "v1alpha" not in json.dumps(described)


def grid_image(**bands: np.ndarray) -> Image:
    """An image over the ten by ten pixels of PROJECTION."""

    def read(values: np.ndarray) -> Band:
        def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            x, y = grid.centres()
            rows, cols = ((100.0 - y) // 10).astype(int), (x // 10).astype(int)
            return values[rows, cols], np.isfinite(values[rows, cols])

        return Band(pixels)

    return Image(bands={name: read(values) for name, values in bands.items()})


def reduced(image: Image, reducer: Any, shape: Any) -> dict[str, Any]:
    feature = Feature(region=Region(shape=shape, crs="EPSG:32737"), properties={})
    (found,) = RegionReducer(image, reducer, PROJECTION, None).features(Collection(items=[feature])).items
    return dict(found.as_json()["properties"])


def test_means_are_weighted_by_coverage() -> None:
    values = np.zeros((10, 10))
    values[:, 5] = 1.0
    # half of column 4, all of column 5
    half = shapely.box(45.0, 20.0, 60.0, 40.0)

    found = reduced(grid_image(v=values, w=values), simple("mean"), half)

    assert found["v"] == pytest.approx(2 / 3)


def test_counts_go_by_pixel_centres() -> None:
    image = grid_image(v=np.ones((10, 10)), w=np.ones((10, 10)))

    assert reduced(image, simple("count"), shapely.box(46.0, 20.0, 60.0, 40.0)) == {"v": 2.0, "w": 2.0}
    assert reduced(image, simple("count"), shapely.box(44.0, 20.0, 60.0, 40.0)) == {"v": 4.0, "w": 4.0}


def test_one_band_is_not_named_and_nothing_is_absent() -> None:
    both = combine(simple("mean"), simple("count"), sharedInputs=True)
    nothing = np.full((10, 10), np.nan)
    shape = shapely.box(10.0, 10.0, 50.0, 50.0)

    assert reduced(grid_image(v=np.ones((10, 10))), both, shape) == {"mean": 1.0, "count": 16.0}
    assert reduced(grid_image(v=nothing), both, shape) == {"count": 0.0}
    assert set(reduced(grid_image(v=np.ones((10, 10)), w=nothing), both, shape)) == {"v_mean", "v_count", "w_count"}


def test_coverage_is_the_share_of_the_pixel() -> None:
    grid = PROJECTION.grid((0.0, 0.0, 30.0, 30.0))

    share = coverage(shapely.box(5.0, 0.0, 20.0, 30.0), grid)

    np.testing.assert_allclose(share[0], [0.5, 1.0, 0.0], atol=1 / 32)


def some_state() -> np.ndarray:
    """Cloud over four pixels and over one more, a shadow over one."""
    state = np.zeros((4, 4), np.uint16)
    state[0:2, 0:2] = 1
    state[0, 2] = 1
    state[3, 1] = 4
    return state


def test_coarse_state_knows_cloudy_from_mixed_and_keeps_flags() -> None:
    found = coarse_state(some_state(), (0, 0))

    assert found.dtype == np.uint16
    assert found.tolist() == [[1, 2], [4, 0]]


def test_coarse_state_pairs_pixels_as_the_global_grid_does() -> None:
    # the first pixel stands alone in its row and column of 1 km pixels, its neighbours pair up
    assert coarse_state(some_state(), (1, 1)).tolist() == [[1, 1, 0], [2, 2, 0], [0, 4, 0]]
