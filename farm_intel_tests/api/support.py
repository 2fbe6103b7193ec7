"""Services to put behind the API, and a real server on a port of its own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from farm_intel.api.app import create_app
from farm_intel.api.ports import ApiAccess, ApiServices
from farm_intel.api.serving import listen, server_config
from farm_intel.domain.activities import Answer, IllegalTransitionError, Occurrence, OccurrenceState, check_transition
from farm_intel.domain.alerts import Alert, AlertState, Severity, check_alert_transition
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.messages import Audio, Message, MessageState, NewMessage, RenderedText
from farm_intel.domain.ports import Clock
from farm_intel.notifying.streaming import StreamOptions
from farm_intel.resilience.clock import SystemClock
from farm_intel.storage.database import transaction
from farm_intel.storage.enqueueing import append_event
from farm_intel.storage.streams import SqlStreamStore

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
ORIGIN = "https://farm.example.org"
TOKENS = {"anna": "anna-token", "ben": "ben-token", "olga": "olga-token"}


def bearer(user: str) -> dict[str, str]:
    """Return the header a user logs in with."""
    return {"Authorization": f"Bearer {TOKENS[user]}"}


class Grants:
    """Who may see which farm; implements `FarmAccess`. Everybody sees what nobody has taken away."""

    def __init__(self) -> None:
        self.revoked: set[tuple[str, str]] = set()

    def __call__(self, user_id: str, farm_id: str) -> bool:
        return (user_id, farm_id) not in self.revoked

    def farms_of(self, user_id: str) -> frozenset[str] | None:
        taken = {farm for user, farm in self.revoked if user == user_id}
        return frozenset({"farm-a", "farm-b"} - taken) if taken else None


class FakeAlerts:
    """Alerts in memory, with the real life cycle's transitions."""

    def __init__(self) -> None:
        self.alerts = {"al_1": an_alert("al_1", "farm-a"), "al_2": an_alert("al_2", "farm-b")}
        self.notes: list[tuple[str, str, str]] = []

    def get(self, alert_id: str) -> Alert:
        if alert_id not in self.alerts:
            raise UnknownNameError(f"secret words about {alert_id}")
        return self.alerts[alert_id]

    def list(
        self, *, farm_ids: Collection[str] | None, states: Collection[AlertState], limit: int, cursor: str
    ) -> tuple[Sequence[Alert], str]:
        fitting = [
            alert
            for alert in self.alerts.values()
            if (farm_ids is None or alert.farm_id in farm_ids)
            and (not states or alert.state in states)
            and alert.alert_id > cursor
        ]
        return fitting[:limit], fitting[limit - 1].alert_id if len(fitting) > limit else ""

    def acknowledge(self, alert_id: str, by: str, note: str) -> Alert:
        return self._to(alert_id, AlertState.ACKNOWLEDGED, by, note)

    def snooze(self, alert_id: str, until: datetime, by: str, note: str) -> Alert:
        return replace(self._to(alert_id, AlertState.SNOOZED, by, note), next_at=until)

    def resolve(self, alert_id: str, by: str, reason: str) -> Alert:
        return self._to(alert_id, AlertState.RESOLVED, by, reason)

    def _to(self, alert_id: str, state: AlertState, by: str, note: str) -> Alert:
        alert = self.get(alert_id)
        check_alert_transition(alert.state, state, what=f"alert {alert_id}")
        self.notes.append((alert_id, by, note))
        self.alerts[alert_id] = replace(alert, state=state, by=by, reason=note)
        return self.alerts[alert_id]


def an_alert(alert_id: str, farm_id: str) -> Alert:
    return Alert(
        alert_id=alert_id,
        farm_id=farm_id,
        rule="stress-threshold",
        rule_class="stress",
        event_key="2026-06-28",
        severity=Severity.WARNING,
        state=AlertState.NOTIFIED,
        opened_day=date(2026, 6, 28),
        last_day=date(2026, 6, 29),
        evidence={"value": 0.31},
        rule_version="1",
        steps=(),
        opened_at=NOW,
        changed_at=NOW,
    )


