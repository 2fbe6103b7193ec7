"""Landsat's catalogues: one search each, and one small read from the Planetary Computer."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm_intel_tests.live.support import FIELD, container, live_only, observe, search

pytestmark = live_only


@pytest.mark.parametrize("dialect", ["planetary-computer", "earth-search", "usgs"])
def test_a_search_is_understood(tmp_path: Path, dialect: str) -> None:
    installation = container(tmp_path, "landsat", FIELD, landsat_url="", landsat_dialect=dialect)

    scenes = search(installation, FIELD)

    assert all(scene.epsg == 32632 for scene in scenes)
    assert all("qa_radsat" in scene.bands for scene in scenes)


def test_a_field_is_read(tmp_path: Path) -> None:
    """Only where reading costs nobody's account."""
    installation = container(tmp_path, "landsat", FIELD, landsat_url="", landsat_dialect="planetary-computer")

    cells = observe(installation, FIELD)

    assert all(cell.gsd_m == 30.0 for cell in cells)
    assert all(cell.pixel_count == pytest.approx(100, rel=0.35) for cell in cells)
