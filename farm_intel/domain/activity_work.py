"""What is written of activities in one transaction: moves of occurrences, advances of a plan, changes by people.

The use cases decide and the store writes: a value here says all that belongs together, so that nothing of it can be
committed without the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from farm_intel.domain.activities import Activity, Answer, FormValue, LogEntry, Occurrence, OccurrenceState
from farm_intel.domain.messages import NewMessage

PLANNED = "planned"
"""In the place of a state: a date that is still to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One occurrence to its next state, with everything that state causes."""

    before: Occurrence
    """As it was read. The move takes place only while state, fencing token and reason are still these."""
    path: tuple[OccurrenceState, ...]
    """States to go through; the last one is where it ends. Each step has to be legal. Empty changes other fields."""
    reason: str = ""
    error: str = ""
    not_before: datetime | None = None
    """UTC; None keeps what it was."""
    acknowledge_by: datetime | None = None
    """UTC; None keeps what it was."""
    attempt: int | None = None
    """None keeps what it was."""
    assignee: str | None = None
    """None keeps who it was."""
    answer: Answer | None = None
    fence: bool = False
    """True takes the occurrence away from whoever holds it: their token is no longer the latest."""
    entry: LogEntry | None = None
    """The effect: a line of the logbook."""
    messages: tuple[NewMessage, ...] = ()
    withdraw: bool = False
    """True drops messages about it that have not gone out yet: they would remind of what is settled."""

    @property
    def state(self) -> OccurrenceState:
        """Where it ends."""
        return self.path[-1] if self.path else self.before.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """What fell due of one plan, and how far its high-water mark moves with it."""

    rows: tuple[Occurrence, ...] = ()
    """New occurrences in the order of their due times."""
    moves: tuple[Move, ...] = ()
    """Earlier occurrences that the plan's overlap policy settles."""
    high_water: datetime
    """UTC; everything up to here has a row once this is written."""
    next_due: datetime | None
    """UTC; None where nothing is left."""
    problem: str = ""
    """Why the plan's dates cannot be computed; its mark does not move, and nothing falls due until it is edited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a plan by somebody, after what fell due until then has become rows."""

    after: Activity
    """The plan from now on, with its version raised."""
    advance: Advance
    by: str
    note: str
    """What was changed, for the history."""


type Decide = Callable[[Activity, Sequence[Occurrence]], Advance]
"""From a plan and its unsettled occurrences to what fell due; pure, called inside of the transaction."""

type DecideChange = Callable[[Activity, Sequence[Occurrence]], Change]
"""From a plan and its unsettled occurrences to its change; raises what the caller is to see, and nothing is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An occurrence somebody has taken on, with the plan it comes from."""

    occurrence: Occurrence
    plan: Activity


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTerms:
    """Who claims, how much and for how long."""

    worker: str
    run_id: str = ""
    traceparent: str = ""
    limit: int
    lease_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """One line of a plan's history."""

    activity_id: str
    version: int
    at: datetime
    by: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One date of a plan: its row where it fell due, the computed date where it is still to come."""

    activity_id: str
    farm_id: str
    type: str
    title: str
    due_at: datetime
    """UTC."""
    local_date: date
    local_time: str
    time_zone: str
    assignee: str = ""
    form: Mapping[str, FormValue] = field(default_factory=dict)
    paused: bool = False
    """True where the date is to come but the plan is paused over it: it will be skipped."""
    occurrence: Occurrence | None = None

    @property
    def state(self) -> str:
        """State of the occurrence, or `planned` while it has no row yet."""
        return PLANNED if self.occurrence is None else self.occurrence.state.value

    @property
    def reason(self) -> str:
        """Why it is skipped, failed or expired."""
        return "" if self.occurrence is None else self.occurrence.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """When a part of the pump last went through with all well."""

    name: str
    at: datetime
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """How much there is to do now."""

    plans: int
    """Of which something fell due that has no row yet."""
    due: int
    """Occurrences that may be claimed, or whose holder's lease is over."""
    unattended: int
    """Occurrences whose reminder, or end of waiting, is due."""
    oldest: datetime | None
    """UTC; since when the oldest of all these is due."""
