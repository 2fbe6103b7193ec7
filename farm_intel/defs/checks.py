"""What is looked at about a provider and about the store: stored rows, breakers and budgets; no provider is asked."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg

from farm_intel.defs.groups import serves
from farm_intel.defs.partitions import DateWindow, date_window
from farm_intel.defs.ports import FarmIntel, Source
from farm_intel.domain.observations import Flag, Observation, ObservationStatus
from farm_intel.observing.freshness import Freshness, FreshnessQuestion, farm_freshness
from farm_intel.resilience.state import BreakerState

FRESHNESS, COVERAGE, RADIOMETRY, FALLBACK, BUDGET, BREAKERS, STORE = (
    "freshness",
    "coverage",
    "radiometry",
    "fallback",
    "budget",
    "breakers",
    "store",
)
STALE_AFTER_DAYS = 20
"""Two revisits of a single Sentinel-2 satellite: with less, one cloudy week would be called stale."""
BUDGET_WARNING_SHARE = 0.8
"""Share of a month's budget from which on an operator should know."""
NAMED = 20
"""Farms or scenes named in a result."""

DESCRIPTIONS = {
    FRESHNESS: (
        f"Every farm has a number that is at most {STALE_AFTER_DAYS} days older than the newest possible day; farms "
        "without one are told apart by why: no pass, cloudy, unusable, provider down, queued."
    ),
    COVERAGE: "What became of the window's cells, by status; WARN where scenes could not be read.",
    RADIOMETRY: "Metadata and pixels of the scenes agree on the reflectance offset; lists those where they do not.",
    FALLBACK: "No number came from this provider because another could not answer.",
    BUDGET: f"Less than {BUDGET_WARNING_SHARE:.0%} of the month's budget is spent or reserved.",
    BREAKERS: "No host of the provider counts as down.",
    STORE: "Every row has its raster and every raster its row (checksums: `farm-intel fsck`).",
}


def freshness_check(container: FarmIntel, source: Source, now: datetime) -> dg.AssetCheckResult:
    """Return how many active farms lack a recent number and why; a FreshnessPolicy could only speak of all farms."""
    window = date_window(container.settings, now.date())
    end = min(window.end, now.date() - timedelta(days=1))
    start = end - timedelta(days=STALE_AFTER_DAYS)
    farm_ids = tuple(farm.farm_id for farm in container.farms.list())
    stale: dict[str, dict[Freshness, list[str]]] = {}
    for slug in _served(container, source):
        question = FreshnessQuestion(
            farm_ids=farm_ids, provider=source.name, collection=source.collection, index=slug, start=start, end=end
        )
        by_reason: dict[Freshness, list[str]] = {}
        for farm_id, freshness in farm_freshness(container.observations, question).items():
            if freshness is not Freshness.FRESH:
                by_reason.setdefault(freshness, []).append(farm_id)
        stale[slug] = by_reason
    counts: Counter[Freshness] = Counter({reason: 0 for reason in Freshness if reason is not Freshness.FRESH})
    for by_reason in stale.values():
        counts.update({reason: len(farms) for reason, farms in by_reason.items()})
    missing = sum(counts.values())
    told = ", ".join(f"{count} {reason.value.replace('_', ' ')}" for reason, count in counts.items() if count)
    return dg.AssetCheckResult(
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{missing} of {len(farm_ids) * len(stale)} farm series have no number since {start}"
        + (f": {told}." if told else "."),
        metadata={
            "since": start.isoformat(),
            **{reason.value: count for reason, count in counts.items()},
            "farms": dg.MetadataValue.md(_stale_table(stale)),
        },
    )


def _stale_table(stale: dict[str, dict[Freshness, list[str]]]) -> str:
    rows = [
        f"| {slug} | {reason.value} | {_listed(farms)} |"
        for slug, by_reason in stale.items()
        for reason, farms in by_reason.items()
    ]
    return "\n".join(["| index | why | farms |", "|---|---|---|", *rows]) if rows else "every farm is fresh"


