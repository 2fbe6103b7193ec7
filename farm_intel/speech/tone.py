"""The last resort: a melody that says how bad it is, when no engine can say what it is."""

from __future__ import annotations

import functools

import numpy as np

from farm_intel.domain.alerts import Severity
from farm_intel.speech.pcm import Pcm

NAME = "tone"
_RATE_HZ = 16_000
_AMPLITUDE = 0.5
_FADE_S = 0.01
"""Without it every note begins and ends with a click."""
_NOTE_S = 0.35
_REST_S = 0.15
_MELODIES = {
    "low": ((880.0, 660.0), 1),
    "middle": ((660.0, 880.0), 2),
    "high": ((988.0, 740.0), 4),
}
"""Two notes in Hz and how often: once falling, twice rising, four times falling and fast."""


@functools.cache
def melody(severity: Severity) -> Pcm:
    """Return the melody of a severity: 16-bit mono at 16 kHz, the same bytes every time; it needs nothing but numpy."""
    ranks = sorted(Severity)
    rank = ranks.index(severity)
    name = "high" if rank == len(ranks) - 1 else "low" if rank == 0 else "middle"
    notes, times = _MELODIES[name]
    speed = 0.5 if name == "high" else 1.0
    rest = np.zeros(round(_REST_S * speed * _RATE_HZ))
    parts = [part for _ in range(times) for hz in notes for part in (_note(hz, _NOTE_S * speed), rest)]
    return Pcm((np.concatenate(parts) * 32_767).astype("<i2").tobytes(), _RATE_HZ)


def _note(hz: float, seconds: float) -> np.ndarray:
    time_s = np.arange(round(seconds * _RATE_HZ)) / _RATE_HZ
    fade = np.minimum(1.0, np.minimum(time_s, time_s[::-1]) / _FADE_S)
    return np.asarray(_AMPLITUDE * fade * np.sin(2 * np.pi * hz * time_s))
