"""`farm-intel demo` and `farm-intel accuracy`: the simulated farm world, run and scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farm_intel.bootstrap import Container, build_container, load_settings
from farm_intel.cli.agreeing import SLUGS, score_agreement, tell_agreement
from farm_intel.cli.backfilling import BackfillSummary, run_backfill
from farm_intel.cli.comparing import Comparison, compare_providers
from farm_intel.cli.installing import CONFIG_NAME, demo_home
from farm_intel.cli.output import emit, format_option, progress_bar, split_list
from farm_intel.cli.requests import days_between
from farm_intel.domain.observations import ObservationStatus
from farm_intel.observing.model import ObserveRequest
from farm_intel.simulation.catalogue import WorldFiles, load_world, write_world
from farm_intel.simulation.emulators.fleet import EARTH_ENGINE, SENTINEL_HUB, emulators
from farm_intel.simulation.world import FarmWorld, WorldOptions

if TYPE_CHECKING:
    from farm_intel.simulation.alert_accuracy import AlertReport
    from farm_intel.simulation.state_accuracy import StateReport

_SCORED_FARMS = 40
"""Simulated farms per seed that alerts are scored on; three times as many give the same to two per cent."""
DEMO_INDICES = ("ndvi", "ndwi", "ndmi", "evi", "savi")
DEMO_SENSORS = ("sentinel-2", "landsat")
DEMO_PROVIDERS = ("stac", "sentinel_hub", "earth_engine", "landsat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A home with a simulated world in it."""

    container: Container
    world: FarmWorld
    days: tuple[date, ...]


@click.command()
@click.option("--indices", callback=split_list, help=f"Slugs, comma-separated; default: {','.join(DEMO_INDICES)}.")
@click.option("--days", type=click.IntRange(60, 400), default=65, show_default=True, help="Length of the season.")
def demo(*, indices: tuple[str, ...], days: int) -> None:
    """Build a simulated farm world and run the whole job on it, through Dagster.

    A second run finds everything in place and changes nothing.
    """
    base = build_container(load_settings())
    slugs = tuple(index.slug for index in base.registry.select(indices or DEMO_INDICES))
    home = demo_home(base)
    with progress_bar("world") as progress:
        world = write_world(FarmWorld(WorldOptions(days=days)), home / "world", progress=progress, sensors=DEMO_SENSORS)
    with emulators(world.folder, (SENTINEL_HUB, EARTH_ENGINE)) as fleet:
        settings = {
            "providers": DEMO_PROVIDERS,
            "landsat_url": str(world.folder / "landsat-c2-l2"),
            # bands of one name are one band in the world: no coefficients between sensors are wanted
            "harmonise": False,
            "index_files": base.settings.index_files,
            **fleet.settings(),
        }
        installation = install_world(home, world, slugs, **settings)
        container = installation.container
        with progress_bar("backfill") as progress:
            summary = run_backfill(container, whole_world(installation, slugs), progress)
        compared = compare_providers(container, installation.days, slugs[0])
    _summarise(installation, slugs, summary)
    _tell_comparison(container, compared)
    if summary.failures:
        for cell, reason in list(summary.failures.items())[:10]:
            click.echo(f"failed: {cell}: {reason}", err=True)
        raise click.exceptions.Exit(1)


