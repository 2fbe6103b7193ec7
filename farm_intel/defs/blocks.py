"""From scattered cells to the fewest blocks: pure functions over (solar day, farm id) pairs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

Cell = tuple[date, str]
"""(solar day, farm id)"""

ROW_MIN_FARMS = 5
"""A run over a row records what was planned and colours it in the UI, for about 0.4 s; shorter rows share a run."""
ROW_SHARE = 0.5
"""Share of a cohort's farms due on a day from which on the whole row is asked for: up-to-date cells cost no pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBlock:
    """The same farms on several days."""

    days: tuple[date, ...]
    farm_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRun:
    """Consecutive days of a whole cohort, one run by range tags."""

    start: date
    end: date

    @property
    def days(self) -> tuple[date, ...]:
        """The days of the run, ascending."""
        return tuple(self.start + timedelta(days=n) for n in range((self.end - self.start).days + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Runs that together cover every due cell."""

    rows: tuple[RowRun, ...]
    leftovers: tuple[tuple[Cell, ...], ...]
    """One run of the cells job each."""


def group_cells(cells: Iterable[Cell]) -> tuple[CellBlock, ...]:
    """Return the blocks that cover exactly `cells`: days with the same farms share one, so scenes are read once.

    Farms keep the order in which they first appear; blocks are ordered by their first day.
    """
    farms_of: dict[date, dict[str, None]] = defaultdict(dict)
    for day, farm_id in cells:
        farms_of[day][farm_id] = None
    days_of: dict[frozenset[str], list[date]] = defaultdict(list)
    for day in sorted(farms_of):
        days_of[frozenset(farms_of[day])].append(day)
    return tuple(CellBlock(days=tuple(days), farm_ids=tuple(farms_of[days[0]])) for days in days_of.values())


def plan_runs(
    due: Mapping[date, Sequence[str]], cohort: Sequence[str], *, max_cells: int, rows_allowed: Iterable[date]
) -> RunPlan:
    """Return the runs for the due cells of a cohort.

    A day on which at least `ROW_SHARE` of the cohort is due becomes a row; consecutive rows share a run while it
    holds at most `max_cells` cells. A single day is never split: its scenes would be read twice. Everything else,
    and days without partitions, is packed into runs of the cells job, whole days together.

    Args:
        due: day -> farms with something to compute.
        cohort: all farms of the cohort that have partitions.
        max_cells: (day, farm) cells a run should hold at most.
        rows_allowed: days that have partitions.

    """
    allowed = set(rows_allowed)
    size = len(cohort)
    rows: list[RowRun] = []
    scattered: list[tuple[date, Sequence[str]]] = []
    for day in sorted(due):
        farms = due[day]
        if not farms:
            continue
        if day not in allowed or size < ROW_MIN_FARMS or len(farms) < ROW_SHARE * size:
            scattered.append((day, farms))
        elif _joins(rows, day, size, max_cells):
            rows[-1] = RowRun(start=rows[-1].start, end=day)
        else:
            rows.append(RowRun(start=day, end=day))
    return RunPlan(rows=tuple(rows), leftovers=pack_days(scattered, max_cells))


def pack_days(days: Iterable[tuple[date, Sequence[str]]], max_cells: int) -> tuple[tuple[Cell, ...], ...]:
    """Return bins of at most `max_cells` cells in order; a day is only split where it alone exceeds the limit."""
    bins: list[list[Cell]] = []
    for day, farms in days:
        cells = [(day, farm_id) for farm_id in farms]
        if bins and len(bins[-1]) + len(cells) <= max_cells:
            bins[-1].extend(cells)
            continue
        bins.extend(cells[n : n + max_cells] for n in range(0, len(cells), max_cells))
    return tuple(tuple(cells) for cells in bins)


def _joins(rows: Sequence[RowRun], day: date, size: int, max_cells: int) -> bool:
    if not rows or rows[-1].end + timedelta(days=1) != day:
        return False
    return ((day - rows[-1].start).days + 1) * size <= max_cells
