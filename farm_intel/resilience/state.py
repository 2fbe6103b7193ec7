"""What is shared about providers, as values, and the small interfaces of the places it is kept in.

A store is asked only where sharing matters; `memory` has one for a single process, `storage.resilience_state` the one
that all processes share. Every store is safe to call from any thread and raises StoreError when it cannot answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from farm_intel.resilience.guard import Operation


class BreakerState(StrEnum):
    """What a breaker does with a call."""

    CLOSED = "closed"
    """Lets it through."""
    OPEN = "open"
    """Refuses it without asking."""
    HALF_OPEN = "half_open"
    """Lets exactly one through, to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRecord:
    """A breaker as it is stored; the state follows from it and the time."""

    version: int = 0
    """Counts changes; 0 is a breaker nobody stored yet."""
    failures: int = 0
    """Failures in a row while closed."""
    openings: int = 0
    """Open periods in a row; the next lasts twice as long as the last."""
    open_until: datetime | None = None
    """None: closed."""
    probe_token: str | None = None
    """Who asks whether the host is back."""
    probe_until: datetime | None = None
    """When the prober is given up for dead."""
    reason: str = ""
    """The last failure."""
    changed_at: datetime | None = None

    def state(self, now: datetime) -> BreakerState:
        """Return what the breaker does at an instant."""
        if self.open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.open_until else BreakerState.HALF_OPEN

    def probed(self, now: datetime) -> bool:
        """Return whether somebody is asking the host right now."""
        return self.probe_token is not None and self.probe_until is not None and now < self.probe_until


class BreakerStore(Protocol):
    """Where breakers are kept."""

    def load(self, operation: Operation) -> BreakerRecord:
        """Return the breaker; a fresh one where there is none."""
        ...

    def compare_and_set(self, operation: Operation, expected_version: int, record: BreakerRecord) -> bool:
        """Store a record if the stored one still has the version it was made from; return whether it was stored."""
        ...

    def breakers(self) -> list[tuple[Operation, BreakerRecord]]:
        """Return every stored breaker, ordered by provider, host and operation."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A rate and whom it holds for."""

    provider: str
    host: str
    interval_s: float
    """Seconds between two calls in the long run; 0 where only Retry-After limits."""
    burst: int
    """Calls that may come at once after a pause."""


class RateStore(Protocol):
    """Where rates are kept; instants are seconds since 1970 (UTC)."""

    def take(self, bucket: Bucket, *, now_s: float, latest_s: float) -> float:
        """Take the next slot and return its instant; where it would be later than `latest_s`, take nothing.

        Returns:
            The instant of the slot. Larger than `latest_s`: nothing was taken.

        """
        ...

    def not_before_s(self, bucket: Bucket) -> float:
        """Return the instant before which nobody may call; 0 where there is none."""
        ...

    def hold_off(self, bucket: Bucket, until_s: float) -> None:
        """Let nobody call before an instant; an earlier wish never shortens a later one."""
        ...

    def enter(self, bucket: Bucket, *, limit: int, now_s: float, lease_s: float) -> str | None:
        """Return a token if fewer than `limit` calls are under way, to be given to `leave`; it lapses by itself."""
        ...

    def leave(self, token: str) -> None:
        """End a call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Units set aside for one try."""

    token: str
    provider: str
    month: date
    """First day of the UTC month that pays."""
    units: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a provider's month has cost so far."""

    provider: str
    month: date
    spent: float = 0.0
    reserved: float = 0.0
    """Of calls under way, and of processes that died with one until their reservation expires."""
    calls: int = 0
    """Tries that were settled."""


class BudgetStore(Protocol):
    """Where budgets are kept; every method is one atomic step."""

    def reserve(self, reservation: Reservation, *, limit: float, now: datetime, expires_at: datetime) -> bool:
        """Set units aside if what is spent, reserved and asked stays within the limit; return whether it was."""
        ...

    def settle(self, reservation: Reservation, *, units: float, now: datetime) -> None:
        """Turn a reservation into `units` spent, whether it has expired or not."""
        ...

    def release(self, reservation: Reservation) -> None:
        """Give back what was not used."""
        ...

    def correct(self, provider: str, month: date, *, units: float, now: datetime) -> None:
        """Add to what is spent, or take away; never below zero."""
        ...

    def usage(self, *, month: date, now: datetime) -> list[Usage]:
        """Return every provider's usage of a month, ordered by provider."""
        ...
