"""The circuit breaker: a host that is down is asked once per open period, by one caller of all threads and processes.

closed --N failures in a row, or too many in a window--> open --time--> half-open --one probe--> closed, or open for
twice as long. The state is shared through a `BreakerStore`; while all is well a process reads it once per `cache_s`
and not per call. As soon as a failure is known, every call looks at the store, so an opening elsewhere is missed by at
most the calls of `cache_s`.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from farm_intel.domain.errors import (
    DeadlineExceededError,
    FarmIntelError,
    ProviderDownError,
    StoreError,
    ThrottledError,
    TransientError,
)
from farm_intel.domain.ports import Clock
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord, BreakerState, BreakerStore

_LOG = logging.getLogger("farm_intel.breaker")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_RACES = 20
"""Lost compare-and-sets in a row after which a process acts on what it knows; only a broken store loses so many."""


class ProbeUnderwayError(ProviderDownError):
    """Another caller is finding out whether the host is back; its answer may be worth a short wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRule:
    """When a breaker opens and for how long."""

    failures: int = 3
    """Failures in a row, over all processes, that open it."""
    rate: float = 0.5
    """Share of failures among this process's calls of the window that opens it."""
    rate_calls: int = 20
    """Calls in the window below which the share says nothing."""
    window_s: float = 60.0
    """Length of the window."""
    open_s: float = 5.0
    """First open period; every further one in a row is twice as long."""
    open_max_s: float = 300.0
    """Longest open period."""
    jitter: float = 0.1
    """Share by which an open period is made longer or shorter, so that breakers do not probe in step."""
    probe_lease_s: float = 120.0
    """How long a probe may take before its caller counts as dead; longer than any call's timeout."""
    cache_s: float = 1.0
    """How long a closed breaker is believed without looking at the store."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one try; goes back to the breaker with its outcome."""

    operation: Operation
    probe_token: str | None = None
    """Set for the one try that shows whether the host is back."""


@dataclass(slots=True)
class _Entry:
    """What this process knows of one breaker."""

    record: BreakerRecord = field(default_factory=BreakerRecord)
    fresh_until: datetime = _LONG_AGO
    recent: deque[tuple[datetime, bool]] = field(default_factory=deque)
    """(when, failed) of this process's calls; at most a few hundred, see _Entry.note."""
    recent_failures: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, now: datetime, *, failed: bool, rule: BreakerRule) -> bool:
        """Remember an outcome; return whether the share of failures in the window is too high."""
        self.recent.append((now, failed))
        self.recent_failures += failed
        oldest = now - timedelta(seconds=rule.window_s)
        while self.recent[0][0] < oldest or len(self.recent) > 50 * rule.rate_calls:
            self.recent_failures -= self.recent.popleft()[1]
        return len(self.recent) >= rule.rate_calls and self.recent_failures >= rule.rate * len(self.recent)

    def forget(self) -> None:
        """Start the window anew."""
        self.recent.clear()
        self.recent_failures = 0


