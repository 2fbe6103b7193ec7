"""Answers and dead letters: `farm-intel activities done|not-done|snooze|assign|dead|replay|drop`."""

from __future__ import annotations

from datetime import date, timedelta

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.output import emit, format_option
from farm_intel.cli.plans import OCCURRENCE_COLUMNS, find_occurrence, occurrence_row, parse_form, tell
from farm_intel.cli.times import DUE, SPAN, by_option
from farm_intel.domain.activities import Answer, OccurrenceState

_DEAD = (OccurrenceState.FAILED,)
due_option = click.option(
    "--due", type=DUE, help="Which date, on the farm's calendar or UTC; default: the only one that is open."
)


@click.command()
@click.argument("activity")
@due_option
@click.option(
    "--set", "values", multiple=True, metavar="FIELD=VALUE", help="What was really used; default: as planned."
)
@click.option("--note", default="", help="Goes into the record.")
@click.option("--photo", default="", help="Reference to a photo.")
@by_option
def done(activity: str, *, due: date | None, values: tuple[str, ...], note: str, photo: str, by: str) -> None:
    """Say that work was done."""
    container = container_from_environment()
    row = find_occurrence(container, activity, due)
    used = parse_form(values, container.activity_types.get(row.type))
    answer = Answer(done=True, by=by, at=container.clock.now(), quantities=used, note=note, photo=photo)
    tell(container.activities.answer(row.activity_id, row.due_at, answer))


@click.command("not-done")
@click.argument("activity")
@due_option
@click.option("--reason", required=True, help="Why not.")
@click.option("--note", default="", help="Goes into the record.")
@by_option
def answer_not_done(activity: str, *, due: date | None, reason: str, note: str, by: str) -> None:
    """Say that work was not done, and why."""
    container = container_from_environment()
    row = find_occurrence(container, activity, due)
    answer = Answer(done=False, by=by, at=container.clock.now(), reason=reason, note=note)
    tell(container.activities.answer(row.activity_id, row.due_at, answer))


@click.command()
@click.argument("activity")
@click.option("--for", "span", type=SPAN, required=True, help="How long.")
@due_option
@click.option("--note", default="", help="Goes into the record.")
@by_option
def snooze(activity: str, *, span: timedelta, due: date | None, note: str, by: str) -> None:
    """Be reminded again later."""
    container = container_from_environment()
    row = find_occurrence(container, activity, due)
    until = container.clock.now() + span
    tell(container.activities.answering.snooze(row.activity_id, row.due_at, until=until, by=by, note=note))


@click.command()
@click.argument("activity")
@click.option("--to", "person", required=True, help="Who is to do it.")
@due_option
@by_option
def assign(activity: str, *, person: str, due: date | None, by: str) -> None:
    """Give one occurrence to somebody."""
    container = container_from_environment()
    row = find_occurrence(container, activity, due)
    container.activities.answering.assign(row.activity_id, row.due_at, to=person, by=by)
    click.echo(f"{row.title} on farm {row.farm_id}, {row.local_date}: {person}")


@click.command()
@format_option
def dead(*, output_format: str) -> None:
    """List what was given up after the last attempt; it stays until it is replayed or dropped."""
    rows = [occurrence_row(row) for row in container_from_environment().activities.answering.dead_letters()]
    emit(rows, (*OCCURRENCE_COLUMNS, "error"), output_format, empty="There are no dead letters.")


@click.command()
@click.argument("activity")
@due_option
@by_option
def replay(activity: str, *, due: date | None, by: str) -> None:
    """Try a dead letter again, with all its attempts."""
    container = container_from_environment()
    row = find_occurrence(container, activity, due, _DEAD)
    tell(container.activities.answering.replay(row.activity_id, row.due_at, by=by))


@click.command()
@click.argument("activity")
@click.option("--note", required=True, help="Why.")
@due_option
@by_option
def drop(activity: str, *, note: str, due: date | None, by: str) -> None:
    """Give a dead letter up for good."""
    container = container_from_environment()
    row = find_occurrence(container, activity, due, _DEAD)
    tell(container.activities.answering.drop(row.activity_id, row.due_at, note=note, by=by))
