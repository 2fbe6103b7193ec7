"""A small world for the life of an alert: one store, people, a clock that tests move, and looks in one line each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select

from farm_intel.alerts.escalating import Escalator, TickReport
from farm_intel.alerts.lifecycle import AlertOptions
from farm_intel.alerts.service import AbsorbReport, AlertService
from farm_intel.alerts.telling import Teller
from farm_intel.domain.alerts import (
    Alert,
    AlertRule,
    EscalationStep,
    Evaluation,
    RuleVerdict,
    Severity,
    Subscription,
)
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.farms import Farm
from farm_intel.domain.messages import Notice, RenderedText
from farm_intel.storage.alert_work import SqlAlertWork
from farm_intel.storage.alerts import SqlAlertStore
from farm_intel.storage.database import reading
from farm_intel.storage.message_tables import outbox
from farm_intel.storage.subscriptions import SqlSubscriptionStore
from farm_intel_tests.support.fakes import make_farm

FARM = "farm-a"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOLDS, CLEAR, BETWEEN = RuleVerdict.HOLDS, RuleVerdict.CLEAR, RuleVerdict.BETWEEN
EXPLAINED, UNKNOWN = RuleVerdict.EXPLAINED, RuleVerdict.UNKNOWN
LETTERS = {"h": HOLDS, "c": CLEAR, "b": BETWEEN, "e": EXPLAINED, "?": UNKNOWN}

KEYS = {"alert_opened", "alert_escalated", "alert_resolved", "alert_withdrawn"}


class PlainRenderer:
    """Says key and parameters; refuses keys there are no texts for."""

    def render(self, notice: Notice, language: str) -> RenderedText:
        if notice.text_key not in KEYS:
            raise UnknownNameError(f"no template {notice.text_key}")
        text = json.dumps({"key": notice.text_key, **notice.params})
        return RenderedText(language=language, title=notice.text_key, short=text[:160], long=text, spoken=text)


@dataclass
class MovedClock:
    """Stands still until a test moves it."""

    at: datetime = NOON

    def now(self) -> datetime:
        return self.at

    def move(self, **spans: float) -> datetime:
        self.at += timedelta(**spans)
        return self.at


def a_rule(slug: str = "dry", **changes: Any) -> AlertRule:
    """Return a warning of class `water` that opens and resolves by one look, with two steps."""
    base = AlertRule(
        slug=slug,
        rule_class="water",
        kind="threshold",
        severity=Severity.WARNING,
        parameters={"open_below": 0.2},
        steps=(
            EscalationStep(after=timedelta(hours=2), audience="agronomist"),
            EscalationStep(after=timedelta(hours=6), audience="owner"),
        ),
        source="made up for tests",
        version="v1",
    )
    return replace(base, **changes)


def a_look(day: date, verdict: RuleVerdict, rule: str = "dry", farm_id: str = FARM, **changes: Any) -> Evaluation:
    value = None if verdict is UNKNOWN else {HOLDS: 0.1, CLEAR: 0.5, BETWEEN: 0.25, EXPLAINED: 0.1}[verdict]
    base = Evaluation(
        farm_id=farm_id,
        rule=rule,
        day=day,
        verdict=verdict,
        value=value,
        threshold=0.2,
        evidence={"index": "a", "unit": "1", "scenes": [f"s{day}"]},
        fingerprint=f"{verdict.value}",
    )
    return replace(base, **changes)


def looks(start: date, letters: str, rule: str = "dry", farm_id: str = FARM) -> list[Evaluation]:
    """Return one look per day: h holds, c clear, b between, e explained, ? unknown; a dot is a day without a look."""
    return [
        a_look(start + timedelta(days=number), LETTERS[letter], rule, farm_id)
        for number, letter in enumerate(letters)
        if letter != "."
    ]


def a_subscription(user: str = "ama", channel: str = "email", **changes: Any) -> Subscription:
    base = Subscription(
        subscription_id=f"{user}-{channel}",
        user_id=user,
        channel=channel,
        address="" if channel == "stream" else f"{user}@example.org",
        created_at=NOON,
    )
    return replace(base, **changes)


@dataclass
class TwoFarms:
    """The farms there are, and which of them are inactive."""

    inactive: set[str] = field(default_factory=set)

    def get(self, farm_id: str) -> Farm:
        if farm_id not in {FARM, "farm-b"}:
            raise UnknownNameError(f"there is no farm {farm_id}")
        return make_farm(farm_id, active=farm_id not in self.inactive)


@dataclass
class World:
    """Everything an alert lives in."""

    engine: Engine
    clock: MovedClock = field(default_factory=MovedClock)
    options: AlertOptions = field(default_factory=AlertOptions)
    store_type: type[SqlAlertStore] = SqlAlertStore
    work_type: type[SqlAlertWork] = SqlAlertWork
    teller_type: type[Teller] = Teller
    escalator_type: type[Escalator] = Escalator
    farms: TwoFarms = field(default_factory=TwoFarms)

    def __post_init__(self) -> None:
        self.store = self.store_type(self.engine, work_type=self.work_type)
        self.people = SqlSubscriptionStore(self.engine)
        self.teller = self.teller_type(PlainRenderer(), self.farms)
        self.service = AlertService(store=self.store, teller=self.teller, clock=self.clock, options=self.options)
        self.escalator = self.escalator_type(store=self.store, teller=self.teller)

    @property
    def today(self) -> date:
        return self.clock.now().date()

    def subscribe(self, *subscriptions: Subscription) -> None:
        for subscription in subscriptions:
            self.people.save(subscription)

    def absorb(self, evaluations: Sequence[Evaluation], *rules: AlertRule) -> AbsorbReport:
        return self.service.absorb(evaluations, rules or (a_rule(),))

    def tick(self) -> TickReport:
        return self.escalator.tick(self.clock.now())

    def alerts(self) -> list[Alert]:
        """Return every alert, by farm, rule and event."""
        found, cursor = self.service.list(limit=1000)
        assert cursor == ""
        return sorted(found, key=lambda alert: (alert.farm_id, alert.rule, alert.event_key))

    def only(self) -> Alert:
        (alert,) = self.alerts()
        return alert

    def kinds(self, alert: Alert) -> list[str]:
        return [event.kind for event in self.service.history(alert.alert_id)]

    def messages(self) -> list[Any]:
        """Return the outbox in the order of its making."""
        with reading(self.engine) as connection:
            return list(connection.execute(select(outbox).order_by(outbox.c.created_at, outbox.c.idempotency_key)))

    def said(self) -> list[tuple[str, str]]:
        """Return (user, occasion) of every message that is or was under way, dropped ones aside."""
        return [(row.user_id, json.loads(row.data)["occasion"]) for row in self.messages() if row.state != "dropped"]

    def said_of(self, alert: Alert) -> list[tuple[str, str]]:
        """Return (user, occasion) of every message about one alert, dropped ones aside."""
        return [
            (row.user_id, json.loads(row.data)["occasion"])
            for row in self.messages()
            if row.state != "dropped" and row.subject == f"alert:{alert.alert_id}"
        ]
