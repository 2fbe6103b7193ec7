"""How fast due occurrences become rows, are claimed and finished with their messages, and are delivered.

usage: python -m benchmarks.activities [--occurrences N] [--write] [--profile]

The real generator, worker, outbox and deliverer, on an empty database on this machine's disk; one subscriber, so one
message and one line of the logbook per occurrence. Each row is a process of its own, so that its memory is its own.
Exits with 1 where SQLite in one process stays below the goal.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import multiprocessing
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from sqlalchemy import func, select

from farm_intel.activities.recurrence import check_schedule, due_between, next_due
from farm_intel.activities.service import ActivityParts, ActivityService
from farm_intel.activities.telling import Telling
from farm_intel.activities.types import load_activity_types
from farm_intel.activities.working import Shift
from farm_intel.domain.activities import Overlap, Schedule, ScheduleKind
from farm_intel.domain.alerts import Subscription
from farm_intel.domain.messages import Audio, Message
from farm_intel.notifying.delivering import Delivering
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.clock import SystemClock
from farm_intel.storage.activities import SqlActivityStore
from farm_intel.storage.activity_tables import logbook, occurrences
from farm_intel.storage.database import migrate, open_database, reading
from farm_intel.storage.logbook import SqlLogbook
from farm_intel.storage.message_tables import outbox
from farm_intel.storage.occurrences import SqlOccurrenceStore
from farm_intel.storage.outbox import SqlOutbox
from farm_intel.storage.resilience_state import SqlBreakers
from farm_intel_tests.activities.kit import Draft, PlainRenderer
from farm_intel_tests.support.postgres import private_cluster

GOAL_PER_S = 200.0
_GOAL_ROWS = ("SQLite", 1, "claim and finish")
MOST_DATES = 10
"""Dates of a plan; the plans fall due hourly, so it is also how many hours have passed."""
RESULTS = Path(__file__).with_name("results") / "activities.md"
_START = datetime(2026, 6, 30, 5, 30, tzinfo=UTC)
_BETWEEN_STEPS = timedelta(minutes=8)
"""Each step's process starts its clock so much later than the one before; all of them before the next full hour."""


class Recurrence:
    """The real dates; implements activities.ports.Recurrence."""

    check_schedule = staticmethod(check_schedule)
    due_between = staticmethod(due_between)
    next_due = staticmethod(next_due)


