"""Each block once, bounded memory, clean endings, one result per farm and day."""

from __future__ import annotations

import threading
from datetime import date, timedelta

import numpy as np
import pytest
import shapely

from farm_intel.domain.batches import FarmShape, SceneDay
from farm_intel.domain.errors import BadRequestError, NotConfiguredError, UnknownNameError
from farm_intel.domain.observations import ObservationStatus
from farm_intel.domain.products import PixelReason
from farm_intel.engine.pipeline import EngineOptions, SceneMajorEngine
from farm_intel_tests.engine.support import (
    DAY,
    REGISTRY,
    FakeStore,
    add_scene,
    cells,
    farm,
    only,
    profile,
    run,
    utm_grid,
)

LAND = {"red": 1000, "nir": 3000, "swir16": 2000, "scl": 4}


def many_farms(count: int, seed: int = 0, n: int = 512) -> list[FarmShape]:
    rng = np.random.default_rng(seed)
    grid = utm_grid(n=n)
    return [
        farm(f"f{k}", shapely.Point(rng.uniform(5, n - 5, 2)).buffer(rng.uniform(1, 14), 4), grid) for k in range(count)
    ]


def days_of(store: FakeStore, count: int, n: int = 512) -> dict:
    return {DAY + timedelta(days=5 * k): [add_scene(store, f"S{k}", LAND, grid=utm_grid(n=n))] for k in range(count)}


def test_every_needed_block_is_read_exactly_once_and_no_other() -> None:
    store = FakeStore()
    scenes = days_of(store, 3)
    farms = many_farms(120)
    counters: list = []
    found = cells(
        run(store, scenes, farms, ("ndvi", "ndmi"), options=EngineOptions(threads=2, budget_mib=1), counters=counters)
    )

    assert set(found) == {(day, f.farm_id) for day in scenes for f in farms}
    assert set(store.reads.values()) == {1}
    assert counters[0].blocks_decoded == counters[0].blocks_touched == len(store.reads)
    # fewer calls than blocks: neighbours are asked for together
    assert len(store.calls) < len(store.reads) / 2


def test_blocks_under_the_corner_of_a_window_are_not_read() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", LAND)
    # an L along two sides of the corner where four blocks meet; its window covers the fourth
    shape = shapely.box(50, 50, 80, 60).union(shapely.box(50, 50, 60, 80))
    run(store, [scene], [farm("a", shape)])

    assert {key[1:] for key in store.reads if key[0] == "A/red"} == {(0, 0), (0, 1), (1, 0)}


def test_requests_are_bounded_by_blocks_not_farms() -> None:
    calls = []
    for count in (100, 400):
        store = FakeStore()
        run(store, days_of(store, 1, n=256), many_farms(count, n=256), options=EngineOptions(threads=2, budget_mib=8))
        calls.append(len(store.calls))

    assert calls[0] == calls[1]


