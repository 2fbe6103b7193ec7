"""Alerts against a model, in every order Hypothesis can think of: looks, late looks, pumps, people, crashes, policies.

The model keeps state, number of the next step and its time for each alert, from the rules alone; which spans are open
it reads off the row of looks with a regular expression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, delete, select

from farm_intel.alerts.escalating import Escalator, Move
from farm_intel.alerts.lifecycle import AlertOptions
from farm_intel.domain.alerts import (
    LEGAL_ALERT,
    LIVE,
    Alert,
    AlertEvent,
    AlertRule,
    AlertState,
    EscalationStep,
    Evaluation,
)
from farm_intel.domain.messages import NewMessage
from farm_intel.storage.alert_tables import alert_evaluations, alert_events, alerts, subscriptions
from farm_intel.storage.alert_work import SqlAlertWork
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.message_tables import outbox
from farm_intel_tests.alerts.lives import LETTERS, NOON, World, a_look, a_rule, a_subscription
from farm_intel_tests.alerts.test_service import spans_of

TABLES = (alert_events, alerts, alert_evaluations, outbox)
START = NOON.date()
POLICIES = (
    (),
    (EscalationStep(after=timedelta(hours=2)),),
    (EscalationStep(after=timedelta(hours=1), audience="agronomist"), EscalationStep(after=timedelta(hours=30))),
    (EscalationStep(after=timedelta(0)), EscalationStep(after=timedelta(0)), EscalationStep(after=timedelta(hours=9))),
)
VERDICTS = st.sampled_from("hhhhhc??be")


class CrashError(Exception):
    """The process died."""


class Fragile(SqlAlertWork):
    """Dies at the call to the store that the fuse says; never while the fuse is None."""

    fuse: ClassVar[int | None] = None

    def _burn(self) -> None:
        if Fragile.fuse is not None:
            Fragile.fuse -= 1
            if Fragile.fuse < 0:
                raise CrashError

    def record(self, evaluations: Any) -> tuple[list[Evaluation], dict[str, date]]:
        self._burn()
        return super().record(evaluations)

    def insert(self, alert: Alert) -> bool:
        self._burn()
        return super().insert(alert)

    def update(self, before: Alert, after: Alert) -> bool:
        self._burn()
        return super().update(before, after)

    def note(self, alert_id: str, kind: str, *, by: str = "", note: str = "") -> None:
        self._burn()
        super().note(alert_id, kind, by=by, note=note)

    def tell(self, messages: Any) -> None:
        self._burn()
        super().tell(messages)

    def finish(self) -> None:
        self._burn()
        super().finish()
        self._burn()


@dataclass
class Life:
    """What the model knows of one alert."""

    steps: tuple[EscalationStep, ...]
    state: AlertState
    due: datetime | None
    taken: int = 0
    by_hand: bool = False
    untold: bool = False

    def gap(self) -> timedelta | None:
        """Return the time from the last step (or the opening) to the next."""
        if self.taken == len(self.steps):
            return None
        return self.steps[self.taken].after - (self.steps[self.taken - 1].after if self.taken else timedelta())

    def go(self, now: datetime) -> bool:
        """Do what is due; return whether something was."""
        if self.state not in LIVE or self.due is None or self.due > now:
            return False
        if self.state is AlertState.SNOOZED:
            self.state = AlertState.NOTIFIED
            origin = now
        else:
            self.state = AlertState.ESCALATED
            self.taken += 1
            origin = self.due
        gap = self.gap()
        self.due = None if gap is None else origin + gap
        return True


class AlertLives(RuleBasedStateMachine):
    engine: ClassVar[Engine]
    mutant: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        Fragile.fuse = None
        with transaction(self.engine) as connection:
            for table in (*TABLES, subscriptions):
                connection.execute(delete(table))
        options = AlertOptions(cool_down=timedelta(), old_news=timedelta(days=9999))
        self.world = World(self.engine, options=options, **({"work_type": Fragile} | self.mutant))
        self.world.subscribe(a_subscription("ama"), a_subscription("asha", audience="agronomist"))
        self.letters: list[str] = []
        self.version = 0
        self.lives: dict[str, Life] = {}
        self.over: dict[str, Alert] = {}

    @initialize(to_open=st.integers(1, 2), to_resolve=st.integers(1, 2), steps=st.sampled_from(POLICIES))
    def begin(self, to_open: int, to_resolve: int, steps: tuple[EscalationStep, ...]) -> None:
        self.rule: AlertRule = a_rule(looks_to_open=to_open, looks_to_resolve=to_resolve, steps=steps)

    # --- what happens ----------------------------------------------------------------------------------------------

    @rule(letters=st.lists(VERDICTS, min_size=1, max_size=4))
    def look_day_by_day(self, letters: list[str]) -> None:
        for letter in letters:
            self.letters.append(letter)
            self._absorb(len(self.letters) - 1)

    @rule(letters=st.lists(VERDICTS, min_size=1, max_size=4))
    def look_back_over_days(self, letters: list[str]) -> None:
        self.letters += letters
        self._absorb(*range(len(self.letters) - len(letters), len(self.letters)))

    @precondition(lambda self: self.letters)
    @rule(letter=VERDICTS, data=st.data())
    def compute_again(self, letter: str, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.letters) - 1))
        self.letters[place] = letter
        self._absorb(place)

    @precondition(lambda self: self.letters)
    @rule()
    def the_same_again(self) -> None:
        before = self._everything()
        with reading(self.engine) as connection:
            known = {row.day: row.fingerprint for row in connection.execute(select(alert_evaluations))}
        self.world.absorb(
            [
                replace(self._evaluation(place), fingerprint=known[self._day(place)])
                for place in range(len(self.letters))
            ],
            self.rule,
        )
        assert self._everything() == before

    @precondition(lambda self: self._live())
    @rule(hours=st.sampled_from((0, 1, 3, 40)))
    def pump(self, hours: int) -> None:
        now = self.world.clock.move(hours=hours)
        expected = sum(life.go(now) for life in self.lives.values())
        report = self.world.tick()
        assert report.steps + report.woken == expected

    @precondition(lambda self: self._live())
    @rule(hours=st.sampled_from((0, 1, 3, 40)))
    def two_pumps_race(self, hours: int) -> None:
        now = self.world.clock.move(hours=hours)
        other = Escalator(store=self.world.store, teller=self.world.teller)
        both = [
            (pump, pump_due)
            for pump in (self.world.escalator, other)
            for pump_due in self.world.store.due(now, limit=9)
        ]
        moves = [pump.advance(alert, now) for pump, alert in both]
        expected = sum(life.go(now) for life in self.lives.values())
        assert sum(move in {Move.STEP, Move.WOKEN} for move in moves) == expected
        assert moves.count(Move.LOST) == expected

    @precondition(lambda self: self._live())
    @rule()
    def acknowledge_before_a_pump_writes(self) -> None:
        alert = self._live()[0]
        if self.lives[alert.alert_id].state is AlertState.ACKNOWLEDGED:
            return
        now = self.world.clock.move(hours=50)
        due = self.world.store.due(now, limit=9)
        self._acknowledge(alert)
        assert all(self.world.escalator.advance(one, now) is Move.LOST for one in due if one.alert_id == alert.alert_id)

    @precondition(lambda self: self._live())
    @rule()
    def acknowledge(self) -> None:
        self._acknowledge(self._live()[0])

    @precondition(lambda self: self._live())
    @rule(hours=st.integers(1, 30))
    def snooze(self, hours: int) -> None:
        alert = self._live()[0]
        until = self.world.clock.now() + timedelta(hours=hours)
        self.world.service.snooze(alert.alert_id, until, "ama")
        life = self.lives[alert.alert_id]
        life.state, life.due = AlertState.SNOOZED, until

    @precondition(lambda self: self._live())
    @rule()
    def resolve(self) -> None:
        alert = self._live()[0]
        self.world.service.resolve(alert.alert_id, "ama", "seen to")
        life = self.lives[alert.alert_id]
        life.state, life.due, life.by_hand = AlertState.RESOLVED, None, True

    @rule(steps=st.sampled_from(POLICIES))
    def change_the_policy(self, steps: tuple[EscalationStep, ...]) -> None:
        self.rule = replace(self.rule, steps=steps)

    @rule(letter=VERDICTS, fuse=st.integers(0, 12))
    def die_while_absorbing(self, letter: str, fuse: int) -> None:
        before = self._everything()
        look = a_look(self._day(len(self.letters)), LETTERS[letter], fingerprint="never stored")
        if self._dies(fuse, lambda: self.world.absorb([look], self.rule)):
            assert self._everything() == before
        else:
            self.letters.append(letter)
            self._sync()

    @precondition(lambda self: self._live())
    @rule(hours=st.sampled_from((3, 40)), fuse=st.integers(0, 5))
    def die_while_pumping(self, hours: int, fuse: int) -> None:
        now = self.world.clock.move(hours=hours)
        due = self.world.store.due(now, limit=9)
        for alert in due[:1]:
            before = self._everything()
            if self._dies(fuse, lambda alert=alert: self.world.escalator.advance(alert, now)):  # type: ignore[misc]  # a lambda's default
                assert self._everything() == before
            else:
                self.lives[alert.alert_id].go(now)

    # --- what must be true -----------------------------------------------------------------------------------------

    @invariant()
    def alerts_are_as_the_model_says(self) -> None:
        for alert in self.world.alerts():
            life = self.lives[alert.alert_id]
            assert (alert.state, alert.next_step, alert.next_at) == (life.state, life.taken, life.due)
            assert alert.steps == life.steps

    @invariant()
    def one_is_live_exactly_while_a_span_is_open(self) -> None:
        assert len(self._live()) == self._expected_live()

    @invariant()
    def what_is_over_stays_over(self) -> None:
        for alert in self.world.alerts():
            if alert.state is AlertState.RESOLVED:
                assert self.over.setdefault(alert.alert_id, alert) == alert

    @invariant()
    def everything_is_told_once_and_in_order(self) -> None:
        for alert in self.world.alerts():
            life = self.lives[alert.alert_id]
            said = self.world.said_of(alert)
            assert len(said) == len(set(said))
            opened = {user for user, occasion in said if occasion == "opened"}
            resolved = {user for user, occasion in said if occasion == "resolved"}
            told = {user for user, occasion in said if occasion != "resolved"}
            assert opened == (set() if life.untold else {"ama"})
            assert resolved == (told if alert.state is AlertState.RESOLVED else set())
            expected = {
                (user, f"step:{number}")
                for number, step in enumerate(life.steps[: life.taken], start=1)
                for user in (("asha",) if step.audience == "agronomist" else ("ama",))
            }
            assert {(user, occasion) for user, occasion in said if occasion.startswith("step:")} == expected

    @invariant()
    def the_history_only_has_legal_transitions(self) -> None:
        names = {state.value for state in AlertState}
        for alert in self.world.alerts():
            history: list[AlertEvent] = list(self.world.service.history(alert.alert_id))
            assert [event.number for event in history] == list(range(1, len(history) + 1))
            states = [AlertState(event.kind) for event in history if event.kind in names]
            assert states[0] is AlertState.OPEN
            assert states[-1] is alert.state
            assert all(after in LEGAL_ALERT[before] for before, after in pairwise(states))

    # --- small change ----------------------------------------------------------------------------------------------

    def _absorb(self, *places: int) -> None:
        self.world.clock.move(minutes=1)
        self.world.absorb([self._evaluation(place) for place in places], self.rule)
        self._sync()

    def _evaluation(self, place: int) -> Evaluation:
        self.version += 1
        return a_look(self._day(place), LETTERS[self.letters[place]], fingerprint=f"v{self.version}")

    def _day(self, place: int) -> date:
        return START + timedelta(days=place)

    def _sync(self) -> None:
        """Let the model know which alerts the looks opened and resolved; whether rightly, an invariant says."""
        now = self.world.clock.now()
        for alert in self.world.alerts():
            life = self.lives.get(alert.alert_id)
            if life is None:
                self.lives[alert.alert_id] = self._born(alert, now)
            elif alert.state is AlertState.RESOLVED and life.state in LIVE:
                life.state, life.due = AlertState.RESOLVED, None

    def _born(self, alert: Alert, now: datetime) -> Life:
        steps = self.rule.steps
        if alert.state is AlertState.RESOLVED:  # looks that came late tell of an event that is over already
            return Life(steps, AlertState.RESOLVED, None, untold=True)
        ((first, _),) = spans_of("".join(self.letters), self.rule.looks_to_open, self.rule.looks_to_resolve)[-1:]
        assert not any(self.lives[over.alert_id].by_hand for over in self._over_since(first)), "opened again"
        return Life(steps, AlertState.NOTIFIED, now + steps[0].after if steps else None)

    def _live(self) -> list[Alert]:
        return [alert for alert in self.world.alerts() if alert.state in LIVE]

    def _acknowledge(self, alert: Alert) -> None:
        self.world.service.acknowledge(alert.alert_id, "ama")
        life = self.lives[alert.alert_id]
        life.state, life.due = AlertState.ACKNOWLEDGED, None

    def _expected_live(self) -> int:
        spans = spans_of("".join(self.letters), self.rule.looks_to_open, self.rule.looks_to_resolve)
        if not spans or spans[-1][1] is not None:
            return 0
        first = spans[-1][0]
        own = self._over_since(first)
        if any(self.lives[alert.alert_id].by_hand for alert in own):
            # nothing opens any more; a look computed again may have made one event of this and a later one that lives
            return sum(date.fromisoformat(alert.event_key) >= self._day(first) for alert in self._live())
        until = max((alert.resolved_day or START for alert in own), default=date.min)
        return int(any(self._day(p) > until for p in range(first, len(self.letters)) if self.letters[p] == "h"))

    def _over_since(self, place: int) -> list[Alert]:
        """Return the alerts that are over and share days with a span that began there and is open."""
        over = [alert for alert in self.world.alerts() if alert.state is AlertState.RESOLVED]
        return [alert for alert in over if (alert.resolved_day or START) >= self._day(place)]

    def _everything(self) -> list[Any]:
        with reading(self.engine) as connection:
            return [sorted(map(repr, connection.execute(select(table)))) for table in TABLES]

    def _dies(self, fuse: int, action: Callable[[], object]) -> bool:
        Fragile.fuse = fuse
        try:
            action()
        except CrashError:
            return True
        finally:
            Fragile.fuse = None
        return False


def run(engine: Engine, examples: int, **mutant: Any) -> None:
    class OnThisDatabase(AlertLives):
        pass

    OnThisDatabase.engine = engine
    OnThisDatabase.mutant = mutant
    quick = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate] if mutant else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(OnThisDatabase, settings=quick)


def test_alerts_live_as_the_model_says(engine: Engine) -> None:
    run(engine, 25 if engine.dialect.name == "sqlite" else 8)


class LastWriterWins(Fragile):
    """Mutant: nobody compares versions."""

    def update(self, before: Alert, after: Alert) -> bool:
        current = self.get(before.alert_id)
        return super().update(current, replace(after, version=current.version + 1))


class Forgetful(Fragile):
    """Mutant: some messages get lost between the alert and the outbox."""

    def tell(self, messages: Any) -> None:
        kept: list[NewMessage] = [message for message in messages if message.user_id != "asha"]
        super().tell(kept)


@pytest.mark.parametrize("mutant", [LastWriterWins, Forgetful])
def test_the_machine_finds_its_mutants(sqlite_engine: Engine, mutant: type[Fragile]) -> None:
    with pytest.raises(AssertionError):
        run(sqlite_engine, 60, work_type=mutant)
