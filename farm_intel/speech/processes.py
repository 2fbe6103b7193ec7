"""Running an engine that is a program: fixed arguments, text by its standard input, an end in time and in size."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess  # nosec B404 - fixed command lines, no shell
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from farm_intel.domain.errors import NotConfiguredError
from farm_intel.speech.pcm import EngineFailedError

LARGEST_BYTES = 16 * 2**20
"""Two minutes at 48 kHz, with room."""
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
"""All that a program gets to know: our environment holds credentials."""
_EXCUSE_CHARACTERS = 200
_LOOK_S = 0.1


def run(name: str, command: Sequence[str], text: str, *, timeout_s: float, largest_bytes: int = LARGEST_BYTES) -> bytes:
    """Return what a program writes to its standard output.

    Input and output are files without a name: flite goes back in its output to write the length, and writes nothing
    into a pipe; and nobody has to read while we write.

    Args:
        name: the engine, for messages.
        command: absolute path and arguments, none of which comes from the text.
        text: goes to its standard input, on one line.
        timeout_s: then it is killed with everything it started.
        largest_bytes: a larger output is an error.

    Raises:
        EngineFailedError: it failed, took too long or wrote too much.
        NotConfiguredError: it cannot be started.

    """
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as excuses:
        source.write(text.encode() + b"\n")
        source.seek(0)
        process = start(name, command, stdin=source, stdout=output, stderr=excuses)
        try:
            code = _wait(name, process, output.fileno(), timeout_s, largest_bytes)
        finally:
            end(process)
        if code != 0:
            excuses.seek(0)
            excuse = excuses.read(_EXCUSE_CHARACTERS).decode(errors="replace").strip()
            raise EngineFailedError(f"{name} ended with {code}: {excuse or 'without a word'}")
        output.seek(0)
        return output.read()


def start(name: str, command: Sequence[str], *, stdin: Any, stdout: Any, stderr: Any) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, knowing nothing of our environment.

    Raises:
        NotConfiguredError: it cannot be started.

    """
    try:
        return subprocess.Popen(  # noqa: S603  # nosec B603 - fixed arguments
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=ENVIRONMENT,
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        raise NotConfiguredError(f"{name} cannot be started: {error.strerror}", hint="Is it installed?") from error


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that still runs, with its group, and bury it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(name: str, process: subprocess.Popen[bytes], output: int, timeout_s: float, largest_bytes: int) -> int:
    """Return the exit code; looks at the output's size meanwhile.

    A limit by the kernel (RLIMIT_FSIZE) would also hit the 64 MiB that espeak-ng's sound library reserves.
    """
    until_s = time.monotonic() + timeout_s
    while True:
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(max(0.0, min(_LOOK_S, until_s - time.monotonic())))
        size = os.fstat(output).st_size
        if size > largest_bytes:
            raise EngineFailedError(f"{name} wrote {size} bytes, more than {largest_bytes}")
        if code is not None:
            return code
        if time.monotonic() >= until_s:
            raise EngineFailedError(f"{name} took longer than {timeout_s:g} s")
