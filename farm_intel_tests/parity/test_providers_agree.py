"""Every provider through the real container and its emulator, on one small world: right, and of one mind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm_intel.bootstrap import Container
from farm_intel.cli.agreeing import AGREEMENT_WORLD, PROVIDERS, SLUGS, score_agreement
from farm_intel.cli.world import install_world
from farm_intel.simulation.catalogue import WorldFiles
from farm_intel.simulation.provider_accuracy import ProviderReport

TABLES = ("sentinel_hub", "earth_engine", "earth_engine_landsat", "earth_engine_modis")
COARSE = ("modis", "earth_engine_modis", "earth_engine_modis statistics")


class Silent:
    """A progress nobody watches."""

    def advance(self, done: int, total: int, detail: str) -> None:
        assert done <= total
        assert detail


def install(home: Path, files: WorldFiles, changes: Mapping[str, Any]) -> Container:
    return install_world(home, files, SLUGS, **changes).container


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ProviderReport:
    """Four Sentinel-2 days, one of them Landsat's too, one composite, two even fields of 20 ha and the estate."""
    options = replace(AGREEMENT_WORLD, days=10, farms=3, sizes_ha=(20.0,))
    return score_agreement(tmp_path_factory.mktemp("agreement"), install, Silent(), options=options)


def test_every_provider_and_capability_is_right(report: ProviderReport) -> None:
    limits = {row.source: row.limit for row in report.sources}

    assert set(limits) == {*PROVIDERS, *(f"{name} statistics" for name in TABLES)}
    assert {name for name, limit in limits.items() if limit == 0.02} == set(COARSE)
    assert {limit for name, limit in limits.items() if name not in COARSE} == {0.005}
    assert all(row.n for row in report.sources)
    assert [(row.source, row.index, row.largest) for row in report.sources if row.largest > row.limit] == []


def test_providers_agree_wherever_they_use_the_same_bands(report: ProviderReport) -> None:
    fine = [row for row in report.pairs if row.limit is not None and row.limit <= 0.003]

    assert [(row.first, row.second, row.index, row.largest) for row in fine if row.largest > 0.002] == []
    assert len({(row.first, row.second) for row in fine}) >= 8 * 7 / 2  # every pair of the eight fine sources
    assert report.failed_targets == ()


def test_landsat_differs_from_sentinel_2_by_its_bands_and_by_nothing_else(report: ProviderReport) -> None:
    """The broad and the narrow near infrared are two truths; over the band both have, one is left."""
    rows = {row.index: row for row in report.pairs if {row.first, row.second} == {"stac", "landsat"}}

    assert rows["ndvi"].limit is None
    assert rows["ndvi"].largest > 0.005
    assert rows["ndvi_nir08"].limit == 0.002


def test_a_providers_own_statistics_are_those_of_its_pixels(report: ProviderReport) -> None:
    rows = [row for row in report.pairs if row.second == f"{row.first} statistics"]

    assert {row.first for row in rows} == set(TABLES)
    assert max(row.largest for row in rows) <= 0.003


def test_coarse_products_say_that_fields_are_too_small(report: ProviderReport) -> None:
    coarse = [row for row in report.sources if row.source in COARSE]

    assert all(row.too_small >= 2 for row in coarse)
    assert sum(row.unsaid for row in coarse) == 0
    assert all(row.too_small == 0 for row in report.sources if row.source not in COARSE)
