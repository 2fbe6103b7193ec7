"""Alerts, their history, evaluations and subscriptions as rows; JSON is kept as text, it is read whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from farm_intel.domain.alerts import (
    Alert,
    AlertEvent,
    AlertState,
    EscalationStep,
    Evaluation,
    RuleVerdict,
    Severity,
    Subscription,
)

type AnyRow = Row[Any]


def alert_values(alert: Alert) -> dict[str, object]:
    """Return the columns of an alert."""
    return {
        "alert_id": alert.alert_id,
        "farm_id": alert.farm_id,
        "rule": alert.rule,
        "rule_class": alert.rule_class,
        "event_key": alert.event_key,
        "severity": int(alert.severity),
        "state": alert.state.value,
        "opened_day": alert.opened_day,
        "last_day": alert.last_day,
        "evidence": json.dumps(alert.evidence, sort_keys=True),
        "rule_version": alert.rule_version,
        "steps": steps_text(alert.steps),
        "next_step": alert.next_step,
        "next_at": alert.next_at,
        "by": alert.by,
        "reason": alert.reason,
        "duplicate_of": alert.duplicate_of,
        "resolved_day": alert.resolved_day,
        "opened_at": alert.opened_at,
        "changed_at": alert.changed_at,
        "version": alert.version,
    }


def alert_of(row: AnyRow) -> Alert:
    """Return the alert of a row."""
    return Alert(
        alert_id=row.alert_id,
        farm_id=row.farm_id,
        rule=row.rule,
        rule_class=row.rule_class,
        event_key=row.event_key,
        severity=Severity(row.severity),
        state=AlertState(row.state),
        opened_day=row.opened_day,
        last_day=row.last_day,
        evidence=json.loads(row.evidence),
        rule_version=row.rule_version,
        steps=steps_of(row.steps),
        next_step=row.next_step,
        next_at=row.next_at,
        by=row.by,
        reason=row.reason,
        duplicate_of=row.duplicate_of,
        resolved_day=row.resolved_day,
        opened_at=row.opened_at,
        changed_at=row.changed_at,
        version=row.version,
    )


def steps_text(steps: Sequence[EscalationStep]) -> str:
    """Return escalation steps as JSON, times in seconds."""
    return json.dumps(
        [
            {
                "after_s": step.after.total_seconds(),
                "audience": step.audience,
                "min_severity": step.min_severity.name.lower(),
            }
            for step in steps
        ]
    )


def steps_of(text: str) -> tuple[EscalationStep, ...]:
    """Return the steps `steps_text` wrote."""
    return tuple(
        EscalationStep(
            after=timedelta(seconds=step["after_s"]),
            audience=step["audience"],
            min_severity=Severity[step["min_severity"].upper()],
        )
        for step in json.loads(text)
    )


def event_of(row: AnyRow) -> AlertEvent:
    """Return the history entry of a row."""
    return AlertEvent(alert_id=row.alert_id, number=row.number, at=row.at, kind=row.kind, by=row.by, note=row.note)


def evaluation_of(row: AnyRow) -> Evaluation:
    """Return the evaluation of a row."""
    return Evaluation(
        farm_id=row.farm_id,
        rule=row.rule,
        day=row.day,
        verdict=RuleVerdict(row.verdict),
        value=row.value,
        threshold=row.threshold,
        evidence=json.loads(row.evidence),
        fingerprint=row.fingerprint,
    )


def subscription_values(subscription: Subscription) -> dict[str, object]:
    """Return the columns of a subscription, address and secret included: never log them."""
    return {
        "subscription_id": subscription.subscription_id,
        "user_id": subscription.user_id,
        "farm_id": subscription.farm_id,
        "rule_class": subscription.rule_class,
        "channel": subscription.channel,
        "address": subscription.address,
        "language": subscription.language,
        "audience": subscription.audience,
        "min_severity": int(subscription.min_severity),
        "quiet_from": subscription.quiet_from,
        "quiet_until": subscription.quiet_until,
        "time_zone": subscription.time_zone,
        "speak": subscription.speak,
        "secret": subscription.secret,
        "active": subscription.active,
        "created_at": subscription.created_at,
    }


def subscription_of(row: AnyRow) -> Subscription:
    """Return the subscription of a row."""
    return Subscription(
        subscription_id=row.subscription_id,
        user_id=row.user_id,
        farm_id=row.farm_id,
        rule_class=row.rule_class,
        channel=row.channel,
        address=row.address,
        language=row.language,
        audience=row.audience,
        min_severity=Severity(row.min_severity),
        quiet_from=row.quiet_from,
        quiet_until=row.quiet_until,
        time_zone=row.time_zone,
        speak=row.speak,
        secret=row.secret,
        active=row.active,
        created_at=row.created_at,
    )
