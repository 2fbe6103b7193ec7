"""Breakers, rates and budgets of the providers, shared by all processes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from farm_intel.storage.tables import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "breakers",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("openings", sa.Integer, nullable=False),
        sa.Column("open_until", UtcDateTime),
        sa.Column("probe_token", sa.String(32)),
        sa.Column("probe_until", UtcDateTime),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("provider", "host", "operation", name="pk_breakers"),
    )
    _create_rates()
    _create_budgets()


def downgrade() -> None:
    op.drop_index("ix_budget_reservations_provider_month", table_name="budget_reservations")
    op.drop_index("ix_rate_leases_provider_host", table_name="rate_leases")
    for table in ("budget_reservations", "budget_months", "rate_leases", "rate_buckets", "breakers"):
        op.drop_table(table)


def _create_rates() -> None:
    op.create_table(
        "rate_buckets",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("next_at_s", sa.Double, nullable=False),
        sa.Column("not_before_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("provider", "host", name="pk_rate_buckets"),
    )
    op.create_table(
        "rate_leases",
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_rate_leases"),
    )
    op.create_index("ix_rate_leases_provider_host", "rate_leases", ["provider", "host"])


def _create_budgets() -> None:
    op.create_table(
        "budget_months",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("month", sa.Date, nullable=False),
        sa.Column("spent", sa.Double, nullable=False),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("provider", "month", name="pk_budget_months"),
    )
    op.create_table(
        "budget_reservations",
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("month", sa.Date, nullable=False),
        sa.Column("units", sa.Double, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_budget_reservations"),
    )
    op.create_index("ix_budget_reservations_provider_month", "budget_reservations", ["provider", "month"])
