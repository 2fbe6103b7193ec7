"""What the evaluations of a rule mean for its alerts: pure decisions, no store and no messages.

The evaluations of one rule on one farm, in the order of their days, fold into spans (`alerts.spans`). Alerts are
brought in line with the spans, whatever the order in which the evaluations arrived: an alert belongs to the span whose
days it shares, so a look that arrives late and moves the beginning of a span makes no second alert of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from farm_intel.alerts.rules import rule_as_dict
from farm_intel.alerts.spans import SpanEvent, SpanState, advance
from farm_intel.domain.alerts import (
    LIVE,
    Alert,
    AlertRule,
    AlertState,
    EscalationStep,
    Evaluation,
    RuleVerdict,
    check_alert_transition,
)

SYSTEM = "farm-intel"
"""Who resolves by a clear look; no user may call themselves so."""

WITHDRAWN = "withdrawn"
"""First word of the reason of an alert whose evidence has vanished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertOptions:
    """What may be set about the life of alerts."""

    old_news: timedelta = timedelta(days=14)
    """Alerts that opened longer ago than this are recorded and told to nobody: a backfill pages no one."""
    cool_down: timedelta = timedelta(days=3)
    """A rule that holds again so soon after it was clear is the same trouble: recorded as a duplicate. A rule may say
    otherwise by its parameter `cool_down_days`. One that holds for longer than that alerts when the time is over."""
    longest_snooze: timedelta = timedelta(days=60)


@dataclass(slots=True, kw_only=True)
class Span:
    """One event of a rule on a farm: from the first look that held to the look that resolved it."""

    first_day: date
    opening: Evaluation
    """The look that opened it."""
    holding: list[Evaluation] = field(default_factory=list)
    """Every look that held, ascending."""
    last_day: date
    """Solar day of the latest usable look, the resolving one included."""
    resolved: Evaluation | None = None


def fold(evaluations: Iterable[Evaluation], rule: AlertRule) -> list[Span]:
    """Return the spans of one rule on one farm.

    Args:
        evaluations: ascending by day.
        rule: with how many looks open and resolve.

    """
    spans: list[Span] = []
    state = SpanState()
    row: list[Evaluation] = []
    for evaluation in evaluations:
        state, change = advance(state, evaluation, rule)
        if evaluation.verdict is RuleVerdict.UNKNOWN:
            continue
        if change is not None and change.event is SpanEvent.OPENED:
            held = [one for one in (*row, evaluation) if one.day >= change.first_day]
            spans.append(Span(first_day=change.first_day, opening=evaluation, holding=held, last_day=evaluation.day))
        elif state.is_open or change is not None:
            _extend(spans[-1], evaluation, resolved=change is not None)
        row = [*row, evaluation] if not state.is_open and evaluation.verdict is RuleVerdict.HOLDS else []
    return spans


def _extend(span: Span, evaluation: Evaluation, *, resolved: bool) -> None:
    span.last_day = evaluation.day
    if evaluation.verdict is RuleVerdict.HOLDS:
        span.holding.append(evaluation)
    if resolved:
        span.resolved = evaluation


def shares_days(alert: Alert, span: Span) -> bool:
    """Return True where the alert is of the span: their days overlap."""
    begin = date.fromisoformat(alert.event_key)
    return begin <= span.last_day and (alert.resolved_day or alert.last_day) >= span.first_day


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """An event that has no alert yet."""

    span: Span
    evaluation: Evaluation
    """What opens it: the span's own opening, or the first look that held after an earlier alert of it was over."""
    event_key: str


@dataclass(slots=True, kw_only=True)
class Plan:
    """What brings the alerts of one rule on one farm in line with its spans."""

    going_on: list[tuple[Alert, Span]] = field(default_factory=list)
    resolve: list[tuple[Alert, Span]] = field(default_factory=list)
    withdraw: list[Alert] = field(default_factory=list)
    open: list[Opening] = field(default_factory=list)

    @property
    def is_something(self) -> bool:
        """Whether anything may be written."""
        touched = any(span.last_day != alert.last_day for alert, span in self.going_on)
        return bool(touched or self.resolve or self.withdraw or self.open)


def plan(spans: Sequence[Span], alerts: Sequence[Alert], originals: Mapping[str, Alert], cool_down: timedelta) -> Plan:
    """Return what is to be done.

    Args:
        spans: ascending; those before every live alert may be missing, if they were planned before (`alerts.tails`).
        alerts: all there are of the rule on the farm.
        originals: the alerts that suppressed ones are duplicates of, by id.
        cool_down: how long a rule that holds again is no news.

    """
    result = Plan()
    for alert in alerts:
        if alert.state not in LIVE:
            continue
        own = [span for span in spans if shares_days(alert, span)]
        if not own:
            result.withdraw.append(alert)
        elif own[-1].resolved is not None:
            result.resolve.append((alert, own[-1]))
        else:
            result.going_on.append((alert, own[-1]))
    for span in spans:
        opening = _opening(span, [alert for alert in alerts if shares_days(alert, span)], originals, cool_down)
        if opening is not None:
            result.open.append(opening)
    return result


