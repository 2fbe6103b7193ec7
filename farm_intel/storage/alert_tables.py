"""Alerts, their history, what every rule said of every farm and day, and who wants to be told."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Date, Double, ForeignKey, Index, Integer, String, Table, Text

from farm_intel.storage.tables import UtcDateTime, metadata

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", String(32), primary_key=True),
    Column("farm_id", String(64), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("rule_class", String(32), nullable=False),
    Column("event_key", String(160), nullable=False),
    Column("severity", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("opened_day", Date, nullable=False),
    Column("last_day", Date, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("rule_version", String(64), nullable=False),
    Column("steps", Text, nullable=False),
    Column("next_step", Integer, nullable=False),
    Column("next_at", UtcDateTime),
    Column("by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("duplicate_of", String(32), nullable=False),
    Column("resolved_day", Date),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
    Index(None, "farm_id", "rule", "event_key", unique=True),
    Index(None, "state", "next_at"),
    Index(None, "farm_id", "opened_day"),
)
"""The unique index is what keeps one event from alerting twice, whoever evaluates it at the same time."""

alert_events = Table(
    "alert_events",
    metadata,
    Column("alert_id", String(32), ForeignKey("alerts.alert_id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("by", String(128), nullable=False),
    Column("note", Text, nullable=False),
)

alert_evaluations = Table(
    "alert_evaluations",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("rule", String(64), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("value", Double),
    Column("threshold", Double),
    Column("evidence", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("subscription_id", String(32), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("farm_id", String(64), nullable=False),
    Column("rule_class", String(32), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("address", Text, nullable=False),
    Column("language", String(16), nullable=False),
    Column("audience", String(64), nullable=False),
    Column("min_severity", Integer, nullable=False),
    Column("quiet_from", String(5), nullable=False),
    Column("quiet_until", String(5), nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("speak", Boolean, nullable=False),
    Column("secret", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "farm_id", "active"),
)
