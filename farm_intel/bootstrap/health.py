"""Whether the watcher watches and messages arrive: what the health assets and the API tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from farm_intel.bootstrap.pumping import HEART

if TYPE_CHECKING:
    from farm_intel.bootstrap.container import Container
    from farm_intel.resilience.guard import Operation
    from farm_intel.resilience.state import BreakerRecord

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertHealth:
    """Whether the watcher watches."""

    heartbeat: datetime | None
    """UTC; when a pass of the pump last went through with all well."""
    findings: Sequence[str]
    oldest_due: datetime | None
    """UTC; since when the longest waiting occurrence or alert step is due."""
    dead_letters: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryHealth:
    """Whether messages reach their channels."""

    counts: Mapping[str, Mapping[str, int]]
    """Channel -> state -> messages."""
    oldest_due: datetime | None
    breakers: Sequence[tuple[Operation, BreakerRecord]]


def alert_health(container: Container) -> AlertHealth:
    """Return whether the watcher watches; the auditor looks and repairs as it does in every pass."""
    now = container.clock.now()
    pending = container.activities.pending()
    steps = container.alerts.store.due(now, limit=1)
    instants = [at for at in (pending.oldest, *(alert.next_at for alert in steps)) if at is not None]
    beats = {beat.name: beat.at for beat in container.activities.heartbeats()}
    return AlertHealth(
        heartbeat=beats.get(HEART),
        findings=[f"{finding.detail} {finding.hint}" for finding in container.alerts.audit()],
        oldest_due=min(instants, default=None),
        dead_letters=[
            f"{row.title} on farm {row.farm_id}, due {row.due_at:%Y-%m-%d %H:%M} UTC: {row.reason}"
            for row in container.activities.answering.dead_letters(limit=_SHOWN)
        ],
    )


def delivery_health(container: Container) -> DeliveryHealth:
    """Return whether messages reach their channels."""
    outbox = container.reaching.outbox
    names = {channel.name for channel in container.reaching.channels} | {"speech"}
    return DeliveryHealth(
        counts=outbox.counts_by_channel(),
        oldest_due=outbox.due(now=container.clock.now())[1],
        breakers=[(operation, record) for operation, record in container.breakers() if operation.provider in names],
    )
