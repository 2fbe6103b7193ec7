"""Every system call that writes, of one occurrence and one delivery: killed there, and failed there, one by one.

A warm process forks the program, which waits; `strace` takes hold of it and is told to kill it inside of the N-th call
of a kind, or to let that call fail. Afterwards the same program runs again, untouched and an hour later, then all of
the way; and at every stop the database is looked at. Method: SQLite's crash and I/O-error tests (sqlite.org/testing).
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, text

from farm_intel.storage.database import open_database, reading
from farm_intel_tests.chaos.parts import World, build, draft, every_ms, open_migrated
from farm_intel_tests.chaos.zygote import TYPED, Program, Zygote

CALLS = ("write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate")
ERRORS = ("EIO", "ENOSPC")
LANES = ("occurrence", "delivery", "speech", "voice")
"""`speech` is the delivery of an audio: its file is written, flushed and renamed before its row. strace counts calls by
thread, and the voice has its own, so that its calls would hide behind the main thread's: `voice` strikes them alone."""
_PHASES = {"occurrence": "occurrence", "delivery": "delivery", "speech": "delivery", "voice": "voice"}

_LATER_S = 3600.0
"""Between a run and the next: longer than leases and the first back-offs."""
_DUE_IN_S = 600.0
_ATTACHED = re.compile(r"Process \d+ attached")


@dataclass(frozen=True, order=True)
class Point:
    """One system call of a run."""

    lane: str
    call: str
    when: int
    error: str = ""
    """Empty where the process is killed there."""

    def __str__(self) -> str:
        return f"{self.lane}: {self.call} {self.when} {self.error or 'SIGKILL'}"


@dataclass
class PointsVerdict:
    """What came of all points."""

    points: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How many, by lane, call and what struck (`SIGKILL` or an error)."""
    struck: int = 0
    """Runs that did not go to their end: killed, or ended by a typed error."""
    typed: int = 0
    repeated: int = 0
    """Deliveries of an id that the receiver had."""
    violations: list[str] = field(default_factory=list)

    def add(self, other: PointsVerdict) -> None:
        """Take in the verdict of another lane."""
        self.points += other.points
        self.struck += other.struck
        self.typed += other.typed
        self.repeated += other.repeated
        self.violations += other.violations

    def count(self, struck: str) -> int:
        """Return how many points were struck by a signal or an error."""
        return sum(number for (_, _, what), number in self.points.items() if what == struck)


def can_trace() -> bool:
    """Return whether there is a strace that may take hold of a process."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return done.returncode == 0


def run_points(
    folder: Path, *, mutant: str = "", lanes: Sequence[str] = LANES, errors: Sequence[str] = ERRORS, at_once: int = 2
) -> PointsVerdict:
    """Strike at each point of each lane, `at_once` lanes at a time; of a mutant's only until a violation is found."""
    verdict = PointsVerdict()
    with ThreadPoolExecutor(at_once) as pool:
        for found in pool.map(lambda lane: _run_lane(folder / lane, lane, mutant, errors), lanes):
            verdict.add(found)
    return verdict


def _run_lane(folder: Path, lane: str, mutant: str, errors: Sequence[str]) -> PointsVerdict:
    verdict = PointsVerdict()
    folder.mkdir()
    with Zygote(folder / "log") as zygote:
        trial = _Lane(folder, lane, mutant, zygote)
        points = [Point(lane, call, when) for call, most in trial.calls() for when in range(1, most + 1)]
        for point in points + [replace(point, error=error) for error in errors for point in points]:
            verdict.points[lane, point.call, point.error or "SIGKILL"] += 1
            verdict.violations += [f"{point}: {what}" for what in trial.strike(point, verdict)]
            if mutant and verdict.violations:
                break
    return verdict


