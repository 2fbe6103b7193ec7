"""Putting messages into the outbox and the streams, inside the transaction of what they tell of.

Called by every store that causes messages: the alert and its messages, or the occurrence and its messages, are
committed together or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.domain.messages import SPEECH, STREAM, Audio, MessageState, NewMessage
from farm_intel.storage.message_tables import outbox, stream_events, streams

_SPOKEN = f"|{SPEECH}"
_LONGEST_KEY = 240
"""Characters; the columns hold 255."""
_INSERTS = {
    "postgresql": postgresql.insert(outbox).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(outbox).on_conflict_do_nothing(),
}
_NEW_STREAMS = {
    "postgresql": postgresql.insert(streams).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(streams).on_conflict_do_nothing(),
}
"""Made once: to make one takes ten times as long as to run it."""


def enqueue(connection: Connection, messages: Sequence[NewMessage], *, now: datetime) -> int:
    """Enqueue messages and return how many are new; those enqueued before, by their idempotency key, are left alone.

    A message to the stream is an event at once, in the order of the calls; if it is to be spoken, a row of the `speech`
    channel tells the stream again when the audio is there. One that has to wait for the end of quiet hours becomes
    an event only then.
    """
    new = 0
    # users in one order, so that two transactions never wait for each other's counters
    for message in sorted(messages, key=lambda message: message.user_id):
        if message.channel == STREAM and message.not_before <= now:
            new += append_message(connection, message, now=now)
        else:
            new += _insert(connection, message, channel=message.channel, now=now)
    return new


def append_message(connection: Connection, message: NewMessage, *, now: datetime) -> bool:
    """Append a message to its user's stream, and ask for its audio where it is to be spoken.

    Returns:
        False where the stream has it already.

    """
    added = append_event(
        connection,
        message.user_id,
        event_id=bounded(message.idempotency_key),
        kind="message",
        farm_id=message.farm_id,
        payload=_payload(message),
        now=now,
    )
    if added is None:
        return False
    if message.speak:
        _insert(connection, message, channel=SPEECH, now=now)
    return True


def append_audio(connection: Connection, message: NewMessage, audio: Audio, *, now: datetime) -> int | None:
    """Tell the stream that the audio of one of its messages is there; `message` is the row of the `speech` channel."""
    return append_event(
        connection,
        message.user_id,
        event_id=message.idempotency_key,
        kind="audio",
        farm_id=message.farm_id,
        payload={
            "message_event_id": message.idempotency_key.removesuffix(_SPOKEN),
            "sha256": audio.sha256,
            "engine": audio.engine,
            "duration_s": audio.duration_s,
            "mime_type": audio.mime_type,
            "url": f"/v1/audio/{audio.sha256}",
        },
        now=now,
    )


def append_event(
    connection: Connection,
    user_id: str,
    *,
    event_id: str,
    kind: str,
    farm_id: str,
    payload: Mapping[str, object],
    now: datetime,
) -> int | None:
    """Append one event to a user's stream and return its number; None where the stream has an event of that id.

    The counter is moved first: its row is locked until the transaction ends, so numbers become visible in order.
    """
    _make_stream(connection, user_id, now)
    counter = update(streams).where(streams.c.user_id == user_id)
    seq = connection.scalar(
        counter.values(last_seq=streams.c.last_seq + 1, updated_at=now).returning(streams.c.last_seq)
    )
    known = select(stream_events.c.seq).where(stream_events.c.user_id == user_id, stream_events.c.event_id == event_id)
    if seq is None or connection.scalar(known) is not None:
        connection.execute(counter.values(last_seq=streams.c.last_seq - 1))
        return None
    connection.execute(
        insert(stream_events),
        {
            "user_id": user_id,
            "seq": seq,
            "event_id": event_id,
            "kind": kind,
            "farm_id": farm_id,
            "payload": json.dumps(payload),
            "created_at": now,
        },
    )
    return int(seq)


def bounded(idempotency_key: str) -> str:
    """Return a key that fits its column, with room for the suffix of a spoken message; long ones end in their hash."""
    if len(idempotency_key) <= _LONGEST_KEY:
        return idempotency_key
    digest = hashlib.sha256(idempotency_key.encode()).hexdigest()
    return f"{idempotency_key[: _LONGEST_KEY - len(digest) - 1]}#{digest}"


def message_id(idempotency_key: str) -> str:
    """Return the id of a message: the same key gives the same id."""
    return "msg_" + hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]


def _payload(message: NewMessage) -> dict[str, object]:
    return {
        "title": message.text.title,
        "short": message.text.short,
        "long": message.text.long,
        "language": message.text.language,
        **message.data,
    }


def _make_stream(connection: Connection, user_id: str, now: datetime) -> None:
    values = {"user_id": user_id, "last_seq": 0, "oldest_seq": 1, "acked_seq": 0, "updated_at": now}
    connection.execute(_NEW_STREAMS[connection.dialect.name], values)


def _insert(connection: Connection, message: NewMessage, *, channel: str, now: datetime) -> int:
    key = bounded(message.idempotency_key) + ("" if channel == message.channel else _SPOKEN)
    values = {
        "message_id": message_id(key),
        "idempotency_key": key,
        "subject": message.subject,
        "farm_id": message.farm_id,
        "user_id": message.user_id,
        "channel": channel,
        "address": message.address,
        "secret": message.secret,
        "severity": int(message.severity),
        "language": message.text.language,
        "title": message.text.title,
        "short": message.text.short,
        "long": message.text.long,
        "spoken": message.text.spoken,
        "data": json.dumps(message.data),
        "speak": message.speak,
        "state": MessageState.PENDING.value,
        "attempt": 0,
        "next_at": message.not_before,
        "token": 0,  # nosec B105 - a fencing token
        "error": "",
        "receipt": "",
        "audio_sha256": "",
        "created_at": now,
    }
    return connection.execute(_INSERTS[connection.dialect.name], values).rowcount
