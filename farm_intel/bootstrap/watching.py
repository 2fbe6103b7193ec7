"""Activities, alerts and delivery of an installation: the part of the container that looks after people."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from farm_intel.activities.service import ActivityService
    from farm_intel.activities.triggers import Trigger
    from farm_intel.activities.types import ActivityTypes
    from farm_intel.bootstrap.alerting import Alerts
    from farm_intel.bootstrap.container import Container
    from farm_intel.bootstrap.health import AlertHealth, DeliveryHealth
    from farm_intel.bootstrap.pumping import Pump
    from farm_intel.bootstrap.reaching import Reaching
    from farm_intel.storage.occurrences import SqlOccurrenceStore


class Watching:
    """What the container has for activities, alerts and delivery, built on first use."""

    @property
    def _whole(self) -> Container:
        """The container this is the base of: the parts are put together from all of it."""
        return cast("Container", self)

    @cached_property
    def activity_types(self) -> ActivityTypes:
        """Types of activities with the user's own files."""
        from farm_intel.activities.types import load_activity_types

        return load_activity_types(tuple(Path(name) for name in self._whole.settings.activity_type_files))

    @cached_property
    def activity_triggers(self) -> tuple[Trigger, ...]:
        """Which alert proposes which work.

        Raises:
            UnknownNameError: a row names a type that does not exist.

        """
        from farm_intel.activities.triggers import load_triggers

        triggers = load_triggers(tuple(Path(name) for name in self._whole.settings.activity_trigger_files))
        for trigger in triggers:
            self.activity_types.get(trigger.type)
        return triggers

    @cached_property
    def occurrence_store(self) -> SqlOccurrenceStore:
        """Occurrences as stored."""
        from farm_intel.storage.occurrences import SqlOccurrenceStore

        return SqlOccurrenceStore(self._whole.database)

    @cached_property
    def activities(self) -> ActivityService:
        """Plans, occurrences, answers and the logbook."""
        from farm_intel.activities import recurrence
        from farm_intel.activities.service import ActivityParts, ActivityService
        from farm_intel.activities.telling import Telling
        from farm_intel.storage.activities import SqlActivityStore
        from farm_intel.storage.logbook import SqlLogbook

        return ActivityService(
            ActivityParts(
                plans=SqlActivityStore(self._whole.database),
                occurrences=self.occurrence_store,
                logbook=SqlLogbook(self._whole.database),
                recurrence=recurrence,
                forms=self.activity_types,
                telling=Telling(
                    subscriptions=self.reaching.subscription_store.for_farm, renderer=self.reaching.renderer
                ),
                clock=self._whole.clock,
            )
        )

    @cached_property
    def reaching(self) -> Reaching:
        """Texts, channels, speech, outbox and streams."""
        from farm_intel.bootstrap.reaching import Reaching

        return Reaching(self._whole)

    @cached_property
    def alerts(self) -> Alerts:
        """Rules, evaluations and alerts."""
        from farm_intel.bootstrap.alerting import Alerts

        return Alerts(self._whole)

    @cached_property
    def pump(self) -> Pump:
        """The pass that does what is due."""
        from farm_intel.bootstrap.pumping import Pump

        return Pump(self._whole)

    def alert_health(self) -> AlertHealth:
        """Return whether the watcher watches."""
        from farm_intel.bootstrap.health import alert_health

        return alert_health(self._whole)

    def delivery_health(self) -> DeliveryHealth:
        """Return whether messages reach their channels."""
        from farm_intel.bootstrap.health import delivery_health

        return delivery_health(self._whole)
