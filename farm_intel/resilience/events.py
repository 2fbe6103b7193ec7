"""What became of every try, for metrics and for the metadata of assets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class CallResult(StrEnum):
    """How a try ended; the label of a metric, so the words are stable."""

    OK = "ok"
    FAILED = "failed"
    """The host did not answer, or with an error of its own."""
    THROTTLED = "throttled"
    """The host asked us to slow down."""
    REFUSED = "refused"
    """The host answered that the request is wrong, not allowed, or of no use."""
    NOT_PERMITTED = "not_permitted"
    """The breaker is open; the host was not asked."""
    OVER_BUDGET = "over_budget"
    """The budget is spent; the host was not asked."""
    TOO_LATE = "too_late"
    """The caller's time is up."""
    BROKEN_OFF = "broken_off"
    """Cancelled, or an error of ours."""


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One try."""

    provider: str
    host: str
    operation: str
    result: CallResult
    seconds: float
    """Of the try itself, without waiting for its turn."""
    waited_s: float
    """For its turn at the rate limiter."""
    retry: int
    """0 for the first try."""
    units: float
    """Reserved for it."""
    error: str
    """Empty where it went well."""


OnEvent = Callable[[CallEvent], None]
"""Told of every try, in the thread that made it; must be quick and must not raise."""


@dataclass(frozen=True, slots=True)
class CallCount:
    """Sum over the tries of one kind and result."""

    provider: str
    host: str
    operation: str
    result: CallResult
    calls: int
    retries: int
    """Of these, not the first try."""
    seconds: float
    waited_s: float
    units: float


class CallCounters:
    """Adds up events in memory; may be told by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str, str, CallResult], list[float]] = {}

    def __call__(self, event: CallEvent) -> None:
        """Add one event."""
        key = (event.provider, event.host, event.operation, event.result)
        with self._lock:
            sums = self._sums.get(key)
            if sums is None:
                sums = self._sums[key] = [0, 0, 0.0, 0.0, 0.0]
            sums[0] += 1
            sums[1] += event.retry > 0
            sums[2] += event.seconds
            sums[3] += event.waited_s
            sums[4] += event.units

    def counts(self) -> list[CallCount]:
        """Return the sums so far, ordered by provider, host, operation and result."""
        with self._lock:
            return [
                CallCount(*key, int(calls), int(retries), seconds, waited_s, units)
                for key, (calls, retries, seconds, waited_s, units) in sorted(self._sums.items())
            ]
