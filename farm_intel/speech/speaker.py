"""The voice of alerts: the best engine that works, each sentence rendered once, and never silence."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import BadRequestError, FarmIntelError, ProviderDownError
from farm_intel.domain.messages import Audio
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.guard import Operation
from farm_intel.speech import tone
from farm_intel.speech.engines import Engine, espeak_ng, flite, piper
from farm_intel.speech.neural import NeuralEngine
from farm_intel.speech.normalising import normalise
from farm_intel.speech.pcm import Pcm, check_speech, to_wav

__all__ = ["SPEECH_RULE", "AudioStore", "Speaker", "default_engines"]

_LOG = logging.getLogger("farm_intel.speech")

LONGEST_CHARACTERS = 600
"""About a minute; a longer text is none for the ear."""
VOICE_SET = "1"
"""Part of every sentence's key: counted up when voices, speeds or words change, so that all is rendered anew."""
SPEECH_RULE = BreakerRule(failures=1, open_s=5.0, open_max_s=300.0, probe_lease_s=60.0)
"""One failure opens: the next engine speaks at once, so a hasty opening costs a worse voice for 5 s and no more."""

_PROVIDER = "speech"
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]{1,8})*")


class AudioStore(Protocol):
    """Where rendered audio is kept."""

    def find(self, request_hash: str) -> Audio | None:
        """Return a sentence's audio if its file is there; whoever spoke it."""
        ...

    def put(self, request_hash: str, wav: bytes, *, engine: str, language: str, duration_s: float) -> Audio:
        """Keep audio for good and return it; takes the place of what the sentence had."""
        ...

    def read(self, audio: Audio) -> bytes:
        """Return a file's content.

        Raises:
            StoreError: it is not there, or no longer what its name promises.

        """
        ...


class Speaker:
    """Implements `domain.messages.Voice`; safe to call from many threads."""

    def __init__(
        self,
        *,
        store: AudioStore,
        breaker: CircuitBreaker,
        engines: Sequence[Engine],
        names: Mapping[str, str] | None = None,
        machine: str = "localhost",
        voice_set: str = VOICE_SET,
    ) -> None:
        """Speak by the first engine that is installed, has the language and works.

        Args:
            store: where audio is kept.
            breaker: of the engines, `SPEECH_RULE`; shared by processes through its store.
            engines: best first; the tone needs no entry.
            names: how names are said, e.g. index names by `spelled`.
            machine: whose engines these are, where several machines share a database.
            voice_set: part of every sentence's key.

        """
        self._store = store
        self._breaker = breaker
        self._engines = tuple(engines)
        self._names = dict(names or {})
        self._machine = machine
        self._voice_set = voice_set
        self._turns = _Turns()

    def say(self, text: str, language: str, *, severity: Severity = Severity.WARNING) -> Audio:
        """Return the audio, rendered once per sentence, language and voice set.

        A tone stands on the record of its sentence and is never taken for it: the next time the same is to be said, the
        engines are asked again, as far as their breakers let.

        Args:
            text: 1 to 600 characters.
            language: a tag like `fr` or `en-GB`; where nothing speaks it, a tone sounds.
            severity: which melody the tone has.

        Raises:
            BadRequestError: the text is empty, too long or holds nothing that can be said; or that is no language.
            StoreError: the audio cannot be kept.

        """
        base = _base_language(language)
        said = self._said(text, base)
        request_hash = hashlib.sha256(json.dumps([said, base, self._voice_set]).encode()).hexdigest()
        with self._turns.one_at_a_time(request_hash):
            known = self._known(request_hash)
            if known is not None:
                return known
            name, pcm = self._render(said, base, severity)
            return self._store.put(
                request_hash, to_wav(pcm), engine=name, language=base, duration_s=round(pcm.duration_s, 3)
            )

    def read(self, audio: Audio) -> bytes:
        """Return its content: a WAV file, 16-bit mono.

        Raises:
            StoreError: it is not there any more, or damaged.

        """
        return self._store.read(audio)

    def close(self) -> None:
        """End the processes of engines that keep one; the next sentence starts them again."""
        for engine in self._engines:
            close: Callable[[], None] | None = getattr(engine, "close", None)
            if close is not None:
                close()

    def _listen(self, pcm: Pcm, text: str, engine: Engine) -> None:
        check_speech(pcm, text, engine.name)

    def _known(self, request_hash: str) -> Audio | None:
        audio = self._store.find(request_hash)
        return None if audio is None or audio.engine == tone.NAME else audio

    def _said(self, text: str, language: str) -> str:
        if not 1 <= len(text) <= LONGEST_CHARACTERS:
            raise BadRequestError(
                f"a text of {len(text)} characters cannot be spoken",
                hint=f"Give 1 to {LONGEST_CHARACTERS} characters.",
            )
        said = normalise(text, language, self._names)
        if not any(character.isalnum() for character in said):
            raise BadRequestError("the text holds nothing that can be said", hint="Give words or numbers.")
        return said

    def _render(self, text: str, language: str, severity: Severity) -> tuple[str, Pcm]:
        """Return who spoke and the sound; the tone when nobody can."""
        for engine in self._engines:
            if engine.speaks(language) and engine.installed():
                pcm = self._try(engine, text, language)
                if pcm is not None:
                    return engine.name, pcm
        _LOG.warning("no speech engine could speak %s; a tone sounds instead", language)
        return tone.NAME, tone.melody(severity)

    def _try(self, engine: Engine, text: str, language: str) -> Pcm | None:
        """Return an engine's speech, or None where its breaker is open or it failed."""
        operation = Operation(provider=_PROVIDER, host=self._machine, name=engine.name)
        try:
            permit = self._breaker.admit(operation)
        except ProviderDownError:
            return None
        try:
            pcm = engine.render(text, language)
            self._listen(pcm, text, engine)
        except BaseException as error:
            self._breaker.failed(permit, error)
            if not isinstance(error, FarmIntelError):
                raise
            _LOG.warning("the next speech engine is asked: %s", error)
            return None
        self._breaker.succeeded(permit)
        return pcm


def default_engines(names: Sequence[str] = ("hibari", "piper", "flite", "espeak-ng")) -> tuple[Engine, ...]:
    """Return engines by name, best first; none is started and none needs to be installed.

    Raises:
        BadRequestError: there is no such engine.

    """
    makers: Mapping[str, Callable[[], Engine]] = {
        "hibari": NeuralEngine,
        "piper": piper,
        "flite": flite,
        "espeak-ng": espeak_ng,
    }
    unknown = [name for name in names if name not in makers]
    if unknown:
        raise BadRequestError(f"there is no speech engine {unknown[0]!r}", hint=f"There are {', '.join(makers)}.")
    return tuple(makers[name]() for name in names)


class _Turns:
    """Lets one thread at a time work on the same thing; others wait and then find it done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def one_at_a_time(self, key: str) -> Iterator[None]:
        with self._lock:
            turn, users = self._waiting.get(key, (threading.Lock(), 0))
            self._waiting[key] = (turn, users + 1)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                users = self._waiting[key][1] - 1
                if users:
                    self._waiting[key] = (turn, users)
                else:
                    del self._waiting[key]


def _base_language(tag: str) -> str:
    found = _LANGUAGE.fullmatch(tag)
    if found is None:
        raise BadRequestError(f"{tag[:40]!r} is not a language", hint="Give a tag like `en`, `fr` or `sw`.")
    return found[1].lower()
