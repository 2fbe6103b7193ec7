"""Confidence: what each component does, and that a first clear look is never locked out."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from farm_intel.domain.confidence import COMPONENTS, join_components, static_components, with_temporal
from farm_intel.domain.looks import collect_looks
from farm_intel.domain.observations import Flag
from farm_intel.indices.quality import assessment_rules
from farm_intel.indices.registry import load_registry
from farm_intel_tests.support.looks import look

RULES = assessment_rules(load_registry().get("ndvi"))
DAY = date(2026, 3, 1)


def _confidence(observation):
    looks = collect_looks([observation], RULES.sensors)
    components = static_components(looks, RULES.sensors, RULES.confidence)
    components = with_temporal(components, np.array([np.nan]), RULES.confidence)
    return float(join_components(components, RULES.confidence)[0]), dict(zip(COMPONENTS, components[0], strict=True))


def test_the_joint_is_the_weighted_geometric_mean():
    components = np.array([[1.0, 0.9, 0.8, 0.7, 0.6, 0.5], [0.3, np.nan, 1.0, 1.0, 0.2, np.nan]])
    weights = np.array([RULES.confidence.weights[name] for name in COMPONENTS])

    joined = join_components(components, RULES.confidence)

    assert joined[0] == pytest.approx(np.prod(components[0] ** weights) ** (1 / weights.sum()))
    known = [0, 2, 3, 4]
    expected = np.prod(components[1, known] ** weights[known]) ** (1 / weights[known].sum())
    assert joined[1] == pytest.approx(expected)


@pytest.mark.parametrize("component", range(len(COMPONENTS)))
def test_one_component_of_zero_is_not_redeemed_by_the_others(component):
    components = np.ones((1, len(COMPONENTS)))
    components[0, component] = 0.0

    assert join_components(components, RULES.confidence)[0] < RULES.confidence.minimum


@pytest.mark.parametrize(
    ("collection", "scene"),
    [
        ("sentinel-2-l2a", "S2A_37MBV"),
        ("landsat-c2-l2", "LC09_L2SP_168061"),
        ("landsat-c2-l2", "LE07_L2SP_168061"),
        ("landsat-c2-l2", "LT05_L2SP_168061"),
        ("modis-09A1-061", "MOD09A1.A2026060"),
        ("somebody-elses", "X"),
    ],
)
def test_a_first_clear_look_of_any_sensor_is_usable(collection, scene):
    confidence, components = _confidence(look("a", DAY, 0.5, collection=collection, scene=scene))

    assert confidence >= RULES.confidence.minimum
    assert components["temporal"] == RULES.confidence.uncorroborated


def test_confidence_falls_with_every_kind_of_doubt():
    clear, _ = _confidence(look("a", DAY, 0.5))
    doubts = [
        look("a", DAY, 0.5, cloud=0.3),
        look("a", DAY, 0.5, masked_fractions={"shadow": 0.3}),
        look("a", DAY, 0.5, valid_pixel_fraction=0.4),
        look("a", DAY, 0.5, n_effective=3.0),
        look("a", DAY, 0.5, flags=(Flag.MIXED_PIXELS,)),
        look("a", DAY, 0.5, flags=(Flag.RADIOMETRY_UNVERIFIED,)),
        look("a", DAY, 0.5, collection="modis-09A1-061", scene="MOD09A1.A2026060"),
    ]

    assert all(_confidence(doubt)[0] < clear - 0.01 for doubt in doubts)
    assert _confidence(look("a", DAY, 0.5, cloud=0.85))[0] < RULES.confidence.minimum


def test_sensors_are_told_by_scene_and_collection():
    cases = {
        ("sentinel-2-l2a", "S2B_MSIL2A"): ("msi", "msi"),
        ("COPERNICUS/S2_SR_HARMONIZED", "20260101T075131_20260101T080000_T37MBV"): ("msi", "msi"),
        ("hls2-s30", "HLS.S30.T37MBV.2026001T075131.v2.0"): ("msi", "oli"),
        ("HLSL30_2.0", "HLS.L30.T37MBV.2026001T075131.v2.0"): ("oli", "oli"),
        ("LANDSAT/LC08/C02/T1_L2", "LC08_168061_20260101"): ("oli", "oli"),
        ("landsat-c2-l2", "LE07_L2SP_168061_20260101_02_T1"): ("etm", "etm"),
        ("landsat-c2-l2", "LT05_L2SP_168061_19990101_02_T1"): ("tm", "etm"),
        ("modis-13Q1-061", "MYD13Q1.A2026001.h21v09"): ("modis", "modis"),
        ("MODIS/061/MOD09GA", "2026_01_01"): ("modis", "modis"),
        ("other", ""): ("unknown", "unknown"),
    }

    told = {case: RULES.sensors[RULES.sensors.number(*case)] for case in cases}

    assert {case: (sensor.family, sensor.bandpass) for case, sensor in told.items()} == cases
