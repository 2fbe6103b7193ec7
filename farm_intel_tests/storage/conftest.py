"""Databases to test on: SQLite in a temporary file, and a private PostgreSQL cluster where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from farm_intel.storage.database import migrate, open_database
from farm_intel.storage.observations import SqlObservationStore
from farm_intel.storage.rasters import RasterStore

POSTGRES_BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def _as_postgres(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a cluster that only this test run can reach; its durability is off, its SQL is the real one."""
    if POSTGRES_BIN is None:
        pytest.skip("PostgreSQL is not installed under /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="farm-intel-pg-"))
    if os.geteuid() == 0:
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no user postgres to run the server as")
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    try:
        initdb = [f"{POSTGRES_BIN}/initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run(_as_postgres(*initdb), check=True, capture_output=True, cwd=folder)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c full_page_writes=off"
        start = [f"{POSTGRES_BIN}/pg_ctl", "-D", str(data), "-o", options, "-l", f"{folder}/log", "-w", "start"]
        subprocess.run(
            _as_postgres(*start), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
        )
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        stop = [f"{POSTGRES_BIN}/pg_ctl", "-D", str(data), "-m", "immediate", "stop"]
        subprocess.run(_as_postgres(*stop), check=False, capture_output=True, cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)


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


@pytest.fixture
def rasters(tmp_path: Path) -> RasterStore:
    return RasterStore(tmp_path / "rasters")


@pytest.fixture
def store(engine: Engine, rasters: RasterStore) -> SqlObservationStore:
    """Return a store on each kind of database."""
    return SqlObservationStore(engine, rasters)


@pytest.fixture
def sqlite_store(sqlite_engine: Engine, rasters: RasterStore) -> SqlObservationStore:
    return SqlObservationStore(sqlite_engine, rasters)
