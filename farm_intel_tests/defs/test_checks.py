"""On-demand checks speak of the asset, per farm where it matters, and stay out of runs over cells."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from farm_intel.defs.build import build_definitions
from farm_intel.defs.checks import freshness_check, radiometry_check, store_check
from farm_intel.defs.groups import asset_groups
from farm_intel.domain.observations import Flag
from farm_intel.observing.model import ObserveRequest
from farm_intel_tests.defs.harness import TODAY, run_range, sync
from farm_intel_tests.support.fake_observing import installation

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)


def observed(*days: date, cloudy: tuple[tuple[date, str], ...] = ()):
    made = installation(days=days)
    made.cloud(*cloudy)
    request = ObserveRequest(
        provider="stac",
        collection="sentinel-2-l2a",
        indices=("ndvi", "evi"),
        farm_ids=tuple(farm.farm_id for farm in made.farms.list()),
        days=days,
    )
    list(made.observing.observe(request, run_id="r"))
    return made, asset_groups(made)[0]


@pytest.mark.parametrize(("day", "stale"), [(date(2026, 6, 10), 0), (date(2026, 6, 9), 6)])
def test_a_farm_is_stale_when_its_last_number_is_older_than_twenty_days(day, stale):
    made, group = observed(day)

    result = freshness_check(made, group, "ndvi", NOW)

    assert result.passed is (stale == 0)
    assert result.metadata["stale_farms"].value == stale


def test_a_cloudy_cell_does_not_make_a_farm_fresh():
    day = date(2026, 6, 29)
    made, group = observed(day, cloudy=((day, "f02"),))

    result = freshness_check(made, group, "ndvi", NOW)

    assert not result.passed
    assert result.metadata["named"].value == "f02"


def test_scenes_whose_pixels_contradict_their_metadata_are_named_once():
    made, group = observed(date(2026, 6, 1), date(2026, 6, 4))
    for key, row in made.observations.rows.items():
        if key.solar_day == date(2026, 6, 4):
            made.observations.rows[key] = replace(row, flags=(Flag.RADIOMETRY_PROBED,))

    result = radiometry_check(made, group, "ndvi", NOW)

    assert not result.passed
    assert result.metadata["probed"].value == "S2-2026-06-04"
    assert result.metadata["unverified_scenes"].value == 0


def test_the_store_check_repairs_nothing_and_fails_on_any_count():
    made = installation()
    whole = store_check(made)
    made.store_problems = [("orphan rasters", 2, "a.tif, b.tif"), ("rows without raster", 0, "")]
    broken = store_check(made)

    assert whole.passed
    assert not broken.passed
    assert broken.severity is dg.AssetCheckSeverity.ERROR
    assert made.store_checks == [False, False]


def test_checks_run_on_demand_and_not_in_runs_over_cells():
    made, _ = observed(date(2026, 6, 29))
    job = build_definitions(made, today=TODAY).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        sync(instance, made)
        run_range(instance, made, "2026-06-29|f00", "2026-06-29|f05")
        assert made.store_checks == []

        key = dg.AssetKey(["stac", "ndvi"])
        names = [dg.AssetCheckKey(key, name) for name in ("freshness", "radiometry", "store")]
        result = job.get_subset(asset_check_selection=set(names)).execute_in_process(instance=instance)

        assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()}.keys() == {
            "freshness",
            "radiometry",
            "store",
        }
        assert made.store_checks == [False]


def test_maintenance_repairs():
    made = installation()
    made.store_problems = [("orphan rasters", 2, "a.tif")]
    job = build_definitions(made, today=TODAY).resolve_job_def("store_maintenance")

    assert job.execute_in_process().success
    assert made.store_checks == [True]
