"""Cloudy dates go, events stay: seasons with irregular overpasses and noise, indices that cloud pulls either way."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.domain.despiking import judge_spikes
from farm_intel.domain.looks import collect_looks
from farm_intel.indices.quality import assessment_rules
from farm_intel.indices.registry import load_registry
from farm_intel_tests.support.looks import look

NOISE = 0.015
CLOUDED = {"ndvi": 0.03, "ndwi": -0.03, "ndmi": 0.15, "evi": 0.12}
"""Index -> value over cloud (the simulated world's spectrum)."""
CANOPY = {"ndvi": 0.80, "ndwi": -0.70, "ndmi": 0.42, "evi": 0.75}
SOIL = {"ndvi": 0.18, "ndwi": -0.33, "ndmi": -0.17, "evi": 0.14}
RULES = {slug: assessment_rules(load_registry().get(slug)) for slug in CLOUDED}

seeds = st.integers(0, 2**32 - 1)
slugs = st.sampled_from(sorted(CLOUDED))


def _judge(slug, days, values):
    rules = RULES[slug]
    rows = [
        look("a", date.fromordinal(int(day)), float(value), index=slug) for day, value in zip(days, values, strict=True)
    ]
    looks = collect_looks(rows, rules.sensors)
    size = len(looks)
    return judge_spikes(looks, looks.value, np.full(size, NOISE), np.ones(size), rules.spikes)


def _overpasses(rng, count=30):
    """Return ordinals 2 to 14 days apart."""
    return date(2026, 1, 1).toordinal() + np.cumsum(rng.choice([2, 3, 5, 5, 5, 7, 10, 14], count))


def _noisy(rng, values):
    return np.asarray(values) + rng.normal(0.0, NOISE, len(values))


def test_cloud_pulls_where_its_spectrum_says():
    assert {slug: RULES[slug].spikes.cloud_value for slug in CLOUDED} == pytest.approx(CLOUDED, abs=0.02)


@given(seed=seeds, slug=slugs, at=st.integers(8, 22))
@settings(max_examples=150, deadline=None)
def test_a_harvest_survives(seed, slug, at):
    rng = np.random.default_rng(seed)
    days = _overpasses(rng)
    values = _noisy(rng, np.where(np.arange(30) < at, CANOPY[slug], SOIL[slug]))

    judged = _judge(slug, days, values)

    assert not judged.spike.any()
    assert judged.temporal[at] > 0.8


@given(seed=seeds, slug=slugs, weeks=st.integers(3, 12))
@settings(max_examples=100, deadline=None)
def test_a_drought_and_its_slow_recovery_survive(seed, slug, weeks):
    rng = np.random.default_rng(seed)
    days = _overpasses(rng)
    middle = days[15]
    depth = 0.7 * np.clip(1 - np.abs(days - middle) / (7 * weeks), 0, 1)
    values = _noisy(rng, CANOPY[slug] + depth * (SOIL[slug] - CANOPY[slug]))

    assert not _judge(slug, days, values).spike.any()


@given(seed=seeds, at=st.integers(8, 20), dates=st.integers(3, 6))
@settings(max_examples=100, deadline=None)
def test_a_flood_of_three_dates_survives(seed, at, dates):
    rng = np.random.default_rng(seed)
    days = _overpasses(rng)
    for slug, water in {"ndvi": -0.4, "ndwi": 0.6, "ndmi": 0.4}.items():
        values = np.full(30, CANOPY[slug])
        values[at : at + dates] = water

        assert not _judge(slug, days, _noisy(rng, values)).spike.any()


def test_open_water_of_a_single_date_is_not_cloud():
    days = date(2026, 1, 1).toordinal() + 5 * np.arange(11)
    for slug, water in {"ndvi": -0.4, "ndwi": 0.6}.items():
        values = np.full(11, CANOPY[slug])
        values[5] = water

        assert not _judge(slug, days, values).spike.any()


@given(seed=seeds, slug=st.sampled_from(["ndvi", "ndwi", "evi"]), at=st.integers(3, 26), opacity=st.floats(0.7, 1.0))
@settings(max_examples=150, deadline=None)
def test_a_single_cloudy_date_over_a_canopy_goes_and_nothing_else(seed, slug, at, opacity):
    rng = np.random.default_rng(seed)
    days = date(2026, 1, 1).toordinal() + np.cumsum(rng.choice([2, 3, 5, 5, 6], 30))
    values = np.full(30, CANOPY[slug])
    values[at] += opacity * (CLOUDED[slug] - CANOPY[slug])

    judged = _judge(slug, days, _noisy(rng, values))

    assert np.flatnonzero(judged.spike).tolist() == [at]
    assert judged.temporal[at] < 0.5


@given(seed=seeds, slug=st.sampled_from(["ndvi", "ndwi", "evi"]), at=st.integers(4, 24))
@settings(max_examples=100, deadline=None)
def test_two_cloudy_dates_in_a_row_go_together(seed, slug, at):
    rng = np.random.default_rng(seed)
    days = date(2026, 1, 1).toordinal() + np.cumsum(rng.choice([2, 3, 5, 5], 30))
    values = np.full(30, CANOPY[slug])
    values[at : at + 2] = CLOUDED[slug]

    judged = _judge(slug, days, _noisy(rng, values))

    assert np.flatnonzero(judged.spike).tolist() == [at, at + 1]


@given(seed=seeds, slug=slugs)
@settings(max_examples=100, deadline=None)
def test_a_whole_season_without_cloud_keeps_every_date(seed, slug):
    rng = np.random.default_rng(seed)
    days = _overpasses(rng, 40)
    age = days - days[0]
    green = 1 / (1 + np.exp(-0.15 * (age - 50))) - 1 / (1 + np.exp(-0.15 * (age - 140)))
    values = _noisy(rng, SOIL[slug] + green * (CANOPY[slug] - SOIL[slug]))

    assert not _judge(slug, days, values).spike.any()


def test_after_a_long_gap_a_returned_value_proves_nothing():
    days = date(2026, 1, 1).toordinal() + np.array([0, 5, 10, 39])

    judged = _judge("ndvi", days, [0.7, 0.7, 0.2, 0.65])

    assert not judged.spike.any()


def test_mowing_with_quick_regrowth_survives():
    days = date(2026, 1, 1).toordinal() + 5 * np.arange(8)

    assert not _judge("ndvi", days, [0.8, 0.8, 0.35, 0.42, 0.5, 0.58, 0.66, 0.72]).spike.any()


def test_the_newest_drop_is_unconfirmed_until_the_next_look():
    days = date(2026, 1, 1).toordinal() + 5 * np.arange(4)

    newest = _judge("ndvi", days, [0.8, 0.8, 0.8, 0.1])
    kept = _judge("ndvi", days, [0.8, 0.8, 0.8, 0.74])

    assert newest.unconfirmed.tolist() == [False, False, False, True]
    assert newest.temporal[3] == pytest.approx(RULES["ndvi"].spikes.unconfirmed)
    assert not kept.unconfirmed.any()
    assert kept.temporal[3] == 1.0


def test_without_neighbours_there_is_no_judgement():
    judged = _judge("ndvi", [date(2026, 1, 1).toordinal()], [0.1])

    assert np.isnan(judged.temporal).all()
    assert not judged.spike.any()
