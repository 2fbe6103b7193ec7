"""Making and changing plans: `farm-intel activities add|edit`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from farm_intel.bootstrap import Container, container_from_environment
from farm_intel.cli.output import emit
from farm_intel.cli.plans import PLAN_COLUMNS, find_plan, next_date, parse_form, plan_row
from farm_intel.cli.times import MORNING, SPAN, WALL, WALL_END, by_option
from farm_intel.domain.activities import Misfire, Overlap, Schedule, ScheduleKind
from farm_intel.domain.errors import BadRequestError

_KINDS = (
    ("once", ScheduleKind.ONCE),
    ("every", ScheduleKind.EVERY_DAYS),
    ("cron", ScheduleKind.CRON),
    ("rrule", ScheduleKind.RRULE),
)
_OVERLAP = click.Choice([one.value for one in Overlap])
_MISFIRE = click.Choice([one.value for one in Misfire])
_OVERLAP_HELP = "What becomes of a date while an earlier one is not settled."
_MISFIRE_HELP = "Which of the dates that were missed while nothing ran are still done."


def _schedule_options(command: Any) -> Any:
    options = (
        click.option("--once", type=WALL, help="One date, on the farm's clocks; a date alone means 06:00."),
        click.option("--every", type=click.IntRange(1, 3660), help="Every N days, from --start on."),
        click.option("--cron", help="Five fields as in crontab, on the farm's clocks: '30 6 * * 1'."),
        click.option("--rrule", help="Recurrence rule of RFC 5545: 'FREQ=WEEKLY;BYDAY=MO,TH'."),
        click.option("--start", type=WALL, help="First date and time of day; default: tomorrow at 06:00."),
        click.option("--until", type=WALL_END, help="Nothing falls due after it."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.option("--farm", "farm_id", required=True, help="Farm id.")
@click.option("--type", "type_slug", required=True, help="See `farm-intel activities types`.")
@click.option("--title", default="", help="What is to be done; default: the type's name.")
@_schedule_options
@click.option(
    "--set", "values", multiple=True, metavar="FIELD=VALUE", help="Planned value of a form field; repeatable."
)
@click.option("--assignee", default="", help="Who is to do it.")
@click.option("--overlap", type=_OVERLAP, default=Overlap.SKIP.value, show_default=True, help=_OVERLAP_HELP)
@click.option("--misfire", type=_MISFIRE, default=Misfire.ALL.value, show_default=True, help=_MISFIRE_HELP)
@click.option("--catch-up", type=SPAN, default="365d", show_default=True, help="How late a date may still be done.")
@click.option("--no-acknowledge", is_flag=True, help="Nobody has to say that it was done.")
@by_option
def add(*, farm_id: str, type_slug: str, title: str, values: tuple[str, ...], by: str, **rest: Any) -> None:
    """Plan work for a farm, by exactly one of --once, --every, --cron and --rrule.

    \b
    farm-intel activities add --farm F001 --type irrigation --every 3 --set amount_mm=20
    farm-intel activities add --farm F001 --type scouting --cron '30 6 * * 1' --title 'Walk the field'
    """  # noqa: D301 - click's mark for lines to be left as they are
    from farm_intel.activities.drafts import check_draft, draft_of

    container = container_from_environment()
    farm = container.farms.get(farm_id)
    kind = container.activity_types.get(type_slug)
    schedule = _schedule(container, farm.time_zone, rest)
    draft = draft_of(kind, farm_id=farm_id, title=title, schedule=schedule)
    draft = replace(
        draft,
        form=parse_form(values, kind),
        assignee=rest["assignee"],
        overlap=Overlap(rest["overlap"]),
        misfire=Misfire(rest["misfire"]),
        catchup_window=rest["catch_up"],
        acknowledge=draft.acknowledge and not rest["no_acknowledge"],
    )
    plan = container.activities.plans.create(check_draft(draft, container.activity_types), by=by)
    click.echo(f"{plan.activity_id} planned: {plan.title} on farm {farm_id}")
    emit([plan_row(plan, next_date(plan))], PLAN_COLUMNS, "table", empty="")


@click.command()
@click.argument("activity")
@click.option("--title", help="What is to be done.")
@_schedule_options
@click.option("--set", "values", multiple=True, metavar="FIELD=VALUE", help="Planned value; replaces the whole form.")
@click.option("--assignee", help="Who is to do it; '' for nobody.")
@click.option("--overlap", type=_OVERLAP, help=_OVERLAP_HELP)
@click.option("--misfire", type=_MISFIRE, help=_MISFIRE_HELP)
@click.option("--catch-up", type=SPAN, help="How late a date may still be done.")
@by_option
def edit(activity: str, *, values: tuple[str, ...], by: str, **rest: Any) -> None:
    """Change what is to come of a plan; what has fallen due keeps what it was made with."""
    from farm_intel.activities.planning import PlanEdit

    container = container_from_environment()
    plan = find_plan(container, activity)
    given = any(rest[name] is not None for name in (*(name for name, _ in _KINDS), "start", "until"))
    change = PlanEdit(
        title=rest["title"],
        schedule=_schedule(container, plan.schedule.time_zone, rest, plan.schedule) if given else None,
        form=parse_form(values, container.activity_types.get(plan.type)) if values else None,
        assignee=rest["assignee"],
        catchup_window=rest["catch_up"],
        overlap=Overlap(rest["overlap"]) if rest["overlap"] else None,
        misfire=Misfire(rest["misfire"]) if rest["misfire"] else None,
    )
    if not change.changes():
        raise BadRequestError(
            f"nothing is to be changed of {plan.title!r} on farm {plan.farm_id}",
            hint="Say what: `farm-intel activities edit --help` lists it.",
        )
    after = container.activities.plans.edit(plan.activity_id, change, by=by, version=plan.version)
    emit([plan_row(after, next_date(after))], PLAN_COLUMNS, "table", empty="")


def _schedule(container: Container, time_zone: str, given: dict[str, Any], old: Schedule | None = None) -> Schedule:
    """Return the schedule of the options; what they do not say stays as it was."""
    chosen = [(name, kind) for name, kind in _KINDS if given[name] is not None]
    if len(chosen) > 1 or (not chosen and old is None):
        said = " and ".join(f"--{name}" for name, _ in chosen) or "none of them"
        raise BadRequestError(
            f"the dates are given by exactly one of --once, --every, --cron and --rrule, not by {said}",
            hint="E.g. --every 3, or --cron '30 6 * * 1' for Mondays at 06:30.",
        )
    start: datetime = given["start"] or (old.start if old else _tomorrow(container, time_zone))
    until = given["until"] or (old.until if old else None)
    if chosen:
        name, kind = chosen[0]
        text = str(given[name])
    else:
        kind, text = (old.kind, old.text) if old else (ScheduleKind.ONCE, "")
    if kind is not ScheduleKind.ONCE:
        return Schedule(kind=kind, text=text, start=start, until=until, time_zone=time_zone)
    wall: datetime = given["once"] or start  # a single date that starts at another time is that other date
    return Schedule(kind=kind, text=wall.isoformat(timespec="minutes"), start=wall, time_zone=time_zone)


def _tomorrow(container: Container, time_zone: str) -> datetime:
    """Return tomorrow morning as a wall time of a zone."""
    return datetime.combine(container.clock.now().astimezone(ZoneInfo(time_zone)).date() + timedelta(days=1), MORNING)
