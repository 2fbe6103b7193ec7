"""`farm-intel indices`: what can be computed, by which formula, from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.output import emit, format_option

if TYPE_CHECKING:
    from farm_intel.indices.registry import SpectralIndex

COLUMNS = ("slug", "name", "formula", "bands", "valid_min", "valid_max", "is_asset", "has_interpretation", "reference")


@click.group()
def indices() -> None:
    """Spectral indices of the registry."""


@indices.command("list")
@click.option("--assets", "only_assets", is_flag=True, help="Only those that are Dagster assets.")
@format_option
def list_indices(*, only_assets: bool, output_format: str) -> None:
    """List every index: slug, formula, bands, range, whether it is an asset, whether it has an interpretation."""
    container = container_from_environment()
    rows = [_row(index, container.settings.asset_indices) for index in container.registry.list()]
    if only_assets:
        rows = [row for row in rows if row["is_asset"]]
    columns = COLUMNS if output_format != "table" else COLUMNS[:-1]
    emit(rows, columns, output_format, empty="no indices")


@indices.command("show")
@click.argument("slug")
@format_option
def show_index(slug: str, output_format: str) -> None:
    """Show one index with its states and their sources."""
    container = container_from_environment()
    index = container.registry.get(slug)
    row = _row(index, container.settings.asset_indices)
    row |= {"long_name": index.long_name, "constants": dict(index.constants), "application": index.application}
    interpretation = index.interpretation
    row["states"] = (
        [
            {
                "name": state.name,
                "from": state.lower,
                "to": state.upper,
                "meaning": state.meaning,
                "source": state.source,
            }
            for state in interpretation.states
        ]
        if interpretation
        else []
    )
    if output_format != "table":
        emit([row], tuple(row), output_format, empty="")
        return
    for key, value in row.items():
        if key != "states":
            click.echo(f"{key.replace('_', ' '):20} {value}")
    for state in row["states"]:
        click.echo(f"  {state['from']:>7} … {state['to']:<7} {state['name']}: {state['meaning']} [{state['source']}]")


def _row(index: SpectralIndex, asset_indices: tuple[str, ...]) -> dict[str, Any]:
    low, high = index.valid_range
    return {
        "slug": index.slug,
        "name": index.name,
        "formula": index.formula,
        "bands": list(index.symbols),
        "valid_min": low,
        "valid_max": high,
        "is_asset": index.slug in asset_indices,
        "has_interpretation": index.interpretation is not None,
        "reference": index.reference,
    }
