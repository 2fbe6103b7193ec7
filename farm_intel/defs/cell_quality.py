"""The combined quality check of one cell: pure rules from an outcome to a verdict with its parts."""

import math
from dataclasses import dataclass

import dagster as dg

from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.indices.index import SpectralIndex
from farm_intel.observing.model import CellOutcome

CHECK_NAME = "quality"
GOOD_VALID_FRACTION = 0.5
"""Share of the farm's area under which a mean speaks of less than half of the farm."""
ROUNDING = 1e-6
"""Slack for statistics computed in float64 from float32 reflectances, index units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellVerdict:
    """What the quality check of a cell says."""

    has_number: bool
    valid_fraction_good: bool
    value_in_range: bool
    radiometry_agrees: bool
    first_choice: bool
    """False: another provider was to answer and could not."""
    small_field: bool
    """Edge pixels had to be used; tells the reader, does not fail the check."""
    violations: tuple[str, ...]
    """Broken promises of our own records; empty unless there is a fault in the software."""

    @property
    def passed(self) -> bool:
        """True where the number can be used as it is."""
        parts = (
            self.has_number,
            self.valid_fraction_good,
            self.value_in_range,
            self.radiometry_agrees,
            self.first_choice,
        )
        return all(parts) and not self.violations

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """ERROR for a broken record, WARN for nature and catalogues."""
        return dg.AssetCheckSeverity.ERROR if self.violations else dg.AssetCheckSeverity.WARN


def judge_cell(outcome: CellOutcome, index: SpectralIndex) -> CellVerdict:
    """Return the verdict on one stored cell.

    The value must lie in the range an agronomist's interpretation covers where the index has one, else in the
    formula's valid range; both are unitless.
    """
    number = outcome.statistics
    low, high = index.display_range if index.interpretation else index.valid_range
    return CellVerdict(
        has_number=number is not None,
        valid_fraction_good=outcome.valid_pixel_fraction >= GOOD_VALID_FRACTION,
        value_in_range=number is not None and low - ROUNDING <= number.mean <= high + ROUNDING,
        radiometry_agrees=not {Flag.RADIOMETRY_PROBED, Flag.RADIOMETRY_UNVERIFIED} & set(outcome.flags),
        first_choice=Flag.FALLBACK_PROVIDER not in outcome.flags,
        small_field=Flag.MIXED_PIXELS in outcome.flags,
        violations=tuple(_violations(outcome)),
    )


def _violations(outcome: CellOutcome) -> list[str]:
    found = []
    observed = outcome.status is ObservationStatus.OBSERVED
    number = outcome.statistics
    if observed != (number is not None):
        found.append(f"status {outcome.status} {'without' if observed else 'with'} a number")
    if number is not None:
        if not all(map(math.isfinite, (number.mean, number.std, number.min, number.max))):
            found.append("a statistic is not finite")
        elif not number.min - ROUNDING <= number.mean <= number.max + ROUNDING:
            found.append(f"mean {number.mean:g} outside its own minimum {number.min:g} and maximum {number.max:g}")
        if not outcome.scene_ids:
            found.append("a number without a scene")
    if not observed and not outcome.reason:
        found.append(f"status {outcome.status} without a reason")
    for name, fraction in (("valid", outcome.valid_pixel_fraction), ("cloud", outcome.cloud_fraction)):
        if not -ROUNDING <= fraction <= 1 + ROUNDING:
            found.append(f"{name} fraction {fraction:g} outside 0..1")
    return found


def verdict_metadata(verdict: CellVerdict, outcome: CellOutcome) -> dict[str, str | bool | int | float]:
    """Return the parts of a verdict as check metadata."""
    metadata: dict[str, str | bool | int | float] = {
        "has_number": verdict.has_number,
        "valid_fraction": round(outcome.valid_pixel_fraction, 4),
        "valid_fraction_good": verdict.valid_fraction_good,
        "value_in_range": verdict.value_in_range,
        "radiometry_agrees": verdict.radiometry_agrees,
        "first_choice": verdict.first_choice,
        "small_field": verdict.small_field,
        "status": outcome.status.value,
    }
    if not verdict.passed:
        metadata["because"] = explain_verdict(verdict, outcome)
    return metadata


def explain_verdict(verdict: CellVerdict, outcome: CellOutcome) -> str:
    """Return in words why a cell's check did not pass; empty where it did.

    Dagster sorts check metadata by name, so these words come first in the page.
    """
    if verdict.violations:
        return "the record breaks its contract: " + "; ".join(verdict.violations)
    if not verdict.has_number:
        return f"no number, {outcome.status.value}: {outcome.reason}"
    parts = {
        f"only {outcome.valid_pixel_fraction:.0%} of the farm's area is clear": not verdict.valid_fraction_good,
        "the mean lies outside the range the index is read in": not verdict.value_in_range,
        "metadata and pixels of the scene do not agree on the reflectance offset": not verdict.radiometry_agrees,
        "it stands in for a provider that could not answer": not verdict.first_choice,
    }
    return "; ".join(words for words, applies in parts.items() if applies)
