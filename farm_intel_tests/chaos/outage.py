"""A day on which nothing runs, and the one pass of the pump after it: every date is done or says why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from farm_intel.activities import recurrence
from farm_intel.activities.recurrence import DueTime
from farm_intel.activities.working import Shift
from farm_intel.domain.activities import Misfire, Overlap, Schedule, ScheduleKind
from farm_intel.resilience.clock import SystemClock
from farm_intel.storage.database import reading
from farm_intel_tests.activities.kit import Draft
from farm_intel_tests.chaos.parts import World, build, open_migrated

PLANS = {"*/10 * * * *": 144, "0 * * * *": 24, "0 6 * * *": 1}
"""Dates in 24 h by crontab line: counted by hand, and what Dagster's daemon was asked for in the same trial."""
_START = datetime(2026, 6, 30, 5, 55, tzinfo=UTC)
_WINDOW = timedelta(hours=6)


class MovedClock(SystemClock):
    """Stands where it is put; only seconds that pass within the process still pass."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant

    def now(self) -> datetime:
        return self.instant


@dataclass(frozen=True, kw_only=True)
class Outage:
    """What became of the dates of one plan."""

    plan: str
    policy: str
    expected: int
    rows: int
    states: dict[str, int]
    unexplained: int
    """Rows that are neither done nor say why."""
    told: int
    """Messages that arrived."""

    @property
    def wrong(self) -> bool:
        done = self.states.get("done", 0)
        return self.rows != self.expected or self.unexplained > 0 or self.told != done


class RealDates:
    """The module itself; implements activities.ports.Recurrence."""

    check_schedule = staticmethod(recurrence.check_schedule)
    due_between = staticmethod(recurrence.due_between)
    next_due = staticmethod(recurrence.next_due)


class LatestOnly(RealDates):
    """Mutant: of what was missed only the latest date, as a daemon does that looks no further back."""

    @staticmethod
    def due_between(schedule: Schedule, after: datetime, until: datetime, *, limit: int) -> Iterator[DueTime]:
        return iter(list(recurrence.due_between(schedule, after, until, limit=limit))[-1:])


def run_outages(folder: Path, dates: type[RealDates] = RealDates) -> list[Outage]:
    """Run all plans under each misfire policy, with a narrow catch-up window, and with the default overlap policy."""
    cases = [(misfire.value, {"misfire": misfire}) for misfire in Misfire]
    cases += [("all, window of 6 h", {"catchup_window": _WINDOW}), ("all, overlap skip", {"overlap": Overlap.SKIP})]
    found: list[Outage] = []
    for number, (policy, options) in enumerate(cases):
        place = folder / str(number)
        place.mkdir()
        found += _run(place, policy, options, dates())
    return found


def _run(folder: Path, policy: str, options: dict[str, object], dates: RealDates) -> list[Outage]:
    world = World(url=f"sqlite:///{folder}/store.db", folder=str(folder))
    engine = open_migrated(world.url)
    clock = MovedClock(_START)
    pump = build(world, clock, recurrence=dates)
    plans = {}
    for line in PLANS:
        schedule = Schedule(kind=ScheduleKind.CRON, text=line, start=_START.replace(tzinfo=None), time_zone="UTC")
        asked: dict[str, object] = {"schedule": schedule, "overlap": Overlap.ALLOW_ALL, **options}
        plans[pump.service.plans.create(Draft(**asked), by="chaos").activity_id] = line  # type: ignore[arg-type]  # one of many fields
    clock.instant += timedelta(days=1)
    pump.service.generator.run()
    pump.service.tending.run()
    pump.service.worker.run(Shift(worker="after"))
    pump.delivering.run()
    received = world.received.read_text().split() if world.received.exists() else []
    found = []
    with reading(engine) as connection:
        for activity_id, line in plans.items():
            query = text("SELECT state, reason FROM occurrences WHERE activity_id = :id")
            rows = connection.execute(query, {"id": activity_id}).all()
            found.append(
                Outage(
                    plan=line,
                    policy=policy,
                    expected=PLANS[line],
                    rows=len(rows),
                    states=dict(Counter(row.state for row in rows)),
                    unexplained=sum(row.state != "done" and not row.reason for row in rows),
                    told=sum(activity_id in word for word in received),
                )
            )
    engine.dispose()
    pump.engine.dispose()
    return found
