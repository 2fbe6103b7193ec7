"""Workers that fail, die, come back too late, or are told to stop."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from farm_intel.activities.telling import FAILED
from farm_intel.activities.working import Outcome, Patience, Remind, Shift
from farm_intel.domain.activities import Activity, Answer, Occurrence, OccurrenceState, Overlap
from farm_intel.domain.activity_work import ClaimTerms
from farm_intel.domain.errors import PermanentError, ThrottledError, TransientError
from farm_intel_tests.activities.kit import Bench, Draft, PlainRenderer, every, person

TERMS = ClaimTerms(worker="dead", run_id="run-1", limit=10, lease_s=300)


class Scripted:
    """Raises what it is told to, by call; then all is well."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.handled: list[Occurrence] = []

    def handle(self, occurrence: Occurrence, plan: Activity) -> Outcome:
        self.handled.append(occurrence)
        if self.errors:
            raise self.errors.pop(0)
        return Remind().handle(occurrence, plan)


def bench_with(engine: Engine, *errors: BaseException, renderer: PlainRenderer | None = None) -> Bench:
    return Bench(engine, handlers={"irrigation": Scripted(*errors)}, renderer=renderer)


def test_transient_failures_are_tried_again_with_growing_waits_then_given_up(engine: Engine) -> None:
    bench = bench_with(engine, *[TransientError("the network is away")] * 4)
    bench.service.plans.create(Draft(schedule=every(86_400)), by="joe")
    bench.clock.advance(86_400)
    waits = []
    for _ in range(4):
        bench.pump()
        (row,) = bench.rows()
        waits.append((row.not_before - bench.clock.now()).total_seconds())
        bench.pump()  # too early: nothing happens
        assert bench.rows() == [row]
        bench.clock.advance(max(waits[-1], 0))

    (row,) = bench.rows()
    assert waits[:3] == [30, 60, 120]
    assert (row.state, row.reason, row.attempt) == (OccurrenceState.FAILED, "gave up after 4 attempts", 4)
    assert "network is away" in row.error
    assert [title.split()[0] for _, title, _ in bench.messages()] == [FAILED]
    assert bench.count_effects() == {}

    answering = bench.service.answering
    assert answering.dead_letters() == [row]
    answering.replay(row.activity_id, row.due_at, by="amina")
    bench.pump()
    assert bench.states() == ["done"]
    assert answering.dead_letters() == []


def test_a_permanent_failure_is_a_dead_letter_at_once_and_may_be_dropped(engine: Engine) -> None:
    bench = bench_with(engine, PermanentError("no such valve"))
    bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(3600)
    bench.pump()
    (row,) = bench.rows()
    assert (row.state, row.reason, row.attempt) == (OccurrenceState.FAILED, "permanent error", 1)

    bench.service.answering.drop(row.activity_id, row.due_at, note="valve sold", by="amina")

    assert bench.reasons(OccurrenceState.SKIPPED) == ["dropped: valve sold (amina)"]


def test_a_template_that_is_missing_is_a_dead_letter_and_no_endless_loop(sqlite_engine: Engine) -> None:
    bench = bench_with(sqlite_engine, renderer=PlainRenderer(unknown=["activity_due", FAILED]))
    bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(3600)
    bench.pump()
    assert bench.states() == ["failed"]
    assert bench.messages() == []


def test_a_dead_worker_s_occurrence_is_taken_over_and_its_late_result_refused(engine: Engine) -> None:
    bench = bench_with(engine)
    bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(3600)
    bench.service.generator.run()
    (late,) = bench.store.claim(TERMS, bench.clock.now())
    assert bench.store.claim(TERMS, bench.clock.now()) == []
    bench.clock.advance(301)
    assert [row.due_at for row in bench.service.stale()] == [late.occurrence.due_at]
    assert bench.service.runs_in_doubt() == ["run-1"]

    bench.pump("second")
    report_before = bench.rows()
    report = bench.service.worker.run(Shift(worker="none"))
    bench.service.worker._work_on([late], report)

    (row,) = bench.rows()
    assert (row.state, row.worker, row.token, row.attempt) == (OccurrenceState.DONE, "second", 2, 2)
    assert (report.refused, report.ended) == (1, {})
    assert bench.rows() == report_before
    assert len(bench.messages()) == 1
    assert set(bench.count_effects().values()) == {1}
    assert bench.service.runs_in_doubt() == []


def test_workers_that_always_die_leave_a_dead_letter(engine: Engine) -> None:
    bench = bench_with(engine)
    bench.service.plans.create(Draft(schedule=every(86_400), max_attempts=3), by="joe")
    bench.clock.advance(86_400)
    bench.service.generator.run()
    for _ in range(3):
        assert len(bench.store.claim(TERMS, bench.clock.now())) == 1
        bench.clock.advance(301)
    assert bench.store.claim(TERMS, bench.clock.now()) == []

    assert bench.service.tending.run() == {"failed": 1}

    (row,) = bench.rows()
    assert (row.reason, row.error) == ("gave up after 3 attempts", "the worker dead did not come back")
    assert [title.split()[0] for _, title, _ in bench.messages()] == [FAILED]


def test_an_error_nobody_foresaw_costs_only_the_occurrence_it_came_from(sqlite_engine: Engine) -> None:
    bench = bench_with(sqlite_engine, TransientError("x"), ZeroDivisionError("a bug"))
    bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(4 * 3600)
    bench.service.generator.run()

    with pytest.raises(ZeroDivisionError):
        bench.service.worker.run(Shift(worker="w"))

    assert [(row.state.value, row.attempt) for row in bench.rows()] == [
        ("due", 1),
        ("running", 1),
        ("due", 0),
        ("due", 0),
    ]
    bench.clock.advance(301)
    bench.pump()
    assert bench.states() == ["done"] * 4


