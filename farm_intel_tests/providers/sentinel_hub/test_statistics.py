"""The statistics capability against the pixels capability and the world's truth."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import pytest

from farm_intel.domain.batches import FarmDayBatch, ReadCounters, SceneDay
from farm_intel.domain.geo import BBox
from farm_intel.domain.observations import STATISTICS, Flag, ObservationStatus
from farm_intel.domain.products import PixelReason
from farm_intel.domain.quality import QualityRule, judge
from farm_intel.domain.scenes import SceneQuery, solar_day
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.pipeline import SceneMajorEngine
from farm_intel.indices.registry import load_registry
from farm_intel.providers.sentinel_hub.blocks import sentinel_hub_block_readers
from farm_intel.providers.sentinel_hub.statistics import SentinelHubStatistics, split_days
from farm_intel.simulation.emulators.faults import Fault, FaultKind
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.emulators.sentinel_hub import sentinel_hub_app
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.providers.sentinel_hub.conftest import PROFILE, Hub, guard

INDICES = list(load_registry().select(["ndvi", "evi", "ndmi"]))


def cells(batches: Iterator[FarmDayBatch]) -> dict[tuple[date, str, str], dict[str, float]]:
    """Return every judged cell with a number."""
    found = {}
    for batch in batches:
        judged = judge(batch, QualityRule())
        for f, farm_id in enumerate(batch.farm_ids):
            for i, slug in enumerate(batch.indices):
                if judged.statuses[f][i] is ObservationStatus.OBSERVED:
                    numbers = dict(zip(STATISTICS, batch.statistics[f, i], strict=True))
                    numbers["mixed"] = float(batch.mixed[f, i])
                    numbers["used"] = float(batch.used_pixel_count[f, i])
                    numbers["touched"] = float(batch.pixel_count[f, i])
                    numbers["valid"] = float(batch.reason_fractions[f, i, PixelReason.VALID])
                    found[batch.solar_day, farm_id, slug] = numbers
    return found


def test_statistics_agree_with_pixels_and_truth(hub: Hub) -> None:
    """On clear days the provider's own statistics are those of the pixels path, and both are the truth."""
    farms = hub.farms("F001", "F002", "F003", "F004", "S-HOLE")
    days = hub.days(2)
    counters: list[ReadCounters] = []
    statistics = SentinelHubStatistics(hub.options(), guard(), EngineOptions())
    told = cells(statistics.run(days, farms, INDICES, PROFILE, on_counters=counters.append))
    readers = sentinel_hub_block_readers(hub.options(), PROFILE, guard())
    read = cells(SceneMajorEngine(readers, EngineOptions()).run(days, farms, INDICES, PROFILE))

    assert told.keys() == read.keys()
    assert len(told) == len(farms) * len(days) * len(INDICES)
    for key, numbers in told.items():
        pixels = read[key]
        assert numbers["mean"] == pytest.approx(pixels["mean"], abs=0.003), key
        assert numbers["std"] == pytest.approx(pixels["std"], abs=0.003), key
        assert numbers["median"] == pytest.approx(pixels["median"], abs=0.005), key
        assert (numbers["used"], numbers["touched"]) == (pixels["used"], pixels["touched"]), key
        assert not numbers["mixed"]
        assert numbers["valid"] == pytest.approx(1.0)
        farm = hub.world.farm(key[1])
        if farm.even:
            index = next(index for index in INDICES if index.slug == key[2])
            assert numbers["mean"] == pytest.approx(hub.world.true_index(key[1], key[0], index), abs=0.005), key
    # 5 farms at 10 m and at 20 m, all days in one request each
    assert counters == [ReadCounters(requests=10, bytes_fetched=counters[0].bytes_fetched)]
    assert hub.count("/api/v1/statistics") == 10


def test_every_farm_and_day_comes_once_with_the_flag(hub: Hub) -> None:
    """Farms no scene shows and farms too small for a pixel get a verdict, not silence."""
    days = hub.days()
    engine = SentinelHubStatistics(hub.options(), guard(), EngineOptions(batch_farms=3))
    batches = list(engine.run(days, hub.farms(), INDICES[:1], PROFILE))

    seen = [(batch.solar_day, farm_id) for batch in batches for farm_id in batch.farm_ids]
    assert sorted(seen) == sorted((day.solar_day, farm.farm_id) for day in days for farm in hub.farms())
    verdicts = {
        farm_id: verdict
        for batch in batches
        for farm_id, verdict in zip(batch.farm_ids, batch.verdicts, strict=True)
        if verdict is not None
    }
    assert verdicts["S-OUTSIDE"].status is ObservationStatus.OUTSIDE_FOOTPRINT
    assert {flags for batch in batches for flags in batch.flags} == {frozenset({Flag.PROVIDER_STATISTICS})}
    for batch in batches:
        assert all(clip is None for clip in batch.clips)
        sums = batch.reason_fractions.sum(axis=2)
        answered = [verdict is None for verdict in batch.verdicts]
        np.testing.assert_allclose(sums[answered], 1.0, atol=1e-6)
        acquired = [moment for moment, good in zip(batch.acquired_at, answered, strict=True) if good]
        assert all(moment is not None for moment in acquired)