def coverage_check(container: FarmIntel, source: Source, now: datetime) -> dg.AssetCheckResult:
    """Return what became of the cells of the last days, by status."""
    window = _recent(container, now)
    counts = Counter(
        row.status
        for row in container.observations.observations(
            provider=source.name, collection=source.collection, start=window.start, end=window.end
        )
    )
    failed = counts[ObservationStatus.PROVIDER_FAILED]
    total = sum(counts.values())
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{counts[ObservationStatus.OBSERVED]} of {total} cells since {window.start} have a number, "
        f"{failed} could not be read.",
        metadata={status.value: counts[status] for status in ObservationStatus if counts[status]} or {"cells": 0},
    )


def radiometry_check(container: FarmIntel, source: Source, now: datetime) -> dg.AssetCheckResult:
    """Return which scenes of the window had pixels that contradict, or cannot confirm, their metadata."""
    probed: set[str] = set()
    unverified: set[str] = set()
    for row in _observed(container, source, date_window(container.settings, now.date())):
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
            "probed": _listed(sorted(probed)),
            "unverified": _listed(sorted(unverified)),
        },
    )


def fallback_check(container: FarmIntel, source: Source, now: datetime) -> dg.AssetCheckResult:
    """Return the numbers that stand in for a provider before this one in the order."""
    window = _recent(container, now)
    days = sorted(
        {row.key.solar_day for row in _observed(container, source, window) if Flag.FALLBACK_PROVIDER in row.flags}
    )
    return dg.AssetCheckResult(
        passed=not days,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(days)} days since {window.start} were asked of {source.name} because a provider before it "
        "could not answer.",
        metadata={"days": len(days), "named": _listed([day.isoformat() for day in days])},
    )


def budget_check(container: FarmIntel, source: Source, now: datetime) -> dg.AssetCheckResult:  # noqa: ARG001 - one form
    """Return how much of the provider's month is spent."""
    status = next((status for status in container.budgets() if status.provider == source.name), None)
    if status is None:
        return dg.AssetCheckResult(passed=True, description="The provider has no monthly budget.")
    used = status.spent + status.reserved
    return dg.AssetCheckResult(
        passed=used < BUDGET_WARNING_SHARE * status.limit,
        severity=dg.AssetCheckSeverity.ERROR if used >= status.limit else dg.AssetCheckSeverity.WARN,
        description=f"{used:,.1f} of {status.limit:,.0f} {status.unit}s of {status.month:%B %Y} are used.",
        metadata={
            "spent": status.spent,
            "reserved": status.reserved,
            "remaining": status.remaining,
            "calls": status.calls,
            "unit": status.unit,
        },
    )


def breaker_check(container: FarmIntel, source: Source, now: datetime) -> dg.AssetCheckResult:
    """Return which hosts of the provider are left alone at the moment."""
    down = [
        (operation, record)
        for operation, record in container.breakers()
        if operation.provider == source.name and record.state(now) is not BreakerState.CLOSED
    ]
    rows = [
        f"| {operation.host} | {operation.name} | {record.state(now).value} | {record.open_until:%H:%M:%S} UTC "
        f"| {record.reason} |"
        for operation, record in down
    ]
    return dg.AssetCheckResult(
        passed=not down,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(down)} operations are left alone because their host is down."
        if down
        else "No host is down.",
        metadata={
            "down": len(down),
            "operations": dg.MetadataValue.md(
                "\n".join(["| host | operation | breaker | until | last failure |", "|---|---|---|---|---|", *rows])
            ),
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


CHECKS: dict[str, Callable[[FarmIntel, Source, datetime], dg.AssetCheckResult]] = {
    FRESHNESS: freshness_check,
    COVERAGE: coverage_check,
    RADIOMETRY: radiometry_check,
    FALLBACK: fallback_check,
    BUDGET: budget_check,
    BREAKERS: breaker_check,
}


def _served(container: FarmIntel, source: Source) -> tuple[str, ...]:
    chosen = container.registry.select(container.settings.asset_indices)
    return tuple(index.slug for index in chosen if serves(source, index))


def _recent(container: FarmIntel, now: datetime) -> DateWindow:
    window = date_window(container.settings, now.date())
    return DateWindow(start=max(window.start, window.end - timedelta(days=STALE_AFTER_DAYS)), end=window.end)


def _observed(container: FarmIntel, source: Source, window: DateWindow) -> Iterator[Observation]:
    """Yield the provider's cells that carry a number, over a window of days."""
    return container.observations.observations(
        provider=source.name,
        collection=source.collection,
        start=window.start,
        end=window.end,
        statuses=[ObservationStatus.OBSERVED],
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "") or "none"
