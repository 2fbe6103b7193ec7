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

_EARNED = (Flag.MIXED_PIXELS, Flag.PARTIAL_COVERAGE, Flag.PARTLY_CLOUDY)
"""Flags that the pixels of a cell earn it."""


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
    uncovered = (covered <= 0.0) & covered.any(axis=1)[:, None]
    decided = np.array([verdict is not None for verdict in batch.verdicts], np.bool_)
    observed = enough & ~uncovered & ~decided[:, None]
    statuses = [[ObservationStatus.OBSERVED] * len(batch.indices) for _ in batch.farm_ids]
    reasons = [[""] * len(batch.indices) for _ in batch.farm_ids]
    # one by one only those that need words: nearly every cell of a clear day is observed
    for f, i in np.argwhere(~observed).tolist():
        verdict = batch.verdicts[f]
        if verdict is not None:
            statuses[f][i], reasons[f][i] = verdict.status, verdict.reason
        elif uncovered[f, i]:
            statuses[f][i] = ObservationStatus.REJECTED
            reasons[f][i] = "no scene of the day offers every band this index needs"
        else:
            shares = (float(valid[f, i]), float(obscured[f, i]), float(covered[f, i]))
            statuses[f][i], reasons[f][i] = _why_not(*shares, float(batch.used_area_px[f, i]), rule)
    codes = 1 * (batch.mixed & observed) + 2 * (covered < rule.partial_coverage_below)
    codes += 4 * ((obscured > rule.cloudy_flag_above) & observed)
    flags = [[_flags(own, code) for code in row] for own, row in zip(batch.flags, codes.tolist(), strict=True)]
    if decided.any():
        valid, cloud, covered = valid.copy(), cloud.copy(), covered.copy()
        valid[decided] = cloud[decided] = covered[decided] = 0.0
    return Judgement(
        statuses=statuses,
        reasons=reasons,
        flags=flags,
        valid_fraction=valid,
        cloud_fraction=cloud,
        covered_fraction=covered,
    )


def _why_not(
    valid: float, obscured: float, covered: float, used_area_px: float, rule: QualityRule
) -> tuple[ObservationStatus, str]:
    """Return status and reason of a cell without a number."""
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
def _flags(scene_flags: frozenset[Flag], code: int) -> tuple[Flag, ...]:
    """Return the scene's flags with those the cell earned, bit k of the code for the k-th of _EARNED."""
    return tuple(sorted(scene_flags.union(flag for bit, flag in enumerate(_EARNED) if code >> bit & 1)))
