"""Alerts in the relational store: transactions to change them in, and what is read without changing anything."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from itertools import batched

from sqlalchemy import Engine, and_, func, or_, select, text

from farm_intel.domain.alerts import LIVE, Alert, AlertEvent, AlertState, Evaluation
from farm_intel.domain.errors import BadRequestError
from farm_intel.storage import evaluations as evaluation_rows
from farm_intel.storage.alert_rows import alert_of
from farm_intel.storage.alert_tables import alerts
from farm_intel.storage.alert_work import SqlAlertWork, history_of, unknown_alert
from farm_intel.storage.bulk import one_of
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.message_tables import outbox

_IDS_PER_STATEMENT = 500
_LIVE = sorted(state.value for state in LIVE)


class SqlAlertStore:
    """Implements `alerts.ports.AlertStore`."""

    def __init__(self, engine: Engine, *, work_type: type[SqlAlertWork] = SqlAlertWork) -> None:
        self._engine = engine
        self._work_type = work_type

    @contextmanager
    def work(self, *, now: datetime, farm_id: str | None = None) -> Iterator[SqlAlertWork]:
        """Yield one transaction; with a farm, nobody else works on that farm's alerts as a whole until it ends.

        Raises:
            StoreError: the database refused; nothing was changed.

        """
        with transaction(self._engine) as connection:
            if farm_id is not None and connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _lock_key(farm_id)})
            work = self._work_type(connection, now=now)
            yield work
            work.finish()

    def news(self, evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
        """Return the evaluations, of any farms, that say something new; of two for one rule and day the later counts.

        A hint that spares farms their transaction: another process may store the same meanwhile.
        """
        with reading(self._engine) as connection:
            return evaluation_rows.news(connection, evaluations)

    def get(self, alert_id: str) -> Alert:
        """Return one alert.

        Raises:
            UnknownNameError: there is none of that id.

        """
        with reading(self._engine) as connection:
            row = connection.execute(select(alerts).where(alerts.c.alert_id == alert_id)).one_or_none()
        if row is None:
            raise unknown_alert(alert_id)
        return alert_of(row)

    def history(self, alert_id: str) -> Sequence[AlertEvent]:
        """Return an alert's history, the oldest entry first; empty where there is no such alert."""
        with reading(self._engine) as connection:
            return history_of(connection, alert_id)

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
        """Return one page of alerts, the latest opened first, and the cursor of the next page (empty at the end).

        Args:
            farm_ids: of these farms only; None for all.
            states: in these states only; empty for all.
            rule: of this rule only.
            since: opened on this solar day or later.
            limit: alerts per page.
            cursor: what the page before returned.

        Raises:
            BadRequestError: the cursor is not one of ours.

        """
        query = select(alerts).order_by(alerts.c.opened_at.desc(), alerts.c.alert_id).limit(limit + 1)
        if states:
            query = query.where(alerts.c.state.in_([state.value for state in states]))
        if rule is not None:
            query = query.where(alerts.c.rule == rule)
        if since is not None:
            query = query.where(alerts.c.opened_day >= since)
        if cursor:
            at, last_id = _position(cursor)
            query = query.where(
                or_(alerts.c.opened_at < at, and_(alerts.c.opened_at == at, alerts.c.alert_id > last_id))
            )
        with reading(self._engine) as connection:
            if farm_ids is not None:
                query = query.where(one_of(alerts.c.farm_id, tuple(farm_ids), connection))
            found = [alert_of(row) for row in connection.execute(query)]
        page = found[:limit]
        return page, _cursor(page[-1]) if len(found) > limit else ""

    def due(self, now: datetime, *, limit: int) -> Sequence[Alert]:
        """Return the live alerts whose next step or end of snooze is due, the longest due first."""
        query = select(alerts).where(alerts.c.state.in_(_LIVE), alerts.c.next_at <= now)
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(alerts.c.next_at, alerts.c.alert_id).limit(limit))
            return [alert_of(row) for row in rows]

    def live(self) -> Sequence[Alert]:
        """Return every live alert."""
        query = select(alerts).where(alerts.c.state.in_(_LIVE)).order_by(alerts.c.farm_id, alerts.c.alert_id)
        with reading(self._engine) as connection:
            return [alert_of(row) for row in connection.execute(query)]

    def evaluations(
        self, farm_id: str, rule: str, *, start: date | None = None, end: date | None = None
    ) -> Sequence[Evaluation]:
        """Return what a rule said of a farm, ascending by day; both ends included."""
        with reading(self._engine) as connection:
            return evaluation_rows.of_rule(connection, farm_id, rule, start=start, end=end)

    def outbox_states(self, subjects: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return how many outbox rows each subject has, by state; those without a row are missing."""
        counts: dict[str, dict[str, int]] = defaultdict(dict)
        with reading(self._engine) as connection:
            for chunk in batched(subjects, _IDS_PER_STATEMENT):
                query = (
                    select(outbox.c.subject, outbox.c.state, func.count().label("rows"))
                    .where(outbox.c.subject.in_(chunk))
                    .group_by(outbox.c.subject, outbox.c.state)
                )
                for row in connection.execute(query):
                    counts[row.subject][row.state] = row.rows
        return dict(counts)


def _lock_key(farm_id: str) -> int:
    digest = hashlib.sha256(f"alerts:{farm_id}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def _cursor(alert: Alert) -> str:
    return f"{alert.opened_at.isoformat()}|{alert.alert_id}"


def _position(cursor: str) -> tuple[datetime, str]:
    at, _, alert_id = cursor.partition("|")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise BadRequestError("the cursor is not one of ours", hint="Start again without a cursor.") from error
    if moment.tzinfo is None or not alert_id:
        raise BadRequestError("the cursor is not one of ours", hint="Start again without a cursor.")
    return moment, alert_id
