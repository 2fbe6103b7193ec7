"""`farm-intel`: the operator's commands over the same container that the Dagster assets use.

Exit codes: 0 success, 1 failure, 2 bad usage. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType

from farm_intel.cli.app import run


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.excepthook = tell_of_a_defect
    sys.exit(run(sys.argv[1:]))


def tell_of_a_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one message that the program is at fault, and keep the traceback in a file for a report.

    Whatever is expected has become a message before; only defects of our own arrive here.
    """
    text = "".join(traceback.format_exception(kind, error, trace))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="farm-intel-", suffix=".txt", delete=False) as file:
            file.write(text)
        where = file.name
    except OSError:  # no room for a file: the place in the program is better than nothing to report
        frame = traceback.extract_tb(trace)[-1]
        where = f"{Path(frame.filename).name} line {frame.lineno}"
    sys.stderr.write(
        f"farm-intel: a defect of farm-intel: {kind.__name__}: {' '.join(str(error).split())}. "
        f"Please report it with {where}; what was finished is stored.\n"
    )
