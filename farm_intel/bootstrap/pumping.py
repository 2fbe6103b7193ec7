"""One pass of the pump: what fell due becomes rows, is worked on, told, escalated, audited and delivered.

The use cases know nothing of each other; here they follow one another. Every part is safe beside another pass and
after a crash at any point: the store decides who has what.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from farm_intel.domain.alerts import LIVE, Alert, AlertState
from farm_intel.domain.errors import FarmIntelError, StoreError

if TYPE_CHECKING:
    from farm_intel.activities.triggers import Trigger
    from farm_intel.bootstrap.container import Container

_LOG = logging.getLogger("farm_intel.pump")

HEART = "pump"
"""Name of the pump's heartbeat."""
RETAIN_EVERY = timedelta(hours=6)
_RETAIN = "retention"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueWork:
    """What a pass would find to do now."""

    occurrences: int
    messages: int
    steps: int
    oldest: datetime | None
    """UTC; since when the longest waiting of them is due."""
    batch: str
    """The same while nobody has taken any of it."""

    @property
    def any(self) -> bool:
        """True where there is something to do."""
        return bool(self.occurrences or self.messages or self.steps)


@dataclass(slots=True, kw_only=True)
class PumpReport:
    """What one pass did."""

    generated: int = 0
    """Occurrences that fell due and have a row now."""
    worked: dict[str, int] = field(default_factory=dict)
    """State -> occurrences that went into it."""
    proposed: int = 0
    """Activities proposed for alerts."""
    steps: int = 0
    """Alerts that took a step or woke from a snooze."""
    sent: int = 0
    failed: int = 0
    """Messages that will be tried again."""
    dead: int = 0
    """Messages given up."""
    problems: tuple[str, ...] = ()
    """Plans whose dates cannot be computed, in words."""
    findings: tuple[str, ...] = ()
    """What the auditor found, in words."""
    seconds: float = 0.0