def test_decoded_bytes_stay_within_budget_plus_the_blocks_kept_for_crossing_farms() -> None:
    store = FakeStore(delay_s=0.001)
    n = 2048
    scene = add_scene(store, "A", {"red": 1000, "nir": 3000, "scl": 4}, grid=utm_grid(n=n), block=128)
    farms = many_farms(600, n=n)
    counters: list = []
    run(store, [scene], farms, options=EngineOptions(threads=2, budget_mib=1), counters=counters)

    row = (n // 128) * 128 * 128 * 2 * 2
    whole = n * n * 2 * 2
    assert counters[0].peak_bytes_held <= (1 << 20) + 2 * row
    assert counters[0].peak_bytes_held < whole / 3


def test_a_farm_of_many_blocks_is_read_in_waves_within_the_budget() -> None:
    store = FakeStore()
    n = 1024
    ramp = lambda x, y: 1000 + (x - 600_000) / 10 + 0 * y  # noqa: E731
    scene = add_scene(store, "A", {"red": 1000, "nir": ramp, "scl": 4}, grid=utm_grid(n=n), block=64)
    counters: list = []
    cell = only(
        run(
            store,
            [scene],
            [farm("a", shapely.box(10, 10, 1000, 900))],
            options=EngineOptions(threads=2, budget_mib=1),
            counters=counters,
        )
    )

    nir = 1000 + np.arange(10, 1000) + 0.5
    assert cell.mean() == pytest.approx(((np.floor(nir) - 1000) / (np.floor(nir) + 1000)).mean(), abs=1e-4)
    assert cell.used_pixel_count[0] == 990 * 890
    assert counters[0].peak_bytes_held <= 1 << 20
    assert set(store.reads.values()) == {1}


def test_batches_carry_many_farms() -> None:
    store = FakeStore()
    batches = run(
        store, days_of(store, 2), many_farms(1000), options=EngineOptions(threads=2, budget_mib=1, batch_farms=200)
    )

    assert sum(len(batch.farm_ids) for batch in batches) == 2000
    assert len(batches) <= 2 * 6


def test_overlapping_farms_and_multipolygons_with_holes_each_get_their_own_pixels() -> None:
    store = FakeStore()
    stripes = lambda x, y: np.where((x - 600_000) % 20 < 10, 3000, 1000) + 0 * y  # noqa: E731
    scene = add_scene(store, "A", {"red": 1000, "nir": stripes, "scl": 4})
    ring = shapely.box(20, 20, 40, 40).difference(shapely.box(24, 24, 36, 36))
    two = shapely.MultiPolygon([shapely.box(100, 100, 110, 110), shapely.box(150, 100, 160, 110)])
    farms = [farm("all", shapely.box(20, 20, 40, 40)), farm("ring", ring), farm("two", two)]
    found = {name: cell for (_, name), cell in cells(run(store, [scene], farms)).items()}

    assert {name: int(cell.used_pixel_count[0]) for name, cell in found.items()} == {
        "all": 400,
        "ring": 256,
        "two": 200,
    }
    assert all(cell.mean() == pytest.approx(0.25, abs=1e-6) for cell in found.values())


def test_padding_of_edge_blocks_is_never_seen() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", LAND, grid=utm_grid(n=100))
    cell = only(run(store, [scene], [farm("a", shapely.box(90, 90, 110, 110))]))

    assert cell.mean() == pytest.approx(0.5, abs=1e-6)
    assert cell.share(PixelReason.NODATA) == pytest.approx(0.75)


def test_closing_early_stops_reading_and_leaves_no_thread() -> None:
    store = FakeStore(delay_s=0.002)
    scenes = days_of(store, 40, n=256)
    engine = SceneMajorEngine(store.factory(), EngineOptions(threads=2, budget_mib=1, batch_farms=20))
    days = [SceneDay(solar_day=day, scenes=tuple(found)) for day, found in scenes.items()]
    stream = engine.run(days, many_farms(100, n=256), REGISTRY.select(["ndvi"]), profile())
    next(stream)
    stream.close()
    read = len(store.reads)

    assert store.closed == 1
    assert read < 20 * 3 * 16
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("farm-intel-engine")]
    assert len(store.reads) == read


def test_a_slow_consumer_holds_the_reading_back() -> None:
    store = FakeStore()
    scenes = days_of(store, 30, n=256)
    engine = SceneMajorEngine(store.factory(), EngineOptions(threads=2, budget_mib=1, batch_farms=20))
    days = [SceneDay(solar_day=day, scenes=tuple(found)) for day, found in scenes.items()]
    stream = engine.run(days, many_farms(100, n=256), REGISTRY.select(["ndvi"]), profile())
    next(stream)
    threading.Event().wait(0.5)
    opened = len({href.split("/")[0] for href, *_ in store.reads})
    stream.close()

    assert opened <= 6


def test_errors_that_are_not_a_scenes_reach_the_caller_and_end_the_run() -> None:
    store = FakeStore()
    scenes = days_of(store, 3, n=256)
    store.files["S1/red"].read_error = NotConfiguredError("no credentials")

    with pytest.raises(NotConfiguredError, match="no credentials"):
        run(store, scenes, many_farms(20, n=256))
    assert store.closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("farm-intel-engine")]


def test_wrong_input_is_refused_before_anything_is_read() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", LAND)
    point = FarmShape(farm_id="p", boundary_wkb=shapely.to_wkb(shapely.Point(30, 1)))

    with pytest.raises(BadRequestError, match="farm p"):
        run(store, [scene], [point])
    with pytest.raises(UnknownNameError):
        run(store, [scene], many_farms(1), ("ndre",))
    assert not store.opened


