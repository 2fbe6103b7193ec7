"""Run the fault matrix: every injected fault at every provider, and say what each ended in.

usage: python -m tools.faults [--write] [--columns NAME …] [--rows NAME …] [--processes N]

Exits with 1 where anything was not right.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from farm_intel_tests.faults.columns import write_small_world
from farm_intel_tests.faults.judging import Verdict
from farm_intel_tests.faults.matrix import Selection, all_names, run_columns
from farm_intel_tests.faults.page import page
from farm_intel_tests.faults.recovering import dead_host, stop_and_start
from farm_intel_tests.faults.rows import DATA_FAULTS, FAULTS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "faults.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; return the exit code."""
    asked = _parser().parse_args(arguments)
    began = time.monotonic()
    names = [name for name in all_names() if not asked.columns or name in asked.columns]
    verdicts: list[Verdict] = []
    # what the guards log of every struck call would bury the table
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="farm-intel-faults-") as folder:
        world = Path(folder) / "world"
        write_small_world(world)
        _say(began, "the world is written")
        selection = Selection(rows=tuple(asked.rows))
        found = run_columns(
            world, names, selection, processes=asked.processes, on_column=lambda name: _say(began, f"{name} is done")
        )
        for column in found:
            verdicts += column
        recovery = None if asked.rows else stop_and_start(world)
        dead = None if asked.rows else dead_host(world)
    text = page(sorted(verdicts, key=_place_in_page), recovery, dead)
    print(text)
    if asked.write:
        PAGE.write_text(text)
    right = not any(verdict.wrong for verdict in verdicts)
    if recovery is not None and dead is not None:
        right = right and not recovery.wrong and dead.right
    _say(began, "all is right" if right else "NOT all is right")
    return 0 if right else 1


def _place_in_page(verdict: Verdict) -> int:
    rows = [row.name for row in FAULTS] + [row.name for row in DATA_FAULTS]
    return rows.index(verdict.row)


def _say(began: float, what: str) -> None:
    print(f"{time.monotonic() - began:5.0f} s: {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run the fault matrix.")
    parser.add_argument("--write", action="store_true", help="also write docs/faults.md")
    parser.add_argument("--columns", nargs="*", default=[], help="only these providers")
    parser.add_argument("--rows", nargs="*", default=[], help="only these faults; nothing is stopped or started then")
    parser.add_argument("--processes", type=int, default=4, help="columns at once; most of a run is waiting")
    return parser


if __name__ == "__main__":
    sys.exit(main())