def test_masked_and_missing_ground_is_told_by_reason(hub: Hub) -> None:
    """Under the haze of the third day, and outside the swath of the fifth, the shares say what the pixels path says."""
    days = [hub.days()[2], hub.days()[4]]
    statistics = SentinelHubStatistics(hub.options(), guard(), EngineOptions())
    told = {batch.solar_day: batch for batch in statistics.run(days, hub.farms(), INDICES[:1], PROFILE)}
    readers = sentinel_hub_block_readers(hub.options(), PROFILE, guard())
    read: dict[tuple[date, str], np.ndarray] = {}
    for batch in SceneMajorEngine(readers, EngineOptions()).run(days, hub.farms(), INDICES[:1], PROFILE):
        for f, farm_id in enumerate(batch.farm_ids):
            if batch.verdicts[f] is None:
                read[batch.solar_day, farm_id] = batch.reason_fractions[f, 0]
    compared = 0
    for day, batch in told.items():
        for f, farm_id in enumerate(batch.farm_ids):
            if batch.verdicts[f] is None and (day, farm_id) in read and not batch.mixed[f, 0]:
                np.testing.assert_allclose(batch.reason_fractions[f, 0], read[day, farm_id], atol=0.12)
                compared += 1
    reasons = told[days[0].solar_day].reason_fractions[:, 0, PixelReason.CLOUD]

    assert compared >= 6
    assert reasons.max() > 0.9


def test_failed_interval_is_a_transient_verdict(hub: Hub) -> None:
    """PARTIAL: the day that failed is the provider's failure, in both recorded forms; the others stand."""
    days = [hub.days()[number] for number in (0, 1, 3)]
    for error in ("EXECUTION_ERROR", {"type": "TIMEOUT"}):
        hub.state.failing_days[days[1].solar_day - timedelta(days=1)] = error
        hub.state.failing_days[days[1].solar_day] = error
        batches = list(
            SentinelHubStatistics(hub.options(), guard(), EngineOptions()).run(
                days, hub.farms("F001"), INDICES[:1], PROFILE
            )
        )
        by_day = {batch.solar_day: batch for batch in batches}
        verdict = by_day[days[1].solar_day].verdicts[0]

        assert verdict is not None
        assert verdict.status is ObservationStatus.PROVIDER_FAILED
        assert verdict.transient
        assert by_day[days[0].solar_day].verdicts[0] is None
        assert np.isfinite(by_day[days[2].solar_day].statistics[0, 0, 0])


def test_request_that_fails_for_now_fails_the_farm_alone(hub: Hub) -> None:
    """One farm's request dies, the other farm has its numbers."""
    hub.scenes()
    hub.server.faults.add(Fault(kind=FaultKind.UNAVAILABLE, path="statistics", times=1))
    batches = list(
        SentinelHubStatistics(hub.options(concurrency=1), guard(), EngineOptions()).run(
            hub.days(1), hub.farms("F001", "F002"), INDICES[:1], PROFILE
        )
    )
    first, second = batches[0].verdicts

    assert first is not None
    assert first.transient
    assert "503" in first.reason
    assert second is None


def test_plan_counts_the_requests_a_run_makes(hub: Hub) -> None:
    """`explain` and the run agree, and explaining asks nobody."""
    days = hub.days()
    hub.server.log.clear()
    engine = SentinelHubStatistics(hub.options(statistics_days=10), guard(), EngineOptions())
    farms = hub.farms("F001", "F002", "S-OUTSIDE")
    plan = engine.plan_summary(days, farms, INDICES, PROFILE)
    assert hub.server.log == []
    list(engine.run(days, farms, INDICES, PROFILE))

    assert hub.count("/statistics") == plan.requests == 2 * 2 * 3


def test_ranges_of_days_stay_within_the_limit() -> None:
    start = date(2026, 1, 1)
    days = [start + timedelta(days=n) for n in (0, 5, 9, 10, 30)]

    assert split_days(days, 10) == [(days[0], days[1], days[2]), (days[3],), (days[4],)]
    assert split_days([], 10) == []


def test_both_sides_of_longitude_180() -> None:
    """One acquisition is two solar days there; whichever day the caller goes by, every farm has its numbers."""
    options = WorldOptions(
        seed=5, days=1, farms=4, sizes_ha=(5.0,), tile_px=300, site="antimeridian", cloudiness=0.0, noise=0.0
    )
    world = FarmWorld(options)
    app = sentinel_hub_app(world)
    with EmulatorServer(app) as server:
        hub = Hub(world=world, server=server, state=app.state.hub)
        box = BBox(west=179.5, south=-17.3, east=-179.5, north=-16.3)
        query = SceneQuery(collection=PROFILE.collection, bbox=box, start=world.options.start, end=world.options.start)
        scenes = hub.catalog().search(query).scenes
        farms = hub.farms("F001", "F002", "F003", "F004", "S-STRIP")
        assert {scene.tile for scene in scenes} == {"60KZG", "01KAB"}
        for longitude_deg in (179.9, -179.9):
            day = solar_day(scenes[0].acquired_at, longitude_deg)
            engine = SentinelHubStatistics(hub.options(), guard(), EngineOptions())
            batches = engine.run([SceneDay(solar_day=day, scenes=scenes)], farms, INDICES[:1], PROFILE)
            found = cells(batches)
            assert found.keys() == {(day, farm.farm_id, "ndvi") for farm in farms}
            for (_, farm_id, _), numbers in found.items():
                if world.farm(farm_id).even:
                    expected = world.true_index(farm_id, world.options.start, INDICES[0])
                    assert numbers["mean"] == pytest.approx(expected, abs=0.005), farm_id
