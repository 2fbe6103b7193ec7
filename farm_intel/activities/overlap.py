"""The six overlap policies of Temporal, as one pure decision.

Source: Temporal's documentation of schedules (docs/encyclopedia/workflow/schedule.mdx, "Overlap policy"). Decided when
an occurrence falls due, against those of its plan that are not settled; that one of the three that wait for each other
is not started too early is the store's claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from farm_intel.domain.activities import OccurrenceState, Overlap

_BUFFERED = 2
"""One that is worked on or waited for, and one behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """An occurrence that is due, running or waiting."""

    due_at: datetime
    state: OccurrenceState


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What happens to an occurrence that falls due, and to those before it."""

    reason: str = ""
    """Why it is skipped; empty where it is due."""
    skipped: tuple[datetime, ...] = ()
    """Due times of those that are skipped at once."""
    told_to_stop: tuple[datetime, ...] = ()
    """Due times of those that somebody is working on and that end as skipped when that one comes back."""
    terminated: tuple[datetime, ...] = ()
    """Due times of those that are taken away from whoever works on them."""


def rule_on(policy: Overlap, unsettled: Sequence[Unsettled]) -> Ruling:
    """Return what a policy says of an occurrence that falls due while others are not settled."""
    if not unsettled or policy in {Overlap.ALLOW_ALL, Overlap.BUFFER_ALL}:
        return Ruling()
    if policy is Overlap.SKIP or (policy is Overlap.BUFFER_ONE and len(unsettled) >= _BUFFERED):
        return Ruling(reason=f"overlap: {policy.value}")
    if policy is Overlap.BUFFER_ONE:
        return Ruling()
    running = tuple(other.due_at for other in unsettled if other.state is OccurrenceState.RUNNING)
    others = tuple(other.due_at for other in unsettled if other.state is not OccurrenceState.RUNNING)
    if policy is Overlap.CANCEL_OTHER:
        return Ruling(skipped=others, told_to_stop=running)
    return Ruling(skipped=others, terminated=running)
