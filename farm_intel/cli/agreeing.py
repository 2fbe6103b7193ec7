"""Every provider on one small world of even fields: do they agree with it, and with each other?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import click

from farm_intel.bootstrap import Container
from farm_intel.cli.output import emit
from farm_intel.domain.observations import Observation
from farm_intel.domain.ports import Progress
from farm_intel.observing.model import ObserveRequest
from farm_intel.simulation.catalogue import WorldFiles, write_world
from farm_intel.simulation.emulators.fleet import EARTH_ENGINE, SENTINEL_HUB, emulators
from farm_intel.simulation.landsat import landsat_scenes
from farm_intel.simulation.modis import modis_scenes
from farm_intel.simulation.provider_accuracy import COARSE_GSD_M, ProviderReport, ScoredProduct, score_providers
from farm_intel.simulation.world import FarmWorld, WorldOptions

AGREEMENT_WORLD = WorldOptions(
    days=28, revisit_days=3, farms=8, sizes_ha=(20.0, 5.0), tile_px=480, cloudiness=0.0, estate_m=2_900.0
)
"""With a revisit of 3 days Sentinel-2 and Landsat pass on one day twice; no clouds but on the days of the events."""
PROVIDERS = (
    "stac",
    "sentinel_hub",
    "earth_engine",
    "landsat",
    "earth_engine_landsat",
    "modis",
    "earth_engine_modis",
)
CAPABILITIES = ("pixels", "statistics")
SMALLEST_HA = 4.0
"""Fields from here on have ten whole pixels of 30 m in any rotation."""
LARGEST_FINE_HA = 20.0
NARROW = "ndvi_nir08"
SLUGS = ("ndvi", NARROW)
_NARROW_FILE = f"""\
[[index]]
name = "NDVI over nir08"
slug = "{NARROW}"
long_name = "Vegetation index over the narrow near infrared, the band that every sensor has"
formula = "(N2 - R) / (N2 + R)"
reference = "https://doi.org/10.1016/0034-4257(79)90013-0"
"""

Install = Callable[[Path, WorldFiles, Mapping[str, Any]], Container]
"""Makes an installation in a folder, over a written world, with further settings."""


def score_agreement(
    home: Path, install: Install, progress: Progress, *, options: WorldOptions = AGREEMENT_WORLD
) -> ProviderReport:
    """Observe a small world through every provider and capability, and return the scoreboard.

    Args:
        home: folder for the world and one installation per capability; what is there already is used again.
        install: makes an installation.
        progress: told after each provider.
        options: of the world.

    """
    world = FarmWorld(options)
    files = write_world(world, home / "world", sensors=("sentinel-2", "landsat", "modis"))
    narrow = home / "narrow.toml"
    narrow.write_text(_NARROW_FILE)
    settings: dict[str, Any] = {
        "providers": PROVIDERS,
        "landsat_url": str(files.folder / "landsat-c2-l2"),
        "modis_url": str(files.folder / "modis-09A1-061"),
        "index_files": (str(narrow),),
    }
    seen: list[Observation] = []
    with emulators(files.folder, (SENTINEL_HUB, EARTH_ENGINE)) as fleet:
        for number, capability in enumerate(CAPABILITIES):
            chosen = {f"{name}_capability": capability for name in (SENTINEL_HUB, EARTH_ENGINE)}
            container = install(home / capability, files, {**settings, **chosen, **fleet.settings()})
            for done, name in enumerate(_observe(container, world, capability), 1):
                progress.advance(number * len(PROVIDERS) + done, len(CAPABILITIES) * len(PROVIDERS), name)
            seen += container.observations.observations(indices=SLUGS)
    products = {
        source.name: ScoredProduct(bands=source.profile.bands, gsd_m=source.profile.gsd_m)
        for source in container.sources
    }
    return score_providers(world, seen, container.registry.select(SLUGS), products)


def tell_agreement(report: ProviderReport, output_format: str, *, every_row: bool) -> None:
    """Print the scoreboard of providers: each against the truth, then in pairs.

    Args:
        report: what to print.
        output_format: `table` or `csv`.
        every_row: also pairs whose bands differ, which nothing is judged by.

    """
    for rows in (report.source_table(), [row for row in report.pair_table() if every_row or row["verdict"] != "-"]):
        click.echo()
        emit(rows, tuple(rows[0]) if rows else (), output_format, empty="no provider was compared")
    click.echo(f"cells of these that are not judged: {dict(report.not_judged)}", err=True)


def _observe(container: Container, world: FarmWorld, capability: str) -> Iterator[str]:
    """Observe through every provider that has a capability; yield its name when it is done."""
    large = [farm for farm in world.farms if farm.even and farm.inside_world and farm.size_class_ha >= SMALLEST_HA]
    days = agreement_days(world)
    for source in container.sources:
        if source.capability.value == capability:
            # The estate is there for coarse pixels; in fine ones it would only cost the emulators a minute.
            every = source.profile.gsd_m >= COARSE_GSD_M or source.row.adapter.value == "stac"
            farms = tuple(farm.farm_id for farm in large if every or farm.size_class_ha <= LARGEST_FINE_HA)
            request = ObserveRequest(
                provider=source.name, collection=source.collection, indices=SLUGS, farm_ids=farms, days=days
            )
            for _ in container.observing.observe(request, run_id="agreement"):
                pass
        yield source.name


def agreement_days(world: FarmWorld) -> tuple[date, ...]:
    """Return Sentinel-2's clear days, Landsat's, and those on which composites begin, ascending."""
    clear = {day for day in world.acquisition_days if not len(world.sky(day))}
    clear |= {scene.day for scene in landsat_scenes(world)} | {scene.first for scene in modis_scenes(world)}
    return tuple(sorted(clear))
