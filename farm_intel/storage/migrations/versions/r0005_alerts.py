"""Alerts, their history, evaluations and subscriptions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from farm_intel.storage.tables import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_alerts()
    _create_alert_events()
    _create_alert_evaluations()
    _create_subscriptions()


def downgrade() -> None:
    for table in ("subscriptions", "alert_evaluations", "alert_events", "alerts"):
        op.drop_table(table)


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.String(32), nullable=False),
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("rule_class", sa.String(32), nullable=False),
        sa.Column("event_key", sa.String(160), nullable=False),
        sa.Column("severity", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("opened_day", sa.Date, nullable=False),
        sa.Column("last_day", sa.Date, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("rule_version", sa.String(64), nullable=False),
        sa.Column("steps", sa.Text, nullable=False),
        sa.Column("next_step", sa.Integer, nullable=False),
        sa.Column("next_at", UtcDateTime),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("duplicate_of", sa.String(32), nullable=False),
        sa.Column("resolved_day", sa.Date),
        sa.Column("opened_at", UtcDateTime, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_farm_id_opened_day", "alerts", ["farm_id", "opened_day"])
    op.create_index("ix_alerts_farm_id_rule_event_key", "alerts", ["farm_id", "rule", "event_key"], unique=True)
    op.create_index("ix_alerts_state_next_at", "alerts", ["state", "next_at"])


def _create_alert_events() -> None:
    op.create_table(
        "alert_events",
        sa.Column("alert_id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.alert_id"], name="fk_alert_events_alert_id"),
        sa.PrimaryKeyConstraint("alert_id", "number", name="pk_alert_events"),
    )


def _create_alert_evaluations() -> None:
    op.create_table(
        "alert_evaluations",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("farm_id", "rule", "day", name="pk_alert_evaluations"),
    )


def _create_subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("subscription_id", sa.String(32), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("rule_class", sa.String(32), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("language", sa.String(16), nullable=False),
        sa.Column("audience", sa.String(64), nullable=False),
        sa.Column("min_severity", sa.Integer, nullable=False),
        sa.Column("quiet_from", sa.String(5), nullable=False),
        sa.Column("quiet_until", sa.String(5), nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("speak", sa.Boolean, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("subscription_id", name="pk_subscriptions"),
    )
    op.create_index("ix_subscriptions_farm_id_active", "subscriptions", ["farm_id", "active"])
