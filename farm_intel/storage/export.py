"""Observations as one GeoParquet file: a row per observation with the boundary it was measured over."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import batched
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select

from farm_intel.domain.errors import StoreError
from farm_intel.domain.observations import STATISTICS, Observation, ObservationStatus
from farm_intel.storage import tables
from farm_intel.storage.bulk import one_of
from farm_intel.storage.database import reading
from farm_intel.storage.observations import SqlObservationStore

CHUNK_ROWS = 20_000
"""Rows per row group: some MiB in memory, large enough for Parquet to compress well."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
_INSTANT = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema(
    [
        pa.field("farm_id", _TEXT, nullable=False),
        pa.field("index", _TEXT, nullable=False),
        pa.field("provider", _TEXT, nullable=False),
        pa.field("collection", _TEXT, nullable=False),
        pa.field("solar_day", pa.date32(), nullable=False),
        pa.field("status", _TEXT, nullable=False),
        pa.field("reason", pa.string()),
        *(pa.field(name, pa.float64()) for name in STATISTICS),
        pa.field("pixel_count", pa.int32()),
        pa.field("valid_pixel_count", pa.int32()),
        pa.field("used_pixel_count", pa.int32()),
        pa.field("n_effective", pa.float64()),
        pa.field("standard_error", pa.float64()),
        pa.field("valid_pixel_fraction", pa.float64()),
        pa.field("cloud_fraction", pa.float64()),
        pa.field("covered_fraction", pa.float64()),
        pa.field("flags", pa.list_(pa.string())),
        pa.field("scene_ids", pa.list_(pa.string())),
        pa.field("raster", pa.string()),
        pa.field("raster_band", pa.int16()),
        pa.field("fingerprint", pa.string()),
        pa.field("boundary_version", pa.int32()),
        pa.field("gsd_m", pa.float64()),
        pa.field("radiometry", _TEXT),
        pa.field("acquired_at", _INSTANT),
        pa.field("recorded_at", _INSTANT),
        pa.field("geometry", pa.binary()),
    ],
)
_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    # Without a `crs` the specification means OGC:CRS84: longitude, latitude on WGS 84, which boundaries are in.
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"]}},
}
_PLAIN = (
    "pixel_count",
    "valid_pixel_count",
    "used_pixel_count",
    "n_effective",
    "standard_error",
    "valid_pixel_fraction",
    "cloud_fraction",
    "covered_fraction",
    "raster_band",
    "fingerprint",
    "boundary_version",
    "gsd_m",
    "radiometry",
    "acquired_at",
    "recorded_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFilter:
    """Which observations to export; None asks for all."""

    farm_ids: Sequence[str] | None = None
    indices: Sequence[str] | None = None
    provider: str | None = None
    collection: str | None = None
    start: date | None = None
    """First solar day, inclusive."""
    end: date | None = None
    """Last solar day, inclusive."""
    statuses: Sequence[ObservationStatus] | None = None


def export_geoparquet(
    store: SqlObservationStore, path: Path, chosen: ExportFilter, *, chunk_rows: int = CHUNK_ROWS
) -> int:
    """Write GeoParquet 1.1 and return the number of rows; the file appears whole or not at all.

    Raises:
        StoreError: the database or the target's disk refused.

    """
    rows = store.observations(
        farm_ids=chosen.farm_ids,
        indices=chosen.indices,
        provider=chosen.provider,
        collection=chosen.collection,
        start=chosen.start,
        end=chosen.end,
        statuses=chosen.statuses,
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        count = _write(store, rows, temporary, chunk_rows)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}", hint="Check the folder, its permissions and free space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write(store: SqlObservationStore, rows: Iterator[Observation], target: Path, chunk_rows: int) -> int:
    schema = _SCHEMA.with_metadata({"geo": json.dumps(_GEO)})
    count = 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for chunk in batched(rows, chunk_rows):
            writer.write_table(_table(store, chunk, schema))
            count += len(chunk)
    return count


def _table(store: SqlObservationStore, chunk: Sequence[Observation], schema: pa.Schema) -> pa.Table:
    boundaries = _boundaries(store, sorted({row.key.farm_id for row in chunk}))
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in chunk] for name in _PLAIN}
    for name in ("farm_id", "index", "provider", "collection", "solar_day"):
        columns[name] = [getattr(row.key, name) for row in chunk]
    for name in STATISTICS:
        columns[name] = [None if row.statistics is None else getattr(row.statistics, name) for row in chunk]
    columns["status"] = [row.status.value for row in chunk]
    columns["reason"] = [row.reason or None for row in chunk]
    columns["flags"] = [[flag.value for flag in row.flags] for row in chunk]
    columns["scene_ids"] = [list(row.scene_ids) for row in chunk]
    columns["raster"] = [row.raster_path for row in chunk]
    columns["geometry"] = [boundaries.get((row.key.farm_id, row.boundary_version)) for row in chunk]
    return pa.Table.from_pydict({field.name: columns[field.name] for field in schema}, schema=schema)


def _boundaries(store: SqlObservationStore, farm_ids: Sequence[str]) -> dict[tuple[str, int], bytes]:
    c = tables.farm_versions.c
    with reading(store.engine) as connection:
        query = select(c.farm_id, c.version, c.boundary_wkb).where(one_of(c.farm_id, farm_ids, connection))
        return {(farm_id, version): bytes(wkb) for farm_id, version, wkb in connection.execute(query)}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
