"""Real mail servers on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session


@dataclass
class Inbox:
    """A server's handler: answers as it is told and keeps what it took."""

    rcpt: str = "250 2.1.5 ok"
    data: str = "250 2.0.0 queued for kwame.canary@receiver.example"
    drops: bool = False
    slow_s: float = 0.0
    mails: list[EmailMessage] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.drops:
            server.transport.abort()
        await asyncio.sleep(self.slow_s)
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the library's
        if self.data.startswith("250"):
            mail = message_from_bytes(bytes(envelope.content or b""), policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return self.data


@contextmanager
def mail_server(inbox: Inbox | None = None, **options: Any) -> Iterator[Inbox]:
    inbox = inbox or Inbox()
    probe = socket.create_server(("127.0.0.1", 0))
    inbox.port = probe.getsockname()[1]
    probe.close()
    controller = Controller(inbox, hostname="127.0.0.1", port=inbox.port, **options)
    controller.start()
    try:
        yield inbox
    finally:
        controller.stop()


def only(user: str, password: str) -> Any:
    """Return an authenticator that knows one user."""

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, auth: Any) -> AuthResult:
        right = isinstance(auth, LoginPassword) and (auth.login, auth.password) == (user.encode(), password.encode())
        return AuthResult(success=right, handled=False)

    return authenticate
