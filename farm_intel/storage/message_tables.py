"""The outbox, the streams of events per user, tickets to read them with, and rendered speech."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, String, Table, Text

from farm_intel.storage.tables import UtcDateTime, metadata

outbox = Table(
    "outbox",
    metadata,
    Column("message_id", String(40), primary_key=True),
    Column("idempotency_key", String(255), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("farm_id", String(64), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("address", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("language", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("short", Text, nullable=False),
    Column("long", Text, nullable=False),
    Column("spoken", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("speak", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("token", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("audio_sha256", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    Index(None, "idempotency_key", unique=True),
    Index(None, "state", "next_at"),
    Index(None, "subject"),
)
"""One row per recipient and channel, written in the transaction of what it tells of."""

streams = Table(
    "streams",
    metadata,
    Column("user_id", String(128), primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("oldest_seq", BigInteger, nullable=False),
    Column("acked_seq", BigInteger, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
"""One counter per user, moved in the event's own transaction: a reader behind `last_seq` can miss nothing, which a
sequence of the database does not promise. Events below `oldest_seq` are gone by retention."""

stream_events = Table(
    "stream_events",
    metadata,
    Column("user_id", String(128), ForeignKey("streams.user_id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("event_id", String(255), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("farm_id", String(64), nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "user_id", "event_id", unique=True),
)

stream_tickets = Table(
    "stream_tickets",
    metadata,
    Column("ticket_hash", String(64), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
)
"""SHA-256 of the ticket, never the ticket."""

speech = Table(
    "speech",
    metadata,
    Column("request_hash", String(64), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("mime_type", String(32), nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("engine", String(32), nullable=False),
    Column("language", String(16), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("rendered_at", UtcDateTime, nullable=False),
    Index(None, "sha256"),
)
"""`request_hash` is of text, language and voice set: the same sentence is rendered once."""
