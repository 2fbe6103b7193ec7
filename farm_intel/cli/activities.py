"""`farm-intel activities`: plan recurring farm work, see what is due, answer, read the logbook."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.logbook import export_calendar, import_calendar, log, logbook
from farm_intel.cli.output import DAY, check_range, emit, format_option, split_list
from farm_intel.cli.planning import add, edit
from farm_intel.cli.plans import (
    OCCURRENCE_COLUMNS,
    PLAN_COLUMNS,
    check_farms,
    find_plan,
    next_date,
    occurrence_row,
    plan_row,
)
from farm_intel.cli.settling import answer_not_done, assign, dead, done, drop, replay, snooze
from farm_intel.cli.times import WALL, by_option
from farm_intel.domain.activities import OccurrenceState
from farm_intel.domain.errors import BadRequestError


@click.group()
def activities() -> None:
    """Farm work: plans that recur, what falls due of them, answers, the logbook."""


@activities.command("types")
@format_option
def activity_types(*, output_format: str) -> None:
    """List the types of work with their form fields and units; your own come from FARM_INTEL_ACTIVITY_TYPE_FILES."""
    rows = [
        {
            "type": row.slug,
            "name": row.labels.text("en"),
            "fields": ", ".join(
                f"{field.slug} ({'|'.join(field.choices) or field.unit or field.kind.value}"
                f"{', required' if field.required else ''})"
                for field in row.fields.values()
            ),
            "explains": ", ".join(sorted(row.explains.facts)) if row.explains else "",
            "farmos": row.farmos.value,
        }
        for row in container_from_environment().activity_types.list()
    ]
    emit(rows, ("type", "name", "fields", "explains", "farmos"), output_format, empty="There are no types.")


@activities.command("list")
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--all", "include_removed", is_flag=True, help="Removed plans too.")
@format_option
def list_activities(*, farm_ids: tuple[str, ...], include_removed: bool, output_format: str) -> None:
    """List plans with when they fall due next, on the farm's clocks."""
    container = container_from_environment()
    check_farms(container, farm_ids)
    found = container.activities.activities(farm_ids or None, include_removed=include_removed)
    rows = [plan_row(plan, next_date(plan)) for plan in found]
    emit(rows, PLAN_COLUMNS, output_format, empty="No work is planned yet: `farm-intel activities add` plans some.")


@activities.command()
@click.argument("activity")
@format_option
def show(activity: str, *, output_format: str) -> None:
    """Show a plan, its history and its latest occurrences."""
    container = container_from_environment()
    plan = find_plan(container, activity)
    changes = [
        {"at": line.at, "by": line.by, "version": line.version, "change": line.change}
        for line in container.activities.plans.history(plan.activity_id)
    ]
    rows = [occurrence_row(row) for row in container.activities.occurrences(activity_id=plan.activity_id)][-20:]
    whole = plan_row(plan, next_date(plan))
    if output_format != "table":
        emit([whole | {"history": changes, "occurrences": rows}], tuple(whole), output_format, empty="")
        return
    for key, value in whole.items():
        if key != "activity" and value not in (None, "", {}):
            shown = ", ".join(f"{name}={said}" for name, said in value.items()) if isinstance(value, dict) else value
            click.echo(f"{key.replace('_', ' '):12} {shown}")
    click.echo()
    emit(changes, ("at", "by", "version", "change"), "table", empty="")
    click.echo()
    emit(rows, OCCURRENCE_COLUMNS, "table", empty="Nothing has fallen due yet.")


@activities.command()
@click.argument("activity")
@click.option("--note", required=True, help="Why.")
@click.option("--until", type=WALL, help="Until when, on the farm's clocks; default: until it is resumed.")
@by_option
def pause(activity: str, *, note: str, until: datetime | None, by: str) -> None:
    """Skip what falls due from now on, each date with its row and the note."""
    from farm_intel.activities.walltime import to_instant, zone_of

    container = container_from_environment()
    plan = find_plan(container, activity)
    end = to_instant(until, zone_of(plan.schedule.time_zone)) if until else None
    plan = container.activities.plans.pause(plan.activity_id, note=note, by=by, until=end)
    click.echo(f"{plan.title} on farm {plan.farm_id} is paused: {note}")


