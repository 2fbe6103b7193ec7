"""Activities as one thing: plans, what falls due of them, the work, the answers, the logbook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from farm_intel.activities.answering import Answering
from farm_intel.activities.generating import Generator
from farm_intel.activities.logbook import Logbook
from farm_intel.activities.planning import Planning
from farm_intel.activities.ports import ActivityStore, Forms, LogbookStore, OccurrenceStore, Recurrence
from farm_intel.activities.proposing import Proposing
from farm_intel.activities.telling import Telling
from farm_intel.activities.tending import Tending
from farm_intel.activities.working import Handler, Patience, Worker
from farm_intel.domain.activities import Activity, Answer, Occurrence, OccurrenceState
from farm_intel.domain.activity_work import Heartbeat, Pending, Planned
from farm_intel.domain.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityParts:
    """What activities are put together from."""

    plans: ActivityStore
    occurrences: OccurrenceStore
    logbook: LogbookStore
    recurrence: Recurrence
    forms: Forms
    telling: Telling
    clock: Clock


class ActivityService:
    """All that can be done with activities; the parts do it, reads that people ask for are here.

    `plans` changes and reads plans, `generator` makes rows of what fell due, `worker` works on them, `tending` looks
    after those nobody gets to, `answering` takes answers and keeps dead letters, `proposing` makes activities of
    events, `logbook` is the record. One pass of the pump is `generator.run()`, `tending.run()`, `worker.run(shift)`.
    """

    def __init__(
        self,
        parts: ActivityParts,
        *,
        handlers: Mapping[str, Handler] | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            parts: adapters and tables.
            handlers: what is done when an activity of a type is due; all others remind.
            patience: how an occurrence that failed is tried again.

        """
        self._parts = parts
        self.plans = Planning(
            store=parts.plans,
            occurrences=parts.occurrences,
            recurrence=parts.recurrence,
            forms=parts.forms,
            clock=parts.clock,
        )
        self.generator = Generator(parts.plans, parts.recurrence, parts.clock)
        self.worker = Worker(parts.occurrences, parts.telling, parts.clock, handlers=handlers, patience=patience)
        self.tending = Tending(parts.occurrences, parts.telling, parts.clock)
        self.answering = Answering(parts.plans, parts.occurrences, parts.forms, parts.clock)
        self.proposing = Proposing(parts.plans, parts.forms, parts.clock)
        self.logbook = Logbook(parts.logbook, parts.forms, parts.clock)

    def activity(self, activity_id: str) -> Activity:
        """Return one plan; UnknownNameError where there is none."""
        return self._parts.plans.get(activity_id)

    def activities(
        self,
        farm_ids: Sequence[str] | None = None,
        *,
        activity_types: Sequence[str] | None = None,
        include_removed: bool = False,
        limit: int = 10_000,
    ) -> list[Activity]:
        """Return plans ordered by farm, then age; None asks for all."""
        return self._parts.plans.find(
            farm_ids=farm_ids, activity_types=activity_types, include_removed=include_removed, limit=limit
        )

    def occurrence(self, activity_id: str, due_at: datetime) -> Occurrence:
        """Return one occurrence; UnknownNameError where there is none."""
        return self._parts.occurrences.get(activity_id, due_at)

    def occurrences(
        self,
        *,
        activity_id: str | None = None,
        farm_ids: Sequence[str] | None = None,
        states: Sequence[OccurrenceState] | None = None,
        start: date | None = None,
        end: date | None = None,
        limit: int = 1000,
    ) -> list[Occurrence]:
        """Return occurrences by due time; days are local dates, both inclusive; None asks for all."""
        return self._parts.occurrences.find(
            activity_id=activity_id, farm_ids=farm_ids, states=states, start=start, end=end, limit=limit
        )

    def answer(self, activity_id: str, due_at: datetime, answer: Answer) -> Occurrence:
        """Take an answer; see `Answering.answer`."""
        return self.answering.answer(activity_id, due_at, answer)

    def dead_letters(self, farm_ids: Sequence[str] | None = None, *, limit: int = 1000) -> list[Occurrence]:
        """Return what was given up, by due time; None asks for all farms."""
        return self.answering.dead_letters(farm_ids, limit=limit)

    def replay(self, activity_id: str, due_at: datetime, *, by: str) -> Occurrence:
        """Let what was given up be tried again; see `Answering.replay`."""
        return self.answering.replay(activity_id, due_at, by=by)

    def drop(self, activity_id: str, due_at: datetime, *, note: str, by: str) -> Occurrence:
        """Give it up for good; see `Answering.drop`."""
        return self.answering.drop(activity_id, due_at, note=note, by=by)

    def plan(self, farm_ids: Sequence[str], *, start: date, end: date) -> list[Planned]:
        """Return the plan of the days; see `Planning.plan`."""
        return self.plans.plan(farm_ids, start=start, end=end)

    def pending(self) -> Pending:
        """Return how much there is to do now."""
        return self._parts.occurrences.pending(self._parts.clock.now())

    def stale(self) -> list[Occurrence]:
        """Return what is running though its lease is over."""
        return self._parts.occurrences.stale(self._parts.clock.now())

    def runs_in_doubt(self) -> list[str]:
        """Return the ids of the runs that hold occurrences whose lease is over."""
        return self._parts.occurrences.runs_in_doubt(self._parts.clock.now())

    def beat(self, name: str, detail: str = "") -> None:
        """Record that a part of the pump went through with all well."""
        self._parts.plans.beat(name, detail, self._parts.clock.now())

    def heartbeats(self) -> list[Heartbeat]:
        """Return when each part last went through."""
        return self._parts.plans.heartbeats()