class _Lane:
    """One program, and the store as it is before it."""

    def __init__(self, folder: Path, lane: str, mutant: str, zygote: Zygote) -> None:
        self._folder, self._zygote = folder, zygote
        self._phase = _PHASES[lane]
        self._template = folder / "template"
        self._template.mkdir(parents=True)
        self._world = World(url="", folder="", mutant=mutant, spoken=lane in {"speech", "voice"}, tells=False)
        world = self._at(self._template)
        open_migrated(world.url, mutant).dispose()
        pump = build(world)
        due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=_DUE_IN_S)
        plan = pump.service.plans.create(draft(every_ms(1000, due_at, 1), 0), by="chaos")
        self._subject = f"occurrence:{plan.activity_id}:{due_at.isoformat()}"
        pump.engine.dispose()
        self._now_s = _DUE_IN_S + 1
        if self._phase != "occurrence":
            self._whole(world, "occurrence", self._now_s)

    def calls(self) -> Iterator[tuple[str, int]]:
        """Yield how often each call is made by the thread that makes it most often: strace counts per thread."""
        world = self._fresh()
        log = self._folder / "trace"
        pid = self._held(world)
        self._traced(pid, "-e", f"trace={','.join(CALLS)}", "-o", str(log))
        found = Counter(
            (line.split()[0], match[1])
            for line in log.read_text(errors="replace").splitlines()
            if (match := re.match(r"\d+ +(\w+)\(", line))
        )
        for call in CALLS:
            threads = [count for (_, name), count in found.items() if name == call]
            if threads:
                yield call, max(threads)

    def strike(self, point: Point, verdict: PointsVerdict) -> list[str]:
        """Strike once, recover, and return what is wrong."""
        world = self._fresh()
        how = f"error={point.error}" if point.error else "signal=KILL"
        pid = self._held(world)
        ended = self._traced(
            pid, "-e", f"trace={point.call}", "-e", f"inject={point.call}:{how}:when={point.when}", "-o", "/dev/null"
        )
        wrong: list[str] = []
        if point.error:
            wrong += [f"ended with {ended}, no error of ours"] if ended not in {0, TYPED} else []
        elif ended != -signal.SIGKILL:
            wrong.append(f"was not killed, but ended with {ended}")
        verdict.struck += ended != 0
        verdict.typed += ended == TYPED
        wrong += [f"after it: {what}" for what in self._look(world)]
        # the program again; then all of the way, which must change nothing twice
        wrong += self._whole(world, self._phase, self._now_s + _LATER_S)
        wrong += self._whole(world, "all", self._now_s + 2 * _LATER_S)
        wrong += [f"in the end: {what}" for what in [*self._look(world), *self._end(world, verdict)]]
        return wrong

    def _at(self, folder: Path) -> World:
        return replace(self._world, url=f"sqlite:///{folder}/store.db", folder=str(folder))

    def _fresh(self) -> World:
        folder = self._folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._template, folder)
        return self._at(folder)

    def _held(self, world: World) -> int:
        return self._zygote.start(Program(world=world, phase=self._phase, shift_s=self._now_s, held=True))

    def _traced(self, pid: int, *options: str) -> int:
        """Let a held program go under strace; return how it ended."""
        with subprocess.Popen(["strace", "-f", "-p", str(pid), *options], stderr=subprocess.PIPE, text=True) as strace:
            if strace.stderr is None:
                raise AssertionError("strace has no standard error")
            line = strace.stderr.readline()
            if not _ATTACHED.search(line):
                self._zygote.kill(pid)
                raise AssertionError(f"strace cannot take hold: {line}")
            subprocess.run(["kill", "-USR1", str(pid)], check=True)
            ended = self._zygote.wait(pid)
            strace.stderr.read()
        return ended

    def _whole(self, world: World, phase: str, shift_s: float) -> list[str]:
        ended = self._zygote.wait(self._zygote.start(Program(world=world, phase=phase, shift_s=shift_s)))
        return [f"{phase} after it ended with {ended}"] if ended else []

    def _look(self, world: World) -> list[str]:
        """Return what is half written: state, effect, message and mark have to be of one moment."""
        engine = open_database(world.url)
        with reading(engine) as connection:
            wrong = list(_half_written(connection))
        engine.dispose()
        return wrong

    def _end(self, world: World, verdict: PointsVerdict) -> Iterator[str]:
        """Yield what is missing or double once everything has run to its end."""
        engine = open_database(world.url)
        with reading(engine) as connection:
            states = list(connection.scalars(text("SELECT state FROM occurrences")))
            messages = list(connection.scalars(text("SELECT state FROM outbox")))
            events = Counter(connection.scalars(text("SELECT kind FROM stream_events")))
            audio = list(connection.scalars(text("SELECT path FROM speech")))
        engine.dispose()
        if states != ["done"]:
            yield f"occurrences are {states}"
        if messages != ["sent"]:
            yield f"messages are {messages}"
        if self._world.spoken:
            if events != {"message": 1, "audio": 1}:
                yield f"the stream has {dict(events)}"
            if [path for path in audio if not (Path(world.folder) / "audio" / path).is_file()] or len(audio) != 1:
                yield f"audio is {audio}"
            return
        received = [line.split() for line in world.received.read_text().splitlines()] if world.received.exists() else []
        if not received:
            yield "nothing arrived"
        if len({tuple(line) for line in received}) > 1 or any(line[1:] != [self._subject] for line in received):
            yield f"other ids arrived: {received}"
        verdict.repeated += len(received) - 1


def _half_written(connection: Connection) -> Iterator[str]:
    if connection.scalar(text("PRAGMA integrity_check")) != "ok":
        yield "the database is damaged"
    states = list(connection.scalars(text("SELECT state FROM occurrences")))
    lines = connection.scalar(text("SELECT count(*) FROM logbook"))
    told = connection.scalar(text("SELECT count(*) FROM outbox")) or connection.scalar(
        text("SELECT count(*) FROM stream_events WHERE kind = 'message'")
    )
    passed = connection.scalar(text("SELECT count(*) FROM activities WHERE next_due IS NULL"))
    unfinished = connection.scalar(
        text("SELECT count(*) FROM occurrences WHERE (state = 'running') <> (lease_until IS NOT NULL)")
    )
    if states not in ([], ["due"], ["running"], ["done"]):
        yield f"occurrences are {states}"
    if len(states) != passed:
        yield f"the mark is {'past' if passed else 'before'} the date and there are {len(states)} rows"
    if lines != (states == ["done"]):
        yield f"the occurrence is {states} and has {lines} lines in the logbook"
    if bool(told) != (states == ["done"]):
        yield f"the occurrence is {states} and has {told} messages"
    if unfinished:
        yield f"the occurrence is {states}, which does not go with its lease"
