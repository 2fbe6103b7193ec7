"""Activities, their occurrences, the logbook and heartbeats."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from farm_intel.storage.tables import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_activities()
    _create_proposals()
    _create_activity_changes()
    _create_occurrences()
    _create_logbook()
    _create_heartbeats()


def downgrade() -> None:
    for table in ("heartbeats", "logbook", "occurrences", "activity_changes", "proposals", "activities"):
        op.drop_table(table)


def _create_activities() -> None:
    op.create_table(
        "activities",
        sa.Column("activity_id", sa.String(32), nullable=False),
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("schedule_kind", sa.String(16), nullable=False),
        sa.Column("schedule_text", sa.Text, nullable=False),
        sa.Column("start", sa.DateTime, nullable=False),
        sa.Column("until", sa.DateTime),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("form", sa.Text, nullable=False),
        sa.Column("assignee", sa.String(128), nullable=False),
        sa.Column("catchup_window_s", sa.Double, nullable=False),
        sa.Column("misfire", sa.String(16), nullable=False),
        sa.Column("overlap", sa.String(16), nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("acknowledge", sa.Boolean, nullable=False),
        sa.Column("acknowledge_within_s", sa.Double, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("paused_until", UtcDateTime),
        sa.Column("pause_note", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("high_water", UtcDateTime, nullable=False),
        sa.Column("next_due", UtcDateTime),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("event_key", sa.String(160), nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("created_by", sa.String(128), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("activity_id", name="pk_activities"),
    )
    op.create_index("ix_activities_farm_id", "activities", ["farm_id"])
    op.create_index("ix_activities_next_due", "activities", ["next_due"])


def _create_proposals() -> None:
    op.create_table(
        "proposals",
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("event_key", sa.String(160), nullable=False),
        sa.Column("activity_id", sa.String(32), nullable=False),
        sa.Column("proposed_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(["activity_id"], ["activities.activity_id"], name="fk_proposals_activity_id"),
        sa.PrimaryKeyConstraint("farm_id", "event_key", name="pk_proposals"),
    )


def _create_activity_changes() -> None:
    op.create_table(
        "activity_changes",
        sa.Column("activity_id", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("change", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["activity_id"], ["activities.activity_id"], name="fk_activity_changes_activity_id"),
        sa.PrimaryKeyConstraint("activity_id", "version", name="pk_activity_changes"),
    )


def _create_occurrences() -> None:
    op.create_table(
        "occurrences",
        sa.Column("activity_id", sa.String(32), nullable=False),
        sa.Column("due_at", UtcDateTime, nullable=False),
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("local_date", sa.Date, nullable=False),
        sa.Column("local_time", sa.String(5), nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("not_before", UtcDateTime, nullable=False),
        sa.Column("lease_until", UtcDateTime),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("activity_version", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("form", sa.Text, nullable=False),
        sa.Column("assignee", sa.String(128), nullable=False),
        sa.Column("acknowledge_by", UtcDateTime),
        sa.Column("answer", sa.Text),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("backfilled", sa.Boolean, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(["activity_id"], ["activities.activity_id"], name="fk_occurrences_activity_id"),
        sa.PrimaryKeyConstraint("activity_id", "due_at", name="pk_occurrences"),
    )
    op.create_index("ix_occurrences_activity_id_state_due_at", "occurrences", ["activity_id", "state", "due_at"])
    op.create_index("ix_occurrences_farm_id_local_date", "occurrences", ["farm_id", "local_date"])
    op.create_index("ix_occurrences_state_not_before", "occurrences", ["state", "not_before"])


def _create_logbook() -> None:
    op.create_table(
        "logbook",
        sa.Column("entry_id", sa.String(32), nullable=False),
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("done_at", UtcDateTime, nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("quantities", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("photo", sa.Text, nullable=False),
        sa.Column("activity_id", sa.String(32)),
        sa.Column("due_at", UtcDateTime),
        sa.Column("event_key", sa.String(160), nullable=False),
        sa.Column("recorded_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_logbook"),
    )
    op.create_index("ix_logbook_activity_id_due_at", "logbook", ["activity_id", "due_at"], unique=True)
    op.create_index("ix_logbook_farm_id_done_at", "logbook", ["farm_id", "done_at"])


def _create_heartbeats() -> None:
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_heartbeats"),
    )
