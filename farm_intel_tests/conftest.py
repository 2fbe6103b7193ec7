"""Databases to test on: SQLite in a temporary file, and a private PostgreSQL cluster where one is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from farm_intel.storage.database import migrate, open_database
from farm_intel_tests.support.postgres import private_cluster


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a fixture of their module in one worker: several would make it several times."""
    for item in items:
        definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009 - pytest has no public way
        shared = any(of_name[-1].scope == "module" for of_name in definitions)
        if shared and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SQLite database at the head of the schema, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a cluster that only this test run can reach."""
    with private_cluster() as cluster:
        yield cluster.url()


@pytest.fixture(scope="session")
def migrated_database(postgres_url: str) -> str:
    """Return the name of a PostgreSQL database at the head of the schema, to be a template."""
    _administer(postgres_url, "CREATE DATABASE migrated")
    _migrate(postgres_url.replace("/postgres?", "/migrated?"))
    return "migrated"


def _migrate(url: str) -> None:
    engine = open_database(url)
    migrate(engine)
    engine.dispose()


def _administer(server: str, statement: str) -> None:
    admin = create_engine(server.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(statement))
    admin.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database of each kind: empty, or migrated where the test asks for its engine too."""
    migrated = "engine" in request.fixturenames
    if request.param == "sqlite":
        if migrated:
            shutil.copyfile(request.getfixturevalue("migrated_file"), tmp_path / "store.db")
        yield f"sqlite:///{tmp_path}/store.db"
        return
    server = request.getfixturevalue("postgres_url")
    template = request.getfixturevalue("migrated_database") if migrated else "template1"
    name = f"t{os.urandom(6).hex()}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.replace("/postgres?", f"/{name}?")
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return a migrated database of each kind."""
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_engine(tmp_path: Path, migrated_file: Path) -> Iterator[Engine]:
    """Return a migrated SQLite database, for what does not depend on the kind."""
    shutil.copyfile(migrated_file, tmp_path / "store.db")
    engine = open_database(f"sqlite:///{tmp_path}/store.db")
    yield engine
    engine.dispose()
