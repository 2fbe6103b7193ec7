"""Messages to people: what is to be told, the outbox row of each recipient, and how a channel answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from farm_intel.domain.alerts import SUBSCRIBERS, Severity

STREAM = "stream"
"""Channel of WebSocket and server-sent events: no outbox row; the event is written where the message is enqueued."""
SPEECH = "speech"
"""Pseudo channel: renders the audio of a stream message and tells the stream when it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something people are to be told, before anybody's language, channel or quiet hours."""

    subject: str
    """What it is about, stable over retries: `alert:<id>`, `occurrence:<activity>:<due>`."""
    occasion: str
    """Why now: `opened`, `step:1`, `resolved`, `due`, `reminder:2`. With the subject it names the notice."""
    farm_id: str
    rule_class: str
    severity: Severity
    text_key: str
    """Key of the translatable template."""
    params: Mapping[str, str | float | int | None]
    """Values of the template; numbers with the unit in their name, days as ISO dates."""
    audience: str = SUBSCRIBERS
    """Those, or the group an escalation step names; `*` for both."""
    data: Mapping[str, object] = field(default_factory=dict)
    """What a program needs: ids, rule, day, evidence. No secrets, below 20 kB as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedText:
    """One notice in one language."""

    language: str
    title: str
    short: str
    """At most 160 characters (one SMS)."""
    long: str
    spoken: str
    """For a voice: units and index names as words."""


class Renderer(Protocol):
    """Turns notices into text."""

    def render(self, notice: Notice, language: str) -> RenderedText:
        """Return the texts; a language that is not there falls back to English and says so in `language`.

        Raises:
            UnknownNameError: no template of that key.

        """
        ...


class MessageState(StrEnum):
    """Where an outbox row stands."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    DEAD = "dead"
    """Failed for good or too often: stays until somebody replays or drops it."""
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """One message to one recipient over one channel, ready to be enqueued in the transaction of what caused it."""

    idempotency_key: str
    """`subject|occasion|user|channel|address digest`: the same again is not enqueued twice."""
    subject: str
    farm_id: str
    user_id: str
    channel: str
    address: str
    secret: str = ""
    severity: Severity
    text: RenderedText
    data: Mapping[str, object] = field(default_factory=dict)
    not_before: datetime
    """UTC; later than now in quiet hours."""
    speak: bool = False

    def __repr__(self) -> str:
        """Name everything but address and secret: both may let others in."""
        return f"NewMessage({self.idempotency_key!r}, channel={self.channel!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An outbox row."""

    message_id: str
    """`msg_…`; the same over all attempts: receivers drop what they have seen."""
    new: NewMessage
    state: MessageState
    attempt: int
    token: int
    created_at: datetime
    next_at: datetime
    sent_at: datetime | None = None
    receipt: str = ""
    error: str = ""
    """Why the last attempt failed; holds no address and no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """Rendered speech, content-addressed."""

    sha256: str
    path: str
    """Relative to the audio root."""
    mime_type: str
    duration_s: float
    engine: str
    """Which engine spoke, e.g. `hibari`, `flite`, `espeak-ng`, `tone`."""
    size_bytes: int


class Channel(Protocol):
    """One way to reach people."""

    name: str

    def send(self, message: Message, audio: Audio | None, audio_bytes: bytes | None) -> str:
        """Deliver and return a receipt for the record.

        Raises:
            PermanentError: this address will never take it (bounced, 410 Gone, refused by the SSRF guard).
            ThrottledError: later, after its `retry_after_s`.
            TransientError: later.

        """
        ...


class Voice(Protocol):
    """Turns spoken text into audio; never fails, the last resort is a tone."""

    def say(self, text: str, language: str, *, severity: Severity = Severity.WARNING) -> Audio:
        """Return the audio, rendered once per sentence, language and voice; a tone tells the severity apart.

        Raises:
            BadRequestError: the text is empty or too long.

        """
        ...

    def read(self, audio: Audio) -> bytes:
        """Return its content."""
        ...
