"""Partitions: `date|farm`, a rolling window of days times the farms of a cohort.

Nothing here lists the product: 3.65 million keys cost 22 CPU seconds and 2.5 GB.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.ports import AssetSettings
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.farms import Farm
from farm_intel.domain.observations import ObservationKey

DATE_DIMENSION = "date"
FARM_DIMENSION = "farm"


@dataclass(frozen=True, slots=True, kw_only=True)
class DateWindow:
    """First and last solar day of the assets' grid, both inclusive."""

    start: date
    end: date

    def __contains__(self, day: object) -> bool:
        """Return whether a day has partitions."""
        return isinstance(day, date) and self.start <= day <= self.end

    def last_days(self, count: int) -> tuple[date, ...]:
        """Return the newest `count` days of the window, ascending."""
        first = max(self.start, self.end - timedelta(days=count - 1))
        return tuple(first + timedelta(days=n) for n in range((self.end - first).days + 1))


def date_window(settings: AssetSettings, today: date) -> DateWindow:
    """Return the window of the settings: fixed ends where they are set, else the last `window_days` up to today.

    Raises:
        BadRequestError: history_end lies before history_start.

    """
    end = settings.history_end or today
    start = settings.history_start or end - timedelta(days=settings.window_days - 1)
    if end < start:
        raise BadRequestError(
            f"the date window ends on {end}, before it starts on {start}",
            hint="Set FARM_INTEL_HISTORY_START and FARM_INTEL_HISTORY_END the right way round.",
        )
    return DateWindow(start=start, end=end)


def cell_partitions(settings: AssetSettings, dimension: str, today: date) -> dg.MultiPartitionsDefinition:
    """Return the grid of a group: days, today included, times the farms of `dimension`.

    Without a fixed end the grid grows day by day; its start moves when the code location is loaded again.
    """
    window = date_window(settings, today)
    if settings.history_end is None:
        days = dg.DailyPartitionsDefinition(start_date=window.start.isoformat(), timezone="UTC", end_offset=1)
    else:
        after = window.end + timedelta(days=1)
        days = dg.DailyPartitionsDefinition(
            start_date=window.start.isoformat(), end_date=after.isoformat(), timezone="UTC"
        )
    return dg.MultiPartitionsDefinition(
        {DATE_DIMENSION: days, FARM_DIMENSION: dg.DynamicPartitionsDefinition(name=dimension)}
    )


def partition_key(day: date, farm_id: str) -> str:
    """Return the key of a cell: `2026-05-01|farm-7`."""
    return f"{day.isoformat()}|{farm_id}"


def cell_name(key: ObservationKey) -> str:
    """Return the name of a cell in failure lists, as CellsFailedError has it: `day|farm|index`."""
    return f"{partition_key(key.solar_day, key.farm_id)}|{key.index}"


def parse_partition_key(key: str) -> tuple[date, str]:
    """Return day and farm of a partition key.

    Raises:
        BadRequestError: the text is not a key.

    """
    day, separator, farm_id = key.partition("|")
    try:
        parsed = date.fromisoformat(day)
    except ValueError as error:
        raise BadRequestError(f"{key!r} is not a cell", hint="Write cells as 2026-05-01|farm-id.") from error
    if not separator or not farm_id:
        raise BadRequestError(f"{key!r} names no farm", hint="Write cells as 2026-05-01|farm-id.")
    return parsed, farm_id


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionChanges:
    """What has to happen to a cohort's farm partitions."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
    """No longer active, but a run may be working on them: removed at a later look."""


def partition_changes(
    active: Sequence[str], existing: Sequence[str], in_flight: Iterable[Mapping[str, str]], *, backfilling: bool
) -> PartitionChanges:
    """Decide which farm partitions to add and to remove.

    Deleting a partition under a running run throws its finished work away, because Dagster resolves the run's range
    again at its end; so a range run, a run that does not say its cells, or a backfill defers every removal.

    Args:
        active: ids of the cohort's active farms in the store's order (home tile, then id).
        existing: the partitions there are.
        in_flight: tags of the runs that are queued or under way.
        backfilling: whether a backfill still has runs to launch.

    """
    have, want = set(existing), set(active)
    add = tuple(farm_id for farm_id in active if farm_id not in have)
    gone = tuple(farm_id for farm_id in existing if farm_id not in want)
    busy: set[str] = set()
    for tags in in_flight if gone else ():
        key = tags.get(compat.PARTITION_TAG, "")
        busy |= {key.partition("|")[2]} if "|" in key else set(gone)
    if backfilling:
        busy |= set(gone)
    return PartitionChanges(
        add=add,
        remove=tuple(farm_id for farm_id in gone if farm_id not in busy),
        deferred=tuple(farm_id for farm_id in gone if farm_id in busy),
    )


def sync_farm_partitions(instance: dg.DagsterInstance, dimension: str, farms: Sequence[Farm]) -> PartitionChanges:
    """Make a cohort's farm partitions follow its active farms; returns what changed.

    Farms are added in one go, because every addition rebuilds the status cache of every asset of the cohort, and in
    the order of the store, so that farms of a tile are neighbours and a tile's cells form rectangles.
    """
    existing = instance.get_dynamic_partitions(dimension)
    active = [farm.farm_id for farm in farms if farm.active]
    stale = bool(set(existing) - set(active))
    changes = partition_changes(
        active,
        existing,
        compat.unfinished_run_tags(instance) if stale else (),
        backfilling=stale and compat.backfill_in_flight(instance),
    )
    if changes.add:
        instance.add_dynamic_partitions(dimension, list(changes.add))
    for farm_id in changes.remove:
        instance.delete_dynamic_partition(dimension, farm_id)
    return changes