@click.command()
@click.option("--indices", callback=split_list, help="Slugs, comma-separated; default: the asset indices.")
@click.option("--all", "every_row", is_flag=True, help="Every size x dialect x purity, not only sums and judged rows.")
@format_option
def accuracy(*, indices: tuple[str, ...], every_row: bool, output_format: str) -> None:
    """Compare stored numbers with the truth of the simulated world; exit 1 when a target is missed.

    Errors are observed mean minus true mean, in index units; sizes are field areas. A second table compares the events
    told from simulated seasons (harvest, drought, flood, hail) with those that truly happened, a third the alerts that
    the rules open on such seasons. Two more let every provider, by pixels and by its own statistics, look at the same
    even fields: are they right, do they agree?
    """
    from farm_intel.simulation.accuracy import score

    base = build_container(load_settings())
    slugs = tuple(index.slug for index in base.registry.select(indices or base.settings.asset_indices))
    with progress_bar("world") as progress:
        home = base.settings.home.absolute() / "accuracy"
        world = write_world(FarmWorld(WorldOptions()), home / "world", progress=progress)
    installation = install_world(home, world, slugs, index_files=base.settings.index_files)
    container = installation.container
    with progress_bar("observe") as progress:
        for _ in container.observing.observe(whole_world(installation, slugs), run_id="accuracy", progress=progress):
            pass
    report = score(installation.world, container.observations.observations(indices=slugs), container.registry)
    states = _score_states(base)
    alerts = _score_alerts(base)
    with progress_bar("providers") as progress:
        agreement = score_agreement(home / "providers", _installed, progress)
    if output_format == "json":
        click.echo(
            json.dumps(
                {
                    **report.as_dict(),
                    "states": states.as_dict(),
                    "alerts": alerts.as_dict(),
                    "providers": agreement.as_dict(),
                },
                indent=2,
            )
        )
    else:
        rows = [row for row in report.table() if every_row or _is_summary(row)]
        emit(rows, tuple(rows[0]) if rows else (), output_format, empty="nothing was observed")
        click.echo(f"{report.scored} cells scored; without a number: {dict(report.not_scored)}", err=True)
        click.echo()
        rows = [row for row in states.table() if every_row or row["verdict"] != "-"]
        emit(rows, tuple(rows[0]), output_format, empty="no events")
        click.echo(
            f"{states.farms} simulated farms, {states.farm_years:.0f} farm years, seeds {states.seeds}, rules "
            f"{states.rules}; {states.flaps} of {states.changes} state changes were taken back within 15 days",
            err=True,
        )
        click.echo()
        rows = alerts.table()
        emit(rows, tuple(rows[0]), output_format, empty="no alerts")
        click.echo(
            f"{alerts.farm_years:.0f} farm years, seeds {alerts.seeds}; the sum is judged; not to be simulated: "
            f"{', '.join(alerts.not_scored)}",
            err=True,
        )
        tell_agreement(agreement, output_format, every_row=every_row)
    missed = (*report.failed_targets, *states.failed_targets, *alerts.failed_targets, *agreement.failed_targets)
    for line in missed:
        click.echo(f"missed: {line}", err=True)
    if missed:
        raise click.exceptions.Exit(1)


def _installed(home: Path, files: WorldFiles, changes: Mapping[str, Any]) -> Container:
    return install_world(home, files, SLUGS, **changes).container


def _score_states(base: Container) -> StateReport:
    """Return the scoreboard of events, from every index the state rules can read."""
    from farm_intel.indices.state_rules import load_state_rules
    from farm_intel.simulation.state_accuracy import score_states

    rules = load_state_rules()
    return score_states(rules, base.registry.select(rules.indices))


def _score_alerts(base: Container) -> AlertReport:
    """Return the scoreboard of alert rules, through the use cases, on seasons that nothing was tuned on."""
    from farm_intel.cli.alert_scoring import score_alert_rules

    return score_alert_rules(
        base.alerts.table, base.registry, base.state_rules, base.alerts.explains, farms=_SCORED_FARMS
    )


def _is_summary(row: Mapping[str, str]) -> bool:
    """Return True for rows a reader wants first: all dialects by size, all sizes by dialect, and what is judged."""
    if row["verdict"] != "-" and row["dialect"] == "all":
        return True
    if row["purity"] not in {"all", "mixed"}:
        return False
    return row["dialect"] == "all" or (row["size"] == "all sizes" and row["purity"] == "all")


