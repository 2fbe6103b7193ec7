"""Everything else: chat, push and text message services through `apprise`, whose URLs are secrets.

Apprise also runs local programs, reads local files and writes to any host; a URL given by a user must do none of that.
So services and parameters are allowed by name, and services of one's own host only for hosts the operator named.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from farm_intel.domain.errors import PermanentError, TransientError
from farm_intel.domain.messages import Audio, Message

SERVICES = frozenset(
    [
        "atalk",
        "brevo",
        "bulksms",
        "burstsms",
        "clickatell",
        "clicksend",
        "d7sms",
        "discord",
        "exotel",
        "gchat",
        "httpsms",
        "ifttt",
        "join",
        "kaleyra",
        "line",
        "msg91",
        "msgbird",
        "nexmo",
        "opsgenie",
        "pagerduty",
        "pbul",
        "plivo",
        "pover",
        "pushy",
        "sendgrid",
        "seven",
        "simplepush",
        "sinch",
        "slack",
        "sns",
        "telesign",
        "telnyx",
        "tgram",
        "threema",
        "twilio",
        "viber",
        "voipms",
        "vonage",
        "whatsapp",
        "wxteams",
        "zulip",
    ]
)
"""Services at an address of their own: a user's URL does not say where they lead."""
OWN_HOST = frozenset(
    [
        "form",
        "forms",
        "gotify",
        "gotifys",
        "json",
        "jsons",
        "mmost",
        "mmosts",
        "nctalk",
        "nctalks",
        "ntfy",
        "ntfys",
        "rocket",
        "rockets",
        "signal",
        "signals",
        "xml",
        "xmls",
    ]
)
"""Services on a host that stands in the URL."""
PARAMETERS = frozenset(
    [
        "apikey",
        "footer",
        "from",
        "key",
        "lang",
        "preview",
        "priority",
        "region",
        "secret",
        "sender",
        "sid",
        "silent",
        "sound",
        "source",
        "tags",
        "thread",
        "to",
        "token",
        "topic",
        "tts",
    ]
)
"""Parameters that do not name files, templates, redirects, time limits or other hosts."""


class AppriseChannel:
    """Implements `notifying.ports.HostedChannel`; the address is an apprise URL."""

    name = "apprise"
    attaches_audio = False

    def __init__(self, *, timeout_s: float = 20.0, own_hosts: Iterable[str] = ()) -> None:
        """Allow services.

        Args:
            timeout_s: for a whole message.
            own_hosts: hosts, as written in URLs, that services of one's own host may be at, besides `ntfy.sh`.

        """
        self._timeout_s = timeout_s
        self._own_hosts = frozenset({"ntfy.sh", *(host.lower() for host in own_hosts)})

    def host(self, message: Message) -> str:
        """Return the service and a digest: in apprise URLs even the host may be a key.

        Raises:
            PermanentError: the URL is not allowed.

        """
        scheme, netloc = self._checked(message.new.address)
        return f"{scheme}:{hashlib.sha256(netloc.encode()).hexdigest()[:12]}"

    def send(self, message: Message, audio: Audio | None, audio_bytes: bytes | None) -> str:  # noqa: ARG002 - no audio
        """Deliver and return which service took it.

        Raises:
            PermanentError: the URL is not allowed or not valid, or only some of its recipients took it.
            TransientError: the service did not take it now.

        """
        scheme, _ = self._checked(message.new.address)
        status = self._notify(message)
        if status == "SUCCESS":
            return scheme
        if status == "PARTIAL":
            raise PermanentError(
                f"{scheme} delivered to some recipients only; it is not sent again to spare the others",
                hint="Give each recipient a subscription of its own.",
            )
        if status == "NOMATCH":
            raise PermanentError(f"the address is no valid one of {scheme}", hint="See the apprise documentation.")
        raise TransientError(f"{scheme} did not take the message: {status.lower()}")

    def check(self, address: str) -> None:
        """Refuse an address that could never be sent to.

        Raises:
            PermanentError: the URL is not allowed.

        """
        self._checked(address)

    def _checked(self, address: str) -> tuple[str, str]:
        """Return scheme and host part of an address that is allowed."""
        try:
            split = urlsplit(address)
            host = (split.hostname or "").lower()
            parameters = parse_qsl(split.query, keep_blank_values=True)
        except ValueError:
            raise PermanentError("the address cannot be read", hint="Give one apprise URL.") from None
        if not address.isprintable() or any(mark in address for mark in (" ", ",", "\\")):
            raise PermanentError("the address holds more than one URL", hint="Give one apprise URL.")
        scheme = split.scheme.lower()
        if scheme not in SERVICES | OWN_HOST:
            known = ", ".join(sorted(SERVICES | OWN_HOST))
            raise PermanentError("messages are not sent by this service", hint=f"Services: {known}.")
        if scheme in OWN_HOST and host not in self._own_hosts:
            raise PermanentError(
                f"{scheme} is not allowed at this host", hint="Have the operator allow it in the settings."
            )
        if any(name.lower() not in PARAMETERS for name, _ in parameters):
            raise PermanentError(
                "the address has parameters that are not allowed", hint=f"Allowed: {', '.join(sorted(PARAMETERS))}."
            )
        return scheme, split.netloc

    def _notify(self, message: Message) -> str:
        apprise = _quiet_apprise()
        asset = apprise.AppriseAsset(
            app_id="farm-intel",
            async_mode=False,
            http_redirects=False,
            interpret_escapes=False,
            secure_logging=True,
            storage_mode=apprise.PersistentStoreMode.MEMORY,
            service_timeout=self._timeout_s,
            allow_templates=False,
        )
        service = apprise.Apprise(asset=asset)
        if not service.add(message.new.address):
            return "NOMATCH"
        text = message.new.text
        result = service.notify(
            title=text.title, body=text.long, body_format=apprise.NotifyFormat.TEXT, timeout=self._timeout_s
        )
        return str(result.status.name)


def _quiet_apprise() -> Any:
    """Return the library, kept from logging: at its lower levels it and its HTTP client write whole URLs."""
    import apprise

    logging.getLogger("apprise").disabled = True
    pool = logging.getLogger("urllib3.connectionpool")
    if pool.level < logging.WARNING:
        pool.setLevel(logging.WARNING)
    return apprise
