"""`farm-intel backfill` and `farm-intel explain`: the same block of cells, done or only weighed."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.backfilling import run_backfill
from farm_intel.cli.output import emit, format_option, progress_bar
from farm_intel.cli.requests import block_options, block_request
from farm_intel.domain.observations import ObservationStatus


@click.command()
@block_options
@click.option("--force", is_flag=True, help="Compute cells again although nothing they depend on has changed.")
@format_option
def backfill(
    *,
    indices: tuple[str, ...],
    start: date,
    end: date,
    farm_ids: tuple[str, ...],
    provider: str | None,
    force: bool,
    output_format: str,
) -> None:
    """Observe farms over a range of days, through the same Dagster assets that the UI shows.

    Only missing or stale cells are computed. Stop it at any time; the same command goes on from there.
    """
    container = container_from_environment()
    request = block_request(
        container, indices=indices, start=start, end=end, farm_ids=farm_ids, provider=provider, force=force
    )
    with progress_bar("backfill") as progress:
        summary = run_backfill(container, request, progress)
    rows = [{"status": status.value, "cells": summary.by_status.get(status, 0)} for status in ObservationStatus]
    rows = [row for row in rows if row["cells"]]
    emit(rows, ("status", "cells"), output_format, empty="No day of the range has a scene over the farms.")
    for note in summary.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"{summary.computed} cells computed, {summary.up_to_date} were up to date, {len(summary.failures)} failed, "
        f"in {summary.runs} Dagster runs.",
        err=True,
    )
    if summary.failures:
        for cell, reason in list(summary.failures.items())[:20]:
            click.echo(f"failed: {cell}: {reason}", err=True)
        raise click.exceptions.Exit(1)


@click.command()
@block_options
@click.option("--force", is_flag=True, help="Weigh cells that are up to date too.")
@format_option
def explain(
    *,
    indices: tuple[str, ...],
    start: date,
    end: date,
    farm_ids: tuple[str, ...],
    provider: str | None,
    force: bool,
    output_format: str,
) -> None:
    """Say what a backfill would read and cost: scenes, cells, requests, bytes, time. Reads no pixels."""
    container = container_from_environment()
    request = block_request(
        container, indices=indices, start=start, end=end, farm_ids=farm_ids, provider=provider, force=force
    )
    explanation = container.observing.explain(request)
    values = asdict(explanation)
    per_day = values.pop("per_day")
    if output_format == "json":
        days = [{"day": day, "scenes": scenes, "cells_to_compute": cells} for day, scenes, cells in per_day]
        emit([values | {"per_day": days}], (), "json", empty="")
        return
    if output_format == "csv":
        emit([values], tuple(values), "csv", empty="")
        return
    notes = values.pop("notes")
    if not values["units"]:
        del values["units"]
    for key, value in values.items():
        click.echo(f"{key.replace('_', ' '):20} {value:,}" if isinstance(value, (int, float)) else f"{key:20} {value}")
    if explanation.units:
        preview = container.guarding.ledger.preview(request.provider, explanation.units)
        click.echo(f"  {preview}")
    for note in notes:
        click.echo(f"  {note}")
