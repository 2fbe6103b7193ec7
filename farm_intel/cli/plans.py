"""Finding and printing plans and occurrences: what the `activities` commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from farm_intel.bootstrap import Container
from farm_intel.domain.activities import Activity, FormValue, Occurrence, OccurrenceState
from farm_intel.domain.errors import BadRequestError, UnknownNameError

if TYPE_CHECKING:
    from farm_intel.activities.types import ActivityType, FormField

PLAN_COLUMNS = ("activity", "farm_id", "type", "title", "schedule", "next", "assignee", "state")
OCCURRENCE_COLUMNS = ("activity", "due", "farm_id", "title", "local", "state", "reason", "assignee", "attempt")
OPEN = (OccurrenceState.DUE, OccurrenceState.RUNNING, OccurrenceState.WAITING)
_NAMED = 5
"""Candidates a message names at most."""


def check_farms(container: Container, farm_ids: Sequence[str]) -> None:
    """Refuse farms that do not exist, which would otherwise look like an empty answer.

    Raises:
        UnknownNameError: names the first one.

    """
    for farm_id in farm_ids:
        container.farms.get(farm_id)


def next_date(plan: Activity) -> datetime | None:
    """Return when a plan falls due next, UTC; None where it is removed or nothing is left."""
    from farm_intel.activities.recurrence import next_due

    if not plan.active or plan.event_key:
        return None
    following = next_due(plan.schedule, plan.high_water)
    return following.due_at if following else None


def find_plan(container: Container, text: str) -> Activity:
    """Return the plan of an id or of the beginning of one.

    Raises:
        UnknownNameError: there is none, or several.

    """
    found = [one for one in container.activities.activities(include_removed=True) if one.activity_id.startswith(text)]
    exact = [one for one in found if one.activity_id == text]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise UnknownNameError(
            f"no activity's id begins with {text!r}", hint="`farm-intel activities list` shows them."
        )
    several = ", ".join(f"{one.activity_id[:12]} ({one.title}, {one.farm_id})" for one in found[:_NAMED])
    raise UnknownNameError(
        f"{len(found)} activities' ids begin with {text!r}: {several}{' …' * (len(found) > _NAMED)}",
        hint="Give more of the id.",
    )


def find_occurrence(
    container: Container, text: str, due: date | None, states: Sequence[OccurrenceState] = OPEN
) -> Occurrence:
    """Return the occurrence of a plan at a moment or on a local day; without one the only one in these states.

    Raises:
        UnknownNameError: there is no such plan or occurrence.
        BadRequestError: no due time, and not exactly one to choose from.

    """
    plan = find_plan(container, text)
    if isinstance(due, datetime):
        return container.activities.occurrence(plan.activity_id, due)
    found = container.activities.occurrences(
        activity_id=plan.activity_id, states=None if due else states, start=due, end=due
    )
    if len(found) == 1:
        return found[0]
    what = f"{plan.title!r} on farm {plan.farm_id}"
    if not found:
        wanted = f"on {due}" if due else f"that is {' or '.join(states)}"
        raise BadRequestError(
            f"{what} has no occurrence {wanted}",
            hint=f"`farm-intel activities show {plan.activity_id[:12]}` lists those there are; work that nobody "
            "planned goes into the logbook: `farm-intel activities log`.",
        )
    dates = ", ".join(f"{row.due_at:%Y-%m-%dT%H:%MZ} ({row.state.value})" for row in found[-_NAMED:])
    raise BadRequestError(f"{what} has {len(found)} to choose from: {dates}", hint="Say which by --due.")


def parse_form(pairs: Sequence[str], kind: ActivityType) -> dict[str, FormValue]:
    """Return `field=value` pairs as values of the fields of a type; unknown fields are left for the form to refuse.

    Raises:
        BadRequestError: one is no pair.

    """
    values: dict[str, FormValue] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise BadRequestError(f"{pair!r} is no value", hint="Write it as field=value, e.g. amount_mm=20.")
        field = kind.fields.get(name.strip())
        values[name.strip()] = text.strip() if field is None else _value(text.strip(), field)
    return values


def plan_row(plan: Activity, upcoming: datetime | None) -> dict[str, Any]:
    """Return a plan for printing; `upcoming` is when it falls due next."""
    zone = ZoneInfo(plan.schedule.time_zone)
    state = "removed" if not plan.active else "over" if upcoming is None else "paused" if plan.paused else "active"
    return {
        "activity": plan.activity_id[:12],
        "activity_id": plan.activity_id,
        "farm_id": plan.farm_id,
        "type": plan.type,
        "title": plan.title,
        "schedule": f"{plan.schedule.kind.value} {plan.schedule.text}".strip(),
        "start": plan.schedule.start.isoformat(timespec="minutes"),
        "until": plan.schedule.until.isoformat(timespec="minutes") if plan.schedule.until else None,
        "time_zone": plan.schedule.time_zone,
        "next": f"{upcoming.astimezone(zone):%Y-%m-%d %H:%M}" if upcoming else None,
        "form": dict(plan.form),
        "assignee": plan.assignee,
        "overlap": plan.overlap.value,
        "misfire": plan.misfire.value,
        "state": state,
        "pause_note": plan.pause_note,
        "version": plan.version,
        "event_key": plan.event_key,
    }


def occurrence_row(row: Occurrence) -> dict[str, Any]:
    """Return an occurrence for printing."""
    return {
        "activity": row.activity_id[:12],
        "activity_id": row.activity_id,
        "due": f"{row.due_at:%Y-%m-%dT%H:%M:%SZ}",
        "farm_id": row.farm_id,
        "type": row.type,
        "title": row.title,
        "local": f"{row.local_date} {row.local_time}",
        "time_zone": row.time_zone,
        "state": row.state.value,
        "reason": row.reason,
        "assignee": row.assignee,
        "attempt": row.attempt,
        "form": dict(row.form),
        "answer_by": row.acknowledge_by,
        "answer": _answer(row),
        "error": row.error,
    }


def tell(row: Occurrence) -> None:
    """Print what an occurrence is now."""
    reason = f": {row.reason}" if row.reason else ""
    click.echo(f"{row.title} on farm {row.farm_id}, {row.local_date} {row.local_time}: {row.state.value}{reason}")


def _answer(row: Occurrence) -> Mapping[str, Any] | None:
    if row.answer is None:
        return None
    return {
        "done": row.answer.done,
        "by": row.answer.by,
        "at": row.answer.at,
        "reason": row.answer.reason,
        "quantities": dict(row.answer.quantities),
        "note": row.answer.note,
        "photo": row.answer.photo,
    }


def _value(text: str, field: FormField) -> FormValue:
    """Read a text as the field takes it; what it cannot be stays text, and the form says what is wanted.

    By the field's kind and not by looks: `batch=20451` and `product=no` are texts.
    """
    if field.kind == "boolean":
        return _BOOLEANS.get(text.lower(), text)
    if field.kind == "number":
        try:
            return float(text)
        except ValueError:
            return text
    return text


_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
