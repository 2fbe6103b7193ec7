"""Runs revisions on the connection that `database.migrate` has locked; there is no alembic.ini and no offline mode."""

from __future__ import annotations

from alembic import context

from farm_intel.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=True,
    transactional_ddl=True,  # SQLite can do it; Alembic assumes that the driver's own BEGIN is in the way
)
context.run_migrations()
