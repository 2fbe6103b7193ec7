"""Delivery with a clock that tests move, over the real outbox on SQLite and fakes of the channels."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import Engine

from farm_intel.domain.errors import BadRequestError, PermanentError, ThrottledError, TransientError
from farm_intel.domain.messages import Message, MessageState, NewMessage
from farm_intel.notifying.backoff import STANDARD_WAITS, BackOff
from farm_intel.notifying.delivering import Delivering, DeliveryLimits, DeliveryReport
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.memory import MemoryBreakers
from farm_intel.storage.outbox import SqlOutbox
from farm_intel_tests.notifying.fakes import ADDRESS, NOW, SECRET, FakeChannel, FakeVoice, MovingClock, new_message

NO_JITTER = BackOff(jitter=0.0)
NEVER_OPENS = BreakerRule(failures=10_000, rate=1.1)


class World:
    """One outbox, its deliverer, and a clock."""

    def __init__(
        self,
        engine: Engine,
        *channels: FakeChannel,
        voice: FakeVoice | None = None,
        rule: BreakerRule = NEVER_OPENS,
        backoff: BackOff = NO_JITTER,
        limits: DeliveryLimits | None = None,
    ) -> None:
        self.clock = MovingClock()
        self.outbox = SqlOutbox(engine)
        self.delivering = Delivering(
            self.outbox,
            channels,
            voice,
            breaker=CircuitBreaker(MemoryBreakers(), self.clock, rule, jitter=lambda: 0.5),
            clock=self.clock,
            backoff=backoff,
            limits=limits,
        )

    def enqueue(self, *messages: NewMessage) -> None:
        self.outbox.enqueue(messages, now=self.clock.now())

    def run(self) -> DeliveryReport:
        return self.delivering.run()

    def message(self) -> Message:
        (message,) = self.outbox.list()
        return message


def raises(error: Exception) -> Callable[[Message], str]:
    def answer(_: Message) -> str:
        raise error

    return answer


def test_a_message_is_sent_once_and_its_receipt_kept(sqlite_engine: Engine) -> None:
    channel = FakeChannel()
    world = World(sqlite_engine, channel)
    world.enqueue(new_message())

    assert world.run() == DeliveryReport(claimed=1, sent=1)
    assert world.run() == DeliveryReport()
    assert len(channel.asked) == 1
    assert world.message().receipt == f"ok {channel.asked[0].message_id}"


def test_a_failing_message_is_tried_on_the_schedule_of_standard_webhooks_and_then_given_up(
    sqlite_engine: Engine,
) -> None:
    """Ten attempts; the instants are those of the specification, to the second."""
    tried: list[timedelta] = []
    world = World(sqlite_engine, channel := FakeChannel(answer=raises(TransientError("451 busy"))))
    world.enqueue(new_message())

    while (message := world.message()).state is MessageState.PENDING:
        world.clock.instant = max(message.next_at, NOW)
        world.run()
        tried.append(world.clock.instant - NOW)

    assert [after - before for before, after in pairwise(tried)] == list(STANDARD_WAITS[1:])
    assert len(channel.asked) == 10
    assert sum(STANDARD_WAITS, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)
    assert len({message.message_id for message in channel.asked}) == 1
    assert message.state is MessageState.DEAD
    assert message.error == "451 busy (attempt 10, the last)"


def test_jitter_only_ever_adds_and_at_most_a_fifth() -> None:
    for draw in (0.0, 0.37, 1.0):
        policy = BackOff(draw=lambda draw=draw: draw)
        waits = [policy.wait(attempt) for attempt in range(1, 10)]
        assert waits == [standard * (1 + 0.2 * draw) for standard in STANDARD_WAITS[1:]]


@pytest.mark.parametrize(("asked_s", "waited_s"), [(3600.0, 3600.0), (1.0, 5.0), (None, 5.0), (10.0**9, 86400.0)])
def test_retry_after_is_honoured_within_reason(sqlite_engine: Engine, asked_s: float | None, waited_s: float) -> None:
    world = World(sqlite_engine, FakeChannel(answer=raises(ThrottledError("429", retry_after_s=asked_s))))
    world.enqueue(new_message())

    assert world.run() == DeliveryReport(claimed=1, retrying=1)
    assert world.message().next_at == NOW + timedelta(seconds=waited_s)


def test_a_pause_a_host_asks_for_holds_for_all_that_waits_for_it(sqlite_engine: Engine) -> None:
    channel = FakeChannel(answer=raises(ThrottledError("429", retry_after_s=600.0)))
    world = World(sqlite_engine, channel, limits=DeliveryLimits(per_host=1))
    world.enqueue(*(new_message(f"k{n}") for n in range(20)))

    assert world.run() == DeliveryReport(claimed=20, retrying=1, postponed=19)
    assert len(channel.asked) == 1
    assert {message.next_at for message in world.outbox.list()} == {NOW + timedelta(seconds=600)}


def test_a_permanent_failure_is_dead_at_once_and_alone(sqlite_engine: Engine) -> None:
    def answer(message: Message) -> str:
        if message.new.user_id == "bad":
            raise PermanentError("550 no such user")
        return "ok"

    world = World(sqlite_engine, FakeChannel(answer=answer))
    world.enqueue(new_message("k1", user_id="bad"), *(new_message(f"g{n}", user_id="good") for n in range(5)))

    assert world.run() == DeliveryReport(claimed=6, sent=5, dead=1)
    (dead,) = world.outbox.list(state=MessageState.DEAD)
    assert (dead.new.user_id, dead.error, dead.attempt) == ("bad", "550 no such user", 1)


class _NoPermanent(Delivering):
    """The deliverer that takes every failure for a passing one."""

    def _finish(self, future, run):  # type: ignore[no-untyped-def]  # a mutant
        error = future.exception()
        if isinstance(error, PermanentError):
            future._exception = TransientError(str(error))
        super()._finish(future, run)


def test_without_the_mapping_a_permanent_failure_would_be_tried_again(sqlite_engine: Engine) -> None:
    world = World(sqlite_engine)
    channel = FakeChannel(answer=raises(PermanentError("550 no such user")))
    breaker = CircuitBreaker(MemoryBreakers(), world.clock, NEVER_OPENS)
    world.delivering = _NoPermanent(world.outbox, [channel], None, breaker=breaker, clock=world.clock)
    world.enqueue(new_message())

    assert world.run() == DeliveryReport(claimed=1, retrying=1)


def test_an_unknown_channel_is_dead_with_advice(sqlite_engine: Engine) -> None:
    world = World(sqlite_engine, FakeChannel("email"))
    world.enqueue(new_message(channel="pigeon"))

    assert world.run() == DeliveryReport(claimed=1, dead=1)
    assert "'pigeon' is not configured here (there are: email)" in world.message().error
    assert "replay" in world.message().error


def test_a_fault_of_ours_is_tried_again_and_tells_nothing_but_its_kind(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(sqlite_engine, FakeChannel(answer=raises(KeyError(ADDRESS))))
    world.enqueue(new_message())

    with caplog.at_level(logging.DEBUG):
        assert world.run() == DeliveryReport(claimed=1, retrying=1)
    assert world.message().error == "KeyError"
    assert ADDRESS not in caplog.text


def test_a_dead_server_costs_one_probe_per_period_and_not_the_attempts_of_what_waits(sqlite_engine: Engine) -> None:
    """100 messages, two hours of outage, a pass every 10 s: without breaker some 400 calls, and attempts gone."""
    up = False

    def answer(_: Message) -> str:
        if not up:
            raise TransientError("connection refused")
        return "ok"

    channel = FakeChannel(answer=answer)
    rule = BreakerRule(failures=3, open_s=5.0, open_max_s=300.0)
    world = World(sqlite_engine, channel, rule=rule, limits=DeliveryLimits(per_host=1))
    world.enqueue(*(new_message(f"k{n}", user_id=f"u{n}") for n in range(100)))

    for _ in range(720):
        world.run()
        world.clock.move(seconds=10)
    during = len(channel.asked)
    used = max(message.attempt for message in world.outbox.list())
    up = True
    for _ in range(60):
        world.run()
        world.clock.move(minutes=3)

    periods = 3 + 6 + 2 * 3600 / 300
    assert during <= periods + 1
    assert used <= 5
    assert world.outbox.counts()[MessageState.SENT] == 100
    assert len(channel.asked) == during + 100


def test_a_dead_server_holds_up_no_other(sqlite_engine: Engine) -> None:
    dead = FakeChannel("email", raises(TransientError("timeout")))
    alive = FakeChannel("webhook", host=lambda message: message.new.user_id)
    world = World(sqlite_engine, dead, alive, rule=BreakerRule(failures=3))
    world.enqueue(*(new_message(f"d{n}") for n in range(200)))
    world.enqueue(*(new_message(f"a{n}", channel="webhook", user_id=f"u{n}") for n in range(10)))

    report = world.run()

    assert (report.sent, len(alive.asked)) == (10, 10)
    assert report.retrying + report.postponed == 200
    assert len(dead.asked) <= 4


def test_a_message_whose_server_never_was_up_is_given_up_after_a_week(sqlite_engine: Engine) -> None:
    channel = FakeChannel(answer=raises(TransientError("connection refused")))
    rule = BreakerRule(failures=1, open_s=86400.0, open_max_s=10 * 86400.0)
    world = World(sqlite_engine, channel, rule=rule, limits=DeliveryLimits(per_host=1))
    world.enqueue(new_message("k1"), new_message("k2"))
    for _ in range(20):
        world.run()
        world.clock.move(hours=24)

    errors = [message.error for message in world.outbox.list(state=MessageState.DEAD)]
    assert any(error.startswith("waited for 7 days") for error in errors)


def test_after_its_deadline_nothing_is_begun_and_nothing_lost(sqlite_engine: Engine) -> None:
    def answer(_: Message) -> str:
        world.clock.move(seconds=25)
        return "ok"

    world = World(sqlite_engine, FakeChannel(answer=answer), limits=DeliveryLimits(workers=1, per_host=1))
    world.enqueue(*(new_message(f"k{n}") for n in range(10)))

    report = world.delivering.run(deadline_s=60.0)

    assert report == DeliveryReport(claimed=10, sent=3, postponed=7)
    assert {message.attempt for message in world.outbox.list(state=MessageState.PENDING)} == {0}


def test_a_process_that_dies_with_a_message_again_and_again_does_not_try_for_ever(sqlite_engine: Engine) -> None:
    world = World(sqlite_engine, channel := FakeChannel())
    world.enqueue(new_message())
    for _ in range(10):
        assert len(world.outbox.claim(5, now=world.clock.now(), lease=timedelta(seconds=60))) == 1
        world.clock.move(seconds=61)

    assert world.run() == DeliveryReport(claimed=1, dead=1)
    assert channel.asked == []


def test_a_deliverer_that_was_away_too_long_reports_nothing(sqlite_engine: Engine) -> None:
    def answer(_: Message) -> str:
        world.clock.move(hours=1)
        (taken,) = world.outbox.claim(5, now=world.clock.now(), lease=timedelta(seconds=60))
        world.outbox.sent(taken, "by the successor", now=world.clock.now())
        return "late"

    world = World(sqlite_engine, FakeChannel(answer=answer))
    world.enqueue(new_message())

    assert world.run() == DeliveryReport(claimed=1, superseded=1)
    assert world.message().receipt == "by the successor"


def test_mail_carries_audio_if_the_voice_gives_it(sqlite_engine: Engine) -> None:
    channel = FakeChannel(attaches_audio=True)
    world = World(sqlite_engine, channel, voice=FakeVoice())
    world.enqueue(new_message(speak=True))

    assert world.run().sent == 1
    assert channel.audio == [b"RIFF"]


@pytest.mark.parametrize("fault", ["slow", "refuses", "absent", "large"])
def test_text_is_never_held_back_by_audio(sqlite_engine: Engine, fault: str) -> None:
    release = threading.Event()

    def before() -> None:
        if fault == "slow":
            release.wait(20.0)
        if fault == "refuses":
            raise BadRequestError("too long")

    channel = FakeChannel(attaches_audio=True, answer=lambda _: release.set() or "ok")  # type: ignore[func-returns-value]  # sets, then answers
    limits = DeliveryLimits(audio_wait_s=0.2, largest_audio_bytes=3 if fault == "large" else 100)
    world = World(sqlite_engine, channel, voice=None if fault == "absent" else FakeVoice(before), limits=limits)
    world.enqueue(new_message(speak=True))

    assert world.run().sent == 1
    assert channel.audio == [None]


def test_messages_that_wait_for_the_voice_at_once_hold_the_run_up_only_once(sqlite_engine: Engine) -> None:
    """12 sentences of 0.1 s take 1.2 s; counted once per waiting message they would take over 4 s."""
    channel = FakeChannel(attaches_audio=True)
    voice = FakeVoice(lambda: threading.Event().wait(0.1) and None)
    limits = DeliveryLimits(workers=4, per_host=4, audio_wait_s=2.2)
    world = World(sqlite_engine, channel, voice=voice, limits=limits)
    for number in range(12):
        world.enqueue(new_message(f"alert:{number}|opened|kwame", speak=True))

    assert world.run().sent == 12
    assert channel.audio == [b"RIFF"] * 12


def test_a_spoken_stream_message_gets_its_audio(sqlite_engine: Engine) -> None:
    world = World(sqlite_engine, voice=FakeVoice())
    world.enqueue(new_message(channel="stream", speak=True))

    assert world.run() == DeliveryReport(claimed=1, sent=1)
    (speech,) = world.outbox.list()
    assert (speech.new.channel, speech.state, speech.receipt) == ("speech", MessageState.SENT, "fake")


def test_a_stream_message_waits_for_the_end_of_quiet_hours_and_is_spoken_in_the_same_run(
    sqlite_engine: Engine,
) -> None:
    voice = FakeVoice()
    world = World(sqlite_engine, voice=voice)
    world.enqueue(new_message(channel="stream", speak=True, not_before=NOW + timedelta(hours=8)))
    assert world.run() == DeliveryReport()

    world.clock.move(hours=8)

    assert world.run() == DeliveryReport(claimed=2, sent=2)
    assert voice.said == [("Drought stress at Kijani.", "en")]


def test_speech_without_a_voice_is_dead_with_advice(sqlite_engine: Engine) -> None:
    world = World(sqlite_engine)
    world.enqueue(new_message(channel="stream", speak=True))

    assert world.run().dead == 1
    assert "'speech' is not configured" in world.message().error


def test_no_address_and_no_secret_in_errors_logs_and_reprs(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A careless channel quotes both; what is kept and logged holds neither."""
    world = World(
        sqlite_engine,
        FakeChannel("email", raises(TransientError(f"{ADDRESS} said 451 to {SECRET}"))),
        FakeChannel("webhook", raises(PermanentError(f"{ADDRESS} said 550 to {SECRET}"))),
        FakeChannel("apprise", raises(ThrottledError(f"{ADDRESS}", retry_after_s=9.0))),
        rule=BreakerRule(failures=1),
    )
    world.enqueue(*(new_message(f"{name}{n}", channel=name) for name in ("email", "webhook", "apprise") for n in "123"))

    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            world.run()
            world.clock.move(seconds=400)

    seen = caplog.text + "".join(f"{m.error} {m!r}" for m in world.outbox.list())
    assert ADDRESS not in seen
    assert SECRET not in seen
    assert "…" in seen