class SteppedClock(SystemClock):
    """Starts at an instant of ours and goes on from there as the machine's does."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self._shift = _START + ahead - datetime.now(UTC)

    def now(self) -> datetime:
        return super().now() + self._shift


class NoChannel:
    """Takes every message and does nothing with it; implements notifying.ports.HostedChannel."""

    name = "email"
    attaches_audio = False

    def host(self, message: Message) -> str:
        del message
        return "nowhere"

    def send(self, message: Message, audio: Audio | None, audio_bytes: bytes | None) -> str:
        del message, audio, audio_bytes
        return "ok"


@dataclass(frozen=True)
class Shape:
    """What is due."""

    count: int
    dates: int = MOST_DATES
    overlap: Overlap = Overlap.ALLOW_ALL
    processes: int = 1

    @property
    def plans(self) -> int:
        return self.count // self.dates

    def __str__(self) -> str:
        return f"{self.plans:,} plans x {self.dates}, {self.overlap.value}"


@dataclass(frozen=True)
class Rate:
    """One row of the table."""

    database: str
    shape: str
    processes: int
    step: str
    done: int
    seconds: float
    cpu_s: float
    peak_mb: float

    @property
    def per_s(self) -> float:
        return self.done / self.seconds


def _service(url: str, clock: SystemClock) -> tuple[ActivityService, Delivering]:
    engine = open_database(url)
    person = Subscription(subscription_id="s-1", user_id="amina", channel="email", address="amina@example.org")
    service = ActivityService(
        ActivityParts(
            plans=SqlActivityStore(engine),
            occurrences=SqlOccurrenceStore(engine),
            logbook=SqlLogbook(engine),
            recurrence=Recurrence(),
            forms=load_activity_types(),
            telling=Telling(subscriptions=lambda _farm: [person], renderer=PlainRenderer()),
            clock=clock,
        )
    )
    breaker = CircuitBreaker(SqlBreakers(engine), clock, BreakerRule())
    return service, Delivering(SqlOutbox(engine), [NoChannel()], None, breaker=breaker, clock=clock)


def prepare(url: str, shape: Shape) -> None:
    """Make plans that have so many dates each, hour by hour."""
    engine = open_database(url)
    migrate(engine)
    engine.dispose()
    service, _ = _service(url, SteppedClock())
    schedule = Schedule(
        kind=ScheduleKind.CRON,
        text="0 * * * *",
        start=_START.replace(tzinfo=None) + timedelta(hours=MOST_DATES - shape.dates),
        time_zone="UTC",
    )
    for number in range(shape.plans):
        draft = Draft(farm_id=f"farm-{number % 250}", title=f"Water {number}", schedule=schedule, overlap=shape.overlap)
        service.plans.create(draft, by="bench")


def _step(step: str, ahead: timedelta, url: str, pipe: Connection, profile: str) -> None:
    """Do one step to its end in this process, and tell how it went."""
    service, delivering = _service(url, SteppedClock(ahead))
    steps = {
        "generate": lambda: service.generator.run().rows,
        "claim and finish": lambda: sum(service.worker.run(Shift(worker="bench")).ended.values()),
        "deliver": lambda: delivering.run(limit=1_000_000, deadline_s=600).sent,
    }
    pipe.recv()
    began, cpu = time.perf_counter(), time.process_time()
    with _profiled(profile):
        done = steps[step]()
    pipe.send((done, began, time.perf_counter(), time.process_time() - cpu, _peak_mb()))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def _profiled(path: str) -> Iterator[None]:
    if not path:
        yield
        return
    with cProfile.Profile() as found:
        yield
    found.dump_stats(path)


def measure(database: str, url: str, shape: Shape, profile: str = "") -> Iterator[Rate]:
    """Yield the rate of each step; all processes begin a step together."""
    prepare(url, shape)
    spawn = multiprocessing.get_context("spawn")
    for number, step in enumerate(("generate", "claim and finish", "deliver")):
        pipes, children = [], []
        for _ in range(shape.processes):
            ours, theirs = spawn.Pipe()
            path = f"{profile}.{number}" if profile else ""
            ahead = timedelta(hours=MOST_DATES) + number * _BETWEEN_STEPS
            children.append(spawn.Process(target=_step, args=(step, ahead, url, theirs, path)))
            pipes.append(ours)
            children[-1].start()
        for pipe in pipes:
            pipe.send("go")
        found = [pipe.recv() for pipe in pipes]
        for child in children:
            child.join()
        yield Rate(
            database=database,
            shape=str(shape),
            processes=shape.processes,
            step=step,
            done=sum(row[0] for row in found),
            seconds=max(row[2] for row in found) - min(row[1] for row in found),
            cpu_s=sum(row[3] for row in found),
            peak_mb=max(row[4] for row in found),
        )
    _check(url, shape.count)


def _check(url: str, count: int) -> None:
    """A rate of work that was not done, or done twice, is none."""
    engine = open_database(url)
    with reading(engine) as connection:
        found = [
            connection.scalar(query)
            for query in (
                select(func.count()).select_from(occurrences).where(occurrences.c.state == "done"),
                select(func.count()).select_from(logbook),
                select(func.count()).select_from(outbox).where(outbox.c.state == "sent"),
            )
        ]
    engine.dispose()
    if found != [count] * 3:
        raise AssertionError(f"done, logged, sent: {found} of {count}")


def run(count: int, profile: str) -> list[Rate]:
    rates: list[Rate] = []
    shapes = (Shape(count), Shape(count, dates=1, overlap=Overlap.SKIP), Shape(count, processes=2))
    with tempfile.TemporaryDirectory(prefix="farm-intel-bench-") as folder:
        for number, shape in enumerate(shapes):
            rates += _told(measure("SQLite", f"sqlite:///{folder}/{number}.db", shape, "" if number else profile))
    try:
        with private_cluster() as cluster:
            for number, shape in enumerate(shapes):
                cluster.create(f"bench{number}")
                rates += _told(measure("PostgreSQL", cluster.url(f"bench{number}"), shape))
    except pytest.skip.Exception as absent:
        print(f"PostgreSQL is left out: {absent}", file=sys.stderr)
    return rates


def _told(rates: Iterator[Rate]) -> Iterator[Rate]:
    for rate in rates:
        print(json.dumps(asdict(rate) | {"per_s": round(rate.per_s)}), file=sys.stderr, flush=True)
        yield rate


def page(rates: list[Rate], count: int) -> str:
    lines = [
        "# Activities: how fast",
        "",
        (
            f"{count:,} due occurrences, each with one message and one line of the logbook; the real code and"
            " databases, an empty channel."
        ),
        "PostgreSQL runs without fsync, as the tests' own; SQLite with `synchronous=NORMAL`, as installed.",
        (
            "Written by `python -m benchmarks.activities --write`. The machine is shared: seconds of CPU are the better"
            " measure."
        ),
        "",
        "| database | due | processes | step | done | per second | CPU ms each | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {rate.database} | {rate.shape} | {rate.processes} | {rate.step} | {rate.done} | {rate.per_s:.0f} |"
        f" {1000 * rate.cpu_s / rate.done:.2f} | {rate.peak_mb:.0f} |"
        for rate in rates
    ]
    goal = _goal(rates)
    verdict = "pass" if goal >= GOAL_PER_S else "**FAIL**"
    lines += ["", f"Goal: claimed and finished at ≥ {GOAL_PER_S:.0f} per second on SQLite: {goal:.0f}, {verdict}.", ""]
    return "\n".join(lines)


def _goal(rates: list[Rate]) -> float:
    """Return the lowest rate of SQLite in one process."""
    return min(rate.per_s for rate in rates if (rate.database, rate.processes, rate.step) == _GOAL_ROWS)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure activities.")
    parser.add_argument("--occurrences", type=int, default=10_000)
    parser.add_argument("--write", action="store_true", help="also write benchmarks/results/activities.md")
    parser.add_argument("--profile", action="store_true", help="print where SQLite in one process spends its time")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        profile = f"{folder}/profile" if asked.profile else ""
        rates = run(asked.occurrences, profile)
        for number in range(3) if profile else ():
            pstats.Stats(f"{profile}.{number}").sort_stats("cumulative").print_stats(45)
    text = page(rates, asked.occurrences)
    print(text)
    if asked.write:
        RESULTS.write_text(text)
    return 0 if _goal(rates) >= GOAL_PER_S else 1


if __name__ == "__main__":
    sys.exit(main())
