"""CI guard: fail when the code location names an asset, group, tag, check or job that does not exist.

usage: python tools/check_definitions.py [MODULE]

MODULE has the definitions in its attribute `defs`; farm_intel.definitions by default. Prints one line per problem and
exits with 1 where there is one, with 2 where the module cannot be loaded.
"""

from __future__ import annotations

import importlib
import sys

import dagster as dg

from farm_intel.defs.definitions_guard import definition_problems


def main(arguments: list[str]) -> int:
    """Print the problems of a code location and return the exit status."""
    module = arguments[0] if arguments else "farm_intel.definitions"
    try:
        definitions = importlib.import_module(module).defs
    except (ImportError, AttributeError, dg.DagsterError) as error:
        sys.stderr.write(f"{module} has no definitions: {error}\n")
        return 2
    problems = definition_problems(definitions)
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
