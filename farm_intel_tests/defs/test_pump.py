"""The pump's sensor asks for one run per batch, never beside another, and again after a run that died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from farm_intel.defs import compat
from farm_intel.defs.build import build_definitions
from farm_intel.defs.pump import (
    DUE_TAG,
    OLDEST_TAG,
    PUMP_JOB,
    PUMP_TAG,
    QUIET_S,
    RUNS_LOOKED_AT,
    look_for_work,
    pump_job,
    pump_request,
    resting_until,
)
from farm_intel.domain.errors import StoreError
from farm_intel_tests.defs.harness import TODAY, instance_in
from farm_intel_tests.support.fake_alerts import FakePump, FakeReport, FakeWork
from farm_intel_tests.support.fake_observing import installation

OLDEST = datetime(2026, 6, 30, 5, 30, tzinfo=UTC)
DUE = FakeWork(occurrences=1000, messages=20, steps=3, oldest=OLDEST, batch="abc")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def now():
    return datetime.now(UTC)


def run_pump(instance, made, **options):
    job = build_definitions(made, today=TODAY).resolve_job_def(PUMP_JOB)
    return job.execute_in_process(instance=instance, raise_on_error=False, **options)


def test_a_thousand_due_occurrences_are_one_run_that_says_what_was_due(instance):
    made = installation()
    made.pump.work = DUE

    request = look_for_work(made, instance, now())

    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "pump:abc:first"
    assert request.tags == {
        PUMP_TAG: "abc",
        DUE_TAG: "1000 occurrences, 20 messages, 3 steps",
        OLDEST_TAG: "2026-06-30T05:30:00+00:00",
    }


@pytest.mark.parametrize("kind", ["occurrences", "messages", "steps"])
def test_each_kind_of_work_alone_is_a_reason(instance, kind):
    made = installation()
    run_pump(instance, made)
    made.pump.work = FakeWork(**{kind: 1}, batch="one")

    assert isinstance(look_for_work(made, instance, now()), dg.RunRequest)


@pytest.mark.parametrize(
    "status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
)
def test_while_a_run_is_under_way_nothing_is_asked(instance, status):
    made = installation()
    made.pump.work = DUE
    run = instance.create_run_for_job(pump_job, status=status)

    waiting = look_for_work(made, instance, now())
    instance.report_run_canceled(run)
    after = look_for_work(made, instance, now())

    assert isinstance(waiting, dg.SkipReason)
    assert run.run_id[:8] in waiting.skip_message
    assert made.pump.asked == 1, "the store is not asked in vain"
    assert isinstance(after, dg.RunRequest)


def test_runs_of_other_jobs_do_not_hold_it_up(instance):
    @dg.job
    def another():
        pass

    made = installation()
    made.pump.work = DUE
    instance.create_run_for_job(another, status=dg.DagsterRunStatus.STARTED)

    assert isinstance(look_for_work(made, instance, now()), dg.RunRequest)


def test_nothing_due_is_skipped_until_the_heartbeat_needs_a_pass(instance):
    made = installation()
    first = look_for_work(made, instance, now())
    assert run_pump(instance, made).success

    quiet = look_for_work(made, instance, now())
    later = look_for_work(made, instance, now() + timedelta(seconds=QUIET_S))

    assert isinstance(first, dg.RunRequest), "a new installation has no heartbeat yet"
    assert isinstance(quiet, dg.SkipReason)
    assert isinstance(later, dg.RunRequest)
    assert later.tags[PUMP_TAG] == "idle"
    assert later.run_key != first.run_key


def test_a_batch_whose_run_died_is_asked_for_under_another_key(instance):
    """Dagster remembers run keys for ever; a key of the batch alone would never be launched again."""
    made = installation()
    made.pump.work = DUE
    made.pump.error = StoreError("disk full", hint="Make room.")
    first = look_for_work(made, instance, now())
    run_pump(instance, made, tags=first.tags)

    again = look_for_work(made, instance, now() + timedelta(minutes=5))
    forgetful = pump_request(made.pump.due(), "abc", [])

    assert again.tags[PUMP_TAG] == first.tags[PUMP_TAG] == "abc"
    assert again.run_key != first.run_key
    assert forgetful.run_key == first.run_key, "without the run before it in the key it would be the same"


@pytest.mark.parametrize("error", [None, StoreError("disk full", hint="Make room.")])
def test_work_that_runs_leave_as_it_is_does_not_cost_a_process_every_half_minute(instance, error):
    made = installation()
    made.pump = FakePump(work=DUE, takes=False, error=error)
    pauses = []
    for _ in range(RUNS_LOOKED_AT + 2):
        request = look_for_work(made, instance, now() + timedelta(hours=1))
        assert run_pump(instance, made, tags=request.tags).success is (error is None)
        (newest, *_) = records = compat.newest_runs(instance, PUMP_JOB, RUNS_LOOKED_AT)
        ended = datetime.fromtimestamp(newest.end_time, UTC)
        pauses.append((resting_until(records, "abc") - ended).total_seconds())
        waiting = look_for_work(made, instance, now())
        assert isinstance(waiting, dg.SkipReason)
        assert "left what is due as it was" in waiting.skip_message
        assert isinstance(look_for_work(made, instance, ended + timedelta(seconds=pauses[-1])), dg.RunRequest)

    assert pauses == [30, 60, 120, 240, 480, 900, 900, 900]


def test_a_part_that_always_fails_does_not_hold_up_what_is_new(instance):
    """An alert's message is out within a cycle although, say, removing what is old makes every run red."""
    made = installation()
    made.pump = FakePump(work=DUE, error=StoreError("one of seven parts failed"))
    for _ in range(3):
        run_pump(instance, made, tags=look_for_work(made, instance, now() + timedelta(hours=1)).tags)
    made.pump.work = FakeWork(occurrences=1000, messages=21, steps=3, oldest=OLDEST, batch="abd")

    assert isinstance(look_for_work(made, instance, now()), dg.RunRequest)


