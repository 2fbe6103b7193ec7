"""The auditor finds what is stuck, repairs it within two scans, and its heart beats only when all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, update

from farm_intel.alerts.auditing import Auditor, AuditPorts, Finding, FindingKind
from farm_intel.alerts.escalating import Escalator, Move
from farm_intel.domain.alerts import Alert, AlertState
from farm_intel.storage.alert_tables import alerts
from farm_intel.storage.database import transaction
from farm_intel.storage.message_tables import outbox
from farm_intel_tests.alerts.lives import FARM, World, a_subscription, looks


@dataclass
class Heart:
    """Counts beats."""

    beats: list[tuple[str, str]] = field(default_factory=list)

    def beat(self, name: str, detail: str) -> None:
        self.beats.append((name, detail))


@dataclass
class Watched:
    """A world with one told alert, and its auditor."""

    world: World
    heart: Heart = field(default_factory=Heart)
    rules: set[str] = field(default_factory=lambda: {"dry"})
    escalator: Escalator | None = None

    def audit(self) -> list[Finding]:
        ports = AuditPorts(
            store=self.world.store,
            escalator=self.escalator or self.world.escalator,
            teller=self.world.teller,
            farms=self.world.farms,
            heartbeat=self.heart,
            rules=lambda: self.rules,
        )
        return Auditor(ports).audit(self.world.clock.now())

    def kinds(self) -> list[FindingKind]:
        return [finding.kind for finding in self.audit()]

    def damage(self, **columns: Any) -> None:
        """Change the alert's row behind everybody's back."""
        with transaction(self.world.engine) as connection:
            connection.execute(update(alerts).values(columns))


@pytest.fixture
def watched(engine: Engine) -> Watched:
    world = World(engine)
    world.subscribe(a_subscription())
    world.absorb(looks(world.today, "h"))
    return Watched(world)


def test_the_heart_beats_while_all_is_well(watched: Watched) -> None:
    assert watched.audit() == []
    assert watched.heart.beats == [("alerts", "1 live alerts, none stuck")]


@pytest.mark.parametrize(("late_min", "found"), [(5, False), (6, True)])
def test_a_step_is_overdue_after_five_minutes_and_taken_by_the_auditor(
    watched: Watched, late_min: int, found: bool
) -> None:
    watched.world.clock.move(hours=2, minutes=late_min)

    findings = watched.audit()

    assert [finding.kind for finding in findings] == [FindingKind.OVERDUE] * found
    assert len(watched.heart.beats) == (not found)
    assert watched.audit() == []
    assert watched.world.only().next_step == found


def test_what_cannot_be_repaired_keeps_the_heart_still(watched: Watched) -> None:
    class Broken(Escalator):
        def advance(self, alert: Alert, now: object) -> Move:
            return Move.FAILED

    watched.escalator = Broken(store=watched.world.store, teller=watched.world.teller)
    watched.world.clock.move(hours=3)
    for _ in range(3):
        (finding,) = watched.audit()
        assert (finding.kind, finding.repaired) == (FindingKind.OVERDUE, False)
        assert FARM in finding.detail
        assert finding.hint
    assert watched.heart.beats == []


@pytest.mark.parametrize("state", [AlertState.NOTIFIED, AlertState.ESCALATED, AlertState.SNOOZED])
def test_steps_that_would_never_come_are_armed_again_within_two_scans(watched: Watched, state: AlertState) -> None:
    watched.damage(next_at=None, state=state.value)

    assert watched.kinds() == [FindingKind.NO_NEXT]
    watched.world.tick()

    assert watched.audit() == []
    assert len(watched.heart.beats) == 1
    went_on = watched.world.only().next_step == 1
    woken = any(occasion.startswith("reminder:") for _, occasion in watched.world.said())
    assert (went_on, woken) == (state is not AlertState.SNOOZED, state is AlertState.SNOOZED)


def test_an_acknowledged_alert_that_waits_for_nothing_is_well(watched: Watched) -> None:
    watched.world.service.acknowledge(watched.world.only().alert_id, "ama")
    watched.world.clock.move(days=9)

    assert watched.audit() == []


def test_an_open_alert_without_messages_is_told_once_somebody_subscribes(engine: Engine) -> None:
    world = World(engine)
    world.absorb(looks(world.today, "h"))
    watched = Watched(world)
    (finding,) = watched.audit()
    assert (finding.kind, finding.stuck) == (FindingKind.NOBODY_TOLD, False)
    assert len(watched.heart.beats) == 1  # the watcher is well; nobody wants to know

    world.subscribe(a_subscription())
    assert watched.kinds() == [FindingKind.NOBODY_TOLD]

    assert world.only().state is AlertState.NOTIFIED
    assert world.said() == [("ama", "opened")]
    assert watched.audit() == []


def test_old_news_that_nobody_was_told_of_is_well(engine: Engine) -> None:
    world = World(engine)
    world.subscribe(a_subscription())
    world.absorb(looks(world.today - timedelta(days=40), "h"))

    assert Watched(world).audit() == []
    assert world.messages() == []


def test_an_alert_whose_rule_is_gone_is_found(watched: Watched) -> None:
    watched.rules.clear()
    assert watched.kinds() == [FindingKind.NO_RULE]
    assert watched.heart.beats == []


def test_an_alert_whose_farm_is_inactive_or_gone_is_found(watched: Watched) -> None:
    watched.world.farms.inactive.add(FARM)
    assert watched.kinds() == [FindingKind.NO_FARM]
    watched.damage(farm_id="gone")
    assert watched.kinds() == [FindingKind.NO_FARM]


def test_an_alert_all_of_whose_messages_are_dead_is_found(watched: Watched) -> None:
    with transaction(watched.world.engine) as connection:
        connection.execute(update(outbox).values(state="dead"))

    (finding,) = watched.audit()

    assert (finding.kind, finding.repaired) == (FindingKind.UNDELIVERED, False)
    assert "outbox" in finding.hint


def test_an_alert_that_reached_a_stream_is_delivered(engine: Engine) -> None:
    world = World(engine)
    world.subscribe(a_subscription(), a_subscription("kofi", "stream", speak=False))
    world.absorb(looks(world.today, "h"))
    with transaction(engine) as connection:
        connection.execute(update(outbox).values(state="dead"))

    assert Watched(world).audit() == []


def test_resolved_alerts_are_no_concern(watched: Watched) -> None:
    watched.world.service.resolve(watched.world.only().alert_id, "ama", "rain")
    watched.rules.clear()

    assert watched.audit() == []


DAMAGES: list[tuple[str, Callable[[Watched], None]]] = [
    ("no next", lambda watched: watched.damage(next_at=None)),
    ("overdue", lambda watched: watched.damage(next_at=watched.world.clock.now() - timedelta(hours=1))),
    ("no rule", lambda watched: watched.rules.clear()),
]


class BlindAuditor(Auditor):
    """Mutant: looks, and beats whatever it sees."""

    def audit(self, now: Any) -> list[Finding]:
        findings = super().audit(now)
        self._ports.heartbeat.beat("alerts", "")
        return findings


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
@pytest.mark.parametrize(("auditor", "beats"), [(Auditor, 0), (BlindAuditor, 1)])
def test_the_heart_is_still_while_something_is_stuck(
    watched: Watched, name: str, damage: Callable[[Watched], None], auditor: type[Auditor], beats: int
) -> None:
    damage(watched)
    ports = AuditPorts(
        store=watched.world.store,
        escalator=watched.world.escalator,
        teller=watched.world.teller,
        farms=watched.world.farms,
        heartbeat=watched.heart,
        rules=lambda: watched.rules,
    )

    findings = auditor(ports).audit(watched.world.clock.now())

    assert len(findings) == 1
    assert len(watched.heart.beats) == beats
