"""Who is told of what, how and in which language: `farm-intel alerts subscribe|unsubscribe|subscriptions|test`."""

from __future__ import annotations

from typing import Any

import click

from farm_intel.bootstrap import Container, container_from_environment
from farm_intel.cli.output import emit, format_option
from farm_intel.domain.alerts import SUBSCRIBERS, Severity, Subscription
from farm_intel.domain.errors import BadRequestError, NotConfiguredError
from farm_intel.domain.messages import STREAM


@click.command()
@click.option("--user", "user_id", required=True, help="Who: the id that API tokens and answers carry.")
@click.option("--channel", required=True, type=click.Choice([STREAM, "email", "webhook", "apprise"]))
@click.option("--address", default="", help="Mail address, URL, or apprise URL; none for `stream`.")
@click.option("--farm", "farm_id", default="*", show_default=True, help="One farm, or * for all.")
@click.option(
    "--class",
    "rule_class",
    default="*",
    show_default=True,
    help="stress, water, loss, data, weather, activity; * for all.",
)
@click.option("--language", default="en", show_default=True, help="en, fr, sw.")
@click.option(
    "--audience",
    default=SUBSCRIBERS,
    show_default=True,
    help="Group that escalation steps name, e.g. agronomist: told by these steps only.",
)
@click.option(
    "--min-severity",
    type=click.Choice([one.name.lower() for one in Severity]),
    default="info",
    show_default=True,
    help="Nothing below it.",
)
@click.option("--quiet", default="", metavar="HH:MM-HH:MM", help="Nothing but critical alerts in these hours.")
@click.option("--time-zone", default="", help="Of the quiet hours; default: that of the farms.")
@click.option("--silent", is_flag=True, help="No speech.")
def subscribe(*, farm_id: str, min_severity: str, quiet: str, time_zone: str, silent: bool, **rest: Any) -> None:
    """Tell somebody of alerts and of work that is due; the same again changes the subscription.

    \b
    farm-intel alerts subscribe --user anna --channel stream
    farm-intel alerts subscribe --user anna --channel email --address anna@example.org --language fr
    farm-intel alerts subscribe --user juma --channel stream --audience agronomist --min-severity warning
    """  # noqa: D301 - click's mark for lines to be left as they are
    container = container_from_environment()
    zone = time_zone or _zone(container, farm_id, wanted=bool(quiet))
    _check_names(container, rest["rule_class"], rest["language"])
    if rest["channel"] == "email":
        container.reaching.require_mail()
    elif rest["channel"] != STREAM and not rest["address"]:
        raise BadRequestError(f"{rest['channel']} needs an address", hint="Give its URL by --address.")
    begin, _, end = quiet.partition("-")
    made = container.reaching.subscriptions.subscribe(
        Subscription(
            subscription_id="",
            farm_id=farm_id,
            min_severity=Severity[min_severity.upper()],
            quiet_from=begin.strip(),
            quiet_until=end.strip(),
            time_zone=zone,
            speak=not silent,
            **rest,
        )
    )
    farms = "all farms" if made.farm_id == "*" else f"farm {made.farm_id}"
    click.echo(f"{made.subscription_id} {made.user_id} is told of {farms} by {made.channel}")
    if made.secret:
        click.echo(f"The webhook is signed with {made.secret} (Standard Webhooks). It is shown this once.")


@click.command()
@click.argument("subscription")
def unsubscribe(subscription: str) -> None:
    """Stop a subscription."""
    container_from_environment().reaching.subscriptions.unsubscribe(subscription)
    click.echo(f"{subscription} is stopped; what is on its way already still arrives")


@click.command()
@click.option("--user", "user_id", help="One user; default: all.")
@format_option
def subscriptions(*, user_id: str | None, output_format: str) -> None:
    """List who is told; addresses and secrets are not shown."""
    rows = [
        {
            "subscription": one.subscription_id,
            "user": one.user_id,
            "farm": one.farm_id,
            "class": one.rule_class,
            "channel": one.channel,
            "language": one.language,
            "audience": one.audience,
            "from severity": one.min_severity.name.lower(),
            "quiet": f"{one.quiet_from}-{one.quiet_until} {one.time_zone}" if one.quiet_from else "",
            "spoken": one.speak,
        }
        for one in container_from_environment().reaching.subscriptions.list(user_id=user_id)
    ]
    if user_id and not rows:
        click.echo(f"{user_id} is told of nothing.", err=True)
    columns = ("subscription", "user", "farm", "class", "channel", "language", "audience", "from severity", "quiet")
    emit(rows, columns, output_format, empty="Nobody is told of anything yet: `farm-intel alerts subscribe`.")


@click.command("test")
@click.argument("subscription")
@click.option("--farm", "farm_id", help="Which farm the test message is about; default: the first.")
def test_subscription(subscription: str, *, farm_id: str | None) -> None:
    """Send a test message now, whatever the quiet hours, and say what became of it."""
    container = container_from_environment()
    one = container.reaching.subscriptions.get(subscription)
    farm = container.farms.get(farm_id).farm_id if farm_id else _a_farm(container)
    receipt = container.reaching.trying_out.send(one, farm_id=farm)
    if one.channel == STREAM:
        click.echo(f"The test message is on the live channel of {one.user_id}; a connected client has it now.")
    else:
        click.echo(f"{one.channel} took the test message for {one.user_id}: {receipt or 'no receipt'}")


def _zone(container: Container, farm_id: str, *, wanted: bool) -> str:
    """Return the zone of a farm, or of all farms; where they have several, quiet hours need one to be named."""
    if farm_id != "*":
        return container.farms.get(farm_id).time_zone
    zones = sorted({farm.time_zone for farm in container.farms.list()})
    if len(zones) == 1:
        return zones[0]
    if wanted:
        raise BadRequestError("the farms do not tell on which clocks the quiet hours are", hint="Give --time-zone.")
    return "UTC"


def _a_farm(container: Container) -> str:
    farm = next(iter(container.farms.list()), None)
    if farm is None:
        raise NotConfiguredError("there is no farm to write about", hint="`farm-intel farms import FILE` brings some.")
    return farm.farm_id


def _check_names(container: Container, rule_class: str, language: str) -> None:
    """Refuse a class no rule has and a language without texts: nothing, or English, would come for ever."""
    from farm_intel.notifying.texts.words import languages

    classes = sorted({rule.rule_class for rule in container.alerts.table.rules} | {"activity"})
    if rule_class not in {"*", *classes}:
        raise BadRequestError(
            f"no rule is of class {rule_class!r}", hint=f"There are {', '.join(classes)}, or * for all."
        )
    if language not in languages():
        raise BadRequestError(f"there are no texts in {language!r}", hint=f"There are {', '.join(languages())}.")
