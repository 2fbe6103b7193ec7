"""Engines, stores and clocks for tests of speech."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from farm_intel.domain.messages import Audio
from farm_intel.resilience.breaker import CircuitBreaker
from farm_intel.resilience.memory import MemoryBreakers
from farm_intel.speech.pcm import EngineFailedError, Pcm
from farm_intel.speech.speaker import SPEECH_RULE, Speaker

RATE_HZ = 8_000


def murmur(text: str, *, amplitude: float = 0.3) -> Pcm:
    """Return a sound as long as the text takes, different for different texts."""
    hz = 200 + int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) % 1000
    time_s = np.arange(round(max(0.3, 0.06 * len(text)) * RATE_HZ)) / RATE_HZ
    return Pcm((amplitude * np.sin(2 * np.pi * hz * time_s) * 32_767).astype("<i2").tobytes(), RATE_HZ)


class FakeEngine:
    """Implements `Engine`; counts what it is asked."""

    def __init__(
        self,
        name: str = "fake",
        *,
        languages: tuple[str, ...] = ("en",),
        render: Callable[[str], Pcm] = murmur,
        installed: bool = True,
    ) -> None:
        self.name = name
        self.languages = languages
        self.answer = render
        self.here = installed
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def installed(self) -> bool:
        return self.here

    def speaks(self, language: str) -> bool:
        return language in self.languages

    def render(self, text: str, language: str) -> Pcm:
        with self._lock:
            self.asked.append(text)
        return self.answer(text)


def dead(text: str) -> Pcm:
    raise EngineFailedError("killed")


class FakeTime:
    """Implements `Clock`; stands still until `advance`."""

    def __init__(self) -> None:
        self._now = datetime(2026, 6, 30, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class MemoryAudio:
    """Implements `AudioStore` in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, Audio] = {}
        self.files: dict[str, bytes] = {}

    def find(self, request_hash: str) -> Audio | None:
        return self.rows.get(request_hash)

    def put(self, request_hash: str, wav: bytes, *, engine: str, language: str, duration_s: float) -> Audio:
        sha256 = hashlib.sha256(wav).hexdigest()
        self.files[sha256] = wav
        self.rows[request_hash] = Audio(
            sha256=sha256,
            path=f"{sha256[:2]}/{sha256}.wav",
            mime_type="audio/wav",
            duration_s=duration_s,
            engine=engine,
            size_bytes=len(wav),
        )
        return self.rows[request_hash]

    def read(self, audio: Audio) -> bytes:
        return self.files[audio.sha256]


def speaker(*engines, clock=None, store=None, kind=Speaker, breaker=None, **options):
    """Return a speaker in memory; open periods are exactly as long as the rule says."""
    if breaker is None:
        breaker = CircuitBreaker(MemoryBreakers(), clock or FakeTime(), SPEECH_RULE, jitter=lambda: 0.5)
    return kind(store=store or MemoryAudio(), breaker=breaker, engines=engines, **options)
