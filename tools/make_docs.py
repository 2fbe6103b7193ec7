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
from farm_intel.domain.products import CollectionProfile, MaskRule, PixelReason
from farm_intel.indices.registry import IndexRegistry, SpectralIndex, load_registry
from farm_intel.providers.collections import all_profiles
from farm_intel.providers.rows import PROVIDERS, ProviderRow
from farm_intel.settings import Settings
from farm_intel.simulation.provider_accuracy import ProviderLimits

ROOT = Path(__file__).resolve().parent.parent
PROVIDER_SETTINGS = ("provider", "stac_", "landsat_", "modis_", "hls_", "sentinel_hub_", "earth_engine_", "breaker_")
"""Prefixes of the settings that have to do with providers."""


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
        *_setting_rows(""),
    ]
    return "\n".join(lines) + "\n"


def _setting_rows(*prefixes: str) -> list[str]:
    """Return a table of the settings whose names begin so."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if not name.startswith(prefixes):
            continue
        default = field.get_default(call_default_factory=True)
        if isinstance(default, tuple):
            default = ",".join(default)
        shown = "" if default in (None, "", {}) or isinstance(default, SecretStr) else f"`{default}`"
        meaning = (field.description or "").replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `FARM_INTEL_{name.upper()}` | {shown} | {meaning} |")
    return lines


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


def providers_page() -> str:
    """Return docs/providers.md: the written part with the tables of rows, profiles and settings in their places."""
    text = (ROOT / "docs" / "templates" / "providers.md").read_text()
    limits = ProviderLimits()
    tables = {
        "providers": _provider_rows(),
        "limits": [f"- `{row.name}`: {row.limits_source}." for row in PROVIDERS if row.limits_source],
        "collections": _collection_rows(),
        "masks": _mask_rows(),
        "settings": _setting_rows(*PROVIDER_SETTINGS),
        **{name: [f"{getattr(limits, name):g}"] for name in ("truth", "pair", "capability", "coarse")},
    }
    for name, lines in tables.items():
        text = text.replace("{{" + name + "}}", "\n".join(lines))
    return text


def _provider_rows() -> list[str]:
    lines = [
        "| name | imagery | collections | capabilities | needs | budget a month | a minute | at once | note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return lines + [_provider_row(row) for row in PROVIDERS]


def _provider_row(row: ProviderRow) -> str:
    told = [
        f"{dialect}: `{collection}`" + (f" ({row.endpoints[dialect]})" if dialect in row.endpoints else "")
        for dialect, collection in row.collections.items()
    ]
    needs = "<br>".join(f"`FARM_INTEL_{name.upper()}`" for name in row.settings)
    budget = "none" if row.monthly_units is None else f"{row.monthly_units:,.0f} {row.unit}"
    rate = "-" if row.requests_per_minute is None else f"{row.requests_per_minute:,.0f}"
    return (
        f"| `{row.name}` | {row.title} | {'<br>'.join(told) or '`stac_dialect`, `stac_collection`'} "
        f"| {', '.join(row.capabilities)} | {needs or 'nothing'} | {budget} | {rate} | {row.concurrency} | {row.note} |"
    )


def _collection_rows() -> list[str]:
    lines = [
        "| dialect | collection | pixel | bands | scale | offset | nodata | mask bands | reached by | source |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return lines + [_collection_row(row) for row in all_profiles()]


def _collection_row(row: CollectionProfile) -> str:
    rule = row.radiometry
    offset = f"{rule.offset:g} ({rule.offset_rule.value}{', pixels are asked' if rule.probe else ''})"
    masks = ", ".join(f"`{mask.band}`" for mask in (row.mask, *row.more_masks))
    days = f", {row.composite_days} days" if row.composite_days > 1 else ""
    bands = ", ".join(sorted(row.bands))
    return (
        f"| {row.dialect} | `{row.collection}` | {row.gsd_m:.4g} m{days} | {bands} | {rule.scale:g} | {offset} "
        f"| {rule.nodata} | {masks} | {row.access.value} | {row.source} |"
    )


def _mask_rows() -> list[str]:
    """Return each mask rule once, with the collections it serves."""
    users: dict[str, list[str]] = {}
    for row in all_profiles():
        for rule in (row.mask, *row.more_masks):
            users.setdefault(f"`{rule.band}`: {_mask_text(rule)}", []).append(f"{row.dialect}/{row.collection}")
    return [f"- {text} ({', '.join(dict.fromkeys(names))})" for text, names in users.items()]


def _mask_text(rule: MaskRule) -> str:
    """Return what values or bits of a mask band mean, by reason."""
    found: dict[PixelReason, list[str]] = {}
    for value, reason in sorted(rule.reasons.items()):
        found.setdefault(reason, []).append(str(value))
    for mask, reason in rule.flags:
        found.setdefault(reason, []).append(f"bit {_bits(mask)}")
    for mask, bits, reason in rule.fields:
        shift = (mask & -mask).bit_length() - 1
        found.setdefault(reason, []).append(f"bit {_bits(mask)} = {bits >> shift}")
    rest = rule.otherwise.name.lower() if rule.reasons else "valid"
    return "; ".join(f"{reason.name.lower()} {', '.join(told)}" for reason, told in found.items()) + f"; else {rest}"


def _bits(mask: int) -> str:
    first, last = (mask & -mask).bit_length() - 1, mask.bit_length() - 1
    return str(first) if first == last else f"{first}-{last}"


PAGES: dict[str, Callable[[], str]] = {
    "docs/settings.md": settings_page,
    "docs/indices.md": indices_page,
    "docs/cli.md": cli_page,
    "docs/providers.md": providers_page,
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
