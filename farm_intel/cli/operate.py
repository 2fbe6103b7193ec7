"""`farm-intel doctor`, `fsck` and `up`: is everything there, is it whole, and start it."""

from __future__ import annotations

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.doctoring import diagnose
from farm_intel.cli.installing import configured_or_demo
from farm_intel.cli.output import emit, format_option
from farm_intel.cli.serving import serve


@click.command()
@format_option
def doctor(*, output_format: str) -> None:
    """Check installation, settings, store and catalogue, and say what to do about what is not right."""
    findings = diagnose()
    rows = [{"check": f.check, "result": f.result, "detail": f.detail, "what to do": f.advice} for f in findings]
    emit(rows, ("check", "result", "detail", "what to do"), output_format, empty="")
    if any(finding.result == "wrong" for finding in findings):
        raise click.exceptions.Exit(1)


@click.command()
@click.option("--no-rehash", is_flag=True, help="Skip reading every raster for its checksum.")
@click.option("--repair", is_flag=True, help="Remove orphans past the grace period and half-written files.")
@format_option
def fsck(*, no_rehash: bool, repair: bool, output_format: str) -> None:
    """Compare rows with objects in both directions, and every object with its checksum."""
    container, is_demo = configured_or_demo(container_from_environment())
    if is_demo:
        click.echo("No catalogue is configured: checking the demo installation.", err=True)
    findings = container.check_store(rehash=not no_rehash, repair=repair)
    rows = [{"problem": problem, "count": count, "examples": examples} for problem, count, examples in findings]
    emit(rows, ("problem", "count", "examples"), output_format, empty="The store is whole.")
    if rows:
        click.echo("`farm-intel backfill --force` over their days writes missing and damaged rasters again.", err=True)
        raise click.exceptions.Exit(1)


@click.command()
def up() -> None:
    """Start the Dagster UI and daemon on localhost and say where to look."""
    raise click.exceptions.Exit(serve(container_from_environment()))
