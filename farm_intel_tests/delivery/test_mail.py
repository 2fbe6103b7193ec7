"""Mail against real servers: accepting, refusing, dropping, slow, dripping."""

from __future__ import annotations

import dataclasses
import logging
import socket
import time

import pytest
from sqlalchemy import Engine

from farm_intel.delivery.mail import Encryption, MailChannel, MailServer
from farm_intel.domain.errors import NotConfiguredError, PermanentError, ThrottledError, TransientError
from farm_intel.domain.messages import Audio, Message, MessageState, NewMessage
from farm_intel.notifying.delivering import Delivering, DeliveryReport
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.memory import MemoryBreakers
from farm_intel.storage.outbox import SqlOutbox
from farm_intel_tests.delivery.mail_servers import Inbox, mail_server, only
from farm_intel_tests.egress.servers import canary
from farm_intel_tests.notifying.fakes import ADDRESS, NOW, MovingClock, new_message

PASSWORD = "canary-password"  # noqa: S105 - a canary
AUDIO = Audio(sha256="a" * 64, path="a", mime_type="audio/wav", duration_s=2.0, engine="fake", size_bytes=8)


def claimed(new: NewMessage | None = None, **changes: object) -> Message:
    new = new or new_message()
    if changes:
        new = dataclasses.replace(new, **changes)  # type: ignore[arg-type]  # fields by name
    return Message(
        message_id="msg_0123456789abcdef",
        new=new,
        state=MessageState.SENDING,
        attempt=1,
        token=1,
        created_at=NOW,
        next_at=NOW,
    )


def channel(port: int, **options: object) -> MailChannel:
    settings: dict[str, object] = {"encryption": Encryption.NONE, "timeout_s": 5.0, **options}
    server = MailServer(host="127.0.0.1", port=port, sender="alerts@farm.example", **settings)  # type: ignore[arg-type]  # by name
    return MailChannel(server, MovingClock())


def test_text_and_audio_arrive() -> None:
    with mail_server() as inbox:
        receipt = channel(inbox.port, unsubscribe="https://farm.example/u").send(claimed(), AUDIO, b"RIFFdata")

    (mail,) = inbox.mails
    body, attached = mail.get_body(), next(mail.iter_attachments())
    assert body is not None
    assert receipt == "250 2.0.0"
    assert mail["Message-ID"] == "<msg_0123456789abcdef@farm.example>"
    assert (mail["To"], mail["From"], mail["Subject"]) == (ADDRESS, "alerts@farm.example", "Drought stress at Kijani")
    assert body.get_content().splitlines() == ["Kijani: drought stress.", "NDMI -0.12 on 1 May."]
    assert (attached.get_content_type(), attached.get_content()) == ("audio/wav", b"RIFFdata")
    assert mail["List-Unsubscribe"] == "<https://farm.example/u>"
    assert mail["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("sound", [None, b"RIFF"])
def test_a_mail_names_its_language_with_audio_and_without(sound: bytes | None) -> None:
    with mail_server() as inbox:
        channel(inbox.port).send(claimed(), AUDIO if sound else None, sound)

    assert inbox.mails[0]["Content-Language"] == "en"


def test_the_same_message_has_the_same_id_on_every_attempt() -> None:
    with mail_server() as inbox:
        for _ in range(3):
            channel(inbox.port).send(claimed(), None, None)

    assert len({mail["Message-ID"] for mail in inbox.mails}) == 1


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"rcpt": "550 5.1.1 no such user kwame.canary@receiver.example"}, PermanentError),
        ({"rcpt": "451 4.3.0 kwame.canary@receiver.example greylisted"}, ThrottledError),
        ({"data": "554 5.7.1 no"}, PermanentError),
        ({"data": "452 4.2.2 full"}, ThrottledError),
        ({"drops": True}, TransientError),
        ({"slow_s": 3.0}, TransientError),
    ],
)
def test_what_a_server_answers_decides_what_is_done(answers: dict[str, object], kind: type[Exception]) -> None:
    with mail_server(Inbox(**answers)) as inbox, pytest.raises(kind) as caught:  # type: ignore[arg-type]  # by name
        channel(inbox.port, timeout_s=0.5).send(claimed(), None, None)

    assert type(caught.value) is kind
    assert ADDRESS not in str(caught.value)
    assert inbox.mails == []


def test_no_server_is_a_failure_of_the_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransientError, match="ConnectionRefusedError"):
        channel(port).send(claimed(), None, None)


@pytest.mark.parametrize("opening", [b"", b"220 hello\r\n"])
def test_a_server_that_drips_is_left_in_time(opening: bytes) -> None:
    def drip(connected: socket.socket) -> None:
        try:
            connected.sendall(opening)
            while True:
                connected.sendall(b"2")
                time.sleep(0.05)
        except OSError:
            return

    with canary(drip) as slow:
        began = time.monotonic()
        with pytest.raises(TransientError):
            channel(slow.port, timeout_s=0.4).send(claimed(), None, None)

    assert time.monotonic() - began < 2.0


