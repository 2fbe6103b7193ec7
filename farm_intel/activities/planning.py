"""Plans: made, edited, paused, removed, backfilled, and read as the plan of the days.

Every change first makes rows of what fell due until then under the plan as it was, in the same transaction; so an edit
applies to what is to come, and can neither re-fire nor swallow what is past.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from farm_intel.activities.generating import fall_due, is_paused, occurrence_of
from farm_intel.activities.ports import ActivityStore, Draft, Forms, OccurrenceStore, Recurrence
from farm_intel.domain.activities import (
    Activity,
    FormValue,
    Misfire,
    Occurrence,
    OccurrenceState,
    Overlap,
    Schedule,
)
from farm_intel.domain.activity_work import Advance, Change, Move, PlanChange, Planned
from farm_intel.domain.errors import BadRequestError, PermanentError, StoreError
from farm_intel.domain.ports import Clock

_LOG = logging.getLogger("farm_intel.activities")

MOST_BACKFILLED = 10_000
MOST_BEHIND = 100_000
"""Rows that a change makes of what fell due before it; more are made by the generator first."""
_DATES_PER_PLAN = 2000
_MICROSECOND = timedelta(microseconds=1)


class EditConflictError(BadRequestError):
    """Somebody else changed the plan since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEdit:
    """What is to be changed of a plan; None keeps what it is."""

    title: str | None = None
    schedule: Schedule | None = None
    form: Mapping[str, FormValue] | None = None
    assignee: str | None = None
    catchup_window: timedelta | None = None
    misfire: Misfire | None = None
    overlap: Overlap | None = None
    max_attempts: int | None = None
    acknowledge: bool | None = None
    acknowledge_within: timedelta | None = None

    def changes(self) -> dict[str, Any]:
        """Return the values that are given, by the field of the plan."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Changes and reads plans."""

    store: ActivityStore
    occurrences: OccurrenceStore
    recurrence: Recurrence
    forms: Forms
    clock: Clock

    def create(self, draft: Draft, *, by: str) -> Activity:
        """Store a plan; dates that are past already do not fall due (`backfill` makes them).

        Raises:
            BadRequestError: an unknown type, form values it does not take, or a schedule without a date to come.

        """
        self.recurrence.check_schedule(draft.schedule)
        now = self.clock.now()
        following = self.recurrence.next_due(draft.schedule, now)
        if following is None:
            raise BadRequestError(
                f"{draft.title!r} for farm {draft.farm_id} has no date to come: {draft.schedule.text}",
                hint="Give a date in the future; work that was done goes into the logbook.",
            )
        activity = Activity(
            activity_id=uuid.uuid4().hex,
            farm_id=draft.farm_id,
            type=draft.type,
            title=draft.title,
            schedule=draft.schedule,
            form=dict(self.forms.check_form(draft.type, draft.form)),
            assignee=draft.assignee,
            catchup_window=draft.catchup_window,
            misfire=draft.misfire,
            overlap=draft.overlap,
            max_attempts=draft.max_attempts,
            acknowledge=draft.acknowledge,
            acknowledge_within=draft.acknowledge_within,
            high_water=now,
            created_by=by,
            created_at=now,
            changed_at=now,
        )
        _check_policies(activity)
        self.store.add(activity, following.due_at, note="created")
        return activity

    def edit(self, activity_id: str, edit: PlanEdit, *, by: str, version: int) -> Activity:
        """Change what is to come of a plan; occurrences there are keep what they were made with.

        Args:
            activity_id: which.
            edit: what.
            by: who.
            version: that of the plan the edit was made on.

        Raises:
            UnknownNameError: there is no such plan.
            EditConflictError: somebody else changed it meanwhile.
            BadRequestError: it is removed, or the new values are not valid.

        """
        changes = edit.changes()
        if "schedule" in changes:
            self.recurrence.check_schedule(changes["schedule"])

        def change(plan: Activity) -> Activity:
            if plan.version != version:
                raise EditConflictError(
                    f"the activity {activity_id} of farm {plan.farm_id} is at version {plan.version}, not {version}",
                    hint="Read it again and repeat the edit.",
                )
            if "form" in changes:
                changes["form"] = dict(self.forms.check_form(plan.type, changes["form"]))
            after = replace(plan, **changes)
            _check_policies(after)
            return after

        return self._change(activity_id, change, by=by, note=f"edited: {', '.join(sorted(changes))}")

    def pause(self, activity_id: str, *, note: str, by: str, until: datetime | None = None) -> Activity:
        """Skip what falls due from now on, each date with its row and the note; until `until` (UTC) where it is given.

        Raises:
            UnknownNameError: there is no such plan.
            BadRequestError: it is removed, or `until` is not to come.

        """
        if until is not None and until <= self.clock.now():
            raise BadRequestError(
                f"the activity {activity_id} cannot be paused until {until.isoformat()}: that is over",
                hint="Give a time to come, or none.",
            )

        def change(plan: Activity) -> Activity:
            return replace(plan, paused=True, paused_until=until, pause_note=note)

        return self._change(activity_id, change, by=by, note=f"paused: {note}")

    def resume(self, activity_id: str, *, note: str, by: str) -> Activity:
        """Let what falls due from now on be done again.

        Raises:
            UnknownNameError: there is no such plan.
            BadRequestError: it is removed.

        """

        def change(plan: Activity) -> Activity:
            return replace(plan, paused=False, paused_until=None, pause_note="")

        return self._change(activity_id, change, by=by, note=f"resumed: {note}")

    def remove(self, activity_id: str, *, note: str, by: str) -> Activity:
        """Let nothing fall due any more; what is due or waits for an answer is skipped, all rows stay.

        Raises:
            UnknownNameError: there is no such plan.
            BadRequestError: it is removed already.

        """

        def change(plan: Activity) -> Activity:
            return replace(plan, active=False)

        return self._change(activity_id, change, by=by, note=f"removed: {note}")

    def backfill(self, activity_id: str, start: datetime, end: datetime, *, by: str) -> int:
        """Make due what the schedule says of a past range, where there is no row and no line in the logbook.

        Args:
            activity_id: which.
            start: UTC, inclusive.
            end: UTC, inclusive; cut at the plan's high-water mark, what comes after it falls due by itself.
            by: who.

        Returns:
            How many rows were made. They are not subject to the catch-up window.

        Raises:
            UnknownNameError: there is no such plan.
            BadRequestError: it is removed, or the range holds more than 10,000 dates.

        """
        now = self.clock.now()
        plan = self.store.get(activity_id)
        _want_active(plan)
        dates = list(
            self.recurrence.due_between(
                plan.schedule, start - _MICROSECOND, min(end, plan.high_water), limit=MOST_BACKFILLED + 1
            )
        )
        if len(dates) > MOST_BACKFILLED:
            raise BadRequestError(
                f"the range holds more than {MOST_BACKFILLED} dates of the activity {activity_id}",
                hint="Backfill a shorter range.",
            )
        made = self.store.add_rows([occurrence_of(plan, due, now, backfilled=True) for due in dates])
        _LOG.info("%s backfilled %d dates of activity %s", by, made, activity_id)
        return made

    def plan(self, farm_ids: Sequence[str], *, start: date, end: date) -> list[Planned]:
        """Return the dates of farms by due time: rows where they fell due, computed dates where they are to come.

        Args:
            farm_ids: which farms.
            start: first local date.
            end: last local date.

        """
        rows = self.occurrences.find(farm_ids=farm_ids, start=start, end=end, limit=MOST_BEHIND)
        known = {(row.activity_id, row.due_at) for row in rows}
        dates = [_planned(row) for row in rows]
        for plan in self.store.find(farm_ids=farm_ids):
            dates += [date for date in self._to_come(plan, start, end) if (date.activity_id, date.due_at) not in known]
        return sorted(dates, key=lambda date: (date.due_at, date.farm_id, date.activity_id))

    def history(self, activity_id: str) -> list[PlanChange]:
        """Return who changed what of a plan, oldest first."""
        return self.store.history(activity_id)

    def recompute(self) -> int:
        """Compute when each plan falls due next, e.g. after an update of the time zone rules; return how many differ.

        The marks stay where they are, so nothing is lost and nothing falls due twice.
        """
        dates: dict[str, datetime | None] = {}
        for plan in self.store.find(limit=MOST_BEHIND):
            if plan.event_key:
                continue
            try:
                following = self.recurrence.next_due(plan.schedule, plan.high_water)
            except PermanentError as error:
                _LOG.error("activity %s: its dates cannot be computed: %s", plan.activity_id, error)
                continue
            dates[plan.activity_id] = None if following is None else following.due_at
        return self.store.set_next_due(dates)

    def _to_come(self, plan: Activity, start: date, end: date) -> Iterator[Planned]:
        # a day more on both sides: scheduled dates are the farm's, and a gap may move an instant over midnight
        since = datetime.combine(start, time(), UTC) - timedelta(days=1)
        until = datetime.combine(end, time(), UTC) + timedelta(days=2)
        if plan.event_key:
            return
        try:
            found = list(
                self.recurrence.due_between(plan.schedule, max(since, plan.high_water), until, limit=_DATES_PER_PLAN)
            )
        except PermanentError as error:
            _LOG.error("activity %s: its dates cannot be computed: %s", plan.activity_id, error)
            return
        for due in found:
            if start <= due.local_date <= end:
                yield Planned(
                    activity_id=plan.activity_id,
                    farm_id=plan.farm_id,
                    type=plan.type,
                    title=plan.title,
                    due_at=due.due_at,
                    local_date=due.local_date,
                    local_time=due.local_time,
                    time_zone=plan.schedule.time_zone,
                    assignee=plan.assignee,
                    form=plan.form,
                    paused=is_paused(plan, due.due_at),
                )

    def _change(self, activity_id: str, change: Callable[[Activity], Activity], *, by: str, note: str) -> Activity:
        now = self.clock.now()

        def decide(plan: Activity, unsettled: Sequence[Occurrence]) -> Change:
            _want_active(plan)
            past = self._past(plan, unsettled, now)
            after = change(plan)
            after = replace(after, high_water=past.high_water, version=plan.version + 1, changed_at=now)
            following = self.recurrence.next_due(after.schedule, after.high_water) if after.active else None
            if not after.active:
                past = _without_open(past, unsettled, reason=note)
            next_due = None if following is None or after.event_key else following.due_at
            return Change(after=after, advance=replace(past, next_due=next_due), by=by, note=note)

        return self.store.change(activity_id, decide, now)

    def _past(self, plan: Activity, unsettled: Sequence[Occurrence], now: datetime) -> Advance:
        """Return what fell due until now; nothing where the dates cannot be computed: an edit is how that ends."""
        mark = max(plan.high_water, now)
        if plan.event_key:
            return Advance(high_water=mark, next_due=None)
        try:
            past = fall_due(plan, unsettled, now, self.recurrence, limit=MOST_BEHIND)
        except PermanentError as error:
            _LOG.warning("activity %s: its past dates cannot be computed: %s", plan.activity_id, error)
            return Advance(high_water=mark, next_due=None)
        if past.high_water < now:
            raise StoreError(
                f"more than {MOST_BEHIND} dates of the activity {plan.activity_id} have no row yet",
                hint="Run `farm-intel pump`, then change it.",
            )
        return past


