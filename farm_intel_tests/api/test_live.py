"""The live channel with real clients against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from farm_intel.domain.alerts import AlertState
from farm_intel.domain.errors import StoreError
from farm_intel.domain.streams import StreamPage
from farm_intel.notifying.streaming import StreamOptions
from farm_intel.storage.database import transaction
from farm_intel.storage.enqueueing import append_event
from farm_intel.storage.streams import SqlStreamStore
from farm_intel_tests.api.support import ORIGIN, Grants, World, bearer, served


@dataclass
class Door:
    """The way in to a served world."""

    world: World
    port: int

    def ticket(self, user: str = "anna") -> str:
        answer = httpx.post(f"http://127.0.0.1:{self.port}/v1/stream/tickets", headers=bearer(user))
        assert answer.status_code == 201
        return str(answer.json()["ticket"])

    @contextmanager
    def connected(self, query: str = "", *, ticket: str | None = None, **options: Any) -> Iterator[ClientConnection]:
        ticket = self.ticket() if ticket is None else ticket
        address = f"ws://127.0.0.1:{self.port}/v1/stream?ticket={ticket}{query}"
        with connect(address, compression=None, close_timeout=0.5, **options) as socket:
            yield socket


def hear(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(socket.recv(timeout=10))
    return message


def hear_until(socket: ClientConnection, kind: str) -> list[dict[str, Any]]:
    messages = [hear(socket)]
    while messages[-1]["type"] != kind:
        messages.append(hear(socket))
    return messages


def close_code(socket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    return None if closed.value.rcvd is None else closed.value.rcvd.code


@contextmanager
def open_door(world: World) -> Iterator[Door]:
    with served(world.app()) as port:
        yield Door(world, port)


@pytest.fixture
def door(world: World) -> Iterator[Door]:
    with open_door(world) as door:
        yield door


class TestFollowing:
    def test_what_was_there_comes_in_order_then_live_then_what_comes(self, door: Door) -> None:
        door.world.tell("anna", "farm-a", "farm-b")
        door.world.tell("ben", "farm-a")
        with door.connected("&last_seq=0") as socket:
            first = hear_until(socket, "live")
            door.world.tell("anna", "farm-c")
            new = hear(socket)

        assert [(message["type"], message["seq"]) for message in first] == [("event", 1), ("event", 2), ("live", 2)]
        assert (new["seq"], new["event"]["farm_id"], new["event"]["id"]) == (3, "farm-c", "e3")
        assert new["event"]["payload"] == {"title": "news of farm-c"}

    def test_more_than_a_page_comes_whole(self, world: World) -> None:
        world.options = StreamOptions(poll_s=0.05, page_size=7)
        world.tell("anna", *["farm-a"] * 50)
        with open_door(world) as door, door.connected("&last_seq=3") as socket:
            seqs = [message["seq"] for message in hear_until(socket, "live")]

        assert seqs == [*range(4, 51), 50]

    def test_without_a_cursor_it_goes_on_after_what_was_acknowledged(self, door: Door) -> None:
        door.world.tell("anna", "farm-a", "farm-a", "farm-a")
        with door.connected("&last_seq=0") as socket:
            hear_until(socket, "live")
            socket.send('{"type":"ack","seq":2}')
            socket.send('{"type":"ack","seq":1}')
        with door.connected() as socket:
            seqs = [message["seq"] for message in hear_until(socket, "live")]

        assert seqs == [3, 3]

    def test_a_sign_of_life_comes_when_nothing_else_does(self, world: World) -> None:
        world.options = StreamOptions(poll_s=0.05, heartbeat_s=0.2)
        with open_door(world) as door, door.connected("&last_seq=0") as socket:
            assert hear(socket) == {"type": "live", "seq": 0}
            assert hear(socket) == {"type": "ping", "seq": 0}

    def test_a_store_that_refuses_ends_it_with_try_again(self, world: World) -> None:
        class Refuses(SqlStreamStore):
            def events_after(self, user_id: str, seq: int, limit: int) -> StreamPage:
                raise StoreError(f"no page of {limit} after {seq} for {user_id}")

        world.store = Refuses(world.engine, world.clock)
        with open_door(world) as door, door.connected("&last_seq=0") as socket:
            assert close_code(socket) == 1013

    def test_a_fault_of_ours_ends_it_and_is_logged(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(SqlStreamStore):
            def events_after(self, user_id: str, seq: int, limit: int) -> StreamPage:
                raise RuntimeError(f"no page of {limit} after {seq} for {user_id}")

        world.store = Broken(world.engine, world.clock)
        with open_door(world) as door, door.connected("&last_seq=0") as socket:
            assert close_code(socket) == 1011
        assert "ends unexpectedly" in caplog.text

    def test_events_come_even_when_the_poller_is_stuck(self, world: World) -> None:
        class Stuck(SqlStreamStore):
            def heads(self, user_ids: Any) -> dict[str, int]:
                raise StoreError(f"the counters of {user_ids} cannot be read")

        world.store = Stuck(world.engine, world.clock)
        world.options = StreamOptions(poll_s=0.05, heartbeat_s=0.3)
        with open_door(world) as door, door.connected("&last_seq=0") as socket:
            hear_until(socket, "live")
            with transaction(world.engine) as connection:
                now = world.clock.now()
                append_event(connection, "anna", event_id="e", kind="message", farm_id="", payload={}, now=now)
            assert hear_until(socket, "event")[-1]["seq"] == 1

    def test_many_connections_share_one_poller(self, world: World) -> None:
        asked: list[int] = []

        class Counts(SqlStreamStore):
            def heads(self, user_ids: Any) -> dict[str, int]:
                asked.append(len(user_ids))
                return super().heads(user_ids)

        world.store = Counts(world.engine, world.clock)
        with (
            open_door(world) as door,
            door.connected("&last_seq=0") as one,
            door.connected("&last_seq=0", ticket=door.ticket("ben")) as two,
        ):
            hear(one)
            hear(two)
            asked.clear()
            world.tell("anna", "farm-a")
            world.tell("ben", "farm-a")
            assert hear(one)["seq"] == hear(two)["seq"] == 1

        assert 2 in asked, "both users are asked for in one query"


class TestCursorsThatCannotBeServed:
    def test_older_than_retention_is_told(self, door: Door) -> None:
        door.world.tell("anna", "farm-a", "farm-a")
        door.world.clock.advance(100)
        door.world.tell("anna", "farm-a")
        door.world.store.prune(door.world.clock.now() - timedelta(seconds=50))

        with door.connected("&last_seq=1") as socket:
            assert hear(socket) == {"type": "resync_required", "oldest_seq": 3, "last_seq": 3}
            assert close_code(socket) == 4410
        with door.connected("&last_seq=2") as socket:
            assert hear(socket)["seq"] == 3

    def test_ahead_of_the_stream_is_told(self, door: Door) -> None:
        door.world.tell("anna", "farm-a")
        with door.connected("&last_seq=9") as socket:
            assert hear(socket) == {"type": "resync_required", "oldest_seq": 1, "last_seq": 1}

    def test_silence_is_what_a_store_without_the_ends_would_give(self, world: World) -> None:
        """Mutation partner: a page that does not know its ends sends the client past the gap."""

        class Endless(SqlStreamStore):
            def events_after(self, user_id: str, seq: int, limit: int) -> StreamPage:
                page = super().events_after(user_id, seq, limit)
                return StreamPage(events=page.events, last_seq=max(page.last_seq, seq), oldest_seq=1)

        world.store = Endless(world.engine, world.clock)
        world.tell("anna", "farm-a")
        world.clock.advance(100)
        world.store.prune(world.clock.now())
        with open_door(world) as door, door.connected("&last_seq=0") as socket:
            assert hear(socket)["type"] != "resync_required"


def dawdled_at(world: World, *, send_within_s: float) -> World:
    """Return a world with more to tell than all buffers between two sockets hold."""
    world.options = StreamOptions(poll_s=0.05, send_within_s=send_within_s)
    world.tell("anna", *["farm-a"] * 240, payload={"text": "x" * 100_000})
    return world


def dawdle(door: Door) -> tuple[list[int], int | None]:
    """Take nothing for a while, then everything; return the numbers, and the code of the close if there was one."""
    heard: list[int] = []
    with door.connected("&last_seq=0", max_queue=1) as socket:
        door.world.clock.sleep(1.5)
        try:
            for message in iter(lambda: hear(socket), None):
                if message["type"] == "live":
                    return heard, None
                heard.append(message["seq"])
        except ConnectionClosed as closed:
            return heard, closed.rcvd.code if closed.rcvd else None
    raise AssertionError("neither live nor closed")


class TestSlowClients:
    def test_who_does_not_take_it_is_closed_and_resumes(self, world: World) -> None:
        with open_door(dawdled_at(world, send_within_s=0.5)) as door:
            heard, code = dawdle(door)
            assert code == 1013
            assert 0 < len(heard) < 240
            with door.connected(f"&last_seq={heard[-1]}") as socket:
                heard += [message["seq"] for message in hear_until(socket, "live")[:-1]]

        assert heard == list(range(1, 241))

    def test_without_the_limit_nobody_is_closed(self, world: World) -> None:
        """Mutation partner: the same dawdling goes through where a send may take for ever."""
        with open_door(dawdled_at(world, send_within_s=1e9)) as door:
            heard, code = dawdle(door)

        assert (len(heard), code) == (240, None)

    def test_nobody_takes_more_connections_than_one_may(self, world: World) -> None:
        world.options = StreamOptions(poll_s=0.05, connections_per_user=1)
        with open_door(world) as door:
            with door.connected("&last_seq=0") as socket:
                hear(socket)
                with pytest.raises(InvalidStatus) as refused, door.connected():
                    pass
            assert refused.value.response.status_code == 429


class TestAccess:
    def test_a_farm_taken_away_while_connected_ends_it(self, door: Door) -> None:
        with door.connected("&last_seq=0") as socket:
            hear_until(socket, "live")
            door.world.grants.revoked.add(("anna", "farm-a"))
            door.world.tell("anna", "farm-a")

            assert hear(socket) == {"type": "withheld", "seq": 1}
            assert close_code(socket) == 4403

    def test_events_of_before_are_withheld_but_never_stand_in_the_way(self, door: Door) -> None:
        door.world.tell("anna", "farm-a", "farm-b", "farm-a", "")
        door.world.grants.revoked.add(("anna", "farm-a"))
        with door.connected("&last_seq=0") as socket:
            got = [(message["type"], message["seq"]) for message in hear_until(socket, "live")]

        assert got == [("withheld", 1), ("event", 2), ("withheld", 3), ("event", 4), ("live", 4)]

    @pytest.mark.parametrize(
        ("recheck_s", "told"), [(0.0, ["event", "withheld", "live"]), (1e9, ["event", "event", "live"])]
    )
    def test_access_is_asked_again_within_a_page(self, world: World, recheck_s: float, told: list[str]) -> None:
        """Withdrawn after the first event of a page went out; the second row is the mutant that asks once."""
        world.tell("anna", "farm-a", "farm-a")
        world.grants = Vanishing()
        world.options = StreamOptions(poll_s=0.05, recheck_s=recheck_s)
        with open_door(world) as door, door.connected("&last_seq=0") as socket:
            got = [message["type"] for message in hear_until(socket, "live")]

        assert got == told


class Vanishing(Grants):
    """Access that ends once it has been asked for."""

    def __call__(self, user_id: str, farm_id: str) -> bool:
        allowed = super().__call__(user_id, farm_id)
        self.revoked.add((user_id, farm_id))
        return allowed


class TestTheDoor:
    @pytest.mark.parametrize(("origin", "admitted"), [(ORIGIN, True), (None, True), ("https://evil.example", False)])
    def test_only_pages_of_known_origins_get_in(self, door: Door, origin: Any, admitted: bool) -> None:
        ticket = door.ticket()
        if admitted:
            with door.connected("&last_seq=0", ticket=ticket, origin=origin) as socket:
                assert hear(socket)["type"] == "live"
            return
        with pytest.raises(InvalidStatus) as refused, door.connected(ticket=ticket, origin=origin):
            pass
        assert refused.value.response.status_code == 403
        assert refused.value.response.headers["content-type"] == "application/problem+json"
        with door.connected("&last_seq=0", ticket=ticket) as socket:  # a page cannot burn the ticket of another
            assert hear(socket)["type"] == "live"

    def test_a_ticket_lets_in_once(self, door: Door) -> None:
        ticket = door.ticket()
        with door.connected("&last_seq=0", ticket=ticket) as socket:
            hear(socket)

        assert refusal(door, ticket=ticket) == 401

    def test_an_expired_ticket_does_not(self, door: Door) -> None:
        ticket = door.ticket()
        door.world.clock.advance(61)

        assert refusal(door, ticket=ticket) == 401

    @pytest.mark.parametrize("ticket", ["", "guess", "anna-token"])
    def test_made_up_tickets_and_long_lived_tokens_do_not(self, door: Door, ticket: str) -> None:
        assert refusal(door, ticket=ticket) == 401

    @pytest.mark.parametrize("cursor", ["-1", "x", "1e3", "9" * 19, "", "%00"])
    def test_a_cursor_that_is_no_number_is_refused_and_costs_no_ticket(self, door: Door, cursor: str) -> None:
        ticket = door.ticket()

        assert refusal(door, f"&last_seq={cursor}", ticket=ticket) == 400
        with door.connected("&last_seq=0", ticket=ticket) as socket:
            assert hear(socket)["type"] == "live"


def refusal(door: Door, query: str = "", *, ticket: str) -> int:
    with pytest.raises(InvalidStatus) as refused, door.connected(query, ticket=ticket):
        pass
    body = json.loads(refused.value.response.body or b"{}")
    assert body["status"] == refused.value.response.status_code
    return refused.value.response.status_code


class TestWhatClientsSay:
    def test_an_alert_is_acknowledged(self, door: Door) -> None:
        with door.connected("&last_seq=0") as socket:
            hear(socket)
            socket.send(json.dumps({"type": "acknowledge_alert", "alert_id": "al_1", "note": "on my way"}))

            assert hear(socket) == {"type": "alert_acknowledged", "alert_id": "al_1", "state": "acknowledged"}
        assert door.world.alerts.notes == [("al_1", "anna", "on my way")]

    def test_not_one_of_a_farm_that_is_not_theirs(self, door: Door) -> None:
        door.world.grants.revoked.add(("anna", "farm-b"))
        with door.connected("&last_seq=0") as socket:
            hear(socket)
            for alert_id in ("al_2", "al_3"):
                socket.send(json.dumps({"type": "acknowledge_alert", "alert_id": alert_id}))
                answer = hear(socket)
                assert (answer["type"], answer["problem"]["status"]) == ("error", 404)
                assert "secret words" not in json.dumps(answer)
        assert door.world.alerts.alerts["al_2"].state is AlertState.NOTIFIED

    @pytest.mark.parametrize(
        ("said", "status"),
        [
            ("", 422),
            ("{", 422),
            ("[]", 422),
            ('{"type":"ack"}', 422),
            ('{"type":"ack","seq":true}', 422),
            ('{"type":"ack","seq":-1}', 422),
            ('{"type":"ack","seq":99999999999999999999999}', 422),
            ('{"type":"ack","seq":1,"user":"ben"}', 422),
            ('{"type":"shout"}', 422),
            ('{"type":"ack","seq":1}', 400),
            (b"\x00\xff", 422),
        ],
    )
    def test_what_makes_no_sense_is_answered_and_ends_nothing(self, door: Door, said: str | bytes, status: int) -> None:
        with door.connected("&last_seq=0") as socket:
            hear(socket)
            socket.send(said)
            assert hear(socket)["problem"]["status"] == status
            door.world.tell("anna", "farm-a")
            assert hear(socket)["seq"] == 1

    def test_a_message_that_is_too_large_ends_it(self, door: Door) -> None:
        with door.connected("&last_seq=0") as socket:
            hear(socket)
            socket.send("x" * 100_000)
            assert close_code(socket) == 1009
