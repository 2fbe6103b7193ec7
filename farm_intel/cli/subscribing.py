"""Who is told of what, how and in which language: `farm-intel alerts subscribe|unsubscribe|subscriptions|test`."""

from __future__ import annotations

from typing import Any

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.output import emit, format_option
from farm_intel.domain.alerts import Severity, Subscription


@click.command()
@click.option("--user", "user_id", required=True)
@click.option("--channel", required=True, type=click.Choice(["stream", "email", "webhook", "apprise"]))
@click.option("--address", default="", help="Mail address, URL, or apprise URL; none for `stream`.")
@click.option("--farm", "farm_id", default="*", show_default=True, help="One farm, or * for all.")
@click.option("--class", "rule_class", default="*", show_default=True, help="stress, water, loss, data, activity, …")
@click.option("--language", default="en", show_default=True, help="en, fr, sw.")
@click.option("--audience", default="subscribers", show_default=True, help="Group that escalation steps are for.")
@click.option(
    "--min-severity", type=click.Choice([one.name.lower() for one in Severity]), default="info", show_default=True
)
@click.option("--quiet", default="", metavar="HH:MM-HH:MM", help="Nothing but critical alerts in these hours.")
@click.option("--time-zone", default="", help="Of the quiet hours; default: that of the farm, or UTC.")
@click.option("--silent", is_flag=True, help="No speech.")
def subscribe(*, farm_id: str, min_severity: str, quiet: str, time_zone: str, silent: bool, **rest: Any) -> None:
    """Tell somebody of alerts and of work that is due."""
    container = container_from_environment()
    zone = container.farms.get(farm_id).time_zone if farm_id != "*" else "UTC"
    if rest["channel"] == "email":
        container.reaching.require_mail()
    begin, _, end = quiet.partition("-")
    made = container.reaching.subscriptions.subscribe(
        Subscription(
            subscription_id="",
            farm_id=farm_id,
            min_severity=Severity[min_severity.upper()],
            quiet_from=begin.strip(),
            quiet_until=end.strip(),
            time_zone=time_zone or zone,
            speak=not silent,
            **rest,
        )
    )
    click.echo(f"{made.subscription_id} {made.user_id} is told by {made.channel}")
    if made.secret:
        click.echo(f"The webhook is signed with {made.secret} (Standard Webhooks). It is shown this once.")


@click.command()
@click.argument("subscription")
def unsubscribe(subscription: str) -> None:
    """Stop a subscription."""
    container_from_environment().reaching.subscriptions.unsubscribe(subscription)
    click.echo(f"{subscription} is stopped")


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
    columns = ("subscription", "user", "farm", "class", "channel", "language", "audience", "from severity", "quiet")
    emit(rows, columns, output_format, empty="Nobody is told of anything yet: `farm-intel alerts subscribe`.")


@click.command("test")
@click.argument("subscription")
@click.option("--farm", "farm_id", help="Which farm the test message is about; default: the first.")
def test_subscription(subscription: str, *, farm_id: str | None) -> None:
    """Send a test message now and say what became of it."""
    container = container_from_environment()
    one = container.reaching.subscriptions.get(subscription)
    farm = farm_id or next((farm.farm_id for farm in container.farms.list()), "test")
    click.echo(container.reaching.trying_out.send(one, farm_id=farm))
