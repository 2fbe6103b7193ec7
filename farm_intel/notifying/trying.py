"""A test message to one subscription, so that a wrong address is found before it matters."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from farm_intel.domain.alerts import Severity, Subscription
from farm_intel.domain.errors import NotConfiguredError
from farm_intel.domain.messages import STREAM, Message, MessageState, NewMessage, Notice, Renderer, Voice
from farm_intel.domain.ports import Clock
from farm_intel.notifying.ports import HostedChannel, Outbox
from farm_intel.notifying.sending import Sending

_AUDIO_WAIT_S = 30.0
_LARGEST_AUDIO_BYTES = 4_000_000


class TryingOut:
    """Sends test messages, at once and once: a failure is the caller's answer and nothing is tried again."""

    def __init__(
        self,
        outbox: Outbox,
        channels: Iterable[HostedChannel],
        voice: Voice | None,
        *,
        renderer: Renderer,
        clock: Clock,
    ) -> None:
        """Take what delivery takes; the outbox serves the stream only."""
        self._outbox = outbox
        self._channels = {channel.name: channel for channel in channels}
        self._voice = voice
        self._renderer = renderer
        self._clock = clock

    def send(self, subscription: Subscription, *, farm_id: str) -> str:
        """Send the text `test` by a subscription, whatever its quiet hours, and return the channel's receipt.

        Args:
            subscription: whom to reach, and how.
            farm_id: whose name stands in the message.

        Raises:
            NotConfiguredError: the subscription's channel does not exist here.
            PermanentError: it will never arrive.
            TransientError: it did not arrive now.

        """
        message = self._message(subscription, farm_id)
        new = message.new
        if new.channel == STREAM:
            self._outbox.enqueue([new], now=self._clock.now())
            return STREAM
        if new.channel not in self._channels:
            known = ", ".join(sorted(self._channels)) or "none"
            raise NotConfiguredError(
                f"channel {new.channel!r} of subscription {subscription.subscription_id} is not configured here",
                hint=f"There are: {known}.",
            )
        with Sending(
            self._channels, self._voice, audio_wait_s=_AUDIO_WAIT_S, largest_bytes=_LARGEST_AUDIO_BYTES
        ) as sending:
            return sending.send(message).receipt

    def _message(self, subscription: Subscription, farm_id: str) -> Message:
        now = self._clock.now()
        token = secrets.token_hex(12)
        notice = Notice(
            subject=f"test:{token}",
            occasion="test",
            farm_id=farm_id,
            rule_class="test",
            severity=Severity.INFO,
            text_key="test",
            params={"day": now.date().isoformat()},
        )
        new = NewMessage(
            idempotency_key=f"{notice.subject}|test|{subscription.user_id}|{subscription.channel}",
            subject=notice.subject,
            farm_id=farm_id,
            user_id=subscription.user_id,
            channel=subscription.channel,
            address=subscription.address,
            secret=subscription.secret,
            severity=notice.severity,
            text=self._renderer.render(notice, subscription.language),
            data={"subject": notice.subject, "occasion": "test", "farm_id": farm_id, "test": True},
            not_before=now,
            speak=subscription.speak,
        )
        return Message(
            message_id=f"msg_test{token}",
            new=new,
            state=MessageState.SENDING,
            attempt=1,
            token=0,
            created_at=now,
            next_at=now,
        )
