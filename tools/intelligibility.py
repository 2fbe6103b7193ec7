"""How well alerts are understood, measured without ears: each engine speaks, pocketsphinx listens, jiwer counts.

usage: python tools/intelligibility.py [--json] [--engine NAME]...

The recogniser was trained on people: engines that build their sound from formants (espeak-ng) fare worse with it than
with listeners, so its rates compare engines of one kind and give ceilings, not truths. The grammar of the recogniser is
its general English one; words it cannot know (names, spelled letters) count as errors like all others.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from farm_intel.domain.errors import FarmIntelError
from farm_intel.speech.engines import Engine
from farm_intel.speech.normalising import normalise
from farm_intel.speech.pcm import Pcm
from farm_intel.speech.speaker import default_engines

SENTENCES = (
    "Field North: drought stress since the third of May. Crop water index is 0.12, threshold 0.2. Irrigate soon.",
    "The south field has not been seen for 12 days. There were clouds on every look.",
    "Rain of 40 mm is expected tomorrow. Do not spray today.",
    "Frost warning for the river field. The temperature may fall to -3 °C tonight.",
    "Harvest of the east field was due on 2026-05-01 and is late by 4 days.",
    "The crop in the west field is growing again after 25 mm of rain. The alert is over.",
    "Please give 20 kg/ha of fertiliser to the hill field before Friday.",
    "Part of the north field looks worse than in other years. Go and look at it.",
)
"""Alerts as farmers get them: states, weather, activities and their end."""

CEILINGS: Mapping[str, float] = {"hibari": 0.25, "flite": 0.45}
"""Word error rates that must not be exceeded."""

_HEARD_HZ = 16_000
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SPELLING = {"metre": "meter", "metres": "meters", "litre": "liter", "litres": "liters", "fertiliser": "fertilizer"}
"""Endings that sound alike; the recogniser writes American."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intelligibility:
    """How one engine did over all sentences."""

    engine: str
    word_error_rate: float
    duration_s: float
    real_time_factor: float
    """Seconds of wall clock per second of sound, processes and loading included but for a first sentence."""
    first_s: float
    """Wall clock of the first sentence, loading included."""
    heard: tuple[str, ...]


def measure(engine: Engine, sentences: Sequence[str] = SENTENCES) -> Intelligibility:
    """Return how well an engine is understood.

    Raises:
        FarmIntelError: the engine failed.

    """
    import jiwer

    spoken = [normalise(sentence, "en", {}) for sentence in sentences]
    began_s = time.perf_counter()
    engine.render(spoken[0], "en")
    first_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    sounds = [engine.render(sentence, "en") for sentence in spoken]
    rendering_s = time.perf_counter() - began_s
    duration_s = sum(sound.duration_s for sound in sounds)
    heard = [listen(sound) for sound in sounds]
    said = [in_words(sentence) for sentence in spoken]
    return Intelligibility(
        engine=engine.name,
        word_error_rate=float(jiwer.wer(said, [sentence or "nothing" for sentence in heard])),
        duration_s=round(duration_s, 2),
        real_time_factor=round(rendering_s / duration_s, 4),
        first_s=round(first_s, 3),
        heard=tuple(heard),
    )


def listen(sound: Pcm) -> str:
    """Return what a recogniser of American English hears."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=float(_HEARD_HZ), loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw(_resampled(sound), full_utt=True)
    decoder.end_utt()
    best = decoder.hyp()
    return "" if best is None else in_words(best.hypstr)


def in_words(text: str) -> str:
    """Return a text as a recogniser writes it: lower case, numbers up to 99 and years as words, no punctuation."""
    words = re.sub(r"[^a-z0-9' ]", " ", text.lower()).split()
    return " ".join(_american(part) for word in words for part in _number(word).split())


def _american(word: str) -> str:
    ending = next((british for british in _SPELLING if word.endswith(british)), "")
    return word.removesuffix(ending) + _SPELLING.get(ending, "")


def _number(word: str) -> str:
    if not word.isdigit() or len(word) == 3 or len(word) > 4:
        return word
    if len(word) == 4:
        return f"{_number(word[:2])} {_number(word[2:])}"
    value, small = int(word), _SMALL.split()
    if value < len(small):
        return small[value]
    return _TENS.split()[value // 10 - 2] + (f" {small[value % 10]}" if value % 10 else "")


def _resampled(sound: Pcm) -> bytes:
    from scipy.signal import resample_poly

    ratio = Fraction(_HEARD_HZ, sound.rate_hz)
    samples = np.frombuffer(sound.samples, "<i2").astype(np.float64)
    heard = resample_poly(samples, ratio.numerator, ratio.denominator)
    return bytes(np.clip(heard, -32_768, 32_767).astype("<i2").tobytes())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one row per installed engine; return 1 where one is above its ceiling."""
    parser = argparse.ArgumentParser(description="Word error rate of each installed speech engine.")
    parser.add_argument("--json", action="store_true", help="print JSON, with what was heard")
    parser.add_argument("--engine", action="append", help="only this one; may be given several times")
    options = parser.parse_args(arguments)
    engines = default_engines(options.engine) if options.engine else default_engines()
    rows = []
    for engine in engines:
        if not engine.installed():
            print(f"{engine.name}: not installed", file=sys.stderr)
            continue
        try:
            rows.append(measure(engine))
        except FarmIntelError as error:
            print(f"{engine.name}: {error}", file=sys.stderr)
            return 1
        finally:
            close = getattr(engine, "close", None)
            if close is not None:
                close()
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print(f"{'engine':<10} {'WER':>6} {'ceiling':>8} {'sound s':>8} {'RTF':>7} {'first s':>8}")
        for row in rows:
            ceiling = f"{CEILINGS[row.engine]:.2f}" if row.engine in CEILINGS else "-"
            print(
                f"{row.engine:<10} {row.word_error_rate:>6.3f} {ceiling:>8} {row.duration_s:>8.1f} "
                f"{row.real_time_factor:>7.3f} {row.first_s:>8.2f}"
            )
    return int(any(row.word_error_rate > CEILINGS.get(row.engine, float("inf")) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
