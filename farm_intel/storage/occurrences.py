"""Claiming, moving and reading occurrences; implements activities.ports.OccurrenceStore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    tuple_,
    update,
)

from farm_intel.domain.activities import Activity, Occurrence, OccurrenceState, Overlap
from farm_intel.domain.activity_work import Claim, ClaimTerms, Move, Pending
from farm_intel.domain.errors import UnknownNameError
from farm_intel.storage.activity_rows import parse_activity, parse_occurrence
from farm_intel.storage.activity_tables import activities, occurrences
from farm_intel.storage.bulk import one_of
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.occurrence_moves import OccurrenceWriter

_CLAIM_LOCK = 0x636C6169  # "clai": on PostgreSQL one claim after the other, so that "one at a time" is exact
_REMOVABLE = ("done", "skipped", "expired")
_ROW = occurrences.c
_WAITED_FOR = (_ROW.state == OccurrenceState.WAITING.value,)


class SqlOccurrenceStore:
    """Occurrences in the database; all instants come from the caller, the database's own clock is never asked."""

    def __init__(self, engine: Engine, *, writer: OccurrenceWriter | None = None) -> None:
        """Keep the engine; nothing is opened yet."""
        self.engine = engine
        self._writer = writer or OccurrenceWriter()

    def claim(self, terms: ClaimTerms, now: datetime) -> list[Claim]:
        """Take up to `terms.limit` occurrences, oldest first: those due, and those whose holder's lease is over.

        An occurrence is not due while its plan's overlap policy wants one at a time and another one of the plan is
        running, waiting, or due before it. Each claim raises the fencing token and counts as an attempt.
        """
        with transaction(self.engine) as connection:
            _one_claim_at_a_time(connection)
            taken = self._lock(connection, _stale(now, exhausted=False), terms.limit)
            taken += self._lock(connection, _due(now, self.admitted()), terms.limit - len(taken))
            _take(connection, taken, terms, now)
            plans = _plans(connection, taken)
        return [Claim(occurrence=_taken(row, terms, now), plan=plans[row.activity_id]) for row in taken]

    def move(self, moves: Sequence[Move], now: datetime) -> list[Move]:
        """Make all moves in one transaction with what they cause; return those refused: somebody else was first.

        Raises:
            IllegalTransitionError: one of them is not legal; nothing was changed.

        """
        if not moves:
            return []
        with transaction(self.engine) as connection:
            return self._writer.apply(connection, moves, now)

    def get(self, activity_id: str, due_at: datetime) -> Occurrence:
        """Return one occurrence.

        Raises:
            UnknownNameError: there is none.

        """
        with reading(self.engine) as connection:
            query = select(occurrences).where(_ROW.activity_id == activity_id, _ROW.due_at == due_at)
            row = connection.execute(query).mappings().first()
        if row is None:
            raise UnknownNameError(
                f"the activity {activity_id} has no occurrence due at {due_at.isoformat()}",
                hint="`farm-intel activities occurrences` lists them; the time is the UTC due time.",
            )
        return parse_occurrence(row)

    def find(
        self,
        *,
        activity_id: str | None = None,
        farm_ids: Sequence[str] | None = None,
        states: Sequence[OccurrenceState] | None = None,
        start: date | None = None,
        end: date | None = None,
        limit: int = 1000,
    ) -> list[Occurrence]:
        """Return occurrences by due time; days are local dates, both inclusive; None asks for all."""
        query = select(occurrences).order_by(_ROW.due_at, _ROW.activity_id).limit(limit)
        if activity_id is not None:
            query = query.where(_ROW.activity_id == activity_id)
        if states is not None:
            query = query.where(_ROW.state.in_([state.value for state in states]))
        if start is not None:
            query = query.where(_ROW.local_date >= start)
        if end is not None:
            query = query.where(_ROW.local_date <= end)
        with reading(self.engine) as connection:
            if farm_ids is not None:
                query = query.where(one_of(_ROW.farm_id, farm_ids, connection))
            return _parsed(connection, query)

    def pending(self, now: datetime) -> Pending:
        """Return how much there is to do now; what its plan's overlap policy holds back does not count."""
        plans = select(func.count(), func.min(activities.c.next_due)).where(
            activities.c.active.is_(True), activities.c.next_due <= now
        )
        counted = (func.count(), func.min(_ROW.not_before))
        due = _due(now, self.admitted()).order_by(None).with_only_columns(*counted)
        stale = select(func.count(), func.min(_ROW.lease_until)).where(*_lease_over(now))
        unattended = select(*counted).where(*_WAITED_FOR, _ROW.not_before <= now)
        with reading(self.engine) as connection:
            found = [connection.execute(query).one() for query in (plans, due, stale, unattended)]
        return Pending(
            plans=found[0][0],
            due=found[1][0] + found[2][0],
            unattended=found[3][0],
            oldest=min((row[1] for row in found if row[1] is not None), default=None),
        )

    def stale(self, now: datetime) -> list[Occurrence]:
        """Return what is running though its lease is over."""
        query = select(occurrences).where(*_lease_over(now)).order_by(_ROW.lease_until)
        with reading(self.engine) as connection:
            return _parsed(connection, query)

    def abandoned(self, now: datetime, limit: int) -> list[Claim]:
        """Return what nobody may take again: told to stop, or out of attempts, and the lease is over."""
        return self._read_claims(_stale(now, exhausted=True).limit(limit))

    def unattended(self, now: datetime, limit: int) -> list[Claim]:
        """Return what waits for an answer and whose next reminder, or end, is due."""
        query = _joined().where(*_WAITED_FOR, _ROW.not_before <= now)
        return self._read_claims(query.order_by(_ROW.not_before).limit(limit))

    def out_of_window(self, now: datetime, limit: int) -> list[Claim]:
        """Return what is due and nobody has got to within the catch-up window of its plan; never a backfilled one."""
        with reading(self.engine) as connection:
            windows = connection.scalars(select(activities.c.catchup_window_s).distinct()).all()
        found: list[Claim] = []
        for window_s in sorted(windows):
            query = _joined().where(
                _ROW.state == OccurrenceState.DUE.value,
                _ROW.not_before < now - timedelta(seconds=window_s),
                _ROW.backfilled.is_(False),
                activities.c.catchup_window_s == window_s,
            )
            found += self._read_claims(query.order_by(_ROW.not_before).limit(limit - len(found)))
        return found

    def runs_in_doubt(self, now: datetime) -> list[str]:
        """Return the ids of the Dagster runs that hold occurrences whose lease is over."""
        query = select(_ROW.run_id).where(*_lease_over(now), _ROW.run_id != "").distinct().order_by(_ROW.run_id)
        with reading(self.engine) as connection:
            return list(connection.scalars(query))

    def remove_settled(self, before: datetime, limit: int) -> int:
        """Remove up to `limit` settled occurrences not changed since `before`, and return how many.

        Dead letters stay until somebody replays or drops them, and nothing above its plan's high-water mark goes: the
        generator never looks below the mark, so what is removed cannot fall due again.
        """
        query = (
            _joined()
            .where(
                _ROW.state.in_(_REMOVABLE),
                _ROW.changed_at < before,
                _ROW.due_at <= activities.c.high_water,
            )
            .with_only_columns(_ROW.activity_id, _ROW.due_at)
            .order_by(_ROW.activity_id, _ROW.due_at)
            .limit(limit)
        )
        with transaction(self.engine) as connection:
            keys = [tuple(row) for row in connection.execute(query)]
            if not keys:
                return 0
            gone = delete(occurrences).where(tuple_(_ROW.activity_id, _ROW.due_at).in_(keys))
            return connection.execute(gone).rowcount

    def admitted(self) -> ColumnElement[bool]:
        """Return the condition under which an overlap policy lets a due occurrence be taken: its turn has come."""
        other = occurrences.alias("other")
        in_work = (OccurrenceState.RUNNING.value, OccurrenceState.WAITING.value)
        same_plan = other.c.activity_id == _ROW.activity_id
        in_the_way = or_(
            exists().where(same_plan, other.c.state.in_(in_work)),
            exists().where(same_plan, other.c.state == OccurrenceState.DUE.value, other.c.due_at < _ROW.due_at),
        )
        return or_(activities.c.overlap == Overlap.ALLOW_ALL.value, ~in_the_way)

    def _lock(self, connection: Connection, query: Select[tuple[object, ...]], limit: int) -> list[Occurrence]:
        if limit <= 0:
            return []
        return _parsed(connection, query.limit(limit).with_for_update(of=occurrences, skip_locked=True))

    def _read_claims(self, query: Select[tuple[object, ...]]) -> list[Claim]:
        with reading(self.engine) as connection:
            found = _parsed(connection, query)
            plans = _plans(connection, found)
        return [Claim(occurrence=occurrence, plan=plans[occurrence.activity_id]) for occurrence in found]


