"""Streams of events and the tickets to read them with, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, delete, func, select, text

from farm_intel.domain.errors import BadRequestError
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.enqueueing import append_event
from farm_intel.storage.message_tables import stream_events, stream_tickets
from farm_intel.storage.streams import SqlStreamStore
from farm_intel_tests.support.clock import FakeClock

TTL = timedelta(seconds=60)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def streams(engine: Engine, clock: FakeClock) -> SqlStreamStore:
    return SqlStreamStore(engine, clock)


def append(engine: Engine, clock: FakeClock, user: str, *ids: str, payload: dict[str, object] | None = None) -> None:
    with transaction(engine) as connection:
        for event_id in ids:
            _append(connection, clock, user, event_id, payload or {})


def _append(
    connection: Connection, clock: FakeClock, user: str, event_id: str, payload: dict[str, object], farm: str = "f"
) -> int | None:
    return append_event(
        connection, user, event_id=event_id, kind="message", farm_id=farm, payload=payload, now=clock.now()
    )


class AbandonedError(Exception):
    """A writer changes its mind before the commit."""


def _abandon(engine: Engine, clock: FakeClock) -> None:
    with transaction(engine) as connection:
        _append(connection, clock, "anna", "lost", {})
        raise AbandonedError


def ids(store: SqlStreamStore, user: str, after: int, limit: int = 100) -> list[tuple[int, str]]:
    return [(event.seq, event.event_id) for event in store.events_after(user, after, limit).events]


class TestPages:
    def test_pages_join_without_gap_and_users_do_not_meet(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        append(engine, clock, "anna", "a1", "a2", "a3")
        append(engine, clock, "ben", "b1")

        first = streams.events_after("anna", 0, 2)

        assert [event.seq for event in first.events] == [1, 2]
        assert (first.last_seq, first.oldest_seq) == (3, 1)
        assert ids(streams, "anna", 2, 2) == [(3, "a3")]
        assert ids(streams, "anna", 3) == []
        assert streams.heads(["anna", "ben", "nobody"]) == {"anna": 3, "ben": 1}

    def test_a_rolled_back_or_known_event_leaves_no_gap(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        append(engine, clock, "anna", "a1")
        with pytest.raises(AbandonedError):
            _abandon(engine, clock)
        append(engine, clock, "anna", "a1", "a2")

        assert ids(streams, "anna", 0) == [(1, "a1"), (2, "a2")]
        assert streams.events_after("anna", 0, 1).last_seq == 2

    def test_who_has_no_stream_is_caught_up_at_nought(self, streams: SqlStreamStore) -> None:
        page = streams.events_after("nobody", 0, 10)

        assert (page.events, page.last_seq, page.oldest_seq) == ((), 0, 1)
        assert not page.cannot_resume(0)
        assert page.cannot_resume(1)
        assert streams.start("nobody") == 0


class TestAcknowledging:
    def test_it_is_cumulative_and_never_goes_back(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        append(engine, clock, "anna", "a1", "a2", "a3")

        assert [streams.acknowledge("anna", seq) for seq in (2, 1, 3)] == [2, 2, 3]
        assert streams.start("anna") == 3

    def test_what_was_never_there_cannot_be_acknowledged(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        append(engine, clock, "anna", "a1")

        with pytest.raises(BadRequestError, match="the newest is 1"):
            streams.acknowledge("anna", 2)
        with pytest.raises(BadRequestError, match="the newest is 0"):
            streams.acknowledge("nobody", 1)
        assert streams.start("anna") == 0


class TestPruning:
    def test_old_events_go_and_the_stream_says_from_where_it_can_be_read(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        append(engine, clock, "anna", "a1", "a2")
        append(engine, clock, "ben", "b1")
        clock.advance(100)
        append(engine, clock, "anna", "a3")

        assert streams.prune(clock.now() - timedelta(seconds=50)) == 3

        page = streams.events_after("anna", 2, 10)
        assert ([event.seq for event in page.events], page.last_seq, page.oldest_seq) == ([3], 3, 3)
        assert [page.cannot_resume(seq) for seq in (0, 1, 2, 3)] == [True, True, False, False]
        assert page.cannot_resume(4)
        empty = streams.events_after("ben", 1, 10)
        assert (empty.events, empty.last_seq, empty.oldest_seq) == ((), 1, 2)
        assert not empty.cannot_resume(1)
        assert empty.cannot_resume(0)
        assert streams.start("anna") == 2

    def test_numbers_go_on_after_everything_has_gone(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        append(engine, clock, "anna", "a1")
        clock.advance(100)
        streams.prune(clock.now())
        append(engine, clock, "anna", "a2")

        assert ids(streams, "anna", 1) == [(2, "a2")]

    def test_only_the_old_end_goes(self, engine: Engine, clock: FakeClock, streams: SqlStreamStore) -> None:
        """Writers take their time before they wait for the counter, so times need not rise with the numbers."""
        clock.advance(100)
        append(engine, clock, "anna", "young")
        late = FakeClock()
        append(engine, late, "anna", "old but later")

        assert streams.prune(late.now() + timedelta(seconds=50)) == 0
        assert len(ids(streams, "anna", 0)) == 2

    def test_no_reader_ever_sees_a_gap_while_pruning(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        assert list(_gaps_while_pruning(engine, clock, streams)) == []

    def test_ends_and_events_from_two_statements_do_show_a_gap(self, engine: Engine, clock: FakeClock) -> None:
        """Mutation partner: without the one snapshot a reader is silently sent past what was pruned."""
        append(engine, clock, "anna", "a1", "a2")
        clock.advance(100)
        append(engine, clock, "anna", "a3")
        real = SqlStreamStore(engine, clock)
        ends = real.events_after("anna", 0, 0 + 1)
        real.prune(clock.now() - timedelta(seconds=50))
        events = real.events_after("anna", 0, 10).events

        assert not ends.cannot_resume(0)
        assert events[0].seq == 3


def _gaps_while_pruning(engine: Engine, clock: FakeClock, store: SqlStreamStore) -> Iterator[str]:
    done = threading.Event()

    def write() -> None:
        for number in range(150):
            append(engine, clock, "anna", f"a{number}")
            clock.advance(1)
            if number % 5 == 0:
                store.prune(clock.now() - timedelta(seconds=3))
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        cursor = 0
        while not done.is_set():
            page = store.events_after("anna", cursor, 3)
            if page.cannot_resume(cursor):
                cursor = page.last_seq
                continue
            expected = list(range(cursor + 1, cursor + 1 + len(page.events)))
            got = [event.seq for event in page.events]
            if expected != got:
                yield f"after {cursor}: {got}"
            cursor = got[-1] if got else cursor
        writing.result()


class TestTickets:
    def test_a_ticket_lets_in_once(self, streams: SqlStreamStore) -> None:
        ticket = streams.issue("anna", TTL)

        assert streams.redeem(ticket) == "anna"
        assert streams.redeem(ticket) is None
        assert streams.check(ticket) is None

    def test_of_many_at_once_exactly_one_gets_in(self, streams: SqlStreamStore) -> None:
        ticket = streams.issue("anna", TTL)
        start = threading.Barrier(8)

        def redeem(_: int) -> str | None:
            start.wait()
            return streams.redeem(ticket)

        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(redeem, range(8)))

        assert got.count("anna") == 1
        assert got.count(None) == 7

    def test_looking_before_using_lets_several_in(self, engine: Engine, clock: FakeClock) -> None:
        """Mutation partner: with a look and a use instead of one conditional update both callers get in."""
        both = threading.Barrier(2)

        class LooksFirst(SqlStreamStore):
            def redeem(self, ticket: str) -> str | None:
                user_id = self.check(ticket)
                both.wait()
                super().redeem(ticket)
                return user_id

        store = LooksFirst(engine, clock)
        ticket = store.issue("anna", TTL)
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(store.redeem, [ticket, ticket])) == ["anna", "anna"]

    def test_it_expires(self, clock: FakeClock, streams: SqlStreamStore) -> None:
        ticket = streams.issue("anna", TTL)
        clock.advance(59)
        assert streams.check(ticket) == "anna"
        clock.advance(1)

        assert streams.check(ticket) is None
        assert streams.redeem(ticket) is None

    def test_it_can_be_checked_as_often_as_a_browser_reconnects(self, streams: SqlStreamStore) -> None:
        ticket = streams.issue("anna", TTL)

        assert [streams.check(ticket) for _ in range(3)] == ["anna"] * 3

    @pytest.mark.parametrize("ticket", ["", "x", "'; DROP TABLE stream_tickets; --", "\x00", "🌾"])
    def test_made_up_ones_are_refused(self, streams: SqlStreamStore, ticket: str) -> None:
        streams.issue("anna", TTL)

        assert streams.redeem(ticket) is None
        assert streams.check(ticket) is None

    def test_the_store_does_not_hold_the_ticket(self, engine: Engine, streams: SqlStreamStore) -> None:
        ticket = streams.issue("anna", TTL)

        with reading(engine) as connection:
            rows = connection.execute(text("SELECT * FROM stream_tickets")).all()

        assert len(rows) == 1
        assert ticket not in str(rows)

    def test_expired_ones_are_removed(self, engine: Engine, clock: FakeClock, streams: SqlStreamStore) -> None:
        streams.issue("anna", TTL)
        clock.advance(3600)
        streams.issue("anna", TTL)

        streams.prune(clock.now())

        with reading(engine) as connection:
            assert connection.scalar(select(func.count()).select_from(stream_tickets)) == 1


class TestFarmsToldOf:
    def test_only_whole_strings_of_the_users_own_events_count(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        digest = "ab" * 32
        with transaction(engine) as connection:
            _append(connection, clock, "anna", "a1", {"audio": {"sha256": digest}}, farm="farm-a")
            _append(connection, clock, "ben", "b1", {"note": f"see {digest}"}, farm="farm-b")

        assert {"farm-a"} == streams.farms_told_of("anna", digest)
        assert set() == streams.farms_told_of("ben", digest)
        assert set() == streams.farms_told_of("anna", "%" * 64)
        assert set() == streams.farms_told_of("anna", digest[:32])

    def test_what_retention_removed_is_told_no_more(
        self, engine: Engine, clock: FakeClock, streams: SqlStreamStore
    ) -> None:
        append(engine, clock, "anna", "a1", payload={"sha256": "x"})
        with transaction(engine) as connection:
            connection.execute(delete(stream_events))

        assert set() == streams.farms_told_of("anna", "x")
