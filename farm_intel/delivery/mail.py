"""Mail by SMTP: the long text, and the audio as an attachment."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from enum import StrEnum
from typing import Any

from farm_intel.domain.errors import NotConfiguredError, PermanentError, ThrottledError, TransientError
from farm_intel.domain.messages import Audio, Message
from farm_intel.domain.ports import Clock

_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII
)
"""RFC 5321 without quoted parts: no white space and nothing that could end a header or a command."""
_TOO_LARGE = frozenset({552, 523})
"""Replies of a server that finds the message too large (RFC 5321, RFC 7504)."""
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


class Encryption(StrEnum):
    """How the connection to the mail server is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    """From the first byte, usually port 465."""
    NONE = "none"
    """Only to a server of the same machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """The operator's mail server."""

    host: str
    port: int = 587
    sender: str
    """Address messages come from."""
    user: str = ""
    password: str = field(default="", repr=False)
    encryption: Encryption = Encryption.STARTTLS
    timeout_s: float = 20.0
    """For a whole message."""
    unsubscribe: str = ""
    """URL or `mailto:` of `List-Unsubscribe`; empty for none."""


class MailChannel:
    """Implements `notifying.ports.HostedChannel`; the address is a mail address."""

    name = "email"
    attaches_audio = True

    def __init__(self, server: MailServer, clock: Clock, *, tls: ssl.SSLContext | None = None) -> None:
        """Send by a server.

        Args:
            server: the operator's.
            clock: dates the messages.
            tls: whom to trust; the system's authorities by default.

        Raises:
            NotConfiguredError: the sender is no mail address.

        """
        if not _ADDRESS.fullmatch(server.sender):
            raise NotConfiguredError("the sender of mail is no mail address", hint="Set FARM_INTEL_SMTP_FROM.")
        self._server = server
        self._clock = clock
        self._tls = tls

    def host(self, message: Message) -> str:  # noqa: ARG002 - one server for all
        """Return host and port of the mail server."""
        return f"{self._server.host}:{self._server.port}"

    def send(self, message: Message, audio: Audio | None, audio_bytes: bytes | None) -> str:
        """Deliver and return the server's reply.

        Raises:
            PermanentError: this recipient will never take it (5xx).
            ThrottledError: this recipient will not take it now (4xx); the server is well.
            TransientError: the server did not answer, or does not take our login or sender.

        """
        recipient = message.new.address
        if not _ADDRESS.fullmatch(recipient):
            raise PermanentError("the subscription's address is no mail address", hint="Correct the subscription.")
        mail = self._compose(message, audio, audio_bytes)
        try:
            return self._deliver(mail, recipient)
        except _TooLargeError:
            if audio_bytes is None:
                raise
        # the server takes no message of this size: the text is what matters
        return self._deliver(self._compose(message, None, None), recipient)

    def _compose(self, message: Message, audio: Audio | None, audio_bytes: bytes | None) -> EmailMessage:
        mail = EmailMessage(policy=SMTP_POLICY)
        domain = self._server.sender.partition("@")[2]
        mail["From"] = self._server.sender
        mail["To"] = message.new.address
        mail["Subject"] = _one_line(message.new.text.title)
        mail["Date"] = self._clock.now()
        mail["Message-ID"] = f"<{message.message_id}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        if self._server.unsubscribe:
            mail["List-Unsubscribe"] = f"<{self._server.unsubscribe}>"
        mail.set_content(message.new.text.long, cte="quoted-printable")
        if audio is not None and audio_bytes is not None:
            main, _, sub = audio.mime_type.partition("/")
            mail.add_attachment(audio_bytes, maintype=main, subtype=sub, filename=f"message.{sub}")
        # last: setting the content removes every header that begins with "Content-"
        mail["Content-Language"] = _one_line(message.new.text.language)
        return mail

    def _deliver(self, mail: EmailMessage, recipient: str) -> str:
        try:
            with self._session() as session:
                session.mail_from(self._server.sender, mail)
                session.to(recipient)
                return session.content(mail)
        except smtplib.SMTPAuthenticationError as error:
            # ours to mend, and then every message can go: none is given up for it
            raise TransientError(
                f"the mail server does not take our login ({error.smtp_code})", hint="Check FARM_INTEL_SMTP_USER."
            ) from None
        except smtplib.SMTPNotSupportedError:
            raise TransientError(
                "the mail server does not offer what is asked of it", hint="Check FARM_INTEL_SMTP_ENCRYPTION."
            ) from None
        except (smtplib.SMTPException, OSError) as error:
            raise TransientError(f"the mail server did not answer: {type(error).__name__}") from None

    @contextmanager
    def _session(self) -> Iterator[_Session]:
        """Yield a session that is broken off when the time for a whole message is up.

        The library's time limit is per line of an answer: a server that drips would hold the thread for ever.
        """
        server = self._server
        tls = self._tls or ssl.create_default_context()
        if server.encryption is Encryption.TLS:
            client: _Watched | _WatchedTls = _WatchedTls(
                server.host, server.port, timeout=server.timeout_s, context=tls
            )
        else:
            client = _Watched(server.host, server.port, timeout=server.timeout_s)
        try:
            if server.encryption is Encryption.STARTTLS:
                client.starttls(context=tls)
            if server.user:
                client.login(server.user, server.password)
            client.ehlo_or_helo_if_needed()
            yield _Session(client)
            _say_goodbye(client)
        finally:
            client.watchdog.cancel()
            client.close()


