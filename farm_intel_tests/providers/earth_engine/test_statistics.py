"""Statistics computed by Earth Engine against the pixels of the same provider and against the world's truth."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.domain.products import PixelReason
from farm_intel.engine.options import EngineOptions
from farm_intel.indices.index import SpectralIndex
from farm_intel.providers.collections import profile
from farm_intel.providers.earth_engine.session import QuotaState
from farm_intel.providers.earth_engine.statistics import EarthEngineStatistics
from farm_intel.simulation.landsat import SATURATED_AT, landsat_scenes
from farm_intel.simulation.scenes import SWATH_EDGE_AT
from farm_intel_tests.providers.earth_engine.support import GUARD, LANDSAT, MODIS, REGISTRY, S2, Results, Rig

pytestmark = pytest.mark.xdist_group("earth-engine")
SLUGS = ("ndvi", "evi", "savi", "ndmi")
MEAN, MEDIAN, STD = 0, 1, 2


@pytest.fixture(scope="module")
def season(whole_rig: Rig) -> tuple[Results, Results]:
    """Pixels and tables of six days: clear, haze, swath edge, overcast, snow, and clouds."""
    whole_rig.session.initialise()
    wanted = {whole_rig.world.acquisition_days[number] for number in (0, 2, 4, 6, 7, 8)}
    days = [day for day in whole_rig.days(min(wanted), max(wanted)) if day.solar_day in wanted]
    assert len(days) == 6
    pixels = whole_rig.run(whole_rig.engine(), days, SLUGS)
    return pixels, whole_rig.run(whole_rig.statistics(), days, SLUGS)


def agreement(pixels: Results, table: Results) -> tuple[int, float, float]:
    """Return how many numbers are compared, the largest difference of means, and of spreads over pure pixels."""
    means, spreads = [], []
    for cell in pixels.observed() & table.observed():
        a, b = pixels.of(cell, "statistics"), table.of(cell, "statistics")
        # coverage has 255 steps here: where less than a tenth of a pixel is clear, one step moves the mean
        enough = pixels.of(cell, "used_area_px") >= 0.1
        means.extend(np.abs(a[enough, MEAN] - b[enough, MEAN]).tolist())
        pure = ~pixels.of(cell, "mixed")
        spreads.extend(np.abs(a[pure, STD] - b[pure, STD]).tolist())
    return len(means), max(means), max(spreads, default=0.0)


def test_tables_agree_with_pixels_on_clear_and_cloudy_days(season: tuple[Results, Results]) -> None:
    pixels, table = season

    assert set(pixels.places) == set(table.places)
    assert table.count == len(table.places), "every farm and day exactly once"
    assert pixels.observed() == table.observed()
    compared, mean, spread = agreement(pixels, table)
    assert compared > 200
    assert mean < 0.003
    assert spread < 0.0005


def test_counts_reasons_and_the_purity_ladder_agree_with_pixels(season: tuple[Results, Results]) -> None:
    pixels, table = season

    for cell in pixels.places:
        if pixels.of(cell, "verdicts") is not None:
            continue
        np.testing.assert_array_equal(table.of(cell, "pixel_count"), pixels.of(cell, "pixel_count"))
        np.testing.assert_allclose(table.of(cell, "reason_fractions"), pixels.of(cell, "reason_fractions"), atol=0.01)
        assert table.of(cell, "reason_fractions").sum(axis=1) == pytest.approx([1.0] * len(SLUGS))
        pure = ~pixels.of(cell, "mixed") & (pixels.of(cell, "used_pixel_count") > 0)
        pure &= pixels.of(cell, "used_pixel_count") < pixels.of(cell, "valid_pixel_count")
        np.testing.assert_array_equal(
            table.of(cell, "used_pixel_count")[pure], pixels.of(cell, "used_pixel_count")[pure]
        )
        np.testing.assert_array_equal(table.of(cell, "mixed")[pure], False)
        assert set(table.of(cell, "flags")) == set(pixels.of(cell, "flags")) | {Flag.PROVIDER_STATISTICS}
        assert table.of(cell, "scene_ids")[:1] == pixels.of(cell, "scene_ids")[:1]
        assert table.of(cell, "clips") is None


def test_pure_fields_are_within_five_thousandths_of_the_truth(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[1])
    found = rig.run(rig.statistics(), days, SLUGS)
    checked = 0

    for day, farm_id in sorted(found.observed()):
        if found.of((day, farm_id), "mixed").any():
            continue
        checked += 1
        for i, index in enumerate(REGISTRY.select(SLUGS)):
            truth = rig.world.true_index(farm_id, day, index)
            assert found.of((day, farm_id), "statistics")[i, MEAN] == pytest.approx(truth, abs=0.005)
    assert checked >= 12


@pytest.mark.parametrize("collection", [LANDSAT, MODIS])
def test_landsat_and_modis_tables_agree_with_their_pixels(rig: Rig, collection: str) -> None:
    # the day with a saturated spot, which only the second mask band of Landsat tells
    start = landsat_scenes(rig.world)[SATURATED_AT].day
    days = rig.days(start, start, collection)

    pixels = rig.run(rig.engine(collection), days, ("ndvi", "ndmi"), collection)
    table = rig.run(rig.statistics(), days, ("ndvi", "ndmi"), collection)

    # what covers less than a twentieth of a pixel may not be counted at all there
    pixel_ha = profile("earth-engine", collection).gsd_m ** 2 / 10_000
    tiny = {farm.farm_id for farm in rig.farms if farm.area_ha < pixel_ha / 20}
    assert {cell for cell in pixels.observed() ^ table.observed() if cell[1] not in tiny} == set()
    compared, mean, _ = agreement(pixels.without(tiny), table)
    assert compared >= 2
    assert mean < 0.003
    for cell in pixels.without(tiny).observed() & table.observed():
        np.testing.assert_allclose(table.of(cell, "reason_fractions"), pixels.of(cell, "reason_fractions"), atol=0.02)


def test_saturated_pixels_do_not_count(rig: Rig) -> None:
    day = landsat_scenes(rig.world)[SATURATED_AT].day
    found = rig.run(rig.statistics(), rig.days(day, day, LANDSAT), ("ndvi",), LANDSAT)

    saturated = [found.of(cell, "reason_fractions")[0, PixelReason.SATURATED] for cell in found.places]

    assert 0.05 < max(saturated) < 1.0, "the spot covers part of the largest field"


def test_one_index_alone_is_read_from_its_unnamed_properties(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])

    alone, together = rig.run(rig.statistics(), days, ("evi",)), rig.run(rig.statistics(), days, ("ndvi", "evi"))

    assert alone.observed() == together.observed()
    for cell in alone.observed():
        np.testing.assert_allclose(alone.of(cell, "statistics")[0], together.of(cell, "statistics")[1], atol=1e-12)


def test_a_second_tile_fills_what_the_home_tile_does_not_see(rig: Rig) -> None:
    day = rig.world.acquisition_days[SWATH_EDGE_AT]
    days = rig.days(day, day)

    pixels, table = rig.run(rig.engine(), days, ("ndvi",)), rig.run(rig.statistics(), days, ("ndvi",))

    merged = [cell for cell in table.places if Flag.MERGED_TILES in table.of(cell, "flags")]
    assert merged
    for cell in merged:
        assert Flag.REPROJECTED in table.of(cell, "flags")
        assert len(table.of(cell, "scene_ids")) == 2
    assert {c for c in pixels.places if Flag.MERGED_TILES in pixels.of(c, "flags")} == set(merged)


def test_farms_no_image_shows_and_farms_without_data_are_told_apart(rig: Rig) -> None:
    day = rig.world.acquisition_days[SWATH_EDGE_AT]
    east = f"{rig.world.tiles[1].name:0>5}"
    days = [replace(d, scenes=tuple(s for s in d.scenes if s.tile == east)) for d in rig.days(day, day)]

    found = rig.run(rig.statistics(), days, ("ndvi",))

    verdicts = {farm: found.of((day, farm), "verdicts") for _, farm in found.places}
    assert verdicts["S-OUTSIDE"].status is ObservationStatus.OUTSIDE_FOOTPRINT
    assert "outside" in verdicts["S-OUTSIDE"].reason
    unseen = [v for v in verdicts.values() if v is not None and "no data" in v.reason]
    assert unseen
    assert not any(v.transient for v in unseen)


def test_rows_are_gathered_over_pages(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    whole = rig.run(rig.statistics(), days, SLUGS)
    rig.server.log.clear()

    paged = rig.with_options(page_size=7).run(rig.with_options(page_size=7).statistics(), days, SLUGS)

    asked = rig.bodies(":computeFeatures")
    assert len([body for body in asked if "pageToken" in body]) >= 4
    for cell in whole.observed():
        np.testing.assert_array_equal(paged.of(cell, "statistics"), whole.of(cell, "statistics"))


def test_what_is_too_much_at_once_is_asked_for_in_halves(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    whole = rig.run(rig.statistics(), days, ("ndvi",))
    rig.emulator.memory_pixels = 6_000

    halved = rig.run(rig.statistics(), days, ("ndvi",))

    assert 400 in [record.status for record in rig.server.log]
    assert set(halved.places) == set(whole.places)
    assert halved.count == len(halved.places)
    assert halved.observed() == whole.observed()
    for cell in whole.observed():
        np.testing.assert_array_equal(halved.of(cell, "statistics"), whole.of(cell, "statistics"))


def test_a_farm_too_large_by_itself_fails_alone(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    rig.emulator.memory_pixels = 1_500

    found = rig.run(rig.statistics(), days, ("ndvi",))

    failed = {farm for day, farm in found.places if (v := found.of((day, farm), "verdicts")) and "memory" in v.reason}
    large = {farm.farm_id for farm in rig.farms if farm.area_ha > 15 and farm.inside_world}
    assert failed == large
    for farm in failed:
        verdict = found.of((days[0].solar_day, farm), "verdicts")
        assert verdict.status is ObservationStatus.PROVIDER_FAILED
        assert not verdict.transient, "the same question would fail again"


def test_requests_are_cut_by_the_bytes_of_their_outlines(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    whole = rig.run(rig.statistics(), days, ("ndvi",))
    rig.server.log.clear()
    small = rig.with_options(request_bytes=4_000)

    cut = small.run(small.statistics(), days, ("ndvi",))

    assert len(rig.bodies(":computeFeatures")) > 4
    assert cut.observed() == whole.observed()
    for cell in whole.observed():
        np.testing.assert_array_equal(cut.of(cell, "statistics"), whole.of(cell, "statistics"))


def test_a_used_up_computing_quota_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    statistics = rig.statistics()
    assert statistics.quota_state is QuotaState.NORMAL
    rig.emulator.restricted = True

    with caplog.at_level(logging.WARNING), pytest.warns(UserWarning, match="restricted"):
        found = rig.run(statistics, days, ("ndvi",))

    assert found.observed(), "restricted projects still get answers"
    assert statistics.quota_state is QuotaState.RESTRICTED
    assert "has used up its computing quota" in caplog.text


def test_the_plan_asks_nobody_and_counts_what_a_run_asks(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[1])
    row = profile("earth-engine", S2)
    rig.server.log.clear()

    plan = rig.statistics().plan_summary(days, rig.shapes, REGISTRY.select(SLUGS), row)
    assert rig.server.log == []
    rig.run(rig.statistics(), days, SLUGS)

    assert plan.requests == len(rig.bodies(":computeFeatures"))
    assert (plan.days, plan.scenes) == (2, 4)
    assert plan.farm_days == 2 * sum(farm.inside_world for farm in rig.farms)


def test_an_index_that_divides_by_zero_has_no_value_there(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    nothing = SpectralIndex(
        name="Nothing",
        slug="nothing",
        long_name="a quotient over a difference that is zero everywhere",
        formula="(N - R) / (N - N)",
        reference="none",
        application="test",
        symbols=("N", "R"),
        valid_range=(-1.0, 1.0),
    )
    statistics = EarthEngineStatistics(rig.session, EngineOptions(), GUARD, provider="earth_engine")

    found = Results(list(statistics.run(days, rig.shapes, (nothing,), profile("earth-engine", S2))))

    # Earth Engine itself would answer 0, which lies within the range
    assert not found.observed()
    for cell in found.places:
        if found.of(cell, "verdicts") is None:
            assert found.of(cell, "reason_fractions")[0, PixelReason.INDEX_OUT_OF_RANGE] > 0.5


def test_nothing_is_asked_where_there_is_nothing_to_ask(rig: Rig) -> None:
    rig.server.log.clear()
    row = profile("earth-engine", S2)

    assert list(rig.statistics().run([], rig.shapes, REGISTRY.select(SLUGS), row)) == []
    assert rig.server.log == []


def test_a_run_without_an_index_is_refused(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])

    with pytest.raises(BadRequestError):
        list(rig.statistics().run(days, rig.shapes, (), profile("earth-engine", S2)))


def test_days_come_in_order(rig: Rig) -> None:
    start = rig.world.acquisition_days[0]
    days = rig.days(start, start + timedelta(days=20))

    found = rig.run(rig.statistics(), days, ("ndvi",))

    order = [batch.solar_day for batch in found.batches]
    assert order == sorted(order)
    assert len(set(order)) == 5
