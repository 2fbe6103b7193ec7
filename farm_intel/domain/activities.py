"""Farm activities: what is planned, the occurrences it falls due in, and what people answer.

An activity is a plan; an occurrence is one date of it, with the only state there is. Every occurrence that ever fell
due is a row, also the skipped and expired ones, with the reason: so "lost" can be counted, and the count is nought.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from farm_intel.domain.errors import PermanentError

type FormValue = str | float | bool | None


class ScheduleKind(StrEnum):
    """How the dates of an activity are given; all of them in the farm's own time zone."""

    ONCE = "once"
    """`2026-05-01T06:30`"""
    EVERY_DAYS = "every_days"
    """`3`: every third day from the start's date, at the start's time of day."""
    CRON = "cron"
    """Five fields as in crontab(5): `30 6 * * 1`."""
    RRULE = "rrule"
    """RFC 5545 recurrence rule: `FREQ=WEEKLY;BYDAY=MO,TH`, counted from the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When an activity falls due."""

    kind: ScheduleKind
    text: str
    start: datetime
    """Naive wall time in `time_zone`; nothing falls due before it."""
    time_zone: str
    """IANA name; the farm's unless the user says otherwise."""
    until: datetime | None = None
    """Naive wall time in `time_zone`; nothing falls due after it."""


class Overlap(StrEnum):
    """What happens to an occurrence that falls due while an earlier one is not settled; Temporal's six policies."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    """Wait for the earlier one; of those that wait only the first, the others are skipped."""
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"
    """The earlier one is told to stop (it is skipped as cancelled) and this one runs."""
    TERMINATE_OTHER = "terminate_other"
    """As cancel, but an earlier one that is being worked on loses its lease at once."""
    ALLOW_ALL = "allow_all"


class Misfire(StrEnum):
    """Which of the occurrences that fell due while nothing ran are still done, within the catch-up window."""

    ALL = "all"
    LATEST = "latest"
    """The earlier ones are skipped, each with its row."""
    NONE = "none"
    """All that are more than a minute late are skipped."""


class OccurrenceState(StrEnum):
    """Where an occurrence stands."""

    DUE = "due"
    RUNNING = "running"
    WAITING = "waiting"
    """Waiting for somebody's acknowledgement."""
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    """Given up after the last attempt: a dead letter until somebody replays or drops it."""
    EXPIRED = "expired"
    """Nobody got to it within the catch-up window, or nobody acknowledged it in time."""


LEGAL: Mapping[OccurrenceState, frozenset[OccurrenceState]] = {
    OccurrenceState.DUE: frozenset({OccurrenceState.RUNNING, OccurrenceState.SKIPPED, OccurrenceState.EXPIRED}),
    OccurrenceState.RUNNING: frozenset(
        {
            OccurrenceState.DUE,
            OccurrenceState.WAITING,
            OccurrenceState.DONE,
            OccurrenceState.SKIPPED,
            OccurrenceState.FAILED,
        }
    ),
    OccurrenceState.WAITING: frozenset(
        {OccurrenceState.DUE, OccurrenceState.DONE, OccurrenceState.SKIPPED, OccurrenceState.EXPIRED}
    ),
    OccurrenceState.FAILED: frozenset({OccurrenceState.DUE, OccurrenceState.SKIPPED}),
    OccurrenceState.DONE: frozenset(),
    OccurrenceState.SKIPPED: frozenset(),
    OccurrenceState.EXPIRED: frozenset(),
}
"""The legal transitions. Back to due: a retry or stale lease (from running), a snooze (from waiting), a replay (from
failed). A dropped dead letter is skipped."""

SETTLED = frozenset({OccurrenceState.DONE, OccurrenceState.SKIPPED, OccurrenceState.FAILED, OccurrenceState.EXPIRED})
"""States in which an occurrence no longer stands in the way of the next one."""


class IllegalTransitionError(PermanentError):
    """An occurrence or alert cannot go from the state it is in to the one asked for."""


def check_transition(before: OccurrenceState, after: OccurrenceState, *, what: str) -> None:
    """Refuse a transition the table does not have.

    Raises:
        IllegalTransitionError: names the occurrence and what is possible instead.

    """
    if after not in LEGAL[before]:
        possible = ", ".join(sorted(LEGAL[before])) or "nothing: it is settled"
        raise IllegalTransitionError(
            f"{what} is {before.value} and cannot become {after.value}", hint=f"Possible: {possible}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A plan for one farm."""

    activity_id: str
    farm_id: str
    type: str
    """Slug of an activity type."""
    title: str
    schedule: Schedule
    form: Mapping[str, FormValue] = field(default_factory=dict)
    """Planned values of the type's form fields, e.g. `amount_mm: 20`."""
    assignee: str = ""
    catchup_window: timedelta = timedelta(days=365)
    misfire: Misfire = Misfire.ALL
    overlap: Overlap = Overlap.SKIP
    max_attempts: int = 4
    acknowledge: bool = True
    """Somebody has to say that it was done; otherwise it is done when it was told."""
    acknowledge_within: timedelta = timedelta(days=7)
    paused: bool = False
    paused_until: datetime | None = None
    pause_note: str = ""
    active: bool = True
    """False once it is removed; its occurrences stay."""
    high_water: datetime
    """UTC; everything that fell due up to here has a row."""
    version: int = 1
    event_key: str = ""
    """The event an index-triggered activity was proposed for; unique per farm, empty for planned ones."""
    evidence: Mapping[str, object] = field(default_factory=dict)
    """What the proposal rests on: rule, values, thresholds, cells, scenes."""
    created_by: str = ""
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody said about an occurrence."""

    done: bool
    by: str
    at: datetime
    reason: str = ""
    """Why not, where it was not done."""
    quantities: Mapping[str, FormValue] = field(default_factory=dict)
    """What was really used, by form field."""
    note: str = ""
    photo: str = ""
    """Reference to a photo (URL or file id); never opened by us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One date of an activity."""

    activity_id: str
    due_at: datetime
    """UTC; with the activity its identity, whatever happens to time zones afterwards."""
    farm_id: str
    type: str
    local_date: date
    """Scheduled date on the farm's calendar."""
    local_time: str
    """Scheduled wall time `HH:MM`; differs from `due_at`'s own where the clocks skipped it."""
    time_zone: str
    state: OccurrenceState
    reason: str = ""
    """Why it is skipped, failed or expired: stable words first: `overlap: skip`, `catch-up window`, `paused: …`."""
    not_before: datetime
    """UTC; nobody takes it before: the due time, a retry's back-off, a snooze."""
    lease_until: datetime | None = None
    token: int = 0
    """Fencing token: grows with every claim; only the holder of the latest may finish."""
    worker: str = ""
    attempt: int = 0
    activity_version: int = 1
    """The version of the plan it was made from; later edits do not touch it."""
    title: str = ""
    form: Mapping[str, FormValue] = field(default_factory=dict)
    assignee: str = ""
    acknowledge_by: datetime | None = None
    answer: Answer | None = None
    run_id: str = ""
    backfilled: bool = False
    traceparent: str = ""
    error: str = ""
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line of the farm's logbook: what was done when, by whom."""

    entry_id: str
    farm_id: str
    type: str
    title: str
    done: bool
    done_at: datetime
    """UTC."""
    by: str
    quantities: Mapping[str, FormValue] = field(default_factory=dict)
    reason: str = ""
    note: str = ""
    photo: str = ""
    activity_id: str = ""
    due_at: datetime | None = None
    """The occurrence it answers; None for work nobody planned."""
    event_key: str = ""
    recorded_at: datetime
