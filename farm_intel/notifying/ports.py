"""What delivering needs from outside; adapters and fakes implement it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from farm_intel.domain.messages import Audio, Channel, Message, NewMessage


class Outbox(Protocol):
    """Where messages wait; what is said of a claimed message counts only while its token is the latest."""

    def enqueue(self, messages: Sequence[NewMessage], *, now: datetime) -> int:
        """Enqueue messages that nothing else is committed with; return how many are new."""
        ...

    def claim(self, limit: int, *, now: datetime, lease: timedelta) -> list[Message]:
        """Take up to `limit` due messages for `lease`, fairly over channels and users."""
        ...

    def sent(self, message: Message, receipt: str, *, now: datetime, audio_sha256: str = "") -> bool:
        """Record that the channel took it; False where the claim was lost meanwhile, as for all that follow."""
        ...

    def streamed(self, message: Message, *, now: datetime) -> bool:
        """Append it to its user's stream and record it as sent, both or neither."""
        ...

    def spoken(self, message: Message, audio: Audio, *, now: datetime) -> bool:
        """Tell the stream that its audio is there and record it as sent, both or neither."""
        ...

    def failed(self, message: Message, error: str, *, next_at: datetime) -> bool:
        """Let it be tried again at `next_at`."""
        ...

    def postponed(self, message: Message, error: str, *, next_at: datetime) -> bool:
        """Let it wait without having been tried: its attempt does not count."""
        ...

    def dead(self, message: Message, error: str) -> bool:
        """Give it up until somebody replays or drops it."""
        ...


class HostedChannel(Channel, Protocol):
    """A channel that says which host a message goes to, so that a host that is down is told from one that is not."""

    attaches_audio: bool
    """Whether `send` makes use of audio."""

    def host(self, message: Message) -> str:
        """Return the host (and port) behind a message's address, or another name that gives no secret away."""
        ...
