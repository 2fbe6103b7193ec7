"""The health of the watcher itself and of delivery: a pump that stands still alerts nobody, so somebody must look."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import dagster as dg

from farm_intel.defs.alert_events import ALERTS, plain
from farm_intel.defs.ports_alerts import AlertHealth, DeliveryHealth
from farm_intel.defs.pump import QUIET_S
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.domain.messages import MessageState
from farm_intel.resilience.state import BreakerState

HEARTBEAT, AUDIT, ON_TIME, DEAD_LETTERS, BREAKERS = "heartbeat", "audit", "on_time", "dead_letters", "breakers"
DELIVERY = "delivery"
SILENT_S = 2 * QUIET_S
"""A quiet pump leaves a heartbeat every `QUIET_S`; two missed are a reason to look."""
LATE_S = 900
"""What is due for longer is late: thirty times the pump's interval, and longer than a breaker stays open at first."""
NAMED = 20
"""Findings and dead letters listed in a result."""
ALERT_HEALTH_KEY = dg.AssetKey(["health", ALERTS])
DELIVERY_HEALTH_KEY = dg.AssetKey(["health", DELIVERY])

ALERT_DESCRIPTIONS = {
    HEARTBEAT: f"The pump went through with all well within the last {SILENT_S // 60} minutes; ERROR where not.",
    AUDIT: "The auditor finds no alert that is stuck or that nobody was told of.",
    ON_TIME: f"No occurrence or alert step is due for more than {LATE_S // 60} minutes.",
    DEAD_LETTERS: "No occurrence was given up after its last attempt; ERROR until it is replayed or dropped.",
}
DELIVERY_DESCRIPTIONS = {
    ON_TIME: f"No message that could be sent waits for more than {LATE_S // 60} minutes.",
    DEAD_LETTERS: "No message was given up; ERROR until it is replayed or dropped.",
    BREAKERS: "No channel's host and no speech engine counts as down.",
}


def heartbeat_check(health: AlertHealth, now: datetime) -> dg.AssetCheckResult:
    """Return whether the watcher lives."""
    beat = health.heartbeat
    age_s = None if beat is None else (now - beat).total_seconds()
    return dg.AssetCheckResult(
        check_name=HEARTBEAT,
        passed=age_s is not None and age_s <= SILENT_S,
        severity=dg.AssetCheckSeverity.ERROR,
        description="The pump never went through."
        if age_s is None
        else f"The pump last went through {age_s / 60.0:.0f} minutes ago.",
        metadata={"last": "never" if beat is None else beat.isoformat(timespec="seconds")},
    )


def audit_check(health: AlertHealth, now: datetime) -> dg.AssetCheckResult:  # noqa: ARG001 - one form for all checks
    """Return what the auditor finds."""
    return dg.AssetCheckResult(
        check_name=AUDIT,
        passed=not health.findings,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"The auditor finds {len(health.findings)} alerts in disorder.",
        metadata={"findings": dg.MetadataValue.md(_bullets(health.findings))},
    )


def occurrences_on_time(health: AlertHealth, now: datetime) -> dg.AssetCheckResult:
    """Return how long the oldest due occurrence or step waits."""
    return _on_time(health.oldest_due, now, "occurrence or alert step")


def dead_letters_check(health: AlertHealth, now: datetime) -> dg.AssetCheckResult:  # noqa: ARG001 - one form for all checks
    """Return which occurrences were given up."""
    return dg.AssetCheckResult(
        check_name=DEAD_LETTERS,
        passed=not health.dead_letters,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{len(health.dead_letters)} occurrences were given up and wait for a decision.",
        metadata={
            "dead_letters": len(health.dead_letters),
            "named": dg.MetadataValue.md(_bullets(health.dead_letters)),
        },
    )


def messages_on_time(health: DeliveryHealth, now: datetime) -> dg.AssetCheckResult:
    """Return how long the oldest message that could be sent waits."""
    return _on_time(health.oldest_due, now, "message")


def dead_messages_check(health: DeliveryHealth, now: datetime) -> dg.AssetCheckResult:  # noqa: ARG001 - one form for all checks
    """Return how many messages were given up, by channel."""
    dead = {channel: states.get(MessageState.DEAD, 0) for channel, states in sorted(health.counts.items())}
    total = sum(dead.values())
    return dg.AssetCheckResult(
        check_name=DEAD_LETTERS,
        passed=not total,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{total} messages were given up and wait for a decision.",
        metadata={"dead_letters": total} | {channel: count for channel, count in dead.items() if count},
    )


