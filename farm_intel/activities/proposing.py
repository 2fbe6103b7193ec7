"""Activities that an event of an index proposes: once per event for ever, with what the event rests on."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from farm_intel.activities.generating import occurrence_of
from farm_intel.activities.ports import ActivityStore, Forms
from farm_intel.activities.recurrence import DueTime
from farm_intel.domain.activities import Activity, FormValue, Overlap, Schedule, ScheduleKind
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What an event asks for."""

    farm_id: str
    event_key: str
    """Names the event on its farm, e.g. `water-stress:2026-05-01`; at most 160 characters."""
    type: str
    title: str
    time_zone: str
    """IANA name of the farm's."""
    form: Mapping[str, FormValue] = field(default_factory=dict)
    evidence: Mapping[str, object] = field(default_factory=dict)
    """JSON: rule, values, thresholds, cells, scenes."""


class Proposing:
    """Makes proposed activities. Its occurrence asks whoever is subscribed; the answer is kept with the event."""

    def __init__(self, store: ActivityStore, forms: Forms, clock: Clock) -> None:
        """Keep what it works with."""
        self._store = store
        self._forms = forms
        self._clock = clock

    def propose(self, proposal: Proposal, *, by: str) -> Activity | None:
        """Store a plan due now and only now; None where the event has proposed one before, whatever became of it.

        Raises:
            BadRequestError: an unknown type, form values it does not take, or an event without a key.

        """
        if not 0 < len(proposal.event_key) <= 160:
            raise BadRequestError(
                f"the event key of a proposal for farm {proposal.farm_id} has {len(proposal.event_key)} characters",
                hint="Give from 1 to 160.",
            )
        now = self._clock.now()
        due_at = now.replace(microsecond=0)
        wall = due_at.astimezone(ZoneInfo(proposal.time_zone)).replace(tzinfo=None)
        minute = wall.replace(second=0)
        activity = Activity(
            activity_id=uuid.uuid4().hex,
            farm_id=proposal.farm_id,
            type=proposal.type,
            title=proposal.title,
            schedule=Schedule(
                kind=ScheduleKind.ONCE,
                text=minute.isoformat(timespec="minutes"),
                start=minute,
                time_zone=proposal.time_zone,
            ),
            form=dict(self._forms.check_form(proposal.type, proposal.form)),
            overlap=Overlap.ALLOW_ALL,
            high_water=now,
            event_key=proposal.event_key,
            evidence=dict(proposal.evidence),
            created_by=by,
            created_at=now,
            changed_at=now,
        )
        due = DueTime(due_at=due_at, local_date=wall.date(), local_time=f"{wall:%H:%M}")
        made = self._store.propose(activity, occurrence_of(activity, due, now), note=f"proposed: {proposal.event_key}")
        return activity if made else None