def test_the_run_tells_what_it_did_and_hands_its_id_to_the_leases(instance):
    made = installation()
    made.pump.report = FakeReport(
        generated=7,
        worked={"waiting": 5, "done": 2},
        proposed=1,
        steps=3,
        sent=11,
        failed=2,
        dead=1,
        problems=("activity 5 has no date",),
        findings=("alert 17 was told to nobody",),
        seconds=1.25,
    )

    result = run_pump(instance, made)

    assert result.success
    assert made.pump.runs == [result.run_id]
    (output,) = [e.step_output_data.metadata for e in result.all_node_events if e.is_successful_output]
    told = {name: value.value for name, value in output.items()}
    assert told == {
        "generated": 7,
        "occurrences_waiting": 5,
        "occurrences_done": 2,
        "proposed": 1,
        "steps": 3,
        "sent": 11,
        "failed": 2,
        "dead": 1,
        "problems": "- activity 5 has no date",
        "findings": "- alert 17 was told to nobody",
        "seconds": 1.25,
    }
    warnings = [e.message for e in instance.all_logs(result.run_id) if "told to nobody" in (e.user_message or "")]
    assert warnings


def test_a_failure_is_red_and_typed(instance):
    made = installation()
    made.pump.error = StoreError("the store is locked", hint="Wait.")

    result = run_pump(instance, made)

    (failure,) = [e for e in result.all_node_events if e.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert not result.success
    assert told.description.startswith("the store is locked")
    assert told.metadata["kind"].value == "store"
    assert told.metadata["hint"].value == "Wait."


def test_a_store_that_cannot_be_asked_makes_the_tick_fail_not_skip(instance):
    made = installation()

    class Locked(type(made.pump)):
        def due(self):
            raise StoreError("the store is locked")

    made.pump = Locked()

    with pytest.raises(StoreError):
        look_for_work(made, instance, now())


def test_sensor_and_schedule_evaluate_inside_dagster_and_can_be_switched(tmp_path):
    made = installation(pump_interval_s=45)
    made.pump.work = DUE
    definitions = build_definitions(made, today=TODAY)
    repository = definitions.get_repository_def()
    sensor, schedule = repository.get_sensor_def("pump"), repository.get_schedule_def("pump_every_five_minutes")
    resources = {"farm_intel": definitions.resources["farm_intel"]}
    with instance_in(tmp_path / "dagster") as instance:
        with dg.build_sensor_context(instance=instance, repository_def=repository, resources=resources) as context:
            sensed = sensor.evaluate_tick(context)
        with dg.build_schedule_context(instance, now(), repository_def=repository, resources=resources) as context:
            scheduled = schedule.evaluate_tick(context)

    assert [request.run_key for request in sensed.run_requests] == ["pump:abc:first"]
    assert [request.run_key for request in scheduled.run_requests] == ["pump:abc:first"]
    assert sensor.minimum_interval_seconds == 45
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_a_dead_pump_run_is_not_retried_beside_the_sensor():
    assert pump_job.tags["dagster/max_retries"] == "0"
