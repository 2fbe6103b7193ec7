"""From a notice to messages: who is told, over which channel, in which language, and not before when."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from farm_intel.domain.alerts import SUBSCRIBERS, Severity, Subscription
from farm_intel.domain.messages import NewMessage, Notice, RenderedText, Renderer

ANY = "*"


def route(
    notice: Notice, subscriptions: Iterable[Subscription], renderer: Renderer, *, now: datetime
) -> tuple[NewMessage, ...]:
    """Return one message per subscription the notice is for, ready to be enqueued.

    Critical notices do not wait for the end of quiet hours; all others do. What nobody is plainly subscribed to goes to
    the groups that escalation steps name: better too much than that nobody hears of it.

    Raises:
        UnknownNameError: the notice's template does not exist.

    """
    known = tuple(subscriptions)
    chosen = [subscription for subscription in known if is_for(notice, subscription)]
    if not chosen and notice.audience == SUBSCRIBERS:
        chosen = [subscription for subscription in known if is_for(replace(notice, audience=ANY), subscription)]
    texts: dict[str, RenderedText] = {}
    messages: dict[str, NewMessage] = {}
    for subscription in chosen:
        language = subscription.language
        if language not in texts:
            texts[language] = renderer.render(notice, language)
        message = _message(notice, subscription, texts[language], now)
        messages.setdefault(message.idempotency_key, message)
    return tuple(messages.values())


def is_for(notice: Notice, subscription: Subscription) -> bool:
    """Return True where the subscription wants the notice, quiet hours aside."""
    return (
        subscription.active
        and subscription.farm_id in {ANY, notice.farm_id}
        and subscription.rule_class in {ANY, notice.rule_class}
        and subscription.min_severity <= notice.severity
        and notice.audience in {ANY, subscription.audience}
    )


def quiet_until(subscription: Subscription, now: datetime) -> datetime | None:
    """Return the instant (UTC) the subscriber's quiet hours end, or None outside of them.

    Hours from 21:00 until 06:00 go over midnight; from and until at the same time are none.
    """
    if not subscription.quiet_from or subscription.quiet_from == subscription.quiet_until:
        return None
    zone = ZoneInfo(subscription.time_zone)
    local = now.astimezone(zone)
    begin, end = _minutes(subscription.quiet_from), _minutes(subscription.quiet_until)
    minute = local.hour * 60 + local.minute
    inside = begin <= minute < end if begin < end else minute >= begin or minute < end
    if not inside:
        return None
    day = local.date() if minute < end else local.date() + timedelta(days=1)
    return datetime(day.year, day.month, day.day, end // 60, end % 60, tzinfo=zone).astimezone(UTC)


def _message(notice: Notice, subscription: Subscription, text: RenderedText, now: datetime) -> NewMessage:
    quiet = None if notice.severity >= Severity.CRITICAL else quiet_until(subscription, now)
    digest = hashlib.sha256(subscription.address.encode()).hexdigest()[:16]
    key = f"{notice.subject}|{notice.occasion}|{subscription.user_id}|{subscription.channel}|{digest}"
    data: Mapping[str, object] = {
        "subject": notice.subject,
        "occasion": notice.occasion,
        "farm_id": notice.farm_id,
        "rule_class": notice.rule_class,
        "severity": notice.severity.name.lower(),
        **notice.data,
    }
    return NewMessage(
        idempotency_key=key,
        subject=notice.subject,
        farm_id=notice.farm_id,
        user_id=subscription.user_id,
        channel=subscription.channel,
        address=subscription.address,
        secret=subscription.secret,
        severity=notice.severity,
        text=text,
        data=data,
        not_before=quiet or now,
        speak=subscription.speak,
    )


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
