"""Sentinel Hub: one search, one small block of pixels, one table; the deployment is the environment's."""

from __future__ import annotations

from pathlib import Path

from farm_intel.domain.observations import Flag
from farm_intel_tests.live.support import FIELD, agree, container, live_only, observe, search

pytestmark = live_only


def test_catalogue_pixels_and_statistics_speak_as_the_emulator_does(tmp_path: Path) -> None:
    pixels = container(tmp_path / "pixels", "sentinel_hub", FIELD, sentinel_hub_capability="pixels")
    tables = container(tmp_path / "tables", "sentinel_hub", FIELD, sentinel_hub_capability="statistics")

    scenes = search(pixels, FIELD)
    read, told = observe(pixels, FIELD), observe(tables, FIELD)

    assert all(scene.processing_baseline and scene.tile for scene in scenes)
    assert all(Flag.PROVIDER_STATISTICS in cell.flags for cell in told if cell.statistics)
    agree(read, told, within=0.003)
    (spent,) = [status for status in pixels.budgets() if status.provider == "sentinel_hub"]
    assert 0.0 < spent.spent < 5.0
