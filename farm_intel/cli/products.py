"""`farm-intel export`, `cube`, `plot` and `item`: what is stored, in forms others read."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.output import DAY, check_range, progress_bar, split_list
from farm_intel.domain.errors import BadRequestError, UnknownNameError


@click.command()
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), required=True, help="FILE.parquet")
@click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all.")
@click.option("--indices", callback=split_list, help="Slugs, comma-separated; default: all.")
@click.option("--from", "start", type=DAY, help="First solar day.")
@click.option("--until", "end", type=DAY, help="Last solar day, inclusive.")
def export(
    *, target: Path, farm_ids: tuple[str, ...], indices: tuple[str, ...], start: date | None, end: date | None
) -> None:
    """Write observations as GeoParquet, one row each, with the farm's boundary as geometry."""
    if target.suffix != ".parquet":
        raise BadRequestError(f"{target}: the export is GeoParquet", hint="Use a name that ends in .parquet.")
    check_range(start, end)
    container = container_from_environment()
    for farm_id in farm_ids:
        container.farms.get(farm_id)
    container.registry.select(indices)
    count = container.export_observations(target, farm_ids=farm_ids, indices=indices, start=start, end=end)
    click.echo(f"{count} observations written to {target}")


@click.command()
@click.argument("farm_id")
@click.option("--indices", callback=split_list, help="Slugs, comma-separated; default: the asset indices.")
@click.option("--from", "start", type=DAY, help="First solar day; default: the first the farm's calendar knows.")
@click.option("--until", "end", type=DAY, help="Last solar day, inclusive; default: the last it knows.")
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, help="FILE.zarr")
@click.option("--provider", help="Provider whose files are read; default: the first of FARM_INTEL_PROVIDERS.")
def cube(
    *,
    farm_id: str,
    indices: tuple[str, ...],
    start: date | None,
    end: date | None,
    target: Path,
    provider: str | None,
) -> None:
    """Write an analyst's cube of one farm (time, y, x; one variable per index) as Zarr, which xarray opens lazily.

    The scenes' own files are read by stackstac; mask, scale and limits are those of the stored numbers. Scenes that
    cannot be used are listed.
    """
    if target.suffix != ".zarr":
        raise BadRequestError(f"{target}: the cube is Zarr", hint="Use a name that ends in .zarr.")
    check_range(start, end)
    container = container_from_environment()
    slugs = indices or container.settings.asset_indices
    with progress_bar("cube") as progress:
        summary = container.write_cube(
            farm_id, slugs, start=start, end=end, target=target, progress=progress, provider_name=provider
        )
    click.echo(summary)


@click.command()
@click.option("--farm", "farm_id", required=True, help="The farm.")
@click.option("--index", "slug", required=True, help="The index.")
@click.option("--from", "start", type=DAY, help="First solar day.")
@click.option("--until", "end", type=DAY, help="Last solar day, inclusive.")
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), required=True, help="FILE.png")
@click.option("--providers", "compare", is_flag=True, help="All providers beside each other, with the fused series.")
def plot(*, farm_id: str, slug: str, start: date | None, end: date | None, target: Path, compare: bool) -> None:
    """Draw a farm's season: every number with its uncertainty, and every day without one with its reason."""
    if target.suffix != ".png":
        raise BadRequestError(f"{target}: the plot is a PNG", hint="Use a name that ends in .png.")
    check_range(start, end)
    container = container_from_environment()
    draw = container.providers_plot if compare else container.season_plot
    picture = draw(farm_id, slug, start=start, end=end)
    target.write_bytes(picture)
    click.echo(f"{target}")


@click.command()
@click.argument("farm_id")
@click.argument("day", type=DAY)
@click.option("--provider", help="Provider name; default: the first of FARM_INTEL_PROVIDERS.")
def item(farm_id: str, day: date, *, provider: str | None) -> None:
    """Print the STAC item of a farm's raster on a day."""
    container = container_from_environment()
    container.farms.get(farm_id)
    container.check_provider(provider)
    made = container.stac_item(farm_id, day, provider or container.settings.provider)
    if made is None:
        raise UnknownNameError(
            f"farm {farm_id} has no raster on {day}", hint=f"`farm-intel calendar --farm {farm_id}` shows why."
        )
    click.echo(json.dumps(made, indent=2, ensure_ascii=False))
