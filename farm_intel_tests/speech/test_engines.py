"""Engines as they are installed, and programs that misbehave in every way."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
import wave
from pathlib import Path

import pytest

from farm_intel.domain.errors import BadRequestError, NotConfiguredError
from farm_intel.resilience.breaker import CircuitBreaker
from farm_intel.resilience.memory import MemoryBreakers
from farm_intel.speech.engines import ProgramEngine, espeak_ng, flite, piper
from farm_intel.speech.neural import NeuralEngine
from farm_intel.speech.pcm import EngineFailedError, Pcm, check_speech, from_wav, to_wav
from farm_intel.speech.processes import run
from farm_intel.speech.speaker import SPEECH_RULE, default_engines
from farm_intel_tests.speech.support import FakeTime, murmur, speaker

TEXT = "Field North: drought stress since the third of May. Irrigate soon."


@pytest.fixture
def neural():
    engine = NeuralEngine()
    if not engine.installed():
        pytest.skip("hibari-tts is not installed (extra `speech`)")
    yield engine
    engine.close()


def installed(engine):
    if not engine.installed():
        pytest.skip(f"{engine.name} is not installed")
    return engine


# --- the real ones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [piper, flite, espeak_ng], ids=["piper", "flite", "espeak-ng"])
def test_a_program_speaks_sixteen_bit_mono_for_about_as_long_as_the_text_takes(make):
    sound = installed(make()).render(TEXT, "en")

    check_speech(sound, TEXT, "test")
    assert 2.0 < sound.duration_s < 8.0


@pytest.mark.parametrize(("language", "text"), [("fr", "Stress hydrique depuis mardi."), ("sw", "Shamba lina ukame.")])
def test_other_languages_are_spoken_differently_from_english(language, text):
    engine = installed(espeak_ng())

    assert engine.speaks(language)
    assert not engine.speaks("xx")
    check_speech(engine.render(text, language), text, "test")
    assert engine.render(text, language) != engine.render(text, "en")


@pytest.mark.parametrize("make", [flite, espeak_ng, piper], ids=["flite", "espeak-ng", "piper"])
def test_text_cannot_become_an_option(make, tmp_path):
    """Were it one, the text would be gone: `--version` and `-o` make no sound."""
    engine = installed(make())
    target = tmp_path / "stolen.wav"

    sound = engine.render(f"-o {target} --version of the north field is dry today", "en")

    check_speech(sound, "version of the north field is dry today", "test")
    assert not target.exists()


def test_the_neural_voice_says_the_same_text_the_same_way_and_loads_once(neural):
    first = neural.render(TEXT, "en")
    pid = neural.child_pid

    assert neural.render(TEXT, "en") == first
    assert neural.child_pid == pid is not None
    check_speech(first, TEXT, "test")


def test_a_killed_neural_voice_is_a_failure_once_and_then_starts_again(neural):
    neural.render("One.", "en")
    os.kill(neural.child_pid, signal.SIGKILL)
    time.sleep(0.05)
    try:
        neural.render("Two.", "en")
    except EngineFailedError:
        neural.render("Two.", "en")
    assert neural.child_pid is not None


def test_the_child_ends_with_its_parent(neural):
    """Its input is closed when the parent dies, however that dies."""
    script = """
        import os, signal
        from farm_intel.speech.neural import NeuralEngine
        engine = NeuralEngine()
        engine.render("One.", "en")
        print(engine.child_pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, check=False)
    child = Path(f"/proc/{int(done.stdout)}/stat")

    until_s = time.monotonic() + 10
    while child.exists() and child.read_text().split(") ")[1][0] != "Z" and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not child.exists() or child.read_text().split(") ")[1][0] == "Z"


def test_alerts_have_audio_while_the_neural_voice_is_killed_again_and_again(neural):
    """The real chain: the neural voice's process dies before every sentence."""
    clock = FakeTime()
    breaker = CircuitBreaker(MemoryBreakers(), clock, SPEECH_RULE, jitter=lambda: 0.5)
    voice = speaker(neural, installed(flite()), breaker=breaker)
    spoken = []
    for number in range(6):
        if neural.child_pid is not None:
            os.kill(neural.child_pid, signal.SIGSTOP)  # hangs
            neural._timeout_s = 0.3
        spoken.append(voice.say(f"Field {number} is dry.", "en"))

    assert [audio.engine for audio in spoken] == ["hibari"] + ["flite"] * 5
    assert all(from_wav(voice.read(audio), "test").rms > 0.01 for audio in spoken)
    neural._timeout_s = 20.0
    clock.advance(SPEECH_RULE.open_s + 0.1)
    assert voice.say("The neural voice is back.", "en").engine == "hibari"


# --- a neural voice that misbehaves -------------------------------------------------------------------------------


def child(body: str) -> NeuralEngine:
    """Return an engine whose child runs this for every request."""
    script = f"""
import struct, sys, time, os, signal
out = sys.stdout.buffer
while len(head := sys.stdin.buffer.read(4)) == 4:
    text = sys.stdin.buffer.read(struct.unpack(">I", head)[0]).decode()
{textwrap.indent(textwrap.dedent(body), "    ")}
    out.flush()
"""
    return NeuralEngine(timeout_s=1.0, package="json", command=(sys.executable, "-c", script))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("time.sleep(60)", "longer than"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended"),
        ("out.write(struct.pack('>II', 24000, 100) + b'abc'); out.flush(); sys.exit()", "ended"),
        ("out.write(struct.pack('>II', 24000, 1 << 31))", "announced"),
        ("out.write(struct.pack('>II', 0, 5) + b'oh no')", "oh no"),
    ],
)
def test_whatever_the_child_does_is_a_failure_in_time(body, says):
    engine = child(body)
    began_s = time.monotonic()
    for _ in range(2):  # and the second time with a new child
        with pytest.raises(EngineFailedError, match=says):
            engine.render(TEXT, "en")
        assert engine.child_pid is None

    assert time.monotonic() - began_s < 10.0


