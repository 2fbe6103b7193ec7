"""A user's stream of events as readers see it: numbered without gaps, read in pages from any number on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """One event of one user's stream."""

    seq: int
    """1, 2, 3 … per user, in the order of the commits."""
    event_id: str
    """Stable over retries of whatever caused it; unique per user."""
    kind: str
    farm_id: str
    """Empty where it is about no farm."""
    payload: Mapping[str, object]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPage:
    """Events in order, and both ends of the stream as they were in the same snapshot."""

    events: tuple[StreamEvent, ...]
    last_seq: int
    """Number of the newest event; 0 for an empty stream."""
    oldest_seq: int
    """Number of the oldest event that retention has left; `last_seq + 1` where it has left none."""

    def cannot_resume(self, seq: int) -> bool:
        """Tell whether a reader who has seen everything up to `seq` cannot be served without a gap.

        Either retention has removed what follows, or the stream has never come that far (another user's cursor, or a
        database restored from a backup): both must be told, for silence would look like "nothing new".
        """
        return seq > self.last_seq or seq + 1 < self.oldest_seq
