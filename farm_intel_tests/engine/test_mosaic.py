"""Several scenes on one solar day: home tile, fills from the same and from another zone, halves, reprocessings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyproj
import pytest
import shapely

from farm_intel.domain.batches import FarmShape
from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.domain.products import PixelReason
from farm_intel.engine.pipeline import EngineOptions
from farm_intel_tests.engine.support import (
    FakeStore,
    add_scene,
    cells,
    farm,
    only,
    run,
    transient,
    utm_grid,
)

LAND = {"red": 1000, "nir": 3000, "scl": 4}
"""An index of 0.5."""
OTHER = {"red": 1000, "nir": 9000, "scl": 4}
"""An index of 0.8."""
EAST = utm_grid(west=600_000 + 200 * 10)
"""The eastern neighbour overlaps the tile by 56 columns."""


def swath(west_of: float, bands: dict[str, int]) -> dict[str, object]:
    """Return bands with data only west of an x."""
    return {name: (lambda x, y, v=value: np.where(x < west_of, v, 0) + 0 * y) for name, value in bands.items()}


def east_of(edge: float, bands: dict[str, int]) -> dict[str, object]:
    return {name: (lambda x, y, v=value: np.where(x >= edge, v, 0) + 0 * y) for name, value in bands.items()}


def test_a_farm_over_the_tile_edge_takes_its_missing_pixels_from_the_neighbour() -> None:
    store = FakeStore()
    home = add_scene(store, "A", LAND)
    neighbour = add_scene(store, "B", OTHER, grid=EAST, tile="36NYF")
    cell = only(run(store, [home, neighbour], [farm("a", shapely.box(246, 20, 260, 30))]))

    assert cell.scene_ids == ("B",)  # the neighbour holds all of it, so it is home
    assert cell.mean() == pytest.approx(0.8, abs=1e-6)

    store = FakeStore()
    home = add_scene(store, "A", swath(602_500, LAND))
    neighbour = add_scene(store, "B", OTHER, grid=EAST, tile="36NYF")
    cell = only(run(store, [home, neighbour], [farm("a", shapely.box(190, 20, 256, 30))]))
    assert cell.scene_ids == ("A", "B")
    assert cell.flags == {Flag.MERGED_TILES}
    assert cell.mean() == pytest.approx(0.5 + 0.3 * 6 / 66, abs=1e-6)
    assert cell.share(PixelReason.NODATA) == 0
    assert cell.clips.grid.west_m == 600_000 + 1900
    assert (cell.clips.data[0, :, 60:] == 8000).all()


def test_a_second_zone_fills_by_nearest_neighbour_and_says_so() -> None:
    store = FakeStore()
    grid = utm_grid(epsg=32636, west=830_000, north=1_000_020)
    x, y = pyproj.Transformer.from_crs(32636, 32637, always_xy=True).transform(831_000, 999_000)
    other = utm_grid(epsg=32637, west=round(x, -1) - 4300, north=round(y, -1) + 2500, n=512)
    home = add_scene(store, "A", swath(831_000, LAND), grid=grid)
    to_home = pyproj.Transformer.from_crs(32637, 32636, always_xy=True)

    def ramp(px: np.ndarray, py: np.ndarray) -> np.ndarray:
        hx, _ = to_home.transform(*np.broadcast_arrays(px, py))
        return 1000 + (hx - 830_000)

    second = add_scene(store, "B", {"red": 1000, "nir": ramp, "scl": 4}, grid=other, tile="37NAA")
    cell = only(run(store, [home, second], [farm("a", shapely.box(90, 90, 120, 120), grid)]))

    assert cell.scene_ids == ("A", "B")
    assert cell.flags == {Flag.MERGED_TILES, Flag.REPROJECTED}
    nir = 1000 + (905 + 10 * np.arange(30))
    expected = (nir - 1000) / (nir + 1000)
    expected[:10] = 0.5
    np.testing.assert_allclose(cell.clips.data[0].mean(axis=0)[:10] * 1e-4, 0.5, atol=1e-4)
    np.testing.assert_allclose(cell.clips.data[0][:, 10:] * 1e-4, np.tile(expected[10:], (30, 1)), atol=2.5e-3)


def test_a_farm_in_no_home_data_at_all_moves_to_the_next_scene_without_being_called_merged() -> None:
    store = FakeStore()
    west = add_scene(store, "W", swath(601_000, LAND))
    east = add_scene(store, "E", east_of(601_000, OTHER))
    farms = [
        farm("w", shapely.box(20, 20, 40, 40)),
        farm("e", shapely.box(150, 20, 170, 40)),
        farm("m", shapely.box(90, 100, 110, 120)),
    ]
    found = {name: cell for (_, name), cell in cells(run(store, [west, east], farms)).items()}

    assert found["w"].mean() == pytest.approx(0.5, abs=1e-6)
    assert found["w"].scene_ids == ("W",)
    assert found["e"].mean() == pytest.approx(0.8, abs=1e-6)
    assert found["e"].scene_ids == ("E",)
    assert not found["w"].flags | found["e"].flags
    assert found["m"].mean() == pytest.approx(0.65, abs=1e-6)
    assert set(found["m"].scene_ids) == {"W", "E"}
    assert found["m"].flags == {Flag.MERGED_TILES}


def test_the_newest_processing_wins_and_only_it_is_read() -> None:
    store = FakeStore()
    old = add_scene(store, "old", OTHER, revision=("05.09", "0"))
    new = add_scene(store, "new", LAND, revision=("05.10", "0"))
    cell = only(run(store, [old, new], [farm("a", shapely.box(20, 20, 40, 40))]))

    assert cell.scene_ids == ("new",)
    assert cell.mean() == pytest.approx(0.5, abs=1e-6)
    assert {href.split("/")[0] for href in store.opened} == {"new"}


@pytest.mark.parametrize("fault", ["open", "block", "transient"])
def test_an_unreadable_newest_processing_falls_back_to_the_older_one(fault: str) -> None:
    store = FakeStore()
    old = add_scene(store, "old", OTHER, revision=("05.09", "0"))
    new = add_scene(store, "new", LAND, revision=("05.10", "0"))
    if fault == "open":
        del store.files["new/red"]
    elif fault == "block":
        store.files["new/nir"].broken_blocks = frozenset({(1, 1)})
    else:
        store.files["new/red"].open_error = transient()
    farms = [farm("hit", shapely.box(70, 70, 90, 90)), farm("safe", shapely.box(20, 20, 40, 40))]
    batches = run(store, [old, new], farms)
    found = {name: cell for (_, name), cell in cells(batches).items()}

    assert found["hit"].scene_ids == ("old",)
    assert found["hit"].flags == {Flag.OLDER_PROCESSING}
    assert found["hit"].mean() == pytest.approx(0.8, abs=1e-6)
    problems = [problem for batch in batches for problem in batch.problems]
    assert [problem.scene_id for problem in problems] == ["new"]
    if fault == "block":
        # the blocks before the cut are good, and one bad block does not take its neighbours with it
        assert found["safe"].scene_ids == ("new",)
        assert not found["safe"].flags


def test_a_scene_that_cannot_be_read_is_the_providers_failure_never_an_exception() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", LAND)
    store.files["A/nir"].read_error = transient("the server is overloaded")
    batches = run(
        store, [scene], [farm("a", shapely.box(20, 20, 40, 40)), farm("far", shapely.box(900, 900, 910, 910))]
    )
    found = {name: cell for (_, name), cell in cells(batches).items()}

    assert found["a"].verdicts.status is ObservationStatus.PROVIDER_FAILED
    assert found["a"].verdicts.transient
    assert "overloaded" in found["a"].verdicts.reason
    assert found["far"].verdicts.status is ObservationStatus.OUTSIDE_FOOTPRINT
    assert np.isnan(found["a"].statistics).all()


@pytest.mark.parametrize(
    ("error", "retry"), [(transient(), True), (SceneProblemError(SceneProblemKind.NOT_FOUND, "A", "gone"), False)]
)
def test_a_tile_that_cannot_be_opened_fails_its_farms_and_says_whether_to_try_again(
    error: Exception, retry: bool
) -> None:
    store = FakeStore()
    scene = add_scene(store, "A", LAND)
    store.files["A/nir"].open_error = error
    batches = run(
        store, [scene], [farm("a", shapely.box(20, 20, 40, 40)), farm("far", shapely.box(9000, 9000, 9010, 9010))]
    )
    found = {name: cell for (_, name), cell in cells(batches).items()}

    assert found["a"].verdicts.status is ObservationStatus.PROVIDER_FAILED
    assert found["a"].verdicts.transient is retry
    assert found["far"].verdicts.status is ObservationStatus.OUTSIDE_FOOTPRINT
    assert [problem.scene_id for batch in batches for problem in batch.problems] == ["A"]


def test_no_data_anywhere_is_outside_the_footprint_and_all_cloud_is_not() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", {"red": 1000, "nir": 3000, "scl": lambda x, y: np.where(x < 601_000, 0, 8) + 0 * y})
    found = cells(
        run(store, [scene], [farm("none", shapely.box(20, 20, 40, 40)), farm("cloud", shapely.box(120, 20, 140, 40))])
    )
    by_name = {name: cell for (_, name), cell in found.items()}

    assert by_name["none"].verdicts.status is ObservationStatus.OUTSIDE_FOOTPRINT
    assert by_name["none"].scene_ids == ("A",)
    assert by_name["cloud"].verdicts is None
    assert by_name["cloud"].share(PixelReason.CLOUD) == pytest.approx(1.0)
    assert np.isnan(by_name["cloud"].statistics).all()
    assert by_name["cloud"].valid_pixel_count[0] == 0


def test_a_farm_across_longitude_180_is_read_from_the_zone_that_holds_it() -> None:
    store = FakeStore()
    x, y = pyproj.Transformer.from_crs(4326, 32601, always_xy=True).transform(180.0, -16.5)
    grid = utm_grid(epsg=32601, west=round(x, -1) - 1280, north=round(y, -1) + 1280)
    scene = add_scene(store, "A", LAND, grid=grid, tile="01KAB")
    assert scene.bbox.crosses_antimeridian
    cut = shapely.MultiPolygon(
        [shapely.box(179.998, -16.502, 180, -16.498), shapely.box(-180, -16.502, -179.998, -16.498)]
    )
    cell = only(run(store, [scene], [FarmShape(farm_id="a", boundary_wkb=shapely.to_wkb(cut))]))

    assert cell.verdicts is None
    assert cell.mean() == pytest.approx(0.5, abs=1e-6)
    assert cell.share(PixelReason.VALID) == pytest.approx(1.0)
    assert cell.pixel_count[0] == pytest.approx(42.7 * 44.3, rel=0.06)


def test_the_home_tile_of_a_farm_in_two_tiles_is_the_one_whose_centre_is_nearer() -> None:
    store = FakeStore()
    a = add_scene(store, "A", LAND)
    b = add_scene(store, "B", OTHER, grid=EAST, tile="36NYF")
    # columns 200..255 lie in both; the middle between the centres is column 228
    farms = [farm("a", shapely.box(205, 100, 215, 110)), farm("b", shapely.box(240, 100, 250, 110))]
    found = {name: cell.scene_ids for (_, name), cell in cells(run(store, [a, b], farms)).items()}

    assert found == {"a": ("A",), "b": ("B",)}


def test_a_missing_band_costs_only_the_indices_that_need_it() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", LAND)
    batches = run(store, [scene], [farm("a", shapely.box(20, 20, 40, 40))], ("ndvi", "ndmi"))
    cell = only(batches)

    assert cell.mean(0) == pytest.approx(0.5, abs=1e-6)
    assert cell.share(PixelReason.NODATA, 1) == pytest.approx(1.0)
    ((problem,),) = [batch.problems for batch in batches]
    assert (problem.kind, problem.band) == (SceneProblemKind.MISSING_ASSET, "swir16")

    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 40, 40))], ("ndmi",)))
    assert cell.verdicts.status is ObservationStatus.PROVIDER_FAILED
    assert "swir16" in cell.verdicts.reason


def test_two_passes_on_one_day_use_the_later_one_and_the_earlier_only_for_gaps() -> None:
    store = FakeStore()
    early = add_scene(store, "early", OTHER, acquired_at=datetime(2024, 6, 1, 8, 30, tzinfo=UTC))
    late = add_scene(
        store, "late", swath(600_300, LAND), acquired_at=datetime(2024, 6, 1, 8, 30, tzinfo=UTC) + timedelta(minutes=50)
    )
    cell = only(run(store, [early, late], [farm("a", shapely.box(20, 20, 40, 40))]))

    assert cell.scene_ids == ("late", "early")
    assert cell.acquired_at == late.acquired_at
    assert cell.mean() == pytest.approx(0.65, abs=1e-6)


def test_dilation_grows_clouds_across_block_edges_and_keeps_other_reasons() -> None:
    store = FakeStore()
    # mask pixels are 20 m, blocks 64 of them; one cloudy mask pixel in column 63, beside the block edge
    cloud = lambda x, y: np.where((abs(x - 601_270) < 1) & (abs(y - (100_020 - 210)) < 1), 8, 4)  # noqa: E731
    scene = add_scene(store, "A", {"red": 1000, "nir": 3000, "scl": cloud})
    shape = farm("a", shapely.box(128, 16, 138, 26))
    plain = only(run(store, [scene], [shape]))
    grown = only(run(store, [scene], [shape], options=EngineOptions(threads=1, mask_dilation_px=2)))

    assert plain.share(PixelReason.NEAR_CLOUD) == 0
    assert grown.share(PixelReason.NEAR_CLOUD) == pytest.approx(4 * 10 / 100)
    assert (grown.clips.data[0][:, :4] == -32768).all()
    assert (grown.clips.data[0][:, 4:] == 5000).all()
