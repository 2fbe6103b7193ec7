"""Faults any emulated service can be told to show: what goes wrong, on which paths, how often.

They are applied by an ASGI middleware around the emulator's app (see hosting), so the apps hold no fault code except
where a fault belongs to their protocol. `simulation.range_faults` is the same idea for the raw range server, with
faults of byte ranges that make no sense here.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum


class FaultKind(StrEnum):
    """How an answer goes wrong."""

    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    THROTTLED = "throttled"
    """429; `retry_after` is the header's literal value (seconds, milliseconds, `http_date_in`), None for no header."""
    SERVER_ERROR = "server_error"
    HTML_BAD_GATEWAY = "html_bad_gateway"
    """502 with an HTML body, as load balancers send."""
    UNAVAILABLE = "unavailable"
    GATEWAY_TIMEOUT = "gateway_timeout"
    TIMEOUT = "timeout"
    """No byte of an answer for `delay_s` seconds, then a reset; 0 waits until the client gives up."""
    RESET = "reset"
    """The connection is reset when half of the body is sent."""
    TRUNCATED = "truncated"
    """The whole length is announced, half of it is sent, the connection is closed."""
    SLOW = "slow"
    """The right answer in eight pieces with `delay_s` seconds (0.05 where that is 0) before each."""
    EMPTY = "empty"
    """200 without a body."""
    HTML = "html"
    """200 with an HTML page (a login or maintenance page)."""
    INVALID_JSON = "invalid_json"
    """200, announced as JSON, that breaks off in the middle of a document."""


STATUSES: dict[FaultKind, int] = {
    FaultKind.UNAUTHORIZED: 401,
    FaultKind.FORBIDDEN: 403,
    FaultKind.NOT_FOUND: 404,
    FaultKind.CONFLICT: 409,
    FaultKind.THROTTLED: 429,
    FaultKind.SERVER_ERROR: 500,
    FaultKind.HTML_BAD_GATEWAY: 502,
    FaultKind.UNAVAILABLE: 503,
    FaultKind.GATEWAY_TIMEOUT: 504,
    FaultKind.EMPTY: 200,
    FaultKind.HTML: 200,
    FaultKind.INVALID_JSON: 200,
}
"""Status of the faults that are an answer of their own; the others harm the app's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule; the first rule that matches a request and is not used up decides."""

    kind: FaultKind
    path: str = ""
    """Regular expression searched in the request's path; empty for all."""
    times: int = 1
    """How many requests are struck; 0 for all."""
    after: int = 0
    """How many matching requests pass unharmed first."""
    retry_after: str | None = None
    """Literal value of the Retry-After header of a status fault."""
    delay_s: float = 0.0
    """Seconds, see the kinds TIMEOUT and SLOW; other kinds answer after this pause."""
    body: bytes | None = None
    """Body of a status fault in the service's own form; None for a plain one."""


class FaultPlan:
    """The faults in force, counted down as they strike; safe to change from any thread while the server runs."""

    def __init__(self, *faults: Fault) -> None:
        """Start with the given faults."""
        self._lock = threading.Lock()
        self._entries: list[tuple[Fault, re.Pattern[str]]] = []
        self._seen: list[int] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Put a fault behind those already in force."""
        with self._lock:
            self._entries.append((fault, re.compile(fault.path)))
            self._seen.append(0)

    def clear(self) -> None:
        """Serve everything unharmed again."""
        with self._lock:
            self._entries.clear()
            self._seen.clear()

    def strike(self, path: str) -> Fault | None:
        """Return the fault for a request to this path, if any, and count it."""
        with self._lock:
            for number, (fault, pattern) in enumerate(self._entries):
                if not pattern.search(path):
                    continue
                seen = self._seen[number]
                self._seen[number] = seen + 1
                if seen >= fault.after and (fault.times == 0 or seen < fault.after + fault.times):
                    return fault
        return None


def http_date_in(seconds: float) -> str:
    """Return the HTTP date this many seconds from now, for `Fault.retry_after` (whole seconds, rounded up)."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds + 0.999)
    return format_datetime(moment.replace(microsecond=0), usegmt=True)
