"""`farm-intel farms`: import, list, show, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import click

from farm_intel.bootstrap import FarmFileReading, container_from_environment
from farm_intel.cli.output import emit, format_option
from farm_intel.domain.errors import BadRequestError, FarmIntelError
from farm_intel.domain.farms import Farm

COLUMNS = (
    "farm_id",
    "name",
    "area_ha",
    "crop",
    "planting_date",
    "time_zone",
    "home_tile",
    "cohort",
    "boundary_version",
)


@click.group()
def farms() -> None:
    """Farms and their boundaries."""


@farms.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id-column", default="", help="Column that holds the farm id, where it is not one of the usual names.")
@click.option("--layer", default="", help="Layer to read, of a file with several.")
@click.option("--crs", default="", help="CRS of a file that names none, e.g. EPSG:3794.")
@click.option("--slugify-ids", is_flag=True, help="Replace characters an id may not have by '-'.")
@click.option("--number-features", is_flag=True, help="Number the farms of a file without ids in the file's order.")
@click.option("--dry-run", is_flag=True, help="Read and judge the file, change nothing.")
def import_farms(file: Path, *, dry_run: bool, **reading: Unpack[FarmFileReading]) -> None:
    """Import farms from GeoJSON, GeoParquet (fiboa too), GeoPackage or a zipped shapefile, in any CRS.

    Features that cannot be farms are named with the reason and left out; the others are imported. A farm that is
    known already gets a new boundary version if its boundary differs.
    """
    container = container_from_environment()
    contents = container.read_farm_file(file, **reading)
    for note in contents.notes:
        click.echo(f"note: {note}", err=True)
    for rejection in contents.rejections:
        click.echo(f"rejected: {rejection}", err=True)
    if dry_run:
        click.echo(f"{len(contents.farms)} farms would be imported, {len(contents.rejections)} rejected.")
        return
    if not contents.farms:
        raise BadRequestError(f"{file.name}: no feature can be a farm", hint="The reasons are above.")
    report = container.import_farms(contents.farms)
    click.echo(
        f"{len(report.added)} farms added, {len(report.updated)} with a new boundary, "
        f"{len(report.edited)} with other attributes, {len(report.unchanged)} unchanged, "
        f"{len(contents.rejections)} rejected.",
    )
    if report.reactivated:
        click.echo(f"{len(report.reactivated)} of them had been removed and are observed again.")
    if contents.rejections:
        raise click.exceptions.Exit(1)


@farms.command("list")
@click.option("--all", "include_inactive", is_flag=True, help="Removed farms too.")
@format_option
def list_farms(*, include_inactive: bool, output_format: str) -> None:
    """List the farms."""
    rows = [_row(farm) for farm in container_from_environment().farms.list(include_inactive=include_inactive)]
    emit(rows, COLUMNS, output_format, empty="No farms yet. `farm-intel farms import FILE` brings some.")


@farms.command("show")
@click.argument("farm_id")
@format_option
def show_farm(farm_id: str, output_format: str) -> None:
    """Show one farm with its boundary as GeoJSON."""
    from shapely import from_wkb
    from shapely.geometry import mapping

    farm = container_from_environment().farms.get(farm_id)
    row = _row(farm) | {"boundary": mapping(from_wkb(farm.boundary_wkb))}
    if output_format != "table":
        emit([row], tuple(row), output_format, empty="")
        return
    for key, value in row.items():
        text = str(value)
        click.echo(f"{key.replace('_', ' '):18} {text if len(text) < 400 else text[:400] + ' …'}")


@farms.command("remove")
@click.argument("farm_ids", nargs=-1, required=True)
def remove_farms(farm_ids: tuple[str, ...]) -> None:
    """Remove farms: they stop being observed; what was observed stays readable."""
    container = container_from_environment()
    problems: list[FarmIntelError] = []
    for farm_id in farm_ids:
        try:
            container.farms.remove(farm_id)
        except BadRequestError as error:
            problems.append(error)
        else:
            click.echo(f"{farm_id} removed")
    if problems:
        raise problems[0]


def _row(farm: Farm) -> dict[str, Any]:
    return {
        "farm_id": farm.farm_id,
        "name": farm.name,
        "area_ha": round(farm.area_ha, 3),
        "crop": farm.crop,
        "planting_date": farm.planting_date,
        "time_zone": farm.time_zone,
        "home_tile": farm.home_tile,
        "cohort": farm.cohort,
        "boundary_version": farm.boundary_version,
        "longitude_deg": round(farm.longitude_deg, 6),
        "latitude_deg": round(farm.latitude_deg, 6),
        "active": farm.active,
    }
