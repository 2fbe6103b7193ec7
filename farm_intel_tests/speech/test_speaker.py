"""Alerts are never silent, a sentence is rendered once, and a broken engine costs one probe per period."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import BadRequestError, NotConfiguredError
from farm_intel.resilience.breaker import CircuitBreaker
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.memory import MemoryBreakers
from farm_intel.resilience.state import BreakerState
from farm_intel.speech.pcm import EngineFailedError, Pcm, check_speech, from_wav
from farm_intel.speech.speaker import SPEECH_RULE, Speaker
from farm_intel.storage.resilience_state import SqlBreakers
from farm_intel_tests.speech.support import FakeEngine, FakeTime, MemoryAudio, dead, murmur, speaker

TEXT = "Field North: drought stress since the third of May."


def loudness(voice: Speaker, audio) -> float:
    return from_wav(voice.read(audio), "test").rms


def test_the_best_engine_that_works_speaks_and_stands_on_the_record():
    broken, absent, good, worse = (
        FakeEngine("broken", render=dead),
        FakeEngine("absent", installed=False),
        FakeEngine("good"),
        FakeEngine("worse"),
    )
    voice = speaker(broken, absent, good, worse)

    audio = voice.say(TEXT, "en-GB")

    sound = from_wav(voice.read(audio), "test")
    assert audio.engine == "good"
    assert sound == murmur(TEXT)
    assert audio.duration_s == pytest.approx(sound.duration_s, abs=0.001)
    assert audio.size_bytes == len(voice.read(audio)) == len(sound.samples) + 44
    assert audio.path == f"{audio.sha256[:2]}/{audio.sha256}.wav"
    assert (len(broken.asked), absent.asked, worse.asked) == (1, [], [])


def test_an_engine_without_the_language_is_not_asked():
    english, french = FakeEngine("english"), FakeEngine("french", languages=("fr",))
    voice = speaker(english, french)

    assert voice.say("Stress hydrique.", "fr").engine == "french"
    assert english.asked == []


@pytest.mark.parametrize("text", ["", " ", "…", "🌾🌾", "<speak></speak>", "https://example.org/a", "x" * 601])
def test_what_cannot_be_spoken_is_the_callers_mistake(text):
    engine = FakeEngine()

    with pytest.raises(BadRequestError):
        speaker(engine).say(text, "en")
    assert engine.asked == []


@pytest.mark.parametrize("language", ["", "-v", "e", "en; rm", "../fr", "en\n"])
def test_what_is_no_language_is_the_callers_mistake(language):
    with pytest.raises(BadRequestError):
        speaker(FakeEngine()).say(TEXT, language)


def test_texts_of_one_and_of_600_characters_are_spoken():
    voice = speaker(FakeEngine())

    assert voice.say("7", "en").engine == voice.say("word " * 120, "en").engine == "fake"


def test_each_severity_has_its_own_tone_and_none_is_silent():
    voice = speaker()

    audios = [voice.say(TEXT, "en", severity=severity) for severity in Severity]

    assert {audio.engine for audio in audios} == {"tone"}
    assert len({audio.sha256 for audio in audios}) == len(Severity)
    assert all(loudness(voice, audio) > 0.05 and 0.5 < audio.duration_s < 4.0 for audio in audios)


def test_a_tone_is_replaced_as_soon_as_an_engine_is_back():
    clock = FakeTime()
    engine = FakeEngine(render=dead)
    voice = speaker(engine, clock=clock)
    assert voice.say(TEXT, "en").engine == "tone"
    engine.answer = murmur

    assert voice.say(TEXT, "en").engine == "tone"  # its breaker is still open
    clock.advance(SPEECH_RULE.open_s + 0.1)
    assert voice.say(TEXT, "en").engine == "fake"
    assert voice.say(TEXT, "en").engine == "fake"
    assert len(engine.asked) == 2


def test_what_differs_only_in_writing_is_one_sentence_and_the_voice_set_is_part_of_it():
    engine, store = FakeEngine(), MemoryAudio()
    first = speaker(engine, store=store)

    assert first.say("Rain:  12 mm ", "en") == first.say("Rain: 12 millimetres", "en-US")
    assert len(engine.asked) == 1
    speaker(engine, store=store, voice_set="2").say("Rain: 12 mm", "en")
    assert len(engine.asked) == 2


def test_index_names_are_said_as_their_letters():
    engine = FakeEngine()

    speaker(engine, names={"NDVI": "N D V I"}).say("NDVI is 0.12.", "en")

    assert engine.asked == ["N D V I is 0 point 1 2."]


def test_an_error_of_our_own_is_not_hidden_and_leaves_the_breaker_alone():
    def mistaken(text: str) -> Pcm:
        raise KeyError(text)

    clock, store = FakeTime(), MemoryBreakers()
    breaker = CircuitBreaker(store, clock, SPEECH_RULE)
    with pytest.raises(KeyError):
        speaker(FakeEngine(render=mistaken), breaker=breaker).say(TEXT, "en")

    assert store.breakers() == []


def test_what_is_not_installed_or_cannot_say_this_text_does_not_open_the_breaker():
    def gone(text: str) -> Pcm:
        raise NotConfiguredError("uninstalled a moment ago")

    def endless(text: str) -> Pcm:
        return Pcm(murmur(TEXT).samples * 100, 8_000)

    store = MemoryBreakers()
    breaker = CircuitBreaker(store, FakeTime(), SPEECH_RULE)
    voice = speaker(FakeEngine("a", render=gone), FakeEngine("b", render=endless), breaker=breaker)

    assert voice.say(TEXT, "en").engine == "tone"
    assert store.breakers() == []


# --- the numbers --------------------------------------------------------------------------------------------------


class NoBreaker(CircuitBreaker):
    """Lets everything through."""

    def failed(self, permit, error) -> None:
        self.released(permit)


def thousand_alerts(make_breaker) -> tuple[int, int]:
    """Say 1,000 different alerts, one a second, with a dead engine; return its calls and the open periods."""
    clock, store = FakeTime(), MemoryBreakers()
    neural, program = FakeEngine("neural", render=dead), FakeEngine("program")
    voice = speaker(neural, program, breaker=make_breaker(store, clock))
    for number in range(1_000):
        audio = voice.say(f"Field {number}: drought stress.", "en")
        assert audio.engine == "program"
        assert loudness(voice, audio) > 0.05
        clock.advance(1.0)
    assert len(program.asked) == 1_000
    openings = dict(store.breakers()).get(Operation(provider="speech", host="localhost", name="neural"))
    return len(neural.asked), 0 if openings is None else openings.openings


def honest(store, clock) -> CircuitBreaker:
    return CircuitBreaker(store, clock, SPEECH_RULE, jitter=lambda: 0.5)


def examine_probes(make_breaker) -> None:
    calls, periods = thousand_alerts(make_breaker)
    # 5, 10, 20, 40, 80, 160 and then 300 s: eight periods begin within 1,000 s
    assert calls == periods <= 9


def test_a_dead_engine_is_called_once_per_open_period_over_1000_alerts_of_which_none_is_silent():
    examine_probes(honest)


def test_without_the_breaker_the_dead_engine_is_called_for_every_alert():
    calls, _ = thousand_alerts(lambda store, clock: NoBreaker(store, clock, SPEECH_RULE))

    assert calls == 1_000
    with pytest.raises(AssertionError):
        examine_probes(lambda store, clock: NoBreaker(store, clock, SPEECH_RULE))


class Forgetful(Speaker):
    """Looks nothing up."""

    def _known(self, request_hash):
        return None


class NoTurns(Speaker):
    """Lets all threads render at once."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self._turns.one_at_a_time = lambda key: threading.RLock()


