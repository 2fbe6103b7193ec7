"""The real generator, worker and deliverer over a real store, with a receiver that remembers what it was sent.

Not real are only what stands outside: dates every so many milliseconds, one subscriber, plain words, and a receiver
that is an append-only file.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from farm_intel.activities.ports import Recurrence
from farm_intel.activities.recurrence import DueTime
from farm_intel.activities.service import ActivityParts, ActivityService
from farm_intel.activities.telling import Telling
from farm_intel.activities.types import load_activity_types
from farm_intel.activities.working import Outcome, Patience, Remind
from farm_intel.domain.activities import Activity, Occurrence, Overlap, Schedule, ScheduleKind
from farm_intel.domain.alerts import Subscription
from farm_intel.domain.errors import TransientError
from farm_intel.domain.messages import STREAM, Audio, Message
from farm_intel.notifying.delivering import Delivering, DeliveryLimits
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.clock import Sleeper, SystemClock
from farm_intel.speech.speaker import SPEECH_RULE, Speaker
from farm_intel.storage.database import migrate, open_database
from farm_intel.storage.logbook import SqlLogbook
from farm_intel.storage.resilience_state import SqlBreakers
from farm_intel.storage.speech import SpeechStore
from farm_intel_tests.activities.kit import Draft, PlainRenderer
from farm_intel_tests.chaos.ledger import append_line
from farm_intel_tests.chaos.mutants import MUTANTS

RECEIVER = "receiver"
"""Name of the only channel."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Where a trial takes place; the same for all of its processes."""

    url: str
    folder: str
    """Of the receiver's file, the acknowledgements and audio."""
    mutant: str = ""
    """Which protection is missing; see `mutants.MUTANTS`."""
    lease_s: float = 300.0
    work_s: float = 0.0
    """An occurrence is worked on for up to so long."""
    slow: float = 0.0
    """Share of occurrences that take half as long again as the lease."""
    tells: bool = True
    """Acknowledged effects are written down."""
    spoken: bool = False
    """True subscribes to the stream with audio instead of the receiver."""

    @property
    def received(self) -> Path:
        return Path(self.folder) / "received"

    @property
    def acknowledged(self) -> Path:
        return Path(self.folder) / "acknowledged"


class ShiftedClock(SystemClock):
    """The machine's clock, so many seconds ahead."""

    def __init__(self, shift_s: float = 0.0) -> None:
        self._shift = timedelta(seconds=shift_s)

    def now(self) -> datetime:
        return super().now() + self._shift


class EveryMilliseconds:
    """Dates every `text` milliseconds from the start on, by a closed formula; implements `ports.Recurrence`."""

    def check_schedule(self, schedule: Schedule) -> None:
        int(schedule.text)

    def due_between(self, schedule: Schedule, after: datetime, until: datetime, *, limit: int) -> Iterator[DueTime]:
        step = timedelta(milliseconds=int(schedule.text))
        start = schedule.start.replace(tzinfo=UTC)
        end = until if schedule.until is None else min(until, schedule.until.replace(tzinfo=UTC))
        number = max(0, (after - start) // step + 1)
        for _ in range(limit):
            due_at = start + number * step
            if due_at > end:
                return
            yield DueTime(due_at=due_at, local_date=due_at.date(), local_time=f"{due_at:%H:%M}")
            number += 1

    def next_due(self, schedule: Schedule, after: datetime) -> DueTime | None:
        return next(self.due_between(schedule, after, datetime(2100, 1, 1, tzinfo=UTC), limit=1), None)


def every_ms(step_ms: int, start: datetime, times: int) -> Schedule:
    """Return `times` dates, the first of them at `start`."""
    last = start + (times - 1) * timedelta(milliseconds=step_ms)
    return Schedule(
        kind=ScheduleKind.CRON,
        text=str(step_ms),
        start=start.replace(tzinfo=None),
        time_zone="UTC",
        until=last.replace(tzinfo=None),
    )


def draft(schedule: Schedule, number: int) -> Draft:
    """Return a plan all of whose dates are to be done, however often their workers are killed."""
    return Draft(
        farm_id=f"farm-{number}",
        title=f"Water field {number}",
        schedule=schedule,
        overlap=Overlap.ALLOW_ALL,
        max_attempts=20,
    )


class FileReceiver:
    """Remembers the id and the subject of every message; implements notifying.ports.HostedChannel."""

    name = RECEIVER
    attaches_audio = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def host(self, message: Message) -> str:
        del message
        return "file"

    def send(self, message: Message, audio: Audio | None, audio_bytes: bytes | None) -> str:
        del audio, audio_bytes
        try:
            append_line(self._path, f"{message.message_id} {message.new.subject}")
        except OSError as error:
            raise TransientError(f"the receiver refused: {error.strerror}") from error
        return "written"


class TakesTime:
    """The real reminder, after some time of work: now and then more than its lease."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._dice = random.Random(seed)

    def handle(self, occurrence: Occurrence, plan: Activity) -> Outcome:
        slow = self._dice.random() < self._world.slow
        time.sleep(1.5 * self._world.lease_s if slow else self._dice.random() * self._world.work_s)
        return Remind().handle(occurrence, plan)


_MIGRATING = threading.Lock()  # Alembic keeps the migration under way in module globals; trials run in threads


def open_migrated(url: str, mutant: str = "") -> Engine:
    """Return a database with its schema; without what the mutant's has not."""
    engine = open_database(url)
    with _MIGRATING:
        migrate(engine)
    MUTANTS[mutant].prepare(engine)
    return engine


@dataclass(frozen=True)
class Pump:
    """What a process of a pump has."""

    engine: Engine
    service: ActivityService
    delivering: Delivering
    voice: Speaker


def build(world: World, clock: Sleeper | None = None, *, seed: int = 0, recurrence: Recurrence | None = None) -> Pump:
    """Put the real parts together; a mutant replaces the part whose protection it lacks.

    Args:
        world: where.
        clock: of everything.
        seed: of the times that work takes.
        recurrence: dates; by milliseconds unless something else is given.

    """
    clock = clock or SystemClock()
    engine = open_database(world.url)
    mutant = MUTANTS[world.mutant]
    occurrences = mutant.occurrences(engine, writer=mutant.writer())
    occurrences.path = world.acknowledged if world.tells else None
    channel = STREAM if world.spoken else RECEIVER
    person = Subscription(
        subscription_id="s-1", user_id="amina", channel=channel, address="somewhere", speak=world.spoken
    )
    service = ActivityService(
        ActivityParts(
            plans=mutant.plans(engine, writer=mutant.writer()),
            occurrences=occurrences,
            logbook=SqlLogbook(engine),
            recurrence=recurrence or EveryMilliseconds(),
            forms=load_activity_types(),
            telling=Telling(subscriptions=lambda _farm: [person], renderer=PlainRenderer()),
            clock=clock,
        ),
        handlers={"irrigation": TakesTime(world, seed)} if world.work_s or world.slow else None,
        patience=Patience(first_s=0.1),
    )
    speech = CircuitBreaker(SqlBreakers(engine), clock, SPEECH_RULE)
    voice = Speaker(store=SpeechStore(Path(world.folder) / "audio", engine, clock), breaker=speech, engines=())
    delivering = Delivering(
        mutant.outbox(engine),
        [FileReceiver(world.received)],
        voice if world.spoken else None,
        breaker=CircuitBreaker(SqlBreakers(engine), clock, BreakerRule()),
        clock=clock,
        limits=DeliveryLimits(longest_send_s=0.5),
    )
    return Pump(engine, service, delivering, voice)