def _opening(span: Span, own: Sequence[Alert], originals: Mapping[str, Alert], cool_down: timedelta) -> Opening | None:
    if not own:
        return Opening(span=span, evaluation=span.opening, event_key=span.first_day.isoformat())
    covered = max(_covered_until(alert, originals, cool_down) for alert in own)
    later = next((evaluation for evaluation in span.holding if evaluation.day > covered), None)
    return None if later is None else Opening(span=span, evaluation=later, event_key=later.day.isoformat())


def _covered_until(alert: Alert, originals: Mapping[str, Alert], cool_down: timedelta) -> date:
    """Return the last day of the span for which this alert makes another one unnecessary.

    A person's word holds for the whole event. A clear look that turned out not to be one, or an original that is over,
    does not: an event that goes on then is told as a new one, never by re-opening the old.
    """
    if alert.state in LIVE:
        return date.max
    if alert.state is AlertState.SUPPRESSED:
        return _suppressed_until(alert, originals.get(alert.duplicate_of), cool_down)
    return date.max if alert.by != SYSTEM else alert.resolved_day or alert.last_day


def _suppressed_until(alert: Alert, original: Alert | None, cool_down: timedelta) -> date:
    if original is None:
        return alert.last_day
    if original.resolved_day is None:
        return date.max
    again = original.rule == alert.rule and not original.reason.startswith(WITHDRAWN)
    return original.resolved_day + (cool_down if again else timedelta())


def new_alert(rule: AlertRule, opening: Opening, *, now: datetime) -> Alert:
    """Return the alert of an event: open, with rule, evidence and escalation steps as they are now."""
    evaluation = opening.evaluation
    steps = tuple(step for step in rule.steps if step.min_severity <= rule.severity)
    return Alert(
        alert_id=_alert_id(evaluation.farm_id, rule.slug, opening.event_key),
        farm_id=evaluation.farm_id,
        rule=rule.slug,
        rule_class=rule.rule_class,
        event_key=opening.event_key,
        severity=rule.severity,
        state=AlertState.OPEN,
        opened_day=evaluation.day,
        last_day=opening.span.last_day,
        evidence={
            **evaluation.evidence,
            "rule": rule_as_dict(rule),
            "day": evaluation.day.isoformat(),
            "value": evaluation.value,
            "threshold": evaluation.threshold,
            "fingerprint": evaluation.fingerprint,
        },
        rule_version=rule.version,
        steps=steps,
        next_at=now + steps[0].after if steps else None,
        opened_at=now,
        changed_at=now,
    )


def moved(alert: Alert, state: AlertState, *, now: datetime, **changes: object) -> Alert:
    """Return the alert in another state.

    Raises:
        IllegalTransitionError: the table of transitions does not have it.

    """
    check_alert_transition(alert.state, state, what=f"the alert {alert.alert_id} of farm {alert.farm_id}")
    if state in {AlertState.ACKNOWLEDGED, AlertState.RESOLVED, AlertState.SUPPRESSED}:
        changes["next_at"] = None
    return changed(alert, now=now, state=state, **changes)


def changed(alert: Alert, *, now: datetime, **changes: object) -> Alert:
    """Return the next version of the alert."""
    values: dict[str, object] = {**changes, "changed_at": now, "version": alert.version + 1}
    return replace(alert, **values)  # type: ignore[arg-type]  # names are checked by the tests of each caller


def step_due(alert: Alert) -> EscalationStep | None:
    """Return the step that comes next, or None where all have been taken."""
    return alert.steps[alert.next_step] if alert.next_step < len(alert.steps) else None


def gap_before(alert: Alert, number: int) -> timedelta | None:
    """Return the time between step `number` and the one before it, or the opening; None where there is none."""
    if number >= len(alert.steps):
        return None
    before = alert.steps[number - 1].after if number else timedelta()
    return max(alert.steps[number].after - before, timedelta())


def after_step(alert: Alert) -> datetime | None:
    """Return when the step after the one that is due comes: counted from when that one was due, not from now."""
    gap = gap_before(alert, alert.next_step + 1)
    return None if gap is None or alert.next_at is None else alert.next_at + gap


def _alert_id(farm_id: str, rule: str, event_key: str) -> str:
    return hashlib.sha256(f"{farm_id}|{rule}|{event_key}".encode()).hexdigest()[:16]
