"""Write the generated pages of docs/, or with --check say which are out of step with the code.

usage: python tools/make_docs.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from pydantic import SecretStr

from farm_intel.cli.app import app
from farm_intel.indices.registry import IndexRegistry, SpectralIndex, load_registry
from farm_intel.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def settings_page() -> str:
    """Return docs/settings.md from the fields of Settings."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable, or an entry of the TOML file named by `FARM_INTEL_CONFIG`",
        "(default `farm_intel.toml` in the working directory) under the name in lower case without the prefix.",
        "The environment wins.",
        "Generated from `farm_intel/settings.py` by `make docs`.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, tuple):
            default = ",".join(default)
        shown = "" if default in (None, "", {}) or isinstance(default, SecretStr) else f"`{default}`"
        meaning = (field.description or "").replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `FARM_INTEL_{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(lines) + "\n"


def indices_page(registry: IndexRegistry | None = None) -> str:
    """Return docs/indices.md from the registry's rows."""
    registry = registry or load_registry()
    lines = [
        "# Spectral indices",
        "",
        "An index is a row: formula, constants, reference; and where we know what an agronomist reads from it,",
        "a second row with range, colour map, states and their sources.",
        "Formulas and references come from Awesome Spectral Indices through `spyndex` (MIT).",
        "Generated from `farm_intel/indices/` by `make docs`.",
        "",
        "| slug | name | formula | constants | valid range | interpretation | reference |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_index_row(index) for index in registry.list()]
    return "\n".join(lines) + "\n"


def _index_row(index: SpectralIndex) -> str:
    constants = ", ".join(f"{name}={value:g}" for name, value in index.constants.items())
    low, high = index.valid_range
    states = ", ".join(state.name for state in index.interpretation.states) if index.interpretation else ""
    formula = index.formula.replace("|", "\\|")
    return (
        f"| `{index.slug}` | {index.long_name} ({index.name}) | `{formula}` | {constants} | {low:g} … {high:g} "
        f"| {states} | {index.reference} |"
    )


def cli_page() -> str:
    """Return docs/cli.md from the commands' own help."""
    lines = [
        "# Command line",
        "",
        "`farm-intel COMMAND --help` says the same. Exit codes: 0 success, 1 failure, 2 bad usage.",
        "Generated from `farm_intel/cli/` by `make docs`.",
    ]
    context = click.Context(app, info_name="farm-intel", help_option_names=["-h", "--help"])
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        if command is not None:
            lines += _command_help(command, name, context)
    return "\n".join(lines) + "\n"


def _command_help(command: click.Command, name: str, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    lines = ["", f"## `{context.command_path}`", "", "```", command.get_help(context), "```"]
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                lines += _command_help(found, child, context)
    return lines


PAGES: dict[str, Callable[[], str]] = {
    "docs/settings.md": settings_page,
    "docs/indices.md": indices_page,
    "docs/cli.md": cli_page,
}


def main() -> int:
    """Write or check the pages; return the exit code."""
    stale = []
    for name, render in PAGES.items():
        path = ROOT / name
        text = render()
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    if stale:
        print(f"out of step with the code: {', '.join(stale)}. Run `make docs`.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
