"""Plans of activities, what fell due of them, and heartbeats; implements activities.ports.ActivityStore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.domain.activities import Activity, Occurrence, OccurrenceState, Overlap
from farm_intel.domain.activity_work import (
    Advance,
    Change,
    Decide,
    DecideChange,
    Heartbeat,
    PlanChange,
)
from farm_intel.domain.errors import StoreError, UnknownNameError
from farm_intel.storage.activity_rows import activity_columns, parse_activity, parse_occurrence
from farm_intel.storage.activity_tables import (
    activities,
    activity_changes,
    heartbeats,
    logbook,
    occurrences,
    proposals,
)
from farm_intel.storage.bulk import one_of
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.occurrence_moves import OccurrenceWriter

_OPEN = tuple(state.value for state in (OccurrenceState.DUE, OccurrenceState.RUNNING, OccurrenceState.WAITING))
_INDIFFERENT = (Overlap.ALLOW_ALL, Overlap.BUFFER_ALL)
"""Policies under which nothing falls due differently because of what is open: it need not be read."""
_PLAN = activities.c


class SqlActivityStore:
    """Plans in the database. The rows of what fell due and the high-water mark are written together or not at all."""

    def __init__(self, engine: Engine, *, writer: OccurrenceWriter | None = None) -> None:
        """Keep the engine; nothing is opened yet."""
        self.engine = engine
        self._writer = writer or OccurrenceWriter()

    def add(self, activity: Activity, next_due: datetime | None, *, note: str) -> None:
        """Insert a plan and the first line of its history.

        Raises:
            StoreError: the database refused; nothing was changed.

        """
        with transaction(self.engine) as connection:
            self._insert_plan(connection, activity, next_due, note)

    def propose(self, activity: Activity, occurrence: Occurrence, *, note: str) -> bool:
        """Insert a plan and its one occurrence for an event; False where the event has proposed one before."""
        with transaction(self.engine) as connection:
            known = select(proposals.c.activity_id).where(
                proposals.c.farm_id == activity.farm_id, proposals.c.event_key == activity.event_key
            )
            if connection.scalar(known) is not None:
                return False
            self._insert_plan(connection, activity, None, note)
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            row = {
                "farm_id": activity.farm_id,
                "event_key": activity.event_key,
                "activity_id": activity.activity_id,
                "proposed_at": activity.created_at,
            }
            if not connection.execute(dialect.insert(proposals).values(row).on_conflict_do_nothing()).rowcount:
                connection.rollback()  # another process was first between our look and our row
                return False
            self._writer.insert(connection, [occurrence])
        return True

    def get(self, activity_id: str) -> Activity:
        """Return one plan.

        Raises:
            UnknownNameError: there is none.

        """
        with reading(self.engine) as connection:
            row = connection.execute(select(activities).where(_PLAN.activity_id == activity_id)).mappings().first()
        if row is None:
            raise _unknown(activity_id)
        return parse_activity(row)

    def find(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        activity_types: Sequence[str] | None = None,
        include_removed: bool = False,
        limit: int = 10_000,
    ) -> list[Activity]:
        """Return plans ordered by farm, then age; None asks for all."""
        query = select(activities).order_by(_PLAN.farm_id, _PLAN.created_at, _PLAN.activity_id).limit(limit)
        if not include_removed:
            query = query.where(_PLAN.active.is_(True))
        with reading(self.engine) as connection:
            if farm_ids is not None:
                query = query.where(one_of(_PLAN.farm_id, farm_ids, connection))
            if activity_types is not None:
                query = query.where(one_of(_PLAN.type, activity_types, connection))
            return [parse_activity(row) for row in connection.execute(query).mappings()]

    def history(self, activity_id: str) -> list[PlanChange]:
        """Return who changed what of a plan, oldest first."""
        query = select(activity_changes).where(activity_changes.c.activity_id == activity_id)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(activity_changes.c.version)).mappings().all()
        return [
            PlanChange(
                activity_id=row["activity_id"],
                version=row["version"],
                at=row["at"],
                by=row["by"],
                change=row["change"],
            )
            for row in rows
        ]

    def advance(self, decide: Decide, now: datetime, *, plans: int, rows: int) -> dict[str, Advance]:
        """Make rows of what fell due, for up to `plans` plans and about `rows` rows, in one transaction.

        Plans are locked while they are advanced: another generator takes others (PostgreSQL) or its turn (SQLite).

        Args:
            decide: says what fell due of a plan; pure, it is called inside of the transaction.
            now: up to when.
            plans: most plans of the transaction, the longest overdue first.
            rows: once so many rows are made, no further plan is taken.

        Returns:
            What was written, by activity; empty where nothing is due.

        """
        done: dict[str, Advance] = {}
        with transaction(self.engine) as connection:
            query = select(activities).where(_PLAN.active.is_(True), _PLAN.next_due <= now).order_by(_PLAN.next_due)
            query = query.limit(plans).with_for_update(skip_locked=True)
            due = [parse_activity(row) for row in connection.execute(query).mappings()]
            choosy = [plan.activity_id for plan in due if plan.overlap not in _INDIFFERENT]
            open_rows = self._open(connection, choosy)
            made = 0
            # rows of occurrences in one order of plans, so that two transactions never wait for each other
            chosen: list[tuple[Activity, Advance]] = []
            for plan in due:
                if made >= rows:
                    break
                advance = decide(plan, open_rows.get(plan.activity_id, ()))
                made += len(advance.rows)
                chosen.append((plan, advance))
            for plan, advance in sorted(chosen, key=lambda pair: pair[0].activity_id):
                self._write_advance(connection, plan, advance, now)
                done[plan.activity_id] = advance
        return done

    def change(self, activity_id: str, decide: DecideChange, now: datetime) -> Activity:
        """Change a plan, in the transaction that makes rows of what fell due until now; return it as it is then.

        Raises:
            UnknownNameError: there is no such plan.
            FarmIntelError: what `decide` raises; nothing was changed.

        """
        with transaction(self.engine) as connection:
            query = select(activities).where(_PLAN.activity_id == activity_id).with_for_update()
            row = connection.execute(query).mappings().first()
            if row is None:
                raise _unknown(activity_id)
            plan = parse_activity(row)
            change = decide(plan, self._open(connection, [activity_id]).get(activity_id, ()))
            self._write_change(connection, plan, change, now)
        return change.after

    def add_rows(self, rows: Sequence[Occurrence]) -> int:
        """Make rows of dates that have none and no line in the logbook either; return how many were made."""
        if not rows:
            return 0
        ids = sorted({row.activity_id for row in rows})
        with transaction(self.engine) as connection:
            answered = select(logbook.c.activity_id, logbook.c.due_at).where(
                one_of(logbook.c.activity_id, ids, connection),
                logbook.c.due_at.between(min(row.due_at for row in rows), max(row.due_at for row in rows)),
            )
            known = {(activity_id, due_at) for activity_id, due_at in connection.execute(answered)}
            return self._writer.insert(connection, [row for row in rows if (row.activity_id, row.due_at) not in known])

    def set_next_due(self, dates: Mapping[str, datetime | None]) -> int:
        """Replace when plans fall due next, e.g. after new time zone rules; the marks stay. Return how many changed."""
        changed = 0
        with transaction(self.engine) as connection:
            for activity_id, next_due in sorted(dates.items()):
                statement = update(activities).where(
                    _PLAN.activity_id == activity_id, _PLAN.next_due.is_distinct_from(next_due)
                )
                changed += connection.execute(statement.values(next_due=next_due)).rowcount
        return changed

    def beat(self, name: str, detail: str, now: datetime) -> None:
        """Record that a part of the pump went through."""
        values = {"name": name, "at": now, "detail": detail}
        with transaction(self.engine) as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            statement = dialect.insert(heartbeats).values(values)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_={"at": now, "detail": detail})
            )

    def heartbeats(self) -> list[Heartbeat]:
        """Return when each part last went through, by name."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(heartbeats).order_by(heartbeats.c.name)).mappings().all()
        return [Heartbeat(name=row["name"], at=row["at"], detail=row["detail"]) for row in rows]

    def _insert_plan(self, connection: Connection, activity: Activity, next_due: datetime | None, note: str) -> None:
        connection.execute(insert(activities).values(activity_columns(activity) | {"next_due": next_due}))
        _insert_change(connection, activity, activity.created_by, note)

    def _open(self, connection: Connection, activity_ids: Sequence[str]) -> dict[str, list[Occurrence]]:
        if not activity_ids:
            return {}
        query = (
            select(occurrences)
            .where(one_of(occurrences.c.activity_id, activity_ids, connection), occurrences.c.state.in_(_OPEN))
            .order_by(occurrences.c.activity_id, occurrences.c.due_at)
            .with_for_update()
        )
        found: dict[str, list[Occurrence]] = {}
        for row in connection.execute(query).mappings():
            found.setdefault(row["activity_id"], []).append(parse_occurrence(row))
        return found

    def _write_advance(self, connection: Connection, plan: Activity, advance: Advance, now: datetime) -> None:
        self._writer.insert(connection, advance.rows)
        self._writer.apply(connection, advance.moves, now)
        self.raise_mark(connection, plan, advance)
        if advance.problem:
            stopped = replace(plan, paused=True, pause_note=advance.problem, version=plan.version + 1, changed_at=now)
            _update_plan(connection, plan, stopped, None)
            _insert_change(connection, stopped, "farm-intel", f"paused: {advance.problem}")

    def raise_mark(self, connection: Connection, plan: Activity, advance: Advance) -> None:
        """Move the high-water mark, in the transaction of the rows below it and only from where it was read.

        Raises:
            StoreError: another generator moved it meanwhile; the transaction is rolled back.

        """
        held = update(activities).where(_PLAN.activity_id == plan.activity_id, _PLAN.high_water == plan.high_water)
        moved = connection.execute(held.values(high_water=advance.high_water, next_due=advance.next_due)).rowcount
        if not moved:
            raise _overtaken(plan)

    def _write_change(self, connection: Connection, plan: Activity, change: Change, now: datetime) -> None:
        self._writer.insert(connection, change.advance.rows)
        self._writer.apply(connection, change.advance.moves, now)
        _update_plan(connection, plan, change.after, change.advance.next_due)
        _insert_change(connection, change.after, change.by, change.note)


def _update_plan(connection: Connection, plan: Activity, after: Activity, next_due: datetime | None) -> None:
    held = update(activities).where(_PLAN.activity_id == plan.activity_id, _PLAN.version == plan.version)
    values = activity_columns(after) | {"next_due": next_due}
    if not connection.execute(held.values(values)).rowcount:
        raise _overtaken(plan)


def _insert_change(connection: Connection, activity: Activity, by: str, note: str) -> None:
    values = {
        "activity_id": activity.activity_id,
        "version": activity.version,
        "at": activity.changed_at,
        "by": by,
        "change": note,
    }
    connection.execute(insert(activity_changes).values(values))


def _unknown(activity_id: str) -> UnknownNameError:
    return UnknownNameError(
        f"there is no activity {activity_id!r}", hint="`farm-intel activities list` shows the ids there are."
    )


def _overtaken(plan: Activity) -> StoreError:
    return StoreError(
        f"the activity {plan.activity_id} of farm {plan.farm_id} was changed by another process meanwhile",
        hint="Nothing was written; the next pass takes it up again.",
    )