class Pump:
    """Does what is due."""

    def __init__(self, container: Container) -> None:
        """Keep the installation; nothing is opened yet."""
        self._container = container

    def due(self) -> DueWork:
        """Return what there is to do: a few counts, nothing is changed.

        Raises:
            StoreError: the store cannot be read.

        """
        now = self._container.clock.now()
        pending = self._container.activities.pending()
        messages, since = self._container.reaching.outbox.due(now=now)
        steps = self._container.alerts.store.due(now, limit=1000)
        instants = [at for at in (pending.oldest, since, *(alert.next_at for alert in steps[:1])) if at is not None]
        occurrences = pending.plans + pending.due + pending.unattended
        oldest = min(instants, default=None)
        # the longest waiting names the batch: the same until somebody has taken it
        name = f"{oldest.isoformat() if oldest else ''}|{occurrences}|{messages}|{len(steps)}"
        return DueWork(
            occurrences=occurrences,
            messages=messages,
            steps=len(steps),
            oldest=oldest,
            batch=hashlib.sha256(name.encode()).hexdigest()[:16],
        )

    def run(self, *, run_id: str = "", deadline_s: float | None = None) -> PumpReport:
        """Do it, and return what was done.

        A part that fails does not keep the others from their work; the errors of all are raised together at the end.

        Args:
            run_id: kept on every occurrence it takes, so that a run that dies can be found by what it left.
            deadline_s: nothing more is begun after it; the setting by default.

        Raises:
            StoreError: parts of it failed; what was done stays done.

        """
        settings, clock = self._container.settings, self._container.clock
        begin_s = clock.monotonic_s()
        limit_s = settings.pump_deadline_s if deadline_s is None else deadline_s
        report = PumpReport()
        errors: list[str] = []

        def left_s() -> float:
            return max(limit_s - (clock.monotonic_s() - begin_s), 0.0)

        parts: tuple[tuple[str, Callable[[], None]], ...] = (
            ("generating occurrences", lambda: self._generate(report)),
            ("working on occurrences", lambda: self._work(report, run_id, left_s())),
            ("proposing activities", lambda: self._propose(report)),
            ("escalating alerts", lambda: self._escalate(report)),
            ("auditing alerts", lambda: self._audit(report)),
            ("delivering messages", lambda: self._deliver(report, left_s())),
            ("removing what is old", self._retain),
        )
        for name, part in parts:
            with _collected(name, errors):
                part()
        report.seconds = clock.monotonic_s() - begin_s
        if errors:
            raise StoreError(
                f"{len(errors)} of {len(parts)} parts of the pump failed: {'; '.join(errors)}",
                hint="What was done stays done; the next pass goes on.",
            )
        self._container.activities.beat(HEART, f"{sum(report.worked.values())} occurrences, {report.sent} messages")
        return report

    def _generate(self, report: PumpReport) -> None:
        generated = self._container.activities.generator.run()
        report.generated += generated.rows
        report.problems = tuple(f"activity {problem}" for problem in generated.problems)
        _add(report.worked, self._container.activities.tending.run())

    def _work(self, report: PumpReport, run_id: str, left_s: float) -> None:
        from farm_intel.activities.working import Shift

        settings = self._container.settings
        shift = Shift(
            worker=f"{socket.gethostname()}:{os.getpid()}"[:64],
            run_id=run_id,
            batch=settings.pump_batch,
            until=self._container.clock.now() + timedelta(seconds=left_s),
            lease_s=settings.lease_s,
        )
        _add(report.worked, self._container.activities.worker.run(shift).ended)

    def _propose(self, report: PumpReport) -> None:
        triggers: dict[str, list[Trigger]] = {}
        for trigger in self._container.activity_triggers:
            triggers.setdefault(trigger.rule, []).append(trigger)
        told = [state for state in LIVE if state not in {AlertState.ACKNOWLEDGED, AlertState.SNOOZED}]
        first_day = (self._container.clock.now() - timedelta(days=self._container.settings.alert_news_days)).date()
        for alert in self._container.alerts.list(states=told, limit=10_000):
            if alert.opened_day >= first_day:
                for trigger in triggers.get(alert.rule, ()):
                    report.proposed += self._propose_one(alert, trigger)
        if report.proposed:  # asked in the same pass as it is proposed: nobody waits for the next one
            self._work(report, "", self._container.settings.pump_deadline_s)

    def _propose_one(self, alert: Alert, trigger: Trigger) -> bool:
        from farm_intel.activities.proposing import Proposal

        farm = self._container.farms.get(alert.farm_id)
        proposal = Proposal(
            farm_id=alert.farm_id,
            event_key=f"{alert.rule}:{alert.event_key}:{trigger.type}"[:160],
            type=trigger.type,
            title=trigger.title(self._language(alert.farm_id)),
            time_zone=farm.time_zone,
            evidence={"alert_id": alert.alert_id, **alert.evidence},
        )
        return self._container.activities.proposing.propose(proposal, by="farm-intel") is not None

    def _language(self, farm_id: str) -> str:
        """Return the language most of the farm's subscribers read; a plan has one title for all."""
        wanted = [one.language for one in self._container.reaching.subscription_store.for_farm(farm_id)]
        return max(wanted, key=wanted.count, default="en")

    def _escalate(self, report: PumpReport) -> None:
        tick = self._container.alerts.escalator.tick(self._container.clock.now())
        report.steps += tick.steps + tick.woken

    def _audit(self, report: PumpReport) -> None:
        report.findings = tuple(
            f"{finding.detail} {finding.hint}{' (repaired)' if finding.repaired else ''}"
            for finding in self._container.alerts.audit()
        )

    def _deliver(self, report: PumpReport, left_s: float) -> None:
        done = self._container.reaching.delivering.run(limit=10_000, deadline_s=left_s)
        report.sent += done.sent
        report.failed += done.retrying + done.postponed
        report.dead += done.dead

    def _retain(self) -> None:
        """Remove what is older than the settings keep; a few times a day is enough."""
        container = self._container
        now, settings = container.clock.now(), container.settings
        last = next((beat.at for beat in container.activities.heartbeats() if beat.name == _RETAIN), None)
        if last is not None and now - last < RETAIN_EVERY:
            return
        old = now - timedelta(days=settings.keep_messages_days)
        occurrences = container.activities.tending.retain(timedelta(days=settings.keep_occurrences_days))
        messages = container.reaching.outbox.prune(before=old) + container.reaching.streams.prune(old)
        container.reaching.speech_store.prune(old)
        container.activities.beat(_RETAIN, f"{occurrences} occurrences, {messages} messages and events removed")


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for state, number in more.items():
        total[state] = total.get(state, 0) + number


@contextmanager
def _collected(name: str, errors: list[str]) -> Iterator[None]:
    try:
        yield
    except FarmIntelError as error:
        _LOG.error("%s: %s", name, error)
        errors.append(f"{name}: {error}")