def install_world(home: Path, files: WorldFiles, slugs: tuple[str, ...], **changes: Any) -> Installation:
    """Return an installation in `home` over a written world; `changes` are further settings."""
    world = load_world(files.folder)
    start = world.options.start
    last = start + timedelta(days=world.options.days - 1)
    settings = load_settings(
        **{
            "home": home,
            "database_url": "",
            "raster_root": "",
            "dagster_home": None,
            "providers": ("stac",),
            "stac_url": str(files.catalog),
            "stac_dialect": "earth-search",
            "stac_collection": "sentinel-2-l2a",
            "history_start": start,
            "history_end": last,
            "asset_indices": slugs,
        }
        | changes
    )
    home.mkdir(parents=True, exist_ok=True)
    (home / CONFIG_NAME).write_text(settings.as_toml())
    container = build_container(settings)
    container.import_farms(container.read_farm_file(files.farms).farms)
    return Installation(container=container, world=world, days=days_between(start, last))


def whole_world(installation: Installation, slugs: tuple[str, ...]) -> ObserveRequest:
    """Return the request for every farm and day of a world."""
    container = installation.container
    return ObserveRequest(
        provider="stac",
        collection=container.settings.stac_collection,
        indices=slugs,
        farm_ids=tuple(farm.farm_id for farm in container.farms.list()),
        days=installation.days,
    )


def _tell_comparison(container: Container, compared: Comparison) -> None:
    picture = container.settings.home / "providers.png"
    picture.write_bytes(container.providers_plot(compared.farm_id, compared.slug))
    numbers = ", ".join(f"{provider} {count}" for provider, count in compared.numbers.items())
    click.echo(
        f"\n{compared.slug} of {compared.farm_id} by {len(compared.numbers)} providers, days with a number: {numbers}. "
        f"On one day, with pixels of one size, they differ by {compared.largest_difference:.1g} at most."
    )
    for provider, reason in compared.failures.items():
        click.echo(f"note: {provider}: {reason}")
    click.echo(f"  {picture}   all of them in one plot")


def _summarise(installation: Installation, slugs: tuple[str, ...], summary: BackfillSummary) -> None:
    container = installation.container
    first = slugs[0]
    rows: list[dict[str, Any]] = []
    swing: dict[str, float] = {}
    for farm in container.farms.list():
        seen = list(container.observations.observations(farm_ids=[farm.farm_id], indices=[first]))
        means = [row.statistics.mean if row.statistics else None for row in seen]
        observed = [mean for mean in means if mean is not None]
        rows.append(
            {
                "farm": farm.farm_id,
                "crop": farm.crop,
                "ha": round(farm.area_ha, 2),
                f"{first} series": container.sparkline(means),
                "last": observed[-1] if observed else None,
                "numbers": len(observed),
                "cloudy": sum(row.status is ObservationStatus.CLOUDY for row in seen),
                "other": sum(row.status not in {ObservationStatus.OBSERVED, ObservationStatus.CLOUDY} for row in seen),
            },
        )
        swing[farm.farm_id] = max(observed, default=0.0) - min(observed, default=0.0)
    emit(rows, tuple(rows[0]) if rows else (), "table", empty="The world has no farms.")
    picture = container.settings.home / "season.png"
    best = max(swing, key=swing.__getitem__)
    picture.write_bytes(container.season_plot(best, first))
    days = f"{installation.days[0]} to {installation.days[-1]}"
    click.echo(
        f"\n{len(rows)} farms, {len(slugs)} indices, {days}: {sum(summary.by_status.values())} cells stored "
        f"({summary.by_status[ObservationStatus.OBSERVED]} with a number). This run computed {summary.computed}, "
        f"{summary.up_to_date} were up to date, {len(summary.failures)} failed, in {summary.runs} Dagster runs.",
    )
    for note in summary.notes:
        click.echo(f"note: {note}")
    config = container.settings.home / CONFIG_NAME
    click.echo("\nLook next:")
    click.echo(f"  {picture}   a season of {best}")
    click.echo("  make up   the same cells in the Dagster UI")
    click.echo("  .venv/bin/farm-intel accuracy   how right the numbers are")
    click.echo(f"  FARM_INTEL_CONFIG={config} .venv/bin/farm-intel calendar --farm {best}")
