"""What tests of activities are made of: dates by the clock's seconds, people, words, and a service over a database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, func, select

from farm_intel.activities.recurrence import DueTime
from farm_intel.activities.service import ActivityParts, ActivityService
from farm_intel.activities.telling import Telling
from farm_intel.activities.types import load_activity_types
from farm_intel.activities.working import Handler, Patience, Shift
from farm_intel.domain.activities import (
    FormValue,
    Misfire,
    Occurrence,
    OccurrenceState,
    Overlap,
    Schedule,
    ScheduleKind,
)
from farm_intel.domain.alerts import Subscription
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.messages import Notice, RenderedText
from farm_intel.storage.activities import SqlActivityStore
from farm_intel.storage.activity_tables import logbook, occurrences
from farm_intel.storage.database import reading
from farm_intel.storage.logbook import SqlLogbook
from farm_intel.storage.message_tables import outbox
from farm_intel.storage.occurrence_moves import OccurrenceWriter
from farm_intel.storage.occurrences import SqlOccurrenceStore
from farm_intel_tests.support.clock import FakeClock

START = datetime(2026, 6, 30, 12, tzinfo=UTC)


class EverySeconds:
    """Dates every so many seconds from the start on, by a closed formula; implements activities.ports.Recurrence."""

    def check_schedule(self, schedule: Schedule) -> None:
        if not schedule.text.isdigit():
            raise BadRequestError(f"{schedule.text!r} is no number of seconds")

    def due_between(self, schedule: Schedule, after: datetime, until: datetime, *, limit: int) -> Iterator[DueTime]:
        self.check_schedule(schedule)
        step = timedelta(seconds=int(schedule.text))
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


class PlainRenderer:
    """Puts the key and the title into every text; implements domain.messages.Renderer."""

    def __init__(self, unknown: Sequence[str] = ()) -> None:
        self.unknown = set(unknown)

    def render(self, notice: Notice, language: str) -> RenderedText:
        if notice.text_key in self.unknown:
            raise UnknownNameError(f"there is no template {notice.text_key!r}")
        text = f"{notice.text_key} {notice.params['title']}"
        return RenderedText(language=language, title=text, short=text, long=text, spoken=text)


def person(user_id: str = "amina", channel: str = "email") -> Subscription:
    return Subscription(
        subscription_id=f"s-{user_id}-{channel}", user_id=user_id, channel=channel, address=f"{user_id}@example.org"
    )


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Implements activities.ports.Draft."""

    farm_id: str = "farm-1"
    type: str = "irrigation"
    title: str = "Water the maize"
    schedule: Schedule = field(default_factory=lambda: every(3600))
    form: Mapping[str, FormValue] = field(default_factory=lambda: {"amount_mm": 20.0})
    assignee: str = ""
    catchup_window: timedelta = timedelta(days=365)
    misfire: Misfire = Misfire.ALL
    overlap: Overlap = Overlap.ALLOW_ALL
    max_attempts: int = 4
    acknowledge: bool = False
    acknowledge_within: timedelta = timedelta(days=7)


def every(seconds: int, *, start: datetime = START, until: datetime | None = None) -> Schedule:
    return Schedule(
        kind=ScheduleKind.CRON,
        text=str(seconds),
        start=start.replace(tzinfo=None),
        time_zone="UTC",
        until=None if until is None else until.replace(tzinfo=None),
    )


class Bench:
    """A service over a database, with a clock that the test moves."""

    def __init__(
        self,
        engine: Engine,
        *,
        people: Sequence[Subscription] = (person(),),
        handlers: Mapping[str, Handler] | None = None,
        writer: OccurrenceWriter | None = None,
        renderer: PlainRenderer | None = None,
        plans: SqlActivityStore | None = None,
        store: SqlOccurrenceStore | None = None,
    ) -> None:
        self.engine = engine
        self.clock = FakeClock(START)
        self.store = store or SqlOccurrenceStore(engine, writer=writer)
        self.plan_store = plans or SqlActivityStore(engine, writer=writer)
        self.people = list(people)
        self.service = ActivityService(
            ActivityParts(
                plans=self.plan_store,
                occurrences=self.store,
                logbook=SqlLogbook(engine),
                recurrence=EverySeconds(),
                forms=load_activity_types(),
                telling=Telling(subscriptions=lambda _farm: self.people, renderer=renderer or PlainRenderer()),
                clock=self.clock,
            ),
            handlers=handlers,
            patience=Patience(draw=lambda: 0.0),
        )

    def pump(self, worker: str = "w1") -> None:
        self.service.generator.run()
        self.service.tending.run()
        self.service.worker.run(Shift(worker=worker))

    def rows(self, activity_id: str | None = None) -> list[Occurrence]:
        return self.store.find(activity_id=activity_id, limit=100_000)

    def states(self, activity_id: str | None = None) -> list[str]:
        return [row.state.value for row in self.rows(activity_id)]

    def reasons(self, state: OccurrenceState) -> list[str]:
        return [row.reason for row in self.rows() if row.state is state]

    def count_effects(self) -> dict[tuple[str, datetime], int]:
        """Lines of the logbook by occurrence; the table's own uniqueness aside."""
        query = select(logbook.c.activity_id, logbook.c.due_at, func.count()).group_by(
            logbook.c.activity_id, logbook.c.due_at
        )
        with reading(self.engine) as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def messages(self) -> list[tuple[str, str, str]]:
        """Subject, title and state of all messages, in the order of their keys."""
        query = select(outbox.c.subject, outbox.c.title, outbox.c.state).order_by(outbox.c.idempotency_key)
        with reading(self.engine) as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def count_rows(self) -> int:
        with reading(self.engine) as connection:
            return connection.scalar(select(func.count()).select_from(occurrences)) or 0
