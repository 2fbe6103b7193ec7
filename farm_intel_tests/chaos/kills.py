"""The kill loop: processes that generate, work and deliver die at random moments, and nothing is lost or done twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, text

from farm_intel.storage.database import reading
from farm_intel_tests.chaos.parts import World, build, draft, every_ms, open_migrated
from farm_intel_tests.chaos.zygote import Program, Zygote

STEP_MS = 500
_SIGKILLED = -9


@dataclass(frozen=True, kw_only=True)
class KillTrial:
    """What is tried."""

    url: str
    folder: str
    mutant: str = ""
    kills: int = 200
    activities: int = 20
    each: int = 40
    processes: int = 3
    seed: int = 3
    slow: float = 0.02
    stalled_s: float = 6.0
    """Nothing more is expected when nothing has changed for so long after the last kill."""

    @property
    def world(self) -> World:
        return World(url=self.url, folder=self.folder, mutant=self.mutant, lease_s=0.6, work_s=0.01, slow=self.slow)

    @property
    def expected(self) -> int:
        return self.activities * self.each

    @property
    def duration_s(self) -> float:
        """How long things keep falling due."""
        return self.each * STEP_MS / 1000


@dataclass
class Verdict:
    """What came of it, counted from the database and the receiver's file."""

    expected: int
    kills: int = 0
    executed: int = 0
    lost: int = 0
    """Without a row, not done, or done without its line in the logbook."""
    unexpected: int = 0
    """Rows of dates that no schedule has."""
    doubled: int = 0
    """Lines of the logbook and messages beyond one each."""
    acknowledged_lost: int = 0
    """Effects the database acknowledged and does not have, or acknowledged anew because it had lost them."""
    untold: int = 0
    """Effects without their row in the outbox."""
    undelivered: int = 0
    """Occurrences of which nothing arrived."""
    deliveries: int = 0
    repeated: int = 0
    """Deliveries of an id that the receiver had: it drops them."""
    retaken: int = 0
    """Occurrences that more than one worker took on: kills and slow workers struck while somebody had them."""
    resent: int = 0
    """Messages that more than one deliverer took on."""
    states: dict[str, int] = field(default_factory=dict)
    fallen: int = 0
    """Processes that ended otherwise than by our kills."""
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        """Everything that must not be."""
        return (
            self.lost
            + self.unexpected
            + self.doubled
            + self.acknowledged_lost
            + self.untold
            + self.undelivered
            + self.fallen
        )


def run_trial(trial: KillTrial) -> Verdict:
    """Kill, let it come to rest, and judge."""
    began = time.monotonic()
    engine = open_migrated(trial.url, trial.mutant)
    with Zygote(Path(trial.folder) / "log") as zygote:
        expected = plant(trial)
        killed = _kill_at_random(trial, zygote, engine)
    verdict = judge(engine, trial.world, expected)
    verdict.kills, verdict.fallen = killed[_SIGKILLED], sum(killed.values()) - killed[_SIGKILLED]
    verdict.seconds = time.monotonic() - began
    engine.dispose()
    return verdict


def plant(trial: KillTrial) -> set[tuple[str, datetime]]:
    """Make the plans; return what falls due of them, by the closed formula."""
    pump = build(trial.world)
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    step = timedelta(milliseconds=STEP_MS)
    expected: set[tuple[str, datetime]] = set()
    for number in range(trial.activities):
        first = start + number * step / trial.activities
        plan = pump.service.plans.create(draft(every_ms(STEP_MS, first, trial.each), number), by="chaos")
        expected |= {(plan.activity_id, first + count * step) for count in range(trial.each)}
    pump.engine.dispose()
    return expected


def _kill_at_random(trial: KillTrial, zygote: Zygote, engine: Engine) -> Counter[int]:
    """Spread the kills over the time in which things fall due, and a little more; return how the processes ended."""
    dice = random.Random(trial.seed)
    longest_s = 2 * (trial.duration_s + 2) / trial.kills
    seeds = iter(range(10_000))

    def start() -> int:
        return zygote.start(Program(world=trial.world, phase="pump", seed=next(seeds)))

    children = [start() for _ in range(trial.processes)]
    ended: Counter[int] = Counter()
    for _ in range(trial.kills):
        time.sleep(dice.random() * longest_s)
        which = dice.randrange(trial.processes)
        ended[zygote.kill(children[which])] += 1
        children[which] = start()
    settle(trial, engine)
    for child in children:
        status = zygote.kill(child)
        ended[status] += status != _SIGKILLED
    return ended


def settle(trial: KillTrial, engine: Engine) -> None:
    """Wait until everything is done and sent, or nothing changes any more."""
    changed = time.monotonic()
    last: object = None
    while time.monotonic() - changed < trial.stalled_s:
        time.sleep(0.1)
        with reading(engine) as connection:
            done = connection.scalar(text("SELECT count(*) FROM occurrences WHERE state = 'done'"))
            sent = connection.scalar(text("SELECT count(*) FROM outbox WHERE state = 'sent'"))
            more = connection.scalar(text("SELECT count(*) FROM outbox WHERE state <> 'sent'"))
        if done == trial.expected and not more:
            return
        if (done, sent) != last:
            last, changed = (done, sent), time.monotonic()


def judge(engine: Engine, world: World, expected: set[tuple[str, datetime]]) -> Verdict:
    """Compare what there is with what fell due, by plain SQL and the receiver's file."""
    with reading(engine) as connection:
        rows = {
            (row.activity_id, _instant(row.due_at)): row
            for row in connection.execute(text("SELECT activity_id, due_at, state, attempt FROM occurrences"))
        }
        lines = Counter(
            (row.activity_id, _instant(row.due_at))
            for row in connection.execute(text("SELECT activity_id, due_at FROM logbook"))
        )
        outbox = list(connection.execute(text("SELECT message_id, subject, attempt FROM outbox")))
    received = [line.split() for line in _lines(world.received)]
    acknowledged = [(name, datetime.fromisoformat(due)) for name, due in map(str.split, _lines(world.acknowledged))]
    executed = {key for key, row in rows.items() if row.state == "done" and lines[key]}
    subjects = {f"occurrence:{name}:{due.isoformat()}" for name, due in expected}
    ids: dict[str, set[str]] = {}
    for message_id, subject in [(row.message_id, row.subject) for row in outbox] + [(i, s) for i, s in received]:
        ids.setdefault(subject, set()).add(message_id)
    verdict = Verdict(
        expected=len(expected),
        executed=len(executed & expected),
        lost=len(expected - executed),
        unexpected=len(set(rows) - expected),
        doubled=sum(count - 1 for count in lines.values()) + sum(len(found) - 1 for found in ids.values()),
        acknowledged_lost=len(set(acknowledged) - set(lines)) + len(acknowledged) - len(set(acknowledged)),
        deliveries=len(received),
        repeated=len(received) - len({message_id for message_id, _ in received}),
        undelivered=len(subjects - {subject for _, subject in received}),
        retaken=sum(row.attempt > 1 for row in rows.values()),
        resent=sum(row.attempt > 1 for row in outbox),
        states=dict(Counter(row.state for row in rows.values())),
    )
    told = {row.subject for row in outbox}
    verdict.untold = sum(f"occurrence:{name}:{due.isoformat()}" not in told for name, due in lines)
    return verdict


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _instant(value: datetime | str) -> datetime:
    """SQLite gives text without an offset, PostgreSQL an instant; both mean UTC."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
