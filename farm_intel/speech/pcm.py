"""Sound as 16-bit mono samples: reading what an engine wrote, writing WAV, and hearing whether it can be speech."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from farm_intel.domain.errors import PermanentError, TransientError

LONGEST_S = 120.0
"""No alert talks longer; 600 characters take about a minute."""
_RATES_HZ = range(8_000, 48_001)
_LEAST_S = 0.1
_LEAST_S_PER_CHARACTER = 0.025
"""40 letters a second; the fastest engine here speaks 17."""
_LEAST_RMS = 0.005
"""-46 dB of full scale; the quietest engine here has 0.05."""
_FULL_SCALE = 32_767
_MOST_CLIPPED = 0.005
"""Share of samples at full scale; the loudest engine here has none."""
_PCM_FORMATS = {1, 0xFFFE}
_LAST_LATIN = 0x24F


class EngineFailedError(TransientError):
    """An engine crashed, hung, or gave what is no speech: it counts against its health."""


class UnspeakableError(PermanentError):
    """This text makes too long a sound; that says nothing about the engine's health."""


@dataclass(frozen=True, slots=True)
class Pcm:
    """Sound, one channel."""

    samples: bytes
    """Signed 16-bit little-endian."""
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / 2 / self.rate_hz

    @property
    def rms(self) -> float:
        """Root mean square as a share of full scale, 0..1."""
        samples = np.frombuffer(self.samples, "<i2").astype(np.float64)
        return float(np.sqrt(np.mean(samples**2))) / 32_768 if samples.size else 0.0

    @property
    def clipped_fraction(self) -> float:
        """Share of samples at full scale, 0..1."""
        samples = np.frombuffer(self.samples, "<i2")
        return float(np.mean((samples >= _FULL_SCALE) | (samples <= -_FULL_SCALE))) if samples.size else 0.0


def to_wav(pcm: Pcm) -> bytes:
    """Return a WAV file; the same samples give the same bytes."""
    size, rate = len(pcm.samples), pcm.rate_hz
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", size
    )
    return head + pcm.samples


def from_wav(content: bytes, engine: str) -> Pcm:
    """Return the sound of a WAV file; one that was written to a pipe may promise more than it holds.

    Raises:
        EngineFailedError: it is not a WAV file of 16-bit mono samples.

    """
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise EngineFailedError(f"{engine} wrote {len(content)} bytes that are no WAV file")
    position, rate_hz = 12, 0
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        body = content[position + 8 : position + 8 + size]
        if name == b"fmt ":
            rate_hz = _rate_hz(body, engine)
        elif name == b"data" and rate_hz:
            return Pcm(body[: len(body) // 2 * 2], rate_hz)
        position += 8 + size + size % 2
    raise EngineFailedError(f"{engine} wrote a WAV file without samples")


def check_speech(pcm: Pcm, text: str, engine: str) -> None:
    """Refuse what cannot be the text, spoken.

    Raises:
        EngineFailedError: empty, too short for its letters, silent or clipped.
        UnspeakableError: longer than `LONGEST_S`.

    """
    least_s = max(_LEAST_S, _LEAST_S_PER_CHARACTER * sum(_is_spoken(character) for character in text))
    problem = ""
    if pcm.rate_hz not in _RATES_HZ:
        problem = f"a rate of {pcm.rate_hz} Hz"
    elif pcm.duration_s < least_s:
        problem = f"{pcm.duration_s:.2f} s of sound for {len(text)} characters"
    elif (rms := pcm.rms) < _LEAST_RMS:
        problem = f"silence (RMS {rms:.4f})"
    elif (clipped := pcm.clipped_fraction) > _MOST_CLIPPED:
        problem = f"clipped sound ({clipped:.1%} of the samples)"
    if problem:
        raise EngineFailedError(f"{engine} gave {problem}")
    if pcm.duration_s > LONGEST_S:
        raise UnspeakableError(
            f"{engine} takes {pcm.duration_s:.0f} s for the text, more than {LONGEST_S:.0f} s",
            hint="Say it shorter, or write long numbers as words.",
        )


def _rate_hz(body: bytes, engine: str) -> int:
    if len(body) < 16:
        raise EngineFailedError(f"{engine} wrote a broken WAV header")
    kind, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if kind not in _PCM_FORMATS or channels != 1 or bits != 16 or rate_hz not in _RATES_HZ:
        raise EngineFailedError(f"{engine} wrote {channels} channels of {bits} bits at {rate_hz} Hz, not 16-bit mono")
    return int(rate_hz)


def _is_spoken(character: str) -> bool:
    """Return True for what takes time in every voice: an English one may pass over other scripts."""
    return character.isalnum() and ord(character) <= _LAST_LATIN
