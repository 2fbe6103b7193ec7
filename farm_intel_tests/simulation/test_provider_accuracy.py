"""The scoreboard of providers: who is judged by what, and that it says so when they are wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from farm_intel.domain.observations import Flag, Observation, ObservationStatus
from farm_intel.indices.registry import load_registry
from farm_intel.simulation.provider_accuracy import ProviderReport, ScoredProduct, score_providers
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.support.looks import look

WORLD = FarmWorld(WorldOptions(days=6, farms=2, sizes_ha=(20.0,), tile_px=480, estate_m=2_900.0))
INDEX = load_registry().get("ndvi")
DAY = WORLD.options.start
FIELD = "F002"
PRODUCTS = {
    "fine": ScoredProduct(bands=frozenset({"red", "nir", "nir08"}), gsd_m=10.0),
    "twin": ScoredProduct(bands=frozenset({"red", "nir", "nir08"}), gsd_m=10.0),
    "narrow": ScoredProduct(bands=frozenset({"red", "nir08"}), gsd_m=30.0),
    "coarse": ScoredProduct(bands=frozenset({"red", "nir", "nir08"}), gsd_m=463.3),
}


def truth(farm: str = FIELD, day: date = DAY) -> float:
    return WORLD.true_index(farm, day, INDEX)


def report(*rows: Observation) -> ProviderReport:
    return score_providers(WORLD, rows, [INDEX], PRODUCTS)


@pytest.mark.parametrize(("off", "met"), [(0.0049, True), (-0.0049, True), (0.0051, False), (-0.0051, False)])
def test_a_source_is_held_to_the_truth(off: float, met: bool) -> None:
    (row,) = report(look(FIELD, DAY, truth() + off, provider="fine")).sources

    assert row.met is met
    assert row.largest == pytest.approx(abs(off))
    assert row.bias == pytest.approx(off)


@pytest.mark.parametrize(("apart", "missed"), [(0.0019, 0), (0.0021, 1)])
def test_two_sources_are_held_to_each_other(apart: float, missed: int) -> None:
    scored = report(look(FIELD, DAY, truth(), provider="fine"), look(FIELD, DAY, truth() + apart, provider="twin"))

    assert [row.limit for row in scored.pairs] == [0.002]
    assert len(scored.failed_targets) == missed


@pytest.mark.parametrize(("apart", "missed"), [(0.0029, 0), (0.0031, 1)])
def test_statistics_are_held_to_the_pixels_of_the_same_provider(apart: float, missed: int) -> None:
    own = (Flag.PROVIDER_STATISTICS,)
    scored = report(
        look(FIELD, DAY, truth(), provider="fine"), look(FIELD, DAY, truth() + apart, provider="fine", flags=own)
    )

    assert [(row.first, row.second, row.limit) for row in scored.pairs] == [("fine", "fine statistics", 0.003)]
    assert len(scored.failed_targets) == missed


def test_each_is_held_to_the_truth_of_its_own_bands_and_to_nobody_with_others() -> None:
    narrow = load_registry().get("ndvi").expression.evaluate({"N": _reflectance("nir08"), "R": _reflectance("red")})
    scored = report(look(FIELD, DAY, truth(), provider="fine"), look(FIELD, DAY, float(narrow), provider="narrow"))

    assert abs(float(narrow) - truth()) > 0.005
    assert {row.source: row.bands for row in scored.sources} == {"fine": ("nir", "red"), "narrow": ("nir08", "red")}
    assert all(row.met for row in scored.sources)
    assert [row.limit for row in scored.pairs] == [None]
    assert scored.failed_targets == ("providers fine and narrow: no cell in common",)


def _reflectance(band: str) -> float:
    field = next(plot.field for plot in WORLD.layout.plots if plot.farm_id == FIELD)
    center = WORLD.layout.fields[field].shape.centroid
    return float(WORLD.reflectance([center.x], [center.y], DAY, WORLD.site.epsg_east, through_sky=False)[band][0])


def test_a_coarse_product_must_say_that_a_field_is_too_small() -> None:
    few = look(FIELD, DAY, truth(), provider="coarse", status=ObservationStatus.TOO_FEW_PIXELS, statistics=None)
    mixed = look(FIELD, DAY, truth() + 0.3, provider="coarse", flags=(Flag.MIXED_PIXELS,))
    (said,) = report(few, look("S-ESTATE", DAY, truth("S-ESTATE") + 0.019, provider="coarse")).sources
    (flagged,) = report(mixed, look("S-ESTATE", DAY, truth("S-ESTATE"), provider="coarse")).sources
    unsaid = report(
        look(FIELD, DAY, truth(), provider="coarse"), look("S-ESTATE", DAY, truth("S-ESTATE"), provider="coarse")
    )

    assert (said.n, said.too_small, said.met) == (1, 1, True)
    assert (flagged.n, flagged.too_small, flagged.met) == (1, 1, True)
    assert not unsaid.sources[0].met
    assert "too small for it" in unsaid.failed_targets[0]


def test_a_composite_is_judged_on_the_day_its_pixels_were_seen() -> None:
    seen = date(DAY.year, DAY.month, DAY.day + 4)
    moment = datetime(seen.year, seen.month, seen.day, tzinfo=UTC)
    value = truth("S-ESTATE", seen)
    row = look("S-ESTATE", DAY, value, provider="coarse", flags=(Flag.COMPOSITE,), acquired_at=moment)
    (scored,) = report(row).sources

    assert abs(value - truth("S-ESTATE")) > 1e-3
    assert scored.largest == pytest.approx(0.0, abs=1e-12)


def test_what_cannot_be_judged_is_counted_and_judges_nobody() -> None:
    scored = report(
        look(FIELD, DAY, 0.0, provider="fine", cloud=0.3),
        look(FIELD, DAY, 0.0, provider="fine", flags=(Flag.MIXED_PIXELS,)),
        look("F001", DAY, 0.0, provider="fine"),
        look(FIELD, DAY, 0.0, provider="fine", status=ObservationStatus.CLOUDY, statistics=None),
    )

    assert dict(scored.not_judged) == {"cloudy": 1, "mixed_pixels": 1, "not clear": 1, "uneven field": 1}
    assert [(row.n, row.met) for row in scored.sources] == [(0, False)]
    assert scored.failed_targets


def test_the_estate_holds_five_by_five_whole_modis_pixels_and_moves_nobody() -> None:
    plain = FarmWorld(WorldOptions(days=6, farms=2, sizes_ha=(20.0,), tile_px=480))
    estate = WORLD.farm("S-ESTATE")

    assert estate.even
    assert estate.area_ha == pytest.approx(841.0, rel=1e-3)
    assert 2_900.0 >= 6 * 463.4 + 0.013 * 2_900.0  # six pixels, and the slant of the sinusoidal grid
    assert [farm.farm_id for farm in plain.farms] == [farm.farm_id for farm in WORLD.farms if farm is not estate]
    shapes = [WORLD.layout.fields[plot.field].shape for plot in WORLD.layout.plots if plot.farm_id != "S-ESTATE"]
    own = next(WORLD.layout.fields[p.field].shape for p in WORLD.layout.plots if p.farm_id == "S-ESTATE")
    assert all(own.disjoint(shape) for shape in shapes)
