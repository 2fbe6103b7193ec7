"""The steps of alerts nobody has acknowledged, and the ends of snoozes."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from farm_intel.alerts.lifecycle import SYSTEM, after_step, changed, gap_before, moved, step_due
from farm_intel.alerts.ports import AlertStore, AlertWork
from farm_intel.alerts.telling import Occasion, Teller, told
from farm_intel.domain.alerts import LIVE, Alert, AlertState
from farm_intel.domain.errors import PermanentError

_LOG = logging.getLogger(__name__)


class Move(StrEnum):
    """What became of one alert that was due."""

    STEP = "step"
    WOKEN = "woken"
    """Its snooze is over."""
    QUIET = "quiet"
    """There was nothing to do; it is not due any more."""
    LOST = "lost"
    """Somebody else was first: another pump, or an acknowledgement."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one pass did."""

    steps: int = 0
    woken: int = 0
    lost: int = 0
    failed: int = 0
    """Alerts whose message could not be made; the auditor finds them when they are overdue."""


class Escalator:
    """Takes each due alert one step further per pass, so that an acknowledgement can come between overdue steps."""

    def __init__(self, *, store: AlertStore, teller: Teller, limit: int = 1000) -> None:
        self._store = store
        self._teller = teller
        self._limit = limit

    def tick(self, now: datetime) -> TickReport:
        """Take every alert whose `next_at` has come one step further.

        Two pumps may do so at once: an alert is claimed by its version, and its new state, history and messages are
        one transaction.
        """
        moves = Counter(self.advance(alert, now) for alert in self._store.due(now, limit=self._limit))
        return TickReport(
            steps=moves[Move.STEP], woken=moves[Move.WOKEN], lost=moves[Move.LOST], failed=moves[Move.FAILED]
        )

    def advance(self, alert: Alert, now: datetime) -> Move:
        """Take one due alert one step further, if it is still as it was read."""
        try:
            with self._store.work(now=now) as work:
                if alert.state is AlertState.SNOOZED:
                    return self._wake(work, alert, now)
                return self._step(work, alert, now)
        except PermanentError as error:  # one alert that cannot be told must not keep the others waiting
            _LOG.error("no step for alert %s of farm %s: %s", alert.alert_id, alert.farm_id, error)
            return Move.FAILED

    def _wake(self, work: AlertWork, alert: Alert, now: datetime) -> Move:
        gap = gap_before(alert, alert.next_step)
        after = moved(alert, AlertState.NOTIFIED, now=now, next_at=None if gap is None else now + gap)
        if not work.update(alert, after):
            return Move.LOST
        work.note(alert.alert_id, after.state.value, by=SYSTEM, note="the snooze is over")
        occasion = Occasion(
            name=f"reminder:{after.version}", text_key="alert_opened", only=told(work.history(alert.alert_id)) or None
        )
        self._teller.tell(work, after, occasion, now=now)
        return Move.WOKEN

    def _step(self, work: AlertWork, alert: Alert, now: datetime) -> Move:
        step = step_due(alert)
        if step is None or alert.state not in LIVE - {AlertState.ACKNOWLEDGED}:
            return Move.QUIET if work.update(alert, changed(alert, now=now, next_at=None)) else Move.LOST
        number = alert.next_step + 1
        changes = {"next_step": number, "next_at": after_step(alert)}
        # an open alert has reached nobody: it becomes notified with the first step that reaches somebody
        is_open = alert.state is AlertState.OPEN
        after = (
            changed(alert, now=now, **changes) if is_open else moved(alert, AlertState.ESCALATED, now=now, **changes)
        )
        if not work.update(alert, after):
            return Move.LOST
        occasion = Occasion(name=f"step:{number}", text_key="alert_escalated", audience=step.audience, step=number)
        reached = self._teller.tell(work, after, occasion, now=now)
        note = f"step {number} to {step.audience}: {reached} messages"
        work.note(alert.alert_id, "step" if is_open else after.state.value, by=SYSTEM, note=note)
        if is_open and reached:
            work.update(after, moved(after, AlertState.NOTIFIED, now=now))
            work.note(alert.alert_id, AlertState.NOTIFIED.value, by=SYSTEM, note=f"by step {number}")
        return Move.STEP
