"""A private PostgreSQL cluster that only this test run can reach; its durability is off, its SQL is the real one."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

POSTGRES_BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@dataclass(frozen=True)
class Cluster:
    """Where a running cluster listens: a socket in `folder`, and `port` of this machine."""

    folder: Path
    port: int

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database by the socket."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def create(self, database: str) -> None:
        """Create an empty database."""
        admin = create_engine(
            self.url().replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT"
        )
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {database}"))
        admin.dispose()


@contextmanager
def private_cluster() -> Iterator[Cluster]:
    """Start a cluster in a temporary folder and remove it at the end; skip the test where there is no PostgreSQL."""
    if POSTGRES_BIN is None:
        pytest.skip("PostgreSQL is not installed under /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="farm-intel-pg-"))
    try:
        if os.geteuid() == 0:
            try:
                account = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("there is no user postgres to run the server as")
            os.chown(folder, account.pw_uid, account.pw_gid)
        yield _start(folder)
    finally:
        stop = [f"{POSTGRES_BIN}/pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop"]
        subprocess.run(_as_postgres(*stop), check=False, capture_output=True, cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> Cluster:
    data, port = folder / "data", _free_port()
    initdb = [f"{POSTGRES_BIN}/initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
    subprocess.run(_as_postgres(*initdb), check=True, capture_output=True, cwd=folder)
    options = f"-k {folder} -c listen_addresses=127.0.0.1 -c port={port} -c fsync=off -c full_page_writes=off"
    start = [f"{POSTGRES_BIN}/pg_ctl", "-D", str(data), "-o", options, "-l", f"{folder}/log", "-w", "start"]
    # Not captured: the server keeps the pipe open for as long as it runs.
    subprocess.run(_as_postgres(*start), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    return Cluster(folder, port)


def _as_postgres(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
