"""The neural voice killed whenever it opens its mouth: every alert still carries audio, and it is hardly ever asked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import FarmIntelError
from farm_intel.domain.messages import STREAM, Audio, NewMessage
from farm_intel.notifying.delivering import Delivering, DeliveryLimits
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker, Permit
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.guard import Operation
from farm_intel.speech.neural import NeuralEngine
from farm_intel.speech.pcm import Pcm, from_wav
from farm_intel.speech.speaker import SPEECH_RULE, Speaker, default_engines
from farm_intel.storage.database import reading
from farm_intel.storage.message_tables import outbox, stream_events
from farm_intel.storage.outbox import SqlOutbox
from farm_intel.storage.resilience_state import SqlBreakers
from farm_intel.storage.speech import SpeechStore
from farm_intel_tests.chaos.parts import open_migrated
from farm_intel_tests.notifying.fakes import NOW, new_message

_QUIETEST_RMS = 0.01


class FastClock(SystemClock):
    """One second passes per alert, so that 1,000 alerts last long enough for several open periods."""

    def __init__(self) -> None:
        self.instant = NOW

    def now(self) -> datetime:
        return self.instant


class KilledNeural(NeuralEngine):
    """The real engine, whose process is killed as soon as it is there: long before its voice is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def render(self, text: str, language: str) -> Pcm:
        self.calls += 1
        over = threading.Event()
        killer = threading.Thread(target=self._kill, args=(over,))
        killer.start()
        try:
            return super().render(text, language)
        finally:
            over.set()
            killer.join()

    def _kill(self, over: threading.Event) -> None:
        while not over.is_set():
            pid = self.child_pid
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.001)


class NoBreaker(CircuitBreaker):
    """Mutant: lets everything through."""

    def failed(self, permit: Permit, error: BaseException) -> None:
        del error
        self.released(permit)


@dataclass
class VoiceVerdict:
    """What came of it."""

    alerts: int
    with_audio: int = 0
    """Sent, on the record with audio whose file is there and can be heard."""
    events: int = 0
    """Audio events in the stream."""
    calls: int = 0
    """Of the neural engine."""
    periods: int = 0
    """Open periods of its breaker."""
    engines: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        silent = 2 * self.alerts - self.with_audio - self.events
        return silent + max(0, self.calls - self.periods) + (self.calls == 0)


def run_voices(folder: Path, *, alerts: int = 1000, breaker: type[CircuitBreaker] = CircuitBreaker) -> VoiceVerdict:
    """Enqueue so many alerts that are to be spoken, deliver them, and judge."""
    began = time.monotonic()
    engine = open_migrated(f"sqlite:///{folder}/store.db")
    clock = FastClock()
    neural = KilledNeural()
    store = SpeechStore(folder / "audio", engine, clock)
    breakers = SqlBreakers(engine)
    rule = breaker(breakers, clock, SPEECH_RULE, jitter=lambda: 0.5)
    speaker = Speaker(store=store, breaker=rule, engines=(neural, *default_engines(("flite", "espeak-ng"))))
    messages = SqlOutbox(engine)
    messages.enqueue([_alert(number) for number in range(alerts)], now=clock.now())
    delivering = Delivering(
        messages,
        [],
        _Ticking(speaker, clock),
        breaker=CircuitBreaker(breakers, clock, BreakerRule()),
        clock=clock,
        limits=DeliveryLimits(longest_send_s=600.0),
    )
    delivering.run(limit=alerts, deadline_s=600.0)
    verdict = VoiceVerdict(alerts, calls=neural.calls)
    opened = dict(breakers.breakers()).get(Operation(provider="speech", host="localhost", name=neural.name))
    verdict.periods = 0 if opened is None else opened.openings
    with reading(engine) as connection:
        found = connection.execute(select(outbox.c.state, outbox.c.audio_sha256)).all()
        kinds = Counter(connection.scalars(select(stream_events.c.kind)))
    verdict.events = kinds["audio"]
    audios = [store.by_address(row.audio_sha256) for row in found if row.state == "sent"]
    verdict.with_audio = sum(_is_heard(speaker, audio) for audio in audios)
    verdict.engines = dict(Counter(audio.engine for audio in audios if audio is not None))
    verdict.seconds = time.monotonic() - began
    speaker.close()
    engine.dispose()
    return verdict


class _Ticking:
    """Lets the time of one alert pass; implements domain.messages.Voice."""

    def __init__(self, voice: Speaker, clock: FastClock) -> None:
        self._voice = voice
        self._clock = clock

    def say(self, text: str, language: str, *, severity: Severity = Severity.WARNING) -> Audio:
        self._clock.instant += timedelta(seconds=1)
        return self._voice.say(text, language, severity=severity)

    def read(self, audio: Audio) -> bytes:
        return self._voice.read(audio)


def _alert(number: int) -> NewMessage:
    message = new_message(f"alert:{number}|opened|kwame", channel=STREAM, speak=True)
    spoken = f"Field {number} at Kijani: drought stress."
    return replace(message, subject=f"alert:{number}", text=replace(message.text, spoken=spoken))


def _is_heard(speaker: Speaker, audio: Audio | None) -> bool:
    try:
        return audio is not None and from_wav(speaker.read(audio), audio.engine).rms > _QUIETEST_RMS
    except FarmIntelError:
        return False
