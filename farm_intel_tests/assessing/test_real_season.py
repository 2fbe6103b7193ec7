"""A real season (33 Sentinel-2 dates over a Spanish field, 2019): nothing real is despiked, planted cloud is, and the
daily series predicts dates it was not shown as well as it says."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from farm_intel.assessing.service import build_series
from farm_intel.domain.assessment import CandidateVerdict
from farm_intel.domain.fused_days import assemble
from farm_intel.domain.fusion import decide
from farm_intel.domain.looks import collect_looks
from farm_intel.indices.quality import assessment_rules, smoothing_rule
from farm_intel.indices.registry import load_registry
from farm_intel_tests.support.looks import look

DATA = Path("../shared/data/sentinel2_field_spain_2019")
INDEX = load_registry().get("ndvi")
RULES = assessment_rules(INDEX)
CLOUD_RED, CLOUD_NIR = 0.58, 0.61

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not beside the repository")


def _read(path):
    with rasterio.open(path) as source:
        return source.read(1) / 1e4, source.crs, source.transform


@pytest.fixture(scope="module")
def season():
    """Return day -> (red, nir) of the field's pixels, for every date that shows the whole field."""
    geometry = json.loads((DATA / "field.geojson").read_text())
    geometry = geometry["features"][0]["geometry"] if "features" in geometry else geometry.get("geometry", geometry)
    dates = {}
    for folder in sorted(path for path in DATA.iterdir() if path.is_dir()):
        red, crs, transform = _read(folder / "red.tif")
        nir, _, _ = _read(folder / "nir.tif")
        inside = ~geometry_mask([transform_geom("EPSG:4326", crs, geometry)], red.shape, transform)
        if (red[inside] > 0).mean() > 0.99:
            dates[date.fromisoformat(folder.name.split("_")[3])] = (red[inside], nir[inside])
    return dates


def _look(day, red, nir, opacity=0.0):
    red = (1 - opacity) * red + opacity * CLOUD_RED
    nir = (1 - opacity) * nir + opacity * CLOUD_NIR
    return look("es", day, float(np.mean((nir - red) / (nir + red))), standard_error=0.003)


def _fuse(rows):
    return list(assemble(decide(collect_looks(rows, RULES.sensors), RULES), RULES))


def test_nothing_of_a_real_season_is_taken_for_cloud(season):
    fused = _fuse([_look(day, *pixels) for day, pixels in season.items()])

    assert len(fused) >= 29
    assert all(item.method == "single" for item in fused)
    assert min(item.confidence for item in fused) > 0.9


@pytest.mark.parametrize("opacity", [0.6, 0.9])
def test_cloud_planted_on_any_date_of_the_green_season_is_found_alone(season, opacity):
    days = list(season)
    values = {day: _look(day, *pixels).statistics.mean for day, pixels in season.items()}
    green = [
        day
        for before, day, after in zip(days, days[1:], days[2:], strict=False)
        if min(values[before], values[after]) > 0.35 and (after - before).days <= 20
    ]
    assert len(green) >= 4
    for cloudy in green:
        fused = _fuse([_look(day, *pixels, opacity if day == cloudy else 0.0) for day, pixels in season.items()])

        despiked = [i.solar_day for i in fused if i.candidates[0].verdict is CandidateVerdict.DESPIKED]
        assert despiked == [cloudy]


def test_dates_left_out_are_predicted_within_the_uncertainty(season):
    rows = [_look(day, *pixels) for day, pixels in season.items()]
    fused = _fuse(rows)
    scores = []
    for left_out in fused[1:-1]:
        (series,) = build_series([item for item in fused if item is not left_out], smoothing_rule(INDEX))
        k = (left_out.solar_day - series.start).days
        assert not series.observed[k]
        scores.append((left_out.value - series.values[k]) / np.hypot(series.sigma[k], left_out.standard_error))

    assert np.mean(np.abs(scores) <= 2.0) >= 0.85
    assert np.abs(scores).max() < 5.0
