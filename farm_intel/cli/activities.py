"""`farm-intel activities`: plan recurring farm work, see what is due, answer, read the logbook."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from farm_intel.bootstrap import Container, container_from_environment
from farm_intel.cli.logbook import export_calendar, import_calendar, log, logbook
from farm_intel.cli.output import DAY, check_range, emit, format_option, split_list
from farm_intel.cli.plans import OCCURRENCE_COLUMNS, PLAN_COLUMNS, find_plan, occurrence_row, parse_form, plan_row
from farm_intel.cli.settling import answer_not_done, assign, dead, done, drop, replay, snooze
from farm_intel.cli.times import SPAN, WALL, by_option
from farm_intel.domain.activities import Activity, Misfire, OccurrenceState, Overlap, Schedule, ScheduleKind
from farm_intel.domain.errors import BadRequestError

_KINDS = (
    ("once", ScheduleKind.ONCE),
    ("every", ScheduleKind.EVERY_DAYS),
    ("cron", ScheduleKind.CRON),
    ("rrule", ScheduleKind.RRULE),
)


_OVERLAP = click.Choice([one.value for one in Overlap])
_MISFIRE = click.Choice([one.value for one in Misfire])


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
                f"{field.slug} ({field.unit or field.kind.value}{', required' if field.required else ''})"
                for field in row.fields.values()
            ),
            "explains": ", ".join(sorted(row.explains.facts)) if row.explains else "",
            "farmos": row.farmos.value,
        }
        for row in container_from_environment().activity_types.list()
    ]
    emit(rows, ("type", "name", "fields", "explains", "farmos"), output_format, empty="There are no types.")


def _schedule_options(command: Any) -> Any:
    options = (
        click.option("--once", type=WALL, help="One date, on the farm's clocks."),
        click.option("--every", type=click.IntRange(1, 3660), help="Every N days from the start."),
        click.option("--cron", help="Five fields as in crontab, on the farm's clocks: '30 6 * * 1'."),
        click.option("--rrule", help="Recurrence rule of RFC 5545: 'FREQ=WEEKLY;BYDAY=MO,TH'."),
        click.option("--start", type=WALL, help="First date and time of day; default: tomorrow at 06:00."),
        click.option("--until", type=WALL, help="Nothing falls due after it."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@activities.command()
@click.option("--farm", "farm_id", required=True)
@click.option("--type", "type_slug", required=True, help="See `farm-intel activities types`.")
@click.option("--title", default="", help="What is to be done; default: the type's name.")
@_schedule_options
@click.option(
    "--set", "values", multiple=True, metavar="FIELD=VALUE", help="Planned value of a form field; repeatable."
)
@click.option("--assignee", default="", help="Who is to do it.")
@click.option(
    "--overlap", type=click.Choice([one.value for one in Overlap]), default=Overlap.SKIP.value, show_default=True
)
@click.option(
    "--misfire", type=click.Choice([one.value for one in Misfire]), default=Misfire.ALL.value, show_default=True
)
@click.option("--catch-up", type=SPAN, default="365d", show_default=True, help="How late a date may still be done.")
@click.option("--no-acknowledge", is_flag=True, help="Nobody has to say that it was done.")
@by_option
def add(*, farm_id: str, type_slug: str, title: str, values: tuple[str, ...], by: str, **rest: Any) -> None:
    """Plan work for a farm."""
    from dataclasses import replace

    from farm_intel.activities.drafts import check_draft, draft_of

    container = container_from_environment()
    farm = container.farms.get(farm_id)
    kind = container.activity_types.get(type_slug)
    schedule = _schedule(container, farm.time_zone, rest)
    draft = draft_of(kind, farm_id=farm_id, title=title, schedule=schedule)
    draft = replace(
        draft,
        form=parse_form(values),
        assignee=rest["assignee"],
        overlap=Overlap(rest["overlap"]),
        misfire=Misfire(rest["misfire"]),
        catchup_window=rest["catch_up"],
        acknowledge=draft.acknowledge and not rest["no_acknowledge"],
    )
    plan = container.activities.plans.create(check_draft(draft, container.activity_types), by=by)
    click.echo(f"{plan.activity_id} planned: {plan.title} on farm {farm_id}")
    emit([plan_row(plan, _next(plan))], PLAN_COLUMNS, "table", empty="")


@activities.command()
@click.argument("activity")
@click.option("--title")
@_schedule_options
@click.option("--set", "values", multiple=True, metavar="FIELD=VALUE", help="Planned value; replaces the whole form.")
@click.option("--assignee")
@click.option("--overlap", type=_OVERLAP)
@click.option("--misfire", type=_MISFIRE)
@by_option
def edit(activity: str, *, values: tuple[str, ...], by: str, **rest: Any) -> None:
    """Change what is to come of a plan; what has fallen due keeps what it was made with."""
    from farm_intel.activities.planning import PlanEdit

    container = container_from_environment()
    plan = find_plan(container, activity)
    given = any(rest[name] is not None for name, _ in _KINDS) or rest["start"] or rest["until"]
    after = container.activities.plans.edit(
        plan.activity_id,
        PlanEdit(
            title=rest["title"],
            schedule=_schedule(container, plan.schedule.time_zone, rest, plan.schedule) if given else None,
            form=parse_form(values) if values else None,
            assignee=rest["assignee"],
            overlap=Overlap(rest["overlap"]) if rest["overlap"] else None,
            misfire=Misfire(rest["misfire"]) if rest["misfire"] else None,
        ),
        by=by,
        version=plan.version,
    )
    emit([plan_row(after, _next(after))], PLAN_COLUMNS, "table", empty="")


@activities.command("list")
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--all", "include_removed", is_flag=True, help="Removed plans too.")
@format_option
def list_activities(*, farm_ids: tuple[str, ...], include_removed: bool, output_format: str) -> None:
    """List plans with when they fall due next, on the farm's clocks."""
    found = container_from_environment().activities.activities(farm_ids or None, include_removed=include_removed)
    rows = [plan_row(plan, _next(plan)) for plan in found]
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
    whole = plan_row(plan, _next(plan))
    if output_format != "table":
        emit([whole | {"history": changes, "occurrences": rows}], tuple(whole), output_format, empty="")
        return
    for key, value in whole.items():
        click.echo(f"{key.replace('_', ' '):12} {value}")
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
    made = container.activities.plans.backfill(find_plan(container, activity).activity_id, begin, stop, by=by)
    click.echo(f"{made} dates made due; `farm-intel pump` works on them")


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
    found = container_from_environment().activities.occurrences(
        farm_ids=farm_ids or None,
        states=[OccurrenceState(state) for state in states] or None,
        start=start,
        end=end,
    )
    emit([occurrence_row(row) for row in found], OCCURRENCE_COLUMNS, output_format, empty="Nothing has fallen due.")


