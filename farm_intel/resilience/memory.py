"""The stores of `state` within one process: for range reads, for tests, and where nothing needs to be shared."""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from dataclasses import replace
from datetime import date, datetime

from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord, Bucket, Reservation, Usage

_FRESH = BreakerRecord()


class MemoryBreakers:
    """Implements `BreakerStore`."""

    def __init__(self) -> None:
        self._records: dict[Operation, BreakerRecord] = {}
        self._lock = threading.Lock()

    def load(self, operation: Operation) -> BreakerRecord:
        """Return the breaker; a fresh one where there is none."""
        return self._records.get(operation, _FRESH)

    def compare_and_set(self, operation: Operation, expected_version: int, record: BreakerRecord) -> bool:
        """Store a record if nobody was faster."""
        with self._lock:
            if self._records.get(operation, _FRESH).version != expected_version:
                return False
            self._records[operation] = record
            return True

    def breakers(self) -> list[tuple[Operation, BreakerRecord]]:
        """Return every breaker, ordered by provider, host and operation."""
        with self._lock:
            return sorted(self._records.items(), key=lambda item: (item[0].provider, item[0].host, item[0].name))


class MemoryRates:
    """Implements `RateStore`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_s: dict[tuple[str, str], float] = {}
        self._not_before_s: dict[tuple[str, str], float] = {}
        self._leases: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)

    def take(self, bucket: Bucket, *, now_s: float, latest_s: float) -> float:
        """Take the next slot, unless it is too late."""
        key = (bucket.provider, bucket.host)
        with self._lock:
            slot_s, next_s = next_slot(
                bucket, now_s=now_s, next_s=self._next_s.get(key, 0.0), not_before_s=self._not_before_s.get(key, 0.0)
            )
            if slot_s <= latest_s:
                self._next_s[key] = next_s
            return slot_s

    def not_before_s(self, bucket: Bucket) -> float:
        """Return the instant before which nobody may call."""
        return self._not_before_s.get((bucket.provider, bucket.host), 0.0)

    def hold_off(self, bucket: Bucket, until_s: float) -> None:
        """Let nobody call before an instant."""
        key = (bucket.provider, bucket.host)
        with self._lock:
            self._not_before_s[key] = max(until_s, self._not_before_s.get(key, 0.0))

    def enter(self, bucket: Bucket, *, limit: int, now_s: float, lease_s: float) -> str | None:
        """Return a token if fewer than `limit` calls are under way."""
        with self._lock:
            leases = self._leases[bucket.provider, bucket.host]
            if len(leases) >= limit:
                for token in [token for token, until_s in leases.items() if until_s <= now_s]:
                    del leases[token]
            if len(leases) >= limit:
                return None
            token = secrets.token_hex(16)
            leases[token] = now_s + lease_s
            return token

    def leave(self, token: str) -> None:
        """End a call."""
        with self._lock:
            for leases in self._leases.values():
                if leases.pop(token, None) is not None:
                    return


def next_slot(bucket: Bucket, *, now_s: float, next_s: float, not_before_s: float) -> tuple[float, float]:
    """Return when the next call may go, and the bucket's clock after it went.

    The generic cell rate algorithm (ITU-T I.371, annex A): one number says how far the calls granted so far reach
    into the future; a call may be early by `burst - 1` intervals.
    """
    if bucket.interval_s <= 0.0:
        return max(now_s, not_before_s), 0.0
    slot_s = max(now_s, next_s - (bucket.burst - 1) * bucket.interval_s, not_before_s)
    return slot_s, max(next_s, slot_s) + bucket.interval_s


class MemoryBudgets:
    """Implements `BudgetStore`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usage: dict[tuple[str, date], Usage] = {}
        self._open: dict[str, tuple[Reservation, datetime]] = {}

    def reserve(self, reservation: Reservation, *, limit: float, now: datetime, expires_at: datetime) -> bool:
        """Set units aside within the limit."""
        with self._lock:
            usage = self._current(reservation.provider, reservation.month, now)
            if usage.spent + usage.reserved + reservation.units > limit:
                return False
            self._open[reservation.token] = (reservation, expires_at)
            return True

    def settle(self, reservation: Reservation, *, units: float, now: datetime) -> None:  # noqa: ARG002 - interface
        """Turn a reservation into units spent."""
        with self._lock:
            self._open.pop(reservation.token, None)
            self._spend(reservation.provider, reservation.month, units, calls=1)

    def release(self, reservation: Reservation) -> None:
        """Give back what was not used."""
        with self._lock:
            self._open.pop(reservation.token, None)

    def correct(self, provider: str, month: date, *, units: float, now: datetime) -> None:  # noqa: ARG002 - interface
        """Add to what is spent."""
        with self._lock:
            self._spend(provider, month, units, calls=0)

    def usage(self, *, month: date, now: datetime) -> list[Usage]:
        """Return every provider's usage of a month."""
        with self._lock:
            providers = {p for p, m in self._usage if m == month}
            providers |= {r.provider for r, _ in self._open.values() if r.month == month}
            return [self._current(provider, month, now) for provider in sorted(providers)]

    def _spend(self, provider: str, month: date, units: float, *, calls: int) -> None:
        usage = self._usage.get((provider, month), Usage(provider=provider, month=month))
        self._usage[provider, month] = replace(usage, spent=max(0.0, usage.spent + units), calls=usage.calls + calls)

    def _current(self, provider: str, month: date, now: datetime) -> Usage:
        for token in [token for token, (_, expires_at) in self._open.items() if expires_at <= now]:
            del self._open[token]
        held = sum(r.units for r, _ in self._open.values() if (r.provider, r.month) == (provider, month))
        return replace(self._usage.get((provider, month), Usage(provider=provider, month=month)), reserved=held)
