"""The Sentinel Hub emulator by itself: the real client's own session, every path, and what it refuses."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pytest
import requests
import tifffile
from sentinelhub.config import SHConfig
from sentinelhub.download.session import SentinelHubSession

from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.emulators.sentinel_hub import (
    CLIENT_ID,
    CLIENT_SECRET,
    TOKEN_PATH,
    HubState,
    product_name,
    sentinel_hub_app,
)
from farm_intel.simulation.emulators.sentinel_hub_scripts import Evalscript, RefusedError
from farm_intel.simulation.scenes import plan_scenes
from farm_intel.simulation.world import FarmWorld, WorldOptions

SMALL = WorldOptions(seed=3, start=date(2026, 1, 4), days=11, farms=2, sizes_ha=(1.0,), tile_px=240, cloudiness=0.0)
SCRIPT = """//VERSION=3
function setup() {
  return {input: [{bands: ["B04", "B08", "dataMask"]}], output: [
    {id: "ndvi", bands: 1, sampleType: "FLOAT32"}, {id: "dataMask", bands: 1, sampleType: "UINT8"}]};
}
function evaluatePixel(s) { return {ndvi: [index(s.B08, s.B04)], dataMask: [s.dataMask]}; }
"""


@dataclass(slots=True)
class Served:
    """A running emulator with a token."""

    world: FarmWorld
    server: EmulatorServer
    state: HubState
    token: str = ""

    def post(self, path: str, body: object, *, accept: str = "*/*") -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": accept}
        return requests.post(self.server.base_url + path, json=body, headers=headers, timeout=20)

    def ask_token(self, **form: str) -> requests.Response:
        return requests.post(self.server.base_url + TOKEN_PATH, data=form, timeout=20)

    def process_body(self, **changes: object) -> dict[str, object]:
        tile = self.world.tiles[1]
        data = {
            "type": "sentinel-2-l2a",
            "dataFilter": {"timeRange": {"from": "2026-01-04T00:00:00Z", "to": "2026-01-05T00:00:00Z"}},
        }
        west, south, _, _ = tile.grid.bounds
        bounds = {
            "bbox": [west + 500, south + 500, west + 900, south + 800],
            "properties": {"crs": f"http://www.opengis.net/def/crs/EPSG/0/{tile.epsg}"},
        }
        responses = [{"identifier": "ndvi", "format": {"type": "image/tiff"}}]
        return {
            "input": {"bounds": bounds, "data": [data]},
            "evalscript": SCRIPT,
            "output": {"width": 40, "height": 30, "responses": responses},
            **changes,
        }


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    world = FarmWorld(SMALL)
    app = sentinel_hub_app(world)
    with EmulatorServer(app) as server:
        found = Served(world=world, server=server, state=app.state.hub)
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        found.token = found.ask_token(**form).json()["access_token"]
        yield found


def test_the_libraries_own_session_gets_a_token(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, unchanged, with the variable it wants for plain http on this machine."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    config = SHConfig(
        use_defaults=True,
        sh_client_id=CLIENT_ID,
        sh_client_secret=CLIENT_SECRET,
        sh_base_url=served.server.base_url,
        sh_token_url=served.server.base_url + TOKEN_PATH,
    )
    session = SentinelHubSession(config)

    assert session.info()["azp"] == CLIENT_ID
    assert session.token["expires_at"] > session.info()["iat"]


def test_tokens_are_refused_in_the_recorded_forms(served: Served) -> None:
    wrong = served.ask_token(grant_type="client_credentials", client_id=CLIENT_ID, client_secret="x")  # noqa: S106 - made up
    grant = served.ask_token(grant_type="password")

    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert (grant.status_code, grant.json()["error"]) == (400, "unsupported_grant_type")
    answer = requests.post(f"{served.server.base_url}/api/v1/process", json={}, timeout=20)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "COMMON_UNAUTHORIZED"


def test_an_image_is_the_scripts_own_result(served: Served) -> None:
    """Float TIFF on the asked grid, and its price in the header: one 40 x 30 px image in 32 bits of two bands."""
    answer = served.post("/api/v1/process", served.process_body())
    image = tifffile.imread(io.BytesIO(answer.content))
    x, y = (np.array([500.0, 900.0]), np.array([500.0, 800.0]))
    tile = served.world.tiles[1]
    west, south, _, _ = tile.grid.bounds
    centres = np.meshgrid(west + x[0] + np.arange(40) * 10 + 5, south + y[1] - np.arange(30) * 10 - 5)
    bands = served.world.reflectance(*centres, date(2026, 1, 4), tile.epsg)
    expected = (bands["nir"] - bands["red"]) / (bands["nir"] + bands["red"])

    assert image.shape == (30, 40)
    assert image.dtype == np.float32
    # pixels across a field's edge mix two covers, the others differ by the sensor's noise only
    assert np.median(np.abs(image - expected)) < 0.01
    assert float(answer.headers["x-processingunits-spent"]) == pytest.approx(0.01 * 2 / 3 * 2)


def test_several_responses_come_as_a_tar(served: Served) -> None:
    responses = [{"identifier": name, "format": {"type": "image/tiff"}} for name in ("ndvi", "dataMask")]
    body = served.process_body(output={"resx": 10, "resy": 10, "responses": responses})
    answer = served.post("/process/v1", body, accept="application/x-tar")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        names = sorted(archive.getnames())
        mask = tifffile.imread(io.BytesIO(archive.extractfile("dataMask.tif").read()))  # type: ignore[union-attr]  # parsed JSON

    assert names == ["dataMask.tif", "ndvi.tif"]
    assert mask.shape == (30, 40)
    assert mask.all()


def test_statistics_have_the_recorded_shape(served: Served) -> None:
    """Days without acquisition are absent, samples are those of the bounding box, outside the polygon is no data."""
    body = served.process_body()
    west, south, east, north = body["input"]["bounds"].pop("bbox")  # type: ignore[index]  # parsed JSON
    corners = [[west, south], [east, south], [west, north], [west, south]]
    body["input"]["bounds"]["geometry"] = {"type": "Polygon", "coordinates": [corners]}  # type: ignore[index]  # parsed JSON
    body["input"]["data"][0].pop("dataFilter")  # type: ignore[index]  # parsed JSON
    aggregation = {
        "evalscript": SCRIPT,
        "timeRange": {"from": "2026-01-03T00:00:00Z", "to": "2026-01-15T00:00:00Z"},
        "aggregationInterval": {"of": "P1D"},
        "resx": 10,
        "resy": 10,
    }
    calculations = {"default": {"statistics": {"default": {"percentiles": {"k": [10, 50]}}}}}
    request = {"input": body["input"], "aggregation": aggregation, "calculations": calculations}
    first = served.post("/api/v1/statistics", request).json()
    second = served.post("/statistics/v1", request).json()

    assert first == second
    assert first["status"] == "OK"
    assert [entry["interval"]["from"][:10] for entry in first["data"]] == ["2026-01-04", "2026-01-09", "2026-01-14"]
    stats = first["data"][0]["outputs"]["ndvi"]["bands"]["B0"]["stats"]
    assert set(stats) == {"min", "max", "mean", "stDev", "sampleCount", "noDataCount", "percentiles"}
    assert set(stats["percentiles"]) == {"10.0", "50.0"}
    assert stats["sampleCount"] == 40 * 30
    assert stats["noDataCount"] == pytest.approx(600, abs=25)
    assert stats["min"] <= stats["percentiles"]["10.0"] <= stats["percentiles"]["50.0"] <= stats["max"]


def test_the_catalogue_pages(served: Served) -> None:
    body = {"collections": ["sentinel-2-l2a"], "datetime": "2026-01-01T00:00:00Z/2026-02-01T00:00:00Z", "limit": 4}
    first = served.post("/api/v1/catalog/1.0.0/search", body).json()
    second = served.post("/catalog/v1/search", {**body, "next": first["context"]["next"]}).json()
    names = [feature["id"] for page in (first, second) for feature in page["features"]]
    newest = {(scene.tile.name, scene.day): product_name(scene) for scene in plan_scenes(served.world)}

    assert first["context"] == {"limit": 4, "returned": 4, "next": 4}
    assert "next" not in second["context"]
    assert sorted(names) == sorted(newest.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"evalscript": SCRIPT.replace("index(", "indx(")}, "Failed to evaluate script"),
        ({"evalscript": SCRIPT.replace("//VERSION=3", "")}, "not VERSION=3"),
        ({"evalscript": SCRIPT.replace('"B04"', '"B77"').replace("s.B04", "s.B77")}, "no band B77"),
        ({"evalscript": SCRIPT + "function updateOutput(o) {}"}, "not emulated: updateOutput"),
        ({"evalscript": SCRIPT.replace("]};\n}", '], mosaicking: "ORBIT"};\n}', 1)}, "SIMPLE"),
        ({"output": {"width": 3000, "height": 10}}, "between 1 and 2500"),
        ({"output": {"width": 4, "height": 4, "colour": 1}}, "output.colour"),
        ({"speed": "high"}, "process.speed"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(served: Served, change: dict[str, object], words: str) -> None:
    answer = served.post("/api/v1/process", served.process_body(**change))

    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "landsat-ot-l2"}, "landsat-ot-l2"),
        ({"processing": {"upsampling": "BICUBIC"}}, "upsampling BICUBIC"),
        ({"dataFilter": {"maxCloudCoverage": 10}}, "dataFilter.maxCloudCoverage"),
    ],
)
def test_inputs_that_are_not_implemented_are_refused(served: Served, change: dict[str, object], words: str) -> None:
    body = served.process_body()
    body["input"]["data"][0].update(change)  # type: ignore[index]  # parsed JSON
    answer = served.post("/api/v1/process", body)

    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_harmonising_shifts_numbers_and_cuts_negatives(served: Served) -> None:
    """DN as delivered carry the +1000 of baseline 04.00; harmonised ones do not, and reflectance never does."""
    script = """//VERSION=3
    function setup() { return {input: [{bands: ["B04"], units: "UNIT"}], output: {bands: 1, sampleType: "FLOAT32"}}; }
    function evaluatePixel(s) { return [s.B04]; }"""
    images = {}
    for unit in ("DN", "REFLECTANCE"):
        for harmonize in (True, False):
            responses = [{"identifier": "default", "format": {"type": "image/tiff"}}]
            body = served.process_body(
                evalscript=script.replace("UNIT", unit).strip(),
                output={"width": 40, "height": 30, "responses": responses},
            )
            body["input"]["data"][0]["processing"] = {"harmonizeValues": harmonize}  # type: ignore[index]  # parsed JSON
            answer = served.post("/api/v1/process", body)
            images[unit, harmonize] = tifffile.imread(io.BytesIO(answer.content)).astype(np.float64)

    np.testing.assert_array_equal(images["DN", False] - 1000.0, images["DN", True])
    np.testing.assert_allclose(images["REFLECTANCE", True], images["DN", True] / 10_000.0, atol=1e-7)
    np.testing.assert_allclose(images["REFLECTANCE", False], images["REFLECTANCE", True])


def test_scripts_see_what_javascript_makes_of_numbers() -> None:
    """NaN and infinities survive the way back; pixels without data are computed once, for all of them."""
    script = Evalscript(
        """//VERSION=3
        var calls = 0;
        function setup() { return {input: ["B04", "dataMask"], output: {bands: 2, sampleType: "FLOAT32"}}; }
        function evaluatePixel(s) { calls += 1; return [1 / s.B04, s.B04 > 1 ? 0 / 0 : calls]; }"""
    )
    out = script.run({"B04": np.array([0.0, 2.0, 0.0, 0.5]), "dataMask": np.array([0.0, 1.0, 0.0, 1.0])})["default"]

    np.testing.assert_array_equal(out[:, 0], [np.inf, 0.5, np.inf, 2.0])
    np.testing.assert_array_equal(out[:, 1], [3.0, np.nan, 3.0, 2.0])


def test_a_script_with_too_few_bands_is_refused() -> None:
    with pytest.raises(RefusedError, match="bands instead of"):
        Evalscript(
            """//VERSION=3
            function setup() { return {input: ["B04"], output: {bands: 2, sampleType: "UINT8"}}; }
            function evaluatePixel(s) { return [1]; }"""
        ).run({"B04": np.array([1.0])})


def test_a_written_world_is_served_too(served: Served, tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path)) / "world"
    write_world(served.world, folder)
    app = sentinel_hub_app(folder)

    assert app.state.hub.scenes.world.options == served.world.options
    assert json.dumps([scene.scene_id for scene in app.state.hub.scenes.scenes])
