"""The health of what is fused: whether providers agree, and how sure the values are."""

import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from farm_intel.defs.fusing import FUSED
from farm_intel.defs.partitions import date_window
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.domain.assessment import FusedObservation
from farm_intel.domain.fused_days import DISAGREEMENT

DISAGREEMENT_CHECK, CONFIDENCE_CHECK = "disagreement", "confidence"
LOOKBACK_DAYS = 20
DISAGREEMENT_SHARE = 0.05
"""Share of fused values from which on disagreement is no longer a cell's matter; a convention."""
LOW_CONFIDENCE = 0.5
"""A value under it says less than its standard error does; a convention."""
NAMED = 20
"""Cells named in a result."""

DESCRIPTIONS = {
    DISAGREEMENT_CHECK: f"Providers disagree on at most {DISAGREEMENT_SHARE:.0%} of the last {LOOKBACK_DAYS} days' "
    "fused values; lists where they do.",
    CONFIDENCE_CHECK: f"The median confidence of the last {LOOKBACK_DAYS} days' fused values is at least "
    f"{LOW_CONFIDENCE:g}.",
}


def recent_fused(container: FarmIntel, now: datetime) -> list[FusedObservation]:
    """Return the usable fused values of the last days, without their candidates."""
    window = date_window(container.settings, now.date())
    start = max(window.start, window.end - timedelta(days=LOOKBACK_DAYS))
    slugs = container.settings.asset_indices
    return list(
        container.assessments.fused(indices=slugs, start=start, end=window.end, usable=True, with_candidates=False)
    )


def disagreement_check(fused: list[FusedObservation]) -> dg.AssetCheckResult:
    """Return on which cells the providers disagree."""
    found = [item for item in fused if DISAGREEMENT in item.flags]
    share = len(found) / len(fused) if fused else 0.0
    rows = [f"| {item.solar_day} | {item.farm_id} | {item.index} | {item.reason} |" for item in found[:NAMED]]
    more = len(found) - NAMED
    table = "\n".join(["| day | farm | index | reason |", "|---|---|---|---|", *rows])
    return dg.AssetCheckResult(
        check_name=DISAGREEMENT_CHECK,
        passed=share <= DISAGREEMENT_SHARE,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Providers disagree on {len(found)} of {len(fused)} fused values ({share:.1%}).",
        metadata={
            "share": round(share, 4),
            "disagreements": len(found),
            "fused": len(fused),
            "cells": dg.MetadataValue.md(table + (f"\n\nand {more} more" if more > 0 else "")),
        },
    )


def confidence_check(fused: list[FusedObservation]) -> dg.AssetCheckResult:
    """Return how sure the fused values are."""
    median = statistics.median(item.confidence for item in fused) if fused else None
    low = sum(item.confidence < LOW_CONFIDENCE for item in fused)
    return dg.AssetCheckResult(
        check_name=CONFIDENCE_CHECK,
        passed=median is None or median >= LOW_CONFIDENCE,
        severity=dg.AssetCheckSeverity.WARN,
        description="Nothing was fused."
        if median is None
        else f"The median confidence is {median:.2f}; {low} of {len(fused)} values are below {LOW_CONFIDENCE:g}.",
        metadata={"low": low, "fused": len(fused)} | ({} if median is None else {"median": round(median, 4)}),
    )


FUSED_CHECKS: dict[str, Callable[[list[FusedObservation]], dg.AssetCheckResult]] = {
    DISAGREEMENT_CHECK: disagreement_check,
    CONFIDENCE_CHECK: confidence_check,
}
FUSED_HEALTH_KEY = dg.AssetKey(["health", FUSED])


@dg.asset(
    key=FUSED_HEALTH_KEY,
    group_name="health",
    description="Whether the providers agree, and how sure the fused values of the last days are.",
    kinds={"python"},
    check_specs=[
        dg.AssetCheckSpec(name, asset=FUSED_HEALTH_KEY, description=DESCRIPTIONS[name]) for name in FUSED_CHECKS
    ],
)
def fused_health(farm_intel: FarmIntelResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the plain class
    """Read stored fused values; asks no provider."""
    now = datetime.now(UTC)
    fused = recent_fused(farm_intel.container, now)
    return dg.MaterializeResult(
        check_results=[check(fused) for check in FUSED_CHECKS.values()], metadata={"checked_at": now.isoformat()}
    )