def test_a_late_answer_is_not_taken_for_the_next_text():
    engine = child("""
        time.sleep(1.5 if text == "slow" else 0)
        out.write(struct.pack(">II", 8000, len(text)) + text.encode())
    """)
    try:
        with pytest.raises(EngineFailedError):
            engine.render("slow", "en")
        assert engine.render("next", "en") == Pcm(b"next", 8_000)
    finally:
        engine.close()


def test_what_is_not_installed_says_so_and_starts_nothing():
    engine = NeuralEngine(package="no_such_package_here")

    assert not engine.installed()
    with pytest.raises(NotConfiguredError, match="not installed"):
        engine.render(TEXT, "en")
    assert engine.child_pid is None


def test_a_voice_that_cannot_be_loaded_is_a_failure():
    """The child itself, with a package that has no voice in it."""
    engine = NeuralEngine(package="json", command=(sys.executable, "-S", "-P", str(Path(_child_path()))))
    with pytest.raises(EngineFailedError):
        engine.render(TEXT, "en")


def _child_path() -> str:
    from farm_intel.speech import neural

    return str(Path(neural.__file__).with_name("neural_child.py"))


# --- programs that misbehave --------------------------------------------------------------------------------------


def program(body: str, **options) -> ProgramEngine:
    return ProgramEngine(
        name="program",
        find=lambda: (sys.executable, "-c", textwrap.dedent(body)),
        voice=lambda language: (language,),
        languages=lambda: frozenset({"en"}),
        **options,
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("print('hello')", "no WAV file"),
        ("", "0 bytes"),
        ("import sys; sys.exit('out of tune')", "out of tune"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "-9"),
        ("import time; time.sleep(60)", "longer than"),
        ("import sys\nwhile True: sys.stdout.buffer.write(bytes(1 << 20))", "more than"),
    ],
)
def test_whatever_a_program_does_is_a_failure_in_time(body, says):
    began_s = time.monotonic()

    with pytest.raises(EngineFailedError, match=says):
        program(body, timeout_s=2.0).render(TEXT, "en")
    assert time.monotonic() - began_s < 8.0


def test_a_program_is_killed_with_what_it_started(tmp_path):
    mark = tmp_path / "pid"
    body = f"""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open({str(mark)!r}, "w").write(str(child.pid))
        time.sleep(60)
    """
    with pytest.raises(EngineFailedError):
        program(body, timeout_s=1.5).render(TEXT, "en")

    stat = Path(f"/proc/{mark.read_text()}/stat")
    until_s = time.monotonic() + 5
    while stat.exists() and stat.read_text().split(") ")[1][0] != "Z" and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not stat.exists() or stat.read_text().split(") ")[1][0] == "Z"


def test_a_program_gets_the_text_on_one_line_and_none_of_our_environment(monkeypatch):
    monkeypatch.setenv("FARM_INTEL_SECRET", "hunter2")
    body = "import os, sys; print(sys.argv[1:], sys.stdin.read(), sorted(os.environ))"

    said = run("program", [*program(body).find(), "x"], "one line", timeout_s=20.0).decode()

    assert said.startswith("['x'] one line\n")
    assert "SECRET" not in said


def test_a_missing_program_is_not_installed_and_cannot_be_rendered_with():
    engine = ProgramEngine(name="p", find=lambda: None, voice=lambda _: (), languages=lambda: frozenset({"en"}))

    assert not engine.installed()
    with pytest.raises(NotConfiguredError):
        engine.render(TEXT, "en")
    with pytest.raises(NotConfiguredError):
        run("p", ["/no/such/program"], "x", timeout_s=1.0)


def test_engines_are_chosen_by_name():
    assert [engine.name for engine in default_engines()] == ["hibari", "piper", "flite", "espeak-ng"]
    with pytest.raises(BadRequestError, match="festival"):
        default_engines(["festival"])


# --- WAV ----------------------------------------------------------------------------------------------------------


def test_a_wav_file_is_what_the_standard_library_reads(tmp_path):
    sound = murmur(TEXT)
    (tmp_path / "a.wav").write_bytes(to_wav(sound))

    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, sound.rate_hz)
        assert file.readframes(file.getnframes()) == sound.samples
    assert from_wav(to_wav(sound), "test") == sound


def test_a_header_may_promise_more_than_a_pipe_held_and_chunks_may_come_between():
    wav = bytearray(to_wav(murmur(TEXT)))
    wav[40:44] = struct.pack("<I", 0x7FFFF000)
    between = bytes(wav[:36]) + b"LIST\x03\0\0\0abc\0" + bytes(wav[36:])

    assert from_wav(bytes(wav), "test") == from_wav(between, "test") == murmur(TEXT)


@pytest.mark.parametrize(
    "harm",
    [
        lambda wav: b"",
        lambda wav: wav[:11],
        lambda wav: wav[:36],
        lambda wav: b"OggS" + wav[4:],
        lambda wav: wav[:22] + b"\2\0" + wav[24:],
        lambda wav: wav[:34] + b"\x08\0" + wav[36:],
        lambda wav: wav[:24] + b"\x01\0\0\0" + wav[28:],
        lambda wav: wav[:16] + b"\x04\0\0\0" + wav[20:],
    ],
)
def test_what_is_no_sixteen_bit_mono_wav_is_refused(harm):
    with pytest.raises(EngineFailedError):
        from_wav(harm(to_wav(murmur(TEXT))), "test")
