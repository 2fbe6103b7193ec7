"""The relational store as one metadata: farms, observations, the observation calendar, rasters and cursors.

Rows hold what was computed, never what could be looked up again: no table joins are needed to read a cell.
Only deleting a farm is not a cascade: its observations and boundary versions stay, so that a number never loses the
boundary it was measured over, and a farm imported again under the same id continues its version count.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
)

from farm_intel.domain.errors import StoreError
from farm_intel.domain.observations import STATISTICS

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)
"""Constraints have predictable names, so that a migration can drop what another made, on every database."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: timezone-aware UTC in Python on every database, `timestamptz` on PostgreSQL, ISO text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the instant as the driver wants it.

        Raises:
            StoreError: the value has no time zone, so which instant it is would be a guess.

        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise StoreError(f"the time {value.isoformat()} has no time zone", hint="Pass an aware datetime.")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the instant in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# --- farms -----------------------------------------------------------------------------------------------------------

farms = Table(
    "farms",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("current_version", Integer, nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("crop", Text),
    Column("planting_date", Date),
    Column("cohort", String(64), nullable=False),
    Column("home_tile", String(16), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "home_tile", "farm_id"),
)

farm_versions = Table(
    "farm_versions",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("boundary_wkb", LargeBinary, nullable=False),
    Column("boundary_hash", String(64), nullable=False),
    Column("bbox_west", Double, nullable=False),
    Column("bbox_south", Double, nullable=False),
    Column("bbox_east", Double, nullable=False),
    Column("bbox_north", Double, nullable=False),
    Column("longitude_deg", Double, nullable=False),
    Column("latitude_deg", Double, nullable=False),
    Column("area_ha", Double, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""Every boundary a farm ever had; kept when the farm is deleted, because observations name the version."""

# --- observations ----------------------------------------------------------------------------------------------------

observations = Table(
    "observations",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("index_slug", String(64), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("collection", String(128), primary_key=True),
    Column("solar_day", Date, primary_key=True),
    Column("status", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    *(Column(name, Double) for name in STATISTICS),
    Column("pixel_count", Integer, nullable=False),
    Column("valid_pixel_count", Integer, nullable=False),
    Column("used_pixel_count", Integer, nullable=False),
    Column("n_effective", Double, nullable=False),
    Column("standard_error", Double),
    Column("valid_pixel_fraction", Double, nullable=False),
    Column("cloud_fraction", Double, nullable=False),
    Column("covered_fraction", Double, nullable=False),
    Column("masked_fractions", Text, nullable=False),
    Column("flags", Text, nullable=False),
    Column("scene_ids", Text, nullable=False),
    Column("raster_sha256", String(64)),
    Column("raster_band", SmallInteger),
    Column("fingerprint", String(64), nullable=False),
    Column("boundary_version", Integer, nullable=False),
    Column("gsd_m", Double, nullable=False),
    Column("radiometry", Text, nullable=False),
    Column("acquired_at", UtcDateTime),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("run_id", String(64), nullable=False),
)
"""One row per ObservationKey; statistics are null unless `status` is observed; the JSON columns are compact text."""

coverage = Table(
    "coverage",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("collection", String(128), primary_key=True),
    Column("solar_day", Date, primary_key=True),
    Column("status", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("scene_ids", Text, nullable=False),
    Column("valid_pixel_fraction", Double),
    Column("cloud_fraction", Double),
    Column("covered_fraction", Double),
    Column("raster_sha256", String(64)),
    Column("recorded_at", UtcDateTime, nullable=False),
)
"""The observation calendar: what came on a day and what did not, per farm, provider and collection."""

rasters = Table(
    "rasters",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("path", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("crs", Text, nullable=False),
    Column("transform", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bands", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""One row per raster file; `transform` is a JSON list of six, `bands` a JSON list of index, scale and offset."""

cursors = Table(
    "cursors",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
"""Where sensors and schedules are; a cursor survives a lost Dagster instance."""