def _schedule(container: Container, time_zone: str, given: dict[str, Any], old: Schedule | None = None) -> Schedule:
    chosen = [(name, kind) for name, kind in _KINDS if given[name] is not None]
    if len(chosen) > 1 or (not chosen and old is None):
        raise BadRequestError("say when: exactly one of --once, --every, --cron and --rrule")
    now = container.clock.now()
    tomorrow = (now + timedelta(days=1)).date()
    start = given["start"] or (old.start if old else datetime(tomorrow.year, tomorrow.month, tomorrow.day, 6))  # noqa: DTZ001 - wall time
    until = given["until"] or (old.until if old else None)
    if not chosen and old is not None:
        return Schedule(kind=old.kind, text=old.text, start=start, until=until, time_zone=time_zone)
    name, kind = chosen[0]
    if kind is ScheduleKind.ONCE:
        wall: datetime = given[name]
        return Schedule(kind=kind, text=wall.isoformat(timespec="minutes"), start=wall, time_zone=time_zone)
    return Schedule(kind=kind, text=str(given[name]), start=start, until=until, time_zone=time_zone)


def _next(plan: Activity) -> datetime | None:
    from farm_intel.activities.recurrence import next_due

    if not plan.active:
        return None
    following = next_due(plan.schedule, plan.high_water)
    return following.due_at if following else None


for command in (
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
