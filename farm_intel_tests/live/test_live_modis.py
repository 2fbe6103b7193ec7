"""MODIS composites of the Planetary Computer: one search and one small read."""

from __future__ import annotations

from pathlib import Path

from farm_intel.domain.observations import Flag
from farm_intel_tests.live.support import REGION, container, live_only, observe, search

pytestmark = live_only


def test_a_composite_is_found_and_read(tmp_path: Path) -> None:
    installation = container(tmp_path, "modis", REGION, modis_url="")

    scenes = search(installation, REGION)
    cells = observe(installation, REGION)

    assert all("day_of_year" in scene.bands for scene in scenes)
    assert all(Flag.COMPOSITE in cell.flags for cell in cells)
    assert all(round(cell.gsd_m) == 463 for cell in cells)
