"""`farm-intel pump`, `outbox`, `say` and `api`: what runs, what waits to be sent, a voice, and the HTTP interface."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farm_intel.bootstrap import Container, container_from_environment
from farm_intel.cli.output import emit, format_option
from farm_intel.cli.times import by_option
from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import BadRequestError, StoreError, UnknownNameError
from farm_intel.domain.messages import SPEECH, Message, MessageState

if TYPE_CHECKING:
    from farm_intel.bootstrap.pumping import PumpReport

COLUMNS = ("message", "created", "user", "channel", "farm_id", "title", "state", "attempt", "next", "error")
_ALL = 10_000
_LONGEST_USER = 128
"""As subscriptions take."""


@click.command()
@click.option("--watch", is_flag=True, help="Go on until stopped, looking every FARM_INTEL_PUMP_INTERVAL_S.")
@format_option
def pump(*, watch: bool, output_format: str) -> None:
    """Do what is due: dates, work, alerts' steps, messages. The same pass that Dagster's pump runs.

    Safe beside other passes, and after a crash at any point. For a cron of your own: one line a minute.
    """
    container = container_from_environment()
    if not watch:
        _tell(container.pump.run(), output_format)
        return
    interval_s = container.settings.pump_interval_s
    click.echo(f"Looking every {interval_s} s; passes with nothing to do are not shown. Ctrl+C ends it.", err=True)
    while True:
        try:
            report = container.pump.run()
        except StoreError as error:  # a store that is away for a while must not end the watch
            click.echo(f"farm-intel: {error}", err=True)
        else:
            if _did_something(report):
                _tell(report, output_format)
        container.clock.sleep(interval_s)


@click.group()
def outbox() -> None:
    """Messages on their way, and dead letters."""


@outbox.command("list")
@click.option("--state", type=click.Choice([state.value for state in MessageState]), help="In one state; default: all.")
@click.option("--channel", type=click.Choice([SPEECH, "email", "webhook", "apprise"]))
@click.option("--farm", "farm_id", help="Of one farm.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@format_option
def list_messages(
    *, state: str | None, channel: str | None, farm_id: str | None, limit: int, output_format: str
) -> None:
    """List messages, the newest first; addresses and secrets are not shown.

    The live channel needs no outbox: its messages are there at once, and only their speech is listed.
    """
    container = container_from_environment()
    if farm_id is not None:
        container.farms.get(farm_id)
    found = container.reaching.outbox.list(
        state=MessageState(state) if state else None, channel=channel, farm_id=farm_id, limit=limit
    )
    emit([_row(message) for message in found], COLUMNS, output_format, empty="No message.")


@outbox.command("show")
@click.argument("message")
def show_message(message: str) -> None:
    """Show one message with its texts."""
    found = _message(container_from_environment(), message)
    for key, value in _row(found).items():
        if value not in (None, ""):
            click.echo(f"{key:10} {value}")
    text = found.new.text
    click.echo(f"\nshort\n  {text.short}\n\nlong")
    for line in text.long.splitlines():
        click.echo(f"  {line}")
    click.echo(f"\nspoken\n  {text.spoken}")


@outbox.command("replay")
@click.argument("messages", nargs=-1, metavar="[MESSAGE]...")
@click.option("--all", "everything", is_flag=True, help="All dead messages.")
def replay_messages(messages: tuple[str, ...], *, everything: bool) -> None:
    """Let dead messages start anew, with all their attempts."""
    container = container_from_environment()
    store, now = container.reaching.outbox, container.clock.now()
    _each(messages, everything, lambda message: store.replay(message, now=now), "is pending again")


@outbox.command("drop")
@click.argument("messages", nargs=-1, metavar="[MESSAGE]...")
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
@click.option("--language", default="en", show_default=True, help="Language of the text: en, fr, sw, …")
@click.option(
    "--severity",
    type=click.Choice([one.name.lower() for one in Severity]),
    default="warning",
    show_default=True,
    help="Which tone sounds where no engine can speak.",
)
def say(text: str, *, target: Path, language: str, severity: str) -> None:
    """Speak a text into a file, by the first engine that can; units and index names become words."""
    if target.suffix.lower() != ".wav":
        raise BadRequestError(f"{target.name} would hold WAV audio", hint="Name it FILE.wav.")
    if not target.parent.is_dir():
        raise BadRequestError(f"there is no folder {target.parent}", hint="Make it first.")
    speaker = container_from_environment().reaching.speaker
    with closing(speaker):
        audio = speaker.say(text, language, severity=Severity[severity.upper()])
        target.write_bytes(speaker.read(audio))
    click.echo(f"{target}: {audio.duration_s:.1f} s by {audio.engine}")
    if audio.engine == "tone":
        click.echo(
            f"No engine that works speaks {language!r}, so it is a tone. `farm-intel doctor` lists them.", err=True
        )


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
    """Make a token for a user, and print the setting that lets it in; only its hash is kept."""
    container = container_from_environment()
    _check_user(user)
    made = f"fi_{secrets.token_urlsafe(32)}"
    tokens = {**container.settings.api_tokens, sha256(made.encode()).hexdigest(): user}
    click.echo(f"Token of {user}, shown this once: {made}")
    click.echo("It counts once this setting is there and the API is started anew; earlier tokens are in it:")
    click.echo(f"export FARM_INTEL_API_TOKENS='{json.dumps(tokens)}'")
    if not container.reaching.subscriptions.list(user_id=user) and user not in container.settings.api_operators:
        click.echo(
            f"{user} sees the farms subscribed to, so far none: "
            f"`farm-intel alerts subscribe --user {user} --channel stream`.",
            err=True,
        )


@api.command()
@click.argument("user")
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(1, 3600))
def ticket(user: str, *, seconds: int) -> None:
    """Make a ticket that opens the live channel as a user, once: `/v1/stream?ticket=…`."""
    _check_user(user)
    click.echo(container_from_environment().reaching.streams.issue(user, timedelta(seconds=seconds)))


def _check_user(user: str) -> None:
    if not user.strip() or "'" in user or len(user) > _LONGEST_USER:
        raise BadRequestError(
            f"{user[:40]!r} is no user", hint=f"Give 1 to {_LONGEST_USER} characters without quotes, e.g. anna."
        )


def _tell(report: PumpReport, output_format: str) -> None:
    row = {
        "fell due": report.generated,
        "worked on": ", ".join(f"{count} {state}" for state, count in sorted(report.worked.items())) or "none",
        "proposed": report.proposed,
        "alert steps": report.steps,
        "sent": report.sent,
        "to be tried again": report.failed,
        "given up": report.dead,
        "seconds": round(report.seconds, 2),
    }
    emit([row], tuple(row), output_format, empty="")
    for line in (*report.problems, *report.findings):
        click.echo(line, err=True)
    if report.dead:
        click.echo("`farm-intel outbox list --state dead` shows what was given up, and why.", err=True)


def _did_something(report: PumpReport) -> bool:
    done = (report.generated, report.worked, report.proposed, report.steps, report.sent, report.failed, report.dead)
    return any(done) or bool(report.problems or report.findings)


def _message(container: Container, text: str) -> Message:
    """Return the message of an id or of the beginning of one."""
    store = container.reaching.outbox
    found = [one for one in store.list(limit=_ALL) if one.message_id.startswith(text)] if text else []
    if len(found) > 1:
        raise UnknownNameError(f"{len(found)} messages' ids begin with {text!r}", hint="Give more of the id.")
    return found[0] if found else store.get(text)


def _each(messages: tuple[str, ...], everything: bool, act: Callable[[str], object], done: str) -> None:  # noqa: FBT001 - click's flag
    if everything == bool(messages):
        raise BadRequestError(
            "say which: message ids, or --all", hint="`farm-intel outbox list --state dead` lists them."
        )
    container = container_from_environment()
    dead = container.reaching.outbox.list(state=MessageState.DEAD, limit=_ALL) if everything else []
    chosen = tuple(message.message_id for message in dead) or tuple(
        _message(container, text).message_id for text in messages
    )
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