def _joined() -> Select[tuple[object, ...]]:
    return select(occurrences).join(activities, activities.c.activity_id == _ROW.activity_id)


def _lease_over(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (_ROW.state == OccurrenceState.RUNNING.value, _ROW.lease_until <= now)


def _stale(now: datetime, *, exhausted: bool) -> Select[tuple[object, ...]]:
    given_up = or_(_ROW.attempt >= activities.c.max_attempts, _ROW.reason != "")
    wanted = given_up if exhausted else and_(_ROW.attempt < activities.c.max_attempts, _ROW.reason == "")
    return _joined().where(*_lease_over(now), wanted).order_by(_ROW.lease_until)


def _due(now: datetime, admitted: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    return (
        _joined()
        .where(_ROW.state == OccurrenceState.DUE.value, _ROW.not_before <= now, admitted)
        .order_by(_ROW.not_before, _ROW.due_at)
    )


def _one_claim_at_a_time(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # a SQLite write transaction is exclusive by itself
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIM_LOCK})


_TAKE = (
    update(occurrences)
    .where(_ROW.activity_id == bindparam("was_activity_id"), _ROW.due_at == bindparam("was_due_at"))
    .values(
        state=OccurrenceState.RUNNING.value,
        reason="",  # from now on a reason is the word of a later one that tells it to stop
        token=_ROW.token + 1,
        attempt=_ROW.attempt + 1,
        lease_until=bindparam("new_lease_until"),
        worker=bindparam("new_worker"),
        run_id=bindparam("new_run_id"),
        traceparent=bindparam("new_traceparent"),
        changed_at=bindparam("new_changed_at"),
    )
)


def _take(connection: Connection, taken: Sequence[Occurrence], terms: ClaimTerms, now: datetime) -> None:
    new = {
        "new_lease_until": now + timedelta(seconds=terms.lease_s),
        "new_worker": terms.worker,
        "new_run_id": terms.run_id,
        "new_traceparent": terms.traceparent,
        "new_changed_at": now,
    }
    if taken:
        rows = [{"was_activity_id": row.activity_id, "was_due_at": row.due_at, **new} for row in taken]
        connection.execute(_TAKE, rows)


def _taken(row: Occurrence, terms: ClaimTerms, now: datetime) -> Occurrence:
    return replace(
        row,
        state=OccurrenceState.RUNNING,
        reason="",
        token=row.token + 1,
        attempt=row.attempt + 1,
        lease_until=now + timedelta(seconds=terms.lease_s),
        worker=terms.worker,
        run_id=terms.run_id,
        traceparent=terms.traceparent,
        changed_at=now,
    )


def _plans(connection: Connection, found: Sequence[Occurrence]) -> dict[str, Activity]:
    ids = sorted({occurrence.activity_id for occurrence in found})
    query = select(activities).where(one_of(activities.c.activity_id, ids, connection))
    return {row["activity_id"]: parse_activity(row) for row in connection.execute(query).mappings()}


def _parsed(connection: Connection, query: Select[tuple[object, ...]]) -> list[Occurrence]:
    return [parse_occurrence(row) for row in connection.execute(query).mappings()]
