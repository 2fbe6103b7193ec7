"""The neural voice hibari, in a child process that stays: loaded once, and killed when it hangs.

A thread that hangs inside onnxruntime cannot be ended and a crash there takes the whole process along; a child can be
killed, and its memory (260 MiB) is given back by `close`.
"""

from __future__ import annotations

import importlib.util
import os
import selectors
import struct
import subprocess  # nosec B404 - our own child
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from farm_intel.domain.errors import NotConfiguredError
from farm_intel.speech.pcm import EngineFailedError, Pcm
from farm_intel.speech.processes import LARGEST_BYTES, end, start

_CHILD = (sys.executable, "-P", str(Path(__file__).with_name("neural_child.py")))
_READ_BYTES = 1 << 16


class NeuralEngine:
    """Implements `Engine` by hibari, English only; safe to call from many threads, one of which speaks at a time."""

    name = "hibari"

    def __init__(self, *, timeout_s: float = 20.0, package: str = "hibari", command: Sequence[str] = _CHILD) -> None:
        """Start nothing yet.

        Args:
            timeout_s: for one text, the loading of the voice included; then the child is killed.
            package: must be installed for the engine to be there.
            command: the child that speaks the protocol of `neural_child`.

        """
        self._timeout_s = timeout_s
        self._package = package
        self._command = tuple(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def child_pid(self) -> int | None:
        """Process id of the child, None where none runs."""
        child = self._child
        return None if child is None or child.poll() is not None else child.pid

    def installed(self) -> bool:
        """Return whether the package is here, without importing it."""
        return importlib.util.find_spec(self._package) is not None

    def speaks(self, language: str) -> bool:
        """Return whether it has a voice for a language."""
        return language == "en"

    def render(self, text: str, language: str) -> Pcm:  # noqa: ARG002 - the interface's
        """Return the text, spoken.

        Raises:
            EngineFailedError: the voice cannot be loaded, failed, crashed or hung.
            NotConfiguredError: it is not installed.

        """
        if not self.installed():
            raise NotConfiguredError(
                "the speech engine hibari is not installed", hint="Install `farm-intel[speech]` for a neural voice."
            )
        with self._lock:
            child = self._running()
            try:
                return self._ask(child, text)
            except (OSError, EngineFailedError) as error:
                self._end()
                if isinstance(error, EngineFailedError):
                    raise
                raise EngineFailedError(f"hibari's process is gone: {error.strerror}") from error
            except BaseException:
                self._end()  # an answer that nobody waits for would be taken for the next text's
                raise

    def close(self) -> None:
        """End the child; the next text starts another."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._end()
            with tempfile.TemporaryFile() as nowhere:
                self._child = start(
                    self.name, self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=nowhere
                )
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        end(child)
        for pipe in (child.stdin, child.stdout):
            _close(pipe)

    def _ask(self, child: subprocess.Popen[bytes], text: str) -> Pcm:
        until_s = time.monotonic() + self._timeout_s
        question = text.encode()
        if child.stdin is None or child.stdout is None:
            raise EngineFailedError("hibari's process has no pipes")
        child.stdin.write(struct.pack(">I", len(question)) + question)
        child.stdin.flush()
        rate_hz, size = struct.unpack(">II", self._receive(child.stdout, 8, until_s))
        if size > LARGEST_BYTES:
            raise EngineFailedError(f"hibari announced {size} bytes, more than {LARGEST_BYTES}")
        body = self._receive(child.stdout, size, until_s)
        if rate_hz == 0:
            raise EngineFailedError(f"hibari failed: {body.decode(errors='replace')}")
        return Pcm(body, rate_hz)

    def _receive(self, pipe: IO[bytes], size: int, until_s: float) -> bytes:
        parts = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while len(parts) < size:
                if not selector.select(max(0.0, until_s - time.monotonic())):
                    raise EngineFailedError(f"hibari took longer than {self._timeout_s:.0f} s")
                part = os.read(pipe.fileno(), min(size - len(parts), _READ_BYTES))
                if not part:
                    raise EngineFailedError("hibari's process ended in the middle of an answer")
                parts += part
        return bytes(parts)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is None:
        return
    try:
        pipe.close()
    except OSError:  # it had bytes left for a child that is gone
        return
