"""What processes share about the providers they call: breakers, rates, budgets.

Low traffic by design: a closed breaker is read about once a second per process, rates are shared only for providers
that allow a few calls a second, budgets only for providers that cost money.
"""

from __future__ import annotations

from sqlalchemy import Column, Date, Double, Index, Integer, String, Table, Text

from farm_intel.storage.tables import UtcDateTime, metadata

breakers = Table(
    "breakers",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("host", String(255), primary_key=True),
    Column("operation", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("openings", Integer, nullable=False),
    Column("open_until", UtcDateTime),
    Column("probe_token", String(32)),
    Column("probe_until", UtcDateTime),
    Column("reason", Text, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)
"""One row per breaker that ever saw a failure; every change names the `version` it was made from."""

rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("host", String(255), primary_key=True),
    Column("next_at_s", Double, nullable=False),
    Column("not_before_s", Double, nullable=False),
)
"""Seconds since 1970 (UTC), because a slot is taken by arithmetic in one statement; the rest is in instants."""

rate_leases = Table(
    "rate_leases",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("host", String(255), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "provider", "host"),
)
"""One row per call under way, where the number of calls at once is limited over all processes."""

budget_months = Table(
    "budget_months",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("month", Date, primary_key=True),
    Column("spent", Double, nullable=False),
    Column("calls", Integer, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
"""What is spent for good, per provider and UTC month (its first day), in the provider's own unit."""

budget_reservations = Table(
    "budget_reservations",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("provider", String(64), nullable=False),
    Column("month", Date, nullable=False),
    Column("units", Double, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "provider", "month"),
)
"""What calls under way may spend; counts against the budget until it is settled, released or expired."""
