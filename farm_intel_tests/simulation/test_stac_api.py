"""The emulated catalogues, asked by pystac-client and by our own adapter."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pystac_client
import pytest
import rasterio

from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import Scene, SceneQuery
from farm_intel.engine.reflectance import resolve_radiometry
from farm_intel.providers.collections import profile
from farm_intel.providers.stac.catalog import StacCatalog
from farm_intel.simulation import landsat, modis
from farm_intel.simulation.catalogue import WorldFiles, write_world
from farm_intel.simulation.emulators.data_faults import DataFaults
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.emulators.stac_api import stac_api_app
from farm_intel.simulation.scenes import plan_scenes
from farm_intel.simulation.world import FarmWorld
from farm_intel_tests.simulation.conftest import SMALL
from farm_intel_tests.support.guards import plain_guard

DIALECTS = ("earth-search", "planetary-computer", "cdse", "usgs")
AREA = BBox(west=35.5, south=-1.6, east=36.5, north=-0.6)
Serve = Callable[..., EmulatorServer]


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    return write_world(
        FarmWorld(SMALL), tmp_path_factory.mktemp("api") / "world", sensors=("sentinel-2", "landsat", "modis")
    )


@pytest.fixture(scope="module")
def servers(world_folder: WorldFiles) -> Iterator[dict[str, EmulatorServer]]:
    running = {name: EmulatorServer(stac_api_app(world_folder.folder, name)) for name in DIALECTS}
    for server in running.values():
        server.start()
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture
def serve(world_folder: WorldFiles) -> Iterator[Serve]:
    started: list[EmulatorServer] = []

    def start(dialect: str, **options: Any) -> EmulatorServer:
        server = EmulatorServer(stac_api_app(world_folder.folder, dialect, **options))
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def found(server: EmulatorServer, dialect: str, collection: str, **options: Any) -> list[Scene]:
    row = profile(dialect, collection)
    catalog = StacCatalog(
        source=server.base_url,
        dialect=dialect,
        collection=collection,
        timeout_s=20.0,
        guard=plain_guard(0),
        page_size=options.get("page_size", 7),
        provider="test",
    )
    needed = {"red", "nir08"} if "nir08" in row.assets else {"red", "nir"}
    query = SceneQuery(
        collection=collection,
        bbox=AREA,
        start=SMALL.start,
        end=SMALL.start + timedelta(days=SMALL.days),
        bands=frozenset(needed),
    )
    search = catalog.search(query)
    assert search.problems == ()
    return list(search.scenes)


def post(server: EmulatorServer, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.base_url}/search", json=body, timeout=20)


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["features"]]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_pystac_client_pages_through_everything_once(servers: dict[str, EmulatorServer], dialect: str) -> None:
    client = pystac_client.Client.open(servers[dialect].base_url)
    for collection in client.get_collections():
        expected = len(list(client.search(collections=[collection.id], limit=1000).items()))
        paged = [item.id for item in client.search(collections=[collection.id], limit=3).items()]
        by_get = [item.id for item in client.search(method="GET", collections=[collection.id], limit=4).items()]

        assert len(paged) == len(set(paged)) == expected > 0
        assert by_get == paged


@pytest.mark.parametrize(
    ("dialect", "collection"),
    [
        ("earth-search", "sentinel-2-l2a"),
        ("planetary-computer", "sentinel-2-l2a"),
        ("cdse", "sentinel-2-l2a"),
        ("earth-search", "landsat-c2-l2"),
        ("planetary-computer", "landsat-c2-l2"),
        ("usgs", "landsat-c2l2-sr"),
        ("planetary-computer", "modis-09A1-061"),
    ],
)
def test_our_adapter_finds_every_scene_of_the_plan(
    servers: dict[str, EmulatorServer], dialect: str, collection: str
) -> None:
    world = FarmWorld(SMALL)
    plan = {
        "sentinel-2-l2a": len(plan_scenes(world)),
        "modis-09A1-061": len(modis.modis_scenes(world)),
    }.get(collection, len(landsat.landsat_scenes(world)))
    scenes = found(servers[dialect], dialect, collection)

    assert len(scenes) == plan
    assert all(scene.problems == () for scene in scenes)
    assert {scene.platform for scene in scenes} <= {"sentinel-2b", "sentinel-2c", "landsat-8", "landsat-9", "terra"}


def test_the_offset_is_told_in_each_catalogues_own_way_and_truly(servers: dict[str, EmulatorServer]) -> None:
    """What metadata alone decides, without asking pixels, must be what the plan put into the pixels."""
    world = FarmWorld(SMALL)
    truth = sorted((s.acquired_at.isoformat(timespec="seconds"), s.tile.name.zfill(5)) for s in plan_scenes(world))
    carried = {
        (s.acquired_at.isoformat(timespec="seconds"), s.tile.name.zfill(5))
        for s in plan_scenes(world)
        if s.dialect.offset_in_pixels
    }
    assert 0 < len(carried) < len(truth)
    for dialect in ("planetary-computer", "cdse"):
        row = profile(dialect, "sentinel-2-l2a")
        for scene in found(servers[dialect], dialect, "sentinel-2-l2a"):
            rule = resolve_radiometry(row, scene, scene.bands["red"])
            place = scene.acquired_at.isoformat(timespec="seconds"), scene.tile
            assert (rule.offset == -0.1) == (place in carried)


def test_searches_filter_sort_and_select(servers: dict[str, EmulatorServer]) -> None:
    server = servers["earth-search"]
    everything = httpx.get(f"{server.base_url}/search?limit=1000&collections=sentinel-2-l2a").json()["features"]
    cloudy = {i["id"] for i in everything if i["properties"]["eo:cloud_cover"] >= 50}
    same = [
        {"query": {"eo:cloud_cover": {"gte": 50}}},
        {"filter": "eo:cloud_cover >= 50", "filter-lang": "cql2-text"},
        {"filter": {"op": ">=", "args": [{"property": "eo:cloud_cover"}, 50]}, "filter-lang": "cql2-json"},
    ]
    assert 0 < len(cloudy) < len(everything)
    for body in same:
        assert set(ids(post(server, collections=["sentinel-2-l2a"], limit=1000, **body))) == cloudy
    answer = post(server, ids=sorted(cloudy), sortby=[{"field": "properties.eo:cloud_cover", "direction": "desc"}])
    covers = [item["properties"]["eo:cloud_cover"] for item in answer.json()["features"]]
    assert covers == sorted(covers, reverse=True)
    (one,) = post(server, ids=[min(cloudy)], fields={"include": ["properties.datetime"], "exclude": ["links"]}).json()[
        "features"
    ]
    assert list(one["properties"]) == ["datetime"]
    assert "assets" not in one
    assert "links" not in one
    day = SMALL.start + timedelta(days=5)
    on_day = ids(post(server, collections=["sentinel-2-l2a"], datetime=f"{day}T00:00:00Z/{day}T23:59:59Z", limit=50))
    assert on_day
    assert all(f"{day:%Y%m%d}" in item for item in on_day)
    assert ids(post(server, bbox=[10, 10, 11, 11])) == []
    assert ids(post(server, intersects={"type": "Point", "coordinates": [36.0, -1.1]})) != []


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("earth-search", {"cloudiness": 3}),
        ("earth-search", {"limit": 0}),
        ("earth-search", {"limit": 10_001}),
        ("planetary-computer", {"limit": 1_001}),
        ("earth-search", {"datetime": "yesterday"}),
        ("earth-search", {"datetime": "2026-02-01T00:00:00Z/2026-01-01T00:00:00Z"}),
        ("earth-search", {"bbox": [1, 2, 3]}),
        ("earth-search", {"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}}),
        ("earth-search", {"filter": "eo:cloud_cover <"}),
        ("earth-search", {"filter": "a = 1", "filter-lang": "ecql"}),
        ("earth-search", {"query": {"platform": {"like": "x"}}}),
        ("planetary-computer", {"query": {"platform": {"in": ["landsat-8"]}}}),
        ("planetary-computer", {"filter": "eo:cloud_cover < 10"}),
        ("cdse", {"filter": "eo:cloud_cover < 10"}),
        ("planetary-computer", {"next": "3"}),
        ("earth-search", {"token": "next:3"}),
        ("earth-search", {"sortby": [{"field": "datetime", "direction": "down"}]}),
        ("earth-search", {"fields": ["id"]}),
    ],
)
def test_what_a_catalogue_does_not_know_is_refused(
    servers: dict[str, EmulatorServer], dialect: str, body: dict[str, Any]
) -> None:
    answer = post(servers[dialect], **body)

    assert answer.status_code == 400
    assert answer.json()["description"]


def test_blobs_open_with_a_fresh_signature_only(servers: dict[str, EmulatorServer], serve: Serve) -> None:
    for scene in found(servers["planetary-computer"], "planetary-computer", "landsat-c2-l2")[:1]:
        href = scene.bands["red"].href
    account, container = "landsateuwest", "landsat-c2"

    def ask(server: EmulatorServer, token: str | None) -> httpx.Response:
        with httpx.Client(proxy=server.base_url, timeout=20) as client:
            return client.get(href + (f"?{token}" if token else ""), headers={"range": "bytes=0-7"})

    good, expired = servers["planetary-computer"], serve("planetary-computer", sas_ttl_s=-1.0)
    token = httpx.get(f"{good.base_url}/sas/{account}/{container}").json()["token"]
    other = httpx.get(f"{good.base_url}/sas/modiseuwest/modis-061-cogs").json()["token"]
    old = httpx.get(f"{expired.base_url}/sas/{account}/{container}").json()["token"]
    answers = [ask(good, None), ask(good, token), ask(good, other), ask(good, old)]

    assert [answer.status_code for answer in answers] == [409, 206, 403, 403]
    assert b"PublicAccessNotPermitted" in answers[0].content
    assert len(answers[1].content) == 8
    assert b"did not match" in answers[2].content
    assert b"time frame" in answers[3].content


def test_buckets_want_keys_and_a_payer(servers: dict[str, EmulatorServer]) -> None:
    scene = found(servers["usgs"], "usgs", "landsat-c2l2-sr")[0]
    url = servers["usgs"].base_url + "/" + scene.bands["red"].href.removeprefix("s3://")
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=any"}

    assert httpx.get(url).status_code == 403
    assert httpx.get(url, headers=signed).status_code == 403
    assert httpx.get(url, headers={**signed, "x-amz-request-payer": "requester"}).status_code == 200


def test_cdse_files_are_lossless_jpeg_2000(servers: dict[str, EmulatorServer], world_folder: WorldFiles) -> None:
    scene = next(
        scene
        for scene in found(servers["cdse"], "cdse", "sentinel-2-l2a")
        if scene.tile == FarmWorld(SMALL).tiles[1].name
    )
    key = scene.bands["nir"].href.removeprefix("s3://eodata/")
    assert key.endswith(".jp2")
    body = httpx.get(f"{servers['cdse'].base_url}/eodata/{key}", headers={"authorization": "x"}, timeout=30).content
    with (
        rasterio.open(io.BytesIO(body)) as served,
        rasterio.open((world_folder.folder / key).with_suffix(".tif")) as original,
    ):
        assert served.driver == "JP2OpenJPEG"
        assert served.transform == original.transform
        assert np.array_equal(served.read(1), original.read(1))


def test_public_files_come_in_ranges(servers: dict[str, EmulatorServer]) -> None:
    href = found(servers["earth-search"], "earth-search", "sentinel-2-l2a")[0].bands["red"].href
    whole = httpx.get(href).content
    answer = httpx.get(href, headers={"range": "bytes=100-299"})

    assert answer.status_code == 206
    assert answer.content == whole[100:300]
    assert httpx.get(href, headers={"range": f"bytes={len(whole)}-"}).status_code == 416
    assert httpx.get(href.replace("/data/", "/data/../../")).status_code == 404


def test_data_faults_reach_the_adapter(serve: Serve) -> None:
    first = f"{SMALL.start:%Y%m%d}"
    later = f"{SMALL.start + timedelta(days=10):%Y%m%d}"
    server = serve(
        "earth-search",
        faults=DataFaults(
            missing=((first, "scl"),),
            renamed=((later, "red", "B04"),),
            dead=((later, "nir"),),
            duplicated=(first,),
            reprocessed=(later,),
            wrong=((later, "proj:epsg", None), (first, "earthsearch:boa_offset_applied", False)),
        ),
    )
    scenes = {scene.scene_id: scene for scene in found(server, "earth-search", "sentinel-2-l2a")}
    without_mask = [scene for name, scene in scenes.items() if first in name]
    changed = [scene for name, scene in scenes.items() if later in name]

    assert len(without_mask) == 2
    assert all(scene.problems[0].kind is SceneProblemKind.MISSING_ASSET for scene in without_mask)
    assert all(scene.offset_applied is False for scene in without_mask)
    assert len(changed) == 4
    assert {scene.bands["red"].asset_key for scene in changed} == {"B04"}
    newer, older = sorted(changed, key=lambda scene: (scene.tile, scene.revision), reverse=True)[:2]
    assert newer.scene_id == f"{older.scene_id}_R2"
    assert {httpx.get(scene.bands["nir"].href).status_code for scene in changed} == {404}
    listed = post(server, collections=["sentinel-2-l2a"], limit=1000)
    assert len(ids(listed)) == len(set(ids(listed))) + 2


def test_blank_items_hold_nodata_throughout(serve: Serve, tmp_path: Path) -> None:
    server = serve("earth-search", faults=DataFaults(nodata_only=(".",)))
    scene = found(server, "earth-search", "sentinel-2-l2a")[0]
    with rasterio.open(io.BytesIO(httpx.get(scene.bands["red"].href).content)) as source:
        assert source.nodata == 0
        assert not source.read(1).any()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_items_carry_nothing_of_other_dialects(servers: dict[str, EmulatorServer], dialect: str) -> None:
    listed = httpx.get(f"{servers[dialect].base_url}/search?limit=1000").json()["features"]
    text = json.dumps(listed)

    assert "{base}" not in text
    assert ("s3://" in text) == (dialect in {"earth-search", "cdse", "usgs"})
    assert ("blob.core.windows.net" in text) == (dialect == "planetary-computer")
    assert all(item["stac_version"] == ("1.1.0" if dialect == "cdse" else "1.0.0") for item in listed)
    for item in listed:
        alone = httpx.get(f"{servers[dialect].base_url}/collections/{item['collection']}/items/{item['id']}")
        assert alone.json() == item
        break
