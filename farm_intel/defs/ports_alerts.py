"""What the Dagster layer needs of activities, alerts and delivery; `bootstrap.Container` and the tests' fake have it.

Values are Protocols too: whoever makes them stands below this layer and cannot import it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Protocol

from farm_intel.domain.alerts import Alert, AlertRule, Evaluation
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord


class DueWork(Protocol):
    """What a pass of the pump would find to do now."""

    @property
    def occurrences(self) -> int:
        """Dates to generate, occurrences to take, and occurrences whose worker let its lease run out."""
        ...

    @property
    def messages(self) -> int:
        """Messages to send now, those of workers that let their lease run out included."""
        ...

    @property
    def steps(self) -> int:
        """Escalation steps due and snoozes that are over."""
        ...

    @property
    def oldest(self) -> datetime | None:
        """Since when (UTC) the longest waiting of them is due; None where nothing is."""
        ...

    @property
    def batch(self) -> str:
        """Name of what is due, the same while nobody has taken any of it, e.g. a hash; `[A-Za-z0-9_.:-]`."""
        ...


class PumpReport(Protocol):
    """What one pass of the pump did."""

    @property
    def generated(self) -> int:
        """Occurrences that fell due and have a row now."""
        ...

    @property
    def worked(self) -> Mapping[str, int]:
        """State -> occurrences that went into it."""
        ...

    @property
    def proposed(self) -> int:
        """Activities proposed for events."""
        ...

    @property
    def steps(self) -> int:
        """Alerts that took a step or woke from a snooze."""
        ...

    @property
    def sent(self) -> int:
        """Messages delivered."""
        ...

    @property
    def failed(self) -> int:
        """Messages that will be tried again."""
        ...

    @property
    def dead(self) -> int:
        """Messages given up."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """Plans whose dates cannot be computed, in words."""
        ...

    @property
    def findings(self) -> tuple[str, ...]:
        """What the auditor found, in words."""
        ...

    @property
    def seconds(self) -> float:
        """How long it took, seconds."""
        ...


class Pump(Protocol):
    """The one pass that generates, works, proposes, escalates, audits and delivers."""

    def due(self) -> DueWork:
        """Ask the store what there is to do, a few counts; changes nothing.

        Raises:
            StoreError: the store cannot be read.

        """
        ...

    def run(self, *, run_id: str) -> PumpReport:
        """Do it, for as long as `pump_deadline_s` allows; safe beside another pass.

        Args:
            run_id: kept on every occurrence it takes, so that a run that dies can be found by what it left.

        Raises:
            FarmIntelError: it could not go on; what was done stays done.

        """
        ...


class PlanEntry(Protocol):
    """One date of an activity on a farm's plan."""

    @property
    def activity_id(self) -> str:
        """The activity."""
        ...

    @property
    def farm_id(self) -> str:
        """Its farm."""
        ...

    @property
    def type(self) -> str:
        """Slug of the activity type."""
        ...

    @property
    def title(self) -> str:
        """What is to be done."""
        ...

    @property
    def due_at(self) -> datetime:
        """When, UTC."""
        ...

    @property
    def local_date(self) -> date:
        """Date on the farm's calendar."""
        ...

    @property
    def local_time(self) -> str:
        """Wall time on the farm, `HH:MM`."""
        ...

    @property
    def state(self) -> str:
        """State of the occurrence, or `planned` while it has no row yet."""
        ...

    @property
    def assignee(self) -> str:
        """Who is to do it; empty for nobody."""
        ...

    @property
    def reason(self) -> str:
        """Why it is skipped, failed or expired."""
        ...


class Activities(Protocol):
    """What is planned and what became of it."""

    def plan(self, farm_ids: Sequence[str], *, start: date, end: date) -> Sequence[PlanEntry]:
        """Return the occurrences there are and the dates to come, by the farms' own calendars, both ends included."""
        ...

    def runs_in_doubt(self) -> Sequence[str]:
        """Return the run ids of occurrences that are being worked on although their lease is over."""
        ...


class Alerts(Protocol):
    """The rules and what they find."""

    @property
    def rules(self) -> Mapping[str, AlertRule]:
        """The rule table by slug."""
        ...

    def evaluate(self, farm_ids: Sequence[str], *, start: date, end: date) -> Iterator[Evaluation]:
        """Evaluate every rule on farms and days, both ends included, store it and let alerts open and resolve.

        Yields, in any order, whatever a rule says, unchanged evaluations included; each is stored and absorbed when it
        is yielded.

        Raises:
            FarmIntelError: the store refused; what was yielded is stored.

        """
        ...

    def of_day(self, farm_id: str, day: date) -> Sequence[Alert]:
        """Return the alerts of a farm that were live on a day, in the state they are in now."""
        ...


class AlertHealth(Protocol):
    """Whether the watcher watches."""

    @property
    def heartbeat(self) -> datetime | None:
        """When (UTC) a pass of the pump last went through with all well; None where none ever did."""
        ...

    @property
    def findings(self) -> Sequence[str]:
        """What the auditor finds now: stuck alerts, alerts nobody was told of, in words."""
        ...

    @property
    def oldest_due(self) -> datetime | None:
        """Since when (UTC) the longest waiting occurrence or alert step is due; None where nothing is."""
        ...

    @property
    def dead_letters(self) -> Sequence[str]:
        """Occurrences given up, in words."""
        ...


class DeliveryHealth(Protocol):
    """Whether messages reach their channels."""

    @property
    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Channel -> state -> messages."""
        ...

    @property
    def oldest_due(self) -> datetime | None:
        """Since when (UTC) the longest waiting message could be sent; None where none waits."""
        ...

    @property
    def breakers(self) -> Sequence[tuple[Operation, BreakerRecord]]:
        """Circuit breakers of channels and speech engines that ever had to do with a failure."""
        ...


class PumpSettings(Protocol):
    """The settings of the pump; meanings and units are documented in farm_intel.settings."""

    @property
    def pump_interval_s(self) -> int: ...  # noqa: D102 - see the class
    @property
    def pump_deadline_s(self) -> float: ...  # noqa: D102
    @property
    def lease_s(self) -> float: ...  # noqa: D102


class Watching(Protocol):
    """The part of an installation that does activities, alerts and delivery."""

    @property
    def pump(self) -> Pump:
        """The pump."""
        ...

    @property
    def activities(self) -> Activities:
        """Plans and occurrences."""
        ...

    @property
    def alerts(self) -> Alerts:
        """Rules and alerts."""
        ...

    def alert_health(self) -> AlertHealth:
        """Return whether the watcher watches."""
        ...

    def delivery_health(self) -> DeliveryHealth:
        """Return whether messages reach their channels."""
        ...
