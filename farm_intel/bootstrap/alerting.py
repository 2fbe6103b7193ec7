"""Rules, their evaluation and the life of alerts as one thing, put together from settings and stores."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from farm_intel.domain.alerts import LIVE, Alert, AlertEvent, AlertRule, AlertState, Evaluation

if TYPE_CHECKING:
    from farm_intel.alerts.auditing import Auditor, Finding
    from farm_intel.alerts.escalating import Escalator
    from farm_intel.alerts.evaluating import AlertEvaluating
    from farm_intel.alerts.facts import Explains
    from farm_intel.alerts.replaying import ReplayReport
    from farm_intel.alerts.rules import AlertRules
    from farm_intel.alerts.service import AlertService
    from farm_intel.alerts.telling import Teller
    from farm_intel.bootstrap.container import Container
    from farm_intel.storage.alerts import SqlAlertStore


class Alerts:
    """What the rules say, and the alerts that follow from it."""

    def __init__(self, container: Container) -> None:
        """Keep the installation; nothing is opened yet."""
        self._container = container

    @cached_property
    def table(self) -> AlertRules:
        """The rule table with the user's own files."""
        from farm_intel.alerts.rules import load_alert_rules

        files = tuple(Path(name) for name in self._container.settings.alert_rule_files)
        return load_alert_rules(files, indices=[index.slug for index in self._container.registry.list()])

    @property
    def rules(self) -> Mapping[str, AlertRule]:
        """The rule table by slug."""
        return {rule.slug: rule for rule in self.table.rules}

    @cached_property
    def explains(self) -> Mapping[str, Explains]:
        """Activity type -> what such work explains to the satellites."""
        from farm_intel.alerts.facts import Explains

        return {
            row.slug: Explains(facts=row.explains.facts, days=row.explains.days)
            for row in self._container.activity_types.list()
            if row.explains is not None
        }

    @cached_property
    def store(self) -> SqlAlertStore:
        """Alerts, their history and evaluations."""
        from farm_intel.storage.alerts import SqlAlertStore

        return SqlAlertStore(self._container.database)

    @cached_property
    def service(self) -> AlertService:
        """The life of alerts."""
        from farm_intel.alerts.lifecycle import AlertOptions
        from farm_intel.alerts.service import AlertService

        options = AlertOptions(old_news=timedelta(days=self._container.settings.alert_news_days))
        return AlertService(store=self.store, teller=self._teller, clock=self._container.clock, options=options)

    @cached_property
    def evaluating(self) -> AlertEvaluating:
        """Rules over what is stored."""
        from farm_intel.alerts.evaluating import AlertEvaluating
        from farm_intel.alerts.reading import Nothing, Sources
        from farm_intel.storage.pixels import StoredPixels

        container = self._container
        sources = Sources(
            farms=container.farms,
            observations=container.observations,
            assessments=container.assessments,
            logbook=container.activities.logbook,
            occurrences=container.occurrence_store,
            weather=Nothing(),
            pixels=StoredPixels(container.rasters),
        )
        return AlertEvaluating(
            sources=sources, rules=self.table, explains=self.explains, state_indices=container.state_rules.indices
        )

    @cached_property
    def escalator(self) -> Escalator:
        """The steps of alerts nobody has acknowledged."""
        from farm_intel.alerts.escalating import Escalator

        return Escalator(store=self.store, teller=self._teller)

    @cached_property
    def auditor(self) -> Auditor:
        """Finds stuck alerts."""
        from farm_intel.alerts.auditing import Auditor, AuditPorts

        return Auditor(
            AuditPorts(
                store=self.store,
                escalator=self.escalator,
                teller=self._teller,
                farms=self._container.farms,
                heartbeat=self._container.activities,
                rules=lambda: self.rules,
            )
        )

    def evaluate(self, farm_ids: Sequence[str], *, start: date, end: date) -> Iterator[Evaluation]:
        """Evaluate every rule on farms and days, both ends included, store it and let alerts open and resolve.

        Yields all evaluations, unchanged ones included; each is stored and absorbed when it is yielded.

        Raises:
            StoreError: the store refused; what was yielded is stored.

        """
        for found in self.evaluating.batches(farm_ids, (start, end)):
            self.service.absorb(found, self.table.rules)
            yield from found

    def of_day(self, farm_id: str, day: date) -> Sequence[Alert]:
        """Return the alerts of a farm that were live on a day, in the state they are in now."""
        found, _ = self.store.list(farm_ids=[farm_id], limit=1000)
        return [
            alert
            for alert in found
            if alert.state is not AlertState.SUPPRESSED
            and alert.opened_day <= day
            and (alert.resolved_day is None or day <= alert.resolved_day)
        ]

    def list(
        self,
        *,
        farm_ids: Collection[str] | None = None,
        states: Collection[AlertState] = (),
        rule: str | None = None,
        since: date | None = None,
        limit: int = 100,
    ) -> Sequence[Alert]:
        """Return alerts, the latest opened first."""
        found, _ = self.store.list(farm_ids=farm_ids, states=states, rule=rule, since=since, limit=limit)
        return found

    def live(self) -> Sequence[Alert]:
        """Return the live alerts."""
        return self.list(states=LIVE, limit=10_000)

    def get(self, alert_id: str) -> Alert:
        """Return one alert; UnknownNameError where there is none."""
        return self.service.get(alert_id)

    def history(self, alert_id: str) -> Sequence[AlertEvent]:
        """Return an alert's history, the oldest entry first."""
        return self.service.history(alert_id)

    def acknowledge(self, alert_id: str, by: str, note: str = "") -> Alert:
        """Record that somebody looks after it; no step follows."""
        return self.service.acknowledge(alert_id, by, note)

    def snooze(self, alert_id: str, until: datetime, by: str, note: str = "") -> Alert:
        """Let it be quiet until an instant."""
        return self.service.snooze(alert_id, until, by, note)

    def resolve(self, alert_id: str, by: str, reason: str) -> Alert:
        """End it by hand."""
        return self.service.resolve(alert_id, by, reason)

    def replay(self, alert_id: str) -> ReplayReport:
        """Evaluate its own rule again over what is stored now, down to the pixels, and compare."""
        from farm_intel.alerts.replaying import AlertReplaying
        from farm_intel.storage.pixels import StoredPixels

        replaying = AlertReplaying(
            evaluating=self.evaluating,
            observations=self._container.observations,
            pixels=StoredPixels(self._container.rasters),
        )
        return replaying.replay(self.service.get(alert_id))

    def audit(self) -> Sequence[Finding]:
        """Return what is stuck, after repairing what can be."""
        return self.auditor.audit(self._container.clock.now())

    @cached_property
    def _teller(self) -> Teller:
        from farm_intel.alerts.telling import Teller

        return Teller(self._container.reaching.renderer, self._container.farms)
