"""What the life of an alert needs from outside; the store and fakes implement it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import Protocol

from farm_intel.domain.alerts import Alert, AlertEvent, AlertState, Evaluation, Subscription
from farm_intel.domain.farms import Farm
from farm_intel.domain.messages import NewMessage


class AlertWork(Protocol):
    """One transaction: what is read, decided, written and told in it happens together or not at all."""

    def record(self, evaluations: Sequence[Evaluation]) -> tuple[list[Evaluation], dict[str, date]]:
        """Store the evaluations of one farm; return those whose fingerprint is new, and what turned.

        What turned is rule -> earliest day of which it now says something else, unknown being nothing; by this alone
        spans can change.
        """
        ...

    def verdicts(self, farm_id: str, rules: Collection[str], *, since: date) -> dict[str, list[Evaluation]]:
        """Return rule -> what it said of a farm from a day on, ascending, unknowns and evidence left out."""
        ...

    def aligned(self, farm_id: str, rule: str) -> datetime | None:
        """Return when the latest days of a rule were recorded, before this transaction; None where they were not."""
        ...

    def evaluation(self, farm_id: str, rule: str, day: date) -> Evaluation | None:
        """Return what a rule said of a farm on a day, with what it rests on."""
        ...

    def get(self, alert_id: str) -> Alert:
        """Return one alert, locked until the end; UnknownNameError where there is none."""
        ...

    def of_farm(self, farm_id: str) -> list[Alert]:
        """Return every alert of a farm by event; live ones are locked until the end, those over have no evidence."""
        ...

    def live(self, farm_id: str) -> list[Alert]:
        """Return the live alerts of a farm."""
        ...

    def insert(self, alert: Alert) -> bool:
        """Store a new alert; False where its farm, rule and event have one already."""
        ...

    def update(self, before: Alert, after: Alert) -> bool:
        """Change an alert if it is still the version that was read."""
        ...

    def note(self, alert_id: str, kind: str, *, by: str = "", note: str = "") -> None:
        """Add an entry to an alert's history."""
        ...

    def history(self, alert_id: str) -> list[AlertEvent]:
        """Return an alert's history, the oldest entry first."""
        ...

    def subscriptions(self, farm_id: str) -> list[Subscription]:
        """Return the active subscriptions a farm's notices may reach."""
        ...

    def tell(self, messages: Sequence[NewMessage]) -> None:
        """Enqueue messages with this transaction."""
        ...

    def waiting(self, subject: str) -> list[tuple[str, str]]:
        """Return user and channel of the messages about a subject that nobody has begun to send and that wait."""
        ...

    def drop_waiting(self, subject: str, *, reason: str, steps_only: bool) -> list[tuple[str, str]]:
        """Drop such messages, or only those of escalation steps; return their user and channel."""
        ...


class AlertStore(Protocol):
    """Where alerts are kept."""

    def news(self, evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
        """Return the evaluations, of any farms, whose fingerprint is not stored for their farm, rule and day."""
        ...

    def work(self, *, now: datetime, farm_id: str | None = None) -> AbstractContextManager[AlertWork]:
        """Open one transaction; with a farm, nobody else works on that farm's alerts as a whole meanwhile."""
        ...

    def get(self, alert_id: str) -> Alert:
        """Return one alert; UnknownNameError where there is none."""
        ...

    def history(self, alert_id: str) -> Sequence[AlertEvent]:
        """Return an alert's history, the oldest entry first."""
        ...

    def list(
        self,
        *,
        farm_ids: Collection[str] | None = None,
        states: Collection[AlertState] = (),
        rule: str | None = None,
        since: date | None = None,
        limit: int = 100,
        cursor: str = "",
    ) -> tuple[Sequence[Alert], str]:
        """Return one page, the latest opened first, and the cursor of the next one (empty at the end)."""
        ...

    def due(self, now: datetime, *, limit: int) -> Sequence[Alert]:
        """Return the live alerts whose `next_at` has come, the longest due first."""
        ...

    def live(self) -> Sequence[Alert]:
        """Return every live alert."""
        ...

    def outbox_states(self, subjects: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """Return how many outbox rows each subject has, by state; those without a row are missing."""
        ...


class SubscriptionStore(Protocol):
    """Where subscriptions are kept."""

    def save(self, subscription: Subscription) -> None:
        """Store a subscription, or replace the one of the same id."""
        ...

    def get(self, subscription_id: str) -> Subscription:
        """Return one subscription; UnknownNameError where there is none."""
        ...

    def deactivate(self, subscription_id: str) -> None:
        """Stop a subscription; UnknownNameError where there is none."""
        ...

    def list(self, *, user_id: str | None = None, include_inactive: bool = False) -> Sequence[Subscription]:
        """Return subscriptions in the order they were made, of one user or of all."""
        ...

    def for_farm(self, farm_id: str) -> Sequence[Subscription]:
        """Return the active subscriptions that a farm's notices may reach."""
        ...


class Farms(Protocol):
    """Where a farm's name is looked up, and whether it is still looked after."""

    def get(self, farm_id: str) -> Farm:
        """Return one farm, active or not; UnknownNameError where there is none."""
        ...


class Heartbeat(Protocol):
    """Where a watcher says that it lives and that all is well; silence is the alarm."""

    def beat(self, name: str, detail: str) -> None:
        """Record one beat."""
        ...
