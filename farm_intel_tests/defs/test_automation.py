"""Sensor and schedule ask the store what is due; nothing hangs on a tick."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from farm_intel.defs import compat
from farm_intel.defs.build import build_definitions
from farm_intel.defs.due import BlockRequest, choose_requests, days_in_flight
from farm_intel.defs.groups import asset_groups
from farm_intel.defs.resources import FarmIntelResource, RunWatch
from farm_intel.defs.schedules import due_requests
from farm_intel.defs.sensors import look_for_scenes
from farm_intel.domain.errors import TransientError
from farm_intel_tests.defs.harness import TODAY, instance_in, sync
from farm_intel_tests.support.fake_observing import FakeSource, installation
from farm_intel_tests.support.fakes import FakeFarmStore, make_farm

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
D = date(2026, 6, 28)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def look(instance, made, cursor=""):
    return look_for_scenes(made, asset_groups(made), instance, cursor, NOW)


def test_a_new_scene_asks_for_the_whole_row_by_range_tags(instance):
    result = look(instance, installation(days=[D]))

    (request,) = result.run_requests
    assert request.job_name == "stac_observe"
    assert request.tags[compat.RANGE_START_TAG] == "2026-06-28|f00"
    assert request.tags[compat.RANGE_END_TAG] == "2026-06-28|f05"
    assert request.run_key.startswith("stac:main:2026-06-28:")
    assert list(instance.get_dynamic_partitions("farms")) == [f"f0{n}" for n in range(6)]


def test_the_row_that_was_asked_for_runs(instance):
    made = installation(days=[D])
    (request,) = look(instance, made).run_requests

    job = build_definitions(made, today=TODAY).resolve_job_def(request.job_name)
    result = job.execute_in_process(instance=instance, tags=request.tags)

    assert result.success
    assert len(instance.get_materialized_partitions(dg.AssetKey(["stac", "ndvi"]))) == 6
    assert isinstance(look(instance, made), dg.SkipReason), "nothing is due any more"


def test_a_reprocessed_scene_gets_a_new_run_key_and_an_unchanged_one_the_same(instance):
    made = installation(days=[D])
    (first,) = look(instance, made).run_requests
    (same,) = look(instance, made).run_requests
    made.acquire(D, updated="2026-06-29")
    (reprocessed,) = look(instance, made).run_requests

    assert same.run_key == first.run_key
    assert reprocessed.run_key != first.run_key


def test_scattered_cells_go_through_the_cells_job_and_it_runs(instance):
    made = installation(days=[D])
    list(made.observing.observe(_all_but(made, "f01"), run_id="before"))

    (request,) = look(instance, made).run_requests

    assert request.job_name == "stac_cells"
    (config,) = request.run_config["ops"].values()
    assert config["config"]["keys"] == ["2026-06-28|f01"]
    job = build_definitions(made, today=TODAY).resolve_job_def("stac_cells")
    assert job.execute_in_process(instance=instance, run_config=request.run_config).success
    assert isinstance(look(instance, made), dg.SkipReason)


def test_days_beyond_the_lookback_are_left_to_backfills(instance):
    assert isinstance(look(instance, installation(days=[TODAY - timedelta(days=14)])), dg.SkipReason)
    assert look(instance, installation(days=[TODAY - timedelta(days=13)])).run_requests


def test_days_a_run_is_working_on_are_not_asked_for_again(instance):
    made = installation(days=[D])
    (request,) = look(instance, made).run_requests
    job = build_definitions(made, today=TODAY).resolve_job_def(request.job_name)
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=dict(request.tags))

    assert isinstance(look(instance, made), dg.SkipReason)
    assert isinstance(due_requests(made, asset_groups(made)[0], instance, NOW), dg.SkipReason)


def test_a_catalogue_that_does_not_answer_for_one_cohort_does_not_hold_up_the_other(instance):
    class HalfBroken:
        provider = "stac"

        def __init__(self, inner):
            self.inner = inner

        def search(self, query):
            if query.bbox.west > 36.5:
                raise TransientError("503")
            return self.inner.search(query)

        def refresh(self, scene):
            return scene

    made = installation(days=[D])
    made.farms = FakeFarmStore([make_farm("a"), make_farm("b", cohort="east", west=37.0, home_tile="37MCV")])
    made.catalog = HalfBroken(made.catalog)

    (request,) = look(instance, made).run_requests
    assert request.tags["farm_intel/cohort"] == "main"

    made.farms = FakeFarmStore([make_farm("b", west=37.0)])
    with pytest.raises(TransientError):
        look(instance, made)


def test_the_schedule_asks_for_what_failed_although_the_sensors_key_is_spent(instance):
    made = installation(days=[D, TODAY])
    made.poison((D, "f03"))
    sync(instance, made)
    group = asset_groups(made)[0]
    (request,) = due_requests(made, group, instance, NOW)
    job = build_definitions(made, today=TODAY).resolve_job_def("stac_cells")
    assert not job.execute_in_process(instance=instance, run_config=request.run_config, raise_on_error=False).success

    (again,) = due_requests(made, group, instance, NOW + timedelta(days=1))

    assert [op["config"]["keys"] for op in again.run_config["ops"].values()] == [["2026-06-28|f03"]]
    assert again.run_key != request.run_key


def test_schedule_and_sensor_evaluate_inside_dagster(tmp_path):
    made = installation(days=[D])  # the window ends on 30 June 2026, whatever the wall clock says
    repository = build_definitions(made, today=TODAY).get_repository_def()
    resources = {"farm_intel": FarmIntelResource(container=made, watch=RunWatch())}
    with instance_in(tmp_path / "dagster") as instance:
        shared = {"instance": instance, "repository_def": repository, "resources": resources}
        with dg.build_sensor_context(**shared) as context:
            sensed = repository.get_sensor_def("stac_new_scenes").evaluate_tick(context)
        with dg.build_schedule_context(**shared, scheduled_execution_time=NOW) as context:
            scheduled = repository.get_schedule_def("stac_daily").evaluate_tick(context)

    assert [request.job_name for request in sensed.run_requests] == ["stac_observe"]
    assert len(scheduled.run_requests) == 1


def test_without_a_catalogue_the_sensor_says_so(instance):
    made = installation()
    made.sources = (FakeSource(missing_settings=("FARM_INTEL_STAC_URL",)),)
    repository = build_definitions(made, today=TODAY).get_repository_def()
    resources = {"farm_intel": FarmIntelResource(container=made, watch=RunWatch())}
    with dg.build_sensor_context(instance=instance, repository_def=repository, resources=resources) as context:
        data = repository.get_sensor_def("stac_new_scenes").evaluate_tick(context)

    assert "FARM_INTEL_STAC_URL" in data.skip_message


def test_a_tick_is_cut_at_the_limit_and_the_next_goes_on_behind_it():
    requests = [BlockRequest(block=f"b{n}", revision="r", start=D, end=D) for n in range(5)]

    first, cursor = choose_requests(requests, cursor="", limit=2)
    second, cursor_2 = choose_requests(requests, cursor=cursor, limit=2)
    third, cursor_3 = choose_requests(requests, cursor=cursor_2, limit=2)

    assert [r.block for r in (*first, *second, *third)] == ["b0", "b1", "b2", "b3", "b4"]
    assert cursor_3 == ""


def test_days_in_flight_are_read_from_every_kind_of_run():
    group = asset_groups(installation())[0]
    runs = [
        {"farm_intel/provider": "landsat", "farm_intel/cohort": "main", "farm_intel/days": "2026-06-09..2026-06-09"},
        {"farm_intel/cohort": "main", "farm_intel/days": "2026-06-01..2026-06-02"},
        {"farm_intel/cohort": "other", "farm_intel/days": "2026-06-03..2026-06-03"},
        {compat.RANGE_START_TAG: "2026-06-05|a", compat.RANGE_END_TAG: "2026-06-05|z"},
        {compat.PARTITION_TAG: "2026-06-07|a"},
        {compat.RANGE_START_TAG: "a", compat.RANGE_END_TAG: "z"},
        {compat.PARTITION_TAG: "a"},
        {},
    ]

    assert {date(2026, 6, n) for n in (1, 2, 5, 7)} == days_in_flight(runs, group.cohort, group.provider)


def _all_but(made, left_out):
    from farm_intel.observing.model import ObserveRequest

    return ObserveRequest(
        provider="stac",
        collection="sentinel-2-l2a",
        indices=made.settings.asset_indices,
        farm_ids=tuple(farm.farm_id for farm in made.farms.list() if farm.farm_id != left_out),
        days=(D,),
    )
