"""Earth Engine: one search, one small block of pixels and one table for each of its collections."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm_intel.domain.observations import Flag
from farm_intel_tests.live.support import FIELD, REGION, Place, agree, container, live_only, observe, search

pytestmark = live_only


@pytest.mark.parametrize(
    ("provider", "place"), [("earth_engine", FIELD), ("earth_engine_landsat", FIELD), ("earth_engine_modis", REGION)]
)
def test_catalogue_pixels_and_statistics_speak_as_the_emulator_does(
    tmp_path: Path, provider: str, place: Place
) -> None:
    pixels = container(tmp_path / "pixels", provider, place, earth_engine_capability="pixels")
    tables = container(tmp_path / "tables", provider, place, earth_engine_capability="statistics")

    search(pixels, place)
    read, told = observe(pixels, place), observe(tables, place)

    assert all(Flag.PROVIDER_STATISTICS in cell.flags for cell in told if cell.statistics)
    agree(read, told, within=0.003)
