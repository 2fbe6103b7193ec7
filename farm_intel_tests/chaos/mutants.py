"""The design with one protection missing each: what the trials must find.

Only the missing part is written here; all else of a mutant is the real code. Where a mutant opens a gap between two
transactions, it waits in it for some milliseconds, so that a few dozen kills are enough to hit it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, select, text

from farm_intel.domain.activities import Activity
from farm_intel.domain.activity_work import Advance, Claim, ClaimTerms, Decide, Move
from farm_intel.domain.messages import Message
from farm_intel.storage.activities import SqlActivityStore
from farm_intel.storage.activity_rows import parse_activity
from farm_intel.storage.activity_tables import activities
from farm_intel.storage.database import transaction
from farm_intel.storage.occurrence_moves import OccurrenceWriter
from farm_intel.storage.occurrences import SqlOccurrenceStore
from farm_intel.storage.outbox import SqlOutbox
from farm_intel_tests.chaos.ledger import Telltale

GAP_S = 0.03


class MarkFirst(SqlActivityStore):
    """Moves the high-water mark in a transaction of its own, before that of the rows below it."""

    def advance(self, decide: Decide, now: datetime, *, plans: int, rows: int) -> dict[str, Advance]:
        del rows
        done: list[tuple[Activity, Advance]] = []
        with transaction(self.engine) as connection:
            columns = activities.c
            due = select(activities).where(columns.active.is_(True), columns.next_due <= now).limit(plans)
            for row in connection.execute(due.with_for_update(skip_locked=True)).mappings().all():
                plan = parse_activity(row)
                done.append((plan, decide(plan, ())))
                self.raise_mark(connection, *done[-1])
        if done:
            time.sleep(GAP_S)
        with transaction(self.engine) as connection:
            for _, advance in done:
                self._writer.insert(connection, advance.rows)
        return {plan.activity_id: advance for plan, advance in done}


class FinishesByKey(OccurrenceWriter):
    """Finishes an occurrence whoever holds it: the fencing token is ignored.

    Two walls stand behind the token: an occurrence's line in the logbook has an id that follows from its key, and the
    key is unique there. Both would refuse the second effect and with it the batch, so both are taken away.
    """

    def apply(self, connection: Connection, moves: Iterable[Move], now: datetime) -> list[Move]:
        return super().apply(connection, [_with_new_id(move) for move in moves], now)

    def guard(self, move: Move) -> tuple[str, ...]:
        del move
        return ()


class SentBeforehand(SqlOutbox):
    """Records messages as sent when it takes them: at most once."""

    def claim(self, limit: int, *, now: datetime, lease: timedelta) -> list[Message]:
        messages = super().claim(limit, now=now, lease=lease)
        for message in messages:
            self.sent(message, "taken", now=now)
        if messages:
            time.sleep(GAP_S)
        return messages


class OutboxLater(Telltale):
    """Commits the occurrence first and its messages in another transaction."""

    def move(self, moves: Sequence[Move], now: datetime) -> list[Move]:
        refused = super().move([replace(move, messages=()) for move in moves], now)
        lost = {(move.before.activity_id, move.before.due_at) for move in refused}
        made = [move for move in moves if (move.before.activity_id, move.before.due_at) not in lost]
        time.sleep(GAP_S)
        SqlOutbox(self.engine).enqueue([message for move in made for message in move.messages], now=now)
        return [move for move in moves if move not in made]


class TellsFirst(Telltale):
    """Takes effects for acknowledged before the database has."""

    def move(self, moves: Sequence[Move], now: datetime) -> list[Move]:
        self.tell(moves)
        time.sleep(GAP_S)
        return SqlOccurrenceStore.move(self, moves, now)


class EndlessLease(Telltale):
    """Never takes back what a dead worker held: the fault of the original."""

    def claim(self, terms: ClaimTerms, now: datetime) -> list[Claim]:
        return super().claim(replace(terms, lease_s=1e6), now)


def _with_new_id(move: Move) -> Move:
    if move.entry is None:
        return move
    return replace(move, entry=replace(move.entry, entry_id=uuid.uuid4().hex))


def _nothing(engine: Engine) -> None:
    del engine


def _without_unique_line(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("DROP INDEX ix_logbook_activity_id_due_at"))


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """Which class takes the place of the real one."""

    what: str
    plans: type[SqlActivityStore] = SqlActivityStore
    occurrences: type[Telltale] = Telltale
    writer: type[OccurrenceWriter] = OccurrenceWriter
    outbox: type[SqlOutbox] = SqlOutbox
    prepare: Callable[[Engine], None] = _nothing
    """What is taken out of the database."""


MUTANTS = {
    "": Mutant(what="the design"),
    "fence": Mutant(
        what="fencing token ignored (and the two walls behind it)",
        writer=FinishesByKey,
        prepare=_without_unique_line,
    ),
    "mark": Mutant(what="high-water mark moved in another transaction", plans=MarkFirst),
    "outbox": Mutant(what="outbox in another transaction", occurrences=OutboxLater),
    "lease": Mutant(what="stale leases never taken back", occurrences=EndlessLease),
    "told": Mutant(what="acknowledged before it is committed", occurrences=TellsFirst),
    "sent": Mutant(what="recorded as sent before it is sent", outbox=SentBeforehand),
}
"""By the name the trials know them by; the empty name is the design itself."""
