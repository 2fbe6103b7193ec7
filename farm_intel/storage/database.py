"""Opening, migrating and writing to the relational store, the same way on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from farm_intel.domain.errors import NotConfiguredError, StoreError

SCHEMA_HEAD = "0006"
"""Newest migration; a test holds it equal to the one head under migrations/versions."""

BUSY_TIMEOUT_S = 60.0
"""How long a SQLite writer waits for another; longer than the largest publish takes."""

_SIZES = ("cache_size=-16384", "wal_autocheckpoint=4096")
"""16 MiB of pages kept per connection, twice what a publish changes: any more SQLite fills, and holds until the end.
16 MiB of log before it is copied into the database: with a quarter, the default, nearly every publish pays for that."""

_WRITE_OPTION = "farm_intel_write"
_MIGRATION_LOCK = 0x6661726D  # "farm": PostgreSQL advisory lock held while migrating
_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in module globals, so two databases cannot be migrated by two threads."""
_SWEEP_LOCK = 0x73776570  # "swep": shared by publishers, exclusive for the reaper of orphans


def open_database(url: str) -> Engine:
    """Return an engine for a SQLite or PostgreSQL URL; creates the folder of a SQLite file, not its tables.

    SQLite runs in WAL mode, so readers never wait for the writer, with `synchronous=NORMAL`: the process may die at any
    instant without losing a commit; only a power cut may lose the last commits, never consistency, and a lost row is
    computed again because its fingerprint is missing. Rasters are fsynced before their rows, so the loss cannot leave a
    row without its raster.

    Raises:
        NotConfiguredError: the URL is not one of a database we support.

    """
    parsed = _parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed)
    return create_engine(parsed, pool_pre_ping=True, hide_parameters=True)


def migrate(engine: Engine) -> None:
    """Bring the schema to its head; one query and nothing else when it is there already.

    Two processes may call this at once: the second waits for the first and then finds nothing to do.

    Raises:
        StoreError: the database is newer than this program, or a migration failed and was rolled back.

    """
    if current_revision(engine) != SCHEMA_HEAD:
        _run_migrations(engine, "upgrade", "head")


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to `revision`; `base` removes every table."""
    _run_migrations(engine, "downgrade", revision)


def current_revision(engine: Engine) -> str | None:
    """Return the revision the database is at, or None where it has never been migrated."""
    with reading(engine) as connection:
        try:
            revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
        except DBAPIError:  # there is no such table yet
            return None
    return None if revision is None else str(revision)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection with one consistent snapshot; on SQLite a write through it is refused at once."""
    with _store_errors(engine), engine.connect() as connection:
        yield connection


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection whose changes are committed together, or not at all if the body raises.

    SQLite begins with BEGIN IMMEDIATE: a deferred transaction that reads and then writes fails as soon as another
    writer came in between, whatever the busy timeout.

    Raises:
        StoreError: the database refused or was busy for too long.

    """
    with (
        _store_errors(engine),
        engine.connect().execution_options(**{_WRITE_OPTION: True}) as connection,
        connection.begin(),
    ):
        yield connection


def hold_against_sweep(connection: Connection) -> None:
    """Keep the reaper out until this transaction ends, without keeping other publishers out."""
    _advisory_lock(connection, _SWEEP_LOCK, shared=True)


def hold_for_sweep(connection: Connection) -> None:
    """Wait for every publisher's transaction to end and keep new ones out until this transaction ends."""
    _advisory_lock(connection, _SWEEP_LOCK, shared=False)


def _advisory_lock(connection: Connection, key: int, *, shared: bool) -> None:
    if connection.dialect.name == "postgresql":  # a SQLite write transaction is exclusive by itself
        function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        connection.execute(text(f"SELECT {function}(:key)"), {"key": key})


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise NotConfiguredError(f"not a database URL: {error}", hint="Set FARM_INTEL_DATABASE_URL.") from error
    if backend in {"postgres", "postgresql"}:
        # SQLAlchemy 2.1 takes psycopg 3 for a bare `postgresql://`; psycopg2 is what is installed.
        return parsed.set(drivername="postgresql+psycopg2")
    if backend != "sqlite":
        raise NotConfiguredError(
            f"{backend} is not a supported database", hint="Use a sqlite:/// or postgresql:// URL."
        )
    return parsed


def _open_sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot create the folder of the database {url.database}: {error.strerror}",
                hint="Check FARM_INTEL_HOME and its permissions.",
            ) from error
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.isolation_level = None  # the driver must not send BEGIN by itself; _begin_sqlite does
    cursor = dbapi_connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", *_SIZES):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE_OPTION, False)
    # A deferred transaction that turns into a write fails only under load; query_only makes it fail in every test.
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if write else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _store_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        place = engine.url.render_as_string(hide_password=True)
        raise StoreError(
            f"the database {place} refused: {error.orig}",
            hint="Run `farm-intel doctor`; if it is locked or full, free it and try again.",
        ) from error


def _run_migrations(engine: Engine, verb: str, revision: str) -> None:
    # Alembic costs more to import than the rest of the store; most starts find the schema at its head.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with _ONE_AT_A_TIME, transaction(engine) as connection:
        _advisory_lock(connection, _MIGRATION_LOCK, shared=False)
        config.attributes["connection"] = connection
        try:
            getattr(command, verb)(config, revision)
        except CommandError as error:
            raise StoreError(
                f"cannot {verb} the schema to {revision}: {error}",
                hint="The database may belong to a newer version of farm-intel.",
            ) from error
        except SQLAlchemyError as error:
            raise StoreError(f"the {verb} of the schema to {revision} failed and was rolled back: {error}") from error
