"""How people are reached, put together from settings: texts, channels, speech, the outbox and the streams."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from farm_intel.domain.errors import BadRequestError, NotConfiguredError, PermanentError, UnknownNameError

if TYPE_CHECKING:
    from farm_intel.alerts.subscribing import Subscriptions
    from farm_intel.bootstrap.container import Container
    from farm_intel.notifying.delivering import Delivering
    from farm_intel.notifying.ports import HostedChannel
    from farm_intel.notifying.texts import TemplateRenderer
    from farm_intel.notifying.trying import TryingOut
    from farm_intel.resilience.breaker import CircuitBreaker
    from farm_intel.speech.engines import Engine
    from farm_intel.speech.speaker import Speaker
    from farm_intel.storage.outbox import SqlOutbox
    from farm_intel.storage.speech import SpeechStore
    from farm_intel.storage.streams import SqlStreamStore
    from farm_intel.storage.subscriptions import SqlSubscriptionStore


class Reaching:
    """Texts, channels, speech, outbox and streams of one installation, built on first use."""

    def __init__(self, container: Container) -> None:
        """Keep the installation; nothing is opened yet."""
        self._container = container

    @cached_property
    def outbox(self) -> SqlOutbox:
        """Messages on their way."""
        from farm_intel.storage.outbox import SqlOutbox

        return SqlOutbox(self._container.database)

    @cached_property
    def streams(self) -> SqlStreamStore:
        """The live channel's events and tickets."""
        from farm_intel.storage.streams import SqlStreamStore

        return SqlStreamStore(self._container.database, self._container.clock)

    @cached_property
    def renderer(self) -> TemplateRenderer:
        """Notices to text."""
        from farm_intel.notifying.texts import TemplateRenderer

        return TemplateRenderer(_Names(self._container))

    @cached_property
    def subscription_store(self) -> SqlSubscriptionStore:
        """Who wants to be told, as stored."""
        from farm_intel.storage.subscriptions import SqlSubscriptionStore

        return SqlSubscriptionStore(self._container.database)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        """Who wants to be told."""
        from farm_intel.alerts.subscribing import SubscribingOptions, Subscriptions

        return Subscriptions(
            store=self.subscription_store,
            clock=self._container.clock,
            options=SubscribingOptions(address_checks=self._address_checks()),
        )

    @cached_property
    def channels(self) -> tuple[HostedChannel, ...]:
        """The channels that are set up, stream and speech aside."""
        from farm_intel.delivery.apprise_channel import AppriseChannel
        from farm_intel.delivery.webhooks import WebhookChannel
        from farm_intel.egress.client import EgressClient
        from farm_intel.egress.guard import Allowance

        settings, clock = self._container.settings, self._container.clock
        found: list[HostedChannel] = [
            WebhookChannel(EgressClient(allow=Allowance.of(settings.private_hosts)), clock),
            AppriseChannel(own_hosts=settings.private_hosts),
        ]
        if settings.smtp_host:
            from farm_intel.delivery.mail import Encryption, MailChannel, MailServer

            server = MailServer(
                host=settings.smtp_host,
                port=settings.smtp_port,
                sender=settings.smtp_from,
                user=settings.smtp_user,
                password=settings.smtp_password.get_secret_value(),
                encryption=Encryption(settings.smtp_security),
            )
            found.append(MailChannel(server, clock))
        return tuple(found)

    @cached_property
    def speech_store(self) -> SpeechStore:
        """Rendered audio."""
        from farm_intel.storage.speech import SpeechStore

        settings = self._container.settings
        return SpeechStore(settings.resolved_audio_root, self._container.database, self._container.clock)

    @cached_property
    def engines(self) -> Sequence[Engine]:
        """The speech engines of the settings, best first, installed or not."""
        from farm_intel.speech.speaker import default_engines

        return default_engines(self._container.settings.speech_engines)

    @cached_property
    def speaker(self) -> Speaker:
        """The voice."""
        from farm_intel.speech.normalising import spoken_names
        from farm_intel.speech.speaker import SPEECH_RULE, Speaker

        return Speaker(
            store=self.speech_store,
            breaker=self._container.guarding.breaker(SPEECH_RULE),
            engines=self.engines,
            names=spoken_names((index.name, index.long_name) for index in self._container.registry.list()),
            machine=socket.gethostname(),
        )

    @cached_property
    def delivering(self) -> Delivering:
        """What sends the outbox."""
        from farm_intel.notifying.delivering import Delivering

        return Delivering(self.outbox, self.channels, self.speaker, breaker=self._breaker, clock=self._container.clock)

    @cached_property
    def trying_out(self) -> TryingOut:
        """Sends test messages."""
        from farm_intel.notifying.trying import TryingOut

        return TryingOut(self.outbox, self.channels, self.speaker, renderer=self.renderer, clock=self._container.clock)

    @property
    def _breaker(self) -> CircuitBreaker:
        return self._container.guarding.breaker()

    def _address_checks(self) -> Mapping[str, Callable[[str], None]]:
        """Return the check of each channel's addresses: what could never be sent is refused when it is subscribed."""
        from farm_intel.delivery.apprise_channel import AppriseChannel
        from farm_intel.egress.guard import Allowance, check_url

        allow = Allowance.of(self._container.settings.private_hosts)

        def webhook(address: str) -> None:
            check_url(address, allow=allow)

        apprise = AppriseChannel(own_hosts=self._container.settings.private_hosts).check
        return {"webhook": _as_bad_request(webhook), "apprise": _as_bad_request(apprise)}

    def require_mail(self) -> None:
        """Refuse a subscription to mail where no server is set.

        Raises:
            NotConfiguredError: there is none.

        """
        if not self._container.settings.smtp_host:
            raise NotConfiguredError("no mail server is set", hint="Set FARM_INTEL_SMTP_HOST and FARM_INTEL_SMTP_FROM.")


def _as_bad_request(check: Callable[[str], None]) -> Callable[[str], None]:
    """Return the check for people at a keyboard: what never can be sent to is their mistake."""

    def checked(address: str) -> None:
        try:
            check(address)
        except PermanentError as error:
            raise BadRequestError(error.message, hint=error.hint) from error

    return checked


class _Names:
    """Names for the texts; implements `notifying.texts.Vocabulary`."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def farm_name(self, farm_id: str) -> str | None:
        """Return what people call a farm."""
        try:
            return self._container.farms.get(farm_id).name or None
        except UnknownNameError:
            return None

    def index(self, slug: str) -> tuple[str, str] | None:
        """Return name and long name of an index."""
        try:
            found = self._container.registry.get(slug)
        except UnknownNameError:
            return None
        return found.name, found.long_name

    def activity_type(self, slug: str, language: str) -> str | None:
        """Return what people call a type of activity."""
        try:
            return self._container.activity_types.get(slug).labels.text(language)
        except UnknownNameError:
            return None

    def form_field(self, activity_type: str, field: str, language: str) -> tuple[str, str] | None:
        """Return label and unit of a form field."""
        try:
            found = self._container.activity_types.get(activity_type).fields.get(field)
        except UnknownNameError:
            return None
        return None if found is None else (found.labels.text(language), found.unit)
