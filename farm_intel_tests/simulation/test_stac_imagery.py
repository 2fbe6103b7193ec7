"""Numbers through every emulated catalogue, with the real SDK and the real readers, against the files themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest
from planetary_computer import sas
from planetary_computer.settings import Settings

from farm_intel.domain.batches import FarmShape, SceneDay
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import Scene, SceneQuery, solar_day
from farm_intel.engine.pipeline import EngineOptions, SceneMajorEngine
from farm_intel.providers.blocks.auto import block_readers
from farm_intel.providers.blocks.options import ReaderOptions, S3Options
from farm_intel.providers.collections import REQUESTER_PAYS
from farm_intel.providers.stac.catalog import StacCatalog
from farm_intel.simulation.catalogue import WorldFiles, write_world
from farm_intel.simulation.emulators.faults import Fault, FaultKind
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.emulators.stac_api import StacApi, stac_api_app
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.engine.support import REGISTRY, Cell, cells
from farm_intel_tests.support.guards import plain_guard

OPTIONS = WorldOptions(seed=7, start=date(2026, 1, 4), days=17, farms=14, tile_px=360, revisit_days=5)
AREA = BBox(west=35.5, south=-1.6, east=36.5, north=-0.6)
LATEST = OPTIONS.start + timedelta(days=OPTIONS.days)


@pytest.fixture(scope="module")
def world() -> FarmWorld:
    return FarmWorld(OPTIONS)


@pytest.fixture(scope="module")
def files(world: FarmWorld, tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    sensors = ("sentinel-2", "landsat", "modis", "modis-vi", "hls-l30", "hls-s30")
    return write_world(world, tmp_path_factory.mktemp("imagery") / "world", sensors=sensors)


@dataclass
class Running:
    """An emulator and its app."""

    app: StacApi
    server: EmulatorServer


@pytest.fixture
def planetary(files: WorldFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Point the SDK at the emulated token service the way users do: by its environment variable."""
    app = stac_api_app(files.folder, "planetary-computer")
    with EmulatorServer(app) as server:
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.base_url}/sas")
        Settings.get.cache_clear()
        sas.TOKEN_CACHE.clear()
        yield Running(app, server)
    Settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()


def observed(
    world: FarmWorld, source: str, dialect: str, collection: str, options: ReaderOptions
) -> dict[tuple[date, str], Cell]:
    catalog = StacCatalog(
        source=source,
        dialect=dialect,
        collection=collection,
        timeout_s=20.0,
        page_size=5,
        provider="test",
        guard=plain_guard(2),
    )
    query = SceneQuery(collection=collection, bbox=AREA, start=OPTIONS.start, end=LATEST, bands=frozenset({"red"}))
    days: dict[date, list[Scene]] = {}
    for scene in catalog.search(query).scenes:
        days.setdefault(solar_day(scene.acquired_at, 36.0), []).append(scene)
    engine = SceneMajorEngine(
        block_readers(replace(options, sign=catalog.sign)), EngineOptions(threads=2, budget_mib=16)
    )
    farms = [FarmShape(farm_id=f.farm_id, boundary_wkb=f.boundary_wkb) for f in world.farms if f.inside_world]
    work = [SceneDay(solar_day=day, scenes=tuple(days[day])) for day in sorted(days)]
    batches = engine.run(work, farms, REGISTRY.select(["ndvi"]), catalog.profile, refresh=catalog.refresh)
    return cells(list(batches))


def same(first: dict[tuple[date, str], Cell], second: dict[tuple[date, str], Cell], least: int) -> None:
    assert first.keys() == second.keys()
    means = [np.array([found[key].mean() for key in sorted(first)]) for found in (first, second)]

    assert np.isfinite(means[0]).sum() >= least
    assert np.array_equal(means[0], means[1], equal_nan=True)


@pytest.mark.parametrize("collection", ["landsat-c2-l2", "modis-09A1-061", "modis-13Q1-061", "hls2-l30", "hls2-s30"])
def test_signed_blobs_give_the_numbers_of_the_files(
    world: FarmWorld, files: WorldFiles, planetary: Running, collection: str
) -> None:
    local = observed(world, str(files.catalog), "planetary-computer", collection, ReaderOptions())
    server = planetary.server
    remote = observed(
        world, server.base_url, "planetary-computer", collection, ReaderOptions(proxy_url=server.base_url)
    )

    same(local, remote, least=15)
    assert any("blob.core" in record.path for record in server.log)
    # One token serves all files; two readers that start at once may each ask for it.
    assert 1 <= sum(record.path.startswith("/sas/") for record in server.log) <= 4