def test_a_message_too_large_goes_without_its_audio() -> None:
    with mail_server(data_size_limit=3000) as inbox:
        receipt = channel(inbox.port).send(claimed(), AUDIO, b"x" * 10_000)

    assert receipt.startswith("250")
    assert list(inbox.mails[0].iter_attachments()) == []


def test_login_is_asked_for_and_a_wrong_one_gives_no_message_up(caplog: pytest.LogCaptureFixture) -> None:
    options = {"authenticator": only("farm", PASSWORD), "auth_require_tls": False, "auth_required": True}
    with caplog.at_level(logging.DEBUG, logger="farm_intel"), mail_server(**options) as inbox:
        assert channel(inbox.port, user="farm", password=PASSWORD).send(claimed(), None, None)
        with pytest.raises(TransientError, match="login") as caught:
            channel(inbox.port, user="farm", password=PASSWORD + "x").send(claimed(), None, None)

    assert not isinstance(caught.value, PermanentError)
    assert PASSWORD not in str(caught.value) + caplog.text + repr(MailServer(host="h", sender="a@b", password=PASSWORD))


def test_encryption_is_never_given_up_silently() -> None:
    with mail_server() as inbox, pytest.raises(TransientError, match="does not offer"):
        channel(inbox.port, encryption=Encryption.STARTTLS).send(claimed(), None, None)

    assert inbox.mails == []


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example\r\nBcc: x@y.example",
        "a@b.example> SIZE=1",
        "a@b.example,c@d.example",
        "Kwame <a@b.example>",
        "a b@c.example",
        "a@b@c.example",
        "ä@b.example",
        "",
        "a@",
    ],
)
def test_addresses_cannot_carry_commands_or_headers(address: str) -> None:
    with mail_server() as inbox, pytest.raises(PermanentError, match="no mail address"):
        channel(inbox.port).send(claimed(address=address), None, None)

    assert inbox.mails == []


def test_titles_cannot_carry_headers() -> None:
    text = dataclasses.replace(new_message().text, title="Hello\r\nBcc: x@y.example\u2028X-Evil: 1")
    with mail_server() as inbox:
        channel(inbox.port).send(claimed(text=text), None, None)

    (mail,) = inbox.mails
    assert mail["Subject"] == "Hello Bcc: x@y.example X-Evil: 1"
    assert mail["Bcc"] is None
    assert mail["X-Evil"] is None


def test_a_body_with_dots_and_other_scripts_arrives_as_written() -> None:
    text = dataclasses.replace(
        new_message().text, long=".\r\nQUIT\n..\nSécheresse à 20 °C, ukame\n", title="Sécheresse"
    )
    with mail_server() as inbox:
        channel(inbox.port).send(claimed(text=text), None, None)

    (mail,) = inbox.mails
    body = mail.get_body()
    assert body is not None
    assert body.get_content().splitlines() == [".", "QUIT", "..", "Sécheresse à 20 °C, ukame"]
    assert mail["Subject"] == "Sécheresse"


def test_a_sender_that_is_no_address_is_told_at_once() -> None:
    with pytest.raises(NotConfiguredError, match="sender"):
        MailChannel(MailServer(host="h", sender="Farm"), MovingClock())


def test_a_bounce_a_greylisting_and_a_delivery_side_by_side(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole way: outbox, deliverer, a real server that judges by recipient; nothing leaks on it."""

    class Judging(Inbox):
        async def handle_RCPT(self, server, session, envelope, address, options) -> str:  # type: ignore[no-untyped-def]  # noqa: N802 - the library's
            # not in self: the server has several connections at once
            refusal = {"bad": "550 5.1.1 no {}", "grey": "451 4.7.1 later {}"}.get(address.partition("@")[0])
            if refusal:
                return refusal.format(address)
            return await super().handle_RCPT(server, session, envelope, address, options)

    clock, outbox = MovingClock(), SqlOutbox(sqlite_engine)
    breaker = CircuitBreaker(MemoryBreakers(), clock, BreakerRule(failures=1))
    options = {"authenticator": only("farm", PASSWORD), "auth_require_tls": False, "auth_required": True}
    with mail_server(Judging(), **options) as inbox, caplog.at_level(logging.DEBUG, logger="farm_intel"):
        mail = channel(inbox.port, user="farm", password=PASSWORD)
        delivering = Delivering(outbox, [mail], None, breaker=breaker, clock=clock)
        users = ("bad", "grey", "good", "fine")
        outbox.enqueue(
            [new_message(user, user_id=user, address=f"{user}@canary.example") for user in users], now=clock.now()
        )
        report = delivering.run()

    assert report == DeliveryReport(claimed=4, sent=2, retrying=1, dead=1)
    assert sorted(str(one["To"]) for one in inbox.mails) == ["fine@canary.example", "good@canary.example"]
    seen = caplog.text + "".join(f"{message.error} {message.receipt} {message!r}" for message in outbox.list())
    assert "canary" not in seen
