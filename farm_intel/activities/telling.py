"""From what happened to an occurrence to messages for the people who want to know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from farm_intel.activities.ports import Subscriptions
from farm_intel.domain.activities import Activity, Occurrence
from farm_intel.domain.alerts import Severity, Subscription
from farm_intel.domain.messages import NewMessage, Notice, Renderer
from farm_intel.domain.routing import route

RULE_CLASS = "activity"
DUE = "activity_due"
PROPOSED = "activity_proposed"
REMINDER = "activity_reminder"
OVERDUE = "activity_overdue"
FAILED = "activity_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Who is told, and in which words."""

    subscriptions: Subscriptions
    renderer: Renderer

    def open_desk(self, now: datetime) -> Desk:
        """Return a desk that asks for the subscriptions of each farm once, for the length of one batch."""
        return Desk(self, now)


class Desk:
    """Makes the messages of one batch."""

    def __init__(self, telling: Telling, now: datetime) -> None:
        """Start with nothing asked."""
        self._telling = telling
        self._now = now
        self._known: dict[str, Sequence[Subscription]] = {}

    def messages(self, notices: Iterable[Notice]) -> tuple[NewMessage, ...]:
        """Return one message per notice and subscription it is for.

        Raises:
            UnknownNameError: a notice's template does not exist.

        """
        found: list[NewMessage] = []
        for notice in notices:
            if notice.farm_id not in self._known:
                self._known[notice.farm_id] = self._telling.subscriptions(notice.farm_id)
            found += route(notice, self._known[notice.farm_id], self._telling.renderer, now=self._now)
        return tuple(found)


def notice_of(
    occurrence: Occurrence,
    plan: Activity,
    text_key: str,
    occasion: str,
    *,
    severity: Severity = Severity.INFO,
    error: str = "",
) -> Notice:
    """Return a notice about an occurrence.

    The template is given `title`, `activity_type`, `farm_id`, `day` and `time` as scheduled on the farm's calendar,
    `assignee`, `by_day` (until when it waits for an answer; None where it does not) and `error`.
    """
    answer_by = occurrence.acknowledge_by
    return Notice(
        subject=f"occurrence:{occurrence.activity_id}:{occurrence.due_at.isoformat()}",
        occasion=occasion,
        farm_id=occurrence.farm_id,
        rule_class=RULE_CLASS,
        severity=severity,
        text_key=text_key,
        params={
            "title": occurrence.title,
            "activity_type": occurrence.type,
            "farm_id": occurrence.farm_id,
            "day": occurrence.local_date.isoformat(),
            "time": occurrence.local_time,
            "assignee": occurrence.assignee,
            "by_day": None if answer_by is None else answer_by.date().isoformat(),
            "error": error,
        },
        data={
            "activity_id": occurrence.activity_id,
            "due_at": occurrence.due_at.isoformat(),
            "activity_type": occurrence.type,
            "form": dict(occurrence.form),
            "assignee": occurrence.assignee,
            "acknowledge": plan.acknowledge,
            "event_key": plan.event_key,
        },
    )