def test_sentinel_2_of_every_catalogue_is_the_same(world: FarmWorld, files: WorldFiles, planetary: Running) -> None:
    """Three ways to tell the offset, two file formats, three kinds of access: one number."""
    local = observed(world, str(files.catalog), "earth-search", "sentinel-2-l2a", ReaderOptions())
    with EmulatorServer(stac_api_app(files.folder, "earth-search")) as server:
        same(local, observed(world, server.base_url, "earth-search", "sentinel-2-l2a", ReaderOptions()), least=40)
    proxied = ReaderOptions(proxy_url=planetary.server.base_url)
    blobs = observed(world, planetary.server.base_url, "planetary-computer", "sentinel-2-l2a", proxied)
    same(local, blobs, least=40)


def keys(server: EmulatorServer, dialect: str) -> ReaderOptions:
    return ReaderOptions(
        s3=S3Options(
            endpoint_url=server.base_url,
            region="us-west-2",
            access_key_id="key",
            secret_access_key="secret",  # noqa: S106 - of nothing
            requester_pays=dialect in REQUESTER_PAYS,
        ),
        retries=0,
    )


def test_jpeg_2000_behind_keys_gives_the_same_numbers(world: FarmWorld, files: WorldFiles) -> None:
    local = observed(world, str(files.catalog), "earth-search", "sentinel-2-l2a", ReaderOptions())
    with EmulatorServer(stac_api_app(files.folder, "cdse")) as server:
        remote = observed(world, server.base_url, "cdse", "sentinel-2-l2a", keys(server, "cdse"))

    same(local, remote, least=40)


@pytest.mark.parametrize(("dialect", "collection"), [("usgs", "landsat-c2l2-sr"), ("earth-search", "landsat-c2-l2")])
def test_landsat_from_a_bucket_that_charges(world: FarmWorld, files: WorldFiles, dialect: str, collection: str) -> None:
    local = observed(world, str(files.catalog), "planetary-computer", "landsat-c2-l2", ReaderOptions())
    with EmulatorServer(stac_api_app(files.folder, dialect)) as server:
        same(local, observed(world, server.base_url, dialect, collection, keys(server, dialect)), least=15)


def test_throttled_blobs_and_a_broken_search_are_survived(
    world: FarmWorld, files: WorldFiles, planetary: Running
) -> None:
    server = planetary.server
    local = observed(world, str(files.catalog), "planetary-computer", "landsat-c2-l2", ReaderOptions())
    server.faults.add(Fault(kind=FaultKind.THROTTLED, path="blob", times=3, retry_after="0"))
    server.faults.add(Fault(kind=FaultKind.RESET, path="blob", times=2))
    server.faults.add(Fault(kind=FaultKind.INVALID_JSON, path="^/search"))
    options = ReaderOptions(proxy_url=server.base_url, wait_initial_s=0.01)
    same(local, observed(world, server.base_url, "planetary-computer", "landsat-c2-l2", options), least=15)


@pytest.mark.parametrize(("collection", "least"), [("landsat-c2-l2", 4), ("hls2-l30", 4), ("hls2-s30", 8)])
def test_every_sensor_sees_the_same_large_even_fields(
    world: FarmWorld, files: WorldFiles, collection: str, least: int
) -> None:
    """All see one ground: over whole pixels of an even field only noise and quantisation remain."""
    found = observed(world, str(files.catalog), "planetary-computer", collection, ReaderOptions())
    compared = 0
    for (day, farm_id), cell in found.items():
        own = world.farm(farm_id)
        if own.even and own.size_class_ha >= 5.0 and np.isfinite(cell.mean()) and not cell.mixed[0]:
            assert cell.mean() == pytest.approx(world.true_index(farm_id, day, NarrowNdvi()), abs=0.004)
            compared += 1
    assert compared >= least


class NarrowNdvi:
    """The formula over the narrow near infrared, which is the one these sensors have; written out, as truth."""

    slug = "ndvi"

    def evaluate(self, bands: Mapping[str, npt.NDArray[np.floating]], /) -> npt.NDArray[np.floating]:
        return (bands["nir08"] - bands["red"]) / (bands["nir08"] + bands["red"])
