"""Runs the benchmark: makes the data, measures every case in a fresh process, judges and reports.

python -m benchmarks.run [--full] [--only REGEX] [--rounds N] [--data FOLDER] [--results FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.data import BenchData
from benchmarks.job import Case
from benchmarks.matrix import cases
from benchmarks.records import Record, Records
from benchmarks.report import write_report

HERE = Path(__file__).parent
LATENCY_MS = 30
_TIMEOUT_S = 900
_PACKAGES = (
    "numpy", "numba", "rasterio", "stackstac", "odc-stac", "exactextract", "rasterstats", "rio-tiler", "obstore",
    "deflate", "dagster",
)  # fmt: skip


@contextmanager
def _range_server(folder: Path) -> Iterator[str]:
    """Serve the data with latency from a process of its own, so that its CPU is not counted."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "farm_intel.simulation.range_server", str(folder)]
    server = subprocess.Popen([*command, "--port", str(port), "--latency-ms", str(LATENCY_MS)])
    try:
        _await_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _await_port(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        subprocess.run(["sleep", "0.05"], check=True)
    raise RuntimeError(f"the range server does not answer on port {port}")


@dataclass(frozen=True)
class _Bench:
    """Where a run finds and puts things."""

    data: Path
    server: str
    means: Path
    scratch: Path
    """Removed at the end of the run only; see `_make_scratch`."""


def _make_scratch(folder: Path) -> Path:
    """Return a new folder on the data's disk whose subfolders are spread over it.

    ext4 avoids inodes freed in the last minutes, and after a mass deletion nearby (of another run, or of a test suite)
    it searches twenty times longer for each new file: system time that no store in use would see. The `T` attribute
    asks for block groups with room; where the file system has no such attribute, nothing is lost.
    """
    scratch = folder / f"scratch-{os.getpid()}"
    scratch.mkdir()
    chattr = shutil.which("chattr")
    if chattr:
        subprocess.run([chattr, "+T", str(scratch)], check=False, capture_output=True)
    return scratch


def _measure(case: Case, number: int, bench: _Bench) -> Record | None:
    """Run one case; None where it failed, which is reported and does not stop the others."""
    file = bench.means / f"{case.contender}-{case.farms}-{case.dates}-{case.via}.npz"
    command = [sys.executable, "-m", "benchmarks.measure", case.to_json(), "--data", str(bench.data)]
    command += ["--server", bench.server, "--means", str(file), "--scratch", str(bench.scratch)]
    environment = dict(os.environ, PYTHONWARNINGS="ignore")
    try:
        done = subprocess.run(
            command, cwd=HERE.parent, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = error.stderr or b""
        text = output if isinstance(output, str) else output.decode(errors="replace")
        print(f"FAILED {case.key}: {text.strip().splitlines()[-1:] or error}", flush=True)
        return None
    values = json.loads(done.stdout.strip().splitlines()[-1])
    return Record(case, number, {**values, "load": round(os.getloadavg()[0], 1)})


def _machine() -> dict[str, Any]:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "latency_ms": LATENCY_MS,
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _line(record: Record) -> str:
    case, values = record.case, record.values
    name = f"{case.contender:20s} {case.farms:5d} farms x {case.dates:2d} {case.via:5s}"
    rate = f"{case.farm_dates / values['wall_s']:8.1f}/s {1e3 * values['cpu_s'] / max(case.farm_dates, 1):8.2f} ms CPU"
    return f"{name} wall {values['wall_s']:7.2f} cpu {values['cpu_s']:7.2f} {rate} {values['peak_mb']:5d} MB"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every peer at every size; takes hours")
    parser.add_argument("--only", default="", help="regular expression over contender names")
    parser.add_argument("--rounds", type=int, default=5, help="repeat judged cases at most so often")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder for the generated data (3 GB)")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    data = BenchData(options.data.absolute())
    data.ensure()
    means = data.folder / "means"
    shutil.rmtree(means, ignore_errors=True)
    means.mkdir()
    wanted = [
        (case, min(rounds, options.rounds))
        for case, rounds in cases(full=options.full)
        if re.search(options.only, case.contender)
    ]
    most = max(rounds for _, rounds in wanted)
    about = {"about": _machine() | {"compression": data.compression()}}
    lines = [json.dumps(about)]
    scratch = _make_scratch(data.folder)
    with _range_server(data.folder) as server:
        bench = _Bench(data.folder, server, means, scratch)
        for number in range(most):
            for case, rounds in wanted:
                if number >= rounds:
                    continue
                record = _measure(case, number, bench)
                if record is not None:
                    print(_line(record), flush=True)
                    lines.append(record.to_json())
    shutil.rmtree(scratch)
    options.results.mkdir(exist_ok=True)
    (options.results / "runs.jsonl").write_text("\n".join(lines) + "\n")
    print(write_report(options.results, Records.read(options.results / "runs.jsonl"), about["about"], means))


if __name__ == "__main__":
    main()
