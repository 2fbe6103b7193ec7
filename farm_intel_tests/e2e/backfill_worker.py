"""Runs the backfill of an installation in a process of its own, and kills it, for every line on standard input.

It is a fork server: libraries are imported once, so that twenty kills cost seconds. Nothing is run in the server
itself, because threads (obstore's runtime, the engine's loop) do not survive a fork.

A line is a home and, optionally, the seconds after which the worker is killed. The answer is the worker's exit code and
the seconds it took.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import rasterio  # noqa: F401 - imported for its time, as are those below
from dagster._core.storage.event_log import SqliteEventLogStorage  # noqa: F401

from farm_intel.bootstrap import Container, build_container, settings_from_file
from farm_intel.cli.installing import CONFIG_NAME, prepare_dagster_home
from farm_intel.cli.requests import days_between
from farm_intel.defs.launch import launch_block
from farm_intel.engine import pipeline  # noqa: F401
from farm_intel.observing import pictures, service  # noqa: F401
from farm_intel.observing.model import ObserveRequest
from farm_intel.providers.blocks import auto  # noqa: F401
from farm_intel.providers.stac import catalog  # noqa: F401
from farm_intel.storage import export, fsck  # noqa: F401


def whole_request(container: Container) -> ObserveRequest:
    """Return the request for every cell of the installation's window."""
    settings = container.settings
    assert settings.history_start is not None
    assert settings.history_end is not None
    return ObserveRequest(
        provider=settings.provider,
        collection=settings.stac_collection,
        indices=settings.asset_indices,
        farm_ids=tuple(farm.farm_id for farm in container.farms.list()),
        days=days_between(settings.history_start, settings.history_end),
    )


def backfill(home: Path) -> None:
    """Run the backfill that `farm-intel backfill` runs."""
    container = build_container(settings_from_file(home / CONFIG_NAME))
    summary = launch_block(container, whole_request(container), dagster_home=prepare_dagster_home(container))
    assert not summary.failures, summary.failures


def run_worker(home: Path, kill_after_s: float | None) -> tuple[int, float]:
    """Fork a worker, kill it when its time is up, and return exit code and seconds."""
    started = time.perf_counter()
    worker = os.fork()
    if worker == 0:
        status = 1
        try:
            backfill(home)
            status = 0
        finally:
            os._exit(status)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        # until it is waited for, its id cannot be anybody else's
        os.kill(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - started


def serve() -> None:
    """Answer every line."""
    for line in sys.stdin:
        home, _, kill_after_s = line.strip().partition(" ")
        print(*run_worker(Path(home), float(kill_after_s) if kill_after_s else None), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
