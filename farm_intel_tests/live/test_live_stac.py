"""Public STAC catalogues of Sentinel-2: one search each, and one small read where files are public."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm_intel_tests.live.support import FIELD, container, live_only, observe, search

pytestmark = live_only
PIXELS_OF_FIELD = 30 * 30
CATALOGUES = {
    "earth-search": "https://earth-search.aws.element84.com/v1",
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
    "cdse": "https://stac.dataspace.copernicus.eu/v1",
}


@pytest.mark.parametrize("dialect", list(CATALOGUES))
def test_a_search_is_understood(tmp_path: Path, dialect: str) -> None:
    installation = container(tmp_path, "stac", FIELD, stac_url=CATALOGUES[dialect], stac_dialect=dialect)

    scenes = search(installation, FIELD)

    assert all(scene.epsg == 32632 for scene in scenes)
    assert all(scene.tile for scene in scenes)


@pytest.mark.parametrize("dialect", ["earth-search", "planetary-computer"])
def test_a_field_is_read(tmp_path: Path, dialect: str) -> None:
    installation = container(tmp_path, "stac", FIELD, stac_url=CATALOGUES[dialect], stac_dialect=dialect)

    cells = observe(installation, FIELD)

    assert all(cell.gsd_m == 10.0 for cell in cells)
    assert all(cell.pixel_count == pytest.approx(PIXELS_OF_FIELD, rel=0.15) for cell in cells)
