"""Alerts on simulated seasons reach the limit, and the scoreboard sees rules that do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from farm_intel.alerts.facts import Explains
from farm_intel.alerts.rules import load_alert_rules, stage_at
from farm_intel.cli.alert_scoring import score_alert_rules, tell_alerts
from farm_intel.domain.observations import ObservationStatus
from farm_intel.indices.registry import load_registry
from farm_intel.indices.state_rules import load_state_rules
from farm_intel.simulation.alert_accuracy import match_alerts, score_alerts
from farm_intel.simulation.alert_truth import TrueAlert, is_scored, true_alerts
from farm_intel.simulation.season_stores import SeasonObservations, logged_harvests
from farm_intel.simulation.seasons import SeasonOptions, simulate_seasons

RULES, REGISTRY, STATES = load_alert_rules(), load_registry(), load_state_rules()
EXPLAINS = {"harvest": Explains(facts=frozenset({"canopy_loss"}), days=60)}
SEED, FARMS = 411, 24
LENIENT = 0.8
"""What so few farms must reach: with 50 true alerts 0.8 is three standard errors below 0.94; `farm-intel accuracy`
holds 360 farms to the limit."""


def stage_of(crop: str, age: int) -> str | None:
    return stage_at(RULES.stages_of(crop), age)


@pytest.fixture(scope="module")
def simulated():
    indices = REGISTRY.select(STATES.indices)
    return {farm.farm_id: farm for farm in simulate_seasons(SeasonOptions(seed=SEED, farms=FARMS), indices)}


@pytest.fixture(scope="module")
def told(simulated):
    return list(tell_alerts(simulated, RULES, REGISTRY, STATES, EXPLAINS))


def scored(alerts, rules=RULES.rules):
    return score_alerts(
        lambda _: alerts, rules, REGISTRY.select(STATES.indices), stage_of=stage_of, seeds=(SEED,), farms=FARMS
    )


def overall(report):
    return next(row for row in report.rows if row.judged)


def good(report) -> bool:
    return min(overall(report).precision, overall(report).recall) >= LENIENT


def test_alerts_are_told_on_seasons_they_were_not_tuned_on(told):
    report = scored(told)
    assert overall(report).true > 40
    assert good(report), report.table()
    assert {"frost", "activity_overdue", "part_of_field_failing"} <= set(report.not_scored)


def test_alerts_that_nobody_told_or_that_are_late_or_doubled_miss_it(told):
    late = [replace(one, opened=one.opened + timedelta(days=60)) for one in told]
    doubled = [*told, *(replace(one, opened=one.opened + timedelta(days=1)) for one in told)]
    early = [replace(one, opened=one.opened - timedelta(days=60)) for one in told]
    for wrong in ([], late, doubled, early):
        assert scored(wrong).failed_targets
        assert not good(scored(wrong))


def test_without_the_logbook_logged_harvests_are_false_alarms(simulated):
    some = dict(list(simulated.items())[:8])
    told = [one for one in tell_alerts(some, RULES, REGISTRY, STATES, EXPLAINS) if one.rule == "harvest_not_logged"]
    deaf = [one for one in tell_alerts(some, RULES, REGISTRY, STATES, {}) if one.rule == "harvest_not_logged"]
    logged = sum(len(logged_harvests(farm)) for farm in some.values())
    assert logged >= 4
    assert len(deaf) >= len(told) + logged // 2


def test_the_whole_path_is_the_same_as_its_parts(simulated, told):
    report = score_alert_rules(RULES, REGISTRY, STATES, EXPLAINS, seeds=(SEED,), farms=8)
    some = set(list(simulated)[:8])
    assert overall(report).told == sum(
        one.farm_id in some and is_scored(RULES.get(one.rule)) and RULES.get(one.rule).kind != "silence" for one in told
    )


DAY = date(2026, 3, 1)


def true(first: int, last: int, *, required: bool = True) -> TrueAlert:
    return TrueAlert(day=DAY + timedelta(days=first), latest=DAY + timedelta(days=last), required=required)


def test_an_event_is_told_once_and_in_time():
    truth = [true(0, 20), true(10, 30)]
    opened = [DAY + timedelta(days=day) for day in (-1, 12, 14, 16, 31)]
    pairs = match_alerts(truth, opened)
    assert [None if one is None else (one.day - DAY).days for one, _ in pairs] == [None, 10, 0, None, None]
    assert [late for _, late in pairs] == [0, 2, 14, 0, 0]


def test_half_of_the_harvests_are_logged_and_are_no_unlogged_ones(simulated):
    rule = RULES.get("harvest_not_logged")
    harvests = sum(event.kind == "harvest" for farm in simulated.values() for event in farm.events)
    logged = sum(len(logged_harvests(farm)) for farm in simulated.values())
    wanted = sum(len(true_alerts(farm, rule, stage_of)) for farm in simulated.values())
    assert 0.3 < logged / harvests < 0.7
    assert wanted == harvests - logged


def test_the_calendar_of_a_simulated_farm_has_its_looks(simulated):
    store = SeasonObservations(simulated)
    for farm_id, farm in list(simulated.items())[:5]:
        rows = store.calendar(farm_id=farm_id)
        assert [row.solar_day for row in rows if row.status is ObservationStatus.OBSERVED] == list(farm.days)
        assert rows == store.calendar(farm_id=farm_id)
