"""An app over a real store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from farm_intel.storage.database import migrate, open_database
from farm_intel_tests.api.support import World


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty migrated database to copy: a migration costs more than most tests here."""
    path = tmp_path_factory.mktemp("template") / "store.db"
    engine = open_database(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def world(migrated_file: Path, tmp_path: Path) -> Iterator[World]:
    shutil.copy(migrated_file, tmp_path / "store.db")
    engine = open_database(f"sqlite:///{tmp_path}/store.db")
    yield World(engine)
    engine.dispose()


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
