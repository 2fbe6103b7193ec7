"""Planned activities, the occurrences they fell due in, and the logbook.

An occurrence's row is made once and its key never changes; the high-water mark of its activity moves in the same
transaction, so whatever fell due either has a row or is made by the next pass. JSON is kept as text: it is read whole.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Date, DateTime, Double, ForeignKey, Index, Integer, String, Table, Text

from farm_intel.storage.tables import UtcDateTime, metadata

activities = Table(
    "activities",
    metadata,
    Column("activity_id", String(32), primary_key=True),
    Column("farm_id", String(64), nullable=False),
    Column("type", String(64), nullable=False),
    Column("title", Text, nullable=False),
    Column("schedule_kind", String(16), nullable=False),
    Column("schedule_text", Text, nullable=False),
    Column("start", DateTime, nullable=False),
    Column("until", DateTime),
    Column("time_zone", String(64), nullable=False),
    Column("form", Text, nullable=False),
    Column("assignee", String(128), nullable=False),
    Column("catchup_window_s", Double, nullable=False),
    Column("misfire", String(16), nullable=False),
    Column("overlap", String(16), nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("acknowledge", Boolean, nullable=False),
    Column("acknowledge_within_s", Double, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("paused_until", UtcDateTime),
    Column("pause_note", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("high_water", UtcDateTime, nullable=False),
    Column("next_due", UtcDateTime),
    Column("version", Integer, nullable=False),
    Column("event_key", String(160), nullable=False),
    Column("evidence", Text, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Index(None, "farm_id"),
    Index(None, "next_due"),
)
"""`next_due` is the first date after the high-water mark, so that the generator reads only what falls due; null where
nothing is left. `start` and `until` are wall time in `time_zone`."""

proposals = Table(
    "proposals",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("event_key", String(160), primary_key=True),
    Column("activity_id", String(32), ForeignKey("activities.activity_id"), nullable=False),
    Column("proposed_at", UtcDateTime, nullable=False),
)
"""One row per event that ever proposed an activity: the key keeps an event from proposing twice."""

activity_changes = Table(
    "activity_changes",
    metadata,
    Column("activity_id", String(32), ForeignKey("activities.activity_id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("by", String(128), nullable=False),
    Column("change", Text, nullable=False),
)
"""Who changed what of a plan, one row per version."""

occurrences = Table(
    "occurrences",
    metadata,
    Column("activity_id", String(32), ForeignKey("activities.activity_id"), primary_key=True),
    Column("due_at", UtcDateTime, primary_key=True),
    Column("farm_id", String(64), nullable=False),
    Column("type", String(64), nullable=False),
    Column("local_date", Date, nullable=False),
    Column("local_time", String(5), nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("not_before", UtcDateTime, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("token", Integer, nullable=False),
    Column("worker", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("activity_version", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("form", Text, nullable=False),
    Column("assignee", String(128), nullable=False),
    Column("acknowledge_by", UtcDateTime),
    Column("answer", Text),
    Column("run_id", String(64), nullable=False),
    Column("backfilled", Boolean, nullable=False),
    Column("traceparent", String(64), nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Index(None, "state", "not_before"),
    Index(None, "farm_id", "local_date"),
    Index(None, "activity_id", "state", "due_at"),
)
"""The last index answers what stands in the way of an occurrence, however many its plan has had."""

logbook = Table(
    "logbook",
    metadata,
    Column("entry_id", String(32), primary_key=True),
    Column("farm_id", String(64), nullable=False),
    Column("type", String(64), nullable=False),
    Column("title", Text, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("done_at", UtcDateTime, nullable=False),
    Column("by", String(128), nullable=False),
    Column("quantities", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("photo", Text, nullable=False),
    Column("activity_id", String(32)),
    Column("due_at", UtcDateTime),
    Column("event_key", String(160), nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Index(None, "farm_id", "done_at"),
    Index(None, "activity_id", "due_at", unique=True),
)
"""Never changed and never removed by retention: it is the farmer's record. One entry per answered occurrence."""

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("detail", Text, nullable=False),
)
"""When each part of the pump last went through with all well; silence means that nobody watches."""
