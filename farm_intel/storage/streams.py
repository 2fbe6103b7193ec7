"""Reading the streams that `enqueueing.append_event` writes, and the tickets to read them with."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, insert, literal, select, true, update

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.ports import Clock
from farm_intel.domain.streams import StreamEvent, StreamPage
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.message_tables import stream_events, stream_tickets, streams

USERS_PER_QUERY = 500
"""Below the 999 parameters that old builds of SQLite accept."""

TICKET_BYTES = 32
"""256 bits: guessing is hopeless, so a plain SHA-256 is enough of a hash."""


class SqlStreamStore:
    """Streams in the relational store; implements `notifying.stream_ports.StreamStore` and `TicketStore`."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Keep the database and the clock that tickets expire by."""
        self._engine = engine
        self._clock = clock

    def events_after(self, user_id: str, seq: int, limit: int) -> StreamPage:
        """Return up to `limit` events that follow `seq`, in order, with both ends of the stream.

        One statement, so one snapshot also where every statement has its own: ends that were read before a prune and
        events that were read after it would hide a gap.
        """
        following = (
            select(stream_events)
            .where(stream_events.c.user_id == user_id, stream_events.c.seq > seq)
            .order_by(stream_events.c.seq)
            .limit(limit)
            .subquery()
        )
        query = (
            select(streams.c.last_seq, streams.c.oldest_seq, following)
            .select_from(streams.outerjoin(following, true()))
            .where(streams.c.user_id == user_id)
            .order_by(following.c.seq)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        if not rows:
            return StreamPage(events=(), last_seq=0, oldest_seq=1)
        return StreamPage(
            events=tuple(_event(row) for row in rows if row.seq is not None),
            last_seq=rows[0].last_seq,
            oldest_seq=rows[0].oldest_seq,
        )

    def heads(self, user_ids: Sequence[str]) -> dict[str, int]:
        """Return the newest number of each of these users' streams; users without a stream are left out."""
        heads: dict[str, int] = {}
        with reading(self._engine) as connection:
            for users in batched(user_ids, USERS_PER_QUERY):
                query = select(streams.c.user_id, streams.c.last_seq).where(streams.c.user_id.in_(users))
                heads.update({row.user_id: row.last_seq for row in connection.execute(query)})
        return heads

    def start(self, user_id: str) -> int:
        """Return where a reader without a cursor begins: after the last acknowledged event that is still there."""
        query = select(streams.c.acked_seq, streams.c.oldest_seq).where(streams.c.user_id == user_id)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return 0 if row is None else max(row.acked_seq, row.oldest_seq - 1)

    def acknowledge(self, user_id: str, seq: int) -> int:
        """Record that the user has everything up to `seq` and return what is acknowledged now; never goes back.

        Raises:
            BadRequestError: the stream has not come that far.

        """
        now = self._clock.now()
        forward = update(streams).where(
            streams.c.user_id == user_id, streams.c.acked_seq < seq, streams.c.last_seq >= seq
        )
        with transaction(self._engine) as connection:
            connection.execute(forward.values(acked_seq=seq, updated_at=now))
            row = connection.execute(
                select(streams.c.acked_seq, streams.c.last_seq).where(streams.c.user_id == user_id)
            ).one_or_none()
        acked, last = (0, 0) if row is None else (row.acked_seq, row.last_seq)
        if seq > last:
            raise BadRequestError(
                f"event {seq} of the stream of user {user_id} cannot be acknowledged: the newest is {last}",
                hint="Acknowledge the number of an event that was received.",
            )
        return int(acked)

    def prune(self, older_than: datetime) -> int:
        """Remove events from before `older_than`, and tickets that expired before it; return how many events went.

        Only from the old end: an event that is older than its predecessor stays until the predecessor goes. Each
        stream's `oldest_seq` moves in the transaction that removes, with the counter's row locked against appends.
        """
        old = select(stream_events.c.user_id).distinct().where(stream_events.c.created_at < older_than)
        with reading(self._engine) as connection:
            users = sorted(connection.scalars(old))
        removed = 0
        for user_id in users:
            with transaction(self._engine) as connection:
                removed += _prune_stream(connection, user_id, older_than)
        with transaction(self._engine) as connection:
            connection.execute(delete(stream_tickets).where(stream_tickets.c.expires_at < older_than))
        return removed

    def farms_told_of(self, user_id: str, text: str) -> frozenset[str]:
        """Return the farms of this user's events that hold `text` as a whole string anywhere in their payload."""
        held = stream_events.c.payload.contains(json.dumps(text), autoescape=True)
        query = select(stream_events.c.farm_id).distinct().where(stream_events.c.user_id == user_id, held)
        with reading(self._engine) as connection:
            return frozenset(connection.scalars(query))

    def issue(self, user_id: str, ttl: timedelta) -> str:
        """Return a new ticket; only its hash is stored, so a copy of the database lets nobody in."""
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        row = {"ticket_hash": _hash(ticket), "user_id": user_id, "expires_at": self._clock.now() + ttl}
        with transaction(self._engine) as connection:
            connection.execute(insert(stream_tickets).values(row))
        return ticket

    def redeem(self, ticket: str) -> str | None:
        """Use a ticket up and return whose it was; None where it is unknown, used or expired.

        One conditional update: of any number of callers at once exactly one gets the user.
        """
        now = self._clock.now()
        use = (
            update(stream_tickets)
            .where(
                stream_tickets.c.ticket_hash == _hash(ticket),
                stream_tickets.c.used_at.is_(None),
                stream_tickets.c.expires_at > now,
            )
            .values(used_at=now)
            .returning(stream_tickets.c.user_id)
        )
        with transaction(self._engine) as connection:
            user_id = connection.scalar(use)
        return None if user_id is None else str(user_id)

    def check(self, ticket: str) -> str | None:
        """Return whose ticket it is without using it up; None where it is unknown, used or expired.

        For server-sent events: a browser's EventSource reconnects by itself to the address it was given, so a one-use
        ticket would end the stream at the first lost connection. What is given up is bounded by the time to live.
        """
        query = select(stream_tickets.c.user_id).where(
            stream_tickets.c.ticket_hash == _hash(ticket),
            stream_tickets.c.used_at.is_(None),
            stream_tickets.c.expires_at > self._clock.now(),
        )
        with reading(self._engine) as connection:
            return connection.scalar(query)


def _prune_stream(connection: Connection, user_id: str, older_than: datetime) -> int:
    stream = streams.c.user_id == user_id
    last = connection.scalar(select(streams.c.last_seq).where(stream).with_for_update())
    mine = stream_events.c.user_id == user_id
    young = select(func.min(stream_events.c.seq)).where(mine, stream_events.c.created_at >= older_than)
    keep = connection.scalar(select(func.coalesce(young.scalar_subquery(), literal(last) + 1)))
    gone = connection.execute(delete(stream_events).where(mine, stream_events.c.seq < keep)).rowcount
    if gone:
        connection.execute(update(streams).where(stream).values(oldest_seq=keep))
    return gone


def _event(row: Row[Any]) -> StreamEvent:
    return StreamEvent(
        seq=row.seq,
        event_id=row.event_id,
        kind=row.kind,
        farm_id=row.farm_id,
        payload=json.loads(row.payload),
        created_at=row.created_at,
    )


def _hash(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
