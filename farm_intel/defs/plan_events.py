"""The day's plan of a farm, told per cell with the check that shows what is not settled."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from hashlib import sha256

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.alert_events import plain
from farm_intel.defs.blocks import Cell, CellBlock, group_cells
from farm_intel.defs.cell_events import CellCheck, CellEvent, CellLedger, CellRecord, Metadata
from farm_intel.defs.groups import CohortGroup
from farm_intel.defs.partitions import partition_key
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.ports_alerts import PlanEntry
from farm_intel.defs.series_events import FARM
from farm_intel.domain.activities import SETTLED, OccurrenceState

ACTIVITIES = "activities"
ALL_SETTLED = "all_settled"
ALL_SETTLED_DESCRIPTION = (
    "Per cell: everything planned for a day that is over was done, skipped or expired; WARN where something is still "
    "open, ERROR where something was given up after its last attempt and is a dead letter."
)
WESTERNMOST = timedelta(hours=12)
"""A date is over everywhere half a day after it is in UTC."""
NAMED = 20
"""Activities named in a check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTeller:
    """Tells the plans of one cohort in one run."""

    group: CohortGroup
    container: FarmIntel
    ledger: CellLedger
    now: datetime
    complete: bool = False
    """Record days without a plan too: a backfill waits for an event of everything it asked for."""

    def tell(self, cells: Sequence[Cell]) -> Iterator[CellEvent]:
        """Yield the events of the cells' plans; a day without one has none, unless one was told before."""
        for block in group_cells(cells):
            yield from self._block(block)

    def _block(self, block: CellBlock) -> Iterator[CellEvent]:
        days = set(block.days)
        plans: dict[Cell, list[PlanEntry]] = defaultdict(list)
        for entry in self.container.activities.plan(block.farm_ids, start=min(days), end=max(days)):
            if entry.local_date in days:
                plans[entry.local_date, entry.farm_id].append(entry)
        cells = [(day, farm_id) for day in block.days for farm_id in block.farm_ids]
        told = compat.told_versions(
            self.ledger.instance, plan_key(self.group), [partition_key(*cell) for cell in cells]
        )
        for cell in cells:
            # a plan that was withdrawn is told: the old event would stand
            if cell in plans or partition_key(*cell) in told or self.complete:
                record = self._record(cell, plans.get(cell, []))
                changed = self.complete or told.get(record.partition) != record.data_version
                yield from self.ledger.record(replace(record, changed=changed))

    def _record(self, cell: Cell, entries: Sequence[PlanEntry]) -> CellRecord:
        ordered = sorted(entries, key=lambda entry: (entry.due_at, entry.activity_id))
        over = is_over(cell[0], self.now)
        return CellRecord(
            asset_key=plan_key(self.group),
            partition=partition_key(*cell),
            changed=True,
            describe=lambda: describe_plan(ordered),
            data_version=_data_version(ordered, over=over),
            check=judge_plan(ordered, over=over),
        )


def plan_key(group: CohortGroup) -> dg.AssetKey:
    """Return the key of a cohort's asset of plans."""
    return group.asset_key(ACTIVITIES, FARM)


def is_over(day: date, now: datetime) -> bool:
    """Return whether a date is over on every farm on earth."""
    return day < (now - WESTERNMOST).date()


def judge_plan(entries: Sequence[PlanEntry], *, over: bool) -> CellCheck:
    """Return the check of a day: it passes while nothing is a dead letter and, once it is over, nothing is open."""
    dead = [entry for entry in entries if entry.state == OccurrenceState.FAILED]
    unsettled = [entry for entry in entries if over and entry.state not in SETTLED]
    metadata: dict[str, str | bool | int | float] = {"planned": len(entries)}
    if dead:
        metadata["dead_letters"] = _named(dead)
    if unsettled:
        metadata["unsettled"] = _named(unsettled)
    return CellCheck(
        name=ALL_SETTLED,
        passed=not dead and not unsettled,
        severity=dg.AssetCheckSeverity.ERROR if dead else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )


def describe_plan(entries: Sequence[PlanEntry]) -> Metadata:
    """Return the metadata of a day's plan: counts by state and a table in the order of the day."""
    counts = Counter(str(entry.state) for entry in entries)
    rows = [
        f"| {entry.local_time} | {plain(entry.title)} | {entry.type} | {entry.state} | {plain(entry.assignee)} "
        f"| {plain(entry.reason)} |"
        for entry in entries
    ]
    head = ["| time | activity | type | state | assignee | reason |", "|---|---|---|---|---|---|"]
    return {
        "planned": len(entries),
        **{f"state_{state}": count for state, count in sorted(counts.items())},
        "plan": dg.MetadataValue.md("\n".join([*head, *rows]) if rows else "nothing is planned"),
    }


def _named(entries: Sequence[PlanEntry]) -> str:
    told = [f"{entry.local_time} {entry.title} ({entry.state})" for entry in entries[:NAMED]]
    more = len(entries) - NAMED
    return "; ".join(told) + (f" and {more} more" if more > 0 else "")


def _data_version(entries: Sequence[PlanEntry], *, over: bool) -> str:
    parts = [
        "over" if over else "not over",
        *(f"{one.activity_id}@{one.due_at.isoformat()}={one.state}:{one.assignee}:{one.reason}" for one in entries),
    ]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]
