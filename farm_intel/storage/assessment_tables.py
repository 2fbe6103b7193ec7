"""What is made of observations: fused observations, daily series, seasons and states.

Everything here can be computed again from `observations`; nothing here is ever read as an observation. Series and
seasons are one row per farm and index with their days packed in one value, because they are always read whole and a
row per day would be fifty times the rows of `observations`.
"""

from __future__ import annotations

from sqlalchemy import Column, Date, Double, Index, Integer, LargeBinary, String, Table, Text

from farm_intel.storage.tables import UtcDateTime, metadata

fused_observations = Table(
    "fused_observations",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("index_slug", String(64), primary_key=True),
    Column("solar_day", Date, primary_key=True),
    Column("value", Double),
    Column("standard_error", Double),
    Column("confidence", Double, nullable=False),
    Column("method", String(32), nullable=False),
    Column("flags", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("candidates", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)
"""One row per farm, index and day with at least one provider's number; `value` is null where none is usable."""

daily_series = Table(
    "daily_series",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("index_slug", String(64), primary_key=True),
    Column("start", Date, nullable=False),
    Column("days", Integer, nullable=False),
    Column("packed", LargeBinary, nullable=False),
    Column("method", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)
"""`packed` holds values, sigma and observed of all days, see assessment_rows."""

seasons = Table(
    "seasons",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("index_slug", String(64), primary_key=True),
    Column("packed", LargeBinary, nullable=False),
    Column("phenology", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)
"""`packed` holds the season days, see assessment_rows; `phenology` is a JSON list."""

farm_states = Table(
    "farm_states",
    metadata,
    Column("farm_id", String(64), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("state", String(64), nullable=False),
    Column("since", Date, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("interpretation", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("event", String(64)),
    Column("crop", Text),
    Column("rule_table", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Index(None, "event", "day"),
)
"""One row per farm and day; the index finds the events of a day over all farms."""
