"""Finding and printing plans and occurrences: what the `activities` commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from farm_intel.bootstrap import Container
from farm_intel.domain.activities import Activity, FormValue, Occurrence, OccurrenceState
from farm_intel.domain.errors import BadRequestError, UnknownNameError

PLAN_COLUMNS = ("activity", "farm_id", "type", "title", "schedule", "next", "assignee", "state")
OCCURRENCE_COLUMNS = ("activity", "due", "farm_id", "title", "local", "state", "reason", "assignee", "attempt")
OPEN = (OccurrenceState.DUE, OccurrenceState.RUNNING, OccurrenceState.WAITING)


def find_plan(container: Container, text: str) -> Activity:
    """Return the plan of an id or of the beginning of one.

    Raises:
        UnknownNameError: there is none, or several.

    """
    found = [one for one in container.activities.activities(include_removed=True) if one.activity_id.startswith(text)]
    exact = [one for one in found if one.activity_id == text]
    if len(exact or found) == 1:
        return (exact or found)[0]
    several = ", ".join(one.activity_id[:12] for one in found[:5])
    raise UnknownNameError(
        f"{len(found)} activities begin with {text!r}" + (f": {several}" if found else ""),
        hint="`farm-intel activities list` shows them.",
    )


def find_occurrence(
    container: Container, text: str, due_at: datetime | None, states: Sequence[OccurrenceState] = OPEN
) -> Occurrence:
    """Return the occurrence of a plan at a due time; without one the only one that is in these states.

    Raises:
        UnknownNameError: there is no such plan or occurrence.
        BadRequestError: no due time, and not exactly one to choose from.

    """
    plan = find_plan(container, text)
    if due_at is not None:
        return container.activities.occurrence(plan.activity_id, due_at)
    found = container.activities.occurrences(activity_id=plan.activity_id, states=states)
    if len(found) == 1:
        return found[0]
    dates = ", ".join(f"{row.due_at:%Y-%m-%dT%H:%MZ} ({row.state.value})" for row in found[-5:])
    raise BadRequestError(
        f"{plan.title!r} on farm {plan.farm_id} has {len(found)} occurrences to choose from"
        + (f": {dates}" if dates else ""),
        hint="Give --due; `farm-intel activities occurrences` shows them.",
    )


def parse_form(pairs: Sequence[str]) -> dict[str, FormValue]:
    """Return `field=value` pairs as values: numbers, true and false, text.

    Raises:
        BadRequestError: one is no pair.

    """
    values: dict[str, FormValue] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise BadRequestError(f"{pair!r} is no value", hint="Write it as field=value, e.g. amount_mm=20.")
        values[name.strip()] = _value(text.strip())
    return values


def plan_row(plan: Activity, upcoming: datetime | None) -> dict[str, Any]:
    """Return a plan for printing; `upcoming` is when it falls due next."""
    zone = ZoneInfo(plan.schedule.time_zone)
    state = "removed" if not plan.active else "paused" if plan.paused else "active"
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


def _value(text: str) -> FormValue:
    if text.lower() in {"true", "yes"}:
        return True
    if text.lower() in {"false", "no"}:
        return False
    try:
        return float(text)
    except ValueError:
        return text
