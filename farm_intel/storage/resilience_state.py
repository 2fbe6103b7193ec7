"""Breakers, rates and budgets in the relational store: the stores of `resilience.state` for all processes."""

from __future__ import annotations

import secrets
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, and_, delete, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.resilience.guard import Operation
from farm_intel.resilience.memory import next_slot
from farm_intel.resilience.state import BreakerRecord, Bucket, Reservation, Usage
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.resilience_tables import (
    breakers,
    budget_months,
    budget_reservations,
    rate_buckets,
    rate_leases,
)

_REASON_CHARACTERS = 1000
"""A reason is a sentence for people; some servers answer with a page."""


class SqlBreakers:
    """Implements `BreakerStore`: one row per breaker, changed by compare-and-set on its version."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load(self, operation: Operation) -> BreakerRecord:
        """Return the breaker; a fresh one where there is none."""
        with reading(self._engine) as connection:
            row = connection.execute(select(breakers).where(_is(operation))).first()
        return BreakerRecord() if row is None else _breaker(row)

    def compare_and_set(self, operation: Operation, expected_version: int, record: BreakerRecord) -> bool:
        """Store a record if the stored one still has the version it was made from."""
        values = {
            "version": record.version,
            "failures": record.failures,
            "openings": record.openings,
            "open_until": record.open_until,
            "probe_token": record.probe_token,
            "probe_until": record.probe_until,
            "reason": record.reason[:_REASON_CHARACTERS],
            "changed_at": record.changed_at or datetime.now(UTC),
        }
        with transaction(self._engine) as connection:
            if expected_version == 0:
                key = {"provider": operation.provider, "host": operation.host, "operation": operation.name}
                return _insert_if_absent(connection, breakers, key | values)
            result = connection.execute(
                update(breakers).where(_is(operation), breakers.c.version == expected_version).values(values)
            )
            return result.rowcount == 1

    def breakers(self) -> list[tuple[Operation, BreakerRecord]]:
        """Return every stored breaker, ordered by provider, host and operation."""
        query = select(breakers).order_by(breakers.c.provider, breakers.c.host, breakers.c.operation)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [(Operation(provider=row.provider, host=row.host, name=row.operation), _breaker(row)) for row in rows]


class SqlRates:
    """Implements `RateStore`: one row per bucket, one per call under way."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, bucket: Bucket, *, now_s: float, latest_s: float) -> float:
        """Take the next slot, unless it is too late."""
        with transaction(self._engine) as connection:
            row = _locked_bucket(connection, bucket)
            slot_s, next_s = next_slot(bucket, now_s=now_s, next_s=row.next_at_s, not_before_s=row.not_before_s)
            if slot_s <= latest_s:
                connection.execute(update(rate_buckets).where(_holds(rate_buckets, bucket)).values(next_at_s=next_s))
        return slot_s

    def not_before_s(self, bucket: Bucket) -> float:
        """Return the instant before which nobody may call."""
        query = select(rate_buckets.c.not_before_s).where(_holds(rate_buckets, bucket))
        with reading(self._engine) as connection:
            return float(connection.scalar(query) or 0.0)

    def hold_off(self, bucket: Bucket, until_s: float) -> None:
        """Let nobody call before an instant."""
        with transaction(self._engine) as connection:
            if _locked_bucket(connection, bucket).not_before_s < until_s:
                connection.execute(
                    update(rate_buckets).where(_holds(rate_buckets, bucket)).values(not_before_s=until_s)
                )

    def enter(self, bucket: Bucket, *, limit: int, now_s: float, lease_s: float) -> str | None:
        """Return a token if fewer than `limit` calls are under way."""
        token = secrets.token_hex(16)
        now, expires_at = (datetime.fromtimestamp(instant_s, UTC) for instant_s in (now_s, now_s + lease_s))
        here = _holds(rate_leases, bucket)
        with transaction(self._engine) as connection:
            _locked_bucket(connection, bucket)  # keeps out who would count at the same time
            connection.execute(delete(rate_leases).where(here, rate_leases.c.expires_at <= now))
            under_way = connection.scalar(select(func.count()).select_from(rate_leases).where(here)) or 0
            if under_way >= limit:
                return None
            connection.execute(
                insert(rate_leases).values(
                    token=token, provider=bucket.provider, host=bucket.host, expires_at=expires_at
                )
            )
        return token

    def leave(self, token: str) -> None:
        """End a call."""
        with transaction(self._engine) as connection:
            connection.execute(delete(rate_leases).where(rate_leases.c.token == token))


