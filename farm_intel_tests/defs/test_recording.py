"""Every cell is recorded with its own event and its own check, and failures take nothing with them."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pytest

from farm_intel.domain.errors import NotConfiguredError
from farm_intel.domain.publication import PublishReceipt
from farm_intel.observing.model import ObserveRequest
from farm_intel_tests.defs.harness import (
    check_partitions,
    evaluations,
    instance_in,
    materializations,
    materialized,
    run_cells,
    run_range,
    sync,
)
from farm_intel_tests.support.fake_observing import installation
from farm_intel_tests.support.fakes import FakeObservationStore

D1, D2, D3 = date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 3)
TWENTY = tuple(f"f{n:02d}" for n in range(20))


@pytest.fixture
def instance(tmp_path):
    with instance_in(tmp_path / "dagster") as opened:
        yield opened


def test_a_range_run_records_each_cell_and_its_check(instance):
    made = installation(days=[D1, D3])
    made.cloud((D1, "f04"))
    sync(instance, made)

    result = run_range(instance, made, "2026-05-01|f00", "2026-05-03|f05")

    expected = {f"{day}|f0{n}" for day in (D1, D3) for n in range(6)}
    assert result.success
    assert materialized(instance, "stac", "ndvi") == expected
    assert materialized(instance, "stac", "evi") == expected
    statuses = check_partitions(instance, "stac", "ndvi")
    assert statuses["2026-05-01|f04"] == "FAILED"
    assert {statuses[key] for key in expected - {"2026-05-01|f04"}} == {"SUCCEEDED"}
    assert len(evaluations(result)) == 2 * len(expected)
    assert len(made.engine.calls) == 1, "both indices and both days in one engine run"


def test_a_cell_without_a_number_says_why_and_a_day_without_a_scene_is_not_materialised(instance):
    made = installation(days=[D1])
    made.cloud((D1, "f04"))
    sync(instance, made)

    run_range(instance, made, "2026-05-01|f00", "2026-05-02|f05")

    (cloudy,) = materializations(instance, ("stac", "ndvi"), "2026-05-01|f04")
    assert cloudy.metadata["status"].value == "cloudy"
    assert cloudy.metadata["reason"].value == "100% of the farm under cloud"
    assert "mean" not in cloudy.metadata
    assert materializations(instance, ("stac", "ndvi"), "2026-05-02|f04") == []


def test_a_backfill_gets_an_event_for_every_cell_it_asked_for_but_the_failed(instance):
    made = installation(days=[D1])
    made.poison((D1, "f02"))
    sync(instance, made)

    run_range(instance, made, "2026-05-01|f00", "2026-05-02|f05", tags={"dagster/backfill": "b"})

    everything = {f"{day}|f0{n}" for day in (D1, D2) for n in range(6)}
    assert materialized(instance, "stac", "evi") == everything - {"2026-05-01|f02"}
    (empty,) = materializations(instance, ("stac", "evi"), "2026-05-02|f00")
    assert empty.metadata["status"].value == "no_acquisition"
    assert empty.metadata["reason"].value == "no sentinel-2-l2a scene over the farm in the catalogue"
    assert check_partitions(instance, "stac", "evi")["2026-05-02|f00"] == "PLANNED"


def test_three_poisoned_cells_of_forty_leave_the_others_and_a_second_run_computes_exactly_the_three(instance):
    made = installation(TWENTY, days=[D1, D2], asset_indices=("ndvi",))
    bad = [(D1, "f03"), (D1, "f04"), (D2, "f11")]
    made.poison(*bad)
    sync(instance, made)

    failed = run_range(instance, made, "2026-05-01|f00", "2026-05-02|f19")

    names = {f"{day}|{farm}" for day, farm in bad}
    assert not failed.success
    assert len(materialized(instance, "stac", "ndvi")) == 37
    assert not names & materialized(instance, "stac", "ndvi")
    (event,) = [e for e in failed.all_events if e.is_step_failure]
    assert all(name in str(event.step_failure_data.user_failure_data) for name in names)

    made.engine.verdicts.clear()
    made.engine.calls.clear()
    again = run_range(instance, made, "2026-05-01|f00", "2026-05-02|f19")

    assert again.success
    assert len(materialized(instance, "stac", "ndvi")) == 40
    assert {(day, farm) for _, days, farms in made.engine.calls for day in days for farm in farms} == set(bad)
    assert all(len(materializations(instance, ("stac", "ndvi"), f"{D1}|{farm}")) == 1 for farm in TWENTY)
    assert set(check_partitions(instance, "stac", "ndvi").values()) == {"SUCCEEDED"}


def test_scenes_that_can_never_be_read_leave_the_cell_unmaterialised_and_the_run_failed(instance):
    made = installation(days=[D1])
    made.poison((D1, "f02"), transient=False)
    sync(instance, made)

    result = run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05")

    assert not result.success
    assert materialized(instance, "stac", "evi") == {f"2026-05-01|f0{n}" for n in (0, 1, 3, 4, 5)}


def test_selecting_one_index_leaves_the_other_alone(instance):
    made = installation(days=[D1])
    sync(instance, made)

    result = run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05", assets=[dg.AssetKey(["stac", "evi"])])

    assert result.success
    assert len(materialized(instance, "stac", "evi")) == 6
    assert materialized(instance, "stac", "ndvi") == set()
    assert made.engine.calls[0][0] == ("evi",)


def test_a_cell_stored_by_a_run_that_died_before_telling_is_recorded_by_the_next(instance):
    made = installation(days=[D1])
    sync(instance, made)
    # The killed run: everything is stored, no event got out.
    list(made.observing.observe(_request(made, [D1]), run_id="killed"))
    stored = dict(made.observations.rows)

    result = run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05")

    assert result.success
    assert len(made.engine.calls) == 1, "the second run computed nothing"
    assert made.observations.rows == stored
    assert len(materialized(instance, "stac", "ndvi")) == 6
    assert len(materializations(instance, ("stac", "ndvi"), "2026-05-01|f00")) == 1
    assert set(check_partitions(instance, "stac", "ndvi").values()) == {"SUCCEEDED"}


def test_force_computes_and_records_again(instance):
    made = installation(days=[D1], asset_indices=("ndvi",))
    sync(instance, made)

    run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05")
    run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05", force=True)

    assert len(made.engine.calls) == 2
    assert len(materializations(instance, ("stac", "ndvi"), "2026-05-01|f00")) == 2


def test_the_cells_job_records_any_set_of_cells_in_one_run(instance):
    made = installation(days=[D1, D2, D3])
    sync(instance, made)

    result = run_cells(instance, made, ["2026-05-01|f00", "2026-05-02|f03", "2026-05-03|f00"], indices=("ndvi",))

    assert result.success
    assert materialized(instance, "stac", "ndvi") == {"2026-05-01|f00", "2026-05-02|f03", "2026-05-03|f00"}
    assert materialized(instance, "stac", "evi") == set()
    assert len(check_partitions(instance, "stac", "ndvi")) == 3
    assert len(made.engine.calls) == 2, "the two days of f00 together"


def test_a_farm_that_was_removed_is_left_out_although_its_partition_is_still_there(instance):
    made = installation(days=[D1])
    sync(instance, made)
    made.farms.farms.pop(2)

    result = run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05")

    assert result.success
    assert "2026-05-01|f02" not in materialized(instance, "stac", "ndvi")


def test_pictures_are_drawn_for_cells_with_a_raster_and_not_in_large_runs(instance):
    made = installation(days=[D1], asset_indices=("ndvi",))
    made.observations = StoreWithRasters()
    sync(instance, made)

    run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05")
    small = made.pictures.drawn
    run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05", force=True, preview_max_cells=5)

    assert small == 6
    assert made.pictures.drawn == small
    (newer, older) = materializations(instance, ("stac", "ndvi"), "2026-05-01|f00")
    assert "thumbnail" in older.metadata
    assert "thumbnail" not in newer.metadata


class StoreWithRasters(FakeObservationStore):
    def publish(self, publication):
        super().publish(publication)
        names = tuple(f"{farm_id}.tif" for farm_id in publication.batch.farm_ids)
        return PublishReceipt(raster_sha256=names, raster_paths=names)


def test_an_error_that_stops_the_work_becomes_a_failure_with_its_kind_and_hint(instance):
    made = installation(days=[D1])
    sync(instance, made)
    made.catalog = _BrokenCatalog()

    result = run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05")

    (event,) = [e for e in result.all_events if e.is_step_failure]
    metadata = event.step_failure_data.user_failure_data.metadata
    assert metadata["kind"].value == "not configured"
    assert metadata["hint"].value == "Set it."


class _BrokenCatalog:
    provider = "stac"

    def search(self, query):
        raise NotConfiguredError("no catalogue", hint="Set it.")

    def refresh(self, scene):
        return scene


def _request(made, days):
    return ObserveRequest(
        provider="stac",
        collection="sentinel-2-l2a",
        indices=made.settings.asset_indices,
        farm_ids=tuple(farm.farm_id for farm in made.farms.list()),
        days=tuple(days),
    )
