"""Activities, alerts, pump and delivery in memory, as the Dagster layer sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Protocol

from farm_intel.domain.alerts import LIVE, Alert, AlertRule, AlertState, Evaluation, RuleVerdict, Severity
from farm_intel.domain.assessment import FusedObservation
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord


@dataclass(frozen=True, kw_only=True)
class FakeWork:
    """What is due."""

    occurrences: int = 0
    messages: int = 0
    steps: int = 0
    oldest: datetime | None = None
    batch: str = "b0"


@dataclass(frozen=True, kw_only=True)
class FakeReport:
    """What a pass did."""

    generated: int = 0
    worked: Mapping[str, int] = field(default_factory=dict)
    proposed: int = 0
    steps: int = 0
    sent: int = 0
    failed: int = 0
    dead: int = 0
    problems: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    seconds: float = 0.1


@dataclass
class FakePump:
    """Work that a pass takes away."""

    work: FakeWork = FakeWork()
    report: FakeReport = FakeReport()
    error: Exception | None = None
    takes: bool = True
    runs: list[str] = field(default_factory=list)
    asked: int = 0

    def due(self) -> FakeWork:
        self.asked += 1
        return self.work

    def run(self, *, run_id: str) -> FakeReport:
        self.runs.append(run_id)
        if self.error is not None:
            raise self.error
        if self.takes:
            self.work = FakeWork()
        return self.report


@dataclass(frozen=True, kw_only=True)
class FakePlanEntry:
    """One date of a plan."""

    farm_id: str
    local_date: date
    state: str = "due"
    activity_id: str = "a1"
    type: str = "irrigation"
    title: str = "Irrigate the lower field"
    local_time: str = "06:30"
    assignee: str = "Wanjiru"
    reason: str = ""

    @property
    def due_at(self) -> datetime:
        return datetime.combine(self.local_date, time.fromisoformat(self.local_time), UTC)


@dataclass
class FakeActivities:
    """Plans, and runs whose leases are over."""

    entries: list[FakePlanEntry] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)

    def plan(self, farm_ids: Sequence[str], *, start: date, end: date) -> list[FakePlanEntry]:
        return [one for one in self.entries if one.farm_id in farm_ids and start <= one.local_date <= end]

    def runs_in_doubt(self) -> list[str]:
        return list(self.doubted)


class FusedRows(Protocol):
    """Where fused values are."""

    def fused(self, *, farm_ids: Sequence[str], start: date, end: date) -> Iterator[FusedObservation]: ...


LOW = AlertRule(
    slug="low",
    rule_class="stress",
    kind="threshold",
    severity=Severity.WARNING,
    parameters={"enter": 0.3},
    source="a test",
)
VERY_LOW = replace(LOW, slug="very_low", severity=Severity.CRITICAL, parameters={"enter": 0.1})


@dataclass
class FakeAlerts:
    """Rules of one bound over whatever index was fused; alerts open while one holds."""

    source: Callable[[], FusedRows]
    """Tests may replace the store of an installation."""
    rules: dict[str, AlertRule] = field(default_factory=lambda: {rule.slug: rule for rule in (LOW, VERY_LOW)})
    stored: dict[tuple[str, str, date], Evaluation] = field(default_factory=dict)
    opened: dict[tuple[str, str], Alert] = field(default_factory=dict)
    explained: set[tuple[str, date]] = field(default_factory=set)
    """Farms and days of which the logbook says why."""
    error: Exception | None = None

    def evaluate(self, farm_ids: Sequence[str], *, start: date, end: date) -> Iterator[Evaluation]:
        if self.error is not None:
            raise self.error
        found = self.source().fused(farm_ids=farm_ids, start=start, end=end)
        days = [date.fromordinal(n) for n in range(start.toordinal(), end.toordinal() + 1)]
        looks = {(item.farm_id, item.solar_day): item for item in found if item.value is not None}
        for day in days:
            for farm_id in farm_ids:
                for rule in self.rules.values():
                    evaluation = self._judge(rule, farm_id, day, looks.get((farm_id, day)))
                    self.stored[farm_id, rule.slug, day] = evaluation
                    self._absorb(rule, evaluation)
                    yield evaluation

    def of_day(self, farm_id: str, day: date) -> list[Alert]:
        return [
            alert
            for alert in self.opened.values()
            if alert.farm_id == farm_id
            and alert.opened_day <= day
            and (alert.resolved_day is None or day <= alert.resolved_day)
        ]

    def _judge(self, rule: AlertRule, farm_id: str, day: date, look: FusedObservation | None) -> Evaluation:
        bound = float(rule.parameters["enter"])
        verdict, value = RuleVerdict.UNKNOWN, None
        evidence: dict[str, object] = {"note": "nothing usable was seen"}
        if look is not None:
            value = look.value
            assert value is not None
            held = RuleVerdict.EXPLAINED if (farm_id, day) in self.explained else RuleVerdict.HOLDS
            verdict = held if value < bound else RuleVerdict.CLEAR
            evidence = {
                "cells": [f"stac|{farm_id}|{day}"],
                "scenes": [f"S2-{day}"],
                "rasters": [{"cell": f"stac|{farm_id}|{day}", "sha256": "cafe" * 16, "band": 1}],
            }
        return Evaluation(
            farm_id=farm_id,
            rule=rule.slug,
            day=day,
            verdict=verdict,
            value=value,
            threshold=bound,
            evidence=evidence,
            fingerprint=f"{rule.slug}:{verdict}:{value}",
        )

    def _absorb(self, rule: AlertRule, evaluation: Evaluation) -> None:
        key = (evaluation.farm_id, rule.slug)
        alert = self.opened.get(key)
        live = alert is not None and alert.state in LIVE
        if evaluation.verdict is RuleVerdict.HOLDS and not live:
            at = datetime.combine(evaluation.day, time(12), UTC)
            self.opened[key] = Alert(
                alert_id=f"alert-{evaluation.farm_id}-{rule.slug}",
                farm_id=evaluation.farm_id,
                rule=rule.slug,
                rule_class=rule.rule_class,
                event_key=evaluation.day.isoformat(),
                severity=rule.severity,
                state=AlertState.OPEN,
                opened_day=evaluation.day,
                last_day=evaluation.day,
                evidence=evaluation.evidence,
                rule_version=rule.version,
                steps=(),
                opened_at=at,
                changed_at=at,
            )
        elif evaluation.verdict is RuleVerdict.CLEAR and alert is not None and live:
            self.opened[key] = replace(alert, state=AlertState.RESOLVED, resolved_day=evaluation.day)


@dataclass(kw_only=True)
class FakeAlertHealth:
    """How the watcher does; well unless a test says otherwise."""

    heartbeat: datetime | None = field(default_factory=lambda: datetime.now(UTC))
    findings: list[str] = field(default_factory=list)
    oldest_due: datetime | None = None
    dead_letters: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class FakeDeliveryHealth:
    """How delivery does."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    oldest_due: datetime | None = None
    breakers: list[tuple[Operation, BreakerRecord]] = field(default_factory=list)
