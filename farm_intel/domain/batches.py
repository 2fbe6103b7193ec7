"""What the engine hands on: arrays for many farms of one solar day, so that nothing is copied per cell.

Axes: F farms, I indices, S statistics (observations.STATISTICS), R reasons (products.PixelReason).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.domain.scenes import Scene, SceneProblem

RASTER_NODATA = -32768
"""int16 nodata of every raster we write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmShape:
    """What the engine needs of a farm."""

    farm_id: str
    boundary_wkb: bytes
    """EPSG:4326 longitude/latitude."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneDay:
    """All scenes of one provider, collection and solar day that may show any of the farms."""

    solar_day: date
    scenes: tuple[Scene, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterClip:
    """One farm's indices on the home tile's grid."""

    grid: PixelGrid
    data: npt.NDArray[np.int16]
    """(I, height, width); value = data * scale + offset of the index's encoding, RASTER_NODATA outside or masked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a farm has no pixels to judge on this day."""

    status: ObservationStatus
    reason: str
    transient: bool = False
    """True where the same read may succeed later: the cell counts as failed, not as an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmDayBatch:
    """Results for F farms of one solar day, computed together."""

    solar_day: date
    farm_ids: tuple[str, ...]
    indices: tuple[str, ...]
    """Slugs, in the order of axis I."""
    gsd_m: npt.NDArray[np.float32]
    """(I,) coarsest input band of each index."""
    statistics: npt.NDArray[np.float64]
    """(F, I, S), NaN where no pixel was used."""
    pixel_count: npt.NDArray[np.int32]
    """(F, I) pixels touched, in pixels of gsd_m."""
    valid_pixel_count: npt.NDArray[np.int32]
    """(F, I)"""
    used_pixel_count: npt.NDArray[np.int32]
    """(F, I)"""
    n_effective: npt.NDArray[np.float64]
    """(F, I)"""
    used_area_px: npt.NDArray[np.float64]
    """(F, I) area of the farm inside the used pixels, in pixels of gsd_m."""
    mixed: npt.NDArray[np.bool_]
    """(F, I) True where edge pixels had to be used."""
    reason_fractions: npt.NDArray[np.float64]
    """(F, I, R) shares of the farm's area; sum to 1 along R."""
    clips: tuple[RasterClip | None, ...]
    scene_ids: tuple[tuple[str, ...], ...]
    """Scenes whose pixels were used, per farm."""
    acquired_at: tuple[datetime | None, ...]
    """Of the home scene, per farm."""
    flags: tuple[frozenset[Flag], ...]
    """Scene-level flags per farm (merged, reprojected, radiometry, older processing)."""
    radiometry: tuple[str, ...]
    """The rule applied, per farm."""
    verdicts: tuple[Verdict | None, ...]
    """Per farm; a verdict means the arrays of this farm are empty (NaN, 0)."""
    problems: tuple[SceneProblem, ...] = ()
    retry_reasons: tuple[str, ...] = ()
    """Per farm, why reading again may give a better number, empty where it would not; no tuple: nowhere."""

    def worth_retrying(self, position: int) -> bool:
        """Return whether a scene that this farm's numbers lack could not be read for now."""
        return bool(self.retry_reasons) and bool(self.retry_reasons[position])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCounters:
    """What reading cost; adds up over a run."""

    requests: int = 0
    bytes_fetched: int = 0
    blocks_decoded: int = 0
    blocks_touched: int = 0
    """Distinct blocks any farm needed: the least that can be decoded."""
    bytes_decoded: int = 0
    peak_bytes_held: int = 0
