"""What the store of activities promises, each promise with the mutant that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import ColumnElement, Connection, Engine, insert, select, true, update

from farm_intel.activities.generating import fall_due
from farm_intel.activities.working import WorkReport
from farm_intel.domain.activities import (
    Activity,
    IllegalTransitionError,
    Occurrence,
    OccurrenceState,
    Overlap,
)
from farm_intel.domain.activity_work import Advance, ClaimTerms, Decide, Move
from farm_intel.domain.errors import StoreError
from farm_intel.storage.activities import SqlActivityStore
from farm_intel.storage.activity_rows import occurrence_columns
from farm_intel.storage.activity_tables import activities, occurrences
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.enqueueing import enqueue
from farm_intel.storage.message_tables import stream_events
from farm_intel.storage.occurrence_moves import OccurrenceWriter
from farm_intel.storage.occurrences import SqlOccurrenceStore
from farm_intel_tests.activities.kit import START, Bench, Draft, EverySeconds, every, person

type Scenario = Callable[[Engine, type[OccurrenceWriter], type[SqlActivityStore]], None]

TERMS = ClaimTerms(worker="w", limit=10, lease_s=300)


class KilledError(StoreError):
    """The process is gone at this point."""


def a_bench(engine: Engine, writer: type[OccurrenceWriter], plans: type[SqlActivityStore]) -> Bench:
    shared = writer()
    return Bench(engine, writer=shared, plans=plans(engine, writer=shared))


def late_results_are_refused(engine: Engine, writer: type[OccurrenceWriter], plans: type[SqlActivityStore]) -> None:
    """Two holders of one occurrence: only the later one's result counts, and only it tells people."""
    bench = a_bench(engine, writer, plans)
    bench.service.plans.create(Draft(schedule=every(86_400)), by="joe")
    bench.clock.advance(86_400)
    bench.service.generator.run()
    (first,) = bench.store.claim(TERMS, bench.clock.now())
    bench.clock.advance(301)
    (second,) = bench.store.claim(TERMS, bench.clock.now())
    report = WorkReport()
    bench.service.worker._work_on([first], report)
    assert (report.refused, bench.states(), bench.messages(), bench.count_effects()) == (1, ["running"], [], {})
    bench.service.worker._work_on([second], report)
    assert bench.states() == ["done"]
    assert len(bench.messages()) == 1
    assert list(bench.count_effects().values()) == [1]


def the_cancelled_hear_it(engine: Engine, writer: type[OccurrenceWriter], plans: type[SqlActivityStore]) -> None:
    """A worker whose occurrence was cancelled meanwhile does not have it done."""
    bench = a_bench(engine, writer, plans)
    bench.service.plans.create(Draft(overlap=Overlap.CANCEL_OTHER), by="joe")
    bench.clock.advance(3600)
    bench.service.generator.run()
    claims = bench.store.claim(TERMS, bench.clock.now())
    bench.clock.advance(3600)
    bench.service.generator.run()
    bench.service.worker._work_on(claims, WorkReport())
    assert bench.states() == ["skipped", "due"]
    assert bench.count_effects() == {}


def illegal_moves_are_refused(engine: Engine, writer: type[OccurrenceWriter], plans: type[SqlActivityStore]) -> None:
    """No caller gets past the table of transitions, and nothing of its batch is written."""
    bench = a_bench(engine, writer, plans)
    bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(2 * 3600)
    bench.service.generator.run()
    first, second = bench.rows()
    moves = [
        Move(before=first, path=(OccurrenceState.EXPIRED,), reason="fine"),
        Move(before=second, path=(OccurrenceState.DONE,)),
    ]
    refused = False
    try:
        bench.store.move(moves, bench.clock.now())
    except IllegalTransitionError:
        refused = True
    assert refused
    assert bench.states() == ["due", "due"]


def a_crash_in_the_generator_loses_nothing(
    engine: Engine, writer: type[OccurrenceWriter], plans: type[SqlActivityStore]
) -> None:
    """The process dies while it makes rows, at the first, second … of its writes; the next pass makes them all."""

    class Dying(writer):  # type: ignore[misc, valid-type]  # the mutant is a parameter
        def __init__(self) -> None:
            self.lives = 0

        def insert(self, connection: Connection, rows: Sequence[Occurrence]) -> int:
            self.lives -= bool(rows)
            if self.lives == 0:
                raise KilledError("killed")
            return super().insert(connection, rows)  # type: ignore[no-any-return]  # see the class

    dying = Dying()
    bench = Bench(engine, writer=dying, plans=plans(engine, writer=dying))
    made = [bench.service.plans.create(Draft(farm_id=f"farm-{n}"), by="joe") for n in range(3)]
    for number in (1, 2, 3):
        bench.clock.advance(2 * 3600)
        dying.lives = number
        with pytest.raises(KilledError):
            bench.service.generator.run()
        bench.service.generator.run()
        for plan in made:
            dates = [row.due_at for row in bench.rows(plan.activity_id)]
            assert dates == [START + timedelta(hours=hour) for hour in range(1, 2 * number + 1)]


