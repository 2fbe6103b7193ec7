"""Alerts over HTTP: list, show, acknowledge, snooze, resolve."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from farm_intel.api.access import Services, User, visible_alert, visible_farms
from farm_intel.api.fields import Body, Identifier, Instant, PageSize, Reason, Text
from farm_intel.api.problems import documented
from farm_intel.domain.alerts import Alert, AlertState
from farm_intel.domain.errors import BadRequestError

router = APIRouter(prefix="/v1/alerts", tags=["alerts"], responses=documented(400, 401, 422, 503))


class AlertOut(BaseModel):
    """An alert as the API tells it."""

    alert_id: str
    farm_id: str
    rule: str
    rule_class: str
    rule_version: str
    event_key: str
    severity: str
    state: AlertState
    opened_day: date
    last_day: date
    resolved_day: date | None
    opened_at: datetime
    changed_at: datetime
    next_at: datetime | None
    by: str
    reason: str
    duplicate_of: str
    evidence: dict[str, object]

    @classmethod
    def of(cls, alert: Alert) -> AlertOut:
        """Return what is told of an alert."""
        return cls(
            alert_id=alert.alert_id,
            farm_id=alert.farm_id,
            rule=alert.rule,
            rule_class=alert.rule_class,
            rule_version=alert.rule_version,
            event_key=alert.event_key,
            severity=alert.severity.name.lower(),
            state=alert.state,
            opened_day=alert.opened_day,
            last_day=alert.last_day,
            resolved_day=alert.resolved_day,
            opened_at=alert.opened_at,
            changed_at=alert.changed_at,
            next_at=alert.next_at,
            by=alert.by,
            reason=alert.reason,
            duplicate_of=alert.duplicate_of,
            evidence=dict(alert.evidence),
        )


class AlertList(BaseModel):
    """One page of alerts, newest first."""

    alerts: list[AlertOut]
    next: str
    """Cursor of the next page; empty at the end."""


class AcknowledgeIn(Body):
    """Somebody has seen the alert and takes care of it."""

    note: Text = ""


class SnoozeIn(Body):
    """Keep the alert quiet for a while."""

    until: Instant
    note: Text = ""


class ResolveIn(Body):
    """End the alert by hand."""

    reason: Reason


@router.get("", operation_id="listAlerts")
def list_alerts(
    services: Services,
    user: User,
    farm_id: Annotated[Identifier | None, Query()] = None,
    state: Annotated[list[AlertState] | None, Query()] = None,
    limit: Annotated[PageSize, Query()] = 50,
    cursor: Annotated[Text, Query()] = "",
) -> AlertList:
    """Return the newest alerts of the farms the user may see."""
    farms = visible_farms(services, user, farm_id)
    alerts, following = services.alerts.list(farm_ids=farms, states=state or (), limit=limit, cursor=cursor)
    return AlertList(alerts=[AlertOut.of(alert) for alert in alerts], next=following)


@router.get("/{alert_id}", operation_id="getAlert", responses=documented(404))
def get_alert(services: Services, user: User, alert_id: Identifier) -> AlertOut:
    """Return one alert with its evidence."""
    return AlertOut.of(visible_alert(services, user, alert_id))


@router.post("/{alert_id}/acknowledge", operation_id="acknowledgeAlert", responses=documented(404, 409))
def acknowledge_alert(services: Services, user: User, alert_id: Identifier, body: AcknowledgeIn) -> AlertOut:
    """Acknowledge an alert: it escalates no further."""
    visible_alert(services, user, alert_id)
    return AlertOut.of(services.alerts.acknowledge(alert_id, user, body.note))


@router.post("/{alert_id}/snooze", operation_id="snoozeAlert", responses=documented(404, 409))
def snooze_alert(services: Services, user: User, alert_id: Identifier, body: SnoozeIn) -> AlertOut:
    """Keep an alert quiet until an instant in the future."""
    visible_alert(services, user, alert_id)
    if body.until <= services.clock.now():
        raise BadRequestError(f"alert {alert_id} cannot be snoozed until the past", hint="Give a later `until`.")
    return AlertOut.of(services.alerts.snooze(alert_id, body.until, user, body.note))


@router.post("/{alert_id}/resolve", operation_id="resolveAlert", responses=documented(404, 409))
def resolve_alert(services: Services, user: User, alert_id: Identifier, body: ResolveIn) -> AlertOut:
    """End an alert by hand, with the reason."""
    visible_alert(services, user, alert_id)
    return AlertOut.of(services.alerts.resolve(alert_id, user, body.reason))
