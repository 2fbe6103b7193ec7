"""The farm's logbook: what was done when, by whom; read, written for work nobody planned, exported.

Exports:

- CSV (RFC 4180), one line per entry; quantities as JSON in one column. Text that a spreadsheet would take for a formula
  is led by an apostrophe (OWASP, "CSV Injection").
- farmOS 3 JSON:API. `data` holds one `log--<type>` per entry (`farmos` of its type): `id` is a UUIDv5 of the entry,
  `attributes` are `name`, `timestamp` (ISO 8601, UTC), `status` (`done` or `abandoned`) and `notes` (`value`,
  `format: plain_text`: note, why not, who, photo, and form values that are no numbers). `relationships` are `location`
  (one `asset--land`, UUIDv5 of the farm's id) and `quantity`. `included` holds each `asset--land` (`name` is the farm's
  id) and `quantity--standard` (`label` is the form field, `value.decimal` the number, `units` a `taxonomy_term--unit`),
  so that the document stands by itself.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from farm_intel.activities.ports import Forms, LogbookStore
from farm_intel.activities.types import ActivityType
from farm_intel.domain.activities import FormValue, LogEntry
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.ports import Clock

type Json = dict[str, Any]

_NAMESPACE = uuid.UUID("7c1e5a94-8f0d-5c7b-9d52-0d4f3f6f1a11")
"""Of the UUIDs we make for farmOS: the same entry has the same one in every export."""
_COLUMNS = (
    "entry_id",
    "farm_id",
    "type",
    "title",
    "done",
    "done_at",
    "by",
    "quantities",
    "reason",
    "note",
    "photo",
    "activity_id",
    "due_at",
    "event_key",
    "recorded_at",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work that nobody planned."""

    farm_id: str
    type: str
    title: str
    done_at: datetime
    """UTC."""
    by: str
    quantities: Mapping[str, FormValue] = field(default_factory=dict)
    note: str = ""
    photo: str = ""
    event_key: str = ""


class Logbook:
    """Reads, writes and exports the logbook."""

    def __init__(self, store: LogbookStore, forms: Forms, clock: Clock) -> None:
        """Keep what it works with."""
        self._store = store
        self._forms = forms
        self._clock = clock

    def log(self, work: Work) -> LogEntry:
        """Write down work that nobody planned.

        Raises:
            BadRequestError: an unknown type, quantities its form does not take, or a time to come.

        """
        now = self._clock.now()
        if work.done_at > now:
            raise BadRequestError(
                f"{work.title!r} on farm {work.farm_id} cannot have been done at {work.done_at.isoformat()}: that is "
                "to come",
                hint="Plan it instead.",
            )
        entry = LogEntry(
            entry_id=uuid.uuid4().hex,
            farm_id=work.farm_id,
            type=work.type,
            title=work.title,
            done=True,
            done_at=work.done_at,
            by=work.by,
            quantities=dict(self._forms.check_form(work.type, work.quantities, answered=True)),
            note=work.note,
            photo=work.photo,
            event_key=work.event_key,
            recorded_at=now,
        )
        self._store.add(entry)
        return entry

    def entries(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        activity_types: Sequence[str] | None = None,
        limit: int = 100_000,
    ) -> list[LogEntry]:
        """Return lines by farm and time done; instants from `start` inclusive to `end` exclusive; None asks for all."""
        return self._store.entries(farm_ids=farm_ids, start=start, end=end, activity_types=activity_types, limit=limit)

    def explaining(self, farm_id: str, start: datetime, end: datetime) -> list[LogEntry]:
        """Return work that was done on a farm from `start` inclusive to `end` exclusive: what may explain a change."""
        return [entry for entry in self._store.entries(farm_ids=[farm_id], start=start, end=end) if entry.done]

    def farmos(self, entries: Sequence[LogEntry]) -> str:
        """Return entries as a farmOS 3 JSON:API document; see the module for what it holds."""
        included: dict[str, Json] = {}
        logs = [self._farmos_log(entry, included) for entry in entries]
        document = {"jsonapi": {"version": "1.0"}, "data": logs, "included": list(included.values())}
        return json.dumps(document, indent=2, ensure_ascii=False)

    def _farmos_log(self, entry: LogEntry, included: dict[str, Json]) -> Json:
        land = _resource("asset--land", entry.farm_id, {"name": entry.farm_id, "status": "active"})
        included[land["id"]] = land
        kind = self._kind(entry)
        quantities = []
        for name, value in entry.quantities.items():
            if isinstance(value, float | int) and not isinstance(value, bool):
                quantities.append(self._quantity(entry, name, value, included))
        log = _resource(
            f"log--{'activity' if kind is None else kind.farmos.value}",
            entry.entry_id,
            {
                "name": entry.title,
                "timestamp": entry.done_at.isoformat(timespec="seconds"),
                "status": "done" if entry.done else "abandoned",
                "notes": {"value": _notes(entry), "format": "plain_text"},
            },
        )
        log["relationships"] = {
            "location": {"data": [_reference(land)]},
            "quantity": {"data": [_reference(quantity) for quantity in quantities]},
        }
        return log

    def _kind(self, entry: LogEntry) -> ActivityType | None:
        """Return the type of an entry; None where the table has lost it since, which the record outlives."""
        try:
            return self._forms.get(entry.type)
        except UnknownNameError:
            return None

    def _quantity(self, entry: LogEntry, name: str, value: float, included: dict[str, Json]) -> Json:
        quantity = _resource(
            "quantity--standard", f"{entry.entry_id}|{name}", {"label": name, "value": {"decimal": f"{value:g}"}}
        )
        kind = self._kind(entry)
        unit = kind.fields[name].unit if kind is not None and name in kind.fields else ""
        if unit:
            term = _resource("taxonomy_term--unit", unit, {"name": unit})
            included[term["id"]] = term
            quantity["relationships"] = {"units": {"data": _reference(term)}}
        included[quantity["id"]] = quantity
        return quantity


def to_csv(entries: Sequence[LogEntry]) -> str:
    """Return entries as CSV with a header."""
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(_COLUMNS)
    for entry in entries:
        writer.writerow([_cell(getattr(entry, name)) for name in _COLUMNS])
    return target.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _notes(entry: LogEntry) -> str:
    lines = [entry.note] if entry.note else []
    if entry.reason:
        lines.append(f"Not done: {entry.reason}")
    lines += [
        f"{name}: {value}"
        for name, value in entry.quantities.items()
        if value is not None and (isinstance(value, bool | str))
    ]
    lines.append(f"By: {entry.by}")
    if entry.photo:
        lines.append(f"Photo: {entry.photo}")
    return "\n".join(lines)


def _resource(kind: str, key: str, attributes: Json) -> Json:
    return {
        "type": kind,
        "id": str(uuid.uuid5(_NAMESPACE, f"{kind.partition('--')[0]}|{key}")),
        "attributes": attributes,
    }


def _reference(resource: Json) -> Json:
    return {"type": resource["type"], "id": resource["id"]}
