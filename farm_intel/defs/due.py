"""What is due, as requests for runs: the pure part of the sensor and the daily schedule.

A schedule that slept through its tick loses it, so nothing here counts ticks: the store is asked what is missing.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from farm_intel.defs import compat
from farm_intel.defs.blocks import Cell, plan_runs
from farm_intel.defs.groups import AssetGroup
from farm_intel.defs.partitions import parse_partition_key, partition_key
from farm_intel.defs.ports import FarmIntel
from farm_intel.observing.service import DueCells

MAX_REQUESTS_PER_TICK = 200
"""Dagster stores 9 to 16 requests a second, and a tick must be over within a minute."""
PROVIDER_TAG = "farm_intel/provider"
COHORT_TAG = "farm_intel/cohort"
DAYS_TAG = "farm_intel/days"
"""First and last solar day of a run we asked for, `2026-05-01..2026-05-03`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRequest:
    """One run to ask for."""

    block: str
    """Identity of the cells, `provider:cohort:…`; not of the scenes."""
    revision: str
    """Changes with the scenes, so that a reprocessed day is asked for again: Dagster remembers run keys for ever."""
    start: date
    end: date
    """First and last solar day."""
    cells: tuple[Cell, ...] = ()
    """Scattered cells, or empty for a row."""
    row: tuple[str, str] | None = None
    """First and last partition key of a row."""

    @property
    def run_key(self) -> str:
        """The key under which Dagster launches it at most once."""
        return f"{self.block}:{self.revision}"


def find_due(container: FarmIntel, group: AssetGroup, farm_ids: Sequence[str], days: Sequence[date]) -> DueCells | None:
    """Return what is due for these farms and days, or None where there is nothing to ask about."""
    if not farm_ids or not days:
        return None
    return container.observing.due(
        provider=group.provider,
        collection=group.collection,
        farm_ids=farm_ids,
        indices=group.slugs,
        days=days,
    )


def block_requests(
    group: AssetGroup,
    due: Mapping[date, Sequence[str]],
    partitions: Sequence[str],
    *,
    hashes: Mapping[date, str],
    max_cells: int,
) -> list[BlockRequest]:
    """Return one request per row of the cohort and one per bin of scattered cells, oldest first.

    Args:
        group: whose cells they are.
        due: day (with partitions) -> farms with something to compute.
        partitions: the cohort's farm partitions in Dagster's order, which is the order of ranges.
        hashes: day -> hash over the versions of its scenes.
        max_cells: (day, farm) cells a run should hold at most.

    """
    known = set(partitions)
    asked = {day: [farm_id for farm_id in farms if farm_id in known] for day, farms in due.items()}
    plan = plan_runs(asked, partitions, max_cells=max_cells, rows_allowed=asked)
    prefix = f"{group.provider}:{group.cohort}"
    requests = [
        BlockRequest(
            block=f"{prefix}:{row.start}..{row.end}" if row.end != row.start else f"{prefix}:{row.start}",
            revision=_revision(hashes, row.days),
            start=row.start,
            end=row.end,
            row=(partition_key(row.start, partitions[0]), partition_key(row.end, partitions[-1])),
        )
        for row in plan.rows
    ]
    for cells in plan.leftovers:
        days = sorted({day for day, _ in cells})
        requests.append(
            BlockRequest(
                block=f"{prefix}:{days[0]}:cells-{_digest(partition_key(*cell) for cell in cells)}",
                revision=_revision(hashes, days),
                start=days[0],
                end=days[-1],
                cells=cells,
            )
        )
    return requests


def choose_requests(
    requests: Sequence[BlockRequest], *, cursor: str, limit: int = MAX_REQUESTS_PER_TICK
) -> tuple[list[BlockRequest], str]:
    """Return at most `limit` requests and the cursor for the next look.

    A look that was cut short goes on after its last block next time, so that blocks which stay due (their provider
    keeps failing) do not hold up the others.
    """
    ordered = sorted(requests, key=lambda request: request.block)
    later = [request for request in ordered if request.block > cursor] or ordered
    chosen = later[:limit]
    return chosen, chosen[-1].block if len(later) > limit else ""


def group_tags(group: AssetGroup, first: date, last: date) -> dict[str, str]:
    """Return the tags of a run we ask for: whose cells, and of which days."""
    return {PROVIDER_TAG: group.provider, COHORT_TAG: group.cohort, DAYS_TAG: f"{first}..{last}"}


def days_in_flight(runs: Iterable[Mapping[str, str]], cohort: str, provider: str | None) -> set[date]:
    """Return the solar days that runs under way (by their tags) may be working on.

    Runs launched in the UI carry neither provider nor cohort; their days count for everybody, which only delays a
    request.

    Args:
        runs: tags of the runs.
        cohort: whose farms.
        provider: whose observations; None for every run.

    """
    days: set[date] = set()
    for tags in runs:
        others = provider is not None and tags.get(PROVIDER_TAG, provider) != provider
        if others or tags.get(COHORT_TAG, cohort) != cohort:
            continue
        ends = _tagged_days(tags)
        if ends is not None:
            first, last = ends
            days.update(date.fromordinal(n) for n in range(first.toordinal(), last.toordinal() + 1))
    return days


def _tagged_days(tags: Mapping[str, str]) -> tuple[date, date] | None:
    if DAYS_TAG in tags:
        first, _, last = tags[DAYS_TAG].partition("..")
        return date.fromisoformat(first), date.fromisoformat(last)
    start, end = tags.get(compat.RANGE_START_TAG, ""), tags.get(compat.RANGE_END_TAG, "")
    if "|" in start and "|" in end:  # series and seasons have farms for partitions, and work on no day
        return parse_partition_key(start)[0], parse_partition_key(end)[0]
    key = tags.get(compat.PARTITION_TAG, "")
    return (parse_partition_key(key)[0],) * 2 if "|" in key else None


def _revision(hashes: Mapping[date, str], days: Sequence[date]) -> str:
    return hashes.get(days[0], "-") if len(days) == 1 else _digest(hashes.get(day, "-") for day in days)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
