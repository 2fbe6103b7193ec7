"""A judged batch with everything a store needs to make it permanent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from farm_intel.domain.batches import FarmDayBatch
from farm_intel.domain.quality import Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterEncoding:
    """How an index is stored as int16: value = data * scale + offset."""

    scale: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One batch, judged, ready to be stored in one go."""

    provider: str
    collection: str
    batch: FarmDayBatch
    judgement: Judgement
    encodings: tuple[RasterEncoding, ...]
    """Per index, in the batch's order."""
    fingerprints: tuple[tuple[str, ...], ...]
    """(F, I) input fingerprints."""
    boundary_versions: Mapping[str, int]
    """farm_id -> boundary version the pixels were cut with."""
    run_id: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReceipt:
    """What the store made of a publication."""

    raster_sha256: tuple[str | None, ...]
    """Per farm, in the batch's order."""
    raster_paths: tuple[str | None, ...]
    """Per farm, relative to the raster root."""
