"""Checks to run on demand, per index and not per cell: freshness, radiometry, store."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.groups import AssetGroup
from farm_intel.defs.partitions import DateWindow, date_window
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.domain.observations import Flag, Observation, ObservationStatus

FRESHNESS = "freshness"
RADIOMETRY = "radiometry"
STORE = "store"
STALE_AFTER_DAYS = 20
"""Two revisits of a single Sentinel-2 satellite: with less, one cloudy week would be called stale."""
NAMED = 20
"""Farms or scenes named in a result."""

DESCRIPTIONS = {
    FRESHNESS: f"Every farm has a number that is at most {STALE_AFTER_DAYS} days older than the newest possible day.",
    RADIOMETRY: "Metadata and pixels of the scenes agree on the reflectance offset; lists those where they do not.",
    STORE: "Every row of the index has its raster and every raster its row (checksums: `farm-intel fsck`).",
}


def build_group_checks(group: AssetGroup) -> dg.AssetChecksDefinition:
    """Return the on-demand checks of a group's assets, as one operation that can run any subset of them."""

    @dg.multi_asset_check(
        name=f"check_{group.name}",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description=text)
            for key in group.asset_keys
            for name, text in DESCRIPTIONS.items()
        ],
        can_subset=True,
    )
    def check_group(
        context: dg.AssetCheckExecutionContext, farm_intel: FarmIntelResource
    ) -> Iterator[dg.AssetCheckResult]:
        """Evaluate the selected checks, reading stored rows only.

        Dagster adds an asset's checks to every run over it; in a run over cells they would read the whole history
        once a day of the backfill, so there they are left out.
        """
        if any(tag in context.run.tags for tag in (compat.PARTITION_TAG, compat.RANGE_START_TAG)):
            return
        yield from _evaluate(farm_intel.container, group, context.selected_asset_check_keys)

    return check_group


def _evaluate(
    container: FarmIntel, group: AssetGroup, selected: Iterable[dg.AssetCheckKey]
) -> Iterator[dg.AssetCheckResult]:
    now = datetime.now(UTC)
    wanted = {(key.asset_key, key.name) for key in selected}
    whole = store_check(container) if any(name == STORE for _, name in wanted) else None
    for slug in group.slugs:
        key = group.asset_key(slug)
        if (key, FRESHNESS) in wanted:
            yield freshness_check(container, group, slug, now)._replace(asset_key=key, check_name=FRESHNESS)
        if (key, RADIOMETRY) in wanted:
            yield radiometry_check(container, group, slug, now)._replace(asset_key=key, check_name=RADIOMETRY)
        if whole is not None and (key, STORE) in wanted:
            yield whole._replace(asset_key=key, check_name=STORE)


def freshness_check(container: FarmIntel, group: AssetGroup, slug: str, now: datetime) -> dg.AssetCheckResult:
    """Return whether every active farm has a recent number; a FreshnessPolicy could only speak of the whole asset."""
    window = date_window(container.settings, now.date())
    since = window.end - timedelta(days=STALE_AFTER_DAYS)
    farms = [farm.farm_id for farm in container.farms.list(cohort=group.cohort)]
    rows = _observed(container, group, slug, DateWindow(start=since, end=window.end))
    fresh = {row.key.farm_id for row in rows}
    stale = [farm_id for farm_id in farms if farm_id not in fresh]
    return dg.AssetCheckResult(
        passed=not stale,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(stale)} of {len(farms)} farms have no number since {since}.",
        metadata={"farms": len(farms), "stale_farms": len(stale), "since": since.isoformat(), "named": _named(stale)},
    )


def radiometry_check(container: FarmIntel, group: AssetGroup, slug: str, now: datetime) -> dg.AssetCheckResult:
    """Return which scenes of the window had pixels that contradict, or cannot confirm, their metadata."""
    window = date_window(container.settings, now.date())
    rows = _observed(container, group, slug, window)
    probed: set[str] = set()
    unverified: set[str] = set()
    for row in rows:
        if Flag.RADIOMETRY_PROBED in row.flags:
            probed.update(row.scene_ids)
        if Flag.RADIOMETRY_UNVERIFIED in row.flags:
            unverified.update(row.scene_ids)
    return dg.AssetCheckResult(
        passed=not probed and not unverified,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{len(probed)} scenes where pixels overruled the metadata, {len(unverified)} that could not be verified."
        ),
        metadata={
            "probed_scenes": len(probed),
            "unverified_scenes": len(unverified),
            "probed": _named(sorted(probed)),
            "unverified": _named(sorted(unverified)),
        },
    )


def store_check(container: FarmIntel) -> dg.AssetCheckResult:
    """Return whether rows and rasters belong together, without changing anything."""
    found = [entry for entry in container.check_store(rehash=False, repair=False) if entry[1]]
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(f"{kind}: {count}" for kind, count, _ in found) or "The store is whole.",
        metadata={kind: f"{count} ({examples})" for kind, count, examples in found},
    )


def _observed(container: FarmIntel, group: AssetGroup, slug: str, window: DateWindow) -> Iterator[Observation]:
    """Yield the cells of the group's farms that carry a number, over a window of days."""
    return container.observations.observations(
        farm_ids=[farm.farm_id for farm in container.farms.list(cohort=group.cohort)],
        indices=[slug],
        provider=group.provider,
        collection=group.collection,
        start=window.start,
        end=window.end,
        statuses=[ObservationStatus.OBSERVED],
    )


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "") or "none"
