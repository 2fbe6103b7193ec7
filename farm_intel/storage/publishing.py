"""From a judged batch to rasters and columns of rows; whole columns at a time, because a batch has 25,000 cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.observations import STATISTICS, Flag, ObservationStatus
from farm_intel.domain.products import PixelReason
from farm_intel.domain.publication import Publication
from farm_intel.storage.bulk import ColumnValues, Same, instant_text
from farm_intel.storage.geotiff import encode_geotiff
from farm_intel.storage.raster_store import RasterStore
from farm_intel.storage.rasters import RasterBand
from farm_intel.storage.rows import STATUS_RANK

FRACTION_DIGITS = 6
"""Digits kept of masked fractions: a millionth of a farm is less than a pixel of any farm we accept."""

_BATCH_BYTES = 16 << 20
_REASON_NAMES = tuple(reason.name.lower() for reason in PixelReason)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRaster:
    """One raster that is on its way into the store."""

    position: int
    """Of the farm in the batch."""
    sha256: str
    size_bytes: int
    grid: PixelGrid


def farm_encoder(publication: Publication) -> Callable[[int], bytes | None]:
    """Return what makes a farm's GeoTIFF from its position in the batch.

    It returns None where no index has a number: a raster without a value helps nobody.
    """
    batch, statuses = publication.batch, publication.judgement.statuses
    bands = raster_bands(publication)
    metadata = {
        "FARM_ID": "",
        "SOLAR_DAY": batch.solar_day.isoformat(),
        "PROVIDER": publication.provider,
        "COLLECTION": publication.collection,
    }

    def encode(position: int) -> bytes | None:
        clip = batch.clips[position]
        if clip is None or ObservationStatus.OBSERVED not in statuses[position]:
            return None
        return encode_geotiff(clip.data, clip.grid, bands, {**metadata, "FARM_ID": batch.farm_ids[position]})

    return encode


def raster_bands(publication: Publication) -> tuple[RasterBand, ...]:
    """Return name and scaling of the bands, in the batch's order."""
    return tuple(
        RasterBand(name=name, scale=encoding.scale, offset=encoding.offset)
        for name, encoding in zip(publication.batch.indices, publication.encodings, strict=True)
    )


def write_rasters(publication: Publication, store: RasterStore) -> list[WrittenRaster | None]:
    """Make the rasters of a publication permanent and return them per farm; holds at most some MiB of them at once."""
    written: list[WrittenRaster | None] = [None] * len(publication.batch.farm_ids)
    pending: dict[str, bytes] = {}
    size = 0
    encode = farm_encoder(publication)
    for position, clip in enumerate(publication.batch.clips):
        content = encode(position)
        if content is None or clip is None:
            continue
        sha256 = store.address(content)
        pending[sha256] = content
        size += len(content)
        written[position] = WrittenRaster(position=position, sha256=sha256, size_bytes=len(content), grid=clip.grid)
        if size >= _BATCH_BYTES:
            store.put_many(pending)
            pending, size = {}, 0
    store.put_many(pending)
    return written


def raster_columns(
    publication: Publication, written: Sequence[WrittenRaster], connection: Connection
) -> tuple[dict[str, ColumnValues], int]:
    """Return the columns of the raster rows, one row per content, and how many rows there are."""
    unique = list({raster.sha256: raster for raster in written}.values())
    bands = [{"index": band.name, "scale": band.scale, "offset": band.offset} for band in raster_bands(publication)]
    columns: dict[str, ColumnValues] = {
        "sha256": [raster.sha256 for raster in unique],
        "path": [RasterStore.relative_path(raster.sha256) for raster in unique],
        "size_bytes": [raster.size_bytes for raster in unique],
        "crs": [raster.grid.crs for raster in unique],
        "transform": [f"[{','.join(map(repr, raster.grid.transform))}]" for raster in unique],
        "width": [raster.grid.width_px for raster in unique],
        "height": [raster.grid.height_px for raster in unique],
        "bands": Same(json.dumps(bands, separators=(",", ":"))),
        "created_at": Same(instant_text(publication.recorded_at, connection)),
    }
    return columns, len(unique)


