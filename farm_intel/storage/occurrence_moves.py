"""The one place where occurrences are made and change state, inside of the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Update, and_, bindparam, insert, update
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.domain.activities import Occurrence, check_transition
from farm_intel.domain.activity_work import Move
from farm_intel.domain.messages import MessageState
from farm_intel.storage.activity_rows import answer_text, entry_columns, occurrence_columns
from farm_intel.storage.activity_tables import logbook, occurrences
from farm_intel.storage.enqueueing import enqueue
from farm_intel.storage.message_tables import outbox

ANSWERED = "withdrawn: it is settled"


def subject_of(occurrence: Occurrence) -> str:
    """Return what messages about an occurrence are about, the same over all of its states."""
    return f"occurrence:{occurrence.activity_id}:{occurrence.due_at.isoformat()}"


class OccurrenceWriter:
    """Writes rows and moves; its methods are the protections, one each, so that a test can take one away."""

    def insert(self, connection: Connection, rows: Sequence[Occurrence]) -> int:
        """Make rows and return how many are new; a date that has its row already keeps it as it is."""
        if not rows:
            return 0
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(occurrences).on_conflict_do_nothing()
        statement = statement.returning(occurrences.c.due_at)
        return len(connection.execute(statement, [occurrence_columns(row) for row in rows]).all())

    def apply(self, connection: Connection, moves: Iterable[Move], now: datetime) -> list[Move]:
        """Make moves with all they cause, and return those refused because somebody else was first.

        Rows in one order, and messages of all moves together: so two transactions never wait for each other.

        Raises:
            IllegalTransitionError: a step is not in the table; nothing of the transaction may be committed.

        """
        made: list[Move] = []
        refused: list[Move] = []
        for move in sorted(moves, key=lambda move: (move.before.activity_id, move.before.due_at)):
            self.check(move)
            changed = connection.execute(_statement(self.guard(move)), _values(move, now)).rowcount
            (made if changed else refused).append(move)
        withdraw(connection, [subject_of(move.before) for move in made if move.withdraw])
        entries = [entry_columns(move.entry) for move in made if move.entry is not None]
        if entries:
            connection.execute(insert(logbook), entries)
        enqueue(connection, [message for move in made for message in move.messages], now=now)
        return refused

    def check(self, move: Move) -> None:
        """Refuse a path with a step the table of transitions does not have."""
        state = move.before.state
        for step in move.path:
            check_transition(state, step, what=f"the occurrence {subject_of(move.before)}")
            state = step

    def guard(self, move: Move) -> tuple[str, ...]:  # noqa: ARG002 - a test's writer decides by the move
        """Return the columns that must still be as they were read for the move to take place."""
        return ("state", "token", "reason")


def withdraw(connection: Connection, subjects: Sequence[str]) -> None:
    """Drop messages about the subjects that still wait to be sent."""
    for subject in sorted(set(subjects)):
        connection.execute(
            update(outbox)
            .where(outbox.c.subject == subject, outbox.c.state == MessageState.PENDING.value)
            .values(state=MessageState.DROPPED.value, error=ANSWERED)
        )


_SET = (
    "state",
    "reason",
    "error",
    "not_before",
    "lease_until",
    "token",
    "attempt",
    "assignee",
    "acknowledge_by",
    "answer",
    "changed_at",
)


@cache
def _statement(guarded: tuple[str, ...]) -> Update:
    columns = occurrences.c
    conditions = [columns[name] == bindparam(f"was_{name}") for name in ("activity_id", "due_at", *guarded)]
    values: dict[str, BindParameter[Any]] = {name: bindparam(f"new_{name}") for name in _SET}
    return update(occurrences).where(and_(*conditions)).values(values)


def _values(move: Move, now: datetime) -> dict[str, Any]:
    before = move.before
    answer = before.answer if move.answer is None else move.answer
    new = {
        "state": move.state.value,
        "reason": move.reason,
        "error": move.error,
        "not_before": move.not_before or before.not_before,
        "lease_until": None if move.path else before.lease_until,
        "token": before.token + 1 if move.fence else before.token,
        "attempt": before.attempt if move.attempt is None else move.attempt,
        "assignee": before.assignee if move.assignee is None else move.assignee,
        "acknowledge_by": move.acknowledge_by or before.acknowledge_by,
        "answer": answer_text(answer),
        "changed_at": now,
    }
    was = {
        "activity_id": before.activity_id,
        "due_at": before.due_at,
        "state": before.state.value,
        "token": before.token,
        "reason": before.reason,
    }
    return {f"new_{name}": value for name, value in new.items()} | {f"was_{name}": value for name, value in was.items()}
