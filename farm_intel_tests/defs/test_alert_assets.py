"""Alerts as assets: what the rules say per farm and day, its check, its lineage; and after every assessment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from farm_intel.defs import compat
from farm_intel.defs.alert_events import AlertTeller
from farm_intel.defs.alert_health import (
    LATE_S,
    SILENT_S,
    audit_check,
    dead_letters_check,
    dead_messages_check,
    delivery_breakers_check,
    heartbeat_check,
    messages_on_time,
    occurrences_on_time,
)
from farm_intel.defs.assess_job import ASSESS_OP, look_for_changes
from farm_intel.defs.build import build_definitions
from farm_intel.defs.cell_events import CellLedger
from farm_intel.defs.groups import asset_groups, cohort_groups
from farm_intel.domain.alerts import AlertState
from farm_intel.domain.errors import StoreError
from farm_intel.observing.model import ObserveRequest
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord
from farm_intel_tests.defs.harness import TODAY, evaluations, materializations, materialized, sync
from farm_intel_tests.support.fake_alerts import LOW, VERY_LOW, FakeAlertHealth, FakeDeliveryHealth
from farm_intel_tests.support.fake_observing import FakeInstallation, installation
from farm_intel_tests.support.fakes import FakeFarmStore, make_farm

FARMS = ("f00", "f01")
DAYS = (date(2026, 6, 20), date(2026, 6, 25))
KEY = ("alerts", "farm")
NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
THRESHOLDS = {"low": 0.6, "very_low": 0.1}
"""Every farm is fused to 0.5: `low` holds, `very_low` is clear."""


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def observed(days=DAYS, farms=FARMS, thresholds=THRESHOLDS, **settings) -> FakeInstallation:
    made = installation(FARMS, days=days, asset_indices=("ndvi",), **settings)
    bound(made, thresholds)
    observe(made, days, farms)
    return made


def bound(made, thresholds):
    made.alerts.rules = {
        rule.slug: replace(rule, parameters={"enter": thresholds[rule.slug]}) for rule in (LOW, VERY_LOW)
    }


def observe(made, days, farms=FARMS, *, force=False):
    request = ObserveRequest(
        provider="stac",
        collection="sentinel-2-l2a",
        indices=("ndvi",),
        farm_ids=tuple(farms),
        days=tuple(days),
        force=force,
    )
    list(made.observing.observe(request, run_id="before"))


def fuse(made, farms=FARMS):
    list(made.assessing.fuse(farms, ["ndvi"], start=DAYS[0], end=DAYS[-1]))


def run_job(instance, made, request=None, **config):
    run_config = request.run_config if request else {"ops": {ASSESS_OP: {"config": config}}}
    job = build_definitions(made, today=TODAY).resolve_job_def("assess")
    return job.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)


def run_asset(instance, made, start, end, **tags):
    job = build_definitions(made, today=TODAY).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(list(KEY))],
        tags={compat.RANGE_START_TAG: start, compat.RANGE_END_TAG: end} | tags,
        raise_on_error=False,
    )


def cells(days=DAYS, farms=FARMS):
    return {f"{day}|{farm}" for day in days for farm in farms}


def no_alert(result):
    return {e.partition: e for e in evaluations(result) if e.check_name == "no_alert"}


def keys(days=DAYS, farms=FARMS):
    return sorted(cells(days, farms))


def test_after_the_states_come_the_alerts_of_every_day_something_was_seen(instance):
    made = observed()
    sync(instance, made)

    result = run_job(instance, made, keys=keys())

    assert result.success
    assert materialized(instance, *KEY) == cells(), "days without a look have nothing to tell"
    checks = no_alert(result)
    assert set(checks) == cells()
    assert not any(check.passed for check in checks.values())
    assert {check.severity for check in checks.values()} == {dg.AssetCheckSeverity.WARN}
    told = checks[f"{DAYS[0]}|f00"].metadata
    assert told["rules"].value == "low"
    assert told["because"].value == "low: 0.5 against 0.6 (a test)"
    assert {alert.state for alert in made.alerts.opened.values()} == {AlertState.OPEN}


def test_a_cell_tells_every_rule_the_alerts_of_the_day_and_what_it_rests_on(instance):
    made = observed()
    sync(instance, made)
    run_job(instance, made, keys=keys())

    (event,) = materializations(instance, KEY, f"{DAYS[1]}|f01")

    told = {name: value.value for name, value in event.metadata.items()}
    assert (told["holds"], told["clear"], told["unknown"], told["explained"]) == (1, 1, 0, 0)
    assert told["rules"].splitlines()[2:] == [
        "| low | holds | 0.5 | 0.6 | warning | a test |  |",
        "| very_low | clear | 0.5 | 0.1 | critical | a test |  |",
    ]
    assert f"| `alert-f01-low` | low | warning | open | {DAYS[0]} |" in told["alerts"]
    assert told["cells"] == f"- `stac|f01|{DAYS[1]}`"
    assert told["scenes"] == f"- `S2-{DAYS[1]}`"
    assert told["rasters"] == f"- `stac|f01|{DAYS[1]} {'cafe' * 16} 1`"


@pytest.mark.parametrize(
    ("thresholds", "passed", "severity"),
    [
        ({"low": 0.6, "very_low": 0.6}, False, dg.AssetCheckSeverity.ERROR),
        ({"low": 0.6, "very_low": 0.1}, False, dg.AssetCheckSeverity.WARN),
        ({"low": 0.1, "very_low": 0.1}, True, dg.AssetCheckSeverity.WARN),
    ],
)
def test_the_worst_rule_that_holds_is_the_severity(instance, thresholds, passed, severity):
    made = observed(thresholds=thresholds)
    sync(instance, made)
    fuse(made)

    check = no_alert(run_asset(instance, made, f"{DAYS[0]}|f00", f"{DAYS[0]}|f00"))[f"{DAYS[0]}|f00"]

    assert check.passed is passed
    assert check.severity is severity
    assert check.metadata["rules_that_hold"].value == sum(value > 0.5 for value in thresholds.values())


def test_what_a_logged_activity_explains_is_no_alert_but_is_told(instance):
    made = observed()
    made.alerts.explained = {("f00", DAYS[0])}
    sync(instance, made)
    fuse(made)

    result = run_asset(instance, made, f"{DAYS[0]}|f00", f"{DAYS[0]}|f01")

    (event,) = materializations(instance, KEY, f"{DAYS[0]}|f00")
    assert event.metadata["explained"].value == 1
    assert no_alert(result)[f"{DAYS[0]}|f00"].passed
    assert not no_alert(result)[f"{DAYS[0]}|f01"].passed


def test_the_check_counts_as_current_on_the_page(instance):
    made = observed()
    sync(instance, made)
    run_job(instance, made, keys=keys())

    assert compat.checked_partitions(instance, dg.AssetKey(list(KEY)), "no_alert", cells()) == cells()


def test_a_second_run_over_the_same_cells_makes_no_event(instance):
    made = observed()
    sync(instance, made)
    run_job(instance, made, keys=keys())

    again = run_job(instance, made, keys=keys())

    assert again.success
    assert not no_alert(again)
    assert all(len(materializations(instance, KEY, key)) == 1 for key in cells())


def test_a_run_that_died_before_its_events_is_finished_by_the_next(instance):
    made = observed()
    sync(instance, made)
    fuse(made)
    list(made.alerts.evaluate(FARMS, start=DAYS[0], end=DAYS[-1]))  # stored and absorbed, told to nobody

    assert run_job(instance, made, keys=keys()).success

    assert materialized(instance, *KEY) == cells()


def test_a_verdict_that_was_stored_and_never_told_is_told_by_the_next_run(instance):
    """The store is ahead of the events after a kill between the two; what it knew before must not decide."""
    made = observed()
    sync(instance, made)
    run_job(instance, made, keys=keys())
    bound(made, {"low": 0.1, "very_low": 0.1})
    list(made.alerts.evaluate(FARMS, start=DAYS[0], end=DAYS[-1]))

    checks = no_alert(run_job(instance, made, keys=keys()))

    assert set(checks) == cells()
    assert all(check.passed for check in checks.values())


def test_alerts_that_cannot_be_evaluated_make_the_run_red_and_keep_the_states(instance):
    made = observed()
    made.alerts.error = StoreError("the alerts are locked", hint="Wait.")
    sync(instance, made)

    failed = run_job(instance, made, keys=keys())
    state = dg.AssetKey(["state", "farm"])
    judged = compat.checked_partitions(instance, state, "state_known", [f"{DAYS[0]}|f00"])
    made.alerts.error = None
    again = run_job(instance, made, keys=keys())

    assert not failed.success
    assert "the alerts are locked" in str([e for e in failed.all_events if e.is_step_failure])
    assert f"{DAYS[0]}|f00" in materialized(instance, "state", "farm")
    assert judged, "the states are told with their checks before anything can go wrong"
    assert again.success
    assert materialized(instance, *KEY) == cells()


def test_a_day_nothing_is_known_of_any_more_is_told_once_it_was_told_before(instance):
    made = observed()
    sync(instance, made)
    run_job(instance, made, keys=keys())
    gone = f"{DAYS[0]}|f00"
    made.assessments.fused_rows.pop(("f00", "ndvi", DAYS[0]))

    result = run_asset(instance, made, gone, gone)

    newest, *_ = materializations(instance, KEY, gone)
    assert newest.metadata["note"].value.startswith("nothing could be evaluated")
    assert newest.metadata["unknown"].value == 2
    assert no_alert(result)[gone].passed, "the old verdict does not stand"


class ForgetsWhatWasTold(AlertTeller):
    """Tells only cells something can be said of."""

    def _is_told(self, evaluations, *, before):
        return super()._is_told(evaluations, before=False)


class TellsEverything(AlertTeller):
    """Tells cells nothing was ever known of."""

    def _is_told(self, evaluations, *, before):
        return True


@pytest.mark.parametrize(
    ("teller_type", "stale", "extra"),
    [(AlertTeller, False, set()), (ForgetsWhatWasTold, True, set()), (TellsEverything, False, {f"{DAYS[1]}|f01"})],
)
def test_each_protection_of_the_page_has_its_mutant(instance, teller_type, stale, extra):
    """Told cells do not go stale, cells nobody knows anything of stay grey; the mutants fail at one of the two."""
    made = observed(days=DAYS[:1])
    sync(instance, made)
    fuse(made)
    group = cohort_groups(asset_groups(made))[0]
    looks = [(day, farm) for day in DAYS for farm in FARMS if (day, farm) != (DAYS[1], "f00")]

    def tell():
        teller = teller_type(
            group=group, container=made, ledger=CellLedger(instance=instance, run_id="r", recheck=False)
        )
        for event in teller.tell(looks):
            instance.report_runless_asset_event(event)

    tell()
    made.assessments.fused_rows.clear()
    tell()

    newest, *_ = materializations(instance, KEY, f"{DAYS[0]}|f00")
    assert ("note" not in newest.metadata) is stale
    assert materialized(instance, *KEY) == cells(DAYS[:1]) | extra


def test_a_backfill_gets_an_event_for_every_cell_it_asked_for(instance):
    made = observed()
    sync(instance, made)
    fuse(made)
    between = DAYS[0] + timedelta(days=1)

    run_asset(instance, made, f"{DAYS[0]}|f00", f"{between}|f01", **{compat.BACKFILL_TAG: "b1"})

    assert materialized(instance, *KEY) == cells((DAYS[0], between))


def test_new_imagery_leads_to_alerts_without_a_click(instance):
    """The sensor's request, run as it is: no hand in between."""
    made = observed(thresholds={"low": 0.1, "very_low": 0.1})
    sync(instance, made)
    look = look_for_changes(made, cohort_groups(asset_groups(made)), instance, "")
    assert run_job(instance, made, look.run_requests[0]).success
    assert made.alerts.opened == {}
    bound(made, THRESHOLDS)
    observe(made, DAYS[1:], ("f01",), force=True)

    (request,) = look_for_changes(made, cohort_groups(asset_groups(made)), instance, look.cursor).run_requests
    result = run_job(instance, made, request)

    assert set(made.alerts.opened) == {("f01", "low")}
    assert [cell for cell, check in no_alert(result).items() if not check.passed] == [f"{DAYS[1]}|f01"]