class SqlBudgets:
    """Implements `BudgetStore`: the row of the month is the lock under which its reservations change."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def reserve(self, reservation: Reservation, *, limit: float, now: datetime, expires_at: datetime) -> bool:
        """Set units aside within the limit."""
        held = budget_reservations
        provider, month = reservation.provider, reservation.month
        of_month = and_(held.c.provider == provider, held.c.month == month)
        with transaction(self._engine) as connection:
            spent = _locked_month(connection, provider, month, now)
            connection.execute(delete(held).where(of_month, held.c.expires_at <= now))
            reserved = connection.scalar(select(func.coalesce(func.sum(held.c.units), 0.0)).where(of_month))
            if spent + float(reserved or 0.0) + reservation.units > limit:
                return False
            connection.execute(
                insert(held).values(
                    token=reservation.token,
                    provider=provider,
                    month=month,
                    units=reservation.units,
                    expires_at=expires_at,
                )
            )
        return True

    def settle(self, reservation: Reservation, *, units: float, now: datetime) -> None:
        """Turn a reservation into units spent."""
        with transaction(self._engine) as connection:
            _spend(connection, reservation.provider, reservation.month, units, now=now, calls=1)
            connection.execute(delete(budget_reservations).where(budget_reservations.c.token == reservation.token))

    def release(self, reservation: Reservation) -> None:
        """Give back what was not used."""
        with transaction(self._engine) as connection:
            connection.execute(delete(budget_reservations).where(budget_reservations.c.token == reservation.token))

    def correct(self, provider: str, month: date, *, units: float, now: datetime) -> None:
        """Add to what is spent."""
        with transaction(self._engine) as connection:
            _spend(connection, provider, month, units, now=now, calls=0)

    def usage(self, *, month: date, now: datetime) -> list[Usage]:
        """Return every provider's usage of a month, ordered by provider."""
        held = budget_reservations
        reserved = (
            select(held.c.provider, func.sum(held.c.units).label("units"))
            .where(held.c.month == month, held.c.expires_at > now)
            .group_by(held.c.provider)
            .subquery()
        )
        query = (
            select(budget_months, func.coalesce(reserved.c.units, literal(0.0)).label("reserved"))
            .outerjoin(reserved, reserved.c.provider == budget_months.c.provider)
            .where(budget_months.c.month == month)
            .order_by(budget_months.c.provider)
        )
        with reading(self._engine) as connection:
            return [
                Usage(
                    provider=row.provider,
                    month=row.month,
                    spent=row.spent,
                    reserved=float(row.reserved),
                    calls=row.calls,
                )
                for row in connection.execute(query)
            ]


def _is(operation: Operation) -> Any:
    return and_(
        breakers.c.provider == operation.provider,
        breakers.c.host == operation.host,
        breakers.c.operation == operation.name,
    )


def _holds(table: Table, bucket: Bucket) -> Any:
    return and_(table.c.provider == bucket.provider, table.c.host == bucket.host)


def _breaker(row: Row[Any]) -> BreakerRecord:
    return BreakerRecord(
        version=row.version,
        failures=row.failures,
        openings=row.openings,
        open_until=row.open_until,
        probe_token=row.probe_token,
        probe_until=row.probe_until,
        reason=row.reason,
        changed_at=row.changed_at,
    )


def _insert_if_absent(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row; return False where its key is there already."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return connection.execute(dialect.insert(table).values(values).on_conflict_do_nothing()).rowcount == 1


def _locked_bucket(connection: Connection, bucket: Bucket) -> Row[Any]:
    """Return a bucket's row, made where it is missing, that nobody else changes until the transaction ends."""
    query = select(rate_buckets).where(_holds(rate_buckets, bucket)).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        empty = {"provider": bucket.provider, "host": bucket.host, "next_at_s": 0.0, "not_before_s": 0.0}
        _insert_if_absent(connection, rate_buckets, empty)
        row = connection.execute(query).one()
    return row


def _locked_month(connection: Connection, provider: str, month: date, now: datetime) -> float:
    """Return what is spent in a month; nobody else changes its row until the transaction ends."""
    months = budget_months
    query = select(months.c.spent).where(months.c.provider == provider, months.c.month == month).with_for_update()
    spent = connection.scalar(query)
    if spent is None:
        empty = {"provider": provider, "month": month, "spent": 0.0, "calls": 0, "updated_at": now}
        _insert_if_absent(connection, months, empty)
        spent = connection.scalar(query)
    return float(spent or 0.0)


def _spend(connection: Connection, provider: str, month: date, units: float, *, now: datetime, calls: int) -> None:
    spent = max(0.0, _locked_month(connection, provider, month, now) + units)
    connection.execute(
        update(budget_months)
        .where(budget_months.c.provider == provider, budget_months.c.month == month)
        .values(spent=spent, calls=budget_months.c.calls + calls, updated_at=now)
    )
