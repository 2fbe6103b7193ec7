"""The outbox, streams of events, tickets and speech."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from farm_intel.storage.tables import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_outbox()
    _create_streams()
    _create_stream_events()
    _create_stream_tickets()
    _create_speech()


def downgrade() -> None:
    for table in ("speech", "stream_tickets", "stream_events", "streams", "outbox"):
        op.drop_table(table)


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("message_id", sa.String(40), nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("severity", sa.Integer, nullable=False),
        sa.Column("language", sa.String(16), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("short", sa.Text, nullable=False),
        sa.Column("long", sa.Text, nullable=False),
        sa.Column("spoken", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("speak", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("next_at", UtcDateTime, nullable=False),
        sa.Column("lease_until", UtcDateTime),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("audio_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("sent_at", UtcDateTime),
        sa.PrimaryKeyConstraint("message_id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_idempotency_key", "outbox", ["idempotency_key"], unique=True)
    op.create_index("ix_outbox_state_next_at", "outbox", ["state", "next_at"])
    op.create_index("ix_outbox_subject", "outbox", ["subject"])


def _create_streams() -> None:
    op.create_table(
        "streams",
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("oldest_seq", sa.BigInteger, nullable=False),
        sa.Column("acked_seq", sa.BigInteger, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_streams"),
    )


def _create_stream_events() -> None:
    op.create_table(
        "stream_events",
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("event_id", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("farm_id", sa.String(64), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["streams.user_id"], name="fk_stream_events_user_id"),
        sa.PrimaryKeyConstraint("user_id", "seq", name="pk_stream_events"),
    )
    op.create_index("ix_stream_events_user_id_event_id", "stream_events", ["user_id", "event_id"], unique=True)


def _create_stream_tickets() -> None:
    op.create_table(
        "stream_tickets",
        sa.Column("ticket_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.Column("used_at", UtcDateTime),
        sa.PrimaryKeyConstraint("ticket_hash", name="pk_stream_tickets"),
    )


def _create_speech() -> None:
    op.create_table(
        "speech",
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("mime_type", sa.String(32), nullable=False),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("engine", sa.String(32), nullable=False),
        sa.Column("language", sa.String(16), nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("rendered_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("request_hash", name="pk_speech"),
    )
    op.create_index("ix_speech_sha256", "speech", ["sha256"])
