"""From what happens to an alert to messages in its own transaction, with a record of who was told what.

The record is the history: entries `sent` hold JSON `{"occasion", "to", "later", "merged"}`, entries `dropped` hold
`{"recipients"}`; a recipient is `user/channel`, never an address. `later` waits for the end of quiet hours; `merged`
was left out because an earlier message about the alert still waits for that recipient: one message, not five.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from farm_intel.alerts.lifecycle import SYSTEM, moved
from farm_intel.alerts.ports import AlertWork, Farms
from farm_intel.domain.alerts import SUBSCRIBERS, Alert, AlertEvent, AlertState, Evaluation
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.messages import NewMessage, Notice, Renderer
from farm_intel.domain.routing import ANY, route

SENT = "sent"
DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Why people are told now."""

    name: str
    """`opened`, `step:1`, `reminder:7`, `resolved`."""
    text_key: str
    audience: str = SUBSCRIBERS
    only: Collection[str] | None = None
    """Recipients it is for, whatever group they are in; None for all the subscriptions say."""
    step: int = 0
    """Number of the escalation step, from 1."""


class Teller:
    """Tells subscribers about an alert."""

    def __init__(self, renderer: Renderer, farms: Farms) -> None:
        self._renderer = renderer
        self._farms = farms

    def tell(self, work: AlertWork, alert: Alert, occasion: Occasion, *, now: datetime) -> int:
        """Enqueue the messages of an occasion with the transaction, note who gets them, and return how many do.

        Those for whom an earlier message still waits count: that message tells them.
        """
        subscriptions = work.subscriptions(alert.farm_id)
        messages: Sequence[NewMessage] = route(
            self._notice(work, alert, occasion, now), subscriptions, self._renderer, now=now
        )
        if occasion.only is not None:
            messages = [message for message in messages if _recipient(message) in occasion.only]
        if not messages:
            return 0
        kept, merged = self._merge(work, messages, now)
        work.tell(kept)
        entry = {
            "occasion": occasion.name,
            "to": [_recipient(message) for message in kept if message.not_before <= now],
            "later": [_recipient(message) for message in kept if message.not_before > now],
            "merged": [_recipient(message) for message in merged],
        }
        work.note(alert.alert_id, SENT, note=json.dumps({key: value for key, value in entry.items() if value}))
        return len(messages)

    def _merge(
        self, work: AlertWork, messages: Sequence[NewMessage], now: datetime
    ) -> tuple[list[NewMessage], list[NewMessage]]:
        later = [message for message in messages if message.not_before > now]
        if not later:
            return list(messages), []
        waiting = set(work.waiting(later[0].subject))
        merged = [message for message in later if (message.user_id, message.channel) in waiting]
        return [message for message in messages if message not in merged], merged

    def _notice(self, work: AlertWork, alert: Alert, occasion: Occasion, now: datetime) -> Notice:
        latest = work.evaluation(alert.farm_id, alert.rule, alert.last_day)
        evidence = alert.evidence
        return Notice(
            subject=subject(alert),
            occasion=occasion.name,
            farm_id=alert.farm_id,
            rule_class=alert.rule_class,
            severity=alert.severity,
            text_key=occasion.text_key,
            audience=occasion.audience if occasion.only is None else ANY,
            params={
                "farm_name": self._farm_name(alert.farm_id),
                "rule": alert.rule,
                "index": _text(evidence.get("index")) or _text(_rule_row(evidence).get("index")),
                "value": _told_value(evidence, latest, is_over=occasion.name == "resolved"),
                "threshold": _number(evidence.get("threshold")) if latest is None else latest.threshold,
                "unit": _text(evidence.get("unit")),
                "day": alert.last_day.isoformat(),
                "opened_day": alert.opened_day.isoformat(),
                "days_open": max((alert.last_day - alert.opened_day).days, (now.date() - alert.opened_day).days, 0),
                "severity": alert.severity.name.lower(),
                "step": occasion.step,
                "reason": alert.reason,
                "by": alert.by,
            },
            data={
                "alert_id": alert.alert_id,
                "rule": alert.rule,
                "event_key": alert.event_key,
                "state": alert.state.value,
                "opened_day": alert.opened_day.isoformat(),
                "last_day": alert.last_day.isoformat(),
                "value": None if latest is None else latest.value,
                "threshold": None if latest is None else latest.threshold,
                "step": occasion.step,
            },
        )

    def _farm_name(self, farm_id: str) -> str:
        try:
            return self._farms.get(farm_id).name or farm_id
        except UnknownNameError:
            return farm_id  # a farm that is gone must not keep its alert from being told or resolved


def subject(alert: Alert) -> str:
    """Return what messages about the alert are filed under."""
    return f"alert:{alert.alert_id}"


def drop_waiting(work: AlertWork, alert: Alert, *, reason: str, steps_only: bool = False) -> None:
    """Take back the messages that wait for the end of quiet hours and are no longer true."""
    dropped = work.drop_waiting(subject(alert), reason=reason, steps_only=steps_only)
    if dropped:
        note = json.dumps({"recipients": [f"{user}/{channel}" for user, channel in dropped], "reason": reason})
        work.note(alert.alert_id, DROPPED, note=note)


def told(history: Iterable[AlertEvent]) -> frozenset[str]:
    """Return the recipients who have been told, or whose message cannot be taken back any more."""
    counts: Counter[str] = Counter()
    for event in history:
        if event.kind == SENT:
            entry = json.loads(event.note)
            counts.update([*entry.get("to", ()), *entry.get("later", ())])
        elif event.kind == DROPPED:
            counts.subtract(json.loads(event.note).get("recipients", ()))
    return frozenset(recipient for recipient, count in counts.items() if count > 0)


def announce(work: AlertWork, teller: Teller, alert: Alert, *, now: datetime) -> int:
    """Tell that an open alert has opened; it is notified if anybody wants to know. Return how many do."""
    recipients = teller.tell(work, alert, Occasion(name="opened", text_key="alert_opened"), now=now)
    if recipients:
        after = moved(alert, AlertState.NOTIFIED, now=now)
        if work.update(alert, after):
            work.note(alert.alert_id, after.state.value, by=SYSTEM, note=f"{recipients} messages")
    return recipients


def tell_resolved(
    work: AlertWork, teller: Teller, alert: Alert, *, now: datetime, text_key: str = "alert_resolved"
) -> int:
    """Take back what waits and tell the end to those who were told the beginning; return how many are told."""
    drop_waiting(work, alert, reason="resolved before it was sent")
    recipients = told(work.history(alert.alert_id))
    if not recipients:
        return 0
    return teller.tell(work, alert, Occasion(name="resolved", text_key=text_key, only=recipients), now=now)


def _recipient(message: NewMessage) -> str:
    return f"{message.user_id}/{message.channel}"


def _rule_row(evidence: Mapping[str, object]) -> Mapping[str, object]:
    row = evidence.get("rule")
    return row if isinstance(row, Mapping) else {}


def _told_value(evidence: Mapping[str, object], latest: Evaluation | None, *, is_over: bool) -> float | None:
    """Return the latest value; while the alert lasts, a look without one leaves that of the opening to be told."""
    if latest is None or (latest.value is None and not is_over):
        return _number(evidence.get("value"))
    return latest.value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
