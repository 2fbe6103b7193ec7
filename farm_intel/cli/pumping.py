"""`farm-intel pump`, `outbox`, `say` and `api`: what runs, what waits to be sent, a voice, and the HTTP interface."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.output import emit, format_option
from farm_intel.cli.times import by_option
from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.messages import Message, MessageState

COLUMNS = ("message", "created", "user", "channel", "farm_id", "title", "state", "attempt", "next", "error")


@click.command()
@click.option("--watch", is_flag=True, help="Go on until stopped, looking every FARM_INTEL_PUMP_INTERVAL_S.")
@format_option
def pump(*, watch: bool, output_format: str) -> None:
    """Do what is due: dates, work, alerts' steps, messages. The same pass that Dagster's pump runs.

    Safe beside other passes, and after a crash at any point. For a cron of your own: one line a minute.
    """
    container = container_from_environment()
    while True:
        report = container.pump.run()
        row = {
            "generated": report.generated,
            "worked": ", ".join(f"{count} {state}" for state, count in sorted(report.worked.items())) or "none",
            "proposed": report.proposed,
            "steps": report.steps,
            "sent": report.sent,
            "to be tried again": report.failed,
            "given up": report.dead,
            "seconds": round(report.seconds, 2),
        }
        emit([row], tuple(row), output_format, empty="")
        for line in (*report.problems, *report.findings):
            click.echo(line, err=True)
        if not watch:
            return
        container.clock.sleep(container.settings.pump_interval_s)


@click.group()
def outbox() -> None:
    """Messages on their way, and dead letters."""


@outbox.command("list")
@click.option("--state", type=click.Choice([state.value for state in MessageState]))
@click.option("--channel")
@click.option("--farm", "farm_id")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@format_option
def list_messages(
    *, state: str | None, channel: str | None, farm_id: str | None, limit: int, output_format: str
) -> None:
    """List messages, the newest first; addresses and secrets are not shown."""
    found = container_from_environment().reaching.outbox.list(
        state=MessageState(state) if state else None, channel=channel, farm_id=farm_id, limit=limit
    )
    emit([_row(message) for message in found], COLUMNS, output_format, empty="No message.")


@outbox.command("show")
@click.argument("message")
def show_message(message: str) -> None:
    """Show one message with its texts."""
    found = container_from_environment().reaching.outbox.get(message)
    for key, value in _row(found).items():
        click.echo(f"{key:10} {value if value is not None else ''}")
    click.echo(f"\n{found.new.text.short}\n\n{found.new.text.long}\n\nspoken: {found.new.text.spoken}")


@outbox.command("replay")
@click.argument("messages", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead messages.")
def replay_messages(messages: tuple[str, ...], *, everything: bool) -> None:
    """Let dead messages start anew, with all their attempts."""
    container = container_from_environment()
    store, now = container.reaching.outbox, container.clock.now()
    _each(messages, everything, lambda message: store.replay(message, now=now), "is pending again")


@outbox.command("drop")
@click.argument("messages", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead messages.")
@click.option("--note", required=True, help="Why.")
@by_option
def drop_messages(messages: tuple[str, ...], *, everything: bool, note: str, by: str) -> None:
    """Give messages up for good."""
    store = container_from_environment().reaching.outbox
    _each(messages, everything, lambda message: store.drop(message, by=by, note=note), "is dropped")


@click.command()
@click.argument("text")
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), required=True, help="FILE.wav")
@click.option("--language", default="en", show_default=True)
@click.option("--severity", type=click.Choice([one.name.lower() for one in Severity]), default="warning")
def say(text: str, *, target: Path, language: str, severity: str) -> None:
    """Speak a text into a file, by the first engine that can; units and index names become words."""
    speaker = container_from_environment().reaching.speaker
    audio = speaker.say(text, language, severity=Severity[severity.upper()])
    target.write_bytes(speaker.read(audio))
    speaker.close()
    click.echo(f"{target}: {audio.duration_s:.1f} s by {audio.engine}")


@click.group()
def api() -> None:
    """The HTTP interface: alerts, answers, the live channel."""


@api.command("serve")
@click.option("--quiet", is_flag=True, help="Say nothing where it is served.")
def serve_api(*, quiet: bool) -> None:
    """Serve it on localhost until stopped."""
    from farm_intel.api.installation import app_of
    from farm_intel.api.serving import serve

    container = container_from_environment()
    settings = container.settings
    if not quiet:
        click.echo(f"API          http://{settings.api_host}:{settings.api_port}/v1/health")
    if not settings.api_tokens and not quiet:
        click.echo("Nobody has a token yet, so everything else answers 401: `farm-intel api token USER`.", err=True)
    serve(app_of(container), settings.api_host, settings.api_port)


@api.command()
@click.argument("user")
def token(user: str) -> None:
    """Make a token for a user, and the setting that lets it in."""
    made = f"fi_{secrets.token_urlsafe(32)}"
    click.echo(f"Token of {user}, shown this once: {made}")
    click.echo(f'FARM_INTEL_API_TOKENS=\'{{"{sha256(made.encode()).hexdigest()}": "{user}"}}\'')


@api.command()
@click.argument("user")
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(1, 3600))
def ticket(user: str, *, seconds: int) -> None:
    """Make a ticket that opens the live channel as a user."""
    click.echo(container_from_environment().reaching.streams.issue(user, timedelta(seconds=seconds)))


def _each(messages: tuple[str, ...], everything: bool, act: Callable[[str], object], done: str) -> None:  # noqa: FBT001 - click's flag
    if everything == bool(messages):
        raise BadRequestError(
            "say which: message ids, or --all", hint="`farm-intel outbox list --state dead` lists them."
        )
    store = container_from_environment().reaching.outbox
    chosen = messages or tuple(message.message_id for message in store.list(state=MessageState.DEAD, limit=10_000))
    for message in chosen:
        act(message)
        click.echo(f"{message} {done}")
    if not chosen:
        click.echo("There are no dead messages.")


def _row(message: Message) -> dict[str, Any]:
    new = message.new
    return {
        "message": message.message_id,
        "created": message.created_at,
        "user": new.user_id,
        "channel": new.channel,
        "farm_id": new.farm_id,
        "subject": new.subject,
        "title": new.text.title,
        "language": new.text.language,
        "state": message.state.value,
        "attempt": message.attempt,
        "next": message.next_at if message.state is MessageState.PENDING else None,
        "sent": message.sent_at,
        "error": message.error,
        "receipt": message.receipt,
    }
