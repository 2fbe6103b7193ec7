"""Occurrences under everything that can happen to them, against what must hold after each step.

The machine knows three things independently of the code: which dates the schedules had (by a closed formula over its
own list of edits), who holds which fencing token, and how often each occurrence was finished by a rightful holder.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Engine, delete

from farm_intel.activities.planning import PlanEdit
from farm_intel.activities.telling import DUE
from farm_intel.activities.working import Outcome, Remind, WorkReport
from farm_intel.domain.activities import (
    LEGAL,
    SETTLED,
    Activity,
    Answer,
    IllegalTransitionError,
    Misfire,
    Occurrence,
    OccurrenceState,
    Overlap,
)
from farm_intel.domain.activity_work import Claim, ClaimTerms
from farm_intel.domain.errors import PermanentError, TransientError
from farm_intel.storage.activities import SqlActivityStore
from farm_intel.storage.activity_tables import activities, activity_changes, heartbeats, logbook, occurrences, proposals
from farm_intel.storage.database import transaction
from farm_intel.storage.message_tables import outbox
from farm_intel.storage.occurrence_moves import OccurrenceWriter
from farm_intel_tests.activities.kit import Bench, Draft, every

type Key = tuple[str, datetime]
S = OccurrenceState
LEASE_S = 900.0
RUNNABLE = frozenset({S.RUNNING, S.WAITING})


class Moody:
    """A handler that does what the test says next."""

    def __init__(self) -> None:
        self.mood = "ok"

    def handle(self, occurrence: Occurrence, plan: Activity) -> Outcome:
        if self.mood == "transient":
            raise TransientError("the network is away")
        if self.mood == "permanent":
            raise PermanentError("this can never work")
        return Remind().handle(occurrence, plan)


@dataclass
class Plan:
    """What the machine knows of a plan."""

    activity_id: str
    overlap: Overlap
    segments: list[tuple[datetime, int, datetime]] = field(default_factory=list)
    """(after, step in seconds, start): from which instant on which dates hold."""
    mixed: bool = False
    """Its overlap policy was another one before."""


class Occurrences(RuleBasedStateMachine):
    """See the module. Subclasses set the engine, and for mutation tests the stores."""

    engine: Engine
    writer: type[OccurrenceWriter] = OccurrenceWriter
    plan_store: type[SqlActivityStore] = SqlActivityStore

    def __init__(self) -> None:
        super().__init__()
        with transaction(self.engine) as connection:
            for table in (proposals, logbook, occurrences, activity_changes, activities, heartbeats, outbox):
                connection.execute(delete(table))
        self.moody = Moody()
        writer = self.writer()
        self.bench = Bench(
            self.engine,
            handlers={"irrigation": self.moody},
            writer=writer,
            plans=self.plan_store(self.engine, writer=writer),
        )
        self.plans: list[Plan] = []
        self.held: list[Claim] = []
        self.before: dict[Key, Occurrence] = {}
        self.finishes: Counter[Key] = Counter()
        self.effects: Counter[Key] = Counter()

    # --- what happens

    @initialize()
    def begin(self) -> None:
        self.create(Overlap.ALLOW_ALL, Misfire.ALL, 86_400, acknowledge=False, step_s=600)

    @precondition(lambda self: len(self.plans) < 3)
    @rule(
        overlap=st.sampled_from(Overlap),
        misfire=st.sampled_from(Misfire),
        window_s=st.sampled_from([3600, 86_400]),
        acknowledge=st.booleans(),
        step_s=st.sampled_from([300, 600, 1700]),
    )
    def create(self, overlap: Overlap, misfire: Misfire, window_s: int, acknowledge: bool, step_s: int) -> None:
        now = self.bench.clock.now()
        draft = Draft(
            schedule=every(step_s, start=now),
            overlap=overlap,
            misfire=misfire,
            catchup_window=timedelta(seconds=window_s),
            acknowledge=acknowledge,
            acknowledge_within=timedelta(hours=2),
            max_attempts=2,
        )
        made = self.bench.service.plans.create(draft, by="joe")
        self.plans.append(Plan(made.activity_id, overlap, [(now, step_s, now)]))

    @rule(seconds=st.sampled_from([1, 299, 301, 1000, 3700, 10_000, -3600]))
    def time_passes(self, seconds: int) -> None:
        self.bench.clock.advance(seconds)

    @rule()
    def generate(self) -> None:
        self.bench.service.generator.run()

    @rule()
    def tend(self) -> None:
        self.bench.service.tending.run()

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        now = self.bench.clock.now()
        known = self._rows()
        for claim in self.bench.store.claim(ClaimTerms(worker="w", limit=limit, lease_s=LEASE_S), now):
            row, was = claim.occurrence, known[_key(claim.occurrence)]
            assert was.state is S.DUE or (was.lease_until is not None and was.lease_until <= now)
            assert row.token == was.token + 1
            assert was.not_before <= now
            self.held.append(claim)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), mood=st.sampled_from(["ok", "ok", "ok", "transient", "permanent"]))
    def finish(self, data: st.DataObject, mood: str) -> None:
        claim = self.held.pop(data.draw(st.integers(0, len(self.held) - 1), label="held"))
        key = _key(claim.occurrence)
        was = self._rows()[key]
        rightful = was.state is S.RUNNING and was.token == claim.occurrence.token
        self.moody.mood = mood
        self.bench.service.worker._work_on([claim], WorkReport())
        now = self._rows()[key]
        if not rightful:
            assert now == was, "the holder of an old token changed the occurrence"
        elif was.reason:
            assert now.state is S.SKIPPED
        elif mood == "ok":
            self.finishes[key] += 1
            assert now.state is (S.WAITING if claim.plan.acknowledge else S.DONE)
            self.effects[key] += now.state is S.DONE
        elif mood == "permanent" or was.attempt >= 2:
            assert now.state is S.FAILED
        else:
            assert now.state is S.DUE
            assert now.not_before > self.bench.clock.now()

    @precondition(lambda self: self.held)
    @rule()
    def worker_dies(self) -> None:
        self.held.pop()

    @rule(data=st.data(), done=st.booleans())
    def answer(self, data: st.DataObject, done: bool) -> None:
        row = self._draw(data)
        if row is None:
            return
        answer = Answer(done=done, by="amina", at=self.bench.clock.now(), reason="" if done else "rain")
        try:
            after = self.bench.service.answer(row.activity_id, row.due_at, answer)
        except IllegalTransitionError:
            assert row.state in SETTLED
            return
        assert after.state is (S.DONE if done else S.SKIPPED)
        self.effects[_key(row)] += row.state not in SETTLED

    @rule(data=st.data(), what=st.sampled_from(["snooze", "replay", "drop", "assign"]))
    def people_act(self, data: st.DataObject, what: str) -> None:
        row = self._draw(data)
        if row is None:
            return
        answering = self.bench.service.answering
        key = _key(row)
        allowed = {
            "snooze": row.state in {S.DUE, S.WAITING},
            "assign": row.state not in SETTLED,
            "replay": row.state is S.FAILED,
            "drop": row.state is S.FAILED,
        }[what]
        try:
            if what == "snooze":
                answering.snooze(*key, until=self.bench.clock.now() + timedelta(hours=1), by="amina")
            elif what == "assign":
                answering.assign(*key, to="juma", by="amina")
            elif what == "replay":
                answering.replay(*key, by="amina")
            else:
                answering.drop(*key, note="no use", by="amina")
        except IllegalTransitionError:
            assert not allowed
        else:
            assert allowed

    @rule(data=st.data(), what=st.sampled_from(["pause", "resume", "step", "overlap", "backfill"]))
    def plan_changes(self, data: st.DataObject, what: str) -> None:
        plan = self.plans[data.draw(st.integers(0, len(self.plans) - 1), label="plan")]
        plans = self.bench.service.plans
        stored = self.bench.service.activity(plan.activity_id)
        now = self.bench.clock.now()
        if what == "pause":
            plans.pause(plan.activity_id, note="rain", by="joe", until=now + timedelta(hours=1))
        elif what == "resume":
            plans.resume(plan.activity_id, note="dry", by="joe")
        elif what == "backfill":
            plans.backfill(plan.activity_id, now - timedelta(hours=1), now, by="joe")
        elif what == "overlap":
            policy = data.draw(st.sampled_from(Overlap), label="policy")
            plans.edit(plan.activity_id, PlanEdit(overlap=policy), by="joe", version=stored.version)
            plan.mixed = plan.mixed or policy is not plan.overlap
            plan.overlap = policy
        else:
            step_s = data.draw(st.sampled_from([300, 450, 1700]), label="step")
            edit = PlanEdit(schedule=every(step_s, start=now))
            plans.edit(plan.activity_id, edit, by="joe", version=stored.version)
            plan.segments.append((max(now, stored.high_water), step_s, now))

    # --- what must hold

    @invariant()
    def all_holds(self) -> None:
        rows = self._rows()
        self._every_date_up_to_the_mark_has_its_one_row(rows)
        self._only_legal_transitions_happened(rows)
        self._effects_are_there_exactly_once(rows)
        self._each_rightful_finish_told_people_once()
        self._one_at_a_time_where_the_policy_says_so(rows)

    def _every_date_up_to_the_mark_has_its_one_row(self, rows: dict[Key, Occurrence]) -> None:
        for plan in self.plans:
            mark = self.bench.service.activity(plan.activity_id).high_water
            mine = [row for row in rows.values() if row.activity_id == plan.activity_id]
            assert sorted(row.due_at for row in mine if not row.backfilled) == sorted(_dates(plan, mark))
            assert {row.due_at for row in mine if row.backfilled} <= set(_dates_before(plan))

    def _only_legal_transitions_happened(self, rows: dict[Key, Occurrence]) -> None:
        assert self.before.keys() <= rows.keys(), "a row is gone"
        for key, was in self.before.items():
            now = rows[key]
            assert now.state is was.state or now.state in _reachable(was.state), f"{was.state} became {now.state}"
            assert now.token >= was.token
        for row in rows.values():
            assert row.reason or row.state not in {S.SKIPPED, S.EXPIRED, S.FAILED}
        self.before = rows

    def _effects_are_there_exactly_once(self, rows: dict[Key, Occurrence]) -> None:
        assert self.bench.count_effects() == {key: count for key, count in self.effects.items() if count}
        assert set(self.effects.values()) <= {0, 1}
        for key, row in rows.items():
            assert (self.effects[key] == 1) == (row.state is S.DONE or row.answer is not None)

    def _each_rightful_finish_told_people_once(self) -> None:
        told = Counter(subject for subject, title, _ in self.bench.messages() if title.startswith(DUE))
        assert told == Counter({f"occurrence:{key[0]}:{key[1].isoformat()}": n for key, n in self.finishes.items()})

    def _one_at_a_time_where_the_policy_says_so(self, rows: dict[Key, Occurrence]) -> None:
        at_once = Counter(row.activity_id for row in rows.values() if row.state in RUNNABLE)
        for plan in self.plans:
            if plan.overlap is not Overlap.ALLOW_ALL and not plan.mixed:
                assert at_once[plan.activity_id] <= 1

    def _rows(self) -> dict[Key, Occurrence]:
        return {_key(row): row for row in self.bench.rows()}

    def _draw(self, data: st.DataObject) -> Occurrence | None:
        rows = self.bench.rows()
        return rows[data.draw(st.integers(0, len(rows) - 1), label="row")] if rows else None


def _key(row: Occurrence) -> Key:
    return row.activity_id, row.due_at


def _dates(plan: Plan, mark: datetime) -> list[datetime]:
    """Every date up to the mark, each from the schedule that was in force then."""
    dates: list[datetime] = []
    for number, (after, step_s, start) in enumerate(plan.segments):
        until = plan.segments[number + 1][0] if number + 1 < len(plan.segments) else mark
        due_at = start
        while due_at <= until:
            if due_at > after:
                dates.append(due_at)
            due_at += timedelta(seconds=step_s)
    return dates


def _dates_before(plan: Plan) -> list[datetime]:
    """Every date a schedule has before it was in force: its very start, or more where the clock had gone back."""
    dates: list[datetime] = []
    for after, step_s, start in plan.segments:
        due_at = start
        while due_at <= after:
            dates.append(due_at)
            due_at += timedelta(seconds=step_s)
    return dates


def _reachable(state: OccurrenceState) -> set[OccurrenceState]:
    """All states one call may lead to, over any number of legal steps."""
    found: set[OccurrenceState] = set()
    todo = [state]
    while todo:
        for after in LEGAL[todo.pop()] - found:
            found.add(after)
            todo.append(after)
    return found
