"""Who is told of what: subscriptions checked before they are stored, so that a notice never fails on one of them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from farm_intel.alerts.ports import SubscriptionStore
from farm_intel.domain.alerts import Subscription
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.messages import STREAM
from farm_intel.domain.ports import Clock

type AddressCheck = Callable[[str], None]
"""Raises BadRequestError where an address cannot be used, e.g. the SSRF guard."""

EMAIL = "email"
WEBHOOK = "webhook"

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_MAIL = re.compile(
    r"[^\s@<>,;:\"\\()\[\]]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9-]{2,63}"
)
"""RFC 5321 local part without quoting, at a host name; one mailbox only, so no header can be smuggled in."""
_LONGEST_MAIL = 254
_SECRET_PREFIX = "whsec_"  # noqa: S105 # nosec B105 - the prefix Standard Webhooks gives secrets
_SECRET_BYTES = range(24, 65)
_LENGTHS: Mapping[str, int] = {"user_id": 128, "farm_id": 64, "rule_class": 32, "language": 16, "audience": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribingOptions:
    """What a subscription may name."""

    languages: frozenset[str] = frozenset()
    """Languages there are texts in; empty for any: those without texts are told in English."""
    address_checks: Mapping[str, AddressCheck] = field(default_factory=dict)
    """Channel -> check of its addresses; with `stream` and `email` these are the channels there are."""


class Subscriptions:
    """Subscribes and unsubscribes users."""

    def __init__(self, *, store: SubscriptionStore, clock: Clock, options: SubscribingOptions) -> None:
        self._store = store
        self._clock = clock
        self._options = options

    def subscribe(self, draft: Subscription) -> Subscription:
        """Store a subscription and return it with its id; the same user, farm, class, channel and address replace it.

        A webhook without a secret gets a new one, which is in what is returned and nowhere else.

        Args:
            draft: its id and time of making are ignored.

        Raises:
            BadRequestError: something cannot be used; the message never holds address or secret.

        """
        self._check(draft)
        secret = draft.secret
        identifier = _identifier(draft)
        if draft.channel == WEBHOOK and not secret:
            secret = self._kept_secret(draft.user_id, identifier) or _new_secret()
        subscription = replace(
            draft, subscription_id=identifier, secret=secret, active=True, created_at=self._clock.now()
        )
        self._store.save(subscription)
        return subscription

    def unsubscribe(self, subscription_id: str) -> None:
        """Stop a subscription.

        Raises:
            UnknownNameError: there is none of that id.

        """
        self._store.deactivate(subscription_id)

    def get(self, subscription_id: str) -> Subscription:
        """Return one subscription.

        Raises:
            UnknownNameError: there is none of that id.

        """
        return self._store.get(subscription_id)

    def list(self, *, user_id: str | None = None) -> Sequence[Subscription]:
        """Return the active subscriptions of one user or of all, in the order they were made."""
        return self._store.list(user_id=user_id)

    def for_farm(self, farm_id: str) -> Sequence[Subscription]:
        """Return the active subscriptions a farm's notices may reach."""
        return self._store.for_farm(farm_id)

    def _kept_secret(self, user_id: str, identifier: str) -> str:
        """Return the secret a webhook has already: its receiver knows no other."""
        known = self._store.list(user_id=user_id, include_inactive=True)
        return next((one.secret for one in known if one.subscription_id == identifier), "")

    def _check(self, draft: Subscription) -> None:
        for name, longest in _LENGTHS.items():
            value = getattr(draft, name)
            if not value.strip() or len(value) > longest:
                raise BadRequestError(f"{name} is empty or too long", hint=f"Give 1 to {longest} characters.")
        self._check_language(draft.language)
        _check_hours(draft)
        self._check_address(draft)
        if draft.secret:
            _check_secret(draft)

    def _check_language(self, language: str) -> None:
        known = self._options.languages
        if not _LANGUAGE.fullmatch(language) or (known and language not in known):
            raise BadRequestError(
                f"the language {language!r} is not known",
                hint=f"There are {', '.join(sorted(known))}." if known else "Write it like en, sw or fr.",
            )

    def _check_address(self, draft: Subscription) -> None:
        own = {STREAM: _check_stream, EMAIL: _check_mail}
        if draft.channel in own:
            own[draft.channel](draft.address)
            return
        check = self._options.address_checks.get(draft.channel)
        if check is None:
            known = ", ".join(sorted({*own, *self._options.address_checks}))
            raise BadRequestError(f"there is no channel {draft.channel!r}", hint=f"There are {known}.")
        try:
            check(draft.address)
        except BadRequestError as error:
            if draft.address and draft.address in f"{error}":
                # an address may carry a password: whoever wrote the check may not have thought of it
                raise BadRequestError(
                    f"the address of the {draft.channel} subscription cannot be used", hint="Check how it is written."
                ) from None
            raise


def _check_stream(address: str) -> None:
    if address:
        raise BadRequestError("a stream has no address", hint="Leave the address empty.")


def _check_mail(address: str) -> None:
    if len(address) > _LONGEST_MAIL or not _MAIL.fullmatch(address):
        raise BadRequestError("this is no e-mail address", hint="Write one mailbox like ama@example.org.")


def _check_hours(draft: Subscription) -> None:
    for name in ("quiet_from", "quiet_until"):
        value = getattr(draft, name)
        if value and not _TIME.fullmatch(value):
            raise BadRequestError(f"{name} = {value!r} is no time of day", hint="Write it like 21:00.")
    if bool(draft.quiet_from) != bool(draft.quiet_until):
        raise BadRequestError("quiet hours need a beginning and an end", hint="Give both, or neither.")
    try:
        ZoneInfo(draft.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadRequestError(
            f"the time zone {draft.time_zone!r} is not known", hint="Write it like Africa/Nairobi."
        ) from error


def _check_secret(draft: Subscription) -> None:
    """Refuse secrets that Standard Webhooks does not have: `whsec_` and 24 to 64 bytes as base64."""
    if draft.channel != WEBHOOK:
        raise BadRequestError(f"a {draft.channel} subscription has no secret", hint="Leave the secret empty.")
    try:
        raw = base64.b64decode(draft.secret.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:
        raw = b""
    if not draft.secret.startswith(_SECRET_PREFIX) or len(raw) not in _SECRET_BYTES:
        raise BadRequestError(
            "the webhook's secret cannot be used",
            hint="Give whsec_ and 24 to 64 bytes in base64, or none for a new one.",
        )


def _new_secret() -> str:
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _identifier(draft: Subscription) -> str:
    parts = (draft.user_id, draft.farm_id, draft.rule_class, draft.channel, draft.address)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
