"""Runs revisions on the connection that `database.migrate` has locked; there is no alembic.ini and no offline mode."""

from __future__ import annotations

from alembic import context

from farm_intel.storage import activity_tables, alert_tables, message_tables, resilience_tables, tables

TABLES = (
    tables.farms,
    resilience_tables.breakers,
    activity_tables.activities,
    alert_tables.alerts,
    message_tables.outbox,
)
"""One of every module of tables: importing the module puts its tables into the one metadata."""

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=TABLES[0].metadata,
    compare_type=True,
    render_as_batch=True,
    transactional_ddl=True,  # SQLite can do it; Alembic assumes that the driver's own BEGIN is in the way
)
context.run_migrations()
