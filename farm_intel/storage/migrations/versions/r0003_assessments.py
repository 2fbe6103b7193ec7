"""Fused observations, daily series, seasons and farm states."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from farm_intel.storage.tables import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fused_observations",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("index_slug", sa.String(64), nullable=False),
        sa.Column("solar_day", sa.Date, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("standard_error", sa.Double),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("flags", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("candidates", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("farm_id", "index_slug", "solar_day", name="pk_fused_observations"),
    )
    _create_series()
    op.create_table(
        "farm_states",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("state", sa.String(64), nullable=False),
        sa.Column("since", sa.Date, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("interpretation", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("event", sa.String(64)),
        sa.Column("crop", sa.Text),
        sa.Column("rule_table", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("farm_id", "day", name="pk_farm_states"),
    )
    op.create_index("ix_farm_states_event_day", "farm_states", ["event", "day"])


def downgrade() -> None:
    op.drop_index("ix_farm_states_event_day", table_name="farm_states")
    for table in ("farm_states", "seasons", "daily_series", "fused_observations"):
        op.drop_table(table)


def _create_series() -> None:
    op.create_table(
        "daily_series",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("index_slug", sa.String(64), nullable=False),
        sa.Column("start", sa.Date, nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("farm_id", "index_slug", name="pk_daily_series"),
    )
    op.create_table(
        "seasons",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("index_slug", sa.String(64), nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.Column("phenology", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("farm_id", "index_slug", name="pk_seasons"),
    )
