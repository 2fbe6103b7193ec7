"""Pure rules from counts to status and flags. Every threshold is a named field with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import FarmDayBatch
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.domain.products import PixelReason

CLOUD_REASONS = (PixelReason.CLOUD, PixelReason.NEAR_CLOUD)
OBSCURED_REASONS = (PixelReason.CLOUD, PixelReason.NEAR_CLOUD, PixelReason.SHADOW, PixelReason.SNOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRule:
    """When a cell has a number, and what its number must be flagged with."""

    min_valid_fraction: float = 0.10
    """Below this share of the farm's area a mean speaks of a corner, not of the farm."""
    min_used_area_px: float = 1.0
    """At least one whole pixel of farm area; a smaller farm touches several pixels that show mostly its neighbours."""
    partial_coverage_below: float = 0.99
    """Share of the farm with data under which the cell is flagged partial."""
    cloudy_flag_above: float = 0.01
    """Share of the farm obscured above which an observed cell is flagged partly cloudy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Status, reason and flags for every cell of a batch; arrays are (F, I)."""

    statuses: list[list[ObservationStatus]]
    reasons: list[list[str]]
    flags: list[list[tuple[Flag, ...]]]
    valid_fraction: npt.NDArray[np.float64]
    cloud_fraction: npt.NDArray[np.float64]
    covered_fraction: npt.NDArray[np.float64]


def judge(batch: FarmDayBatch, rule: QualityRule) -> Judgement:
    """Decide for every farm and index of a batch whether there is a number, and why not.

    Order of the reasons: a verdict of the engine, no data under the farm, obscured, too few pixels.
    """
    fractions = batch.reason_fractions
    valid = fractions[:, :, PixelReason.VALID]
    cloud = fractions[:, :, list(CLOUD_REASONS)].sum(axis=2)
    obscured = fractions[:, :, list(OBSCURED_REASONS)].sum(axis=2)
    covered = 1.0 - fractions[:, :, PixelReason.NODATA]
    enough = (batch.used_area_px >= rule.min_used_area_px) & (valid >= rule.min_valid_fraction)
    enough &= np.isfinite(batch.statistics[:, :, 0])
    partial = (covered < rule.partial_coverage_below).tolist()
    clouded = (obscured > rule.cloudy_flag_above).tolist()
    uncovered = ((covered <= 0.0) & covered.any(axis=1)[:, None]).tolist()
    mixed = batch.mixed.tolist()
    # lists, because asking an array for one number at a time costs more than judging it
    enoughs, valids, obscureds, covereds, areas = (
        array.tolist() for array in (enough, valid, obscured, covered, batch.used_area_px)
    )
    statuses: list[list[ObservationStatus]] = []
    reasons: list[list[str]] = []
    flags: list[list[tuple[Flag, ...]]] = []
    for f, verdict in enumerate(batch.verdicts):
        row: list[tuple[ObservationStatus, str]] = [
            (verdict.status, verdict.reason)
            if verdict is not None
            else (ObservationStatus.REJECTED, "no scene of the day offers every band this index needs")
            if uncovered[f][i]
            else _judge_cell(enoughs[f][i], valids[f][i], obscureds[f][i], covereds[f][i], areas[f][i], rule)
            for i in range(len(batch.indices))
        ]
        statuses.append([status for status, _ in row])
        reasons.append([reason for _, reason in row])
        flags.append(
            [
                _flags(
                    batch.flags[f],
                    mixed=mixed[f][i],
                    partial=partial[f][i],
                    clouded=clouded[f][i],
                    observed=status is ObservationStatus.OBSERVED,
                )
                for i, (status, _) in enumerate(row)
            ],
        )
    if any(batch.verdicts):
        has_verdict = np.array([verdict is not None for verdict in batch.verdicts])
        valid, cloud, covered = valid.copy(), cloud.copy(), covered.copy()
        valid[has_verdict] = cloud[has_verdict] = covered[has_verdict] = 0.0
    return Judgement(
        statuses=statuses,
        reasons=reasons,
        flags=flags,
        valid_fraction=valid,
        cloud_fraction=cloud,
        covered_fraction=covered,
    )


def _judge_cell(
    enough: bool,  # noqa: FBT001 - one of six measured facts, always passed by position
    valid: float,
    obscured: float,
    covered: float,
    used_area_px: float,
    rule: QualityRule,
) -> tuple[ObservationStatus, str]:
    if enough:
        return ObservationStatus.OBSERVED, ""
    if covered <= 0.0:
        return ObservationStatus.OUTSIDE_FOOTPRINT, "the scene has no data over the farm"
    if obscured > 0.0 and obscured >= 0.5 * (covered - valid):
        return (
            ObservationStatus.CLOUDY,
            f"{obscured:.0%} of the farm under cloud, shadow or snow, {valid:.0%} clear",
        )
    if covered < rule.min_valid_fraction:
        return ObservationStatus.OUTSIDE_FOOTPRINT, f"the scene has data over only {covered:.0%} of the farm"
    if valid >= rule.min_valid_fraction and used_area_px < rule.min_used_area_px:
        size = f"{used_area_px:.2f} of one whole pixel"
        return (
            ObservationStatus.TOO_FEW_PIXELS,
            f"the usable part of the farm is {size}: the pixels show its neighbours",
        )
    return ObservationStatus.TOO_FEW_PIXELS, f"only {valid:.0%} of the farm has usable pixels"


@lru_cache(maxsize=4096)
def _flags(
    scene_flags: frozenset[Flag], *, mixed: bool, partial: bool, clouded: bool, observed: bool
) -> tuple[Flag, ...]:
    flags = set(scene_flags)
    if mixed and observed:
        flags.add(Flag.MIXED_PIXELS)
    if partial:
        flags.add(Flag.PARTIAL_COVERAGE)
    if clouded and observed:
        flags.add(Flag.PARTLY_CLOUDY)
    return tuple(sorted(flags))