@activities.command()
@click.argument("activity")
@click.option("--note", default="", help="Why.")
@by_option
def resume(activity: str, *, note: str, by: str) -> None:
    """Let what falls due from now on be done again."""
    container = container_from_environment()
    plan = container.activities.plans.resume(find_plan(container, activity).activity_id, note=note, by=by)
    click.echo(f"{plan.title} on farm {plan.farm_id} goes on")


@activities.command()
@click.argument("activity")
@click.option("--note", default="", help="Why.")
@by_option
def remove(activity: str, *, note: str, by: str) -> None:
    """Let nothing fall due any more; rows and logbook stay."""
    container = container_from_environment()
    plan = container.activities.plans.remove(find_plan(container, activity).activity_id, note=note, by=by)
    click.echo(f"{plan.title} on farm {plan.farm_id} is removed")


@activities.command()
@click.argument("activity")
@click.option("--from", "start", type=DAY, required=True, help="First day, UTC.")
@click.option("--to", "end", type=DAY, required=True, help="Last day, inclusive, UTC.")
@by_option
def backfill(activity: str, *, start: date, end: date, by: str) -> None:
    """Make due what the schedule says of past days that have no row."""
    check_range(start, end)
    container = container_from_environment()
    begin = datetime(start.year, start.month, start.day, tzinfo=UTC)
    stop = datetime(end.year, end.month, end.day, tzinfo=UTC) + timedelta(days=1, microseconds=-1)
    plan = find_plan(container, activity)
    made = container.activities.plans.backfill(plan.activity_id, begin, stop, by=by)
    if made:
        click.echo(f"{made} date{'s' * (made > 1)} made due; `farm-intel pump` works on them")
    else:
        click.echo(
            f"Nothing is missing: from {start} to {end} {plan.title!r} on farm {plan.farm_id} has no past date without "
            f"its row (it starts {plan.schedule.start:%Y-%m-%d %H:%M})."
        )


@activities.command()
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--from", "start", type=DAY, help="First day on the farms' calendars; default: today.")
@click.option("--to", "end", type=DAY, help="Last day, inclusive; default: a week later.")
@format_option
def plan(*, farm_ids: tuple[str, ...], start: date | None, end: date | None, output_format: str) -> None:
    """Print the days' plan: what fell due and what is to come."""
    container = container_from_environment()
    first = start or container.clock.now().date()
    last = end or first + timedelta(days=7)
    check_range(first, last)
    check_farms(container, farm_ids)
    farms = farm_ids or tuple(farm.farm_id for farm in container.farms.list())
    rows = [
        {
            "date": entry.local_date,
            "time": entry.local_time,
            "farm_id": entry.farm_id,
            "title": entry.title,
            "type": entry.type,
            "state": "paused" if entry.paused else entry.state,
            "assignee": entry.assignee,
            "reason": entry.reason,
            "activity": entry.activity_id[:12],
            "due": entry.due_at,
        }
        for entry in container.activities.plan(farms, start=first, end=last)
    ]
    columns = ("date", "time", "farm_id", "title", "state", "assignee", "reason", "activity")
    emit(rows, columns, output_format, empty=f"Nothing is planned from {first} to {last}.")


@activities.command()
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--state", "states", callback=split_list, help="due, running, waiting, done, skipped, failed, expired.")
@click.option("--from", "start", type=DAY, help="First day on the farms' calendars.")
@click.option("--to", "end", type=DAY, help="Last day, inclusive.")
@format_option
def occurrences(
    *, farm_ids: tuple[str, ...], states: tuple[str, ...], start: date | None, end: date | None, output_format: str
) -> None:
    """List what fell due: every date has a row, the skipped and expired ones with the reason."""
    check_range(start, end)
    known = [state.value for state in OccurrenceState]
    if unknown := [state for state in states if state not in known]:
        raise BadRequestError(f"no state {', '.join(unknown)}", hint=f"There are: {', '.join(known)}.")
    container = container_from_environment()
    check_farms(container, farm_ids)
    found = container.activities.occurrences(
        farm_ids=farm_ids or None,
        states=[OccurrenceState(state) for state in states] or None,
        start=start,
        end=end,
    )
    emit(
        [occurrence_row(row) for row in found],
        OCCURRENCE_COLUMNS,
        output_format,
        empty="Nothing of that has fallen due.",
    )


for command in (
    add,
    edit,
    done,
    answer_not_done,
    snooze,
    assign,
    dead,
    replay,
    drop,
    log,
    logbook,
    import_calendar,
    export_calendar,
):
    activities.add_command(command)
