"""`farm-intel`: the operator's commands over the same container that the Dagster assets use.

Exit codes: 0 success, 1 failure, 2 bad usage. A user's mistake never shows a traceback.
"""

from __future__ import annotations

import sys

from farm_intel.cli.app import run


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))
