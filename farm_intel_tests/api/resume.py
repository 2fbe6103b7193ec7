"""The resume trial: writers, a real server, and clients that lose their connection again and again.

usage: python -m farm_intel_tests.api.resume [DATABASE_URL] [EVENTS]

8 processes' worth of writers append events while every user's client is cut off at random places, now politely, now in
the middle of a frame, and goes on from what it remembers, which is sometimes older than what it has. At the end what
each client has, after dropping the numbers it had already, is compared with the store.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from multiprocessing.connection import Connection as Pipe
from typing import Any

import httpx
from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from farm_intel.domain.ports import Clock
from farm_intel.domain.streams import StreamPage
from farm_intel.notifying.streaming import StreamOptions
from farm_intel.storage.database import migrate, open_database, transaction
from farm_intel.storage.enqueueing import append_event
from farm_intel.storage.message_tables import stream_events, streams
from farm_intel.storage.streams import SqlStreamStore
from farm_intel_tests.api.support import World, served

WRITERS = 8
IDLE_LIMIT_S = 3.0
"""A client that has heard nothing for so long after the last write takes it that nothing more comes."""

CLOSE_WITHIN_S = 0.2
"""`websockets` does not read on while it closes with a full queue; it then waits for this long."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried."""

    database_url: str
    events: int = 10_000
    users: int = 5
    disconnects: int = 200
    seed: int = 4
    mutant: str = ""
    """`sequence`: numbers are taken outside the transaction that shows them; `newest`: only the newest 50 are replayed,
    as the original did; `skips`: a resume begins one too late."""


@dataclass
class Outcome:
    """What came of it."""

    events: int
    disconnects: int = 0
    missed: int = 0
    out_of_order: int = 0
    duplicates: int = 0
    """Events that the client kept twice in spite of dropping known numbers."""
    repeated: int = 0
    """Events sent again because the client asked from further back; dropped by number."""
    rolled_back: int = 0
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        return self.missed + self.out_of_order + self.duplicates

    def __str__(self) -> str:
        return (
            f"{self.events} events, {self.disconnects} disconnects, {self.rolled_back} rolled back, "
            f"{self.repeated} repeated and dropped: {self.missed} missed, {self.out_of_order} out of order, "
            f"{self.duplicates} duplicates ({self.seconds:.1f} s)"
        )


class NewestOnly(SqlStreamStore):
    """The original's fault: a reconnecting client is sent the newest 50, and nothing of what was before."""

    def events_after(self, user_id: str, seq: int, limit: int) -> StreamPage:
        last = self.heads([user_id]).get(user_id, 0)
        return super().events_after(user_id, max(seq, last - 50), limit)


class Skips(SqlStreamStore):
    """An off-by-one of the cursor."""

    def events_after(self, user_id: str, seq: int, limit: int) -> StreamPage:
        return super().events_after(user_id, seq + 1 if seq and seq % 10 == 0 else seq, limit)


STORES: dict[str, Callable[[Engine, Clock], SqlStreamStore]] = {"newest": NewestOnly, "skips": Skips}


class AbandonedError(Exception):
    """A writer changes its mind before the commit."""


def users_of(trial: Trial) -> list[str]:
    return [f"user-{number}" for number in range(trial.users)]


def run_trial(trial: Trial) -> Outcome:
    """Run one trial on an empty database and return the outcome."""
    began = time.monotonic()
    engine = open_database(trial.database_url)
    migrate(engine)
    spawn = multiprocessing.get_context("spawn")
    theirs, ours = spawn.Pipe()
    server = spawn.Process(target=_serve, args=(trial, theirs), daemon=True)
    writer = spawn.Process(target=_write_all, args=(trial, theirs), daemon=True)
    server.start()
    try:
        port = ours.recv()
        writer.start()
        outcome = asyncio.run(_follow_all(trial, port, ours, engine))
        writer.join(10)
    finally:
        ours.send("stop")
        server.join(30)
        for process in (server, writer):
            if process.pid is not None and process.is_alive():
                process.kill()
        engine.dispose()
    outcome.seconds = time.monotonic() - began
    return outcome


def _serve(trial: Trial, pipe: Pipe) -> None:
    engine = open_database(trial.database_url)
    options = StreamOptions(poll_s=0.05, page_size=50)
    tokens = {user: f"token-of-{user}" for user in users_of(trial)}
    world = World(engine, options=options, tokens=tokens, make_store=STORES.get(trial.mutant, SqlStreamStore))
    with served(world.app()) as port:
        pipe.send(port)
        pipe.recv()
    engine.dispose()


