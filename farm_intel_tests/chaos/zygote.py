"""A process that has imported everything and forks the programs to be killed, so that a kill costs no start.

usage: python -m farm_intel_tests.chaos.zygote (orders on standard input, one JSON object a line; one answer a line)

The programs are `pump`, which generates, works and delivers until it is killed, and the phases of one occurrence and
one delivery, which end by themselves: with 0, with TYPED where the code raised an error of its own tree, or with
UNTYPED. A phase that is held waits for SIGUSR1, so that a tracer may be attached first.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from farm_intel.activities.working import Shift
from farm_intel.domain.errors import FarmIntelError, StoreError
from farm_intel.domain.messages import SPEECH
from farm_intel.storage.database import open_database
from farm_intel.storage.outbox import SqlOutbox
from farm_intel_tests.chaos.parts import Pump, ShiftedClock, World, build

REPOSITORY = Path(__file__).parents[2]
TYPED, UNTYPED = 3, 4
_LONGEST_S = 60.0
"""A program that ends by itself has hung after this."""
_ANY_TRACER = (0x59616D61, ctypes.c_ulong(-1))  # prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a child does."""

    world: World
    phase: str
    """A key of `_PHASES`."""
    seed: int = 0
    shift_s: float = 0.0
    """How far its clock is ahead."""
    held: bool = False


class Zygote:
    """The controller's side; ends all children with itself."""

    def __init__(self, log: Path) -> None:
        """Write what children say on standard error to `log`."""
        self._log = log
        self._errors = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "farm_intel_tests.chaos.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(BrokenPipeError):
            self._process.communicate(timeout=_LONGEST_S)
        self._errors.close()

    def start(self, program: Program) -> int:
        """Fork a program and return its process id."""
        return self._ask({"verb": "start", **asdict(program)})

    def kill(self, pid: int) -> int:
        """Kill a program and return how it ended: negative is the signal."""
        return self._ask({"verb": "kill", "pid": pid})

    def wait(self, pid: int) -> int:
        """Return how a program ended that ends by itself."""
        return self._ask({"verb": "wait", "pid": pid})

    def _ask(self, order: dict[str, object]) -> int:
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the zygote has no pipes")
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError(f"the zygote died: {self._log.read_text()[-2000:]}")
        return int(answer)


# --- the programs -----------------------------------------------------------------------------------------------------


def _pump(pump: Pump, program: Program) -> None:
    """Generate, tend, work and deliver, over and over; a database that is away is waited for, as a pump does."""
    name = f"w{os.getpid()}"
    while True:
        for step in (
            pump.service.generator.run,
            pump.service.tending.run,
            lambda: pump.service.worker.run(Shift(worker=name, batch=4, batches=2, lease_s=program.world.lease_s)),
            lambda: pump.delivering.run(limit=8, deadline_s=0.5),
        ):
            try:
                step()
            except StoreError as error:
                sys.stderr.write(f"refused: {error.message[:100]!r}\n")
                time.sleep(0.05)
        time.sleep(0.005)


def _occurrence(pump: Pump, program: Program) -> None:
    """Generate, claim, work, finish."""
    pump.service.generator.run()
    pump.service.tending.run()
    pump.service.worker.run(Shift(worker="one", lease_s=program.world.lease_s))


def _delivery(pump: Pump, program: Program) -> None:
    del program
    pump.delivering.run(deadline_s=5.0)


def _voice(pump: Pump, program: Program) -> None:
    """Render the audio of what is to be spoken, and keep it."""
    del program
    for message in SqlOutbox(pump.engine).list(channel=SPEECH):
        pump.voice.say(message.new.text.spoken, message.new.text.language)


def _all(pump: Pump, program: Program) -> None:
    _occurrence(pump, program)
    _delivery(pump, program)


_PHASES: dict[str, Callable[[Pump, Program], None]] = {
    "pump": _pump,
    "occurrence": _occurrence,
    "delivery": _delivery,
    "voice": _voice,
    "all": _all,
}


def _run(program: Program) -> int:
    logging.disable(logging.ERROR)
    try:
        pump = build(program.world, ShiftedClock(program.shift_s), seed=program.seed)
        if program.held:
            signal.sigwait([signal.SIGUSR1])
        _PHASES[program.phase](pump, program)
        pump.engine.dispose()
    except FarmIntelError as error:
        sys.stderr.write(f"typed: {type(error).__name__}: {error.message[:200]}\n")
        return TYPED
    except BaseException:  # noqa: BLE001 - the edge of a process: told by its exit code, and the trace by the log
        sys.stderr.write(traceback.format_exc())
        return UNTYPED
    return 0


# --- the zygote's side ------------------------------------------------------------------------------------------------


def _fork(order: dict[str, object]) -> int:
    world = World(**order.pop("world"))  # type: ignore[arg-type]  # as `asdict` wrote it
    program = Program(world=world, **order)  # type: ignore[arg-type]  # as `asdict` wrote it
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    pid = os.fork()
    if pid == 0:
        os.dup2(2, 1)
        ctypes.CDLL(None).prctl(*_ANY_TRACER, 0, 0, 0)
        code = _run(program)
        sys.stderr.flush()
        os._exit(code)
    return pid


def _ended(pid: int) -> int:
    until = time.monotonic() + _LONGEST_S
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def main() -> None:
    """Obey until standard input ends, and end all children then."""
    for url in ("sqlite://", "postgresql://"):
        open_database(url).dispose()  # connects nowhere, but has the dialects imported before the first fork
    gc.collect()
    gc.freeze()  # else a child's first collection copies every page it shares with us
    children: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        verb = order.pop("verb")
        if verb == "start":
            answer = _fork(order)
            children.add(answer)
        else:
            if verb == "kill":
                with suppress(ProcessLookupError):
                    os.kill(order["pid"], signal.SIGKILL)
            answer = _ended(order["pid"])
            children.discard(order["pid"])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for pid in children:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
