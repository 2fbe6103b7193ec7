"""Steps come once each, as close to their time as possible, and never after somebody looks after the alert.

The requirements are those GitLab wrote down for its escalation policies (gitlab-org/gitlab#323139), with snoozes and
quiet hours added; each protection has a mutant without which its check turns red.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, update

from farm_intel.alerts.escalating import Escalator, Move
from farm_intel.alerts.ports import AlertWork
from farm_intel.alerts.telling import Occasion, Teller
from farm_intel.domain.alerts import Alert, AlertState, EscalationStep, Severity
from farm_intel.domain.messages import Notice
from farm_intel.storage.alert_rows import alert_values
from farm_intel.storage.alert_tables import alerts
from farm_intel.storage.alert_work import SqlAlertWork
from farm_intel.storage.alerts import SqlAlertStore
from farm_intel.storage.database import transaction
from farm_intel.storage.message_tables import outbox
from farm_intel_tests.alerts.lives import HOLDS, World, a_look, a_rule, a_subscription, looks


def made(engine: Engine, **changes: Any) -> World:
    """Return a world with an alert that has just been told, and people of three audiences."""
    world = World(engine, **changes)
    world.subscribe(
        a_subscription("ama"),
        a_subscription("asha", audience="agronomist"),
        a_subscription("owen", audience="owner"),
    )
    world.absorb(looks(world.today, "h"), RULE)
    return world


RULE = a_rule(
    steps=(
        EscalationStep(after=timedelta(hours=2), audience="agronomist"),
        EscalationStep(after=timedelta(hours=6), audience="owner"),
    )
)
OPENED = [("ama", "opened")]
STEP_1, STEP_2 = [("asha", "step:1")], [("owen", "step:2")]


@pytest.fixture
def world(engine: Engine) -> World:
    return made(engine)


def test_steps_come_at_their_time_and_each_to_its_audience(world: World) -> None:
    world.clock.move(hours=1, minutes=59)
    assert world.tick().steps == 0
    world.clock.move(minutes=1)
    assert world.tick().steps == 1
    assert world.said() == [*OPENED, *STEP_1]
    assert world.only().state is AlertState.ESCALATED

    world.clock.move(hours=4)
    world.tick()

    assert world.said() == [*OPENED, *STEP_1, *STEP_2]
    assert world.only().next_at is None
    world.clock.move(days=30)
    assert world.tick().steps == 0


def test_a_late_step_does_not_delay_the_next_one(world: World) -> None:
    world.clock.move(hours=5)
    world.tick()
    assert world.only().next_at == world.clock.now() + timedelta(hours=1)


def test_after_an_outage_one_step_per_pass_so_that_an_answer_can_come_between(world: World) -> None:
    world.clock.move(days=1)

    world.tick()
    assert world.said() == [*OPENED, *STEP_1]
    world.service.acknowledge(world.only().alert_id, "asha")
    world.tick()

    assert world.said() == [*OPENED, *STEP_1]


@pytest.mark.parametrize("pumps", [2, 3])
def test_a_step_is_taken_once_however_many_pumps_there_are(world: World, pumps: int) -> None:
    now = world.clock.move(hours=2)
    seen = [list(world.store.due(now, limit=10)) for _ in range(pumps)]

    moves = [world.escalator.advance(due[0], now) for due in seen]

    assert moves == [Move.STEP] + [Move.LOST] * (pumps - 1)
    assert world.said() == [*OPENED, *STEP_1]
    assert world.only().next_step == 1


def test_a_new_event_starts_the_policy_anew(world: World) -> None:
    world.clock.move(hours=2)
    world.tick()
    world.clock.move(days=9)
    world.absorb(looks(world.today - timedelta(days=1), "ch"), RULE)

    first, second = world.alerts()
    assert first.state is AlertState.RESOLVED
    assert second.next_step == 0
    world.clock.move(hours=2)
    world.tick()
    assert world.said_of(second) == [*OPENED, *STEP_1]


def test_resolving_stops_the_steps(world: World) -> None:
    world.absorb(looks(world.today + timedelta(days=1), "c"), RULE)
    world.clock.move(days=1)

    assert world.tick().steps == 0


def test_an_alert_nobody_was_told_of_is_notified_by_the_first_step_that_reaches_somebody(engine: Engine) -> None:
    world = World(engine)
    world.absorb(looks(world.today, "h"), RULE)
    assert world.only().state is AlertState.OPEN
    world.clock.move(hours=2)
    world.tick()
    assert (world.only().state, world.only().next_step) == (AlertState.OPEN, 1)

    world.subscribe(a_subscription("owen", audience="owner"))
    world.clock.move(hours=4)
    world.tick()

    assert world.only().state is AlertState.NOTIFIED
    assert world.said() == STEP_2


def test_a_snooze_is_quiet_until_its_end_then_tells_again_and_the_steps_go_on(world: World) -> None:
    until = world.clock.now() + timedelta(hours=10)
    world.service.snooze(world.only().alert_id, until, "asha")
    world.clock.move(hours=9)
    assert world.tick().woken == 0
    assert world.said() == OPENED

    world.clock.move(hours=1)
    assert world.tick().woken == 1

    alert = world.only()
    assert (alert.state, alert.next_at) == (AlertState.NOTIFIED, until + timedelta(hours=2))
    assert [user for user, occasion in world.said() if occasion.startswith("reminder:")] == ["ama"]
    world.clock.move(hours=2)
    world.tick()
    assert world.said()[-1:] == STEP_1
    assert world.only().next_at == until + timedelta(hours=6)


def test_an_acknowledged_alert_that_is_snoozed_comes_back(world: World) -> None:
    alert_id = world.only().alert_id
    world.service.acknowledge(alert_id, "asha")
    world.service.snooze(alert_id, world.clock.now() + timedelta(hours=1), "asha")
    world.clock.move(hours=1)

    assert world.tick().woken == 1
    assert world.only().state is AlertState.NOTIFIED


def test_one_alert_that_cannot_be_told_keeps_no_other_waiting(world: World) -> None:
    world.absorb([a_look(world.today, HOLDS, "wet")], a_rule("wet", rule_class="loss", steps=RULE.steps))
    now = world.clock.move(hours=2)

    class Picky(Teller):
        def tell(self, work: AlertWork, alert: Alert, occasion: Occasion, *, now: datetime) -> int:
            key = "no_such_text" if alert.rule == "dry" else occasion.text_key
            return super().tell(work, alert, replace(occasion, text_key=key), now=now)

    report = Escalator(store=world.store, teller=Picky(world.teller._renderer, world.farms)).tick(now)

    assert (report.failed, report.steps) == (1, 1)
    assert {alert.rule: alert.next_step for alert in world.alerts()} == {"dry": 0, "wet": 1}


# --- protections and their mutants ---------------------------------------------------------------------------------


def check_acknowledge_stops_steps(world: World) -> None:
    world.service.acknowledge(world.only().alert_id, "ama")
    world.clock.move(days=3)
    world.tick()

    assert world.said() == OPENED


class AcknowledgedGoesOn(SqlAlertWork):
    """Mutant: an acknowledgement is written down and changes nothing."""

    def update(self, before: Alert, after: Alert) -> bool:
        if after.state is AlertState.ACKNOWLEDGED:
            after = replace(after, state=before.state, next_at=before.next_at)
        return super().update(before, after)


def check_acknowledge_races_with_a_step(world: World) -> None:
    """A pump has read that a step is due; before it writes, somebody acknowledges."""
    now = world.clock.move(hours=2)
    (due,) = world.store.due(now, limit=10)
    world.service.acknowledge(due.alert_id, "ama")

    move = world.escalator.advance(due, now)

    assert move is Move.LOST
    assert world.only().state is AlertState.ACKNOWLEDGED
    assert world.said() == OPENED


class WithoutVersion(SqlAlertWork):
    """Mutant: whoever writes last wins."""

    def update(self, before: Alert, after: Alert) -> bool:
        values = alert_values(after)
        change = update(alerts).where(alerts.c.alert_id == before.alert_id).values(values)
        return self._connection.execute(change).rowcount == 1


def check_steps_are_as_they_were_when_it_opened(world: World) -> None:
    later = a_rule(steps=(EscalationStep(after=timedelta(minutes=1), audience="subscribers"),), version="v2")
    LivePolicy.steps = later.steps
    world.absorb(looks(world.today + timedelta(days=1), "h"), later)
    world.clock.move(hours=6)
    world.tick()
    world.tick()

    assert world.said() == [*OPENED, *STEP_1, *STEP_2]


class LivePolicy(SqlAlertStore):
    """Mutant: steps are looked up when they are due."""

    steps: tuple[EscalationStep, ...] = ()

    def due(self, now: datetime, *, limit: int) -> Sequence[Alert]:
        return [replace(alert, steps=self.steps) for alert in super().due(now, limit=limit)]


def check_critical_alerts_do_not_wait_for_the_morning(world: World) -> None:
    night_owl(world)
    world.absorb(
        [a_look(world.today, HOLDS, "fire"), a_look(world.today, HOLDS, "mild")],
        a_rule("fire", rule_class="loss", severity=Severity.CRITICAL),
        a_rule("mild", rule_class="data"),
    )

    by_rule = {row.subject: row.next_at for row in world.messages() if row.user_id == "nia"}
    expected = {"fire": world.clock.now(), "mild": MORNING}
    assert {a.rule: by_rule[f"alert:{a.alert_id}"] for a in world.alerts() if a.rule != "dry"} == expected


MORNING = datetime(2026, 6, 2, 3, tzinfo=UTC)
"""06:00 in Nairobi."""


def night_owl(world: World) -> None:
    """Let it be 22:00 in Nairobi, and Nia want to sleep until 06:00."""
    world.subscribe(
        a_subscription("nia", quiet_from="21:00", quiet_until="06:00", time_zone="Africa/Nairobi"),
    )
    world.clock.at = datetime(2026, 6, 1, 19, tzinfo=UTC)


class NothingIsCritical(Teller):
    """Mutant: quiet hours hold for everything."""

    def _notice(self, work: AlertWork, alert: Alert, occasion: Occasion, now: datetime) -> Notice:
        return replace(super()._notice(work, alert, occasion, now), severity=Severity.WARNING)


def check_a_night_of_steps_is_one_message(world: World) -> None:
    night_owl(world)
    steps = tuple(EscalationStep(after=timedelta(hours=hour)) for hour in (1, 2, 3, 4))
    world.absorb([a_look(world.today, HOLDS, "mild")], a_rule("mild", rule_class="data", steps=steps))
    for _ in range(5):
        world.clock.move(hours=1)
        world.tick()

    waiting = [row.next_at for row in world.messages() if row.user_id == "nia"]
    assert waiting == [MORNING]


class NothingWaits(SqlAlertWork):
    """Mutant: what waits already is not looked at."""

    def waiting(self, subject: str) -> list[tuple[str, str]]:
        return []


def check_an_alert_is_never_without_its_messages(world: World) -> None:
    with pytest.raises(KilledError):
        world.absorb([a_look(world.today, HOLDS, "mild")], a_rule("mild", rule_class="data"))

    assert [alert.rule for alert in world.alerts()] == ["dry"]
    assert len(world.store.evaluations("farm-a", "mild")) == 0


class KilledError(Exception):
    """The process died."""


class KilledAtTheEnd(SqlAlertWork):
    """Dies when the messages about the second rule are to be enqueued."""

    def finish(self) -> None:
        if any("mild" in message.text.long for message in self._messages):
            raise KilledError
        super().finish()


class TwoTransactions(SqlAlertStore):
    """Mutant: messages are enqueued after the alert is committed."""

    @contextmanager
    def work(self, *, now: datetime, farm_id: str | None = None) -> Iterator[SqlAlertWork]:
        with transaction(self._engine) as connection:
            work = self._work_type(connection, now=now)
            yield work
        with transaction(self._engine) as connection:
            work._connection = connection
            work.finish()


PROTECTIONS: list[Any] = [
    pytest.param(check_acknowledge_stops_steps, {}, {"work_type": AcknowledgedGoesOn}, id="acknowledge-stops"),
    pytest.param(check_acknowledge_races_with_a_step, {}, {"work_type": WithoutVersion}, id="version"),
    pytest.param(check_steps_are_as_they_were_when_it_opened, {}, {"store_type": LivePolicy}, id="snapshot"),
    pytest.param(check_critical_alerts_do_not_wait_for_the_morning, {}, {"teller_type": NothingIsCritical}, id="quiet"),
    pytest.param(check_a_night_of_steps_is_one_message, {}, {"work_type": NothingWaits}, id="one-message"),
    pytest.param(
        check_an_alert_is_never_without_its_messages,
        {"work_type": KilledAtTheEnd},
        {"work_type": KilledAtTheEnd, "store_type": TwoTransactions},
        id="one-transaction",
    ),
]


@pytest.mark.parametrize(("check", "world_is", "mutant"), PROTECTIONS)
def test_protection_holds_and_its_mutant_is_found(
    engine: Engine, check: Any, world_is: dict[str, Any], mutant: dict[str, Any]
) -> None:
    check(made(engine, **world_is))


@pytest.mark.parametrize(("check", "world_is", "mutant"), PROTECTIONS)
def test_without_the_protection_its_check_is_red(
    engine: Engine, check: Any, world_is: dict[str, Any], mutant: dict[str, Any]
) -> None:
    world = made(engine, **mutant)

    with pytest.raises(AssertionError):
        check(world)


# --- what waits for the morning ------------------------------------------------------------------------------------


def test_what_was_resolved_in_the_night_is_told_to_nobody_in_the_morning(engine: Engine) -> None:
    world = World(engine)
    night_owl(world)
    world.absorb([a_look(world.today, HOLDS)], RULE)
    assert [row.state for row in world.messages()] == ["pending"]

    world.absorb(looks(world.today + timedelta(days=1), "c"), RULE)

    (message,) = world.messages()
    assert (message.state, message.error) == ("dropped", "resolved before it was sent")


def test_an_acknowledgement_takes_back_steps_that_wait_and_keeps_the_opening(world: World) -> None:
    night_owl(world)
    world.tick()  # step 1 is due at 14:00, the clock stands at 19:00: nobody asleep is in its audience
    world.subscribe(
        a_subscription(
            "asha", audience="agronomist", quiet_from="21:00", quiet_until="06:00", time_zone="Africa/Nairobi"
        ),
        a_subscription("owen", audience="owner", quiet_from="21:00", quiet_until="06:00", time_zone="Africa/Nairobi"),
    )
    world.tick()  # step 2 was due at 18:00
    waiting = [row.user_id for row in world.messages() if row.next_at == MORNING]
    assert waiting == ["owen"]

    world.service.acknowledge(world.only().alert_id, "ama")

    assert ("owen", "step:2") not in world.said()
    assert set(OPENED) <= set(world.said())


def test_a_message_a_deliverer_has_begun_to_send_is_not_taken_back(engine: Engine) -> None:
    world = World(engine)
    night_owl(world)
    world.absorb([a_look(world.today, HOLDS)], RULE)
    with transaction(engine) as connection:
        connection.execute(update(outbox).values(state="sending"))

    world.absorb(looks(world.today + timedelta(days=1), "c"), RULE)

    assert world.said() == [("nia", "opened"), ("nia", "resolved")]