def _write_all(trial: Trial, pipe: Pipe) -> None:
    engine = open_database(trial.database_url)
    take = iter(range(trial.events))
    lock = threading.Lock()
    rolled_back: Counter[str] = Counter()
    append = _append_outside if trial.mutant == "sequence" else _append
    numbers = {user: count(1) for user in users_of(trial)}

    def work(which: int) -> None:
        dice = random.Random(trial.seed * 100 + which)
        while True:
            with lock:
                event = next(take, None)
            if event is None:
                return
            user = users_of(trial)[event % trial.users]
            if dice.random() < 0.05:
                _abandon(engine, user, event)
                rolled_back["times"] += 1
            append(engine, user, event, numbers[user], dice)

    writers = [threading.Thread(target=work, args=(which,)) for which in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    engine.dispose()
    pipe.send(rolled_back["times"])


def _append(engine: Engine, user: str, event: int, _numbers: Any, dice: random.Random) -> None:
    with transaction(engine) as connection:
        _event_in(connection, user, event)
        if dice.random() < 0.02:  # a transaction that stays open while others wait
            time.sleep(dice.random() * 0.01)


def _abandon(engine: Engine, user: str, event: int) -> None:
    with suppress(AbandonedError), transaction(engine) as connection:
        _event_in(connection, user, event)
        raise AbandonedError


def _event_in(connection: Connection, user: str, event: int) -> None:
    append_event(
        connection,
        user,
        event_id=f"event-{event}",
        kind="message",
        farm_id=f"farm-{event % 3}",
        payload={"event": event},
        now=datetime.now(UTC),
    )


def _append_outside(engine: Engine, user: str, event: int, numbers: Any, dice: random.Random) -> None:
    """Mutant: as a sequence does, the number is taken before, and outside of, the transaction that shows it."""
    seq = next(numbers)
    time.sleep(dice.random() * 0.02)
    now = datetime.now(UTC)
    with transaction(engine) as connection:
        dialect, larger = (postgresql, func.greatest) if connection.dialect.name == "postgresql" else (sqlite, func.max)
        values = {"user_id": user, "last_seq": 0, "oldest_seq": 1, "acked_seq": 0, "updated_at": now}
        connection.execute(dialect.insert(streams).values(values).on_conflict_do_nothing())
        newer = larger(streams.c.last_seq, seq)
        connection.execute(update(streams).where(streams.c.user_id == user).values(last_seq=newer))
        connection.execute(
            insert(stream_events).values(
                user_id=user,
                seq=seq,
                event_id=f"event-{event}",
                kind="message",
                farm_id="farm-0",
                payload=json.dumps({"event": event}),
                created_at=now,
            )
        )


@dataclass
class Client:
    """One user's device."""

    user: str
    port: int
    cuts: list[int]
    """Cut the connection when so many events have come."""
    dice: random.Random
    kept: list[tuple[int, str]] = field(default_factory=list)
    highest: int = 0
    repeated: int = 0
    out_of_order: int = 0
    disconnects: int = 0
    came_at: float = field(default_factory=time.monotonic)

    async def follow(self, http: httpx.AsyncClient, finished: asyncio.Event, goal: int) -> None:
        """Listen and reconnect until everything is there, or nothing more comes after the writers have ended."""
        while not self._over(finished, goal):
            answer = await http.post(
                f"http://127.0.0.1:{self.port}/v1/stream/tickets",
                headers={"Authorization": f"Bearer token-of-{self.user}"},
            )
            answer.raise_for_status()
            since = max(0, self.highest - self.dice.choice((0, 0, 0, 1, 7)))
            address = f"ws://127.0.0.1:{self.port}/v1/stream?ticket={answer.json()['ticket']}&last_seq={since}"
            try:
                async with connect(address, compression=None, close_timeout=CLOSE_WITHIN_S) as socket:
                    await self._listen(socket, since, finished, goal)
            except (ConnectionClosed, InvalidStatus, OSError):
                continue

    async def _listen(self, socket: ClientConnection, since: int, finished: asyncio.Event, goal: int) -> None:
        at = since
        while not self._over(finished, goal):
            try:
                async with asyncio.timeout(0.5):
                    message = json.loads(await socket.recv())
            except TimeoutError:
                continue
            if message["type"] != "event":
                continue
            self.came_at = time.monotonic()
            self.out_of_order += message["seq"] <= at
            at = message["seq"]
            self._keep(message)
            if self.dice.random() < 0.02:
                await socket.send(json.dumps({"type": "ack", "seq": self.highest}))
            if self.cuts and len(self.kept) >= self.cuts[0]:
                self.cuts.pop(0)
                self.disconnects += 1
                if self.dice.random() < 0.5:
                    socket.transport.abort()  # as when the phone loses the network
                return

    def _keep(self, message: dict[str, Any]) -> None:
        if message["seq"] <= self.highest:
            self.repeated += 1
            return
        self.highest = message["seq"]
        self.kept.append((message["seq"], message["event"]["id"]))

    def _over(self, finished: asyncio.Event, goal: int) -> bool:
        if not finished.is_set():
            return False
        return len(self.kept) >= goal or time.monotonic() - self.came_at > IDLE_LIMIT_S


async def _follow_all(trial: Trial, port: int, pipe: Pipe, engine: Engine) -> Outcome:
    dice = random.Random(trial.seed)
    each = trial.events // trial.users
    share = trial.disconnects // trial.users
    clients = [
        Client(user, port, sorted(dice.sample(range(1, each), share)), random.Random(number))
        for number, user in enumerate(users_of(trial))
    ]
    finished = asyncio.Event()
    async with httpx.AsyncClient(timeout=30) as http, asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.follow(http, finished, each))
        rolled_back = await asyncio.to_thread(pipe.recv)
        for client in clients:
            client.came_at = time.monotonic()
        finished.set()
    outcome = Outcome(events=0, rolled_back=rolled_back)
    for client in clients:
        _judge(engine, client, outcome)
    return outcome


def _judge(engine: Engine, client: Client, outcome: Outcome) -> None:
    query = select(stream_events.c.seq, stream_events.c.event_id).where(stream_events.c.user_id == client.user)
    with engine.connect() as connection:
        truth = {(row.seq, row.event_id) for row in connection.execute(query)}
    ids = Counter(event_id for _, event_id in client.kept)
    outcome.events += len(truth)
    outcome.disconnects += client.disconnects
    outcome.missed += len(truth - set(client.kept))
    outcome.out_of_order += client.out_of_order + (client.kept != sorted(client.kept))
    outcome.duplicates += sum(ids.values()) - len(ids)
    outcome.repeated += client.repeated


if __name__ == "__main__":
    events = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/store.db"
        result = run_trial(Trial(database_url=url, events=events))
    sys.stdout.write(f"{result}\n")
    sys.exit(result.faults > 0)
