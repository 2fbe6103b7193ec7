"""One measurement in a process of its own; imports, compilation and preparation happen before the clock starts.

    python -m benchmarks.measure '{"contender": "engine", "farms": 1000, …}' --data FOLDER [--server URL]

prints one JSON line and, with `--means FILE`, saves what was computed so that contenders can be compared.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import KEYS, BenchData
from benchmarks.job import Case, Job
from benchmarks.orchestration import ORCHESTRATION
from benchmarks.ours import OURS, Outcome, Prepared, cpu_seconds
from benchmarks.peers import PEERS

_PIECE_BYTES = 4 << 20
_TOUCHED_BYTES = 1 << 30


def _prepare(job: Job) -> Prepared:
    contender = job.case.contender
    if contender in OURS:
        return OURS[contender][0](job)
    if contender in ORCHESTRATION:
        return Prepared(lambda: Outcome(job.empty(), facts=ORCHESTRATION[contender](job)))
    peer = PEERS[contender]
    for module in peer.imports:
        importlib.import_module(module)
    job.fields  # noqa: B018 - reads and projects the farms before the clock starts
    return Prepared(lambda: Outcome(peer.run(job)))


def _status_mb(field: str) -> int:
    """Return a memory figure of this process in MiB; VmHWM, unlike ru_maxrss, does not inherit the parent's peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) // 1024
    return 0


def _ask(server: str, what: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server}/__{what}", timeout=30) as answer:
        return dict(json.load(answer))


def _settle_machine(job: Job) -> None:
    """Read the files once and touch as much memory as runs need, for every contender alike.

    A virtual machine gives memory that nobody uses back to its host, and with it the page cache: whoever comes first
    pays for the disk, and for every page that the host has to find again, in CPU time of its own.
    """
    for path in {job.data.band(day, key).resolve() for day in job.days for key in KEYS}:
        with path.open("rb", buffering=0) as file:
            while file.read(_PIECE_BYTES):
                pass
    # elsewhere: it must not count as memory of the contender
    subprocess.run([sys.executable, "-c", f"b'x' * {_TOUCHED_BYTES}"], check=True)


def measure(job: Job, server: str | None) -> tuple[dict[str, Any], Outcome]:
    """Return the record of one run, and what it computed."""
    prepared = _prepare(job)
    _settle_machine(job)
    if server:
        _ask(server, "reset")
    base_mb = _status_mb("VmRSS")
    cpu, wall = cpu_seconds(), time.perf_counter()
    outcome = prepared.run()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    record: dict[str, Any] = {
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu, 3),
        "peak_mb": _status_mb("VmHWM"),
        "base_mb": base_mb,
    }
    if server:
        counters = _ask(server, "counters")
        record |= {key: counters[key] for key in ("requests", "bytes_sent", "connections", "max_in_flight")}
    record["facts"] = outcome.facts | prepared.afterwards()
    return record | {"numbers": int(np.isfinite(outcome.means).sum())}, outcome


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure", description=__doc__)
    parser.add_argument("case", help="the case as JSON")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--server", help="URL of the range server over the data")
    parser.add_argument("--scratch", type=Path, help="folder for what is written; left for the caller to remove")
    parser.add_argument("--means", type=Path, help="where to save the means (.npz)")
    options = parser.parse_args()
    case = Case(**json.loads(options.case))
    server = options.server if case.via == "http" else None
    scratch = Path(tempfile.mkdtemp(prefix=f"{case.contender}-", dir=options.scratch))
    job = Job(case, BenchData(options.data), server, scratch)
    record, outcome = measure(job, server)
    if options.means:
        mixed = np.zeros(outcome.means.shape, np.bool_) if outcome.mixed is None else outcome.mixed
        np.savez(options.means, means=outcome.means, farms=job.numbers, mixed=mixed)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