def a_date_that_has_its_row_keeps_it(
    engine: Engine, writer: type[OccurrenceWriter], plans: type[SqlActivityStore]
) -> None:
    """A mark that went back, as after a restored backup, and a backfill of what is there double nothing."""
    bench = a_bench(engine, writer, plans)
    plan = bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(3 * 3600)
    bench.pump()
    before = bench.rows()
    with transaction(engine) as connection:
        connection.execute(update(activities).values(high_water=START, next_due=START + timedelta(hours=1)))
    raised = False
    try:
        bench.service.generator.run()
        assert (
            bench.service.plans.backfill(plan.activity_id, START + timedelta(hours=1), bench.clock.now(), by="j") == 0
        )
    except StoreError:
        raised = True
    assert not raised
    assert bench.rows() == before


def only_one_generator_moves_a_mark(
    engine: Engine, writer: type[OccurrenceWriter], plans: type[SqlActivityStore]
) -> None:
    """A generator that decided on a plan as it was before another one advanced it writes nothing."""
    bench = a_bench(engine, writer, plans)
    made = bench.service.plans.create(Draft(schedule=every(1800)), by="joe")
    stale = made
    bench.clock.advance(3600)
    bench.service.generator.run()
    bench.clock.advance(3600)
    late = fall_due(stale, (), bench.clock.now(), EverySeconds())
    refused = False
    try:
        with transaction(engine) as connection:
            bench.plan_store.raise_mark(connection, stale, late)
    except StoreError:
        refused = True
    assert refused
    assert bench.service.activity(made.activity_id).high_water == START + timedelta(hours=1)


SCENARIOS: tuple[Scenario, ...] = (
    late_results_are_refused,
    the_cancelled_hear_it,
    illegal_moves_are_refused,
    a_crash_in_the_generator_loses_nothing,
    a_date_that_has_its_row_keeps_it,
    only_one_generator_moves_a_mark,
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_the_store_promises(engine: Engine, scenario: Scenario) -> None:
    scenario(engine, OccurrenceWriter, SqlActivityStore)


class NoFencing(OccurrenceWriter):
    """Whoever comes back may finish, whatever token it holds."""

    def guard(self, move: Move) -> tuple[str, ...]:
        return ("state", "reason")


class NoStopping(OccurrenceWriter):
    """A worker does not hear that a later one cancelled its occurrence."""

    def guard(self, move: Move) -> tuple[str, ...]:
        return ("state", "token")


class TellsTwice(OccurrenceWriter):
    """Tells people even where the move was refused."""

    def apply(self, connection: Connection, moves: Iterable[Move], now: datetime) -> list[Move]:
        kept = list(moves)
        refused = super().apply(connection, kept, now)
        enqueue(connection, [message for move in refused for message in move.messages], now=now)
        return refused


class NoTable(OccurrenceWriter):
    """Takes any state for a legal one."""

    def check(self, move: Move) -> None:
        pass


class PlainInsert(OccurrenceWriter):
    """Makes rows without ON CONFLICT DO NOTHING."""

    def insert(self, connection: Connection, rows: Sequence[Occurrence]) -> int:
        if rows:
            connection.execute(insert(occurrences), [occurrence_columns(row) for row in rows])
        return len(rows)


class MarkFirst(SqlActivityStore):
    """Moves the mark in a transaction of its own before the rows are made."""

    def advance(self, decide: Decide, now: datetime, *, plans: int, rows: int) -> dict[str, Advance]:
        decided: dict[str, Advance] = {}

        def without_rows(plan: Activity, unsettled: Sequence[Occurrence]) -> Advance:
            decided[plan.activity_id] = decide(plan, unsettled)
            return replace(decided[plan.activity_id], rows=(), moves=())

        super().advance(without_rows, now, plans=plans, rows=rows)
        with transaction(self.engine) as connection:
            for advance in decided.values():
                self._writer.insert(connection, advance.rows)
        return decided


class UnguardedMark(SqlActivityStore):
    """Moves the mark wherever it stands."""

    def raise_mark(self, connection: Connection, plan: Activity, advance: Advance) -> None:
        connection.execute(
            update(activities)
            .where(activities.c.activity_id == plan.activity_id)
            .values(high_water=advance.high_water, next_due=advance.next_due)
        )


MUTANTS: tuple[tuple[Scenario, type[OccurrenceWriter], type[SqlActivityStore]], ...] = (
    (late_results_are_refused, NoFencing, SqlActivityStore),
    (late_results_are_refused, TellsTwice, SqlActivityStore),
    (the_cancelled_hear_it, NoStopping, SqlActivityStore),
    (illegal_moves_are_refused, NoTable, SqlActivityStore),
    (a_crash_in_the_generator_loses_nothing, OccurrenceWriter, MarkFirst),
    (a_date_that_has_its_row_keeps_it, PlainInsert, SqlActivityStore),
    (only_one_generator_moves_a_mark, OccurrenceWriter, UnguardedMark),
)


@pytest.mark.parametrize(("scenario", "writer", "plans"), MUTANTS)
def test_a_promise_that_is_broken_is_noticed(
    sqlite_engine: Engine, scenario: Scenario, writer: type[OccurrenceWriter], plans: type[SqlActivityStore]
) -> None:
    with pytest.raises(AssertionError):
        scenario(sqlite_engine, writer, plans)


class AdmitsAll(SqlOccurrenceStore):
    """Lets everything be taken that is due, whatever the policy says."""

    def admitted(self) -> ColumnElement[bool]:
        return true()


def one_at_a_time(bench: Bench) -> None:
    bench.service.plans.create(Draft(overlap=Overlap.BUFFER_ALL), by="joe")
    bench.clock.advance(3 * 3600)
    bench.service.generator.run()
    first = bench.store.claim(TERMS, bench.clock.now())
    assert [claim.occurrence.due_at for claim in first] == [START + timedelta(hours=1)]
    assert bench.store.claim(TERMS, bench.clock.now()) == []


def test_buffered_ones_are_taken_one_at_a_time_and_that_is_held(engine: Engine) -> None:
    one_at_a_time(Bench(engine))
    with pytest.raises(AssertionError):
        one_at_a_time(Bench(engine, store=AdmitsAll(engine)))


def test_two_claims_share_nothing(engine: Engine) -> None:
    bench = Bench(engine)
    bench.service.plans.create(Draft(), by="joe")
    bench.clock.advance(20 * 3600)
    bench.service.generator.run()
    first = bench.store.claim(TERMS, bench.clock.now())
    second = bench.store.claim(TERMS, bench.clock.now())
    keys = [claim.occurrence.due_at for claim in first + second]
    assert len(keys) == len(set(keys)) == 20
    assert bench.store.claim(TERMS, bench.clock.now()) == []


def test_four_pumps_at_once_do_everything_once(engine: Engine) -> None:
    bench = Bench(engine, people=[person("amina", "stream"), person("juma", "stream"), person("juma")])
    policies = [Overlap.ALLOW_ALL, Overlap.BUFFER_ALL]
    for number in range(8):
        bench.service.plans.create(Draft(farm_id=f"farm-{number}", overlap=policies[number % 2]), by="joe")
    bench.clock.advance(20 * 3600)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(bench.pump, f"w{number}") for number in range(4)]:
            done.result()
    bench.pump()

    assert bench.states() == ["done"] * 160
    assert sorted(bench.count_effects().values()) == [1] * 160
    assert len(bench.messages()) == 160 * (2 + 1)  # a letter to juma, and what is to be spoken of both streams
    with reading(engine) as connection:
        numbers = connection.execute(select(stream_events.c.user_id, stream_events.c.seq)).all()
    assert sorted(tuple(row) for row in numbers) == [(user, seq) for user in ("amina", "juma") for seq in range(1, 161)]


