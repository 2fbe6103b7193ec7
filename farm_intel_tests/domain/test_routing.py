"""Who a notice is for: plain subscribers from the beginning, groups when they are named, nobody never."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from farm_intel.domain.alerts import Severity, Subscription
from farm_intel.domain.messages import Notice, RenderedText
from farm_intel.domain.routing import ANY, route

NOON = datetime(2026, 6, 30, 12, tzinfo=UTC)


class Plain:
    """A renderer that says the key."""

    def render(self, notice: Notice, language: str) -> RenderedText:
        return RenderedText(language=language, title="", short=notice.text_key, long="", spoken="")


def notice(audience: str = "subscribers", severity: Severity = Severity.WARNING) -> Notice:
    return Notice(
        subject="alert:al_1",
        occasion="opened",
        farm_id="farm-a",
        rule_class="stress",
        severity=severity,
        text_key="alert_opened",
        params={},
        audience=audience,
    )


def subscription(user: str, **changes: object) -> Subscription:
    values = {"subscription_id": f"sub_{user}", "user_id": user, "channel": "email", "address": f"{user}@farm.example"}
    return Subscription(**values | changes)  # type: ignore[arg-type] # a test's short hand


AMA, ASHA, OWEN = (
    subscription("ama"),
    subscription("asha", audience="agronomist"),
    subscription("owen", audience="owner", min_severity=Severity.CRITICAL),
)


@pytest.mark.parametrize(
    ("audience", "known", "told"),
    [
        ("subscribers", (AMA, ASHA, OWEN), ["ama"]),
        ("agronomist", (AMA, ASHA, OWEN), ["asha"]),
        ("owner", (AMA, ASHA, OWEN), []),
        (ANY, (AMA, ASHA, OWEN), ["ama", "asha"]),
        ("subscribers", (ASHA, OWEN), ["asha"]),
        ("agronomist", (AMA, OWEN), []),
        ("subscribers", (subscription("ama", active=False), ASHA), ["asha"]),
        ("subscribers", (subscription("ama", farm_id="farm-b"), ASHA), ["asha"]),
    ],
)
def test_who_is_told(audience: str, known: tuple[Subscription, ...], told: list[str]) -> None:
    assert [message.user_id for message in route(notice(audience), known, Plain(), now=NOON)] == told


def test_a_subscriber_who_sleeps_is_told_later_and_no_group_instead() -> None:
    sleeping = subscription("ama", quiet_from="10:00", quiet_until="14:00")
    (message,) = route(notice(), (sleeping, ASHA), Plain(), now=NOON)
    assert (message.user_id, message.not_before) == ("ama", NOON.replace(hour=14))
