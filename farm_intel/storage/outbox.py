"""The outbox: messages wait here until they are delivered, given up or dropped.

Written to by `enqueueing` in the transaction of what caused a message. A deliverer claims a batch and says of each
message what became of it; what it says counts only while it holds the latest token, so that one that was away too long
cannot overwrite what its successor did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, delete, func, or_, select, update

from farm_intel.domain.activities import IllegalTransitionError
from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.messages import Audio, Message, MessageState, NewMessage, RenderedText
from farm_intel.storage.database import reading, transaction
from farm_intel.storage.enqueueing import append_audio, append_message, enqueue
from farm_intel.storage.message_tables import outbox

_SPARE = 4
"""How many times the batch is looked at: another deliverer may hold the first ones."""


class SqlOutbox:
    """Implements `notifying.ports.Outbox` on SQLite and PostgreSQL; every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        """Keep messages in the database of `engine`."""
        self._engine = engine

    def enqueue(self, messages: Sequence[NewMessage], *, now: datetime) -> int:
        """Enqueue messages that nothing else is committed with; return how many are new."""
        with transaction(self._engine) as connection:
            return enqueue(connection, messages, now=now)

    # --- delivering -----------------------------------------------------------------------------------------------

    def claim(self, limit: int, *, now: datetime, lease: timedelta) -> list[Message]:
        """Take up to `limit` due messages and return them as `SENDING`, their attempt counted and their token new.

        Channels take turns, within a channel users do, and within a user the most severe comes first: whoever has
        thousands of messages for a server that is down holds up nobody else.
        """
        with transaction(self._engine) as connection:
            ids = self._candidates(connection, limit, now)
            if not ids:
                return []
            claimed = (
                update(outbox)
                .where(outbox.c.message_id.in_(ids))
                .values(
                    state=MessageState.SENDING.value,
                    token=outbox.c.token + 1,
                    attempt=outbox.c.attempt + 1,
                    lease_until=now + lease,
                )
                .returning(*outbox.c)
            )
            rank: dict[str, int] = {message_id: place for place, message_id in enumerate(ids)}
            rows = sorted(connection.execute(claimed), key=lambda row: rank[row.message_id])
            return [parse_message(row) for row in rows]

    def sent(self, message: Message, receipt: str, *, now: datetime, audio_sha256: str = "") -> bool:
        """Record that the channel took the message; False where the claim was lost meanwhile."""
        with transaction(self._engine) as connection:
            return self._sent(connection, message, receipt, now=now, audio_sha256=audio_sha256)

    def streamed(self, message: Message, *, now: datetime) -> bool:
        """Append a message that had to wait to its user's stream and record it as sent, both or neither."""
        with transaction(self._engine) as connection:
            if not self._sent(connection, message, "stream", now=now):
                return False
            append_message(connection, message.new, now=now)
            return True

    def spoken(self, message: Message, audio: Audio, *, now: datetime) -> bool:
        """Tell the stream that a message's audio is there and record it as sent, both or neither."""
        with transaction(self._engine) as connection:
            if not self._sent(connection, message, audio.engine, now=now, audio_sha256=audio.sha256):
                return False
            append_audio(connection, message.new, audio, now=now)
            return True

    def failed(self, message: Message, error: str, *, next_at: datetime) -> bool:
        """Let a message be tried again at `next_at`; False where the claim was lost meanwhile."""
        return self._settle(message, state=MessageState.PENDING, error=error, next_at=next_at)

    def postponed(self, message: Message, error: str, *, next_at: datetime) -> bool:
        """Let a message wait that nobody tried to deliver: its attempt does not count."""
        attempt = message.attempt - 1
        return self._settle(message, state=MessageState.PENDING, error=error, next_at=next_at, attempt=attempt)

    def dead(self, message: Message, error: str) -> bool:
        """Give a message up until somebody replays or drops it; False where the claim was lost meanwhile."""
        return self._settle(message, state=MessageState.DEAD, error=error)

    # --- looking and mending --------------------------------------------------------------------------------------

    def get(self, message_id: str) -> Message:
        """Return one message.

        Raises:
            UnknownNameError: there is none of that id.

        """
        with reading(self._engine) as connection:
            return self._get(connection, message_id)

    def list(
        self,
        *,
        state: MessageState | None = None,
        channel: str | None = None,
        farm_id: str | None = None,
        subject: str | None = None,
        limit: int = 100,
    ) -> list[Message]:
        """Return messages, the newest first."""
        wanted = {"state": state, "channel": channel, "farm_id": farm_id, "subject": subject}
        query = select(*outbox.c).order_by(outbox.c.created_at.desc(), outbox.c.message_id).limit(limit)
        for name, value in wanted.items():
            if value is not None:
                query = query.where(outbox.c[name] == str(value))
        with reading(self._engine) as connection:
            return [parse_message(row) for row in connection.execute(query)]

    def counts(self) -> Mapping[MessageState, int]:
        """Return how many messages are in each state; every state is there."""
        query = select(outbox.c.state, func.count().label("messages")).group_by(outbox.c.state)
        with reading(self._engine) as connection:
            found = {row.state: row.messages for row in connection.execute(query)}
        return {state: found.get(state.value, 0) for state in MessageState}

    def counts_by_channel(self) -> dict[str, dict[str, int]]:
        """Return channel -> state -> messages; states without any are missing."""
        query = select(outbox.c.channel, outbox.c.state, func.count().label("messages"))
        found: dict[str, dict[str, int]] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(query.group_by(outbox.c.channel, outbox.c.state)):
                found.setdefault(row.channel, {})[row.state] = row.messages
        return found

    def due(self, *, now: datetime) -> tuple[int, datetime | None]:
        """Return how many messages could be taken now, and since when (UTC) the longest waiting of them is due."""
        query = select(func.count().label("messages"), func.min(outbox.c.next_at).label("since")).where(_due(now))
        with reading(self._engine) as connection:
            row = connection.execute(query).one()
        return row.messages, row.since

    def oldest_due(self, *, now: datetime) -> timedelta | None:
        """Return for how long the message that waits longest has been due; None where none is."""
        query = select(func.min(outbox.c.next_at)).where(_due(now))
        with reading(self._engine) as connection:
            oldest = connection.scalar(query)
        return None if oldest is None else now - oldest

    def replay(self, message_id: str, *, now: datetime) -> Message:
        """Let a dead message start anew, with all its attempts, and return it.

        Raises:
            UnknownNameError: there is none of that id.
            IllegalTransitionError: it is not dead.

        """
        return self._mend(message_id, {MessageState.DEAD}, state=MessageState.PENDING, attempt=0, next_at=now)

    def drop(self, message_id: str, *, by: str, note: str) -> Message:
        """Give a message up for good and return it; who and why stand beside its last error.

        Raises:
            UnknownNameError: there is none of that id.
            IllegalTransitionError: it is sent, being sent, or dropped already.

        """
        last = self.get(message_id).error
        reason = f"dropped by {by}: {note}" + (f" (last error: {last})" if last else "")
        before = {MessageState.DEAD, MessageState.PENDING}
        return self._mend(message_id, before, state=MessageState.DROPPED, error=reason, secret="")  # nosec B106 - blanked

    def prune(self, *, before: datetime) -> int:
        """Remove messages that were sent, or dropped and created, before an instant; return how many.

        Dead ones stay: somebody has to look at them.
        """
        sent = and_(outbox.c.state == MessageState.SENT.value, outbox.c.sent_at < before)
        dropped = and_(outbox.c.state == MessageState.DROPPED.value, outbox.c.created_at < before)
        with transaction(self._engine) as connection:
            return connection.execute(delete(outbox).where(or_(sent, dropped))).rowcount

    # --- parts ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _candidates(connection: Connection, limit: int, now: datetime) -> Sequence[str]:
        urgency = (outbox.c.severity.desc(), outbox.c.next_at, outbox.c.message_id)
        turn = func.row_number().over(partition_by=(outbox.c.channel, outbox.c.user_id), order_by=urgency)
        users = select(
            *(outbox.c[name] for name in ("message_id", "channel", "severity", "next_at")), turn.label("turn")
        )
        one = users.where(_due(now)).subquery()
        order = (one.c.turn, one.c.severity.desc(), one.c.next_at, one.c.message_id)
        place = func.row_number().over(partition_by=one.c.channel, order_by=order).label("place")
        ranked = select(one.c.message_id, place).order_by(place, one.c.severity.desc(), one.c.message_id)
        ids: Sequence[str] = connection.scalars(ranked.limit(limit * _SPARE)).all()
        if connection.dialect.name == "postgresql":
            # the condition is looked at again under the lock: another deliverer may have been here since the ranking
            free = select(outbox.c.message_id).where(outbox.c.message_id.in_(ids), _due(now))
            locked = set(connection.scalars(free.with_for_update(skip_locked=True)))
            ids = [message_id for message_id in ids if message_id in locked]
        return ids[:limit]

    def _sent(
        self, connection: Connection, message: Message, receipt: str, *, now: datetime, audio_sha256: str = ""
    ) -> bool:
        # the secret has done its work; the record needs it no more
        values = {"receipt": receipt, "audio_sha256": audio_sha256, "sent_at": now, "error": "", "secret": ""}  # nosec B105
        return self._change(connection, message, state=MessageState.SENT.value, **values)

    def _settle(self, message: Message, *, state: MessageState, **values: object) -> bool:
        with transaction(self._engine) as connection:
            return self._change(connection, message, state=state.value, **values)

    def _change(self, connection: Connection, message: Message, **values: object) -> bool:
        changed = update(outbox).where(self._held(message)).values(lease_until=None, **values)
        return connection.execute(changed).rowcount == 1

    def _held(self, message: Message) -> ColumnElement[bool]:
        """Return the condition that the claim of `message` is still the latest."""
        return and_(
            outbox.c.message_id == message.message_id,
            outbox.c.token == message.token,
            outbox.c.state == MessageState.SENDING.value,
        )

    def _mend(self, message_id: str, before: set[MessageState], **values: object) -> Message:
        with transaction(self._engine) as connection:
            legal = and_(outbox.c.message_id == message_id, outbox.c.state.in_([state.value for state in before]))
            mended = update(outbox).where(legal).values(token=outbox.c.token + 1, lease_until=None, **values)
            changed = connection.execute(mended).rowcount
            message = self._get(connection, message_id)
            if not changed:
                raise IllegalTransitionError(
                    f"message {message_id} is {message.state.value}",
                    hint=f"This is possible for messages that are {' or '.join(sorted(before))}.",
                )
            return message

    @staticmethod
    def _get(connection: Connection, message_id: str) -> Message:
        row = connection.execute(select(*outbox.c).where(outbox.c.message_id == message_id)).one_or_none()
        if row is None:
            raise UnknownNameError(
                f"there is no message {message_id!r} in the outbox", hint="See `farm-intel outbox list`."
            )
        return parse_message(row)


def parse_message(row: Row[Any]) -> Message:
    """Return the message of a row with every column of the table."""
    text = RenderedText(language=row.language, title=row.title, short=row.short, long=row.long, spoken=row.spoken)
    new = NewMessage(
        idempotency_key=row.idempotency_key,
        subject=row.subject,
        farm_id=row.farm_id,
        user_id=row.user_id,
        channel=row.channel,
        address=row.address,
        secret=row.secret,
        severity=Severity(row.severity),
        text=text,
        data=json.loads(row.data),
        not_before=row.next_at,
        speak=row.speak,
    )
    return Message(
        message_id=row.message_id,
        new=new,
        state=MessageState(row.state),
        attempt=row.attempt,
        token=row.token,
        created_at=row.created_at,
        next_at=row.next_at,
        sent_at=row.sent_at,
        receipt=row.receipt,
        error=row.error,
    )


def _due(now: datetime) -> ColumnElement[bool]:
    """Return the condition that a message may be taken now: it waits, or whoever took it never came back."""
    waiting = and_(outbox.c.state == MessageState.PENDING.value, outbox.c.next_at <= now)
    stale = and_(outbox.c.state == MessageState.SENDING.value, outbox.c.lease_until <= now)
    return or_(waiting, stale)
