"""Series, seasons and states: as assets, by the job, and asked for only where observations changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from farm_intel.assessing.texts import state_texts
from farm_intel.defs import compat
from farm_intel.defs.assess_job import ASSESS_OP, look_for_changes
from farm_intel.defs.build import build_definitions
from farm_intel.defs.fused_health import confidence_check, disagreement_check, recent_fused
from farm_intel.defs.groups import asset_groups, cohort_groups
from farm_intel.domain.errors import StoreError
from farm_intel.observing.model import ObserveRequest
from farm_intel_tests.defs.harness import TODAY, evaluations, materializations, materialized, sync
from farm_intel_tests.support.fake_observing import FakeAssessmentStore, FakeInstallation, installation
from farm_intel_tests.support.fakes import FakeFarmStore, make_farm

FARMS = ("f00", "f01")
DAYS = tuple(date(2026, 6, 1) + timedelta(days=5 * n) for n in range(5))
"""1 to 21 June; the window ends on the 30th."""


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def observed(days=DAYS, farms=FARMS, **settings) -> FakeInstallation:
    made = installation(FARMS, days=days, asset_indices=("ndvi",), **settings)
    observe(made, days, farms)
    return made


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


def run_job(instance, made, **config):
    return (
        build_definitions(made, today=TODAY)
        .resolve_job_def("assess")
        .execute_in_process(
            instance=instance, run_config={"ops": {ASSESS_OP: {"config": config}}}, raise_on_error=False
        )
    )


def run_assets(instance, made, *keys, partition=None, tags=None):
    definitions = build_definitions(made, today=TODAY)
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(list(key)) for key in keys],
        partition_key=partition,
        tags=tags or {},
        raise_on_error=False,
    )


def keys_of(farms=FARMS, days=DAYS):
    return [f"{day}|{farm}" for farm in farms for day in days]


def look(instance, made, cursor=""):
    return look_for_changes(made, cohort_groups(asset_groups(made)), instance, cursor)


def test_the_job_fuses_smooths_seasons_and_states_up_to_the_newest_day(instance):
    made = observed()
    sync(instance, made)

    result = run_job(instance, made, keys=keys_of())

    assert result.success
    assert materialized(instance, "fused", "ndvi") == set(keys_of())
    assert materialized(instance, "daily", "ndvi") == set(FARMS)
    assert materialized(instance, "season", "ndvi") == set(FARMS)
    until = (TODAY - DAYS[0]).days + 1
    assert materialized(instance, "state", "farm") == set(
        keys_of(days=[DAYS[0] + timedelta(days=n) for n in range(until)])
    )
    (series,) = materializations(instance, ("daily", "ndvi"), "f00")
    assert series.metadata["days"].value == 21
    assert series.metadata["observed_share"].value == pytest.approx(5 / 21, abs=1e-4)
    assert series.metadata["last"].value == pytest.approx(0.5, abs=0.01)
    assert series.metadata["note"].value == "interpolated between observed days"
    (season,) = materializations(instance, ("season", "ndvi"), "f00")
    assert season.metadata["baseline_seasons"].value == 0
    assert season.metadata["note"].value != "none", "one season only is said"
    (state,) = materializations(instance, ("state", "farm"), f"{DAYS[-1]}|f00")
    stored = made.assessments.state_rows["f00", DAYS[-1]]
    assert state.metadata["state"].value == stored.state
    assert state.metadata["since"].value == stored.since.isoformat()
    texts = state_texts("en")
    assert state.metadata["interpretation"].value == texts.interpretation(stored)
    assert state.metadata["action"].value == texts.action(stored)
    assert all(texts.reason(reason) in state.metadata["reasons"].value for reason in stored.reasons)


def test_a_second_run_over_the_same_cells_makes_no_event(instance):
    made = observed()
    sync(instance, made)
    run_job(instance, made, keys=keys_of())

    again = run_job(instance, made, keys=keys_of())

    assert again.success
    assert not [e for e in again.all_events if e.is_step_materialization]
    assert not evaluations(again)


def test_a_run_that_died_between_its_steps_is_finished_by_the_next(instance):
    made = observed()
    sync(instance, made)
    made.assessments = BrokenStore()
    failed = run_job(instance, made, keys=keys_of())
    fused = dict(made.assessments.fused_rows)
    made.assessments = FakeAssessmentStore(fused_rows=fused)

    again = run_job(instance, made, keys=keys_of())

    assert not failed.success
    assert "disk full" in str([e for e in failed.all_events if e.is_step_failure])
    assert again.success
    assert materialized(instance, "daily", "ndvi") == set(FARMS)
    assert materialized(instance, "state", "farm")
    assert len(materializations(instance, ("fused", "ndvi"), f"{DAYS[0]}|f00")) == 1


class BrokenStore(FakeAssessmentStore):
    def save_series(self, series, *, recorded_at, gone=()):
        raise StoreError("disk full", hint="Make room.")


def test_the_lookback_covers_every_active_farm_and_states_of_farms_nobody_saw_are_unknown(instance):
    made = observed(farms=("f00",))
    sync(instance, made)

    result = run_job(instance, made, lookback_days=30)

    assert result.success
    days = [TODAY - timedelta(days=n) for n in range(30)]
    wanted = {f"{day}|{farm}" for day in days for farm in FARMS if day >= date(2026, 6, 1)}
    assert materialized(instance, "state", "farm") == wanted
    unknown = {
        event.partition: event
        for event in evaluations(result)
        if event.check_name == "state_known" and event.partition.endswith("f01")
    }
    assert len(unknown) == 30
    assert not any(event.passed for event in unknown.values())
    assert {event.severity for event in unknown.values()} == {dg.AssetCheckSeverity.WARN}
    (series,) = materializations(instance, ("daily", "ndvi"), "f01")
    assert series.metadata["days"].value == 0


def test_series_and_seasons_are_materialised_for_one_farm_from_the_page(instance):
    made = observed()
    sync(instance, made)
    list(made.assessing.fuse(FARMS, ["ndvi"], start=DAYS[0], end=DAYS[-1]))

    result = run_assets(instance, made, ("daily", "ndvi"), ("season", "ndvi"), partition="f01")

    assert result.success
    assert materialized(instance, "daily", "ndvi") == {"f01"}
    assert materialized(instance, "season", "ndvi") == {"f01"}


def test_states_of_a_rectangle_are_materialised_from_the_page_with_their_check(instance):
    made = observed()
    sync(instance, made)
    list(made.assessing.fuse(FARMS, ["ndvi"], start=DAYS[0], end=DAYS[-1]))
    tags = {compat.RANGE_START_TAG: "2026-06-20|f00", compat.RANGE_END_TAG: "2026-06-21|f01"}

    result = run_assets(instance, made, ("state", "farm"), tags=tags)

    cells = {f"2026-06-{day}|{farm}" for day in (20, 21) for farm in FARMS}
    assert result.success
    assert materialized(instance, "state", "farm") == cells
    told = {event.partition: event for event in evaluations(result) if event.check_name == "state_known"}
    assert set(told) == cells
    for cell, event in told.items():
        day, farm = cell.split("|")
        assert event.passed is (made.assessments.state_rows[farm, date.fromisoformat(day)].state != "unknown")


def test_a_series_rests_on_all_days_of_its_farm(instance):
    made = observed()
    sync(instance, made)
    graph = build_definitions(made, today=TODAY).resolve_asset_graph()

    mapping = graph.get_partition_mapping(dg.AssetKey(["daily", "ndvi"]), dg.AssetKey(["fused", "ndvi"]))

    assert isinstance(mapping, dg.MultiToSingleDimensionPartitionMapping)
    assert mapping.partition_dimension_name == "farm"


def test_the_sensor_asks_only_for_farms_that_changed_and_its_run_runs(instance):
    made = observed()
    sync(instance, made)
    first = look(instance, made)
    nothing = look(instance, made, first.cursor)
    observe(made, DAYS[2:3], ("f01",), force=True)
    second = look(instance, made, first.cursor)

    (everything,) = first.run_requests
    assert sorted(everything.run_config["ops"][ASSESS_OP]["config"]["keys"]) == sorted(
        keys_of(days=[DAYS[0] + timedelta(days=n) for n in range(21)])
    )
    assert isinstance(nothing, dg.SkipReason)
    (request,) = second.run_requests
    assert request.run_config["ops"][ASSESS_OP]["config"]["keys"] == [f"{DAYS[2]}|f01"]
    job = build_definitions(made, today=TODAY).resolve_job_def("assess")
    assert job.execute_in_process(instance=instance, run_config=request.run_config, tags=request.tags).success
    assert f"{DAYS[2]}|f01" in materialized(instance, "fused", "ndvi")
    assert not any(key.endswith("f00") for key in materialized(instance, "fused", "ndvi"))


def test_more_than_a_run_holds_is_asked_for_tick_by_tick_and_nothing_is_lost(instance):
    made = observed(run_max_cells=30)
    sync(instance, made)
    asked: list[str] = []
    cursor = ""
    for _ in range(2):
        result = look(instance, made, cursor)
        (request,) = result.run_requests
        keys = request.run_config["ops"][ASSESS_OP]["config"]["keys"]
        assert len(keys) <= 30
        asked += keys
        cursor = result.cursor
        observe(made, DAYS[:1], ("f00",), force=True)

    assert sorted(asked) == sorted(keys_of(days=[DAYS[0] + timedelta(days=n) for n in range(21)]))
    (again,) = look(instance, made, cursor).run_requests
    assert again.run_config["ops"][ASSESS_OP]["config"]["keys"] == [f"{DAYS[0]}|f00"], "changed during the sweep"


def test_days_a_run_is_working_on_are_waited_for(instance):
    made = observed()
    sync(instance, made)
    job = build_definitions(made, today=TODAY).resolve_job_def("stac_observe")
    run = instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={"farm_intel/days": "2026-06-11..2026-06-11"}
    )

    waiting = look(instance, made)
    instance.report_run_canceled(run)
    after = look(instance, made)

    assert isinstance(waiting, dg.SkipReason)
    assert "still working" in waiting.skip_message
    assert after.run_requests


def test_a_deactivated_farm_is_passed_over(instance):
    made = observed()
    made.farms.farms[0] = replace(made.farms.farms[0], active=False)
    sync(instance, made)

    (request,) = look(instance, made).run_requests

    assert {key.split("|")[1] for key in request.run_config["ops"][ASSESS_OP]["config"]["keys"]} == {"f01"}


def test_sensor_and_schedule_evaluate_inside_dagster(instance):
    made = observed()
    sync(instance, made)
    definitions = build_definitions(made, today=TODAY)
    repository = definitions.get_repository_def()
    sensor = repository.get_sensor_def("assess_changes")
    resources = {"farm_intel": definitions.resources["farm_intel"]}
    with dg.build_sensor_context(instance=instance, repository_def=repository, resources=resources) as context:
        data = sensor.evaluate_tick(context)
    with dg.build_schedule_context(instance, datetime(2026, 6, 30, 4, 50, tzinfo=UTC), repository_def=repository) as at:
        daily = repository.get_schedule_def("assess_daily").evaluate_tick(at)

    assert len(data.run_requests) == 1
    assert daily.run_requests[0].run_config["ops"][ASSESS_OP]["config"] == {"lookback_days": 14}


def test_each_cohort_is_assessed_on_its_own_assets(instance):
    made = installation(FARMS, days=DAYS, asset_indices=("ndvi",))
    made.farms = FakeFarmStore([make_farm("f00"), make_farm("f01", cohort="t36MZE_00")])
    observe(made, DAYS)
    sync(instance, made)

    assert run_job(instance, made, keys=keys_of()).success

    assert materialized(instance, "daily", "ndvi") == {"f00"}
    assert materialized(instance, "daily", "ndvi", "t36MZE_00") == {"f01"}
    assert {key.split("|")[1] for key in materialized(instance, "fused", "ndvi", "t36MZE_00")} == {"f01"}
    assert {key.split("|")[1] for key in materialized(instance, "state", "farm", "t36MZE_00")} == {"f01"}


def test_health_tells_how_often_providers_disagree_and_how_sure_values_are():
    late = (date(2026, 6, 20), date(2026, 6, 25))
    made = observed(days=late)
    made.add_provider("sentinel_hub", days=late[:1], mean=0.7)
    request = ObserveRequest(
        provider="sentinel_hub", collection="sentinel-2-l2a", indices=("ndvi",), farm_ids=FARMS, days=late[:1]
    )
    list(made.observing.observe(request, run_id="before"))
    list(made.assessing.fuse(FARMS, ["ndvi"], start=late[0], end=late[1]))
    fused = recent_fused(made, datetime(2026, 6, 30, 12, tzinfo=UTC))

    disagreement, confidence = disagreement_check(fused), confidence_check(fused)

    assert (disagreement.metadata["disagreements"].value, disagreement.metadata["fused"].value) == (2, 4)
    assert disagreement.metadata["share"].value == 0.5
    assert not disagreement.passed
    assert "| 2026-06-20 | f00 | ndvi |" in disagreement.metadata["cells"].value
    values = sorted(item.confidence for item in fused)
    assert confidence.metadata["median"].value == pytest.approx((values[1] + values[2]) / 2, abs=1e-4)
    assert confidence.metadata["low"].value == sum(value < 0.5 for value in values)


def test_health_of_nothing_is_well():
    assert disagreement_check([]).passed
    assert confidence_check([]).passed