def _without_open(past: Advance, unsettled: Sequence[Occurrence], *, reason: str) -> Advance:
    rows = tuple(
        replace(row, state=OccurrenceState.SKIPPED, reason=reason) if row.state is OccurrenceState.DUE else row
        for row in past.rows
    )
    moves = {move.before.due_at: move for move in past.moves}
    for row in unsettled:
        if row.state is not OccurrenceState.RUNNING:
            moves.setdefault(
                row.due_at, Move(before=row, path=(OccurrenceState.SKIPPED,), reason=reason, withdraw=True)
            )
    return replace(past, rows=rows, moves=tuple(moves.values()))


def _planned(row: Occurrence) -> Planned:
    return Planned(
        activity_id=row.activity_id,
        farm_id=row.farm_id,
        type=row.type,
        title=row.title,
        due_at=row.due_at,
        local_date=row.local_date,
        local_time=row.local_time,
        time_zone=row.time_zone,
        assignee=row.assignee,
        form=row.form,
        occurrence=row,
    )


def _want_active(plan: Activity) -> None:
    if not plan.active:
        raise BadRequestError(
            f"the activity {plan.activity_id} of farm {plan.farm_id} is removed", hint="Create a new one."
        )


def _check_policies(plan: Activity) -> None:
    least = timedelta(seconds=10)
    for name, value in (("catch-up window", plan.catchup_window), ("time to acknowledge", plan.acknowledge_within)):
        if value < least:
            raise BadRequestError(
                f"the {name} of {plan.title!r} is {value.total_seconds():g} s", hint="Give at least 10 seconds."
            )
    if plan.max_attempts < 1:
        raise BadRequestError(f"{plan.title!r} is to be tried {plan.max_attempts} times", hint="Give at least 1.")
