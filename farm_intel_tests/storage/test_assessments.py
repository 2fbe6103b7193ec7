"""What is made of observations survives the store, on both databases, and storing it again changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import select

from farm_intel.domain.assessment import (
    Candidate,
    CandidateVerdict,
    Confidence,
    DailySeries,
    FarmState,
    FusedObservation,
    Phenology,
    Season,
    SeasonDay,
    StateReason,
)
from farm_intel.domain.observations import ObservationKey
from farm_intel.storage.assessment_tables import daily_series, fused_observations
from farm_intel.storage.assessments import SqlAssessmentStore
from farm_intel.storage.database import reading

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
DAY = date(2026, 2, 1)


@pytest.fixture
def assessments(engine):
    return SqlAssessmentStore(engine)


def _fused(farm="a", index="x", day=DAY, **changes):
    key = ObservationKey(farm_id=farm, index=index, provider="p", collection="c", solar_day=day - timedelta(days=3))
    candidate = Candidate(
        key=key,
        observed_day=day,
        value=0.51,
        harmonised=0.5,
        harmonisation='slope 0.98, "quoted" \\ back',
        standard_error=0.01,
        confidence=Confidence(value=0.75, components={"source": 1.0, "clear": 0.5}),
        verdict=CandidateVerdict.CHOSEN,
        reason="only one",
        flags=("composite",),
    )
    values = {
        "farm_id": farm,
        "index": index,
        "solar_day": day,
        "value": 0.5,
        "standard_error": 0.02,
        "confidence": 0.75,
        "method": "single",
        "candidates": (candidate, replace(candidate, verdict=CandidateVerdict.OUTRANKED)),
        "flags": ("composite", "provider_disagreement"),
        "reason": "why",
        "fingerprint": "f1",
        "recorded_at": NOW,
    }
    return FusedObservation(**(values | changes))


def _series(farm="a", index="x", days=40, fingerprint="s1"):
    rng = np.random.default_rng(1)
    values = rng.uniform(-1, 1, days).round(6)
    return DailySeries(
        farm_id=farm,
        index=index,
        start=DAY,
        values=values,
        sigma=np.abs(values) / 10,
        observed=rng.random(days) > 0.5,
        method="m",
        fingerprint=fingerprint,
    )


def _day(offset, **changes):
    values = {
        "day": DAY + timedelta(days=offset),
        "value": 0.4,
        "baseline": None,
        "baseline_spread": None,
        "baseline_seasons": 0,
        "anomaly": None,
        "percentile": None,
        "trend_per_day": -0.001234,
        "trend_sigma": 0.0005,
    }
    return SeasonDay(**(values | changes))


def test_fused_observations_come_back_with_every_candidate(assessments):
    wanted = [_fused("a"), _fused("a", day=DAY + timedelta(days=5), value=None, standard_error=None), _fused("b", "y")]

    assessments.save_fused(list(reversed(wanted)), recorded_at=NOW)

    assert list(assessments.fused()) == wanted
    assert list(assessments.fused(farm_ids=["a"], usable=True)) == wanted[:1]
    assert list(assessments.fused(indices=["y"])) == wanted[2:]
    assert list(assessments.fused(start=DAY + timedelta(days=1), end=DAY + timedelta(days=9))) == wanted[1:2]
    assert list(assessments.fused(farm_ids=[])) == []
    assert list(assessments.fused(with_candidates=False)) == [replace(item, candidates=()) for item in wanted]


def test_storing_equal_content_again_does_not_even_change_its_time(assessments, engine):
    assessments.save_fused([_fused()], recorded_at=NOW)
    assessments.save_series([_series()], recorded_at=NOW)

    assessments.save_fused([_fused()], recorded_at=LATER)
    assessments.save_series([_series()], recorded_at=LATER)

    with reading(engine) as connection:
        assert connection.scalars(select(fused_observations.c.recorded_at)).all() == [NOW]
        assert connection.scalars(select(daily_series.c.recorded_at)).all() == [NOW]


def test_a_new_judgement_replaces_the_old_one_and_days_that_are_gone_are_removed(assessments):
    other = DAY + timedelta(days=5)
    assessments.save_fused([_fused(), _fused(day=other)], recorded_at=NOW)

    assessments.save_fused([_fused(value=0.7, fingerprint="f2")], recorded_at=LATER, gone=[("a", "x", other)])

    assert list(assessments.fused()) == [_fused(value=0.7, fingerprint="f2", recorded_at=LATER)]
    block = {"farm_ids": ["a"], "indices": ["x"], "start": DAY, "end": other}
    assert assessments.fused_fingerprints(**block) == {("a", "x", DAY): "f2"}


def test_daily_series_come_back_to_six_decimals(assessments):
    assessments.save_series([_series("b"), _series("a", days=1)], recorded_at=NOW)

    first, second = assessments.series()

    assert (first.farm_id, second.farm_id, second.start, second.method) == ("a", "b", DAY, "m")
    np.testing.assert_array_equal(second.values, _series().values)
    np.testing.assert_allclose(second.sigma, _series().sigma, atol=5e-7)
    np.testing.assert_array_equal(second.observed, _series().observed)
    assessments.save_series([], recorded_at=NOW, gone=[("a", "x")])
    assert [item.farm_id for item in assessments.series()] == ["b"]


def test_seasons_come_back_with_what_is_missing_still_missing(assessments):
    season = Season(
        farm_id="a",
        index="x",
        days=(
            _day(0),
            _day(2, baseline=0.45, baseline_spread=0.03, baseline_seasons=2, anomaly=-0.05, percentile=12.5),
        ),
        seasons=(
            Phenology(
                start=DAY,
                start_sigma_days=2.5,
                peak=None,
                peak_value=None,
                end=None,
                end_sigma_days=None,
                amplitude=0.4,
                complete=False,
                note="running",
            ),
        ),
        note="one season",
        fingerprint="z",
    )
    empty = replace(season, farm_id="b", days=(), seasons=())

    assessments.save_seasons([empty, season], recorded_at=NOW)

    assert list(assessments.seasons()) == [season, empty]
    assert list(assessments.seasons(farm_ids=["b"], indices=["x"])) == [empty]


def test_states_come_back_and_events_can_be_asked_for(assessments):
    calm = FarmState(
        farm_id="a",
        day=DAY,
        state="growth",
        since=DAY - timedelta(days=4),
        confidence=0.8,
        reasons=(StateReason(index="x", fact="mean", value=0.5, threshold=0.4, source="s"),),
        interpretation="i",
        action="a",
        crop="maize",
        rule_table="t 1",
        fingerprint="q",
    )
    event = replace(calm, day=DAY + timedelta(days=1), state="harvested", event="harvest", crop=None)

    assessments.save_states([event, calm], recorded_at=NOW)

    assert list(assessments.states()) == [calm, event]
    assert list(assessments.states(events_only=True)) == [event]
    assert list(assessments.states(farm_ids=["a"], end=DAY)) == [calm]
    assessments.save_states([], recorded_at=NOW, gone=[("a", DAY)])
    assert list(assessments.states()) == [event]