class CircuitBreaker:
    """The breakers of all providers, hosts and operations."""

    def __init__(
        self, store: BreakerStore, clock: Clock, rule: BreakerRule, *, jitter: Callable[[], float] = random.random
    ) -> None:
        """Share state through `store`.

        Args:
            store: where the state is kept; if it cannot answer, this process goes on with what it knows.
            clock: the wall clock all processes share.
            rule: when to open and for how long.
            jitter: numbers from 0 to 1.

        """
        self._store = store
        self._clock = clock
        self._rule = rule
        self._jitter = jitter
        self._entries: dict[Operation, _Entry] = {}

    def admit_at_once(self, operation: Operation) -> Permit | None:
        """Return a permit if that needs no look at the store; None means ask `admit`."""
        entry = self._entries.get(operation)
        if entry is None or entry.record.open_until is not None or entry.record.failures:
            return None
        return Permit(operation) if self._clock.now() < entry.fresh_until else None

    def admit(self, operation: Operation) -> Permit:
        """Return leave to make one try; give it back with `succeeded`, `failed` or `released`.

        Raises:
            ProviderDownError: the breaker is open.
            ProbeUnderwayError: another caller is probing.

        """
        permit = self.admit_at_once(operation)
        if permit is not None:
            return permit
        entry = self._entry(operation)
        with entry.lock:
            now = self._clock.now()
            if now >= entry.fresh_until or entry.record.failures:
                self._refresh(operation, entry, now)
            for _ in range(_RACES):
                record = entry.record
                if record.open_until is None:
                    return Permit(operation)
                if now < record.open_until or record.probed(now):
                    break
                token = secrets.token_hex(16)
                lease = timedelta(seconds=self._rule.probe_lease_s)
                probing = replace(record, probe_token=token, probe_until=now + lease)
                if self._change(operation, entry, probing, now):
                    return Permit(operation, token)
            raise self._down(operation, entry.record, now)

    def succeeded(self, permit: Permit) -> None:
        """Tell that the host answered; the answer of a probe closes the breaker."""
        entry = self._entry(permit.operation)
        if permit.probe_token is None and entry.record.failures == 0:
            # the hot path: no store, and a lock of this process only
            with entry.lock:
                entry.note(self._clock.now(), failed=False, rule=self._rule)
            return
        with entry.lock:
            now = self._clock.now()
            entry.note(now, failed=False, rule=self._rule)
            self._update(permit, entry, now, lambda record: _closed(record, permit))

    def failed(self, permit: Permit, error: BaseException) -> None:
        """Tell how a try ended; only what speaks of the host counts."""
        if not isinstance(error, FarmIntelError) or isinstance(error, ProviderDownError | DeadlineExceededError):
            self.released(permit)
        elif isinstance(error, ThrottledError) or not isinstance(error, TransientError):
            # the host is there and answers; outside a probe this says nothing about its health
            if permit.probe_token is not None:
                self.succeeded(permit)
        else:
            entry = self._entry(permit.operation)
            with entry.lock:
                now = self._clock.now()
                too_many = entry.note(now, failed=True, rule=self._rule)
                self._update(permit, entry, now, lambda record: self._after_failure(record, permit, error, too_many))

    def released(self, permit: Permit) -> None:
        """Give a permit back unused, or after a try that was broken off: another may probe."""
        if permit.probe_token is None:
            return
        entry = self._entry(permit.operation)
        with entry.lock:
            self._update(permit, entry, self._clock.now(), lambda record: _unprobed(record, permit))

    def reset(self, operation: Operation) -> None:
        """Close a breaker by hand."""
        entry = self._entry(operation)
        with entry.lock:
            entry.forget()
            now = self._clock.now()
            self._refresh(operation, entry, now)
            self._update(Permit(operation), entry, now, lambda record: BreakerRecord(version=record.version))

    def state(self, operation: Operation) -> BreakerState:
        """Return a breaker's state as the store has it."""
        entry = self._entry(operation)
        with entry.lock:
            now = self._clock.now()
            self._refresh(operation, entry, now)
            return entry.record.state(now)

    def breakers(self) -> list[tuple[Operation, BreakerRecord]]:
        """Return every breaker that ever saw a failure.

        Raises:
            StoreError: the store cannot answer.

        """
        return self._store.breakers()

    def _entry(self, operation: Operation) -> _Entry:
        entry = self._entries.get(operation)
        return self._entries.setdefault(operation, _Entry()) if entry is None else entry

    def _refresh(self, operation: Operation, entry: _Entry, now: datetime) -> None:
        try:
            entry.record = self._store.load(operation)
        except StoreError as error:
            _LOG.warning("cannot read the breaker of %s, going on with what is known here: %s", operation.host, error)
        entry.fresh_until = now + timedelta(seconds=self._rule.cache_s)

    def _update(
        self, permit: Permit, entry: _Entry, now: datetime, change: Callable[[BreakerRecord], BreakerRecord | None]
    ) -> None:
        """Apply a change to the newest record, however many processes want to at once."""
        for _ in range(_RACES):
            changed = change(entry.record)
            if changed is None or self._change(permit.operation, entry, changed, now):
                return

    def _change(self, operation: Operation, entry: _Entry, record: BreakerRecord, now: datetime) -> bool:
        """Store a record made from the entry's; if somebody was faster, take theirs and return False."""
        before = entry.record
        after = replace(record, version=before.version + 1, changed_at=now)
        try:
            stored = self._store.compare_and_set(operation, before.version, after)
        except StoreError as error:
            _LOG.warning("cannot share the breaker of %s, it holds for this process: %s", operation.host, error)
            stored = True
        if not stored:
            self._refresh(operation, entry, now)
            return False
        entry.record = after
        entry.fresh_until = now + timedelta(seconds=self._rule.cache_s)
        if before.state(now) is not after.state(now):
            _LOG.log(
                logging.WARNING if after.open_until is not None else logging.INFO,
                "%s %s at %s is %s now. %s",
                operation.provider,
                operation.name,
                operation.host,
                after.state(now).value,
                after.reason,
            )
            entry.forget()
        return True

    def _after_failure(
        self,
        record: BreakerRecord,
        permit: Permit,
        error: FarmIntelError,
        too_many: bool,  # noqa: FBT001 - a fact
    ) -> BreakerRecord | None:
        now = self._clock.now()
        if record.open_until is None:
            failures = record.failures + 1
            if failures >= self._rule.failures or too_many:
                return self._opened(record, error, now)
            return replace(record, failures=failures, reason=error.message)
        if permit.probe_token is not None and record.probe_token == permit.probe_token:
            return self._opened(record, error, now)
        return None  # let through before it opened: what it found is known

    def _opened(self, record: BreakerRecord, error: FarmIntelError, now: datetime) -> BreakerRecord:
        rule = self._rule
        period_s = min(rule.open_max_s, rule.open_s * 2.0 ** min(record.openings, 60))
        period_s *= 1.0 + rule.jitter * (2.0 * self._jitter() - 1.0)
        return replace(
            record,
            failures=0,
            openings=record.openings + 1,
            open_until=now + timedelta(seconds=period_s),
            probe_token=None,
            probe_until=None,
            reason=error.message,
        )

    def _down(self, operation: Operation, record: BreakerRecord, now: datetime) -> ProviderDownError:
        is_open = record.state(now) is BreakerState.OPEN
        until = record.open_until if is_open else record.probe_until
        wait_s = max(0.0, (until - now).total_seconds()) if until is not None else 0.0
        kind = ProviderDownError if is_open else ProbeUnderwayError
        return kind(
            f"{operation.provider} {operation.name} at {operation.host} is down and was not asked; "
            f"the last failure: {record.reason or 'unknown'}",
            retry_after_s=wait_s,
            hint=f"It is tried again in {wait_s:.0f} s; until then another provider may answer.",
        )


def _closed(record: BreakerRecord, permit: Permit) -> BreakerRecord | None:
    if record.open_until is None:
        return replace(record, failures=0) if record.failures else None
    if permit.probe_token is None or record.probe_token != permit.probe_token:
        return None  # let through before it opened; only a probe tells that the host is back
    return BreakerRecord(version=record.version)


def _unprobed(record: BreakerRecord, permit: Permit) -> BreakerRecord | None:
    if record.probe_token != permit.probe_token:
        return None
    return replace(record, probe_token=None, probe_until=None)