def test_the_daily_schedule_evaluates_too(instance):
    made = observed()
    sync(instance, made)
    repository = build_definitions(made, today=TODAY).get_repository_def()
    (request,) = repository.get_schedule_def("assess_daily").evaluate_tick(dg.build_schedule_context()).run_requests

    assert run_job(instance, made, request).success

    assert materialized(instance, *KEY) == cells()


def test_it_rests_on_states_fused_values_and_seasons(instance):
    graph = build_definitions(observed(), today=TODAY).resolve_asset_graph()
    key = dg.AssetKey(list(KEY))

    assert {parent.to_user_string() for parent in graph.get(key).parent_keys} == {
        "state/farm",
        "fused/ndvi",
        "season/ndvi",
    }
    mapping = graph.get_partition_mapping(key, dg.AssetKey(["season", "ndvi"]))
    assert isinstance(mapping, dg.MultiToSingleDimensionPartitionMapping)


def test_each_cohort_has_its_own(instance):
    made = observed()
    made.farms = FakeFarmStore([make_farm("f00"), make_farm("f01", cohort="t36MZE_00")])
    sync(instance, made)

    assert run_job(instance, made, keys=keys()).success

    assert materialized(instance, *KEY) == cells(farms=("f00",))
    assert materialized(instance, *KEY, "t36MZE_00") == cells(farms=("f01",))