def test_retention_removes_only_what_can_never_come_back(engine: Engine) -> None:
    bench = Bench(engine)
    plan = bench.service.plans.create(Draft(acknowledge=False), by="joe")
    bench.clock.advance(3 * 3600)
    bench.pump()
    bench.clock.advance(40 * 86_400)
    bench.service.plans.pause(plan.activity_id, note="winter", by="joe")
    entries = bench.service.logbook.entries()

    assert bench.service.tending.retain(timedelta(days=30)) == 3
    assert bench.service.tending.retain(timedelta(days=30)) == 0

    left = bench.count_rows()
    bench.service.generator.run()
    assert bench.count_rows() == left
    assert bench.service.logbook.entries()[:3] == entries
    # nor does a backfill do again what the logbook says was done
    assert bench.service.plans.backfill(plan.activity_id, START, START + timedelta(hours=3), by="joe") == 1  # its start


def test_how_much_is_pending(engine: Engine) -> None:
    bench = Bench(engine)
    assert bench.service.pending().oldest is None
    bench.service.plans.create(Draft(acknowledge=True, acknowledge_within=timedelta(hours=1)), by="joe")
    bench.clock.advance(3600)
    pending = bench.service.pending()
    assert (pending.plans, pending.due, pending.unattended) == (1, 0, 0)
    assert pending.oldest == START + timedelta(hours=1)
    bench.service.generator.run()
    assert (bench.service.pending().plans, bench.service.pending().due) == (0, 1)
    bench.pump()
    assert bench.service.pending().due == 0
    bench.clock.advance(1900)
    assert bench.service.pending().unattended == 1


def test_heartbeats(engine: Engine) -> None:
    bench = Bench(engine)
    bench.service.beat("pump", "first")
    bench.clock.advance(60)
    bench.service.beat("pump", "second")
    bench.service.beat("auditor")
    assert [(beat.name, beat.detail, beat.at) for beat in bench.service.heartbeats()] == [
        ("auditor", "", bench.clock.now()),
        ("pump", "second", bench.clock.now()),
    ]
