"""`farm-intel observations` and `farm-intel calendar`: what is stored, without computing anything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.output import DAY, check_range, emit, format_option
from farm_intel.domain.observations import STATISTICS, Observation

OBSERVATION_COLUMNS = (
    "date",
    "farm_id",
    "index",
    "status",
    "mean",
    "standard_error",
    "p10",
    "p90",
    "used_pixel_count",
    "valid_pixel_fraction",
    "cloud_fraction",
    "flags",
    "reason",
)


@click.command()
@click.option("--farm", "farm_id", help="One farm; default: all.")
@click.option("--index", "slug", help="One index; default: all.")
@click.option("--from", "start", type=DAY, help="First solar day.")
@click.option("--to", "end", type=DAY, help="Last solar day, inclusive.")
@format_option
def observations(
    *, farm_id: str | None, slug: str | None, start: date | None, end: date | None, output_format: str
) -> None:
    """Print stored observations; cells without a number say why."""
    check_range(start, end)
    container = container_from_environment()
    if farm_id:
        container.farms.get(farm_id)
    if slug:
        container.registry.get(slug)
    rows: Iterator[dict[str, Any]] = (
        observation_row(observation)
        for observation in container.observations.observations(
            farm_ids=[farm_id] if farm_id else None, indices=[slug] if slug else None, start=start, end=end
        )
    )
    columns = OBSERVATION_COLUMNS if output_format == "table" else CSV_COLUMNS
    emit(rows, columns, output_format, empty="Nothing is stored for this selection.")


def observation_row(observation: Observation) -> dict[str, Any]:
    """Return an observation as a flat mapping with JSON-ready values."""
    key, statistics = observation.key, observation.statistics
    return {
        "farm_id": key.farm_id,
        "index": key.index,
        "provider": key.provider,
        "collection": key.collection,
        "date": key.solar_day,
        "status": observation.status.value,
        **{name: getattr(statistics, name) if statistics else None for name in STATISTICS},
        "standard_error": observation.standard_error,
        "n_effective": observation.n_effective,
        "pixel_count": observation.pixel_count,
        "valid_pixel_count": observation.valid_pixel_count,
        "used_pixel_count": observation.used_pixel_count,
        "valid_pixel_fraction": observation.valid_pixel_fraction,
        "cloud_fraction": observation.cloud_fraction,
        "covered_fraction": observation.covered_fraction,
        "masked_fractions": dict(observation.masked_fractions),
        "flags": [flag.value for flag in observation.flags],
        "scene_ids": list(observation.scene_ids),
        "raster": observation.raster_path,
        "raster_band": observation.raster_band,
        "gsd_m": observation.gsd_m,
        "radiometry": observation.radiometry,
        "boundary_version": observation.boundary_version,
        "acquired_at": observation.acquired_at,
        "reason": observation.reason,
    }


CSV_COLUMNS = (
    "farm_id",
    "index",
    "provider",
    "collection",
    "date",
    "status",
    *STATISTICS,
    "standard_error",
    "n_effective",
    "pixel_count",
    "valid_pixel_count",
    "used_pixel_count",
    "valid_pixel_fraction",
    "cloud_fraction",
    "covered_fraction",
    "flags",
    "scene_ids",
    "raster",
    "raster_band",
    "gsd_m",
    "radiometry",
    "reason",
)


@click.command()
@click.option("--farm", "farm_id", required=True, help="The farm.")
@click.option("--from", "start", type=DAY, help="First solar day.")
@click.option("--to", "end", type=DAY, help="Last solar day, inclusive.")
@click.option("--provider", help="One provider; default: all.")
@format_option
def calendar(*, farm_id: str, start: date | None, end: date | None, provider: str | None, output_format: str) -> None:
    """Print a farm's observation calendar: each day that was asked for, what came, what did not and why."""
    check_range(start, end)
    container = container_from_environment()
    container.farms.get(farm_id)
    container.check_provider(provider)
    rows = [
        {
            "date": day.solar_day,
            "provider": day.provider,
            "collection": day.collection,
            "status": day.status.value,
            "valid_pixel_fraction": day.valid_pixel_fraction,
            "cloud_fraction": day.cloud_fraction,
            "scene_ids": list(day.scene_ids),
            "reason": day.reason,
        }
        for day in container.observations.calendar(farm_id=farm_id, provider=provider, start=start, end=end)
    ]
    columns = ("date", "status", "valid_pixel_fraction", "cloud_fraction", "scene_ids", "reason")
    emit(rows, columns, output_format, empty="No day of this farm has been asked for yet: run `farm-intel backfill`.")