class FakeActivities:
    """One occurrence that waits for an answer."""

    def __init__(self) -> None:
        self.waiting = Occurrence(
            activity_id="act_1",
            due_at=NOW,
            farm_id="farm-a",
            type="irrigation",
            local_date=date(2026, 6, 30),
            local_time="14:00",
            time_zone="Africa/Nairobi",
            state=OccurrenceState.WAITING,
            not_before=NOW,
            created_at=NOW,
            changed_at=NOW,
        )

    def occurrence(self, activity_id: str, due_at: datetime) -> Occurrence:
        if (activity_id, due_at) != (self.waiting.activity_id, self.waiting.due_at):
            raise UnknownNameError("no such occurrence")
        return self.waiting

    def answer(self, activity_id: str, due_at: datetime, answer: Answer) -> Occurrence:
        after = OccurrenceState.DONE if answer.done else OccurrenceState.SKIPPED
        check_transition(self.occurrence(activity_id, due_at).state, after, what=f"occurrence {activity_id}")
        self.waiting = replace(self.waiting, state=after, answer=answer)
        return self.waiting

    def dead_letters(self, farm_ids: Sequence[str] | None = None, *, limit: int) -> list[Occurrence]:
        seen = farm_ids is None or self.waiting.farm_id in farm_ids
        return [self.waiting][:limit] if seen and self.waiting.state is OccurrenceState.FAILED else []

    def replay(self, activity_id: str, due_at: datetime, *, by: str) -> Occurrence:
        return self._settle(activity_id, due_at, OccurrenceState.DUE, f"replayed by {by}")

    def drop(self, activity_id: str, due_at: datetime, *, note: str, by: str) -> Occurrence:
        return self._settle(activity_id, due_at, OccurrenceState.SKIPPED, f"dropped by {by}: {note}")

    def _settle(self, activity_id: str, due_at: datetime, after: OccurrenceState, reason: str) -> Occurrence:
        found = self.occurrence(activity_id, due_at)
        if found.state is not OccurrenceState.FAILED:
            raise IllegalTransitionError(f"occurrence {activity_id} is {found.state.value}")
        self.waiting = replace(found, state=after, reason=reason)
        return self.waiting


class FakeOutbox:
    """One dead letter."""

    def __init__(self) -> None:
        text = RenderedText(language="en", title="Dry", short="Dry", long="Dry", spoken="Dry")
        new = NewMessage(
            idempotency_key="k",
            subject="alert:al_1",
            farm_id="farm-a",
            user_id="anna",
            channel="webhook",
            address="https://hook.example.org/very-secret-path",
            secret="whsec_very-secret",  # noqa: S106 - what must not be shown
            severity=Severity.WARNING,
            text=text,
            not_before=NOW,
        )
        self.letter = Message(
            message_id="msg_1", new=new, state=MessageState.DEAD, attempt=10, token=1, created_at=NOW, next_at=NOW
        )

    def list(self, *, state: MessageState | None, limit: int) -> Sequence[Message]:
        return [self.letter][:limit] if state in {None, self.letter.state} else []

    def replay(self, message_id: str, *, now: datetime) -> Message:
        return self._to(message_id, MessageState.PENDING, next_at=now)

    def drop(self, message_id: str, *, by: str, note: str) -> Message:
        return self._to(message_id, MessageState.DROPPED, error=f"dropped by {by}: {note}")

    def _to(self, message_id: str, state: MessageState, **values: Any) -> Message:
        if message_id != self.letter.message_id:
            raise UnknownNameError(f"there is no message {message_id!r}")
        self.letter = replace(self.letter, state=state, **values)
        return self.letter


