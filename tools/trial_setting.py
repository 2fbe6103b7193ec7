"""Where a trial takes place: the installation, its people, and real servers on this machine."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from farm_intel.api.installation import app_of
from farm_intel.bootstrap import Container
from farm_intel.domain.alerts import Subscription
from farm_intel.simulation.world import WorldOptions
from farm_intel_tests.api.support import served
from farm_intel_tests.delivery.mail_servers import Inbox, mail_server
from farm_intel_tests.egress.servers import Receiver, http_receiver
from tools.trial_people import Letter, LiveClient, letters, verified
from tools.trial_record import Record
from tools.trial_season import Season, TrialClock

TOKEN = "fi_a-token-for-the-trial-only"  # noqa: S105 - lets nobody in anywhere else
FARM = "F003"
ANNA, JUMA, AMINA = "anna@farm.example", "juma@farm.example", "amina@advice.example"
PEOPLE: tuple[dict[str, Any], ...] = (
    {"user_id": "anna", "farm_id": FARM, "channel": "stream", "address": "", "language": "en"},
    {"user_id": "anna", "farm_id": FARM, "channel": "email", "address": ANNA, "language": "en"},
    {"user_id": "juma", "farm_id": FARM, "channel": "email", "address": JUMA, "language": "sw"},
    {
        "user_id": "amina",
        "rule_class": "stress",
        "channel": "email",
        "address": AMINA,
        "language": "fr",
        "audience": "agronomist",
        "quiet_from": "20:00",
        "quiet_until": "06:00",
        "time_zone": "Africa/Nairobi",
    },
)
"""The farmer, her neighbour, and the agronomist, whose quiet hours a critical alert does not keep."""
COOPERATIVE: dict[str, Any] = {"user_id": "cooperative", "rule_class": "stress", "language": "en"}
"""Hears of every farm, by webhook."""


def at_noon(day: date) -> datetime:
    """Return the instant the day is looked at: 12:00 UTC, 15:00 in Nairobi."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What reached people since somebody looked last."""

    events: tuple[dict[str, Any], ...] = ()
    letters: tuple[Letter, ...] = ()
    hooks: tuple[dict[str, Any], ...] = ()
    """Bodies of the webhooks that verified."""
    forged: int = 0
    """Webhooks that did not."""
    told: frozenset[tuple[str, str]] = frozenset()
    """(occasion of an alert, recipient by channel)."""

    def reached(self, occasion: str) -> set[str]:
        """Return who was told of an alert on an occasion, and how."""
        return {recipient for told_of, recipient in self.told if told_of == occasion}


@dataclass(kw_only=True)
class Setting:
    """The stage with everything on it."""

    season: Season
    clock: TrialClock
    record: Record
    anna: LiveClient
    inbox: Inbox
    receiver: Receiver
    secret: str
    """Of the cooperative's webhook."""
    letters_read: int = 0
    hooks_read: int = 0

    @property
    def container(self) -> Container:
        """The installation."""
        return self.season.container

    def news(self, *, live: bool = True) -> News:
        """Return what has arrived since the last time; without `live` the live channel is not read."""
        head = self.container.reaching.streams.heads(["anna"]).get("anna", 0)
        events = self.anna.read_to(head) if live else []
        post = letters(self.inbox, self.letters_read)
        requests = self.receiver.requests[self.hooks_read :]
        self.letters_read += len(post)
        self.hooks_read += len(requests)
        bodies = [verified(request, self.secret, self.clock.now()) for request in requests]
        hooks = [body for body in bodies if body is not None]
        told = [(event["payload"], "anna by WebSocket") for event in events if event["kind"] != "audio"]
        told += [(hook["data"], "cooperative by webhook") for hook in hooks]
        outbox = self.container.reaching.outbox
        told += [(outbox.get(letter.message_id).new.data, f"{_name(letter.to)} by mail") for letter in post]
        return News(
            events=tuple(events),
            letters=tuple(post),
            hooks=tuple(hooks),
            forged=len(bodies) - len(hooks),
            told=frozenset(
                (str(data["occasion"]), recipient)
                for data, recipient in told
                if str(data["subject"]).startswith("alert:")
            ),
        )

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `farm-intel` on the installation in a process of its own."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "farm-intel"), *words],
            env=self.container.settings.child_environment(self.season.home / "dagster"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@contextmanager
def setting(home: Path, options: WorldOptions) -> Iterator[Setting]:
    """Set the stage: servers first, for the installation has to know their ports."""
    clock = TrialClock(at_noon(options.start))
    with mail_server() as inbox, http_receiver() as receiver:
        season = Season(
            home,
            options,
            clock,
            smtp_host="127.0.0.1",
            smtp_port=inbox.port,
            smtp_security="none",
            smtp_from="alerts@farm.example",
            private_hosts=("127.0.0.0/8",),
            api_tokens={hashlib.sha256(TOKEN.encode()).hexdigest(): "anna"},
        )
        secret = _subscribe(season.container, receiver)
        # a voice that has spoken before is loaded, as it is where the pump runs on
        season.container.reaching.speaker.say("Farm Intel is watching.", "en")
        with served(app_of(season.container)) as port:
            anna = LiveClient(base=f"http://127.0.0.1:{port}", token=TOKEN)
            try:
                anna.connect()
                yield Setting(
                    season=season,
                    clock=clock,
                    record=Record(time_zone=ZoneInfo(season.container.farms.get(FARM).time_zone)),
                    anna=anna,
                    inbox=inbox,
                    receiver=receiver,
                    secret=secret,
                )
            finally:
                anna.close()
                season.container.reaching.speaker.close()


def _subscribe(container: Container, receiver: Receiver) -> str:
    """Subscribe everybody and return the webhook's secret, which is told this once."""
    subscriptions = container.reaching.subscriptions
    for person in PEOPLE:
        subscriptions.subscribe(Subscription(subscription_id="", **person))
    hook = Subscription(subscription_id="", channel="webhook", address=receiver.url, **COOPERATIVE)
    return subscriptions.subscribe(hook).secret


def _name(address: str) -> str:
    return address.partition("@")[0]
