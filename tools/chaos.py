"""Kill, starve and cut off activities and delivery, and say what was lost or done twice.

usage: python -m tools.chaos [--quick] [--write] [--json] [--trials NAME …]

Exits with 1 where a number is missed, or a mutant is not found.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from farm_intel_tests.chaos.page import page
from farm_intel_tests.chaos.trials import QUICK, TRIALS, Line, Size

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "chaos.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; return the exit code."""
    asked = _parser().parse_args(arguments)
    began = time.monotonic()
    logging.disable(logging.ERROR)  # what the killed say of themselves would bury the table
    try:
        lines = _run(asked.trials or list(TRIALS), QUICK if asked.quick else Size(), began)
    finally:
        logging.disable(logging.NOTSET)
    text = page(lines, quick=asked.quick, seconds=time.monotonic() - began)
    print(json.dumps([asdict(line) for line in lines], indent=1) if asked.json else text)
    if asked.write:
        PAGE.write_text(text)
    right = all(line.right for line in lines)
    _say(began, "all is right" if right else "NOT all is right")
    return 0 if right else 1


def _run(names: Sequence[str], size: Size, began: float) -> list[Line]:
    lines: list[Line] = []
    for name in names:
        for line in TRIALS[name](size):
            lines.append(line)
            _say(began, f"{'right' if line.right else 'WRONG'}: {line.trial}; {line.what}: {line.measured}")
    return lines


def _say(began: float, what: str) -> None:
    print(f"{time.monotonic() - began:5.0f} s: {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Chaos for activities and delivery.")
    parser.add_argument("--quick", action="store_true", help="fewer kills and alerts, no PostgreSQL; every crash point")
    parser.add_argument("--write", action="store_true", help="also write docs/chaos.md")
    parser.add_argument("--json", action="store_true", help="print the lines as JSON instead of the page")
    parser.add_argument("--trials", nargs="*", choices=sorted(TRIALS), default=[], help="only these")
    return parser


if __name__ == "__main__":
    sys.exit(main())