def fifty_at_once(kind) -> int:
    def slow(text: str) -> Pcm:
        time.sleep(0.02)
        return murmur(text)

    engine = FakeEngine(render=slow)
    voice = speaker(engine, kind=kind)
    barrier = threading.Barrier(50)

    def say(_):
        barrier.wait()
        return voice.say(TEXT, "en")

    with ThreadPoolExecutor(50) as pool:
        audios = set(pool.map(say, range(50)))
    assert len(audios) == 1
    return len(engine.asked)


def test_fifty_threads_render_a_sentence_once():
    assert fifty_at_once(Speaker) == 1


@pytest.mark.parametrize("mutant", [Forgetful, NoTurns])
def test_without_the_index_or_the_turns_it_is_rendered_again_and_again(mutant):
    assert fifty_at_once(mutant) > 1


def bad_sounds() -> dict[str, Pcm]:
    good = murmur(TEXT)
    return {
        "empty": Pcm(b"", 8_000),
        "silent": Pcm(bytes(len(good.samples)), 8_000),
        "nearly silent": murmur(TEXT, amplitude=0.001),
        "short": Pcm(good.samples[:4_000], 8_000),
        "clipped": Pcm(b"\xff\x7f\x01\x80" * 10_000, 8_000),
        "no rate": Pcm(good.samples, 100),
    }


