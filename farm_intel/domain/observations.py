"""An observation: one index, one farm, one solar day, one provider and collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

STATISTICS = ("mean", "median", "std", "min", "max", "p10", "p25", "p75", "p90")
"""Order of the statistics axis everywhere arrays carry them."""


class ObservationStatus(StrEnum):
    """What became of a cell; only `observed` carries a number."""

    OBSERVED = "observed"
    NO_ACQUISITION = "no_acquisition"
    OUTSIDE_FOOTPRINT = "outside_footprint"
    CLOUDY = "cloudy"
    TOO_FEW_PIXELS = "too_few_pixels"
    PROVIDER_FAILED = "provider_failed"
    REJECTED = "rejected"


class Flag(StrEnum):
    """What a reader of a number should know; sorted text in rows and API."""

    MIXED_PIXELS = "mixed_pixels"
    """Fewer than the pure-pixel minimum: the mean is coverage-weighted and includes edges."""
    PARTIAL_COVERAGE = "partial_coverage"
    """Part of the farm has no data (swath or file edge)."""
    PARTLY_CLOUDY = "partly_cloudy"
    MERGED_TILES = "merged_tiles"
    """Pixels of a second tile fill what the home tile did not see."""
    REPROJECTED = "reprojected"
    """Part of the pixels come from another UTM zone by nearest neighbour."""
    RADIOMETRY_PROBED = "radiometry_probed"
    """Pixels contradicted the catalogue's metadata; the probe's answer was used."""
    RADIOMETRY_UNVERIFIED = "radiometry_unverified"
    OLDER_PROCESSING = "older_processing"
    """The newest processing of the scene was unreadable; an older one was used."""
    PROVIDER_STATISTICS = "provider_statistics"
    """The provider took the statistics by its own means; there is no raster."""
    COMPOSITE = "composite"
    """Pixels of a window of days; `acquired_at` is the median pixel's day, the solar day is the window's first."""
    FALLBACK_PROVIDER = "fallback_provider"
    """Asked for because a provider before it in the order could not answer."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObservationKey:
    """Identity of a number; nothing here has a default."""

    farm_id: str
    index: str
    """Slug of the spectral index."""
    provider: str
    collection: str
    solar_day: date


@dataclass(slots=True, kw_only=True)
class ZonalStatistics:
    """Statistics of an index over a farm's counted pixels; unitless; a value that nobody changes.

    Not frozen: a frozen one takes three times as long to make, and there is one for every cell.
    """

    mean: float
    median: float
    std: float
    min: float
    max: float
    p10: float
    p25: float
    p75: float
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One stored cell as read back from the store."""

    key: ObservationKey
    status: ObservationStatus
    statistics: ZonalStatistics | None
    """None unless `status` is observed."""
    pixel_count: int
    """Pixels of the index's own ground sample distance that the farm touches."""
    valid_pixel_count: int
    """Of these, pixels that were clear and gave a finite index within its range."""
    used_pixel_count: int
    """Of these, pixels the statistics were taken over (the pure ones, where there are enough)."""
    n_effective: float
    """(sum w)^2 / sum w^2 over the used pixels, in pixels of the coarsest input band."""
    standard_error: float | None
    """std / sqrt(n_effective); assumes independent pixels, so it is a lower bound."""
    valid_pixel_fraction: float
    """Coverage-weighted share of the farm's area that is valid, 0..1."""
    cloud_fraction: float
    """Coverage-weighted share of the farm's area under cloud or its shadow halo (reasons cloud, near_cloud), 0..1."""
    covered_fraction: float
    """Coverage-weighted share of the farm's area with data at all, 0..1."""
    masked_fractions: Mapping[str, float] = field(default_factory=dict)
    """Reason -> share of the farm's area, for every reason that occurs; with `valid` they sum to 1."""
    flags: tuple[Flag, ...] = ()
    scene_ids: tuple[str, ...] = ()
    reason: str = ""
    """Why there is no number; empty for observed cells."""
    raster_sha256: str | None = None
    raster_band: int | None = None
    """1-based band of the raster."""
    raster_path: str | None = None
    """Relative to the raster root."""
    fingerprint: str = ""
    boundary_version: int = 0
    gsd_m: float = 0.0
    radiometry: str = ""
    """The rule that was applied, e.g. `scale 0.0001 offset 0 (flag)`."""
    acquired_at: datetime | None = None
    recorded_at: datetime | None = None
    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageDay:
    """One day of a farm's observation calendar, for one provider and collection."""

    farm_id: str
    provider: str
    collection: str
    solar_day: date
    status: ObservationStatus
    reason: str
    scene_ids: tuple[str, ...] = ()
    valid_pixel_fraction: float | None = None
    cloud_fraction: float | None = None
    covered_fraction: float | None = None
    raster_sha256: str | None = None
    raster_path: str | None = None
    recorded_at: datetime | None = None
