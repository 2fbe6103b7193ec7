"""Faults a range server can be told to show: what goes wrong, on which paths, how often."""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """How an answer goes wrong."""

    STATUS = "status"
    """The answer is a status line and a body instead of the file."""
    TRUNCATED = "truncated"
    """The length of the whole range is announced, half of it is sent, the connection is closed."""
    SHORT = "short"
    """A well-formed answer that holds only the first half of the range."""
    CORRUPT = "corrupt"
    """The right number of bytes, all of them inverted."""
    SLOW = "slow"
    """The body comes in single pieces with `delay_s` between them."""
    RESET = "reset"
    """The connection is reset before a byte is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule; the first rule that matches a request and is not used up decides."""

    pattern: str
    """Shell pattern over the path without its leading slash, `*` for all."""
    kind: FaultKind = FaultKind.STATUS
    status: int = 503
    retry_after: str | None = None
    """Value of the Retry-After header: seconds, or an HTTP date."""
    body: bytes = b""
    content_type: str = "text/plain"
    times: int | None = None
    """How many requests are struck; None for all."""
    skip: int = 0
    """How many matching requests pass unharmed before the fault begins."""
    min_start: int = 0
    """Only ranges that start at or behind this byte are struck, so that headers can stay readable."""
    without_query: str | None = None
    """Only requests whose query lacks this text are struck: how an unsigned or expired signature looks."""
    delay_s: float = 0.0
    """Pause between pieces of a slow body, seconds."""


class FaultPlan:
    """The faults in force, counted down as they strike; safe to change while the server runs."""

    def __init__(self) -> None:
        """Start without faults."""
        self._lock = threading.Lock()
        self._faults: list[list[Fault | int]] = []

    def add(self, fault: Fault) -> None:
        """Put a fault behind those already in force."""
        with self._lock:
            self._faults.append([fault, 0])

    def clear(self) -> None:
        """Serve everything unharmed again."""
        with self._lock:
            self._faults.clear()

    def strike(self, path: str, query: str, start: int) -> Fault | None:
        """Return the fault for this request, if any, and count it."""
        with self._lock:
            for entry in self._faults:
                fault, seen = entry
                if not isinstance(fault, Fault) or not isinstance(seen, int):
                    continue
                if not _matches(fault, path, query, start):
                    continue
                entry[1] = seen + 1
                if seen < fault.skip or (fault.times is not None and seen >= fault.skip + fault.times):
                    continue
                return fault
        return None


def _matches(fault: Fault, path: str, query: str, start: int) -> bool:
    if start < fault.min_start or not fnmatch.fnmatchcase(path, fault.pattern):
        return False
    return fault.without_query is None or fault.without_query not in query
