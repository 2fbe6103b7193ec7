"""Subscriptions are checked before they are stored, and never give address or secret away."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
from sqlalchemy import Engine

from farm_intel.alerts.subscribing import SubscribingOptions, Subscriptions
from farm_intel.domain.alerts import Severity, Subscription
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.storage.subscriptions import SqlSubscriptionStore
from farm_intel_tests.alerts.lives import MovedClock

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


def guard(address: str) -> None:
    """Stand in for the SSRF guard."""
    if not address.startswith("https://"):
        raise BadRequestError(f"only https is allowed, not {address}")


@pytest.fixture
def subscriptions(engine: Engine) -> Subscriptions:
    options = SubscribingOptions(
        languages=frozenset({"en", "sw", "fr"}), address_checks={"webhook": guard, "apprise": guard}
    )
    return Subscriptions(store=SqlSubscriptionStore(engine), clock=MovedClock(), options=options)


def draft(**changes: Any) -> Subscription:
    values: dict[str, Any] = {
        "subscription_id": "",
        "user_id": "ama",
        "channel": "email",
        "address": "ama@example.org",
    }
    return Subscription(**(values | changes))


def test_what_is_subscribed_is_found_for_its_farm(subscriptions: Subscriptions) -> None:
    one = subscriptions.subscribe(draft(farm_id="farm-a", language="sw", min_severity=Severity.CRITICAL))
    every = subscriptions.subscribe(draft(user_id="kofi", channel="stream", address=""))

    assert list(subscriptions.for_farm("farm-a")) == [one, every]
    assert list(subscriptions.for_farm("farm-b")) == [every]
    assert list(subscriptions.list(user_id="ama")) == [one]
    assert subscriptions.get(one.subscription_id) == one


def test_subscribing_again_replaces_and_unsubscribing_stops(subscriptions: Subscriptions) -> None:
    first = subscriptions.subscribe(draft())
    again = subscriptions.subscribe(draft(language="fr", quiet_from="21:00", quiet_until="06:00"))
    assert first.subscription_id == again.subscription_id
    assert [one.language for one in subscriptions.list()] == ["fr"]

    subscriptions.unsubscribe(first.subscription_id)
    assert list(subscriptions.list()) == []
    subscriptions.subscribe(draft())
    assert len(subscriptions.list()) == 1
    with pytest.raises(UnknownNameError, match="no subscription nix"):
        subscriptions.unsubscribe("nix")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"user_id": " "}, "user_id"),
        ({"user_id": "u" * 129}, "user_id"),
        ({"language": "English"}, "language"),
        ({"language": "de"}, "There are en, fr, sw"),
        ({"channel": "pigeon"}, "There are apprise, email, stream, webhook"),
        ({"quiet_from": "25:00", "quiet_until": "06:00"}, "quiet_from"),
        ({"quiet_from": "21:00"}, "a beginning and an end"),
        ({"quiet_from": "9:00", "quiet_until": "10:00"}, "quiet_from"),
        ({"time_zone": "Africa/Atlantis"}, "time zone"),
        ({"time_zone": "../etc"}, "time zone"),
        ({"address": "ama"}, "no e-mail address"),
        ({"address": "ama@example.org\nBcc: all@example.org"}, "no e-mail address"),
        ({"address": "a@example.org,b@example.org"}, "no e-mail address"),
        ({"address": "Ama <ama@example.org>"}, "no e-mail address"),
        ({"channel": "stream"}, "a stream has no address"),
        ({"channel": "webhook", "address": "http://example.org/hook"}, "cannot be used"),
        ({"channel": "webhook", "address": "https://example.org", "secret": "whsec_short"}, "secret"),
        ({"channel": "webhook", "address": "https://example.org", "secret": "k" * 40}, "secret"),
        ({"secret": SECRET}, "has no secret"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    subscriptions: Subscriptions, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadRequestError, match=said):
        subscriptions.subscribe(draft(**changes))
    assert list(subscriptions.list()) == []


def test_a_webhook_gets_a_secret_and_keeps_it(subscriptions: Subscriptions) -> None:
    hook = draft(channel="webhook", address="https://example.org/hook")

    first, again = subscriptions.subscribe(hook), subscriptions.subscribe(hook)

    assert len(base64.b64decode(first.secret.removeprefix("whsec_"))) == 32
    assert again.secret == first.secret
    assert (
        subscriptions.subscribe(draft(channel="webhook", address="https://example.org/h", secret=SECRET)).secret
        == SECRET
    )


def test_nothing_gives_address_or_secret_away(subscriptions: Subscriptions, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    private = "http://user:hunter2@example.org"
    with pytest.raises(BadRequestError) as refused:
        subscriptions.subscribe(draft(channel="apprise", address=private))
    kept = subscriptions.subscribe(draft(channel="webhook", address="https://hunter2.example.org", secret=SECRET))

    told = f"{refused.value!r} {refused.value} {refused.value.__cause__} {kept!r} {kept} {caplog.text}"
    assert "hunter2" not in told
    assert SECRET not in told