@pytest.mark.parametrize(("age_s", "passed"), [(0.0, True), (SILENT_S, True), (SILENT_S + 1.0, False), (None, False)])
def test_the_watcher_lives_while_its_heart_beats(age_s, passed):
    beat = None if age_s is None else NOW - timedelta(seconds=age_s)

    result = heartbeat_check(FakeAlertHealth(heartbeat=beat), NOW)

    assert result.passed is passed
    assert result.severity is dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize(("late_s", "passed"), [(None, True), (LATE_S, True), (LATE_S + 1.0, False)])
def test_what_is_due_for_long_is_late(late_s, passed):
    since = None if late_s is None else NOW - timedelta(seconds=late_s)

    assert occurrences_on_time(FakeAlertHealth(oldest_due=since), NOW).passed is passed
    assert messages_on_time(FakeDeliveryHealth(oldest_due=since), NOW).passed is passed


def test_findings_dead_letters_and_breakers_are_named():
    health = FakeAlertHealth(findings=["alert 7 is stuck"], dead_letters=["irrigation of f00, 2026-06-29"])
    delivery = FakeDeliveryHealth(
        counts={"email": {"sent": 9, "dead": 2}, "webhook": {"pending": 1}},
        breakers=[
            (
                Operation(provider="webhook", host="hooks.example.org", name="send"),
                BreakerRecord(version=1, open_until=NOW + timedelta(minutes=5), reason="503"),
            )
        ],
    )

    found, dead = audit_check(health, NOW), dead_letters_check(health, NOW)
    messages, breakers = dead_messages_check(delivery, NOW), delivery_breakers_check(delivery, NOW)

    assert not any(check.passed for check in (found, dead, messages, breakers))
    assert "alert 7 is stuck" in found.metadata["findings"].value
    assert "irrigation of f00" in dead.metadata["named"].value
    assert (messages.metadata["dead_letters"].value, messages.metadata["email"].value) == (2, 2)
    assert "webhook" not in messages.metadata
    assert "| webhook | hooks.example.org | open | 12:05:00 UTC | 503 |" in breakers.metadata["operations"].value
    assert all(
        check.passed
        for check in (
            audit_check(FakeAlertHealth(), NOW),
            dead_letters_check(FakeAlertHealth(), NOW),
            dead_messages_check(FakeDeliveryHealth(), NOW),
            delivery_breakers_check(FakeDeliveryHealth(), NOW),
        )
    )
