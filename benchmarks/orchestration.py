"""What Dagster costs per cell over the work itself, and what loading the definitions costs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.data import DAYS
from benchmarks.job import Job

_INDEX = "ndvi"


def dagster_cells(job: Job) -> dict[str, Any]:
    """Return the wall time per cell of a launch over fake imagery, beyond what the use case itself takes.

    The imagery is a fake that answers at once, farms and days are as many as the case says. One index: the cells of a
    farm and day share nothing in Dagster, so more indices would only be more cells.
    """
    from farm_intel.defs import compat
    from farm_intel.defs.launch import launch_on
    from farm_intel.observing.model import ObserveRequest
    from farm_intel_tests.support.fake_observing import installation

    farms = tuple(f"farm-{k:05d}" for k in range(job.case.farms))
    days = job.days

    def made() -> Any:
        return installation(farms, days, asset_indices=(_INDEX,), history_start=DAYS[0], history_end=DAYS[-1])

    request = ObserveRequest(
        provider="stac", collection="sentinel-2-l2a", indices=(_INDEX,), farm_ids=farms, days=tuple(days)
    )
    bare = made().observing
    begin = time.perf_counter()
    cells = len(list(bare.observe(request, run_id="bench")))
    work_s = time.perf_counter() - begin
    home = job.scratch / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    subject = made()
    with compat.open_instance(home) as instance:
        begin, cpu = time.perf_counter(), time.process_time()
        summary = launch_on(instance, subject, request)
        launch_s, cpu = time.perf_counter() - begin, time.process_time() - cpu
    if summary.computed != cells:
        raise RuntimeError(f"{summary.computed} of {cells} cells computed: {summary.failures or summary.notes}")
    return {
        "cells": cells,
        "runs": summary.runs,
        "launch_s": round(launch_s, 3),
        "launch_cpu_s": round(cpu, 3),
        "work_s": round(work_s, 3),
        "overhead_ms_per_cell": round(1e3 * (launch_s - work_s) / cells, 3),
    }


def definitions_load(job: Job) -> dict[str, Any]:
    """Return the CPU of importing the definitions beyond importing Dagster, least of three fresh processes each."""
    ours = min(_child_cpu("import farm_intel.definitions", job.scratch) for _ in range(3))
    dagster = min(_child_cpu("import dagster", job.scratch) for _ in range(3))
    return {
        "dagster_cpu_s": round(dagster, 3),
        "definitions_cpu_s": round(ours, 3),
        "beyond_s": round(ours - dagster, 3),
    }


def _child_cpu(code: str, home: Path) -> float:
    environment = dict(os.environ, FARM_INTEL_HOME=str(home / "home"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


ORCHESTRATION: dict[str, Callable[[Job], dict[str, Any]]] = {
    "dagster": dagster_cells,
    "definitions": definitions_load,
}
