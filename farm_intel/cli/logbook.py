"""What was done, and calendars: `farm-intel activities log|logbook|import|export`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.output import DAY, check_range, emit, split_list
from farm_intel.cli.plans import check_farms, parse_form
from farm_intel.cli.times import INSTANT, by_option
from farm_intel.domain.activities import Activity, Schedule
from farm_intel.domain.errors import BadRequestError

if TYPE_CHECKING:
    from farm_intel.activities.drafts import ActivityDraft


@click.command()
@click.option("--farm", "farm_id", required=True)
@click.option("--type", "type_slug", required=True, help="See `farm-intel activities types`.")
@click.option("--title", default="", help="Default: the type's name.")
@click.option("--at", type=INSTANT, help="When it was done (UTC); default: now.")
@click.option("--set", "values", multiple=True, metavar="FIELD=VALUE", help="What was used; repeatable.")
@click.option("--note", default="")
@click.option("--photo", default="", help="Reference to a photo.")
@by_option
def log(*, farm_id: str, type_slug: str, title: str, at: datetime | None, values: tuple[str, ...], **rest: str) -> None:
    """Write down work that nobody planned; it explains what satellites see of it."""
    from farm_intel.activities.logbook import Work

    container = container_from_environment()
    container.farms.get(farm_id)
    kind = container.activity_types.get(type_slug)
    entry = container.activities.logbook.log(
        Work(
            farm_id=farm_id,
            type=type_slug,
            title=title or kind.labels.text("en"),
            done_at=at or container.clock.now(),
            by=rest["by"],
            quantities=parse_form(values, kind),
            note=rest["note"],
            photo=rest["photo"],
        )
    )
    click.echo(f"{entry.entry_id} logged: {entry.title} on farm {farm_id}, {entry.done_at:%Y-%m-%d %H:%M} UTC")


@click.command()
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--from", "start", type=DAY, help="First day, UTC.")
@click.option("--to", "end", type=DAY, help="Last day, inclusive, UTC.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv", "farmos"]),
    default="table",
    show_default=True,
    help="`farmos` is the JSON:API of farmOS 3.",
)
def logbook(*, farm_ids: tuple[str, ...], start: date | None, end: date | None, output_format: str) -> None:
    """Print what was done when, by whom, and what was not done and why."""
    from farm_intel.activities.logbook import to_csv

    check_range(start, end)
    container = container_from_environment()
    check_farms(container, farm_ids)
    book = container.activities.logbook
    entries = book.entries(
        farm_ids=farm_ids or None,
        start=datetime(start.year, start.month, start.day, tzinfo=UTC) if start else None,
        end=datetime(end.year, end.month, end.day, tzinfo=UTC) + timedelta(days=1) if end else None,
    )
    if output_format == "farmos":
        click.echo(book.farmos(entries))
        return
    if output_format == "csv":
        click.echo(to_csv(entries), nl=False)
        return
    rows = [
        {
            "done_at": entry.done_at,
            "farm_id": entry.farm_id,
            "type": entry.type,
            "title": entry.title,
            "done": entry.done,
            "by": entry.by,
            "quantities": dict(entry.quantities),
            "reason": entry.reason,
            "note": entry.note,
            "photo": entry.photo,
            "activity_id": entry.activity_id,
            "event_key": entry.event_key,
            "entry_id": entry.entry_id,
        }
        for entry in entries
    ]
    if output_format == "table":
        rows = [row | {"done": "yes" if row["done"] else "no"} for row in rows]
    columns = ("done_at", "farm_id", "title", "done", "by", "quantities", "reason", "note")
    emit(rows, columns, output_format, empty="The logbook is empty.")


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--farm", "farm_id", required=True)
@click.option("--type", "type_slug", required=True, help="Type of events that name none of ours.")
@click.option("--dry-run", is_flag=True, help="Read and judge the file, change nothing.")
@by_option
def import_calendar(file: Path, *, farm_id: str, type_slug: str, dry_run: bool, by: str) -> None:
    """Plan the events of an iCalendar file; those that cannot be planned are named with the reason, and it exits 1.

    Events that are planned already are left alone, so a file may be imported again.
    """
    from farm_intel.activities.calendars import from_ical

    container = container_from_environment()
    farm = container.farms.get(farm_id)
    drafts, rejected = from_ical(
        file.read_bytes(),
        farm_id=farm_id,
        time_zone=farm.time_zone,
        types=container.activity_types,
        default_type=type_slug,
    )
    known = {_same(plan) for plan in container.activities.activities([farm_id])}
    new = [draft for draft in drafts if _same(draft) not in known]
    planned = 0
    reasons = [f"{event.title or event.uid}: {event.reason}" for event in rejected]
    for draft in new:
        try:
            if dry_run:
                _want_a_date(draft, container.clock.now())
            else:
                container.activities.plans.create(draft, by=by)
            planned += 1
        except BadRequestError as error:
            reasons.append(f"{draft.title}: {error}")
    for reason in reasons:
        click.echo(f"rejected: {reason}", err=True)
    click.echo(
        f"{planned} {'could be ' if dry_run else ''}planned, {len(drafts) - len(new)} planned already, "
        f"{len(reasons)} rejected."
    )
    if reasons:
        raise click.exceptions.Exit(1)


def _same(plan: Activity | ActivityDraft) -> tuple[str, str, Schedule]:
    """Return what makes two plans of a farm the same, so that a file can be imported again."""
    return plan.type, plan.title, plan.schedule


def _want_a_date(draft: ActivityDraft, now: datetime) -> None:
    """Refuse in a trial what would be refused when it is planned."""
    from farm_intel.activities.recurrence import next_due

    if next_due(draft.schedule, now) is None:
        raise BadRequestError(f"{draft.schedule.text} has no date to come")


@click.command("export")
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), required=True, help="FILE.ics")
def export_calendar(*, farm_ids: tuple[str, ...], target: Path) -> None:
    """Write the plans as an iCalendar file."""
    from farm_intel.activities.calendars import to_ical

    container = container_from_environment()
    check_farms(container, farm_ids)
    plans = container.activities.activities(farm_ids or None)
    target.write_bytes(to_ical(plans, now=container.clock.now()))
    click.echo(f"{len(plans)} activities written to {target}")
