"""Signed webhooks against a real receiver that verifies with the standard's own library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from standardwebhooks.webhooks import Webhook

from farm_intel.delivery.webhooks import LARGEST_BODY, WebhookChannel, payload, retry_after_s, signature
from farm_intel.domain.errors import PermanentError, ThrottledError, TransientError
from farm_intel.domain.messages import MessageState
from farm_intel.egress.client import EgressAnswer, EgressClient
from farm_intel.egress.guard import Allowance, UrlRefusedError
from farm_intel.notifying.delivering import Delivering, DeliveryReport
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.memory import MemoryBreakers
from farm_intel.storage.outbox import SqlOutbox
from farm_intel_tests.delivery.test_mail import claimed
from farm_intel_tests.egress.servers import Answer, Request, canary, http_receiver
from farm_intel_tests.notifying.fakes import NOW, SECRET, MovingClock, new_message

ALLOW = Allowance.of(["127.0.0.0/8"])


def channel(clock: MovingClock | SystemClock | None = None, **options: float) -> WebhookChannel:
    return WebhookChannel(EgressClient(allow=ALLOW, **options), clock or SystemClock())  # type: ignore[arg-type]  # by name


def test_the_signature_is_that_of_the_standards_test_vector() -> None:
    """reference/reliability.md 2.1; agrees with the C# and Go suites, and with HMAC by hand."""
    secret, message_id, body = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        '{"test": 2432232314}',
    )
    at = datetime.fromtimestamp(1614265330, UTC)
    by_hand = hmac.new(
        base64.b64decode(secret.removeprefix("whsec_")), f"{message_id}.1614265330.{body}".encode(), hashlib.sha256
    )

    assert signature(secret, message_id, at, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, message_id, at, body) == f"v1,{base64.b64encode(by_hand.digest()).decode()}"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_" + "é" * 40])
def test_a_secret_that_cannot_sign_is_told_and_not_quoted(secret: str) -> None:
    with pytest.raises(PermanentError, match="cannot sign") as caught:
        signature(secret, "msg_1", NOW, "{}")

    assert "short" not in str(caught.value)


def test_the_receiver_can_verify_what_it_gets() -> None:
    with http_receiver() as receiver:
        assert channel().send(claimed(address=receiver.url), None, None) == "HTTP 204"

    (request,) = receiver.requests
    body = Webhook(SECRET).verify(request.body, request.headers)
    assert request.headers["webhook-id"] == "msg_0123456789abcdef"
    assert body["type"] == "alert"
    assert body["timestamp"] == "2026-05-01T06:00:00+00:00"
    assert body["data"]["short"] == new_message().text.short


@pytest.mark.parametrize(
    ("answer", "kind", "wait_s"),
    [
        ((200, {}, b""), None, None),
        ((202, {}, b""), None, None),
        ((301, {}, b""), ThrottledError, None),
        ((400, {}, b""), ThrottledError, None),
        ((410, {}, b""), PermanentError, None),
        ((429, {"retry-after": "120"}, b""), ThrottledError, 120.0),
        ((429, {"retry-after": "Fri, 01 May 2026 06:10:00 GMT"}, b""), ThrottledError, 600.0),
        ((429, {"retry-after": "soon"}, b""), ThrottledError, None),
        ((500, {}, b""), ThrottledError, None),
        ((502, {}, b""), TransientError, None),
        ((503, {"retry-after": "7"}, b""), ThrottledError, 7.0),
        ((504, {}, b""), TransientError, None),
        (None, TransientError, None),
    ],
)
def test_what_a_receiver_answers_decides_what_is_done(
    answer: Answer | None, kind: type[Exception] | None, wait_s: float | None
) -> None:
    with http_receiver() as receiver:
        receiver.answer = lambda _: answer
        message = claimed(address=receiver.url)
        if kind is None:
            assert channel(MovingClock()).send(message, None, None).startswith("HTTP 2")
            return
        with pytest.raises(kind) as caught:
            channel(MovingClock()).send(message, None, None)

    assert type(caught.value) is kind
    assert getattr(caught.value, "retry_after_s", None) == wait_s
    assert receiver.url not in str(caught.value)


def test_a_receiver_that_does_not_answer_is_left_in_time() -> None:
    def silent(connected: socket.socket) -> None:
        while connected.recv(4096):
            pass

    with canary(silent) as slow, pytest.raises(TransientError, match="no answer"):
        channel(total_s=0.3).send(claimed(address=f"http://127.0.0.1:{slow.port}/"), None, None)


def test_a_redirect_to_the_loopback_is_never_followed() -> None:
    with canary() as bird, http_receiver() as receiver:
        receiver.answer = lambda _: (301, {"location": f"http://127.0.0.1:{bird.port}/"}, b"")
        with pytest.raises(ThrottledError, match="redirects"):
            channel().send(claimed(address=receiver.url), None, None)

    assert bird.connections == 0


