"""What falls due: from a plan and the time to rows, the high-water mark, and the reasons of all that is skipped.

The decision is pure; the store calls it inside of the transaction that writes its result, so the mark and the rows
below it are one. The next date always follows from the schedule, never from an occurrence that was finished.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from farm_intel.activities.overlap import Ruling, Unsettled, rule_on
from farm_intel.activities.ports import ActivityStore, Recurrence
from farm_intel.activities.recurrence import DueTime
from farm_intel.domain.activities import Activity, Misfire, Occurrence, OccurrenceState
from farm_intel.domain.activity_work import Advance, Move
from farm_intel.domain.errors import PermanentError
from farm_intel.domain.ports import Clock

_LOG = logging.getLogger("farm_intel.activities")

LATE = timedelta(minutes=1)
"""What is later than this has misfired, where the plan wants none of those."""
ROWS_PER_PLAN = 500
"""Rows of one plan in one transaction; the next pass goes on."""
PLANS_PER_PASS = 50
ROWS_PER_PASS = 500
OUT_OF_WINDOW = "catch-up window"
_OPEN = frozenset({OccurrenceState.DUE, OccurrenceState.RUNNING, OccurrenceState.WAITING})


@dataclass(slots=True)
class GenerateReport:
    """What a pass of the generator made."""

    made: dict[str, int] = field(default_factory=dict)
    """Rows by state."""
    cancelled: int = 0
    """Earlier occurrences that an overlap policy stopped."""
    problems: list[str] = field(default_factory=list)
    """Plans whose dates cannot be computed; they are paused."""
    finished: bool = True
    """False where more is due than a pass may take."""

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.made.values())


class Generator:
    """Makes rows of what fell due."""

    def __init__(self, store: ActivityStore, recurrence: Recurrence, clock: Clock) -> None:
        """Keep what it works with."""
        self._store = store
        self._recurrence = recurrence
        self._clock = clock

    def run(self, *, transactions: int = 200) -> GenerateReport:
        """Make rows of everything that fell due until now, in at most so many transactions.

        Raises:
            StoreError: the database refused; what was committed stays, and the rest is made by the next pass.

        """
        now = self._clock.now()
        report = GenerateReport()
        for _ in range(transactions):
            done = self._store.advance(
                lambda plan, unsettled: self._safely(plan, unsettled, now),
                now,
                plans=PLANS_PER_PASS,
                rows=ROWS_PER_PASS,
            )
            if not done:
                return report
            for activity_id, advance in done.items():
                _count(report, activity_id, advance)
        report.finished = False
        return report

    def _safely(self, plan: Activity, unsettled: Sequence[Occurrence], now: datetime) -> Advance:
        """One plan whose dates cannot be computed must not keep the others from theirs."""
        try:
            return fall_due(plan, unsettled, now, self._recurrence)
        except PermanentError as error:
            return Advance(high_water=plan.high_water, next_due=None, problem=f"its dates cannot be computed: {error}")


def fall_due(
    plan: Activity,
    unsettled: Sequence[Occurrence],
    now: datetime,
    recurrence: Recurrence,
    *,
    limit: int = ROWS_PER_PLAN,
) -> Advance:
    """Return the rows of what fell due after the plan's mark up to now, at most `limit` of them.

    Args:
        plan: as it is stored.
        unsettled: its occurrences that are due, running or waiting.
        now: UTC. Where the clock went back behind the mark, nothing falls due until it is past it again.
        recurrence: gives the dates.
        limit: most rows.

    Raises:
        BadRequestError: the schedule cannot be read.

    """
    dates = list(recurrence.due_between(plan.schedule, plan.high_water, now, limit=limit + 1))
    later = dates[limit:]
    dates = dates[:limit]
    rows, moves = _rows(plan, unsettled, dates, now, more=bool(later))
    if later:
        return Advance(rows=rows, moves=moves, high_water=dates[-1].due_at, next_due=later[0].due_at)
    mark = max(plan.high_water, now)
    following = recurrence.next_due(plan.schedule, mark)
    return Advance(rows=rows, moves=moves, high_water=mark, next_due=None if following is None else following.due_at)


def is_paused(plan: Activity, at: datetime) -> bool:
    """Return True where a plan is paused over an instant; a pause with an end is over at that end by itself."""
    return plan.paused and (plan.paused_until is None or at < plan.paused_until)


def occurrence_of(plan: Activity, due: DueTime, now: datetime, *, backfilled: bool = False) -> Occurrence:
    """Return a due occurrence of a plan as it is now; later edits of the plan do not touch it."""
    return Occurrence(
        activity_id=plan.activity_id,
        due_at=due.due_at,
        farm_id=plan.farm_id,
        type=plan.type,
        local_date=due.local_date,
        local_time=due.local_time,
        time_zone=plan.schedule.time_zone,
        state=OccurrenceState.DUE,
        not_before=now if backfilled else due.due_at,
        activity_version=plan.version,
        title=plan.title,
        form=plan.form,
        assignee=plan.assignee,
        backfilled=backfilled,
        created_at=now,
        changed_at=now,
    )


def _rows(
    plan: Activity, unsettled: Sequence[Occurrence], dates: Sequence[DueTime], now: datetime, *, more: bool
) -> tuple[tuple[Occurrence, ...], tuple[Move, ...]]:
    """Decide on each date in turn; what an earlier one became decides with."""
    drafted = [_before_overlap(plan, due, now) for due in dates]
    if plan.misfire is Misfire.LATEST:
        drafted = _only_latest(drafted, more=more)
    book = _Book(plan, unsettled)
    for row in drafted:
        book.add(row)
    return tuple(book.new.values()), tuple(book.moves.values())


def _before_overlap(plan: Activity, due: DueTime, now: datetime) -> Occurrence:
    row = occurrence_of(plan, due, now)
    if is_paused(plan, due.due_at):
        return replace(row, state=OccurrenceState.SKIPPED, reason=f"paused: {plan.pause_note}".rstrip(": "))
    if due.due_at < now - plan.catchup_window:
        return replace(row, state=OccurrenceState.EXPIRED, reason=OUT_OF_WINDOW)
    if plan.misfire is Misfire.NONE and due.due_at < now - LATE:
        return replace(row, state=OccurrenceState.SKIPPED, reason=f"misfire: {plan.misfire.value}")
    return row


def _only_latest(rows: Sequence[Occurrence], *, more: bool) -> list[Occurrence]:
    """Skip all that are due but the last; all of them where later dates are still to come in the next pass."""
    due = [index for index, row in enumerate(rows) if row.state is OccurrenceState.DUE]
    passed_over = set(due if more else due[:-1])
    reason = f"misfire: {Misfire.LATEST.value}"
    return [
        replace(row, state=OccurrenceState.SKIPPED, reason=reason) if index in passed_over else row
        for index, row in enumerate(rows)
    ]


class _Book:
    """New rows, and moves of old ones, while dates are decided on one after the other."""

    def __init__(self, plan: Activity, unsettled: Sequence[Occurrence]) -> None:
        self._plan = plan
        self._old = {row.due_at: row for row in unsettled}
        self.new: dict[datetime, Occurrence] = {}
        self.moves: dict[datetime, Move] = {}

    def add(self, row: Occurrence) -> None:
        if row.state is not OccurrenceState.DUE:
            self.new[row.due_at] = row
            return
        ruling = rule_on(self._plan.overlap, self._unsettled())
        reason = f"overlap: {self._plan.overlap.value} by {row.due_at:%Y-%m-%dT%H:%MZ}"
        self._settle(ruling, reason)
        skipped = replace(row, state=OccurrenceState.SKIPPED, reason=ruling.reason)
        self.new[row.due_at] = skipped if ruling.reason else row

    def _unsettled(self) -> list[Unsettled]:
        ended = {due_at for due_at, move in self.moves.items() if move.path}
        standing = [row for due_at, row in self._old.items() if due_at not in ended]
        standing += [row for row in self.new.values() if row.state in _OPEN]
        return [Unsettled(due_at=row.due_at, state=row.state) for row in standing]

    def _settle(self, ruling: Ruling, reason: str) -> None:
        for due_at in (*ruling.skipped, *ruling.terminated):
            if due_at in self.new:
                self.new[due_at] = replace(self.new[due_at], state=OccurrenceState.SKIPPED, reason=reason)
            else:
                self.moves[due_at] = Move(
                    before=self._old[due_at],
                    path=(OccurrenceState.SKIPPED,),
                    reason=reason,
                    fence=True,
                    withdraw=True,
                )
        for due_at in ruling.told_to_stop:
            if not self._old[due_at].reason:
                self.moves.setdefault(due_at, Move(before=self._old[due_at], path=(), reason=reason))


def _count(report: GenerateReport, activity_id: str, advance: Advance) -> None:
    for row in advance.rows:
        report.made[row.state.value] = report.made.get(row.state.value, 0) + 1
    report.cancelled += len(advance.moves)
    if advance.problem:
        _LOG.error("activity %s is paused: %s", activity_id, advance.problem)
        report.problems.append(f"{activity_id}: {advance.problem}")