def test_cancel_other_stops_the_worker_when_it_comes_back(engine: Engine) -> None:
    bench = bench_with(engine)
    bench.service.plans.create(Draft(overlap=Overlap.CANCEL_OTHER), by="joe")
    bench.clock.advance(3600)
    bench.service.generator.run()
    (first,) = bench.store.claim(TERMS, bench.clock.now())
    bench.clock.advance(3600 - 3500)
    bench.clock.advance(3500)
    bench.service.generator.run()
    assert bench.states() == ["running", "due"]
    assert bench.store.claim(TERMS, bench.clock.now() - timedelta(seconds=3599)) == []  # the first one's lease lasts

    report = bench.service.worker.run(Shift(worker="none", batches=0))
    bench.service.worker._work_on([first], report)

    assert report.ended == {"skipped": 1}
    bench.pump()
    assert bench.states() == ["skipped", "done"]
    assert bench.rows()[0].reason.startswith("overlap: cancel_other by 2026-06-30T14:00Z")
    assert len(bench.messages()) == 1


def test_terminate_other_takes_the_lease_at_once(engine: Engine) -> None:
    bench = bench_with(engine)
    bench.service.plans.create(Draft(overlap=Overlap.TERMINATE_OTHER), by="joe")
    bench.clock.advance(3600)
    bench.service.generator.run()
    (first,) = bench.store.claim(TERMS, bench.clock.now())
    bench.clock.advance(3600)
    bench.pump()
    assert bench.states() == ["skipped", "done"]

    report = bench.service.worker.run(Shift(worker="none"))
    bench.service.worker._work_on([first], report)

    assert report.refused == 1
    assert bench.states() == ["skipped", "done"]


def test_a_cancelled_one_whose_worker_died_is_ended_by_tending(sqlite_engine: Engine) -> None:
    bench = bench_with(sqlite_engine)
    bench.service.plans.create(Draft(overlap=Overlap.CANCEL_OTHER), by="joe")
    bench.clock.advance(3600)
    bench.service.generator.run()
    bench.store.claim(TERMS, bench.clock.now())
    bench.clock.advance(3600)
    bench.pump()
    bench.pump()
    assert bench.states() == ["skipped", "done"]


def test_buffered_ones_are_done_in_order_one_at_a_time(engine: Engine) -> None:
    bench = bench_with(engine)
    plan = bench.service.plans.create(Draft(overlap=Overlap.BUFFER_ALL, acknowledge=True), by="joe")
    bench.clock.advance(3 * 3600)
    seen = []
    for _ in range(3):
        bench.pump()
        seen.append(bench.states())
        waiting = next(row for row in bench.rows() if row.state is OccurrenceState.WAITING)
        answer = Answer(done=True, by="amina", at=bench.clock.now())
        bench.service.answer(plan.activity_id, waiting.due_at, answer)
    assert seen == [["waiting", "due", "due"], ["done", "waiting", "due"], ["done", "done", "waiting"]]


def test_somebody_s_answer_is_faster_than_the_worker_s_reminder(engine: Engine) -> None:
    bench = bench_with(engine)
    plan = bench.service.plans.create(Draft(acknowledge=True), by="joe")
    bench.clock.advance(3600)
    bench.service.generator.run()
    (claim,) = bench.store.claim(TERMS, bench.clock.now())
    answer = Answer(done=True, by="amina", at=bench.clock.now())
    bench.service.answer(plan.activity_id, claim.occurrence.due_at, answer)

    report = bench.service.worker.run(Shift(worker="none"))
    bench.service.worker._work_on([claim], report)

    assert (report.refused, bench.states(), bench.messages()) == (1, ["done"], [])


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_step_of_the_clock_loses_and_doubles_nothing(engine: Engine, step_s: int) -> None:
    bench = bench_with(engine)
    bench.service.plans.create(Draft(schedule=every(600)), by="joe")
    bench.clock.advance(3000)
    bench.pump()
    bench.service.generator.run()
    bench.clock.advance(600)
    bench.service.generator.run()
    held = bench.store.claim(TERMS, bench.clock.now())
    bench.clock.advance(step_s)
    bench.pump()
    report = bench.service.worker.run(Shift(worker="none"))
    bench.service.worker._work_on(held, report)
    bench.clock.advance(-step_s)
    for _ in range(12):
        bench.clock.advance(600)
        bench.pump()
    rows = bench.rows()
    assert len(rows) == 18
    assert len({row.due_at for row in rows}) == 18
    assert {row.state for row in rows} == {OccurrenceState.DONE}
    assert set(bench.count_effects().values()) == {1}
    assert len(bench.messages()) == 18


def test_waits_double_up_to_the_longest_and_obey_a_server() -> None:
    patience = Patience(draw=lambda: 0.0)
    error = TransientError("x")
    assert [patience.wait(n, error).total_seconds() for n in (1, 2, 3, 20)] == [30, 60, 120, 3600]
    assert patience.wait(1, ThrottledError("x", retry_after_s=500)).total_seconds() == 500
    assert Patience(draw=lambda: 1.0).wait(1, error).total_seconds() == 15


def test_two_hundred_a_second_with_their_messages(sqlite_engine: Engine) -> None:
    bench = Bench(sqlite_engine, people=[person("amina"), person("juma")])
    for number in range(5):
        bench.service.plans.create(Draft(farm_id=f"farm-{number}"), by="joe")
    bench.clock.advance(200 * 3600)
    bench.service.generator.run()

    start = time.process_time()  # the machine is shared with other tests
    report = bench.service.worker.run(Shift(worker="w"))
    seconds = time.process_time() - start

    assert report.ended == {"done": 1000}
    assert len(bench.messages()) == 2000
    assert 1000 / seconds >= 200