class _Watched(smtplib.SMTP):
    """Is broken off when its time is up; connecting is a part of it, for a server may drip its greeting too."""

    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        self.watchdog = _watchdog(self)
        return super().connect(host, port, source_address)


class _WatchedTls(smtplib.SMTP_SSL):
    """As `_Watched`, encrypted from the first byte."""

    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        self.watchdog = _watchdog(self)
        return super().connect(host, port, source_address)


def _watchdog(client: smtplib.SMTP) -> threading.Timer:
    timer = threading.Timer(client.timeout, _break_off, (client,))
    timer.daemon = True
    timer.start()
    return timer


class _Session:
    """The three commands of a message, each reply told apart by whom it speaks of."""

    def __init__(self, client: smtplib.SMTP) -> None:
        self._client = client

    def mail_from(self, sender: str, mail: EmailMessage) -> None:
        options = [f"size={len(bytes(mail))}"] if self._client.has_extn("size") else []
        code, _ = self._client.mail(sender, options)
        if code in _TOO_LARGE:
            raise _TooLargeError(f"the mail server finds the message too large ({code})")
        if code != 250:
            raise TransientError(
                f"the mail server does not take our sender ({code})", hint="Check FARM_INTEL_SMTP_FROM."
            )

    def to(self, recipient: str) -> None:
        code, _ = self._client.rcpt(recipient)
        if code not in {250, 251}:
            raise _refusal("the recipient", code)

    def content(self, mail: EmailMessage) -> str:
        try:
            code, reply = self._client.data(bytes(mail))
        except smtplib.SMTPDataError as error:
            raise _refusal("the message", error.smtp_code) from None
        if code != 250:
            raise _refusal("the message", code)
        # the reply's words may quote the recipient: only the first, the code of RFC 3463, is kept
        words = reply.decode("ascii", "replace").split()
        return f"{code} {words[0]}"[:40] if words and re.fullmatch(r"2\.\d+\.\d+", words[0]) else str(code)


class _TooLargeError(PermanentError):
    """The server takes no message of this size."""


def _refusal(what: str, code: int) -> PermanentError | TransientError:
    """Return the error of a reply code (RFC 5321, 4.2.1)."""
    if code in _TOO_LARGE:
        return _TooLargeError(f"the mail server finds the message too large ({code})")
    if code >= 500:
        return PermanentError(f"the mail server refuses {what} for good ({code})", hint="Correct the subscription.")
    if code == 421:
        return TransientError("the mail server is closing (421)")
    return ThrottledError(f"the mail server does not take {what} now ({code})")


def _say_goodbye(client: smtplib.SMTP) -> None:
    """End the session politely; the message is the server's already, whatever it answers."""
    try:
        client.quit()
    except (smtplib.SMTPException, OSError):
        return


def _break_off(client: smtplib.SMTP) -> None:
    """Wake a thread that waits for the server."""
    connected = client.sock
    if connected is not None:
        try:
            connected.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _one_line(text: str) -> str:
    return _UNREADABLE.sub(" ", text).strip()
