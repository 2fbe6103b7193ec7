"""One emulator for all tests of the adapter: the client's state belongs to the process anyway."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from farm_intel.providers.earth_engine.options import EarthEngineOptions
from farm_intel.providers.earth_engine.session import reset_earth_engine
from farm_intel.simulation.emulators.earth_engine import earth_engine_app, throwaway_key
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.providers.earth_engine.support import Rig

SMALL = WorldOptions(seed=7, start=date(2026, 1, 4), days=41, farms=14, tile_px=360)


@pytest.fixture(scope="session")
def whole_rig() -> Iterator[Rig]:
    world = FarmWorld(SMALL)
    app = earth_engine_app(world)
    with EmulatorServer(app) as server:
        options = EarthEngineOptions(
            project="farm-test", credentials=throwaway_key(server.base_url), url=server.base_url, timeout_s=20.0
        )
        yield Rig(world, app, server, options)
        reset_earth_engine()


@pytest.fixture
def rig(whole_rig: Rig) -> Iterator[Rig]:
    whole_rig.session.initialise()
    whole_rig.server.reset()
    yield whole_rig
    whole_rig.server.reset()
    whole_rig.emulator.memory_pixels = None
    whole_rig.emulator.restricted = False
