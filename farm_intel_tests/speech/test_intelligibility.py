"""Alerts are understood by a recogniser that knows nothing of farms; what is measured is printed by the tool."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from farm_intel.speech.pcm import Pcm
from farm_intel.speech.speaker import default_engines

_TOOL = Path(__file__).parents[2] / "tools" / "intelligibility.py"


@pytest.fixture(scope="module")
def tool():
    pytest.importorskip("pocketsphinx", reason="pocketsphinx is not installed")
    pytest.importorskip("jiwer", reason="jiwer is not installed")
    spec = importlib.util.spec_from_file_location("intelligibility", _TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("name", ["hibari", "flite"])
def test_an_engine_is_understood(tool, name):
    (engine,) = default_engines([name])
    if not engine.installed():
        pytest.skip(f"{name} is not installed")
    try:
        measured = tool.measure(engine)
    finally:
        getattr(engine, "close", int)()

    assert measured.word_error_rate <= tool.CEILINGS[name], measured.heard
    assert 30.0 < measured.duration_s < 90.0
    assert measured.first_s < 15.0


def test_a_hum_is_not_understood(tool):
    """The measure itself can fail: a sound that says nothing has a rate of nearly 1."""

    class Hum:
        name = "hum"

        def render(self, text, language):
            return Pcm(
                b"".join(int(9000 * math.sin(i / 9)).to_bytes(2, "little", signed=True) for i in range(32_000)), 16_000
            )

    assert tool.measure(Hum(), tool.SENTENCES[:2]).word_error_rate > 0.9


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("The 21 fields: 40 MILLIMETRES, 2026!", "the twenty one fields forty millimeters twenty twenty six"),
        ("0 point 1 2 is 13", "zero point one two is thirteen"),
        ("fertiliser, kilometre", "fertilizer kilometer"),
        ("345 of 90", "345 of ninety"),
    ],
)
def test_numbers_and_spelling_are_compared_as_words(tool, said, heard):
    assert tool.in_words(said) == heard
