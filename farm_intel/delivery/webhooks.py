"""Signed webhooks after Standard Webhooks (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md).

The id stays the same over all attempts: receivers drop what they have seen. Only 2xx is success; a redirect is a
failure and never followed; 410 ends it; a server that says when to come back is obeyed.
"""

from __future__ import annotations

import json
from binascii import Error as NotBase64Error
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from farm_intel.domain.errors import PermanentError, ThrottledError, TransientError
from farm_intel.domain.messages import Audio, Message
from farm_intel.domain.ports import Clock
from farm_intel.egress.client import EgressAnswer, EgressClient
from farm_intel.egress.guard import url_host

LARGEST_BODY = 20_000
"""Bytes; the specification's advice."""
_SHORTEST_SECRET = 24
"""Bytes; the specification wants 24 to 64."""
_GATEWAY = frozenset({502, 503, 504})
"""Statuses that speak of the server and not of this message."""


class WebhookChannel:
    """Implements `notifying.ports.HostedChannel`; the address is a URL, the secret `whsec_…`."""

    name = "webhook"
    attaches_audio = False

    def __init__(self, client: EgressClient, clock: Clock) -> None:
        """Send by `client`, which guards where URLs may lead; `clock` dates the signatures."""
        self._client = client
        self._clock = clock

    def host(self, message: Message) -> str:
        """Return host and port of the URL; path and query, which may let others in, stay out of logs.

        Raises:
            UrlRefusedError: the address is no URL.

        """
        return url_host(message.new.address)

    def send(self, message: Message, audio: Audio | None, audio_bytes: bytes | None) -> str:  # noqa: ARG002 - no audio
        """Deliver and return the status.

        Raises:
            PermanentError: refused by the guard, gone, or without a usable secret.
            ThrottledError: the server is there, and refuses for now.
            TransientError: no answer, or one of a server that is down.

        """
        body = payload(message)
        now = self._clock.now()
        headers = {
            "content-type": "application/json",
            "webhook-id": message.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature(message.new.secret, message.message_id, now, body),
        }
        answer = self._client.request("POST", message.new.address, headers=headers, content=body.encode())
        return self._verdict(answer)

    def _verdict(self, answer: EgressAnswer) -> str:
        status = answer.status
        if 200 <= status < 300:
            return f"HTTP {status}"
        if status == 410:
            raise PermanentError(
                "the webhook's receiver is gone for good (HTTP 410)",
                hint="Remove the subscription, or correct its URL.",
            )
        if 300 <= status < 400:
            raise ThrottledError(
                f"the webhook's receiver redirects (HTTP {status}), which is never followed",
                hint="Subscribe with the final URL.",
            )
        wait_s = retry_after_s(answer.headers.get("retry-after", ""), self._clock.now())
        if status in _GATEWAY and wait_s is None:
            raise TransientError(f"the webhook's server is down (HTTP {status})")
        raise ThrottledError(f"the webhook's receiver refused (HTTP {status})", retry_after_s=wait_s)


def payload(message: Message) -> str:
    """Return the JSON body; what does not fit into 20 kB of `data` is left out and named in `left_out`."""
    new = message.new
    kind = new.subject.partition(":")[0] or "message"
    occasion = str(new.data.get("occasion", "")).partition(":")[0]
    texts = {"title": new.text.title, "short": new.text.short, "long": new.text.long, "language": new.text.language}
    details = dict(new.data)
    left_out: list[str] = []
    while True:
        body = {
            "type": f"{kind}.{occasion}" if occasion else kind,
            "timestamp": message.created_at.astimezone(UTC).isoformat(),
            "data": {**details, **texts, **({"left_out": left_out} if left_out else {})},
        }
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) <= LARGEST_BODY or not details:
            return text
        largest = max(details, key=lambda name: len(json.dumps(details[name])))
        del details[largest]
        left_out.append(largest)


def signature(secret: str, message_id: str, at: datetime, body: str) -> str:
    """Return the value of `webhook-signature`.

    Raises:
        PermanentError: the secret is none of Standard Webhooks; it is not quoted.

    """
    from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

    try:
        signed = str(Webhook(secret).sign(message_id, at.astimezone(UTC), body))
    except (EmptyWebhookSecretError, NotBase64Error, ValueError):
        signed = ""
    if not signed or len(secret.removeprefix("whsec_")) < _SHORTEST_SECRET * 4 // 3:
        raise PermanentError(
            "the webhook's secret cannot sign", hint="Give whsec_ and the base64 of 24 to 64 random bytes."
        )
    return signed


def retry_after_s(text: str, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date; None where it is neither."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
