"""One small call per API of the real service; only where an account is set. Not part of CI, and never run so far."""

from __future__ import annotations

import os
from datetime import date

import numpy as np
import pytest
import shapely

from farm_intel.domain.batches import FarmShape, SceneDay
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import SceneQuery, solar_day
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.pipeline import SceneMajorEngine
from farm_intel.indices.registry import load_registry
from farm_intel.providers.sentinel_hub.blocks import sentinel_hub_block_readers
from farm_intel.providers.sentinel_hub.catalog import SentinelHubCatalog
from farm_intel.providers.sentinel_hub.options import MAIN_TOKEN_URL, MAIN_URL, SentinelHubOptions
from farm_intel.providers.sentinel_hub.statistics import SentinelHubStatistics
from farm_intel_tests.providers.sentinel_hub.conftest import PROFILE, guard

CLIENT_ID = os.environ.get("FARM_INTEL_SENTINEL_HUB_CLIENT_ID", "")
CLIENT_SECRET = os.environ.get("FARM_INTEL_SENTINEL_HUB_CLIENT_SECRET", "")


@pytest.mark.skipif(
    not (os.environ.get("FARM_INTEL_LIVE_TESTS") and CLIENT_ID and CLIENT_SECRET),
    reason="live calls cost units: set FARM_INTEL_LIVE_TESTS and the Sentinel Hub credentials to make them",
)
def test_the_real_service_speaks_as_the_emulator_does() -> None:
    """A field of 9 ha in Emilia-Romagna, one week of summer: both capabilities agree within the emulator's bound."""
    options = SentinelHubOptions(
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        base_url=os.environ.get("FARM_INTEL_SENTINEL_HUB_URL", MAIN_URL),
        token_url=os.environ.get("FARM_INTEL_SENTINEL_HUB_TOKEN_URL", MAIN_TOKEN_URL),
        block_px=64,
    )
    field = shapely.box(11.3000, 44.6000, 11.3038, 44.6027)
    farm = FarmShape(farm_id="LIVE", boundary_wkb=shapely.to_wkb(field))
    box = BBox(west=11.29, south=44.59, east=11.31, north=44.61)
    query = SceneQuery(collection=PROFILE.collection, bbox=box, start=date(2024, 7, 1), end=date(2024, 7, 7))
    found = SentinelHubCatalog(options, PROFILE, guard(2), provider="sentinel_hub").search(query)
    assert found.scenes
    assert not found.problems
    day = max(solar_day(scene.acquired_at, 11.3) for scene in found.scenes)
    scenes = tuple(scene for scene in found.scenes if solar_day(scene.acquired_at, 11.3) == day)
    days, indices = [SceneDay(solar_day=day, scenes=scenes)], load_registry().select(["ndvi"])
    (told,) = SentinelHubStatistics(options, guard(2), EngineOptions()).run(days, [farm], indices, PROFILE)
    readers = sentinel_hub_block_readers(options, PROFILE, guard(2))
    (read,) = SceneMajorEngine(readers, EngineOptions()).run(days, [farm], indices, PROFILE)

    assert told.verdicts == (None,)
    assert np.isfinite(told.statistics[0, 0, 0]) == np.isfinite(read.statistics[0, 0, 0])
    np.testing.assert_allclose(told.statistics[0, 0, 0], read.statistics[0, 0, 0], atol=0.003)
