"""Fusing and smoothing through a real store: what is stored, what is judged again, what is removed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from farm_intel.assessing.service import AssessingService
from farm_intel.domain.assessment import CandidateVerdict
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.indices.registry import load_registry
from farm_intel.storage.assessments import SqlAssessmentStore
from farm_intel.storage.database import migrate, open_database
from farm_intel_tests.support.clock import FakeClock
from farm_intel_tests.support.looks import FixedObservations, look

INDEX = "ndvi"
START = date(2026, 1, 1)
END = date(2026, 12, 31)


@pytest.fixture
def assessments(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path}/store.db")
    migrate(engine)
    yield SqlAssessmentStore(engine)
    engine.dispose()


def _service(assessments, rows, **options):
    clock = FakeClock()
    return AssessingService(
        observations=FixedObservations(rows), assessments=assessments, registry=load_registry(), clock=clock, **options
    )


def _every_five_days(values, farm="a", **changes):
    return [look(farm, START + timedelta(days=5 * k), value, **changes) for k, value in enumerate(values)]


def test_the_first_clear_observation_of_a_farm_is_usable(assessments):
    (fused,) = _service(assessments, _every_five_days([0.6])).fuse(["a"], [INDEX], start=START, end=END)

    assert (fused.value, fused.method) == (0.6, "single")
    assert fused.confidence > 0.9
    assert [replace(item, recorded_at=None) for item in assessments.fused()] == [fused]


def test_a_newest_drop_is_kept_with_less_confidence_and_judged_again_when_the_next_look_comes(assessments):
    rows = _every_five_days([0.8, 0.8, 0.8, 0.1])
    *_, newest = _service(assessments, rows).fuse(["a"], [INDEX], start=START, end=END)
    assert newest.value == 0.1
    assert "unconfirmed_change" in newest.flags
    assert newest.confidence < 0.85

    returned = look("a", START + timedelta(days=20), 0.8)
    day = returned.key.solar_day
    again = list(_service(assessments, [*rows, returned]).fuse(["a"], [INDEX], start=day, end=day))

    judged = {item.solar_day: item for item in again}
    assert judged[newest.solar_day].value is None
    assert judged[newest.solar_day].candidates[0].verdict is CandidateVerdict.DESPIKED
    assert judged[day].value == 0.8
    stored = {item.solar_day: item.value for item in assessments.fused()}
    assert stored[newest.solar_day] is None
    assert len(stored) == 5


def test_a_newest_drop_that_persists_is_confirmed(assessments):
    rows = _every_five_days([0.8, 0.8, 0.8, 0.15, 0.16])

    fused = {item.solar_day: item for item in _service(assessments, rows).fuse(["a"], [INDEX], start=START, end=END)}

    harvest = fused[START + timedelta(days=15)]
    assert harvest.value == 0.15
    assert "unconfirmed_change" not in harvest.flags
    assert harvest.confidence > 0.9


def test_fusing_again_changes_nothing_and_days_that_lost_their_number_are_removed(assessments):
    rows = _every_five_days([0.5, 0.52, 0.54])
    first = list(_service(assessments, rows).fuse(["a"], [INDEX], start=START, end=END))
    stored = list(assessments.fused())

    assert list(_service(assessments, rows).fuse(["a"], [INDEX], start=START, end=END)) == first
    assert list(assessments.fused()) == stored

    lost = replace(rows[1], status=ObservationStatus.CLOUDY, statistics=None)
    list(_service(assessments, [rows[0], lost, rows[2]]).fuse(["a"], [INDEX], start=START, end=END))
    assert [item.value for item in assessments.fused()] == [0.5, 0.54]


def test_a_day_fused_alone_says_what_the_whole_year_fused_at_once_says(assessments):
    rng = np.random.default_rng(3)
    rows = _every_five_days(rng.choice([0.8, 0.75, 0.1, 0.3], 60).tolist())
    at_once = list(_service(assessments, rows).fuse(["a"], [INDEX], start=START, end=END))

    alone = _service(assessments, rows)
    one_by_one = [
        item for fused in at_once for item in alone.fuse(["a"], [INDEX], start=fused.solar_day, end=fused.solar_day)
    ]

    assert one_by_one == at_once


def test_a_composite_counts_on_the_day_its_pixels_were_seen(assessments):
    seen = datetime(2026, 1, 11, 12, tzinfo=UTC)
    composite = look("a", START, 0.5, flags=(Flag.COMPOSITE,), acquired_at=seen, gsd_m=500.0)

    (fused,) = _service(assessments, [composite]).fuse(["a"], [INDEX], start=START, end=END)

    assert fused.solar_day == seen.date()
    assert fused.candidates[0].key.solar_day == START
    assert list(_service(assessments, [composite]).fuse(["a"], [INDEX], start=START, end=START)) == []


def test_harmonisation_can_be_switched_off(assessments):
    landsat = look(
        "a", START, 0.6, provider="landsat", collection="landsat-c2-l2", scene="LC08_L2SP_168061_20260101", gsd_m=30.0
    )

    (on,) = _service(assessments, [landsat]).fuse(["a"], [INDEX], start=START, end=END)
    (off,) = _service(assessments, [landsat], harmonise=False).fuse(["a"], [INDEX], start=START, end=END)

    assert off.value == 0.6
    assert off.candidates[0].harmonisation == ""
    assert on.value != 0.6
    assert "HLS" in on.candidates[0].harmonisation
    assert on.fingerprint != off.fingerprint


def test_an_index_has_its_own_order_of_providers_and_a_new_order_is_a_new_judgement(assessments):
    orders = {INDEX: ("stac", "earth_engine"), "ndmi": ("earth_engine", "stac")}
    rows = [look("a", START, 0.6, provider=name, index=index) for name in ("stac", "earth_engine") for index in orders]
    service = _service(assessments, rows, preference=orders.__getitem__)

    fused = {item.index: item for item in service.fuse(["a"], list(orders), start=START, end=END)}

    chosen = {
        index: [c.key.provider for c in item.candidates if c.verdict is CandidateVerdict.CHOSEN]
        for index, item in fused.items()
    }
    assert chosen == {INDEX: ["stac"], "ndmi": ["earth_engine"]}
    turned = _service(assessments, rows, preference=lambda index: orders[index][::-1])
    (again,) = turned.fuse(["a"], [INDEX], start=START, end=END)
    assert again.fingerprint != fused[INDEX].fingerprint


def test_a_series_runs_from_the_first_to_the_last_usable_day_and_is_stored(assessments):
    service = _service(assessments, _every_five_days([0.5, 0.55, 0.1, 0.6, 0.62]) + _every_five_days([0.4], "b"))
    list(service.fuse(["a", "b", "c"], [INDEX], start=START, end=END))

    first, second = service.build_series(["a", "b", "c"], [INDEX])

    assert (first.start, len(first.values), int(first.observed.sum())) == (START, 21, 4)
    assert len(second.values) == 1
    assert [item.fingerprint for item in assessments.series()] == [first.fingerprint, second.fingerprint]
    assert service.series("c", INDEX) is None
