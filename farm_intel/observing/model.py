"""What the observe-farms use case takes and gives; values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from farm_intel.domain.observations import Flag, ObservationKey, ObservationStatus, ZonalStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveRequest:
    """A block of cells: farms x days x indices of one provider and collection."""

    provider: str
    collection: str
    indices: tuple[str, ...]
    """Slugs."""
    farm_ids: tuple[str, ...]
    days: tuple[date, ...]
    """Solar days, ascending; need not be contiguous."""
    force: bool = False
    """Recompute cells whose fingerprint is unchanged."""
    flags: frozenset[Flag] = frozenset()
    """Put on every cell that is computed, besides those its pixels earn it."""


@dataclass(slots=True, kw_only=True)
class CellOutcome:
    """What became of one cell, told as soon as it is stored; a value that nobody changes.

    Not frozen: a frozen one takes three times as long to make, and there is one for every cell.
    """

    key: ObservationKey
    status: ObservationStatus
    reason: str
    statistics: ZonalStatistics | None
    valid_pixel_fraction: float
    cloud_fraction: float
    covered_fraction: float
    used_pixel_count: int
    n_effective: float
    standard_error: float | None
    flags: tuple[Flag, ...]
    scene_ids: tuple[str, ...]
    radiometry: str
    fingerprint: str
    raster_path: str | None
    """Relative to the raster root."""
    raster_band: int | None
    recomputed: bool
    """False: the stored cell had the same fingerprint and was left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a request would read and cost, without reading a pixel."""

    provider: str
    collection: str
    farms: int
    days_asked: int
    days_with_scenes: int
    scenes: int
    cells: int
    """Farm x day x index cells with a scene over the farm."""
    cells_up_to_date: int
    cells_to_compute: int
    blocks: int
    requests: int
    bytes_to_fetch: int
    cpu_seconds: float
    wall_seconds: float
    units: float = 0.0
    """What it would cost in the provider's own unit; 0 where reading costs nothing."""
    notes: tuple[str, ...] = ()
    """How the estimates were made, and scene problems already known."""
    per_day: tuple[tuple[date, int, int], ...] = field(default_factory=tuple)
    """(day, scenes, cells to compute)."""
