"""Bringing the alerts of one farm in line with its evaluations, within one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from farm_intel.alerts.lifecycle import (
    SYSTEM,
    WITHDRAWN,
    AlertOptions,
    Opening,
    Span,
    changed,
    fold,
    moved,
    new_alert,
    plan,
)
from farm_intel.alerts.ports import AlertWork
from farm_intel.alerts.tails import Tails, ended_originals, reach_of
from farm_intel.alerts.telling import Teller, announce, tell_resolved, told
from farm_intel.domain.alerts import Alert, AlertRule, AlertState, Evaluation

UNTOLD = "untold"
"""Kind of the history entry that says why nobody is told."""


class Aligner:
    """Opens, touches, resolves, withdraws and suppresses; `counts` says how often."""

    def __init__(self, work: AlertWork, teller: Teller, options: AlertOptions, *, now: datetime) -> None:
        self._work = work
        self._teller = teller
        self._options = options
        self._now = now
        self._cool_down = options.cool_down
        self._alerts: list[Alert] | None = None
        self.counts: Counter[str] = Counter()

    def align(self, farm_id: str, rules: Sequence[AlertRule], turned: Mapping[str, date]) -> None:
        """Bring the alerts of rules in line with everything they ever said of the farm.

        Args:
            farm_id: of one farm.
            rules: the gravest first, so that a lesser one of the same class finds it open.
            turned: rule -> earliest day whose verdict is another one now; missing where only evidence is new.

        """
        tails = Tails(self._work, farm_id, turned)
        for rule in rules:
            self._align(farm_id, rule, turned.get(rule.slug), tails)

    def _align(self, farm_id: str, rule: AlertRule, turned: date | None, tails: Tails) -> None:
        if self._alerts is None:
            self._alerts = self._work.of_farm(farm_id)
        originals = {alert.alert_id: alert for alert in self._alerts}
        alerts = [alert for alert in self._alerts if alert.rule == rule.slug]
        aligned = None
        if ended_originals(alerts, originals):
            aligned = self._work.aligned(farm_id, rule.slug)
        reach = reach_of(turned, alerts, originals, aligned)
        if reach is None:
            return
        evaluations = tails.after(rule, reach)
        self._cool_down = _cool_down(rule, self._options)
        todo = plan(fold(evaluations, rule), alerts, originals, self._cool_down)
        if todo.is_something:
            self._alerts = None  # read again: what follows writes, and tells, which writes too
        days = {evaluation.day: evaluation for evaluation in evaluations}
        for alert, span in todo.going_on:
            self._touch(alert, span, days[span.last_day])
        for alert, span in todo.resolve:
            self._resolve(alert, span)
        for alert in todo.withdraw:
            self._withdraw(alert)
        for opening in todo.open:
            self._open(rule, opening, alerts)

    def _touch(self, alert: Alert, span: Span, latest: Evaluation) -> None:
        if span.last_day == alert.last_day:
            return
        if self._work.update(alert, changed(alert, now=self._now, last_day=span.last_day)):
            self._work.note(alert.alert_id, "evaluated", by=SYSTEM, note=_said(latest))

    def _resolve(self, alert: Alert, span: Span) -> None:
        if span.resolved is None:
            return
        reason = f"clear look: {_said(span.resolved)}"
        self._end(alert, reason, last_day=span.last_day, text_key="alert_resolved")
        self.counts["resolved"] += 1

    def _withdraw(self, alert: Alert) -> None:
        reason = f"{WITHDRAWN}: what was seen on {alert.opened_day.isoformat()} has been computed again and is no alert"
        self._end(alert, reason, last_day=alert.last_day, text_key="alert_withdrawn")
        self.counts["withdrawn"] += 1

    def _end(self, alert: Alert, reason: str, *, last_day: date, text_key: str) -> None:
        after = moved(
            alert,
            AlertState.RESOLVED,
            now=self._now,
            by=SYSTEM,
            reason=reason,
            last_day=last_day,
            resolved_day=last_day,
        )
        if self._work.update(alert, after):
            self._work.note(alert.alert_id, after.state.value, by=SYSTEM, note=reason)
            self.counts["messages"] += tell_resolved(self._work, self._teller, after, now=self._now, text_key=text_key)

    def _open(self, rule: AlertRule, opening: Opening, earlier: list[Alert]) -> None:
        bare = opening.evaluation
        full = self._work.evaluation(bare.farm_id, bare.rule, bare.day) or bare
        alert = new_alert(rule, replace(opening, evaluation=full), now=self._now)
        untold = self._why_untold(opening)
        if untold:
            alert = replace(alert, next_at=None)
        if not self._work.insert(alert):
            return  # somebody else opened this event: it is theirs to tell
        self._work.note(alert.alert_id, alert.state.value, by=SYSTEM, note=_said(opening.evaluation))
        if untold:
            self._work.note(alert.alert_id, UNTOLD, by=SYSTEM, note=untold)
            self.counts["untold"] += 1
            self._resolve(alert, opening.span)
        elif original := self._original(alert, earlier):
            self._suppress(alert, original)
        else:
            self._announce(alert)

    def _why_untold(self, opening: Opening) -> str:
        day = opening.evaluation.day
        oldest = self._now.date() - self._options.old_news
        if day < oldest:
            return f"old news: it opened on {day.isoformat()}, before {oldest.isoformat()}"
        if opening.span.resolved is not None:
            return "it was over before it was found"
        return ""

    def _original(self, alert: Alert, earlier: list[Alert]) -> Alert | None:
        """Return the alert this one says nothing new to: a graver one of its class, or the rule's own just before."""
        for other in self._work.live(alert.farm_id):
            graver = other.rule_class == alert.rule_class and other.severity > alert.severity
            if graver and other.state is not AlertState.OPEN:  # an open one has been told to nobody
                return other
        return next((other for other in reversed(earlier) if self._is_again(alert, other)), None)

    def _is_again(self, alert: Alert, other: Alert) -> bool:
        return (
            other.state is AlertState.RESOLVED
            and other.by == SYSTEM
            and not other.reason.startswith(WITHDRAWN)
            and other.severity >= alert.severity
            and other.resolved_day is not None
            and other.resolved_day <= alert.opened_day <= other.resolved_day + self._cool_down
            and bool(told(self._work.history(other.alert_id)))
        )

    def _suppress(self, alert: Alert, original: Alert) -> None:
        reason = (
            f"duplicate of {original.alert_id}: {original.rule}, {original.severity.name.lower()}, "
            f"opened {original.opened_day.isoformat()}"
        )
        after = moved(
            alert,
            AlertState.SUPPRESSED,
            now=self._now,
            by=SYSTEM,
            reason=reason,
            duplicate_of=original.alert_id,
        )
        if self._work.update(alert, after):
            self._work.note(alert.alert_id, after.state.value, by=SYSTEM, note=reason)
            self.counts["suppressed"] += 1

    def _announce(self, alert: Alert) -> None:
        self.counts["opened"] += 1
        self.counts["messages"] += announce(self._work, self._teller, alert, now=self._now)


def _cool_down(rule: AlertRule, options: AlertOptions) -> timedelta:
    days = rule.parameters.get("cool_down_days")
    return timedelta(days=days) if isinstance(days, int | float) else options.cool_down


def _said(evaluation: Evaluation) -> str:
    """Return what a look said, for the history."""
    value = "no value" if evaluation.value is None else f"{evaluation.value:.4g}"
    limit = "" if evaluation.threshold is None else f" against {evaluation.threshold:.4g}"
    return f"{evaluation.day.isoformat()}: {evaluation.verdict.value}, {value}{limit}"
