"""What the API needs from inside, as small Protocols that bootstrap fulfils, and the bundle it is created from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from farm_intel.domain.activities import Answer, Occurrence
from farm_intel.domain.alerts import Alert, AlertState
from farm_intel.domain.messages import Audio, Message, MessageState
from farm_intel.notifying.stream_ports import FarmAccess, StreamStore, TicketStore
from farm_intel.notifying.streaming import StreamOptions
from farm_intel.resilience.clock import Sleeper


class AlertsPort(Protocol):
    """Alerts and their life cycle."""

    def get(self, alert_id: str) -> Alert:
        """Return one alert; UnknownNameError where there is none."""
        ...

    def list(
        self, *, farm_ids: Collection[str] | None, states: Collection[AlertState], limit: int, cursor: str
    ) -> tuple[Sequence[Alert], str]:
        """Return one page of alerts, newest first, and the cursor of the next; BadRequestError for a strange one."""
        ...

    def acknowledge(self, alert_id: str, by: str, note: str) -> Alert:
        """Acknowledge; IllegalTransitionError where it is over."""
        ...

    def snooze(self, alert_id: str, until: datetime, by: str, note: str) -> Alert:
        """Keep it quiet until then."""
        ...

    def resolve(self, alert_id: str, by: str, reason: str) -> Alert:
        """End it by hand."""
        ...


class ActivitiesPort(Protocol):
    """Occurrences and their answers."""

    def occurrence(self, activity_id: str, due_at: datetime) -> Occurrence:
        """Return one occurrence; UnknownNameError where there is none."""
        ...

    def answer(self, activity_id: str, due_at: datetime, answer: Answer) -> Occurrence:
        """Record what somebody said; IllegalTransitionError where it is settled."""
        ...

    def dead_letters(self, farm_ids: Sequence[str] | None = None, *, limit: int) -> Sequence[Occurrence]:
        """Return what was given up, by due time; of these farms only, None for all."""
        ...

    def replay(self, activity_id: str, due_at: datetime, *, by: str) -> Occurrence:
        """Let what was given up be tried again; IllegalTransitionError where it was not."""
        ...

    def drop(self, activity_id: str, due_at: datetime, *, note: str, by: str) -> Occurrence:
        """Give it up for good; IllegalTransitionError where it was not."""
        ...


class OutboxPort(Protocol):
    """The outbox as operators see it."""

    def list(self, *, state: MessageState | None, limit: int) -> Sequence[Message]:
        """Return messages, newest first."""
        ...

    def replay(self, message_id: str, *, now: datetime) -> Message:
        """Send a dead letter again; UnknownNameError or IllegalTransitionError."""
        ...

    def drop(self, message_id: str, *, by: str, note: str) -> Message:
        """Give a message up; UnknownNameError or IllegalTransitionError."""
        ...


class AudioPort(Protocol):
    """Rendered speech."""

    def by_address(self, sha256: str) -> Audio | None:
        """Return the record of an audio file, or None."""
        ...

    def read(self, audio: Audio) -> bytes:
        """Return its content."""
        ...


class Beat(Protocol):
    """When one part of the pump last went through with all well."""

    @property
    def name(self) -> str:
        """Name of the part."""
        ...

    @property
    def at(self) -> datetime:
        """Timezone-aware UTC."""
        ...


class HeartbeatsPort(Protocol):
    """Signs of life of the pump's parts."""

    def heartbeats(self) -> Sequence[Beat]:
        """Return the latest of each part."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAccess:
    """Who may do what, until accounts exist; the default lets nobody in."""

    tokens: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 (hex) of a bearer token to the user's id."""
    may_see: FarmAccess
    farms_of: Callable[[str], frozenset[str] | None]
    """The farms a user may see, by the user's id; None for all. Says of every farm what `may_see` says."""
    operators: frozenset[str] = frozenset()
    """Users who may read, replay and drop the outbox, which holds other people's messages."""
    origins: frozenset[str] = frozenset()
    """Origins of pages that may open the live channel, as browsers write them: `https://farm.example.org`."""
    ticket_ttl: timedelta = timedelta(seconds=60)
    """How long a ticket lets in; the EventSource of a page has to get a new one after that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """Everything the API calls."""

    streams: StreamStore
    tickets: TicketStore
    alerts: AlertsPort
    activities: ActivitiesPort
    outbox: OutboxPort
    audio: AudioPort
    heartbeats: HeartbeatsPort
    access: ApiAccess
    clock: Sleeper
    stream_options: StreamOptions = field(default_factory=StreamOptions)
    silent_after: timedelta = timedelta(minutes=5)
    """A part of the pump whose last beat is older is reported as silent."""