def delivery_breakers_check(health: DeliveryHealth, now: datetime) -> dg.AssetCheckResult:
    """Return which channels and engines are left alone at the moment."""
    down = [
        (operation, record) for operation, record in health.breakers if record.state(now) is not BreakerState.CLOSED
    ]
    rows = [
        f"| {operation.provider} | {operation.host} | {record.state(now).value} | {record.open_until:%H:%M:%S} UTC "
        f"| {plain(record.reason)} |"
        for operation, record in down
    ]
    head = ["| channel or engine | host | breaker | until | last failure |", "|---|---|---|---|---|"]
    return dg.AssetCheckResult(
        check_name=BREAKERS,
        passed=not down,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(down)} are left alone because they are down." if down else "None is down.",
        metadata={"down": len(down), "operations": dg.MetadataValue.md("\n".join([*head, *rows]))},
    )


ALERT_CHECKS: dict[str, Callable[[AlertHealth, datetime], dg.AssetCheckResult]] = {
    HEARTBEAT: heartbeat_check,
    AUDIT: audit_check,
    ON_TIME: occurrences_on_time,
    DEAD_LETTERS: dead_letters_check,
}
DELIVERY_CHECKS: dict[str, Callable[[DeliveryHealth, datetime], dg.AssetCheckResult]] = {
    ON_TIME: messages_on_time,
    DEAD_LETTERS: dead_messages_check,
    BREAKERS: delivery_breakers_check,
}


@dg.asset(
    key=ALERT_HEALTH_KEY,
    group_name="health",
    description="Whether the pump lives and what the auditor of the alerts finds.",
    kinds={"python"},
    check_specs=[
        dg.AssetCheckSpec(name, asset=ALERT_HEALTH_KEY, description=ALERT_DESCRIPTIONS[name]) for name in ALERT_CHECKS
    ],
)
def alerts_health(farm_intel: FarmIntelResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the plain class
    """Read heartbeats, occurrences and alerts; the auditor repairs what it can, as in every pass of the pump."""
    now = datetime.now(UTC)
    health = farm_intel.container.alert_health()
    beat = "never" if health.heartbeat is None else health.heartbeat.isoformat(timespec="seconds")
    return dg.MaterializeResult(
        check_results=[check(health, now) for check in ALERT_CHECKS.values()],
        metadata={"checked_at": now.isoformat(), "heartbeat": beat},
    )


@dg.asset(
    key=DELIVERY_HEALTH_KEY,
    group_name="health",
    description="What waits in the outbox, by channel and state, and which channels are down.",
    kinds={"python"},
    check_specs=[
        dg.AssetCheckSpec(name, asset=DELIVERY_HEALTH_KEY, description=DELIVERY_DESCRIPTIONS[name])
        for name in DELIVERY_CHECKS
    ],
)
def delivery_health(farm_intel: FarmIntelResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the plain class
    """Read the outbox and the breakers; sends nothing."""
    now = datetime.now(UTC)
    health = farm_intel.container.delivery_health()
    return dg.MaterializeResult(
        check_results=[check(health, now) for check in DELIVERY_CHECKS.values()],
        metadata={"checked_at": now.isoformat(), "outbox": dg.MetadataValue.md(_outbox_table(health))},
    )


def _on_time(oldest: datetime | None, now: datetime, what: str) -> dg.AssetCheckResult:
    late_s = 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())
    return dg.AssetCheckResult(
        check_name=ON_TIME,
        passed=late_s <= LATE_S,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"No {what} waits."
        if oldest is None
        else f"The oldest {what} is due for {late_s / 60.0:.0f} minutes.",
        metadata={"late_s": round(late_s)},
    )


def _outbox_table(health: DeliveryHealth) -> str:
    rows = [
        f"| {channel} | {state} | {count} |"
        for channel, states in sorted(health.counts.items())
        for state, count in sorted(states.items())
    ]
    return "\n".join(["| channel | state | messages |", "|---|---|---|", *rows]) if rows else "the outbox is empty"


def _bullets(lines: Sequence[str]) -> str:
    more = len(lines) - NAMED
    told = [f"- {plain(line)}" for line in lines[:NAMED]]
    return "\n".join([*told, f"- and {more} more"] if more > 0 else told) or "none"
