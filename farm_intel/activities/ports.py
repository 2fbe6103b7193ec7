"""What the use cases of activities need from outside; the store, the renderer and fakes implement it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Protocol

from farm_intel.activities.recurrence import DueTime
from farm_intel.activities.types import ActivityType
from farm_intel.domain.activities import (
    Activity,
    FormValue,
    LogEntry,
    Misfire,
    Occurrence,
    OccurrenceState,
    Overlap,
    Schedule,
)
from farm_intel.domain.activity_work import (
    Advance,
    Claim,
    ClaimTerms,
    Decide,
    DecideChange,
    Heartbeat,
    Move,
    Pending,
    PlanChange,
)
from farm_intel.domain.alerts import Subscription

type Subscriptions = Callable[[str], Sequence[Subscription]]
"""Who wants to be told of a farm, by its id."""


class Recurrence(Protocol):
    """The dates of schedules; the module `activities.recurrence` is one."""

    def check_schedule(self, schedule: Schedule) -> None:
        """Refuse a schedule that cannot be read or never falls due.

        Raises:
            BadRequestError: what is wrong with it.

        """
        ...

    def due_between(self, schedule: Schedule, after: datetime, until: datetime, *, limit: int) -> Iterator[DueTime]:
        """Yield the dates in (after, until], ascending, at most `limit` of them."""
        ...

    def next_due(self, schedule: Schedule, after: datetime) -> DueTime | None:
        """Return the first date after an instant; None where nothing is left."""
        ...


class Forms(Protocol):
    """The types of activities and their form fields; `activities.types.ActivityTypes` is one."""

    def get(self, slug: str) -> ActivityType:
        """Return a type; UnknownNameError where there is none."""
        ...

    def check_form(
        self, type_slug: str, values: Mapping[str, FormValue], *, answered: bool = False
    ) -> Mapping[str, FormValue]:
        """Return checked values of a type's form.

        Args:
            type_slug: the type.
            values: by field.
            answered: they are what was really used, so required fields must be there.

        Raises:
            BadRequestError: an unknown type or field, a value it does not take, or a required one that is missing.

        """
        ...


class Draft(Protocol):
    """A plan as somebody wrote it; `activities.drafts.ActivityDraft` is one. Meanings are those of `Activity`."""

    @property
    def farm_id(self) -> str: ...  # noqa: D102 - see the class
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def schedule(self) -> Schedule: ...  # noqa: D102
    @property
    def form(self) -> Mapping[str, FormValue]: ...  # noqa: D102
    @property
    def assignee(self) -> str: ...  # noqa: D102
    @property
    def catchup_window(self) -> timedelta: ...  # noqa: D102
    @property
    def misfire(self) -> Misfire: ...  # noqa: D102
    @property
    def overlap(self) -> Overlap: ...  # noqa: D102
    @property
    def max_attempts(self) -> int: ...  # noqa: D102
    @property
    def acknowledge(self) -> bool: ...  # noqa: D102
    @property
    def acknowledge_within(self) -> timedelta: ...  # noqa: D102


class ActivityStore(Protocol):
    """Plans, and what fell due of them; see storage.activities for the promises of each call."""

    def add(self, activity: Activity, next_due: datetime | None, *, note: str) -> None:
        """Insert a plan and the first line of its history."""
        ...

    def propose(self, activity: Activity, occurrence: Occurrence, *, note: str) -> bool:
        """Insert a plan and its one occurrence for an event; False where the event has proposed one before."""
        ...

    def get(self, activity_id: str) -> Activity:
        """Return one plan; UnknownNameError where there is none."""
        ...

    def find(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        activity_types: Sequence[str] | None = None,
        include_removed: bool = False,
        limit: int = 10_000,
    ) -> list[Activity]:
        """Return plans ordered by farm, then age; None asks for all."""
        ...

    def history(self, activity_id: str) -> list[PlanChange]:
        """Return who changed what of a plan, oldest first."""
        ...

    def advance(self, decide: Decide, now: datetime, *, plans: int, rows: int) -> dict[str, Advance]:
        """Make rows of what fell due and move the marks, in one transaction; empty where nothing is due."""
        ...

    def change(self, activity_id: str, decide: DecideChange, now: datetime) -> Activity:
        """Change a plan, in the transaction that makes rows of what fell due until now."""
        ...

    def add_rows(self, rows: Sequence[Occurrence]) -> int:
        """Make rows of dates that have none and no line in the logbook either; return how many were made."""
        ...

    def set_next_due(self, dates: Mapping[str, datetime | None]) -> int:
        """Replace when plans fall due next; return how many changed."""
        ...

    def beat(self, name: str, detail: str, now: datetime) -> None:
        """Record that a part of the pump went through."""
        ...

    def heartbeats(self) -> list[Heartbeat]:
        """Return when each part last went through, by name."""
        ...


class OccurrenceStore(Protocol):
    """Occurrences; see storage.occurrences for the promises of each call."""

    def claim(self, terms: ClaimTerms, now: datetime) -> list[Claim]:
        """Take what is due or was left by a holder whose lease is over."""
        ...

    def move(self, moves: Sequence[Move], now: datetime) -> list[Move]:
        """Make all moves in one transaction with what they cause; return those refused: somebody else was first."""
        ...

    def get(self, activity_id: str, due_at: datetime) -> Occurrence:
        """Return one occurrence; UnknownNameError where there is none."""
        ...

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
        ...

    def pending(self, now: datetime) -> Pending:
        """Return how much there is to do now."""
        ...

    def stale(self, now: datetime) -> list[Occurrence]:
        """Return what is running though its lease is over."""
        ...

    def abandoned(self, now: datetime, limit: int) -> list[Claim]:
        """Return what nobody may take again: told to stop, or out of attempts, and the lease is over."""
        ...

    def unattended(self, now: datetime, limit: int) -> list[Claim]:
        """Return what waits for an answer and whose next reminder, or end, is due."""
        ...

    def out_of_window(self, now: datetime, limit: int) -> list[Claim]:
        """Return what is due and nobody has got to within the catch-up window."""
        ...

    def runs_in_doubt(self, now: datetime) -> list[str]:
        """Return the ids of the Dagster runs that hold occurrences whose lease is over."""
        ...

    def remove_settled(self, before: datetime, limit: int) -> int:
        """Remove up to `limit` settled occurrences not changed since `before`, and return how many."""
        ...


class LogbookStore(Protocol):
    """Lines of the logbook."""

    def add(self, entry: LogEntry) -> None:
        """Write a line about work nobody planned."""
        ...

    def entries(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        activity_types: Sequence[str] | None = None,
        limit: int = 100_000,
    ) -> list[LogEntry]:
        """Return lines by farm and time done; instants from `start` inclusive to `end` exclusive."""
        ...
