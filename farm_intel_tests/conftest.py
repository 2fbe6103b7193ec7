"""Databases to test on: SQLite in a temporary file, and a private PostgreSQL cluster where one is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from farm_intel.storage.database import migrate, open_database
from farm_intel_tests.support.postgres import private_cluster


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a cluster that only this test run can reach."""
    with private_cluster() as cluster:
        yield cluster.url()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return
    server = request.getfixturevalue("postgres_url")
    admin = create_engine(server.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT")
    name = f"t{os.urandom(6).hex()}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return a migrated database of each kind."""
    engine = open_database(database_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    """Return a migrated SQLite database, for what does not depend on the kind."""
    engine = open_database(f"sqlite:///{tmp_path}/store.db")
    migrate(engine)
    yield engine
    engine.dispose()
