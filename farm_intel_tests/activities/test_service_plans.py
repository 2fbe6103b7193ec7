"""Plans that people change, proposals of events, and occurrences nobody answers."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, update

from farm_intel.activities import recurrence
from farm_intel.activities.drafts import ActivityDraft
from farm_intel.activities.generating import fall_due
from farm_intel.activities.planning import EditConflictError, PlanEdit, Planning
from farm_intel.activities.proposing import Proposal
from farm_intel.activities.types import load_activity_types
from farm_intel.domain.activities import (
    Answer,
    IllegalTransitionError,
    Misfire,
    OccurrenceState,
    Overlap,
    Schedule,
    ScheduleKind,
)
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.storage.activity_tables import activities
from farm_intel.storage.database import transaction
from farm_intel_tests.activities.kit import START, Bench, Draft, EverySeconds, every

HOUR = timedelta(hours=1)


def test_an_edit_applies_to_what_is_to_come(engine: Engine) -> None:
    bench = Bench(engine)
    plan = bench.service.plans.create(Draft(form={"amount_mm": 20.0}), by="joe")
    bench.clock.advance(2 * 3600 + 60)  # two fell due, nobody generated them yet

    edit = PlanEdit(schedule=every(7200), form={"amount_mm": 5.0}, title="Water less")
    after = bench.service.plans.edit(plan.activity_id, edit, by="amina", version=1)
    bench.clock.advance(2 * 3600)
    bench.pump()

    rows = bench.rows()
    assert [(row.due_at - START, row.title, row.form["amount_mm"], row.activity_version) for row in rows] == [
        (1 * HOUR, "Water the maize", 20.0, 1),
        (2 * HOUR, "Water the maize", 20.0, 1),
        (4 * HOUR, "Water less", 5.0, 2),
    ]
    assert after.version == 2
    with pytest.raises(EditConflictError, match="version 2, not 1"):
        bench.service.plans.edit(plan.activity_id, PlanEdit(title="x"), by="joe", version=1)
    history = bench.service.plans.history(plan.activity_id)
    assert [(line.version, line.by, line.change) for line in history] == [
        (1, "joe", "created"),
        (2, "amina", "edited: form, schedule, title"),
    ]


def test_pauses_skip_with_their_note_and_end_by_themselves(engine: Engine) -> None:
    bench = Bench(engine)
    plan = bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(3600 + 60)  # the first fell due before the pause
    bench.service.plans.pause(plan.activity_id, note="rain", by="joe", until=START + 3 * HOUR)
    bench.clock.advance(3 * 3600)
    bench.pump()
    assert [(row.state.value, row.reason) for row in bench.rows()] == [
        ("done", ""),
        ("skipped", "paused: rain"),
        ("done", ""),
        ("done", ""),
    ]
    bench.service.plans.pause(plan.activity_id, note="holidays", by="joe")
    bench.clock.advance(2 * 3600)
    bench.service.plans.resume(plan.activity_id, note="back", by="joe")
    bench.clock.advance(3600)
    bench.pump()
    assert [row.reason for row in bench.rows()][4:] == ["paused: holidays", "paused: holidays", ""]
    with pytest.raises(BadRequestError, match="that is over"):
        bench.service.plans.pause(plan.activity_id, note="x", by="joe", until=START)


def test_a_removed_plan_leaves_nothing_open(engine: Engine) -> None:
    bench = Bench(engine)
    plan = bench.service.plans.create(Draft(acknowledge=True), by="joe")
    bench.clock.advance(3600)
    bench.pump()
    bench.clock.advance(3600)
    bench.service.plans.remove(plan.activity_id, note="sold", by="joe")
    bench.clock.advance(86_400)
    bench.pump()
    assert [(row.state.value, row.reason) for row in bench.rows()] == [("skipped", "removed: sold")] * 2
    assert bench.service.activities(["farm-1"]) == []
    assert len(bench.service.activities(["farm-1"], include_removed=True)) == 1
    with pytest.raises(BadRequestError, match="is removed"):
        bench.service.plans.resume(plan.activity_id, note="", by="joe")
    with pytest.raises(UnknownNameError):
        bench.service.plans.remove("nothing", note="", by="joe")


def test_a_backfill_makes_what_has_no_row_and_does_not_expire(engine: Engine) -> None:
    bench = Bench(engine)
    draft = Draft(schedule=every(3600, start=START - 5 * HOUR), catchup_window=timedelta(minutes=10))
    plan = bench.service.plans.create(draft, by="joe")
    bench.clock.advance(2 * 3600)
    bench.pump()
    assert bench.states() == ["expired", "done"]

    assert bench.service.plans.backfill(plan.activity_id, START - 3 * HOUR, START + 9 * HOUR, by="joe") == 4
    bench.clock.advance(1800)
    bench.pump()

    rows = bench.rows()
    assert [(row.due_at - START) // HOUR for row in rows] == [-3, -2, -1, 0, 1, 2]
    assert [row.backfilled for row in rows] == [True] * 4 + [False] * 2
    assert bench.states() == ["done"] * 4 + ["expired", "done"]
    assert bench.service.plans.backfill(plan.activity_id, START - 3 * HOUR, START + 9 * HOUR, by="joe") == 0


def test_the_plan_of_the_days_holds_what_is_and_what_is_to_come(engine: Engine) -> None:
    bench = Bench(engine)
    draft = Draft(schedule=every(43_200, until=START + timedelta(days=3)), assignee="juma")
    plan = bench.service.plans.create(draft, by="joe")
    bench.clock.advance(86_400)
    bench.pump()
    bench.service.plans.pause(plan.activity_id, note="rain", by="joe", until=START + 1.6 * timedelta(days=1))

    dates = bench.service.plan(["farm-1"], start=date(2026, 7, 1), end=date(2026, 7, 3))

    assert [((day.due_at - START) / timedelta(days=1), day.state, day.paused) for day in dates] == [
        (0.5, "done", False),
        (1.0, "done", False),
        (1.5, "planned", True),
        (2.0, "planned", False),
        (2.5, "planned", False),
        (3.0, "planned", False),
    ]
    assert {day.assignee for day in dates} == {"juma"}
    assert bench.service.plan(["farm-2"], start=date(2026, 7, 1), end=date(2026, 7, 3)) == []


def test_nobody_answers(engine: Engine) -> None:
    bench = Bench(engine)
    draft = Draft(schedule=every(86_400), acknowledge=True, acknowledge_within=2 * HOUR)
    bench.service.plans.create(draft, by="joe")
    bench.clock.advance(86_400)
    seen = []
    for _ in range(9):
        bench.pump()
        seen.append([title.split()[0].removeprefix("activity_") for _, title, _ in bench.messages()])
        bench.clock.advance(900)
    assert seen[3] == ["due"]
    assert sorted(seen[4]) == sorted(seen[7]) == ["due", "reminder"]
    assert sorted(seen[8]) == ["due", "overdue", "reminder"]
    assert bench.reasons(OccurrenceState.EXPIRED) == ["not acknowledged"]
    (row,) = bench.rows()
    with pytest.raises(IllegalTransitionError, match="logbook"):
        bench.service.answer(row.activity_id, row.due_at, Answer(done=True, by="a", at=bench.clock.now()))


def test_a_snooze_asks_again_and_an_assignment_stays(engine: Engine) -> None:
    bench = Bench(engine)
    draft = Draft(schedule=every(86_400), acknowledge=True)
    plan = bench.service.plans.create(draft, by="joe")
    bench.clock.advance(86_400)
    bench.pump()
    due_at = bench.rows()[0].due_at
    until = bench.clock.now() + HOUR
    answering = bench.service.answering
    given = answering.assign(plan.activity_id, due_at, to="juma", by="joe")
    assert (given.assignee, given.reason) == ("juma", "given to juma by joe")
    assert answering.snooze(plan.activity_id, due_at, until=until, by="juma", note="lunch").state == "due"
    bench.pump()
    assert bench.rows()[0].reason == "snoozed by juma: lunch"
    taken = answering.assign(plan.activity_id, due_at, to="", by="joe")
    assert (taken.assignee, taken.reason) == ("", "snoozed by juma: lunch; taken from juma by joe")
    answering.assign(plan.activity_id, due_at, to="juma", by="joe")
    bench.clock.advance(3600)
    bench.pump()
    (row,) = bench.rows()
    assert (row.state.value, row.assignee, row.reason) == ("waiting", "juma", "")
    assert sorted(state for _, _, state in bench.messages()) == ["dropped", "pending"]
    with pytest.raises(BadRequestError):
        answering.snooze(plan.activity_id, due_at, until=bench.clock.now(), by="juma")
    answering.snooze(plan.activity_id, due_at, until=bench.clock.now() + HOUR, by="juma")
    # done while it was snoozed: there is no need to wait for the reminder
    bench.service.answer(plan.activity_id, due_at, Answer(done=True, by="juma", at=bench.clock.now()))
    assert bench.states() == ["done"]


def test_an_event_proposes_once_for_ever_and_keeps_the_answer(engine: Engine) -> None:
    bench = Bench(engine)
    proposal = Proposal(
        farm_id="farm-1",
        event_key="dry:2026-06-30",
        type="irrigation",
        title="Water?",
        time_zone="Africa/Nairobi",
        evidence={"value": 0.1},
    )
    made = bench.service.proposing.propose(proposal, by="farm-intel")
    assert made is not None
    assert bench.service.proposing.propose(proposal, by="farm-intel") is None
    bench.pump()
    (row,) = bench.rows()
    assert (row.state.value, row.local_time, made.evidence) == ("waiting", "15:00", {"value": 0.1})
    assert [title.split()[0] for _, title, _ in bench.messages()] == ["activity_proposed"]
    answer = Answer(done=True, by="amina", at=bench.clock.now(), quantities={"amount_mm": 12.0})
    bench.service.answer(made.activity_id, row.due_at, answer)
    bench.service.plans.remove(made.activity_id, note="over", by="joe")
    assert bench.service.proposing.propose(proposal, by="farm-intel") is None
    bench.clock.advance(30 * 86_400)
    bench.pump()
    assert len(bench.rows()) == 1
    assert [entry.event_key for entry in bench.service.logbook.entries()] == ["dry:2026-06-30"]


def test_a_draft_of_the_package_with_its_real_dates(sqlite_engine: Engine) -> None:
    bench = Bench(sqlite_engine)
    plans = Planning(
        store=bench.plan_store,
        occurrences=bench.store,
        recurrence=recurrence,
        forms=load_activity_types(),
        clock=bench.clock,
    )
    schedule = Schedule(
        kind=ScheduleKind.CRON,
        text="30 6 * * *",
        start=START.replace(tzinfo=None),
        time_zone="Africa/Nairobi",
    )
    made = plans.create(ActivityDraft(farm_id="farm-1", type="scouting", title="Look", schedule=schedule), by="joe")
    dates = plans.plan(["farm-1"], start=date(2026, 7, 1), end=date(2026, 7, 2))
    assert [(day.activity_id, day.due_at.isoformat(), day.local_time) for day in dates] == [
        (made.activity_id, "2026-07-01T03:30:00+00:00", "06:30"),
        (made.activity_id, "2026-07-02T03:30:00+00:00", "06:30"),
    ]
    over = Schedule(kind=ScheduleKind.ONCE, text="2026-06-01T06:30", start=schedule.start, time_zone="UTC")
    with pytest.raises(BadRequestError):
        plans.create(ActivityDraft(farm_id="f", type="scouting", title="Look", schedule=over), by="joe")


def test_a_plan_whose_dates_cannot_be_computed_does_not_stop_the_others(engine: Engine) -> None:
    bench = Bench(engine)
    broken = bench.service.plans.create(Draft(farm_id="farm-2"), by="joe")
    bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(3600)
    with transaction(engine) as connection:
        spoilt = update(activities).where(activities.c.activity_id == broken.activity_id)
        connection.execute(spoilt.values(schedule_text="what"))
    report = bench.service.generator.run()
    assert report.made == {"due": 1}
    assert len(report.problems) == 1
    stopped = bench.service.activity(broken.activity_id)
    assert stopped.paused
    assert "cannot be computed" in stopped.pause_note
    mended = bench.service.plans.edit(
        broken.activity_id, PlanEdit(schedule=every(3600)), by="joe", version=stopped.version
    )
    bench.service.plans.resume(mended.activity_id, note="mended", by="joe")
    bench.clock.advance(3600)
    bench.pump()
    assert bench.states(broken.activity_id) == ["done"]


def test_five_hundred_rows_at_a_time_give_the_same_as_all_at_once(sqlite_engine: Engine) -> None:
    for misfire in Misfire:
        bench = Bench(sqlite_engine)
        plan = bench.service.plans.create(Draft(schedule=every(60), misfire=misfire, overlap=Overlap.SKIP), by="joe")
        bench.clock.advance(1201 * 60)
        at_once = fall_due(plan, (), bench.clock.now(), EverySeconds(), limit=5000)
        bench.service.generator.run()
        assert [(row.due_at, row.state, row.reason) for row in bench.rows(plan.activity_id)] == [
            (row.due_at, row.state, row.reason) for row in at_once.rows
        ]
        assert bench.count_rows() >= 1201


@pytest.mark.parametrize("forgotten", ["catch-up window", "misfire: none", "paused: rain"])
def test_forgetting_a_rule_of_the_generator_is_noticed(sqlite_engine: Engine, forgotten: str) -> None:
    """Each reason has dates that only this rule keeps from being due: a plan without the rule makes them due."""
    from dataclasses import replace

    bench = Bench(sqlite_engine)
    plan = bench.service.plans.create(Draft(catchup_window=2 * HOUR), by="joe")
    plan = {
        "catch-up window": plan,
        "misfire: none": replace(plan, misfire=Misfire.NONE),
        "paused: rain": replace(plan, paused=True, pause_note="rain"),
    }[forgotten]
    lax = replace(plan, catchup_window=timedelta(days=99), misfire=Misfire.ALL, paused=False)
    now = START + timedelta(hours=5.5)

    rows, free = (fall_due(each, (), now, EverySeconds()).rows for each in (plan, lax))

    assert forgotten in {row.reason for row in rows}
    assert {row.state for row in free} == {OccurrenceState.DUE}
