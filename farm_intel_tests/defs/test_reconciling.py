"""A run whose process is gone does not stay started, and what it left is worked by the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from farm_intel.defs import compat
from farm_intel.defs.build import build_definitions
from farm_intel.defs.pump import PUMP_JOB, look_for_work, pump_job
from farm_intel.defs.reconciling import GRACE_S, SILENT_S, end_lost_runs, find_lost_runs, silence_limits
from farm_intel_tests.defs.harness import TODAY, instance_in
from farm_intel_tests.support.fake_observing import FakeSettings, installation
from farm_intel_tests.support.pump_ledger import CLAIMED, LEASE_S, LedgerActivities, LedgerPump

REPOSITORY = Path(__file__).resolve().parents[2]
LIMITS = silence_limits(FakeSettings(), ["activities"])
OCCURRENCES = 40


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def lost(made, instance, now, limits=LIMITS):
    return find_lost_runs(made, instance, limits, now)


def kill_a_pumping_process(ledger: Path, home: Path) -> None:
    """Start a process that runs the pump's job and kill it while it holds its occurrences."""
    with subprocess.Popen(
        [sys.executable, "-m", "farm_intel_tests.support.pump_ledger", str(ledger), str(home)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        said = ""
        while said.strip() != CLAIMED:
            said = worker.stdout.readline()
            assert said, worker.stderr.read()[-2000:] if worker.stderr else ""
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(10)


def test_a_killed_run_stays_started_until_it_is_ended_and_its_occurrences_are_worked_by_the_next(tmp_path):
    pump = LedgerPump(tmp_path / "ledger.db")
    pump.fill(OCCURRENCES)
    made = installation()
    made.pump, made.activities = pump, LedgerActivities(pump=pump)
    with instance_in(tmp_path / "dagster") as instance:
        kill_a_pumping_process(pump.path, tmp_path / "dagster")
        (record,) = compat.newest_runs(instance, PUMP_JOB, 5)
        run = record.dagster_run
        assert run.status is dg.DagsterRunStatus.STARTED, "nobody told Dagster"

        assert lost(made, instance, later(GRACE_S + 1)) == [], "its leases still hold"
        at = later(LEASE_S + 30)
        pump.now = lambda: at
        blocked = look_for_work(made, instance, at)
        found = lost(made, instance, at)
        told = end_lost_runs(instance, found)

        assert isinstance(blocked, dg.SkipReason), "without being ended it would hold up the pump for ever"
        assert [item.run.run_id for item in found] == [run.run_id]
        assert "leases" in told
        assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
        (failure,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert "its process is gone" in failure.message
        assert "leases of the occurrences it took are over" in failure.message
        assert lost(made, instance, at) == [], "it is ended once"

        request = look_for_work(made, instance, at)
        assert isinstance(request, dg.RunRequest)
        job = build_definitions(made, today=TODAY).resolve_job_def(PUMP_JOB)
        result = job.execute_in_process(instance=instance, run_config=request.run_config, tags=request.tags)
        (output,) = [e.step_output_data.metadata for e in result.all_node_events if e.is_successful_output]
        assert output["occurrences_done"].value == OCCURRENCES
        assert pump.states() == ["done"]


@pytest.mark.parametrize(
    ("job", "limit_s"),
    [
        (PUMP_JOB, FakeSettings().pump_deadline_s + FakeSettings().lease_s),
        ("assess", SILENT_S),
        ("activities", SILENT_S),
        (compat.ASSET_JOB, SILENT_S),
    ],
)
def test_a_run_that_says_nothing_for_too_long_is_ended_although_nobody_doubts_it(instance, job, limit_s):
    made = installation()
    definition = build_definitions(made, today=TODAY).resolve_job_def(job)
    run = instance.create_run_for_job(definition, status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("at work", run)

    assert lost(made, instance, later(limit_s - 30)) == []
    (found,) = lost(made, instance, later(limit_s + 1))

    assert found.run.run_id == run.run_id
    assert f"more than {limit_s:g} s ago" in found.reason


def test_a_run_over_imagery_may_wait_for_its_providers():
    patient = silence_limits(FakeSettings(provider_deadline_s=3600.0), [])

    assert patient[compat.ASSET_JOB] >= timedelta(seconds=5 * 3600.0)
    assert patient["assess"] == timedelta(seconds=SILENT_S)


def test_a_run_is_only_ended_for_a_reason(instance):
    """Each protection is taken away in turn; without it somebody's work would be ended."""
    made = installation()
    run = instance.create_run_for_job(pump_job, status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("at work", run)
    made.activities.doubted = [run.run_id]

    assert lost(made, instance, later(GRACE_S - 5)) == [], "it spoke a moment ago, whatever its leases say"
    assert lost(made, instance, later(GRACE_S + 5)), "without grace"
    made.activities.doubted = []
    assert lost(made, instance, later(GRACE_S + 5)) == [], "its leases hold"
    assert lost(made, instance, later(GRACE_S + 5), limits={PUMP_JOB: timedelta(0)}), "without patience"
    assert lost(made, instance, later(10 * SILENT_S), limits={}) == [], "a job that is not ours to judge"


def test_a_run_that_ends_by_itself_meanwhile_is_left_as_it_is(instance):
    made = installation()
    run = instance.create_run_for_job(pump_job, status=dg.DagsterRunStatus.STARTED)
    found = lost(made, instance, later(SILENT_S))
    instance.report_run_canceled(run, "by hand")

    assert found
    assert end_lost_runs(instance, found) == "No run was left."
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED


def test_a_run_somebody_wanted_canceled_is_canceled(instance):
    made = installation()
    run = instance.create_run_for_job(pump_job, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_canceling(run)

    end_lost_runs(instance, lost(made, instance, later(SILENT_S)))

    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED


def test_queued_runs_wait_as_long_as_they_must(instance):
    made = installation()
    instance.create_run_for_job(pump_job, status=dg.DagsterRunStatus.NOT_STARTED)

    assert lost(made, instance, later(10 * SILENT_S)) == []


def test_the_sensor_ends_runs_inside_dagster_and_asks_for_none(instance):
    made = installation()
    definitions = build_definitions(made, today=TODAY)
    repository = definitions.get_repository_def()
    young, old = (instance.create_run_for_job(pump_job, status=dg.DagsterRunStatus.STARTED) for _ in range(2))
    said = dg.EventLogEntry(
        error_info=None, level=20, user_message="at work", run_id=old.run_id, timestamp=later(-SILENT_S).timestamp()
    )
    instance.handle_new_event(said)
    sensor = repository.get_sensor_def("runs_left_started")
    resources = {"farm_intel": definitions.resources["farm_intel"]}
    with dg.build_sensor_context(instance=instance, repository_def=repository, resources=resources) as context:
        tick = sensor.evaluate_tick(context)

    assert not tick.run_requests
    assert tick.skip_message.startswith(f"Ended 1: {PUMP_JOB} {old.run_id[:8]}")
    assert instance.get_run_by_id(old.run_id).status is dg.DagsterRunStatus.FAILURE
    assert not instance.get_run_by_id(young.run_id).is_finished
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