class FakeAudio:
    """Audio in memory by its hash."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def add(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.files[sha256] = content
        return sha256

    def by_address(self, sha256: str) -> Audio | None:
        if sha256 not in self.files:
            return None
        return Audio(
            sha256=sha256,
            path=f"{sha256}.wav",
            mime_type="audio/wav",
            duration_s=1.0,
            engine="tone",
            size_bytes=len(self.files[sha256]),
        )

    def read(self, audio: Audio) -> bytes:
        return self.files[audio.sha256]


@dataclass(frozen=True)
class FakeBeat:
    """A sign of life."""

    name: str
    at: datetime


@dataclass
class FakeHeartbeats:
    """Beats that tests set."""

    beats: dict[str, datetime] = field(default_factory=dict)

    def heartbeats(self) -> Sequence[FakeBeat]:
        return [FakeBeat(name, at) for name, at in self.beats.items()]


class MovableTime(SystemClock):
    """The machine's clock, with a part of its own that tests can move on; sleeping is real."""

    def __init__(self) -> None:
        self._moved = timedelta()

    def now(self) -> datetime:
        return super().now() + self._moved

    def advance(self, seconds: float) -> None:
        self._moved += timedelta(seconds=seconds)


@dataclass
class World:
    """One app with everything behind it at hand."""

    engine: Engine
    clock: MovableTime = field(default_factory=MovableTime)
    grants: Grants = field(default_factory=Grants)
    alerts: FakeAlerts = field(default_factory=FakeAlerts)
    activities: FakeActivities = field(default_factory=FakeActivities)
    outbox: FakeOutbox = field(default_factory=FakeOutbox)
    audio: FakeAudio = field(default_factory=FakeAudio)
    heartbeats: FakeHeartbeats = field(default_factory=FakeHeartbeats)
    options: StreamOptions = field(default_factory=lambda: StreamOptions(poll_s=0.05, recheck_s=0.0))
    tokens: Mapping[str, str] = field(default_factory=lambda: TOKENS)
    make_store: Callable[[Engine, Clock], SqlStreamStore] = SqlStreamStore

    def __post_init__(self) -> None:
        self.store = self.make_store(self.engine, self.clock)

    def services(self, **changes: Any) -> ApiServices:
        hashed = {hashlib.sha256(token.encode()).hexdigest(): user for user, token in self.tokens.items()}
        services = ApiServices(
            streams=self.store,
            tickets=self.store,
            alerts=self.alerts,
            activities=self.activities,
            outbox=self.outbox,
            audio=self.audio,
            heartbeats=self.heartbeats,
            access=ApiAccess(
                tokens=hashed,
                may_see=self.grants,
                farms_of=self.grants.farms_of,
                operators=frozenset({"olga"}),
                origins=frozenset({ORIGIN}),
            ),
            clock=self.clock,
            stream_options=self.options,
        )
        return replace(services, **changes)

    def app(self, **changes: Any) -> FastAPI:
        return create_app(self.services(**changes))

    def tell(self, user: str, *farms: str, payload: Mapping[str, object] | None = None) -> list[int]:
        """Append one event per farm to a user's stream, each in its own transaction; return their numbers."""
        numbers = []
        for farm in farms:
            with transaction(self.engine) as connection:
                seq = append_event(
                    connection,
                    user,
                    event_id=f"e{self.store.heads([user]).get(user, 0) + 1}",
                    kind="message",
                    farm_id=farm,
                    payload=payload or {"title": f"news of {farm}"},
                    now=self.clock.now(),
                )
            assert seq is not None
            numbers.append(seq)
        return numbers


@contextmanager
def served(app: FastAPI) -> Iterator[int]:
    """Serve the app as `farm-intel` does, from a thread; yields the port."""
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(server_config(app))
    started = threading.Event()
    startup = server.startup

    async def told_startup(*args: Any, **options: Any) -> None:
        await startup(*args, **options)
        started.set()

    server.startup = told_startup  # type: ignore[method-assign]  # uvicorn has no callback for "I am listening"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    assert started.wait(20), "the server did not start"
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive(), "the server did not end"
