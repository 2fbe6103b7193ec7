"""One transaction of the alerts: whatever is read, decided, written and told in it happens together or not at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, func, insert, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.domain.alerts import LIVE, Alert, AlertEvent, Evaluation, Subscription
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.messages import MessageState, NewMessage
from farm_intel.storage import evaluations as evaluation_rows
from farm_intel.storage.alert_rows import AnyRow, alert_of, alert_values, event_of
from farm_intel.storage.alert_tables import alert_events, alerts
from farm_intel.storage.enqueueing import enqueue
from farm_intel.storage.message_tables import outbox
from farm_intel.storage.subscriptions import subscriptions_of

STEP_KEYS = "%|step:%"
"""What the idempotency keys of escalation steps look like, see `domain.routing`."""

_LIVE = sorted(state.value for state in LIVE)
_WITHOUT_EVIDENCE = [
    literal_column("'{}'", Text).label("evidence") if column.name == "evidence" else column for column in alerts.columns
]
"""Evidence is most of a row, and nobody asks that of an alert that is over."""


class SqlAlertWork:
    """Implements `alerts.ports.AlertWork` over one open transaction.

    Rows that are read to be changed are locked (on PostgreSQL; a SQLite transaction is exclusive by itself). Messages
    are kept until `finish`, which enqueues them all at once: so two transactions never take the counters of the same
    users' streams in different orders.
    """

    def __init__(self, connection: Connection, *, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._messages: list[NewMessage] = []

    def record(self, evaluations: Sequence[Evaluation]) -> tuple[list[Evaluation], dict[str, date]]:
        """Store the evaluations of one farm; return those whose fingerprint is new, and what turned.

        What turned is rule -> earliest day of which it now says something else, unknown being nothing; by this alone
        spans can change.
        """
        return evaluation_rows.record(self._connection, evaluations, now=self._now)

    def verdicts(self, farm_id: str, rules: Collection[str], *, since: date) -> dict[str, list[Evaluation]]:
        """Return rule -> what it said of a farm from a day on, ascending, unknowns and evidence left out."""
        return evaluation_rows.verdicts(self._connection, farm_id, rules, since=since)

    def aligned(self, farm_id: str, rule: str) -> datetime | None:
        """Return when the latest days of a rule were recorded, before this transaction; None where they were not."""
        return evaluation_rows.last_recorded(self._connection, farm_id, rule, before=self._now)

    def evaluation(self, farm_id: str, rule: str, day: date) -> Evaluation | None:
        """Return what a rule said of a farm on a day, with what it rests on."""
        found = evaluation_rows.of_rule(self._connection, farm_id, rule, start=day, end=day)
        return found[0] if found else None

    def get(self, alert_id: str) -> Alert:
        """Return one alert, locked until the end.

        Raises:
            UnknownNameError: there is none of that id.

        """
        row = self._connection.execute(
            select(alerts).where(alerts.c.alert_id == alert_id).with_for_update()
        ).one_or_none()
        if row is None:
            raise unknown_alert(alert_id)
        return alert_of(row)

    def of_farm(self, farm_id: str) -> list[Alert]:
        """Return every alert of a farm by event; live ones are locked until the end, those over have no evidence.

        What is over never changes, so it needs no lock; one that ends between the two queries is in the second.
        """
        of_farm = alerts.c.farm_id == farm_id
        live = self._rows(
            select(alerts).where(of_farm, alerts.c.state.in_(_LIVE)).order_by(alerts.c.alert_id).with_for_update()
        )
        over = self._rows(select(*_WITHOUT_EVIDENCE).where(of_farm, alerts.c.state.not_in(_LIVE)))
        return sorted(map(alert_of, (*live, *over)), key=lambda alert: (alert.event_key, alert.alert_id))

    def live(self, farm_id: str) -> list[Alert]:
        """Return the live alerts of a farm, not locked."""
        query = select(alerts).where(alerts.c.farm_id == farm_id, alerts.c.state.in_(_LIVE))
        return [alert_of(row) for row in self._rows(query.order_by(alerts.c.alert_id))]

    def insert(self, alert: Alert) -> bool:
        """Store a new alert; False where its farm, rule and event have one already, whoever made it."""
        dialect = postgresql if self._connection.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(alerts).values(alert_values(alert)).on_conflict_do_nothing()
        return self._connection.execute(statement).rowcount == 1

    def update(self, before: Alert, after: Alert) -> bool:
        """Change an alert if it is still the version that was read; False where somebody else was first."""
        values = alert_values(after)
        for identity in ("alert_id", "farm_id", "rule", "event_key", "evidence", "rule_version", "steps", "opened_at"):
            values.pop(identity)
        statement = update(alerts).where(alerts.c.alert_id == before.alert_id, alerts.c.version == before.version)
        return self._connection.execute(statement.values(values)).rowcount == 1

    def note(self, alert_id: str, kind: str, *, by: str = "", note: str = "") -> None:
        """Add an entry to an alert's history; the alert's row is locked by its insert or update before."""
        last = select(func.coalesce(func.max(alert_events.c.number), 0)).where(alert_events.c.alert_id == alert_id)
        number = int(self._connection.scalar(last) or 0) + 1
        self._connection.execute(
            insert(alert_events).values(alert_id=alert_id, number=number, at=self._now, kind=kind, by=by, note=note)
        )

    def history(self, alert_id: str) -> list[AlertEvent]:
        """Return an alert's history, the oldest entry first."""
        return history_of(self._connection, alert_id)

    def subscriptions(self, farm_id: str) -> list[Subscription]:
        """Return the active subscriptions a farm's notices may reach."""
        return subscriptions_of(self._connection, farm_id)

    def tell(self, messages: Sequence[NewMessage]) -> None:
        """Enqueue messages with this transaction."""
        self._messages += messages

    def waiting(self, subject: str) -> list[tuple[str, str]]:
        """Return user and channel of the messages about a subject that wait for the end of quiet hours."""
        query = select(outbox.c.user_id, outbox.c.channel).where(*self._waiting(subject))
        return [(row.user_id, row.channel) for row in self._rows(query)]

    def drop_waiting(self, subject: str, *, reason: str, steps_only: bool) -> list[tuple[str, str]]:
        """Drop messages that wait for the end of quiet hours and are no longer true; return their user and channel.

        One that a deliverer has taken already is in flight: it arrives.
        """
        change = update(outbox).where(*self._waiting(subject))
        if steps_only:
            change = change.where(outbox.c.idempotency_key.like(STEP_KEYS))
        dropped = change.values(state=MessageState.DROPPED.value, error=reason)
        return [
            (row.user_id, row.channel)
            for row in self._connection.execute(dropped.returning(outbox.c.user_id, outbox.c.channel))
        ]

    def finish(self) -> None:
        """Enqueue what is to be told; called once, before the commit."""
        if self._messages:
            enqueue(self._connection, self._messages, now=self._now)

    def _waiting(self, subject: str) -> tuple[ColumnElement[bool], ...]:
        return (
            outbox.c.subject == subject,
            outbox.c.state == MessageState.PENDING.value,
            outbox.c.attempt == 0,
            outbox.c.next_at > self._now,
        )

    def _rows(self, query: Select[Any]) -> Sequence[AnyRow]:
        return self._connection.execute(query).all()


def history_of(connection: Connection, alert_id: str) -> list[AlertEvent]:
    """Return an alert's history, the oldest entry first."""
    query = select(alert_events).where(alert_events.c.alert_id == alert_id).order_by(alert_events.c.number)
    return [event_of(row) for row in connection.execute(query)]


def unknown_alert(alert_id: str) -> UnknownNameError:
    """Return the error for an alert that is not there."""
    return UnknownNameError(f"there is no alert {alert_id}", hint="List them with `farm-intel alerts list`.")
