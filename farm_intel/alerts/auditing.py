"""Looks for alerts that are stuck, repairs what it can, and beats the heart only when nothing was stuck."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from farm_intel.alerts.aligning import UNTOLD
from farm_intel.alerts.escalating import Escalator, Move
from farm_intel.alerts.lifecycle import SYSTEM, changed, step_due
from farm_intel.alerts.ports import AlertStore, Farms, Heartbeat
from farm_intel.alerts.telling import SENT, Teller, announce, subject, told
from farm_intel.domain.alerts import Alert, AlertState
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.messages import STREAM, MessageState

_LOG = logging.getLogger(__name__)

OVERDUE_AFTER = timedelta(minutes=5)
"""As Grafana OnCall's auditor: five pump cycles of a minute."""

HEART = "alerts"


class FindingKind(StrEnum):
    """What can be wrong with a live alert."""

    OVERDUE = "overdue"
    """Its step or the end of its snooze should have come."""
    NO_NEXT = "no_next"
    """Steps are left, but none will ever come."""
    NOBODY_TOLD = "nobody_told"
    """It is open and nobody has been told, though it is no old news."""
    NO_RULE = "no_rule"
    """Its rule no longer exists, so no clear look will ever resolve it."""
    NO_FARM = "no_farm"
    """Its farm is inactive or gone, so nothing looks at it any more."""
    UNDELIVERED = "undelivered"
    """Every message about it is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with one alert."""

    kind: FindingKind
    alert_id: str
    farm_id: str
    detail: str
    hint: str
    repaired: bool = False
    """The next scan should not find it again."""
    stuck: bool = True
    """False where nothing is wrong with the watcher: nobody has subscribed to such alerts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPorts:
    """What the auditor looks at and speaks to."""

    store: AlertStore
    escalator: Escalator
    teller: Teller
    farms: Farms
    heartbeat: Heartbeat
    rules: Callable[[], Collection[str]]
    """Slugs of the rules there are now."""


class Auditor:
    """Finds stuck alerts."""

    def __init__(self, ports: AuditPorts) -> None:
        self._ports = ports

    def audit(self, now: datetime) -> list[Finding]:
        """Return what is wrong with the live alerts, after repairing what can be.

        The heart beats only if nothing was stuck: whoever watches it from outside learns of a dead watcher and of a
        stuck alert alike, by silence.
        """
        alerts = self._ports.store.live()
        states = self._ports.store.outbox_states([subject(alert) for alert in alerts])
        rules = self._ports.rules()
        findings = [
            finding
            for alert in alerts
            for finding in (
                *self._clockwork(alert, now),
                *self._ground(alert, rules),
                *self._delivery(alert, states.get(subject(alert), {}), now),
            )
        ]
        for finding in findings:
            _LOG.warning("%s (%s, repaired: %s)", finding.detail, finding.kind.value, finding.repaired)
        if not any(finding.stuck for finding in findings):
            self._ports.heartbeat.beat(HEART, f"{len(alerts)} live alerts, none stuck")
        return findings

    def _clockwork(self, alert: Alert, now: datetime) -> Iterator[Finding]:
        if alert.next_at is not None and alert.next_at < now - OVERDUE_AFTER:
            move = self._ports.escalator.advance(alert, now)
            yield _finding(
                FindingKind.OVERDUE,
                alert,
                f"its next step was due at {alert.next_at.isoformat()}",
                hint="See that `farm-intel pump` runs.",
                repaired=move is not Move.FAILED,
            )
        elif alert.next_at is None and _needs_next(alert):
            yield _finding(
                FindingKind.NO_NEXT,
                alert,
                f"it is {alert.state.value}, {len(alert.steps) - alert.next_step} steps are left, and none is due",
                hint="It is due now; if this comes again, report it.",
                repaired=self._rearm(alert, now),
            )

    def _ground(self, alert: Alert, rules: Collection[str]) -> Iterator[Finding]:
        if alert.rule not in rules:
            yield _finding(
                FindingKind.NO_RULE,
                alert,
                f"its rule {alert.rule} no longer exists",
                hint="Resolve it by hand, or bring the rule back.",
            )
        if not self._is_active(alert.farm_id):
            yield _finding(FindingKind.NO_FARM, alert, "its farm is not active", hint="Resolve it by hand.")

    def _delivery(self, alert: Alert, states: Mapping[str, int], now: datetime) -> Iterator[Finding]:
        if alert.state is AlertState.OPEN:
            history = self._ports.store.history(alert.alert_id)
            if not any(event.kind in {SENT, UNTOLD} for event in history):
                announced = self._announce(alert, now)
                yield _finding(
                    FindingKind.NOBODY_TOLD,
                    alert,
                    "nobody has been told of it",
                    hint="Somebody has to subscribe to its farm and class.",
                    repaired=announced,
                    stuck=announced,
                )
        elif states.get(MessageState.DEAD.value, 0) == sum(states.values()) > 0 and not self._streamed(alert):
            yield _finding(
                FindingKind.UNDELIVERED,
                alert,
                f"all {sum(states.values())} messages about it are dead",
                hint="Look at `farm-intel outbox list --state dead`, correct the addresses and replay them.",
            )

    def _streamed(self, alert: Alert) -> bool:
        """Return True where somebody has it in a stream: those have no outbox row."""
        recipients = told(self._ports.store.history(alert.alert_id))
        return any(recipient.endswith(f"/{STREAM}") for recipient in recipients)

    def _is_active(self, farm_id: str) -> bool:
        try:
            return self._ports.farms.get(farm_id).active
        except UnknownNameError:
            return False

    def _rearm(self, alert: Alert, now: datetime) -> bool:
        with self._ports.store.work(now=now) as work:
            if not work.update(alert, changed(alert, now=now, next_at=now)):
                return False
            work.note(alert.alert_id, "repaired", by=SYSTEM, note="steps were left and none was due: due now")
            return True

    def _announce(self, alert: Alert, now: datetime) -> bool:
        with self._ports.store.work(now=now) as work:
            current = work.get(alert.alert_id)
            return current.version == alert.version and announce(work, self._ports.teller, current, now=now) > 0


def _needs_next(alert: Alert) -> bool:
    if alert.state is AlertState.SNOOZED:
        return True
    return alert.state in {AlertState.NOTIFIED, AlertState.ESCALATED} and step_due(alert) is not None


def _finding(
    kind: FindingKind, alert: Alert, detail: str, *, hint: str, repaired: bool = False, stuck: bool = True
) -> Finding:
    return Finding(
        kind=kind,
        alert_id=alert.alert_id,
        farm_id=alert.farm_id,
        detail=f"alert {alert.alert_id} of farm {alert.farm_id}: {detail}",
        hint=hint,
        repaired=repaired,
        stuck=stuck,
    )
