"""Opening, migrating both ways, locking."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text

import farm_intel.storage.migrations
from farm_intel.domain.errors import NotConfiguredError, StoreError
from farm_intel.storage import (
    activity_tables,
    alert_tables,
    assessment_tables,
    message_tables,
    resilience_tables,
    tables,
)
from farm_intel.storage.database import (
    SCHEMA_HEAD,
    current_revision,
    downgrade,
    migrate,
    open_database,
    reading,
    transaction,
)

MODULES_OF_TABLES = (tables, assessment_tables, resilience_tables, activity_tables, alert_tables, message_tables)
"""Importing them is what puts their tables into the one metadata."""


def _table_names(engine):
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_the_head_the_fast_path_trusts_is_the_only_head():
    config = Config()
    config.set_main_option("script_location", str(Path(farm_intel.storage.migrations.__file__).parent))

    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_HEAD]


def test_migrations_go_up_down_and_up_again(database_url):
    engine = open_database(database_url)
    assert current_revision(engine) is None

    migrate(engine)
    assert set(tables.metadata.tables) == _table_names(engine)
    downgrade(engine, "base")
    assert _table_names(engine) == set()
    migrate(engine)

    assert set(tables.metadata.tables) == _table_names(engine)
    assert current_revision(engine) == SCHEMA_HEAD
    engine.dispose()


def test_migrated_schema_is_what_the_code_expects(engine):
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, tables.metadata)

    assert differences == []


def _migrate_in_another_process(url, barrier, results):
    engine = open_database(url)
    barrier.wait()
    try:
        migrate(engine)
        results.put("done")
    except StoreError as error:
        results.put(str(error))


def test_processes_that_migrate_at_once_wait_for_each_other(database_url):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=_migrate_in_another_process, args=(database_url, barrier, results)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()

    assert answers == ["done"] * 3


def test_a_database_of_a_newer_program_is_refused(engine):
    with transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreError, match="newer version"):
        migrate(engine)


def test_sqlite_is_opened_for_many_readers_and_a_writer(sqlite_engine):
    with reading(sqlite_engine) as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 60_000}


def test_a_write_outside_a_write_transaction_is_refused_on_sqlite(sqlite_engine):
    with pytest.raises(StoreError, match="readonly"), reading(sqlite_engine) as connection:
        connection.execute(tables.farms.delete())


def test_a_body_that_raises_leaves_nothing_behind(engine):
    insert = text("INSERT INTO cursors (name, value, updated_at) VALUES ('a', 'b', '2024-01-01 00:00:00')")

    def insert_and_fail():
        with transaction(engine) as connection:
            connection.execute(insert)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        insert_and_fail()

    with reading(engine) as connection:
        assert connection.scalar(text("SELECT count(*) FROM cursors")) == 0


def test_read_then_write_by_many_threads_loses_nothing(engine):
    with transaction(engine) as connection:
        connection.execute(
            text("INSERT INTO cursors (name, value, updated_at) VALUES ('n', '0', '2024-01-01 00:00:00')")
        )

    def count_up():
        for _ in range(25):
            with transaction(engine) as connection:
                # SQLite has no row locks, and SQLAlchemy leaves FOR UPDATE out there: BEGIN IMMEDIATE is enough.
                query = select(tables.cursors.c.value).where(tables.cursors.c.name == "n").with_for_update()
                value = int(connection.scalar(query))
                connection.execute(text("UPDATE cursors SET value = :v WHERE name = 'n'"), {"v": str(value + 1)})

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with reading(engine) as connection:
        assert connection.scalar(text("SELECT value FROM cursors WHERE name = 'n'")) == "100"


@pytest.mark.parametrize("url", ["mysql://a/b", "not a url", "nosuch://"])
def test_other_databases_are_refused_with_advice(url):
    with pytest.raises(NotConfiguredError):
        open_database(url)


def test_a_bare_postgresql_url_uses_the_installed_driver():
    engine = open_database("postgresql://someone:secret@somewhere/db")

    assert engine.dialect.driver == "psycopg2"


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="cannot create the folder"):
        open_database(f"sqlite:///{tmp_path}/file/store.db")
