"""Alembic environment and revisions; packaged, so that an installed program can migrate its own store."""
