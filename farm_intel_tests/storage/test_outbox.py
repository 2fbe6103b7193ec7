"""The outbox store on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from sqlalchemy import ColumnElement, Engine, select

from farm_intel.domain.activities import IllegalTransitionError
from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.messages import Audio, Message, MessageState
from farm_intel.storage.database import reading
from farm_intel.storage.message_tables import outbox as outbox_table
from farm_intel.storage.message_tables import stream_events
from farm_intel.storage.outbox import SqlOutbox
from farm_intel_tests.notifying.fakes import NOW, new_message

LEASE = timedelta(seconds=60)
LATER = NOW + timedelta(seconds=61)
AUDIO = Audio(sha256="a" * 64, path="a", mime_type="audio/wav", duration_s=2.0, engine="fake", size_bytes=9)


@pytest.fixture
def store(engine: Engine) -> SqlOutbox:
    return SqlOutbox(engine)


def one(store: SqlOutbox) -> Message:
    (message,) = store.claim(10, now=NOW, lease=LEASE)
    return message


def events(engine: Engine) -> list[tuple[int, str, dict[str, object]]]:
    query = select(stream_events.c.seq, stream_events.c.kind, stream_events.c.payload).order_by(stream_events.c.seq)
    with reading(engine) as connection:
        return [(row.seq, row.kind, json.loads(row.payload)) for row in connection.execute(query)]


def test_a_message_comes_back_as_it_was_enqueued(store: SqlOutbox) -> None:
    new = new_message()

    assert store.enqueue([new], now=NOW) == 1
    assert store.enqueue([new], now=NOW) == 0
    message = one(store)

    assert message.new == new
    assert (message.state, message.attempt, message.token) == (MessageState.SENDING, 1, 1)
    assert store.claim(10, now=NOW, lease=LEASE) == []


def test_nothing_is_claimed_before_its_time(store: SqlOutbox) -> None:
    store.enqueue([new_message(not_before=NOW + timedelta(hours=1))], now=NOW)

    assert store.claim(10, now=NOW, lease=LEASE) == []
    assert store.oldest_due(now=NOW) is None
    assert len(store.claim(10, now=NOW + timedelta(hours=1), lease=LEASE)) == 1


def test_a_stale_claim_is_taken_over_and_its_holder_says_nothing_any_more(store: SqlOutbox) -> None:
    store.enqueue([new_message()], now=NOW)
    first = one(store)
    (second,) = store.claim(10, now=LATER, lease=LEASE)

    assert second.message_id == first.message_id
    assert (second.token, second.attempt) == (2, 2)
    assert not store.sent(first, "late", now=LATER)
    assert not store.failed(first, "late", next_at=LATER)
    assert not store.postponed(first, "late", next_at=LATER)
    assert not store.dead(first, "late")
    assert store.sent(second, "250 ok", now=LATER, audio_sha256="b" * 64)
    assert not store.dead(second, "after the end")
    kept = store.get(first.message_id)
    assert (kept.state, kept.receipt, kept.sent_at, kept.new.secret) == (MessageState.SENT, "250 ok", LATER, "")


class _Tokenless(SqlOutbox):
    """The store with its fencing removed."""

    def _held(self, message: Message) -> ColumnElement[bool]:
        return outbox_table.c.message_id == message.message_id


def test_without_the_token_a_late_deliverer_would_overwrite_its_successor(engine: Engine) -> None:
    store = _Tokenless(engine)
    store.enqueue([new_message()], now=NOW)
    first = one(store)
    (second,) = store.claim(10, now=LATER, lease=LEASE)
    store.sent(second, "250 ok", now=LATER)

    assert store.failed(first, "late", next_at=LATER)
    assert store.get(first.message_id).state is MessageState.PENDING


def test_a_postponed_message_keeps_its_attempts(store: SqlOutbox) -> None:
    store.enqueue([new_message()], now=NOW)
    message = one(store)

    assert store.postponed(message, "down", next_at=LATER)
    waiting = store.get(message.message_id)
    assert (waiting.state, waiting.attempt, waiting.next_at) == (MessageState.PENDING, 0, LATER)
    assert store.failed(store.claim(1, now=LATER, lease=LEASE)[0], "451", next_at=LATER)
    assert store.get(message.message_id).attempt == 1


def test_thousands_for_one_channel_or_user_hold_up_nobody_else(store: SqlOutbox) -> None:
    flood = [new_message(f"flood|{n}", channel="email", user_id="loud") for n in range(60)]
    quiet = [
        new_message("q|mail", channel="email", user_id="quiet", severity=Severity.INFO),
        new_message("q|hook", channel="webhook", user_id="quiet", severity=Severity.INFO),
        new_message("q|chat", channel="apprise", user_id="quiet", severity=Severity.INFO),
    ]
    store.enqueue([*flood, *quiet], now=NOW)

    claimed = store.claim(6, now=NOW, lease=LEASE)

    assert len(claimed) == 6
    assert {message.new.idempotency_key for message in claimed} >= {"q|mail", "q|hook", "q|chat"}


def test_the_most_severe_goes_first(store: SqlOutbox) -> None:
    severities = (Severity.INFO, Severity.CRITICAL, Severity.WARNING)
    store.enqueue([new_message(f"k{one.name}", severity=one) for one in severities], now=NOW)

    assert [message.new.severity for message in store.claim(3, now=NOW, lease=LEASE)] == [3, 2, 1]


def test_deliverers_at_once_never_get_the_same_message(store: SqlOutbox) -> None:
    store.enqueue([new_message(f"k{n}") for n in range(120)], now=NOW)
    got: list[str] = []
    lock = threading.Lock()

    def take() -> None:
        for _ in range(40):
            batch = store.claim(7, now=NOW, lease=LEASE)
            with lock:
                got.extend(message.message_id for message in batch)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(got) == len(set(got)) == 120


def test_a_stream_message_after_quiet_hours_becomes_one_event_and_asks_for_its_audio(
    engine: Engine, store: SqlOutbox
) -> None:
    quiet = new_message("k|stream", channel="stream", not_before=LATER, speak=True)
    store.enqueue([quiet], now=NOW)
    assert events(engine) == []

    (message,) = store.claim(5, now=LATER, lease=LEASE)
    assert store.streamed(message, now=LATER)
    assert not store.streamed(message, now=LATER)
    (speech,) = store.claim(5, now=LATER, lease=LEASE)
    assert speech.new.channel == "speech"
    assert store.spoken(speech, AUDIO, now=LATER)
    assert not store.spoken(speech, AUDIO, now=LATER)

    (first, second) = events(engine)
    assert (first[0], first[1], first[2]["short"]) == (1, "message", quiet.text.short)
    assert (second[0], second[1]) == (2, "audio")
    assert second[2] == {
        "message_event_id": "k|stream",
        "sha256": "a" * 64,
        "engine": "fake",
        "duration_s": 2.0,
        "mime_type": "audio/wav",
        "url": f"/v1/audio/{'a' * 64}",
    }
    assert store.get(speech.message_id).state is MessageState.SENT


def test_keys_longer_than_their_column_stay_apart(engine: Engine, store: SqlOutbox) -> None:
    long = [new_message("x" * 300 + end, channel="stream", speak=True) for end in "ab"]

    assert store.enqueue(long, now=NOW) == 2
    assert store.enqueue(long, now=NOW) == 0
    assert len({message.new.idempotency_key for message in store.list(channel="speech")}) == 2


def test_a_dead_message_is_replayed_with_all_its_attempts_or_dropped(store: SqlOutbox) -> None:
    store.enqueue([new_message()], now=NOW)
    message = one(store)
    store.dead(message, "550 no such user")
    assert store.counts()[MessageState.DEAD] == 1

    replayed = store.replay(message.message_id, now=LATER)
    assert (replayed.state, replayed.attempt, replayed.error) == (MessageState.PENDING, 0, "550 no such user")
    with pytest.raises(IllegalTransitionError, match="is pending"):
        store.replay(message.message_id, now=LATER)

    dropped = store.drop(message.message_id, by="ama", note="has left")
    assert dropped.state is MessageState.DROPPED
    assert dropped.error == "dropped by ama: has left (last error: 550 no such user)"
    with pytest.raises(IllegalTransitionError, match="dropped"):
        store.drop(message.message_id, by="ama", note="again")
    with pytest.raises(UnknownNameError):
        store.drop("msg_none", by="ama", note="")


def test_what_is_due_is_counted_and_listed(store: SqlOutbox) -> None:
    store.enqueue([new_message("k1"), new_message("k2", channel="webhook")], now=NOW)

    assert store.oldest_due(now=LATER) == timedelta(seconds=61)
    assert store.counts() == {state: 2 if state is MessageState.PENDING else 0 for state in MessageState}
    assert [message.new.idempotency_key for message in store.list(channel="webhook")] == ["k2"]
    assert store.list(state=MessageState.DEAD) == []


def test_retention_removes_what_is_settled_and_keeps_the_dead(store: SqlOutbox) -> None:
    store.enqueue([new_message("sent"), new_message("dead"), new_message("dropped")], now=NOW)
    for message in store.claim(3, now=NOW, lease=LEASE):
        if message.new.idempotency_key == "sent":
            store.sent(message, "ok", now=NOW)
            continue
        store.dead(message, "x")
        if message.new.idempotency_key == "dropped":
            store.drop(message.message_id, by="ama", note="old")
    store.enqueue([new_message("waiting")], now=NOW)

    assert store.prune(before=NOW) == 0
    assert store.prune(before=NOW + timedelta(days=90)) == 2
    assert {message.new.idempotency_key for message in store.list()} == {"dead", "waiting"}
