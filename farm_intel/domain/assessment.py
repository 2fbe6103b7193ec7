"""What is made of observations: candidates with their confidence, the fused value, the daily series, season, state.

Values only. Nothing here is an observation: a fused value names the candidates it comes from, and a day of the daily
series says whether anything was seen on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from farm_intel.domain.observations import ObservationKey


class CandidateVerdict(StrEnum):
    """What became of one provider's observation in the fusion."""

    CHOSEN = "chosen"
    COMBINED = "combined"
    """One of several that the fused value averages."""
    OUTRANKED = "outranked"
    """Good, but another candidate is better."""
    LOW_CONFIDENCE = "low_confidence"
    DESPIKED = "despiked"
    """Against its neighbours in time it looks like unmasked cloud or shadow, not like an event."""
    CONTEXT_ONLY = "context_only"
    """The field is too small for this product's pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """How sure an observation is, 0 to 1, with what it is made of."""

    value: float
    components: Mapping[str, float] = field(default_factory=dict)
    """Component (`source`, `clear`, `valid`, `purity`, `temporal`) -> 0..1; the rule that joins them is data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One provider's observation of a farm, index and day, as the fusion saw it."""

    key: ObservationKey
    observed_day: date
    """Solar day the pixels were really seen: for composites the median pixel's day, not the window's first."""
    value: float
    """Mean as observed."""
    harmonised: float
    """Mean on the common sensor's scale; equal to `value` where no adjustment applies."""
    harmonisation: str
    """The adjustment that was applied, with its source; empty for none."""
    standard_error: float
    """Of the mean, index units, edge and radiometry terms included."""
    confidence: Confidence
    verdict: CandidateVerdict
    reason: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedObservation:
    """The one value of a farm, index and day, from all providers' candidates."""

    farm_id: str
    index: str
    solar_day: date
    value: float | None
    """None where no candidate is usable; `reason` says why."""
    standard_error: float | None
    confidence: float
    method: str
    """`single`, `weighted` or `none`."""
    candidates: tuple[Candidate, ...]
    flags: tuple[str, ...] = ()
    """`provider_disagreement`, `fallback_provider`, and the flags of the candidates used."""
    reason: str = ""
    fingerprint: str = ""
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DailySeries:
    """A gap-free daily series between the first and the last usable observation. Interpolated, and says so."""

    farm_id: str
    index: str
    start: date
    values: npt.NDArray[np.float64]
    """(n,) one per day from `start`."""
    sigma: npt.NDArray[np.float64]
    """(n,) one standard deviation; widens with the distance from data."""
    observed: npt.NDArray[np.bool_]
    """(n,) True on days with a fused observation."""
    method: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeasonDay:
    """Where a farm stands on a day against its own past."""

    day: date
    value: float
    baseline: float | None
    """Median of the farm's other seasons on this day of season; None where there is none."""
    baseline_spread: float | None
    baseline_seasons: int
    """How many earlier seasons it rests on; with 0 there is no anomaly, and the record says so."""
    anomaly: float | None
    percentile: float | None
    trend_per_day: float | None
    """Slope over the trend window, index units per day."""
    trend_sigma: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phenology:
    """Start, peak and end of one growing season; None where the season has not got there or data do not show it."""

    start: date | None
    start_sigma_days: float | None
    peak: date | None
    peak_value: float | None
    end: date | None
    end_sigma_days: float | None
    amplitude: float | None
    complete: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """A farm's seasons of one index."""

    farm_id: str
    index: str
    days: tuple[SeasonDay, ...]
    seasons: tuple[Phenology, ...]
    note: str = ""
    """What a reader must know, e.g. that there is one season only."""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReason:
    """One fact a state rests on, as data: people's texts are made from it."""

    index: str
    fact: str
    """Key of a translatable text: `mean`, `trend`, `drop`, `anomaly`, `percentile`, `days_since_planting`, …"""
    value: float
    threshold: float | None = None
    source: str = ""
    """Where the threshold comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmState:
    """What a farm is in on a day, with reasons, an interpretation and an action (keys of translatable texts)."""

    farm_id: str
    day: date
    state: str
    since: date
    confidence: float
    reasons: tuple[StateReason, ...]
    interpretation: str
    action: str
    event: str | None = None
    """A dated event the classifier sees begin on or shortly before the day: `harvest`, `drought`, `flood`, `hail`."""
    crop: str | None = None
    rule_table: str = ""
    """Name and version of the rule table."""
    fingerprint: str = ""
