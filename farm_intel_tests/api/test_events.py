"""Server-sent events with httpx against a real server, read as a browser reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from farm_intel.notifying.streaming import StreamOptions
from farm_intel_tests.api.support import ORIGIN, World, bearer, served


class Source:
    """The event-stream parser of the HTML standard (9.2.6), as much of it as matters."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()
        self.last_event_id = ""
        self.retry_ms = 0

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        kind, data = "message", ""
        for line in self._lines:
            if not line:
                if data:
                    yield kind, json.loads(data)
                kind, data = "message", ""
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                self.last_event_id = value
            elif name == "retry":
                self.retry_ms = int(value)
            elif name == "event":
                kind = value
            elif name == "data":
                data += value


def take_until(source: Source, kind: str) -> list[tuple[str, dict[str, Any]]]:
    taken = []
    for item in source:
        taken.append(item)
        if item[0] == kind:
            break
    return taken


@contextmanager
def listening(port: int, *, headers: dict[str, str] | None = None, **params: str) -> Iterator[Source]:
    address = f"http://127.0.0.1:{port}/v1/events"
    with httpx.stream("GET", address, params=params, headers=headers or bearer("anna"), timeout=10) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Source(answer)


@pytest.fixture
def port(world: World) -> Iterator[int]:
    with served(world.app()) as port:
        yield port


def ticket_for(port: int) -> str:
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/stream/tickets", headers=bearer("anna"))
    return str(answer.json()["ticket"])


def test_a_lost_connection_is_resumed_by_the_last_event_id(world: World, port: int) -> None:
    world.tell("anna", "farm-a", "farm-b", "farm-a")
    with listening(port, last_seq="0") as source:
        seen = [next(iter(source))[1]["seq"] for _ in range(2)]
        assert source.retry_ms > 0
    world.tell("anna", "farm-a")
    headers = bearer("anna") | {"Last-Event-ID": source.last_event_id}
    with listening(port, headers=headers, last_seq="0") as source:  # a browser repeats its first address
        seen += [data["seq"] for _, data in take_until(source, "live")[:-1]]
        world.tell("anna", "farm-c")
        seen.append(next(iter(source))[1]["seq"])

    assert seen == [1, 2, 3, 4, 5]
    assert source.last_event_id == "5"


def test_a_ticket_serves_reconnections_until_it_expires(world: World, port: int) -> None:
    ticket = ticket_for(port)
    for _ in range(2):
        with listening(port, headers={"Accept": "text/event-stream"}, ticket=ticket, last_seq="0") as source:
            assert take_until(source, "live")
    world.clock.advance(61)

    assert httpx.get(f"http://127.0.0.1:{port}/v1/events", params={"ticket": ticket}).status_code == 401


def test_a_cursor_older_than_retention_is_told_and_the_stream_ends(world: World, port: int) -> None:
    world.tell("anna", "farm-a")
    world.clock.advance(100)
    world.tell("anna", "farm-a")
    world.store.prune(world.clock.now() - timedelta(seconds=50))
    with listening(port, last_seq="0") as source:
        told = list(source)

    assert told == [("resync_required", {"type": "resync_required", "oldest_seq": 2, "last_seq": 2})]
    assert source.retry_ms >= 60_000, "a page that ignores it must not come back at once"


def test_a_farm_taken_away_while_connected_ends_it(world: World, port: int) -> None:
    with listening(port, last_seq="0") as source:
        take_until(source, "live")
        world.grants.revoked.add(("anna", "farm-a"))
        world.tell("anna", "farm-a")
        rest = list(source)

    assert rest == [("withheld", {"type": "withheld", "seq": 1}), ("closed", {"reason": "revoked"})]
    assert source.last_event_id == "1"


def test_who_is_not_logged_in_or_comes_from_elsewhere_is_refused(world: World, port: int) -> None:
    address = f"http://127.0.0.1:{port}/v1/events"
    evil = bearer("anna") | {"Origin": "https://evil.example"}

    assert httpx.get(address).status_code == 401
    assert httpx.get(address, headers={"Authorization": "Bearer guess"}).status_code == 401
    assert httpx.get(address, headers=evil).status_code == 403
    assert httpx.get(address, headers=bearer("anna"), params={"last_seq": "x"}).status_code == 400
    assert httpx.get(address, params={"ticket": ""}).headers["content-type"] == "application/problem+json"
    with httpx.stream("GET", address, headers=bearer("anna") | {"Origin": ORIGIN}) as answer:
        assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_a_quiet_stream_says_that_it_lives(world: World) -> None:
    world.options = StreamOptions(poll_s=0.05, heartbeat_s=0.1)
    with served(world.app()) as port:
        address = f"http://127.0.0.1:{port}/v1/events"
        with httpx.stream("GET", address, headers=bearer("anna"), timeout=5) as answer:
            assert ": quiet" in answer.iter_lines()


def test_connections_are_given_back(world: World) -> None:
    world.options = StreamOptions(poll_s=0.05, heartbeat_s=0.1, connections_per_user=1)
    with served(world.app()) as port:
        address = f"http://127.0.0.1:{port}/v1/events"
        with listening(port) as source:
            take_until(source, "live")
            assert httpx.get(address, headers=bearer("anna")).status_code == 429
        for _ in range(50):
            with httpx.stream("GET", address, headers=bearer("anna")) as answer:
                if answer.status_code == 200:
                    return
            world.clock.sleep(0.1)
    raise AssertionError("the seat of a listener that left was never free again")