def test_nothing_asked_gives_nothing() -> None:
    store = FakeStore()

    assert run(store, {DAY: []}, many_farms(2)) == []
    assert run(store, [add_scene(store, "A", LAND)], []) == []
    assert not store.opened


def test_scenes_nowhere_near_a_farm_are_not_opened() -> None:
    store = FakeStore()
    near = add_scene(store, "near", LAND)
    far = add_scene(store, "far", LAND, grid=utm_grid(west=300_000, north=4_000_020), tile="36SAB")
    found = cells(run(store, [near, far], [farm("a", shapely.box(20, 20, 40, 40))]))

    assert found[DAY, "a"].scene_ids == ("near",)
    assert {href.split("/")[0] for href in store.opened} == {"near"}


def test_refresh_is_called_once_per_scene_and_its_scene_is_opened() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", LAND)
    asked = []

    def refresh(found):
        asked.append(found.scene_id)
        return found

    engine = SceneMajorEngine(store.factory(), EngineOptions(threads=1))
    days = [SceneDay(solar_day=DAY, scenes=(scene,))]
    batches = list(
        engine.run(
            days, [farm("a", shapely.box(20, 20, 40, 40))], REGISTRY.select(["ndvi"]), profile(), refresh=refresh
        )
    )

    assert asked == ["A"]
    assert only(batches).mean() == pytest.approx(0.5, abs=1e-6)


def test_mask_first_reads_bands_only_where_a_farm_is_clear() -> None:
    cloudy = lambda x, y: np.where(x < 601_280, 8, 4) + 0 * y  # noqa: E731
    results = []
    for mask_first in (False, True):
        store = FakeStore()
        scene = add_scene(store, "A", {"red": 1000, "nir": 3000, "scl": cloudy})
        farms = [farm("cloud", shapely.box(20, 20, 40, 40)), farm("clear", shapely.box(200, 20, 220, 40))]
        found = cells(run(store, [scene], farms, options=EngineOptions(threads=1, mask_first=mask_first)))
        results.append(
            [(cell.statistics[0, 0], *cell.reason_fractions[0]) for cell in (found[DAY, "cloud"], found[DAY, "clear"])]
        )
        assert ("A/red", 0, 0) in store.reads or mask_first
        assert not (mask_first and ("A/red", 0, 0) in store.reads)

    np.testing.assert_array_equal(results[0], results[1])


def test_plan_summary_counts_what_a_run_then_reads_and_reads_nothing_itself() -> None:
    store = FakeStore()
    scenes = days_of(store, 3)
    farms = many_farms(60)
    engine = SceneMajorEngine(store.factory(), EngineOptions(threads=2, budget_mib=16))
    days = [SceneDay(solar_day=day, scenes=tuple(found)) for day, found in scenes.items()]
    summary = engine.plan_summary(days, farms, REGISTRY.select(["ndvi", "ndmi"]), profile(probe=True))
    assert not store.reads
    assert not store.overviews
    assert len(store.opened) == 4  # one scene's headers speak for the tile

    counters: list = []
    run(store, scenes, farms, ("ndvi", "ndmi"), counters=counters)
    assert summary.blocks == counters[0].blocks_touched
    assert summary.farm_days == 180
    assert summary.bytes_to_fetch > 0
    assert summary.requests <= summary.blocks + 4


def test_plan_summary_assumes_a_layout_where_headers_cannot_be_read() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", LAND)
    store.files.clear()
    engine = SceneMajorEngine(store.factory(), EngineOptions(threads=1))
    summary = engine.plan_summary(
        [SceneDay(solar_day=DAY, scenes=(scene,))],
        [farm("a", shapely.box(20, 20, 40, 40))],
        REGISTRY.select(["ndvi"]),
        profile(),
    )

    assert summary.assumed_scenes == 1
    assert summary.blocks == 3


def test_days_come_out_whole_even_when_no_scene_of_a_day_can_be_used() -> None:
    store = FakeStore()
    scenes = days_of(store, 3, n=256)
    del store.files["S1/scl"]
    farms = many_farms(10, n=256)
    found = cells(run(store, scenes, farms))

    assert len(found) == 30
    middle: date = DAY + timedelta(days=5)
    assert {found[middle, f.farm_id].verdicts.status for f in farms} == {ObservationStatus.PROVIDER_FAILED}