class Deaf(Speaker):
    """Takes whatever an engine gives."""

    def _listen(self, pcm, text, engine) -> None:
        pass


def spoken_by(sound: Pcm, kind=Speaker) -> str:
    return speaker(FakeEngine("bad", render=lambda _: sound), FakeEngine("good"), kind=kind).say(TEXT, "en").engine


@pytest.mark.parametrize("kind", bad_sounds())
def test_what_cannot_be_speech_counts_as_a_failure(kind):
    assert spoken_by(bad_sounds()[kind]) == "good"


@pytest.mark.parametrize("kind", bad_sounds())
def test_without_the_check_silence_would_be_an_alert(kind):
    assert spoken_by(bad_sounds()[kind], Deaf) == "bad"


def test_silence_opens_the_breaker():
    store = MemoryBreakers()
    breaker = CircuitBreaker(store, FakeTime(), SPEECH_RULE)
    voice = speaker(FakeEngine("mute", render=lambda _: Pcm(b"\0" * 50_000, 8_000)), breaker=breaker)

    voice.say(TEXT, "en")

    assert breaker.state(Operation(provider="speech", host="localhost", name="mute")) is BreakerState.OPEN


def test_processes_share_the_breaker_and_one_of_them_probes(engine):
    """Two speakers with a breaker each over one database, as two processes have them."""
    clock = FakeTime()
    dying, other = FakeEngine("neural", render=dead), FakeEngine("neural", render=dead)
    rest = FakeEngine("rest")
    voices = [
        speaker(mine, rest, breaker=CircuitBreaker(SqlBreakers(engine), clock, SPEECH_RULE, jitter=lambda: 0.5))
        for mine in (dying, other)
    ]
    voices[0].say("One.", "en")
    voices[1].say("Two.", "en")
    assert (len(dying.asked), len(other.asked)) == (1, 0)

    clock.advance(SPEECH_RULE.open_s + 0.1)
    entered, leave = threading.Event(), threading.Event()

    def hangs(text: str) -> Pcm:
        entered.set()
        leave.wait(20)
        raise EngineFailedError("still dead")

    dying.answer = hangs
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(voices[0].say, "Three.", "en")
        assert entered.wait(20)
        try:
            assert voices[1].say("Four.", "en").engine == "rest"  # without waiting for the probe
        finally:
            leave.set()
        assert probe.result().engine == "rest"
    assert (len(dying.asked), len(other.asked)) == (2, 0)


def test_the_limits_of_the_check_leave_room_for_every_voice():
    """The slowest and the fastest voice here need 0.06 to 0.11 s per character."""
    check_speech(murmur("w" * 600), "w" * 600, "test")
