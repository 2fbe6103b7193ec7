"""Test messages to one subscription."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from farm_intel.domain.alerts import Subscription
from farm_intel.domain.errors import NotConfiguredError, PermanentError
from farm_intel.domain.messages import Message
from farm_intel.notifying.texts import TemplateRenderer
from farm_intel.notifying.trying import TryingOut
from farm_intel.storage.outbox import SqlOutbox
from farm_intel_tests.notifying.fakes import ADDRESS, SECRET, FakeChannel, FakeVoice, MovingClock


def subscription(channel: str = "email", language: str = "fr") -> Subscription:
    return Subscription(
        subscription_id="s1",
        user_id="kwame",
        channel=channel,
        address=ADDRESS,
        secret=SECRET,
        language=language,
        quiet_from="00:00",
        quiet_until="23:59",
    )


def trying(engine: Engine, *channels: FakeChannel) -> TryingOut:
    return TryingOut(SqlOutbox(engine), channels, FakeVoice(), renderer=TemplateRenderer(), clock=MovingClock())


def test_a_test_message_goes_at_once_in_the_subscribers_language(sqlite_engine: Engine) -> None:
    channel = FakeChannel(attaches_audio=True)

    receipt = trying(sqlite_engine, channel).send(subscription(), farm_id="kijani")

    assert receipt.startswith("ok msg_test")
    assert channel.asked[0].new.text.short == "kijani: message d'essai du 1er mai. Les alertes vous parviendront ici."
    assert channel.audio == [b"RIFF"]


def test_a_failure_is_told_without_address_and_secret(sqlite_engine: Engine) -> None:
    def refuse(message: Message) -> str:
        raise PermanentError(f"550 {message.new.address} {message.new.secret}", hint=f"ask {message.new.address}")

    with pytest.raises(PermanentError, match="550") as caught:
        trying(sqlite_engine, FakeChannel(answer=refuse)).send(subscription(), farm_id="kijani")

    assert ADDRESS not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_stream_gets_an_event(sqlite_engine: Engine) -> None:
    one = trying(sqlite_engine)

    assert one.send(subscription("stream"), farm_id="kijani") == "stream"
    assert [message.new.channel for message in SqlOutbox(sqlite_engine).list()] == ["speech"]


def test_a_channel_that_is_not_there_is_told(sqlite_engine: Engine) -> None:
    with pytest.raises(NotConfiguredError, match="'pigeon' of subscription s1") as caught:
        trying(sqlite_engine, FakeChannel()).send(subscription("pigeon"), farm_id="kijani")

    assert "email" in str(caught.value)
