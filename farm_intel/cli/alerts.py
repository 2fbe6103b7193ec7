"""`farm-intel alerts`: what the rules found, who looks after it, who is told."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import click

from farm_intel.bootstrap import Container, container_from_environment
from farm_intel.cli.evidence import show_evidence, show_history
from farm_intel.cli.output import DAY, check_range, emit, format_option, split_list
from farm_intel.cli.plans import check_farms
from farm_intel.cli.subscribing import subscribe, subscriptions, test_subscription, unsubscribe
from farm_intel.cli.times import SPAN, by_option
from farm_intel.domain.alerts import LIVE, Alert, AlertState
from farm_intel.domain.errors import BadRequestError, UnknownNameError

COLUMNS = ("alert", "farm_id", "rule", "severity", "state", "opened", "value", "threshold", "next", "by")
_ALL = 10_000
"""More alerts than anybody looks at."""


@click.group()
def alerts() -> None:
    """Alerts: what the rules found, and what became of it."""


@alerts.command("list")
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--state", "states", callback=split_list, help="open, notified, escalated, acknowledged, snoozed, …")
@click.option("--rule", help="Slug of one rule.")
@click.option("--since", type=DAY, help="Opened on this day or later.")
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@format_option
def list_alerts(
    *, farm_ids: tuple[str, ...], states: tuple[str, ...], everything: bool, output_format: str, **rest: Any
) -> None:
    """List alerts, the latest opened first; without --state or --all those that are live."""
    known = {state.value: state for state in AlertState}
    if unknown := [state for state in states if state not in known]:
        raise BadRequestError(f"no state {', '.join(unknown)}", hint=f"There are: {', '.join(known)}.")
    wanted = [known[state] for state in states] or ([] if everything else sorted(LIVE))
    container = container_from_environment()
    check_farms(container, farm_ids)
    found = container.alerts.list(
        farm_ids=farm_ids or None, states=wanted, rule=rest["rule"], since=rest["since"], limit=rest["limit"]
    )
    if rest["rule"] and not found:
        container.alerts.table.get(rest["rule"])  # a slug that does not exist would look like an empty answer
    empty = "No alert." if everything or states else "No alert is live; --all shows those that are over, too."
    emit([_row(alert) for alert in found], COLUMNS, output_format, empty=empty)


@alerts.command()
@click.argument("alert")
@format_option
def show(alert: str, *, output_format: str) -> None:
    """Show an alert: what it rests on, down to cells, scenes and rasters, and its history."""
    container = container_from_environment()
    found = _find(container, alert)
    if output_format == "csv":
        raise BadRequestError("an alert with its evidence is no table", hint="Use --format table or json.")
    history = [
        {"at": event.at, "kind": event.kind, "by": event.by, "note": event.note}
        for event in container.alerts.history(found.alert_id)
    ]
    row = _row(found) | {"evidence": dict(found.evidence), "steps": [_step(step) for step in found.steps]}
    if output_format != "table":
        emit([row | {"history": history}], tuple(row), output_format, empty="")
        return
    for key in ("alert_id", "farm_id", "rule", "severity", "state", "opened", "last_look", "resolved", "by", "reason"):
        if row[key]:
            click.echo(f"{key.replace('_', ' '):11} {row[key]}")
    if found.next_at is not None:
        click.echo(f"{'next':11} {_coming(found)}")
    show_evidence(found)
    show_history(container.alerts.history(found.alert_id))


@alerts.command()
@click.argument("alert")
@click.option("--note", default="", help="Goes into the history.")
@by_option
def ack(alert: str, *, note: str, by: str) -> None:
    """Say that you look after it: nobody is told again."""
    container = container_from_environment()
    _tell(container.alerts.acknowledge(_find(container, alert).alert_id, by, note))


@alerts.command()
@click.argument("alert")
@click.option("--for", "span", type=SPAN, required=True, help="How long.")
@click.option("--note", default="", help="Goes into the history.")
@by_option
def snooze(alert: str, *, span: timedelta, note: str, by: str) -> None:
    """Be told again later."""
    container = container_from_environment()
    _tell(container.alerts.snooze(_find(container, alert).alert_id, container.clock.now() + span, by, note))


@alerts.command()
@click.argument("alert")
@click.option("--reason", required=True, help="Why; goes into the history.")
@by_option
def resolve(alert: str, *, reason: str, by: str) -> None:
    """End it by hand."""
    container = container_from_environment()
    _tell(container.alerts.resolve(_find(container, alert).alert_id, by, reason))


@alerts.command()
@click.argument("alert")
@format_option
def replay(alert: str, *, output_format: str) -> None:
    """Evaluate its own rule again over what is stored now, down to the pixels; exits 1 where something differs."""
    container = container_from_environment()
    report = container.alerts.replay(_find(container, alert).alert_id)
    cells = [
        {
            "cell": cell.cell,
            "stored mean": cell.stored_mean,
            "pixels": cell.pixels,
            "mean of pixels": cell.pixel_mean,
            "raster": cell.raster_sha256[:16],
        }
        for cell in report.cells
    ]
    if output_format == "table":
        click.echo(f"{report.rule} on farm {report.farm_id}, {report.day}:")
        for name, then, now in (
            ("value", report.value_then, report.value_now),
            ("threshold", report.threshold_then, report.threshold_now),
        ):
            click.echo(f"  {name:10} {'none' if then is None else then} then, {'none' if now is None else now} now")
        click.echo(f"  verdict    {report.verdict_now.value if report.verdict_now else 'the rule says nothing now'}")
    emit(
        cells, ("cell", "stored mean", "pixels", "mean of pixels", "raster"), output_format, empty="It names no cells."
    )
    for line in report.differences:
        click.echo(f"differs: {line}", err=True)
    if report.differences:
        raise click.exceptions.Exit(1)
    click.echo("It holds as it did.", err=True)


@alerts.command()
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--from", "start", type=DAY, help="First day; default: three days ago.")
@click.option("--to", "end", type=DAY, help="Last day, inclusive; default: today.")
def evaluate(*, farm_ids: tuple[str, ...], start: date | None, end: date | None) -> None:
    """Evaluate the rules over what is stored; alerts open and resolve by it. The alert assets do the same."""
    container = container_from_environment()
    last = end or container.clock.now().date()
    first = start or last - timedelta(days=3)
    check_range(first, last)
    check_farms(container, farm_ids)
    farms = farm_ids or tuple(farm.farm_id for farm in container.farms.list())
    known = {alert.alert_id for alert in container.alerts.list(farm_ids=farms, limit=_ALL)}
    live = {alert.alert_id for alert in container.alerts.live()}
    counts: dict[str, int] = {}
    for evaluation in container.alerts.evaluate(farms, start=first, end=last):
        counts[evaluation.verdict.value] = counts.get(evaluation.verdict.value, 0) + 1
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    opened = sum(alert.alert_id not in known for alert in container.alerts.list(farm_ids=farms, limit=_ALL))
    closed = len(live - {alert.alert_id for alert in container.alerts.live()})
    click.echo(f"{len(farms)} farm{'s' * (len(farms) != 1)}, {first} to {last}: {told or 'nothing to evaluate'}.")
    click.echo(f"{opened} alerts recorded, {closed} resolved. `farm-intel pump` sends what is to be told.")


@alerts.command()
@format_option
def rules(*, output_format: str) -> None:
    """List the rules with their source; your own come from FARM_INTEL_ALERT_RULE_FILES.

    JSON holds parameters, looks and escalation steps, too.
    """
    rows = [
        {
            "rule": rule.slug,
            "class": rule.rule_class,
            "kind": rule.kind,
            "severity": rule.severity.name.lower(),
            "index": rule.index,
            "crops": ", ".join(rule.crops) or "all",
            "stages": ", ".join(rule.stages) or "all",
            "parameters": dict(rule.parameters),
            "looks to open": rule.looks_to_open,
            "looks to resolve": rule.looks_to_resolve,
            "steps": [_step(step) for step in rule.steps],
            "source": rule.source,
        }
        for rule in container_from_environment().alerts.table.rules
    ]
    emit(rows, ("rule", "class", "kind", "severity", "index", "crops", "stages", "source"), output_format, empty="")


@alerts.command()
@format_option
def audit(*, output_format: str) -> None:
    """Look for alerts that are stuck and repair what can be; exits 1 where something was found."""
    findings = container_from_environment().alerts.audit()
    rows = [
        {
            "kind": finding.kind.value,
            "alert": finding.alert_id[:12],
            "farm_id": finding.farm_id,
            "detail": finding.detail,
            "what to do": finding.hint,
            "repaired": finding.repaired,
        }
        for finding in findings
    ]
    columns = ("kind", "alert", "farm_id", "detail", "what to do", "repaired")
    emit(rows, columns, output_format, empty="No alert is stuck.")
    if findings:
        raise click.exceptions.Exit(1)


def _find(container: Container, text: str) -> Alert:
    """Return the alert of an id or of the beginning of one."""
    found = [alert for alert in container.alerts.list(limit=_ALL) if alert.alert_id.startswith(text)]
    exact = [alert for alert in found if alert.alert_id == text]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise UnknownNameError(f"no alert's id begins with {text!r}", hint="`farm-intel alerts list --all` shows them.")
    several = ", ".join(f"{alert.alert_id[:12]} ({alert.rule}, {alert.farm_id})" for alert in found[:5])
    raise UnknownNameError(f"{len(found)} alerts' ids begin with {text!r}: {several}", hint="Give more of the id.")


def _row(alert: Alert) -> dict[str, Any]:
    value, threshold = alert.evidence.get("value"), alert.evidence.get("threshold")
    return {
        "alert": alert.alert_id[:12],
        "alert_id": alert.alert_id,
        "farm_id": alert.farm_id,
        "rule": alert.rule,
        "class": alert.rule_class,
        "severity": alert.severity.name.lower(),
        "state": alert.state.value,
        "opened": alert.opened_day,
        "last_look": alert.last_day,
        "resolved": alert.resolved_day,
        "value": _number(value),
        "threshold": _number(threshold),
        "next": alert.next_at,
        "by": alert.by,
        "reason": alert.reason,
        "event_key": alert.event_key,
        "duplicate_of": alert.duplicate_of,
    }


def _number(value: object) -> float | None:
    """Return a number, a whole one without its decimals."""
    if not isinstance(value, (int, float)):
        return None
    return int(value) if float(value).is_integer() else value


def _step(step: Any) -> str:
    return f"{step.after / timedelta(hours=1):g} h: {step.audience}"


def _coming(alert: Alert) -> str:
    """Return what happens next, and when."""
    at = f"{alert.next_at:%Y-%m-%d %H:%M} UTC"
    if alert.state is AlertState.SNOOZED:
        return f"{at}: the snooze is over"
    if alert.next_step < len(alert.steps):
        return f"{at}: {alert.steps[alert.next_step].audience} are told again"
    return at


def _tell(alert: Alert) -> None:
    until = f" until {alert.next_at:%Y-%m-%d %H:%M} UTC" if alert.state is AlertState.SNOOZED and alert.next_at else ""
    click.echo(f"{alert.rule} on farm {alert.farm_id}, opened {alert.opened_day}: {alert.state.value}{until}")


for command in (subscribe, unsubscribe, subscriptions, test_subscription):
    alerts.add_command(command)
