"""Now, and the passing of time, from one place that tests can replace."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock; implements `domain.ports.Clock`."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back; only differences mean something."""
        return time.monotonic()
