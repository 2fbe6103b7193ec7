"""The day's plan of a farm as an asset: told once a day in one run, with what is not settled."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from farm_intel.defs import compat
from farm_intel.defs.activity_assets import DAYS_AHEAD, DAYS_BACK, plan_partitions, plan_request
from farm_intel.defs.build import build_definitions
from farm_intel.defs.cell_events import CellLedger
from farm_intel.defs.due import days_in_flight
from farm_intel.defs.groups import asset_groups, cohort_groups
from farm_intel.defs.plan_events import PlanTeller, is_over, judge_plan
from farm_intel_tests.defs.harness import evaluations, instance_in, materializations, materialized, sync
from farm_intel_tests.support.fake_alerts import FakePlanEntry
from farm_intel_tests.support.fake_observing import FakeSettings, installation
from farm_intel_tests.support.fakes import FakeFarmStore, make_farm

FARMS = ("f00", "f01", "f02")
TODAY = datetime.now(UTC).date()
"""The plan's grid follows the calendar, whatever day the observations' grid ends on."""
PAST = TODAY - timedelta(days=2)
KEY = ("activities", "farm")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def planned(*entries: FakePlanEntry, farms=FARMS):
    made = installation(farms, asset_indices=("ndvi",))
    made.activities.entries = list(entries)
    return made


def request_of(instance, made, cohort=0):
    group = cohort_groups(asset_groups(made))[cohort]
    return plan_request(made, group, instance, datetime.now(UTC), run_key="k")


def run(instance, made, tags, job="activities"):
    definition = build_definitions(made).resolve_job_def(job)
    return definition.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def settled(result):
    return {e.partition: e for e in evaluations(result) if e.check_name == "all_settled"}


def test_the_daily_run_tells_the_plans_of_all_farms_at_once(instance):
    made = planned(
        FakePlanEntry(farm_id="f00", local_date=TODAY),
        FakePlanEntry(farm_id="f00", local_date=TODAY, local_time="05:15", title="Scout | east", state="done"),
        FakePlanEntry(farm_id="f02", local_date=TODAY + timedelta(days=1), state="planned", assignee=""),
        FakePlanEntry(farm_id="f01", local_date=PAST, state="waiting"),
        FakePlanEntry(farm_id="f01", local_date=TODAY + timedelta(days=2)),
    )

    request = request_of(instance, made)
    result = run(instance, made, request.tags)

    assert result.success
    assert materialized(instance, *KEY) == {f"{TODAY}|f00", f"{TODAY + timedelta(days=1)}|f02", f"{PAST}|f01"}
    (event,) = materializations(instance, KEY, f"{TODAY}|f00")
    assert event.metadata["planned"].value == 2
    assert event.metadata["state_done"].value == 1
    assert event.metadata["plan"].value.splitlines()[2:] == [
        "| 05:15 | Scout / east | irrigation | done | Wanjiru |  |",
        "| 06:30 | Irrigate the lower field | irrigation | due | Wanjiru |  |",
    ]
    checks = settled(result)
    assert checks[f"{TODAY}|f00"].passed, "the day is not over"
    assert not checks[f"{PAST}|f01"].passed
    assert checks[f"{PAST}|f01"].severity is dg.AssetCheckSeverity.WARN
    assert "Irrigate the lower field (waiting)" in checks[f"{PAST}|f01"].metadata["unsettled"].value


@pytest.mark.parametrize(
    ("states", "over", "passed", "severity"),
    [
        (("done", "skipped", "expired"), True, True, "WARN"),
        (("done", "planned"), True, False, "WARN"),
        (("done", "due"), True, False, "WARN"),
        (("running",), True, False, "WARN"),
        (("waiting",), True, False, "WARN"),
        (("waiting", "due", "running", "planned"), False, True, "WARN"),
        (("failed",), False, False, "ERROR"),
        (("failed", "waiting"), True, False, "ERROR"),
        ((), True, True, "WARN"),
    ],
)
def test_a_day_that_is_over_is_settled_and_a_dead_letter_never_is(states, over, passed, severity):
    entries = [FakePlanEntry(farm_id="f00", local_date=PAST, state=state) for state in states]

    check = judge_plan(entries, over=over)

    assert check.passed is passed
    assert check.severity.value == severity
    assert ("dead_letters" in check.metadata) is ("failed" in states)


@pytest.mark.parametrize(("hour", "over"), [(0, False), (11, False), (12, False), (23, False), (36, True)])
def test_a_day_is_over_when_it_is_over_on_every_farm(hour, over):
    day = date(2026, 6, 10)

    assert is_over(day, datetime(2026, 6, 10, tzinfo=UTC) + timedelta(hours=hour)) is over


def test_a_plan_that_was_withdrawn_does_not_stay_on_the_page(instance):
    made = planned(FakePlanEntry(farm_id="f00", local_date=PAST, state="due"))
    tags = request_of(instance, made).tags
    run(instance, made, tags)
    made.activities.entries = []

    result = run(instance, made, tags)

    newest, *_ = materializations(instance, KEY, f"{PAST}|f00")
    assert newest.metadata["plan"].value == "nothing is planned"
    assert settled(result)[f"{PAST}|f00"].passed
    assert materialized(instance, *KEY) == {f"{PAST}|f00"}, "farms that never had a plan stay grey"


def test_an_unchanged_plan_is_told_once_and_again_when_its_day_is_over(instance):
    made = planned(FakePlanEntry(farm_id="f00", local_date=TODAY, state="waiting"))
    group = cohort_groups(asset_groups(made))[0]
    sync(instance, made)
    counts = []
    for days in (0, 0, 3):
        ledger = CellLedger(instance=instance, run_id="r")
        at = datetime.now(UTC) + timedelta(days=days)
        teller = PlanTeller(group=group, container=made, ledger=ledger, now=at)
        for event in [*teller.tell([(TODAY, "f00")])]:
            instance.report_runless_asset_event(event)
        counts.append(len(materializations(instance, KEY, f"{TODAY}|f00")))

    assert counts == [1, 1, 2]


def test_a_backfill_gets_an_event_for_every_cell_it_asked_for(instance):
    made = planned()
    sync(instance, made)
    tags = {
        compat.RANGE_START_TAG: f"{PAST}|f00",
        compat.RANGE_END_TAG: f"{TODAY}|f01",
        compat.BACKFILL_TAG: "b1",
    }

    assert run(instance, made, tags).success

    assert materialized(instance, *KEY) == {
        f"{PAST + timedelta(days=n)}|{farm}" for n in range(3) for farm in ("f00", "f01")
    }


def test_the_schedule_asks_for_one_rectangle_and_holds_up_no_provider(tmp_path):
    made = planned()
    definitions = build_definitions(made)
    schedule = definitions.get_repository_def().get_schedule_def("activities_daily")
    at = datetime.combine(TODAY, datetime.min.time(), UTC) + timedelta(minutes=5)
    with instance_in(tmp_path / "dagster") as instance:
        with dg.build_schedule_context(
            instance,
            at,
            repository_def=definitions.get_repository_def(),
            resources={"farm_intel": definitions.resources["farm_intel"]},
        ) as context:
            (request,) = schedule.evaluate_tick(context).run_requests
        assert list(instance.get_dynamic_partitions("farms")) == list(FARMS), "new farms are there at once"
        assert run(instance, made, request.tags).success

    assert request.tags[compat.RANGE_START_TAG] == f"{TODAY - timedelta(days=DAYS_BACK)}|f00"
    assert request.tags[compat.RANGE_END_TAG] == f"{TODAY + timedelta(days=1)}|f02"
    assert days_in_flight([request.tags], "main", "stac") == set()
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_each_cohort_has_its_own_plan_job_and_schedule(instance):
    made = planned(FakePlanEntry(farm_id="f01", local_date=TODAY))
    made.farms = FakeFarmStore([make_farm("f00"), make_farm("f01", cohort="t36MZE_00")])
    repository = build_definitions(made).get_repository_def()

    assert run(instance, made, request_of(instance, made, 1).tags, "activities_t36MZE_00").success

    assert {"activities", "activities_t36MZE_00"} <= {job.name for job in repository.get_all_jobs()}
    assert {"activities_daily", "activities_daily_t36MZE_00"} <= {one.name for one in repository.schedule_defs}
    assert materialized(instance, *KEY, "t36MZE_00") == {f"{TODAY}|f01"}


def test_an_installation_without_farms_has_nothing_to_tell(instance):
    assert isinstance(request_of(instance, planned(farms=())), dg.SkipReason)


def test_the_grid_reaches_a_week_ahead_though_the_observations_end():
    grid = plan_partitions(FakeSettings(), "farms", TODAY)

    days = next(one for one in grid.partitions_defs if one.name == "date").partitions_def.get_partition_keys()

    assert days[0] == "2026-05-01"
    assert days[-1] == (TODAY + timedelta(days=DAYS_AHEAD)).isoformat()
