"""Now, and the passing of time, from one place that tests can replace."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Sleeper(Protocol):
    """A clock that can also wait."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back; only differences mean something."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; keeps the thread."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Wait; keeps nobody."""
        ...


class SystemClock:
    """The machine's clock; implements `domain.ports.Clock`."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back; only differences mean something."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; keeps the thread."""
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """Wait; keeps nobody."""
        import asyncio

        await asyncio.sleep(seconds)
