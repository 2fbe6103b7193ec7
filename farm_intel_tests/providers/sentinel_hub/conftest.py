"""One small world behind one emulator for all tests of the adapter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pytest

from farm_intel.domain.batches import FarmShape, SceneDay
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import Scene, SceneQuery, solar_day
from farm_intel.providers.collections.sentinel_hub import ROWS
from farm_intel.providers.sentinel_hub.catalog import SentinelHubCatalog
from farm_intel.providers.sentinel_hub.options import SentinelHubOptions
from farm_intel.resilience.guard import PlainGuard
from farm_intel.resilience.retry import RetryPolicy
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.emulators.sentinel_hub import (
    CLIENT_ID,
    CLIENT_SECRET,
    TOKEN_PATH,
    HubState,
    sentinel_hub_app,
)
from farm_intel.simulation.world import FarmWorld, WorldOptions

PROFILE = ROWS[0]
BOX = BBox(west=35.8, south=-1.3, east=36.2, north=-0.9)
WORLD = WorldOptions(
    seed=11, start=date(2026, 1, 4), days=21, farms=4, sizes_ha=(2.0, 5.0), tile_px=300, cloudiness=0.0
)


@dataclass(slots=True)
class Hub:
    """The emulator and how to reach it."""

    world: FarmWorld
    server: EmulatorServer
    state: HubState

    def options(self, **changes: object) -> SentinelHubOptions:
        values: dict[str, object] = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "base_url": self.server.base_url,
            "token_url": self.server.base_url + TOKEN_PATH,
            "timeout_s": 30.0,
        }
        return SentinelHubOptions(**{**values, **changes})  # type: ignore[arg-type]  # fields by name

    def catalog(self, **changes: object) -> SentinelHubCatalog:
        return SentinelHubCatalog(self.options(**changes), PROFILE, guard(), provider="sentinel_hub")

    def query(self, start: date = date(2026, 1, 1), end: date = date(2026, 3, 1)) -> SceneQuery:
        return SceneQuery(collection=PROFILE.collection, bbox=BOX, start=start, end=end)

    def scenes(self) -> list[Scene]:
        found = self.catalog().search(self.query())
        assert not found.problems
        return sorted(found.scenes, key=lambda scene: (scene.acquired_at, scene.tile))

    def days(self, count: int = 99) -> list[SceneDay]:
        by_day: dict[date, list[Scene]] = {}
        for scene in self.scenes():
            by_day.setdefault(solar_day(scene.acquired_at, 36.0), []).append(scene)
        return [SceneDay(solar_day=day, scenes=tuple(scenes)) for day, scenes in sorted(by_day.items())][:count]

    def farms(self, *farm_ids: str) -> list[FarmShape]:
        return [
            FarmShape(farm_id=farm.farm_id, boundary_wkb=farm.boundary_wkb)
            for farm in self.world.farms
            if not farm_ids or farm.farm_id in farm_ids
        ]

    def count(self, path: str) -> int:
        return sum(path in record.path for record in self.server.log)


def guard(retries: int = 0) -> PlainGuard:
    return PlainGuard(RetryPolicy(retries=retries, wait_initial_s=0.01, wait_max_s=0.02, wait_jitter_s=0.0))


@pytest.fixture(scope="session")
def running() -> Iterator[Hub]:
    world = FarmWorld(WORLD)
    app = sentinel_hub_app(world)
    with EmulatorServer(app) as server:
        yield Hub(world=world, server=server, state=app.state.hub)


@pytest.fixture
def hub(running: Hub) -> Iterator[Hub]:
    """The emulator without faults, quota, failing days and log."""
    yield running
    running.server.reset()
    running.state.failing_days.clear()
    running.state.units_quota = None
    running.state.token_lifetime_s = 3600.0
