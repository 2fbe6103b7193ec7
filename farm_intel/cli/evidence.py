"""An alert's evidence and history for the eye: `farm-intel alerts show`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import click

from farm_intel.cli.output import emit
from farm_intel.domain.alerts import Alert, AlertEvent

_LOOKS = ("day", "index", "value", "standard_error", "confidence", "flags", "raster", "band")
_KNOWN = frozenset(
    {
        "cells",
        "looks",
        "rasters",
        "scenes",
        "rule",
        "state",
        "day",
        "value",
        "threshold",
        "unit",
        "fingerprint",
        "index",
    }
    | {"confidence"}
)
_TOLD = {"to": "to", "later": "after their quiet hours to", "merged": "joined to what waits for", "recipients": "of"}
"""What the history notes of messages hold (`alerts.telling`), in words."""
_EVALUATED = "evaluated"


def show_evidence(alert: Alert) -> None:
    """Print what an alert rests on: its rule, the looks with their rasters, the scenes, the farm's state."""
    evidence = alert.evidence
    for line in _lines(evidence):
        click.echo(line)
    if looks := list(_looks(evidence)):
        click.echo("\nLooks it rests on")
        emit(looks, _LOOKS, "table", empty="")
    if scenes := _list(evidence, "scenes"):
        click.echo(f"\nScenes      {', '.join(map(str, scenes))}")
    if reasons := _list(_mapping(evidence, "state"), "reasons"):
        click.echo("\nReasons of the farm's state")
        emit(reasons, ("fact", "index", "value", "threshold"), "table", empty="")


def show_history(events: Sequence[AlertEvent]) -> None:
    """Print what happened; of many evaluations in a row the first and the last."""
    rows: list[dict[str, Any]] = []
    for kind, group in groupby(events, key=lambda event: event.kind):
        row = [{"at": event.at, "what": kind, "by": event.by, "note": _note(event.note)} for event in group]
        left_out = len(row) - 2
        if kind == _EVALUATED and left_out > 1:
            row[1:-1] = [{"at": None, "what": "…", "by": "", "note": f"{left_out} more evaluations"}]
        rows += row
    click.echo("\nHistory")
    emit(rows, ("at", "what", "by", "note"), "table", empty="")


def _lines(evidence: Mapping[str, Any]) -> Iterator[str]:
    rule = _mapping(evidence, "rule")
    yield _line("rule says", _rule(rule))
    yield _line("source", rule.get("source", ""))
    found = f"{_number(evidence.get('value'))} {evidence.get('unit', '')}".strip()
    if evidence.get("threshold") is not None:
        found += f", threshold {_number(evidence['threshold'])}"
    yield _line("found", f"{found} on {evidence.get('day')}")
    if evidence.get("confidence") is not None:
        yield _line("confidence", _number(evidence["confidence"]))
    state = _mapping(evidence, "state")
    if state:
        event = f", event {state['event']}" if state.get("event") else ""
        yield _line("farm state", f"{state.get('state')} since {state.get('since')}{event}")
    for name in sorted(set(evidence) - _KNOWN):
        if evidence[name] not in (None, "", [], {}):
            yield _line(name.replace("_", " "), _text(evidence[name]))


def _looks(evidence: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row per look with the raster of its cell; of cells without a look their name."""
    rasters = {_cell(row.get("cell", "")): row for row in _list(evidence, "rasters")}
    told = set()
    for look in _list(evidence, "looks"):
        raster = rasters.get((look.get("index", ""), look.get("day", "")), {})
        told.add((look.get("index"), look.get("day")))
        yield dict(look) | {"raster": str(raster.get("sha256", ""))[:12], "band": raster.get("band")}
    for cell in _list(evidence, "cells"):
        index, day = _cell(cell)
        if (index, day) not in told:
            raster = rasters.get((index, day), {})
            yield {
                "day": day,
                "index": index,
                "raster": str(raster.get("sha256", ""))[:12],
                "band": raster.get("band"),
            }


def _cell(name: str) -> tuple[str, str]:
    """Return index and day of a cell's name: farm|index|provider|collection|day."""
    parts = str(name).split("|")
    return (parts[1], parts[-1]) if len(parts) > 2 else ("", str(name))


def _rule(rule: Mapping[str, Any]) -> str:
    """Return kind, index and the parameters that are set."""
    said = [
        f"{name} {_number(value)}" for name, value in _mapping(rule, "parameters").items() if value not in ("", None)
    ]
    return f"{rule.get('kind', '')} {rule.get('index', '')}".strip() + (f": {', '.join(said)}" if said else "")


def _note(note: str) -> str:
    """Return a note as a sentence; what was sent is kept as JSON."""
    try:
        sent = json.loads(note)
    except ValueError:
        return note
    if not isinstance(sent, dict):
        return note
    told = [f"{words} {_text(sent[name])}" for name, words in _TOLD.items() if sent.get(name)]
    return f"{sent.get('occasion', '')} {'; '.join(told)}".strip()


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value)
    return _number(value)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


def _line(name: str, value: object) -> str:
    return f"{name:11} {value}"


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _list(values: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = values.get(name)
    return found if isinstance(found, list) else ()
