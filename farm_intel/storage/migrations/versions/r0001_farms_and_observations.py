"""Farms with boundary versions, observations, the calendar, rasters and cursors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from farm_intel.storage.tables import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATISTICS = ("mean", "median", "std", "min", "max", "p10", "p25", "p75", "p90")


def upgrade() -> None:
    _create_farms()
    _create_observations()
    _create_coverage()
    op.create_table(
        "rasters",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("crs", sa.Text, nullable=False),
        sa.Column("transform", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("bands", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_rasters"),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_cursors"),
    )


def downgrade() -> None:
    for table in ("cursors", "rasters", "coverage", "observations", "farm_versions"):
        op.drop_table(table)
    op.drop_index("ix_farms_home_tile_farm_id", table_name="farms")
    op.drop_table("farms")


def _create_farms() -> None:
    op.create_table(
        "farms",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("current_version", sa.Integer, nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("crop", sa.Text),
        sa.Column("planting_date", sa.Date),
        sa.Column("cohort", sa.String(64), nullable=False),
        sa.Column("home_tile", sa.String(16), nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("farm_id", name="pk_farms"),
    )
    op.create_index("ix_farms_home_tile_farm_id", "farms", ["home_tile", "farm_id"])
    op.create_table(
        "farm_versions",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("boundary_wkb", sa.LargeBinary, nullable=False),
        sa.Column("boundary_hash", sa.String(64), nullable=False),
        *(sa.Column(f"bbox_{side}", sa.Double, nullable=False) for side in ("west", "south", "east", "north")),
        sa.Column("longitude_deg", sa.Double, nullable=False),
        sa.Column("latitude_deg", sa.Double, nullable=False),
        sa.Column("area_ha", sa.Double, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("farm_id", "version", name="pk_farm_versions"),
    )


def _create_observations() -> None:
    op.create_table(
        "observations",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("index_slug", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("collection", sa.String(128), nullable=False),
        sa.Column("solar_day", sa.Date, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        *(sa.Column(name, sa.Double) for name in STATISTICS),
        sa.Column("pixel_count", sa.Integer, nullable=False),
        sa.Column("valid_pixel_count", sa.Integer, nullable=False),
        sa.Column("used_pixel_count", sa.Integer, nullable=False),
        sa.Column("n_effective", sa.Double, nullable=False),
        sa.Column("standard_error", sa.Double),
        sa.Column("valid_pixel_fraction", sa.Double, nullable=False),
        sa.Column("cloud_fraction", sa.Double, nullable=False),
        sa.Column("covered_fraction", sa.Double, nullable=False),
        sa.Column("masked_fractions", sa.Text, nullable=False),
        sa.Column("flags", sa.Text, nullable=False),
        sa.Column("scene_ids", sa.Text, nullable=False),
        sa.Column("raster_sha256", sa.String(64)),
        sa.Column("raster_band", sa.SmallInteger),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("boundary_version", sa.Integer, nullable=False),
        sa.Column("gsd_m", sa.Double, nullable=False),
        sa.Column("radiometry", sa.Text, nullable=False),
        sa.Column("acquired_at", UtcDateTime),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("farm_id", "index_slug", "provider", "collection", "solar_day", name="pk_observations"),
    )


def _create_coverage() -> None:
    op.create_table(
        "coverage",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("collection", sa.String(128), nullable=False),
        sa.Column("solar_day", sa.Date, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("scene_ids", sa.Text, nullable=False),
        sa.Column("valid_pixel_fraction", sa.Double),
        sa.Column("cloud_fraction", sa.Double),
        sa.Column("covered_fraction", sa.Double),
        sa.Column("raster_sha256", sa.String(64)),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("farm_id", "provider", "collection", "solar_day", name="pk_coverage"),
    )
