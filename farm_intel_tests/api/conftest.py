"""An app over a real store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text

from farm_intel_tests.api.support import World


@pytest.fixture
def world(sqlite_engine: Engine) -> World:
    return World(sqlite_engine)


@pytest.fixture
def fresh_postgres_url(postgres_url: str) -> Iterator[str]:
    """Return the URL of an empty PostgreSQL database."""
    admin = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE resume"))
    yield postgres_url.replace("/postgres?", "/resume?")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE resume WITH (FORCE)"))
    admin.dispose()
