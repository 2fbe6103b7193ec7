"""What the live channel needs from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from farm_intel.domain.streams import StreamPage


class StreamStore(Protocol):
    """The streams of events; calls may block, so they are made from threads."""

    def events_after(self, user_id: str, seq: int, limit: int) -> StreamPage:
        """Return up to `limit` events that follow `seq`, and both ends of the stream, from one snapshot."""
        ...

    def heads(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the newest number of each stream; users without one are left out."""
        ...

    def start(self, user_id: str) -> int:
        """Return where a reader without a cursor begins."""
        ...

    def acknowledge(self, user_id: str, seq: int) -> int:
        """Record that everything up to `seq` has arrived; never goes back.

        Raises:
            BadRequestError: the stream has not come that far.

        """
        ...

    def farms_told_of(self, user_id: str, text: str) -> frozenset[str]:
        """Return the farms of the user's events that hold `text` as a whole string in their payload."""
        ...


class TicketStore(Protocol):
    """Short-lived tickets that open a stream."""

    def issue(self, user_id: str, ttl: timedelta) -> str:
        """Return a new ticket."""
        ...

    def redeem(self, ticket: str) -> str | None:
        """Use a ticket up and return whose it was, or None."""
        ...

    def check(self, ticket: str) -> str | None:
        """Return whose ticket it is without using it up, or None."""
        ...


class FarmAccess(Protocol):
    """Who may see which farm, asked again before every event."""

    def __call__(self, user_id: str, farm_id: str) -> bool:
        """Tell whether the user may see the farm now; may block."""
        ...