class _Follows(EgressClient):
    """The client that follows redirects."""

    def request(self, method, url, *, headers, content=b"") -> EgressAnswer:  # type: ignore[no-untyped-def]  # a mutant
        answer = super().request(method, url, headers=headers, content=content)
        location = answer.headers.get("location")
        return answer if location is None else super().request(method, location, headers=headers, content=content)


def test_without_the_refusal_the_canary_would_sing() -> None:
    with canary() as bird, http_receiver() as receiver:
        receiver.answer = lambda _: (301, {"location": f"http://127.0.0.1:{bird.port}/"}, b"")
        with pytest.raises(TransientError):
            WebhookChannel(_Follows(allow=ALLOW), SystemClock()).send(claimed(address=receiver.url), None, None)

    assert bird.connections == 1


def test_urls_the_guard_refuses_will_never_take_a_message() -> None:
    with canary() as bird, pytest.raises(UrlRefusedError) as caught:
        WebhookChannel(EgressClient(), SystemClock()).send(
            claimed(address=f"https://127.0.0.1:{bird.port}/"), None, None
        )

    assert isinstance(caught.value, PermanentError)
    assert bird.connections == 0


def test_a_body_stays_below_20_kilobytes_and_says_what_it_leaves_out() -> None:
    message = claimed(data={"occasion": "step:1", "evidence": ["cell"] * 10_000, "farm_id": "kijani"})

    text = payload(message)

    body = json.loads(text)
    assert len(text.encode()) <= LARGEST_BODY
    assert body["type"] == "alert.step"
    assert body["data"]["left_out"] == ["evidence"]
    assert body["data"]["farm_id"] == "kijani"


def test_a_wait_that_is_over_is_no_wait() -> None:
    assert retry_after_s("Fri, 01 May 2026 05:00:00 GMT", NOW) == 0.0
    assert retry_after_s("99999999999999", NOW) is None


class Processing:
    """A receiver that verifies, processes each id once, and fails every other request before or after doing so."""

    def __init__(self) -> None:
        self.processed: dict[str, int] = {}
        self.requests = 0

    def __call__(self, request: Request) -> Answer | None:
        self.requests += 1
        Webhook(SECRET).verify(request.body, request.headers)
        if self.requests % 4 == 1:
            return 500, {}, b""
        message_id = request.headers["webhook-id"]
        if message_id not in self.processed:
            self.processed[message_id] = 1
        if self.requests % 4 == 2:
            return None  # processed, and the answer is lost
        return 204, {}, b""


def deliverer(outbox: SqlOutbox, clock: MovingClock) -> Delivering:
    """Return a deliverer with a clock that moves, whose signatures carry the real time: receivers check it."""
    breaker = CircuitBreaker(MemoryBreakers(), clock, BreakerRule(failures=1000, rate=1.1))
    return Delivering(outbox, [channel()], None, breaker=breaker, clock=clock)


def test_every_message_is_processed_exactly_once_by_its_id(sqlite_engine: Engine) -> None:
    clock, outbox, processing = MovingClock(), SqlOutbox(sqlite_engine), Processing()
    with http_receiver() as receiver:
        receiver.answer = processing
        messages = [new_message(f"k{n}", channel="webhook", address=receiver.url) for n in range(40)]
        outbox.enqueue(messages, now=clock.now())
        for _ in range(12):
            deliverer(outbox, clock).run()
            clock.move(hours=25)

    assert outbox.counts()[MessageState.SENT] == 40
    assert len(processing.processed) == 40
    assert processing.requests > 40


def test_url_secret_and_path_stay_out_of_logs_errors_and_the_outbox(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    clock, outbox = MovingClock(), SqlOutbox(sqlite_engine)
    with http_receiver() as receiver, caplog.at_level(logging.DEBUG):
        receiver.answer = lambda _: (500, {}, receiver.url.encode())
        url = f"{receiver.url}/canary-path?key=canary-key"
        refused = "http://10.0.0.1/canary-path?key=canary-key"
        outbox.enqueue(
            [
                new_message("k1", channel="webhook", address=url),
                new_message("k2", channel="webhook", address=refused),
                new_message("k3", channel="webhook", address=url, secret="canary-bad-secret"),  # noqa: S106 - a canary
            ],
            now=clock.now(),
        )
        report = deliverer(outbox, clock).run()

    assert report == DeliveryReport(claimed=3, retrying=1, dead=2)
    seen = caplog.text + "".join(f"{message.error} {message!r}" for message in outbox.list())
    for canary_text in ("canary-path", "canary-key", SECRET, "canary-bad-secret"):
        assert canary_text not in seen
