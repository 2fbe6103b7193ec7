"""The people of a trial: a client on the live channel, mailboxes, a receiver that verifies, and what they hear."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import httpx
from standardwebhooks.webhooks import Webhook
from websockets.sync.client import ClientConnection, connect

from farm_intel.speech.normalising import normalise
from farm_intel.speech.pcm import from_wav
from farm_intel_tests.delivery.mail_servers import Inbox
from farm_intel_tests.egress.servers import Request
from tools.intelligibility import in_words, listen

WAIT_S = 20.0
"""Longest a client waits for an event it is to get, on the real clock."""
FRESH = timedelta(minutes=5)
"""How old a webhook may be; the specification's tolerance."""

_MONTHS = "January February March April May June July August September October November December"
_DATE = re.compile(rf"\b(\d{{1,2}}) ({_MONTHS.replace(' ', '|')})\b")
_NAME = re.compile(r"\b([A-Z])(\d{1,4})\b")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
)
_TENS = ("", "", "twenty", "thirty")


@dataclass(kw_only=True)
class LiveClient:
    """Somebody on the live channel; keeps every event and goes on from the last one after a cut."""

    base: str
    """`http://127.0.0.1:…`."""
    token: str
    events: list[dict[str, Any]] = field(default_factory=list)
    """As they came, `seq` with each."""
    _connection: ClientConnection | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def last_seq(self) -> int:
        """Number of the last event that arrived."""
        return int(self.events[-1]["seq"]) if self.events else 0

    @property
    def header(self) -> dict[str, str]:
        """How the user logs in."""
        return {"Authorization": f"Bearer {self.token}"}

    def connect(self) -> None:
        """Connect with a new ticket, from the last event that arrived."""
        answer = httpx.post(f"{self.base}/v1/stream/tickets", headers=self.header, timeout=WAIT_S)
        ticket = answer.raise_for_status().json()["ticket"]
        address = self.base.replace("http://", "ws://")
        url = f"{address}/v1/stream?ticket={ticket}&last_seq={self.last_seq}"
        self._connection = self._open.enter_context(connect(url, proxy=None))

    def read_to(self, seq: int) -> list[dict[str, Any]]:
        """Return the events up to a number that have not been read yet, in the order they came.

        Raises:
            TimeoutError: they do not come.

        """
        if self._connection is None:
            raise ConnectionError("the client is not connected")
        before = len(self.events)
        while self.last_seq < seq:
            message = json.loads(self._connection.recv(timeout=WAIT_S))
            if message["type"] == "event":
                self.events.append({"seq": message["seq"], **message["event"]})
        return self.events[before:]

    def cut(self) -> None:
        """Lose the connection without a word, as in a tunnel."""
        if self._connection is not None:
            self._connection.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        """Leave."""
        self._connection = None
        self._open.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail as it lay in the box."""

    message_id: str
    """Of the outbox."""
    to: str
    language: str
    subject: str
    text: str
    sound: bytes
    """The attached WAV; empty where there is none."""

    @property
    def sound_sha256(self) -> str:
        """Content hash of what is attached."""
        return hashlib.sha256(self.sound).hexdigest() if self.sound else ""


def letters(inbox: Inbox, first: int = 0) -> list[Letter]:
    """Return the mails from number `first` on."""
    return [_letter(mail) for mail in inbox.mails[first:]]


def _letter(mail: EmailMessage) -> Letter:
    sounds = [part.get_content() for part in mail.iter_attachments() if part.get_content_type() == "audio/wav"]
    body = mail.get_body(("plain",))
    return Letter(
        message_id=str(mail["Message-ID"]).strip("<>").partition("@")[0],
        to=str(mail["To"]),
        language=str(mail["Content-Language"]),
        subject=str(mail["Subject"]),
        text="" if body is None else str(body.get_content()),
        sound=sounds[0] if sounds else b"",
    )


def verified(request: Request, secret: str, now: datetime) -> dict[str, Any] | None:
    """Return a webhook's body where the standard's library signs the same and it is fresh by the trial's clock.

    The library's own `verify` compares with the machine's clock, which is not the one of the trial.
    """
    headers = request.headers
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    signed = str(Webhook(secret).sign(headers["webhook-id"], at, request.body.decode()))
    if abs(now - at) > FRESH or not hmac.compare_digest(signed, headers["webhook-signature"]):
        return None
    body: dict[str, Any] = json.loads(request.body)
    return body


def as_said(text: str) -> str:
    """Return a text with dates and names of letters and digits as English voices say them.

    `28 February` becomes `the twenty eighth of February`, `F003` becomes `F zero zero three`.
    """
    text = _DATE.sub(lambda found: f"the {_ordinal(int(found[1]))} of {found[2]}", text)
    return _NAME.sub(lambda found: f"{found[1]} {' '.join(_DIGITS[int(digit)] for digit in found[2])}", text)


def _ordinal(number: int) -> str:
    tens, ones = divmod(number, 10)
    if number < 20:
        return _ORDINALS[number - 1]
    if not ones:
        return f"{_TENS[tens].removesuffix('y')}ieth"
    return f"{_TENS[tens]} {_ORDINALS[ones - 1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a recogniser heard of a spoken message."""

    said: str
    heard: str
    word_error_rate: float
    duration_s: float


def hear(sound: bytes, text: str, names: dict[str, str]) -> Heard:
    """Return what is heard of an English message and how many of its words are wrong."""
    import jiwer

    pcm = from_wav(sound, "trial")
    said, heard = in_words(as_said(normalise(text, "en", names))), listen(pcm)
    rate = float(jiwer.wer(said, heard or "nothing"))
    return Heard(said=said, heard=heard, word_error_rate=rate, duration_s=pcm.duration_s)
