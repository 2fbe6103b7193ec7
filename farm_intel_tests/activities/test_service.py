"""Plans, generation, work and answers end to end, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from farm_intel.domain.activities import Answer, IllegalTransitionError, Misfire, OccurrenceState, Overlap
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel_tests.activities.kit import START, Bench, Draft, every


def test_what_falls_due_is_told_and_done_once(engine: Engine) -> None:
    bench = Bench(engine)
    plan = bench.service.plans.create(Draft(form={"amount_mm": 20.0}), by="joe")
    bench.clock.advance(3 * 3600 + 5)

    bench.pump()
    bench.pump()

    assert bench.states() == ["done"] * 3
    assert [row.due_at for row in bench.rows()] == [START + timedelta(hours=hour) for hour in (1, 2, 3)]
    assert set(bench.count_effects().values()) == {1}
    assert [title for _, title, _ in bench.messages()] == ["activity_due Water the maize"] * 3
    entries = bench.service.logbook.entries(farm_ids=["farm-1"])
    assert [(entry.quantities, entry.by) for entry in entries] == [({"amount_mm": 20.0}, "farm-intel")] * 3
    assert bench.service.activity(plan.activity_id).high_water == bench.clock.now()


@pytest.mark.parametrize(("step_s", "ticks"), [(600, 144), (3600, 24), (86_400, 1)])
@pytest.mark.parametrize("misfire", Misfire)
@pytest.mark.parametrize("overlap", Overlap)
def test_after_an_outage_of_a_day_every_date_is_done_or_says_why_not(
    sqlite_engine: Engine, step_s: int, ticks: int, misfire: Misfire, overlap: Overlap
) -> None:
    bench = Bench(sqlite_engine)
    bench.service.plans.create(Draft(schedule=every(step_s), misfire=misfire, overlap=overlap), by="joe")
    bench.clock.advance(86_400)

    bench.pump()

    rows = bench.rows()
    assert [row.due_at for row in rows] == [START + timedelta(seconds=step_s * n) for n in range(1, ticks + 1)]
    assert all(
        row.state is OccurrenceState.DONE or (row.state is OccurrenceState.SKIPPED and row.reason) for row in rows
    )
    if (misfire, overlap) in {(Misfire.ALL, Overlap.ALLOW_ALL), (Misfire.ALL, Overlap.BUFFER_ALL)}:
        assert bench.states() == ["done"] * ticks
    assert "done" in bench.states()  # the last date is now: no policy drops it


def test_dates_before_the_catch_up_window_expire(engine: Engine) -> None:
    bench = Bench(engine)
    bench.service.plans.create(Draft(catchup_window=timedelta(hours=2)), by="joe")
    bench.clock.advance(5 * 3600)

    bench.pump()

    assert bench.states() == ["expired", "expired", "done", "done", "done"]
    assert bench.reasons(OccurrenceState.EXPIRED) == ["catch-up window"] * 2


def test_acknowledging(engine: Engine) -> None:
    bench = Bench(engine)
    plan = bench.service.plans.create(Draft(acknowledge=True, form={"amount_mm": 20.0}), by="joe")
    bench.clock.advance(2 * 3600)
    bench.pump()
    assert bench.states() == ["waiting", "waiting"]
    first, second = bench.rows()
    done = Answer(done=True, by="amina", at=bench.clock.now(), quantities={"amount_mm": 15.0}, note="dry", photo="p1")
    not_done = Answer(done=False, by="amina", at=bench.clock.now(), reason="pump broken")

    assert bench.service.answer(plan.activity_id, first.due_at, done).state is OccurrenceState.DONE
    assert bench.service.answer(plan.activity_id, second.due_at, not_done).reason == "not done: pump broken"
    bench.clock.advance(60)
    again = Answer(done=True, by="amina", at=bench.clock.now(), quantities={"amount_mm": 15.0}, note="dry", photo="p1")
    bench.service.answer(plan.activity_id, first.due_at, again)

    entries = bench.service.logbook.entries()
    assert [(e.done, e.quantities, e.reason, e.note, e.photo) for e in sorted(entries, key=lambda e: not e.done)] == [
        (True, {"amount_mm": 15.0}, "", "dry", "p1"),
        (False, {}, "pump broken", "", ""),
    ]
    assert {state for _, _, state in bench.messages()} == {"dropped"}
    with pytest.raises(IllegalTransitionError, match="is done"):
        bench.service.answer(plan.activity_id, first.due_at, not_done)
    with pytest.raises(IllegalTransitionError):
        bench.service.answer(plan.activity_id, second.due_at, done)
    assert len(bench.service.logbook.entries()) == 2


def test_answers_that_do_not_fit_are_refused_before_anything_is_written(sqlite_engine: Engine) -> None:
    bench = Bench(sqlite_engine)
    plan = bench.service.plans.create(Draft(acknowledge=True), by="joe")
    bench.clock.advance(3600)
    bench.pump()
    due_at = bench.rows()[0].due_at
    now = bench.clock.now()

    with pytest.raises(BadRequestError):
        bench.service.answer(
            plan.activity_id, due_at, Answer(done=True, by="a", at=now, quantities={"amount_mm": -1.0})
        )
    with pytest.raises(BadRequestError, match="not said why"):
        bench.service.answer(plan.activity_id, due_at, Answer(done=False, by="a", at=now))
    with pytest.raises(UnknownNameError):
        bench.service.answer(plan.activity_id, START, Answer(done=True, by="a", at=now))
    assert bench.states() == ["waiting"]
    assert bench.service.logbook.entries() == []
