"""Fakes of delivery's neighbours, and messages to deliver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from farm_intel.domain.alerts import Severity
from farm_intel.domain.messages import Audio, Message, NewMessage, RenderedText

NOW = datetime(2026, 5, 1, 6, 0, tzinfo=UTC)
ADDRESS = "kwame.canary@receiver.example"
SECRET = "whsec_Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5"  # noqa: S105 - a canary


class MovingClock:
    """A clock that tests move; implements `resilience.clock.Sleeper`."""

    def __init__(self, now: datetime = NOW) -> None:
        self.instant = now

    def now(self) -> datetime:
        return self.instant

    def monotonic_s(self) -> float:
        return self.instant.timestamp()

    def move(self, **how: float) -> None:
        self.instant += timedelta(**how)

    def sleep(self, seconds: float) -> None:
        self.move(seconds=seconds)

    async def asleep(self, seconds: float) -> None:
        self.move(seconds=seconds)


class FakeChannel:
    """Answers as it is told; remembers what it was asked."""

    def __init__(
        self,
        name: str = "email",
        answer: Callable[[Message], str] = lambda message: f"ok {message.message_id}",
        *,
        host: Callable[[Message], str] = lambda _: "mail.example:25",
        attaches_audio: bool = False,
    ) -> None:
        self.name = name
        self.answer = answer
        self.attaches_audio = attaches_audio
        self.asked: list[Message] = []
        self.audio: list[bytes | None] = []
        self._host = host
        self._lock = threading.Lock()

    def host(self, message: Message) -> str:
        return self._host(message)

    def send(self, message: Message, audio: Audio | None, audio_bytes: bytes | None) -> str:
        with self._lock:
            self.asked.append(message)
            self.audio.append(audio_bytes)
        return self.answer(message)


class FakeVoice:
    """Says its text in bytes."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.said: list[tuple[str, str]] = []
        self._before = before

    def say(self, text: str, language: str, *, severity: Severity = Severity.WARNING) -> Audio:
        self._before()
        self.said.append((text, language))
        return Audio(
            sha256="a" * 64, path="aa/a.wav", mime_type="audio/wav", duration_s=1.5, engine="fake", size_bytes=4
        )

    def read(self, audio: Audio) -> bytes:
        return b"RIFF"


def new_message(
    key: str = "alert:1|opened|kwame",
    *,
    channel: str = "email",
    user_id: str = "kwame",
    address: str = ADDRESS,
    secret: str = SECRET,
    severity: Severity = Severity.WARNING,
    not_before: datetime = NOW,
    speak: bool = False,
) -> NewMessage:
    text = RenderedText(
        language="en",
        title="Drought stress at Kijani",
        short="Kijani: drought stress, NDMI -0.12 on 1 May.",
        long="Kijani: drought stress.\nNDMI -0.12 on 1 May.",
        spoken="Drought stress at Kijani.",
    )
    return NewMessage(
        idempotency_key=key,
        subject="alert:1",
        farm_id="kijani",
        user_id=user_id,
        channel=channel,
        address=address,
        secret=secret,
        severity=severity,
        text=text,
        data={"subject": "alert:1", "farm_id": "kijani"},
        not_before=not_before,
        speak=speak,
    )
