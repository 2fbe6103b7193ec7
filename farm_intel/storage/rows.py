"""From database rows back to domain values; the inverse of publishing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Row

from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.observations import (
    STATISTICS,
    CoverageDay,
    Flag,
    Observation,
    ObservationKey,
    ObservationStatus,
    ZonalStatistics,
)
from farm_intel.storage import tables
from farm_intel.storage.raster_store import RasterStore
from farm_intel.storage.rasters import RasterBand, RasterRecord

_OBSERVATION_COLUMNS = tuple(tables.observations.columns.keys())

STATUS_RANK: Mapping[str, int] = {
    status.value: rank
    for rank, status in enumerate(
        (
            ObservationStatus.OBSERVED,
            ObservationStatus.TOO_FEW_PIXELS,
            ObservationStatus.CLOUDY,
            ObservationStatus.OUTSIDE_FOOTPRINT,
            ObservationStatus.REJECTED,
            ObservationStatus.PROVIDER_FAILED,
            ObservationStatus.NO_ACQUISITION,
        )
    )
}
"""How much a status tells; the smaller number stands in the calendar."""


def parse_observation(row: Row[Any]) -> Observation:
    """Return the observation of a row with every column of the table, in the table's order."""
    cell = dict(zip(_OBSERVATION_COLUMNS, row, strict=True))  # named access to a Row costs more than all the rest
    status = ObservationStatus(cell["status"])
    statistics = None
    if status is ObservationStatus.OBSERVED:
        statistics = ZonalStatistics(**{name: _number(cell[name]) for name in STATISTICS})
    return Observation(
        key=ObservationKey(
            farm_id=cell["farm_id"],
            index=cell["index_slug"],
            provider=cell["provider"],
            collection=cell["collection"],
            solar_day=cell["solar_day"],
        ),
        status=status,
        statistics=statistics,
        pixel_count=cell["pixel_count"],
        valid_pixel_count=cell["valid_pixel_count"],
        used_pixel_count=cell["used_pixel_count"],
        n_effective=cell["n_effective"],
        standard_error=cell["standard_error"],
        valid_pixel_fraction=cell["valid_pixel_fraction"],
        cloud_fraction=cell["cloud_fraction"],
        covered_fraction=cell["covered_fraction"],
        masked_fractions=json.loads(cell["masked_fractions"]),
        flags=_flags(cell["flags"]),
        scene_ids=_names(cell["scene_ids"]),
        reason=cell["reason"],
        raster_sha256=cell["raster_sha256"],
        raster_band=cell["raster_band"],
        raster_path=_path(cell["raster_sha256"]),
        fingerprint=cell["fingerprint"],
        boundary_version=cell["boundary_version"],
        gsd_m=cell["gsd_m"],
        radiometry=cell["radiometry"],
        acquired_at=cell["acquired_at"],
        recorded_at=cell["recorded_at"],
        run_id=cell["run_id"],
    )


def parse_coverage_day(row: Row[Any]) -> CoverageDay:
    """Return the calendar day of a row."""
    return CoverageDay(
        farm_id=row.farm_id,
        provider=row.provider,
        collection=row.collection,
        solar_day=row.solar_day,
        status=ObservationStatus(row.status),
        reason=row.reason,
        scene_ids=_names(row.scene_ids),
        valid_pixel_fraction=row.valid_pixel_fraction,
        cloud_fraction=row.cloud_fraction,
        covered_fraction=row.covered_fraction,
        raster_sha256=row.raster_sha256,
        raster_path=_path(row.raster_sha256),
        recorded_at=row.recorded_at,
    )


def parse_raster(row: Row[Any]) -> RasterRecord:
    """Return the raster of a row."""
    pixel_m, _, west_m, _, _, north_m = json.loads(row.transform)
    return RasterRecord(
        sha256=row.sha256,
        path=row.path,
        size_bytes=row.size_bytes,
        grid=PixelGrid(
            crs=row.crs, width_px=row.width, height_px=row.height, pixel_m=pixel_m, west_m=west_m, north_m=north_m
        ),
        bands=tuple(
            RasterBand(name=band["index"], scale=band["scale"], offset=band["offset"]) for band in json.loads(row.bands)
        ),
        created_at=row.created_at,
    )


@lru_cache(maxsize=4096)
def _flags(text: str) -> tuple[Flag, ...]:
    return tuple(Flag(flag) for flag in json.loads(text))


@lru_cache(maxsize=65536)
def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _path(sha256: str | None) -> str | None:
    return None if sha256 is None else RasterStore.relative_path(sha256)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