def observation_columns(
    publication: Publication, written: Sequence[WrittenRaster | None], connection: Connection
) -> tuple[dict[str, ColumnValues], int]:
    """Return the columns of the observation rows, farm by farm and index by index, and how many rows there are."""
    batch, judgement = publication.batch, publication.judgement
    farms, indices = len(batch.farm_ids), len(batch.indices)
    observed = np.array([[s is ObservationStatus.OBSERVED for s in row] for row in judgement.statuses], np.bool_)
    observed = observed.reshape(farms, indices)
    # NaN becomes null on its way in; a cell without a number must not keep the numbers that were not good enough.
    statistics = np.where(observed[:, :, None], batch.statistics, np.nan)
    n_effective = np.where(np.isfinite(batch.n_effective), batch.n_effective, 0.0)
    std = statistics[:, :, STATISTICS.index("std")]
    standard_error = np.divide(std, np.sqrt(n_effective), out=np.full_like(std, np.nan), where=n_effective > 0.0)

    def per_farm[T](values: Sequence[T]) -> list[T]:
        return [value for value in values for _ in range(indices)]

    columns: dict[str, ColumnValues] = {
        "farm_id": per_farm(batch.farm_ids),
        "index_slug": list(batch.indices) * farms,
        **_identity(publication),
        "status": [status.value for row in judgement.statuses for status in row],
        "reason": [reason for row in judgement.reasons for reason in row],
        "pixel_count": batch.pixel_count.ravel().tolist(),
        "valid_pixel_count": batch.valid_pixel_count.ravel().tolist(),
        "used_pixel_count": batch.used_pixel_count.ravel().tolist(),
        "n_effective": n_effective.ravel().tolist(),
        "standard_error": standard_error.ravel().tolist(),
        "valid_pixel_fraction": judgement.valid_fraction.ravel().tolist(),
        "cloud_fraction": judgement.cloud_fraction.ravel().tolist(),
        "covered_fraction": judgement.covered_fraction.ravel().tolist(),
        "masked_fractions": _masked_texts(batch.reason_fractions),
        "flags": [_flags_text(flags) for row in judgement.flags for flags in row],
        "scene_ids": per_farm([_names_text(names) for names in batch.scene_ids]),
        "raster_sha256": per_farm([raster.sha256 if raster else None for raster in written]),
        "raster_band": [i + 1 if raster else None for raster in written for i in range(indices)],
        "fingerprint": [fingerprint for row in publication.fingerprints for fingerprint in row],
        "boundary_version": per_farm([publication.boundary_versions[farm_id] for farm_id in batch.farm_ids]),
        "gsd_m": batch.gsd_m.tolist() * farms,
        "radiometry": per_farm(batch.radiometry),
        "acquired_at": per_farm(_instants(batch.acquired_at, connection)),
        "recorded_at": Same(instant_text(publication.recorded_at, connection)),
        "run_id": Same(publication.run_id),
    }
    for position, name in enumerate(STATISTICS):
        columns[name] = statistics[:, :, position].ravel().tolist()
    return columns, farms * indices


def coverage_columns(
    publication: Publication,
    written: Sequence[WrittenRaster | None],
    statuses: Sequence[tuple[str, int]],
    connection: Connection,
) -> dict[str, ColumnValues]:
    """Return the columns of the calendar rows; `statuses` as of `day_statuses`."""
    batch, judgement = publication.batch, publication.judgement
    best = [index for _, index in statuses]
    rows = np.arange(len(batch.farm_ids))
    return {
        "farm_id": list(batch.farm_ids),
        **_identity(publication),
        "status": [status for status, _ in statuses],
        "reason": [judgement.reasons[f][i] for f, i in enumerate(best)],
        "scene_ids": [_names_text(names) for names in batch.scene_ids],
        "valid_pixel_fraction": judgement.valid_fraction[rows, best].tolist(),
        "cloud_fraction": judgement.cloud_fraction[rows, best].tolist(),
        "covered_fraction": judgement.covered_fraction[rows, best].tolist(),
        "raster_sha256": [raster.sha256 if raster else None for raster in written],
        "recorded_at": Same(instant_text(publication.recorded_at, connection)),
    }


def day_statuses(publication: Publication) -> list[tuple[str, int]]:
    """Return each farm's status of the day and the position of the index that says most, which speaks for the day."""
    statuses = publication.judgement.statuses
    return [(statuses[f][i].value, i) for f, i in enumerate(_speaking_index(publication).tolist())]


def _speaking_index(publication: Publication) -> npt.NDArray[np.intp]:
    judgement = publication.judgement
    ranks = np.array([[STATUS_RANK[status] for status in row] for row in judgement.statuses], np.float64)
    ranks = ranks.reshape(judgement.valid_fraction.shape)
    # Among equals the one with the larger valid share; half of it is below 1, so it never beats a better status.
    return np.argmin(ranks - 0.5 * judgement.valid_fraction, axis=1)


def _identity(publication: Publication) -> dict[str, ColumnValues]:
    return {
        "provider": Same(publication.provider),
        "collection": Same(publication.collection),
        "solar_day": Same(publication.batch.solar_day.isoformat()),
    }


def _instants(moments: Sequence[datetime | None], connection: Connection) -> list[str | None]:
    known = {moment: instant_text(moment, connection) for moment in set(moments) if moment is not None}
    return [None if moment is None else known[moment] for moment in moments]


def _masked_texts(fractions: npt.NDArray[np.float64]) -> list[str]:
    """Return compact JSON of the reasons that occur, per cell; the indices of a farm mostly share one text."""
    rounded = np.round(fractions.reshape(-1, fractions.shape[2]), FRACTION_DIGITS)
    rounded[:, PixelReason.VALID] = 0.0
    texts: dict[bytes, str] = {}
    result = ["{}"] * len(rounded)
    for row in np.flatnonzero((rounded > 0.0).any(axis=1)).tolist():
        cell = rounded[row]
        key = cell.tobytes()
        text = texts.get(key)
        if text is None:
            parts = [f'"{_REASON_NAMES[k]}":{value!r}' for k, value in enumerate(cell.tolist()) if value > 0.0]
            text = texts[key] = "{" + ",".join(parts) + "}"
        result[row] = text
    return result


@lru_cache(maxsize=4096)
def _flags_text(flags: tuple[Flag, ...]) -> str:
    return json.dumps([flag.value for flag in flags], separators=(",", ":"))


@lru_cache(maxsize=65536)
def _names_text(names: tuple[str, ...]) -> str:
    return json.dumps(names, separators=(",", ":"))
