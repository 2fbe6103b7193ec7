"""A number that lacks a scene which may be readable tomorrow says so; one that nothing can better does not."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from farm_intel.domain.batches import FarmDayBatch
from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.domain.observations import ObservationStatus
from farm_intel_tests.engine.support import FakeStore, add_scene, farm, run, transient, utm_grid

LAND = {"red": 1000, "nir": 3000, "scl": 4}
EAST = utm_grid(west=600_000 + 200 * 10)
"""The eastern neighbour overlaps the tile by 56 columns."""
GONE = SceneProblemError(SceneProblemKind.NOT_FOUND, "B", "gone")


def west_of(edge: float) -> dict[str, object]:
    """Return bands with data only west of an x."""
    return {name: (lambda x, y, v=value: np.where(x < edge, v, 0) + 0 * y) for name, value in LAND.items()}


def reasons(batches: list[FarmDayBatch]) -> dict[str, str]:
    return {
        farm_id: batch.retry_reasons[k] if batch.worth_retrying(k) else ""
        for batch in batches
        for k, farm_id in enumerate(batch.farm_ids)
    }


@pytest.mark.parametrize(("error", "again"), [(transient("overloaded"), True), (GONE, False)])
def test_an_older_processing_is_an_answer_only_where_the_newer_one_stays_unreadable(
    error: Exception, again: bool
) -> None:
    store = FakeStore()
    old = add_scene(store, "A", LAND, revision=("05.09", "0"))
    new = add_scene(store, "B", LAND, revision=("05.10", "0"))
    store.files["B/red"].open_error = error

    batches = run(store, [old, new], [farm("a", shapely.box(20, 20, 40, 40))])

    assert [batch.scene_ids for batch in batches] == [(("A",),)]
    assert bool(reasons(batches)["a"]) is again
    assert ("overloaded" in reasons(batches)["a"]) is again


@pytest.mark.parametrize("fault", ["open_error", "read_error"])
@pytest.mark.parametrize(("error", "again"), [(transient("overloaded"), True), (GONE, False)])
def test_a_gap_that_a_second_tile_may_fill_tomorrow_is_worth_another_attempt(
    fault: str, error: Exception, again: bool
) -> None:
    store = FakeStore()
    home = add_scene(store, "A", west_of(602_500))
    neighbour = add_scene(store, "B", LAND, grid=EAST, tile="36NYF")
    for name in ("red", "nir", "scl"):
        setattr(store.files[f"B/{name}"], fault, error)
    farms = [farm("gap", shapely.box(190, 20, 256, 30)), farm("whole", shapely.box(20, 20, 40, 40))]

    batches = run(store, [home, neighbour], farms)

    found = reasons(batches)
    assert bool(found["gap"]) is again
    assert found["whole"] == ""
    assert all(verdict is None for batch in batches for verdict in batch.verdicts)


def test_a_gap_that_is_filled_is_final() -> None:
    store = FakeStore()
    home = add_scene(store, "A", west_of(602_500))
    neighbour = add_scene(store, "B", LAND, grid=EAST, tile="36NYF")

    batches = run(store, [home, neighbour], [farm("gap", shapely.box(190, 20, 256, 30))])

    assert [batch.scene_ids for batch in batches] == [(("A", "B"),)]
    assert reasons(batches) == {"gap": ""}
    assert batches[0].retry_reasons == ()


@pytest.mark.parametrize(("error", "again"), [(transient("overloaded"), True), (GONE, False)])
def test_a_corner_in_a_second_tile_does_not_stand_for_a_farm_whose_scene_failed(error: Exception, again: bool) -> None:
    """The second tile holds three of a hundred of the farm: that is no day without a pass, it is a failed read."""
    store = FakeStore()
    home = add_scene(store, "A", LAND)
    neighbour = add_scene(store, "B", LAND, grid=EAST, tile="36NYF")
    for name in ("red", "nir", "scl"):
        store.files[f"A/{name}"].read_error = error

    batches = run(store, [home, neighbour], [farm("edge", shapely.box(169, 20, 202, 40))])

    (verdict,) = (verdict for batch in batches for verdict in batch.verdicts)
    assert verdict is not None
    assert verdict.status is ObservationStatus.PROVIDER_FAILED
    assert verdict.transient is again
