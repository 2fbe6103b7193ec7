"""`farm-intel assess`, `states` and `providers`: what is made of all providers' numbers, and how the providers do."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import click

from farm_intel.assessing.texts import languages, state_texts
from farm_intel.bootstrap import Container, container_from_environment
from farm_intel.cli.comparing import assess as run_assessment
from farm_intel.cli.output import DAY, check_range, emit, format_option, split_list
from farm_intel.cli.requests import days_between
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.observations import CoverageDay
from farm_intel.resilience.state import BreakerState


@click.command()
@click.option("--from", "start", type=DAY, help="First solar day; default: the first anything is stored for.")
@click.option("--to", "end", type=DAY, help="Last solar day, inclusive; default: the last.")
def assess(*, start: date | None, end: date | None) -> None:
    """Fuse what all providers saw, smooth it into daily series, and tell seasons and states; reads stored rows only."""
    check_range(start, end)
    container = container_from_environment()
    days = _stored_days(container)
    first, last = start or days[0], end or days[1]
    run_assessment(container, days_between(first, last))
    farms = [farm.farm_id for farm in container.farms.list()]
    states = list(container.assessments.states(farm_ids=farms, start=last, end=last))
    counts: dict[str, int] = {}
    for state in states:
        counts[state.state] = counts.get(state.state, 0) + 1
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    click.echo(f"{len(farms)} farms assessed from {first} to {last}. On the last day: {told or 'nothing known'}.")


@click.command()
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--from", "start", type=DAY, help="First solar day; default: the last that is known.")
@click.option("--to", "end", type=DAY, help="Last solar day, inclusive; default: the last that is known.")
@click.option("--language", default="en", show_default=True, help="Of the texts.")
@format_option
def states(
    *, farm_ids: tuple[str, ...], start: date | None, end: date | None, language: str, output_format: str
) -> None:
    """Print what farms are in, since when, why, and what is advised."""
    check_range(start, end)
    if language not in languages():
        raise BadRequestError(f"no texts in {language!r}", hint=f"There are: {', '.join(languages())}.")
    texts = state_texts(language)
    container = container_from_environment()
    for farm_id in farm_ids:
        container.farms.get(farm_id)
    found = list(container.assessments.states(farm_ids=farm_ids or None, start=start, end=end))
    if start is None and end is None and found:
        newest = max(state.day for state in found)
        found = [state for state in found if state.day == newest]
    rows: list[dict[str, Any]] = [
        {
            "date": state.day,
            "farm_id": state.farm_id,
            "state": state.state,
            "since": state.since,
            "confidence": round(state.confidence, 2),
            "event": state.event or "",
            "interpretation": texts.interpretation(state),
            "action": texts.action(state),
            "reasons": "; ".join(texts.reason(reason) for reason in state.reasons),
        }
        for state in found
    ]
    columns = ("date", "farm_id", "state", "since", "confidence", "event", "action")
    emit(
        rows,
        columns if output_format == "table" else tuple(rows[0]) if rows else columns,
        output_format,
        empty="No state is known yet: `farm-intel assess` tells them.",
    )


@click.command()
@format_option
def providers(*, output_format: str) -> None:
    """Print the providers in use, best first: whether they are set up, what they may still cost, what is down."""
    container = container_from_environment()
    now = datetime.now(UTC)
    budgets = {status.provider: status for status in container.budgets()}
    down: dict[str, list[str]] = {}
    for operation, record in container.breakers():
        if record.state(now) is not BreakerState.CLOSED:
            down.setdefault(operation.provider, []).append(f"{operation.name} at {operation.host}")
    rows = []
    for source in container.sources:
        budget = budgets.get(source.name)
        rows.append(
            {
                "provider": source.name,
                "collection": source.collection,
                "capability": source.capability.value,
                "set up": "no: " + ", ".join(source.missing_settings) if source.missing_settings else "yes",
                "down": "; ".join(down.get(source.name, ())),
                "budget left": f"{budget.remaining:,.1f} of {budget.limit:,.0f} {budget.unit}s"
                if budget is not None
                else "no limit",
            }
        )
    emit(rows, tuple(rows[0]), output_format, empty="")


def _stored_days(container: Container) -> tuple[date, date]:
    calendar: list[CoverageDay] = [
        day for farm in container.farms.list() for day in container.observations.calendar(farm_id=farm.farm_id)
    ]
    if not calendar:
        raise BadRequestError("nothing has been observed yet", hint="`farm-intel backfill` comes first.")
    days = [day.solar_day for day in calendar]
    return min(days), max(days)
