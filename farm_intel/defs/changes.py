"""Which changed farms and days to assess next: pure functions over a cursor that survives everything.

The cursor names how far the store was read and how far the farms of that reading have been asked for. It stays small
however many farms change, and whoever dies between two looks repeats one request at most.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from farm_intel.defs.blocks import Cell
from farm_intel.domain.errors import BadRequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How far the changes have been asked for."""

    since: str = ""
    """Cursor of the store; changes up to it are all asked for."""
    upto: str = ""
    """Cursor the store gave when this sweep began: what changes later is the next sweep's. Empty: none has begun."""
    farm_id: str = ""
    """Farm asked for last, in the order of `ordered_farms`."""
    day: str = ""
    """Last of its days that was asked for."""

    def cursor(self) -> str:
        """Return the sweep as text for Dagster to keep."""
        return json.dumps({"since": self.since, "upto": self.upto, "farm_id": self.farm_id, "day": self.day})


def parse_sweep(cursor: str) -> Sweep:
    """Return the sweep of a cursor; an empty one starts from the beginning.

    Raises:
        BadRequestError: the text is no such cursor.

    """
    if not cursor:
        return Sweep()
    try:
        return Sweep(**json.loads(cursor))
    except (ValueError, TypeError) as error:
        raise BadRequestError(
            f"{cursor!r} is no cursor of this sensor", hint="Reset the cursor to start over."
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one run is to assess."""

    cells: tuple[Cell, ...]
    sweep: Sweep
    """Where to go on afterwards."""
    waiting: bool = False
    """Farms are left over because runs are still working on their days."""


def next_share(
    sweep: Sweep,
    changed: Mapping[str, tuple[date, date]],
    farms: Sequence[str],
    *,
    upto: str,
    busy: Collection[date],
    max_cells: int,
) -> Share:
    """Return the next cells to assess and the sweep after them.

    Farms are taken in order until the run is full or a farm's days are being worked on: its changes are not over yet,
    so it is asked for once they are. A farm with more days than a run holds is continued by the next run.

    Args:
        sweep: how far the last look came.
        changed: farm -> first and last day that changed since `sweep.since`.
        farms: the farms in the order in which they are asked for.
        upto: cursor the store gave with `changed`.
        busy: days that runs are working on.
        max_cells: (day, farm) cells a run holds at most.

    """
    begun = sweep if sweep.upto else Sweep(since=sweep.since, upto=upto)
    cells: list[Cell] = []
    for farm_id in _rest(begun, farms):
        if farm_id not in changed:
            continue
        days = _days(begun, farm_id, changed[farm_id])
        if not days:
            continue
        if any(day in busy for day in days):
            return Share(cells=tuple(cells), sweep=_after(begun, cells), waiting=True)
        room = max_cells - len(cells)
        cells += [(day, farm_id) for day in days[:room]]
        if len(days) >= room:
            return Share(cells=tuple(cells), sweep=_after(begun, cells))
    return Share(cells=tuple(cells), sweep=Sweep(since=begun.upto))


def _rest(sweep: Sweep, farms: Sequence[str]) -> Sequence[str]:
    """Return the farms from the one asked for last; all of them where it is gone."""
    return farms[farms.index(sweep.farm_id) :] if sweep.farm_id in farms else farms


def _days(sweep: Sweep, farm_id: str, ends: tuple[date, date]) -> list[date]:
    first, last = ends
    if farm_id == sweep.farm_id:
        first = max(first, date.fromisoformat(sweep.day) + timedelta(days=1))
    return [date.fromordinal(number) for number in range(first.toordinal(), last.toordinal() + 1)]


def _after(sweep: Sweep, cells: Sequence[Cell]) -> Sweep:
    if not cells:
        return sweep
    day, farm_id = cells[-1]
    return Sweep(since=sweep.since, upto=sweep.upto, farm_id=farm_id, day=day.isoformat())
