"""Alerts: rules as data, what they say of a farm on a day, and the life of an alert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import IntEnum, StrEnum

from farm_intel.domain.activities import IllegalTransitionError

SUBSCRIBERS = "subscribers"
"""The audience of those who are told from the beginning; all others are groups that escalation steps name."""


class Severity(IntEnum):
    """How much an alert matters; comparable."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3
    """Overrides quiet hours."""


class RuleVerdict(StrEnum):
    """What a rule says of a farm on a day."""

    HOLDS = "holds"
    BETWEEN = "between"
    """Neither bad enough to open nor good enough to resolve (hysteresis)."""
    CLEAR = "clear"
    EXPLAINED = "explained"
    """It would hold, but a logged activity explains it, e.g. a drop after a harvest."""
    UNKNOWN = "unknown"
    """Nothing usable was seen: never opens and never resolves anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationStep:
    """One step of an alert that nobody has acknowledged."""

    after: timedelta
    """Since the alert opened."""
    audience: str = SUBSCRIBERS
    """`subscribers`, or the name of a group that subscriptions may carry, e.g. `agronomist`, `owner`."""
    min_severity: Severity = Severity.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One row of the rule table."""

    slug: str
    rule_class: str
    """What people subscribe to: `stress`, `water`, `loss`, `data`, `weather`, `activity`."""
    kind: str
    """Name of the evaluator: `threshold`, `drop`, `anomaly`, `area_share`, `state`, `silence`, `weather`, `overdue`."""
    severity: Severity
    parameters: Mapping[str, float | str]
    """What the evaluator needs, thresholds to open and to resolve included; checked when the table is loaded."""
    index: str = ""
    crops: tuple[str, ...] = ()
    """Empty for all."""
    stages: tuple[str, ...] = ()
    """Crop stages it applies in; empty for all."""
    looks_to_open: int = 1
    """Usable looks in a row that must hold."""
    looks_to_resolve: int = 1
    """Usable looks in a row that must be clear."""
    steps: tuple[EscalationStep, ...] = ()
    source: str
    """Where the thresholds come from."""
    version: str = ""
    """Hash of the row: part of what an alert can be replayed from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one rule says of one farm on one day, with what it rests on."""

    farm_id: str
    rule: str
    day: date
    verdict: RuleVerdict
    value: float | None
    threshold: float | None
    evidence: Mapping[str, object] = field(default_factory=dict)
    """JSON: index, unit, looks, cells (observation keys), scenes, raster hashes, log entries, state, confidence."""
    fingerprint: str = ""
    """Hash of the inputs and the rule's version: the same again changes nothing."""


class AlertState(StrEnum):
    """Where an alert stands."""

    OPEN = "open"
    """Found; nobody has been told yet."""
    NOTIFIED = "notified"
    ESCALATED = "escalated"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    RESOLVED = "resolved"
    SUPPRESSED = "suppressed"
    """A duplicate of one that is open: kept for the record, told to nobody."""


LIVE = frozenset(
    {AlertState.OPEN, AlertState.NOTIFIED, AlertState.ESCALATED, AlertState.ACKNOWLEDGED, AlertState.SNOOZED}
)

LEGAL_ALERT: Mapping[AlertState, frozenset[AlertState]] = {
    AlertState.OPEN: frozenset(
        {AlertState.NOTIFIED, AlertState.ACKNOWLEDGED, AlertState.SNOOZED, AlertState.RESOLVED, AlertState.SUPPRESSED}
    ),
    AlertState.NOTIFIED: frozenset(
        {AlertState.ESCALATED, AlertState.ACKNOWLEDGED, AlertState.SNOOZED, AlertState.RESOLVED}
    ),
    AlertState.ESCALATED: frozenset(
        {AlertState.ESCALATED, AlertState.ACKNOWLEDGED, AlertState.SNOOZED, AlertState.RESOLVED}
    ),
    AlertState.ACKNOWLEDGED: frozenset({AlertState.SNOOZED, AlertState.RESOLVED}),
    AlertState.SNOOZED: frozenset(
        {AlertState.NOTIFIED, AlertState.ACKNOWLEDGED, AlertState.SNOOZED, AlertState.RESOLVED}
    ),
    AlertState.RESOLVED: frozenset(),
    AlertState.SUPPRESSED: frozenset(),
}


def check_alert_transition(before: AlertState, after: AlertState, *, what: str) -> None:
    """Refuse a transition the table does not have.

    Raises:
        IllegalTransitionError: names the alert and what is possible instead.

    """
    if after not in LEGAL_ALERT[before]:
        possible = ", ".join(sorted(LEGAL_ALERT[before])) or "nothing: it is over"
        raise IllegalTransitionError(
            f"{what} is {before.value} and cannot become {after.value}", hint=f"Possible: {possible}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert: one event of one rule on one farm."""

    alert_id: str
    farm_id: str
    rule: str
    rule_class: str
    event_key: str
    """Which event: the first day the rule held. Unique per farm and rule."""
    severity: Severity
    state: AlertState
    opened_day: date
    """Solar day of the look that opened it."""
    last_day: date
    """Solar day of the latest look that was evaluated for it."""
    evidence: Mapping[str, object]
    """Evidence of the evaluation that opened it; `rule` holds the row itself, so that it can be replayed."""
    rule_version: str
    steps: tuple[EscalationStep, ...]
    """Snapshot: later edits of the policy do not change a running alert."""
    next_step: int = 0
    next_at: datetime | None = None
    """UTC; when the next step, or the end of a snooze, is due. None where nothing is to come."""
    by: str = ""
    """Who acknowledged, snoozed or resolved it last; `farm-intel` for a clear look."""
    reason: str = ""
    duplicate_of: str = ""
    resolved_day: date | None = None
    opened_at: datetime
    changed_at: datetime
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent:
    """One entry of an alert's history."""

    alert_id: str
    number: int
    at: datetime
    kind: str
    """The state it went to, or `evaluated`, `sent`, `failed`, `replayed`."""
    by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Who wants to be told of what, how and in which language."""

    subscription_id: str
    user_id: str
    farm_id: str = "*"
    """`*` for every farm."""
    rule_class: str = "*"
    channel: str
    """`stream`, `email`, `webhook`, `apprise`."""
    address: str
    """Mail address, URL, apprise URL (a secret!), or empty for `stream`."""
    language: str = "en"
    audience: str = SUBSCRIBERS
    """`subscribers` is told from the beginning; a group by the escalation steps that name it, and of the end."""
    min_severity: Severity = Severity.INFO
    quiet_from: str = ""
    """`HH:MM` in `time_zone`; empty for no quiet hours."""
    quiet_until: str = ""
    time_zone: str = "UTC"
    speak: bool = True
    secret: str = ""
    """`whsec_…` of a webhook; never logged."""
    active: bool = True
    created_at: datetime | None = None

    def __repr__(self) -> str:
        """Name everything but address and secret: both may let others in."""
        return f"Subscription({self.subscription_id!r}, user_id={self.user_id!r}, channel={self.channel!r})"


__all__ = [
    "LEGAL_ALERT",
    "LIVE",
    "Alert",
    "AlertEvent",
    "AlertRule",
    "AlertState",
    "EscalationStep",
    "Evaluation",
    "IllegalTransitionError",
    "RuleVerdict",
    "Severity",
    "Subscription",
    "check_alert_transition",
]
