"""A clock that only tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Implements `domain.ports.Clock`; stands still until `advance`."""

    def __init__(self, start: datetime = datetime(2026, 6, 30, 12, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
