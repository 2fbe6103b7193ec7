"""The health of providers and store is told per provider, with reasons, and stays out of runs over cells."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from farm_intel.defs.build import build_definitions
from farm_intel.defs.checks import (
    breaker_check,
    budget_check,
    coverage_check,
    fallback_check,
    freshness_check,
    radiometry_check,
    store_check,
)
from farm_intel.domain.observations import Flag
from farm_intel.observing.model import ObserveRequest
from farm_intel.resilience.budget import BudgetStatus
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord
from farm_intel_tests.defs.harness import TODAY, run_range, sync
from farm_intel_tests.support.fake_observing import FakeInstallation, FakeSource, installation

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
RECENT = tuple(date(2026, 6, 9) + timedelta(days=n) for n in range(21))
"""From 20 days before the last day that has passed to that day."""


def observed(
    *days: date, cloudy: tuple[tuple[date, str], ...] = (), asked: tuple[date, ...] = ()
) -> tuple[FakeInstallation, FakeSource]:
    made = installation(days=days)
    made.cloud(*cloudy)
    request = ObserveRequest(
        provider="stac",
        collection="sentinel-2-l2a",
        indices=("ndvi", "evi"),
        farm_ids=tuple(farm.farm_id for farm in made.farms.list()),
        days=asked or days,
    )
    list(made.observing.observe(request, run_id="r"))
    return made, made.sources[0]


def counts(result: dg.AssetCheckResult) -> dict[str, int]:
    names = ("no_pass", "cloudy", "unusable", "provider_down", "queued")
    return {name: int(result.metadata[name].value) for name in names if result.metadata[name].value}  # type: ignore[call-overload]  # numbers


@pytest.mark.parametrize(("day", "stale"), [(date(2026, 6, 9), 0), (date(2026, 6, 8), 12)])
def test_a_farm_is_stale_when_its_last_number_is_older_than_twenty_days(day: date, stale: int) -> None:
    made, source = observed(day)

    result = freshness_check(made, source, NOW)

    assert result.passed is (stale == 0)
    assert counts(result) == ({"queued": stale} if stale else {})


def test_stale_farms_are_told_apart_by_why() -> None:
    day = date(2026, 6, 29)
    made, source = observed(day, cloudy=((day, "f02"),), asked=RECENT)
    clouded = freshness_check(made, source, NOW)

    nothing, source = observed(date(2026, 6, 1), asked=(date(2026, 6, 1), *RECENT))
    no_pass = freshness_check(nothing, source, NOW)

    broken = installation(days=(day,))
    broken.poison((day, "f03"), transient=False)
    request = ObserveRequest(
        provider="stac",
        collection="sentinel-2-l2a",
        indices=("ndvi", "evi"),
        farm_ids=tuple(farm.farm_id for farm in broken.farms.list()),
        days=RECENT,
    )
    list(broken.observing.observe(request, run_id="r"))
    down = freshness_check(broken, source, NOW)

    assert counts(clouded) == {"cloudy": 2}
    assert "f02" in str(clouded.metadata["farms"].value)
    assert counts(no_pass) == {"no_pass": 12}
    assert counts(down) == {"provider_down": 2}
    assert "2 provider down" in (down.description or "")


def test_coverage_counts_cells_by_status() -> None:
    day = date(2026, 6, 29)
    made, source = observed(day, cloudy=((day, "f02"),))

    result = coverage_check(made, source, NOW)

    assert result.passed
    assert (result.metadata["observed"].value, result.metadata["cloudy"].value) == (10, 2)


def test_scenes_whose_pixels_contradict_their_metadata_are_named_once() -> None:
    made, source = observed(date(2026, 6, 1), date(2026, 6, 4))
    for key, row in made.observations.rows.items():
        if key.solar_day == date(2026, 6, 4):
            made.observations.rows[key] = replace(row, flags=(Flag.RADIOMETRY_PROBED,))

    result = radiometry_check(made, source, NOW)

    assert not result.passed
    assert result.metadata["probed"].value == "S2-2026-06-04"
    assert result.metadata["unverified_scenes"].value == 0


def test_a_day_that_stands_in_for_another_provider_is_told() -> None:
    made, source = observed(date(2026, 6, 28), date(2026, 6, 29))
    calm = fallback_check(made, source, NOW)
    for key, row in made.observations.rows.items():
        if key.solar_day == date(2026, 6, 29):
            made.observations.rows[key] = replace(row, flags=(Flag.FALLBACK_PROVIDER,))

    result = fallback_check(made, source, NOW)

    assert calm.passed
    assert not result.passed
    assert result.metadata["named"].value == "2026-06-29"


@pytest.mark.parametrize(
    ("spent", "passed", "severity"), [(70.0, True, "WARN"), (85.0, False, "WARN"), (99.0, False, "ERROR")]
)
def test_a_budget_warns_before_it_is_spent(spent: float, passed: bool, severity: str) -> None:
    made, source = observed(date(2026, 6, 29))
    made.month = [
        BudgetStatus(
            provider="stac", month=date(2026, 6, 1), limit=100.0, unit="requests", spent=spent, reserved=1.0, calls=9
        )
    ]

    result = budget_check(made, source, NOW)

    assert (result.passed, result.severity.value) == (passed, severity)


def test_a_host_that_is_down_is_named_with_its_last_failure() -> None:
    made, source = observed(date(2026, 6, 29))
    search = Operation(provider="stac", host="catalogue.example", name="search")
    made.tripped = [
        (search, BreakerRecord(version=3, openings=1, open_until=NOW + timedelta(seconds=30), reason="502")),
        (replace(search, name="read"), BreakerRecord(version=2, failures=1)),
    ]

    result = breaker_check(made, source, NOW)

    assert not result.passed
    assert result.metadata["down"].value == 1
    assert "502" in str(result.metadata["operations"].value)


def test_the_store_check_repairs_nothing_and_fails_on_any_count() -> None:
    made = installation()
    whole = store_check(made)
    made.store_problems = [("orphan rasters", 2, "a.tif, b.tif"), ("rows without raster", 0, "")]
    broken = store_check(made)

    assert whole.passed
    assert not broken.passed
    assert broken.severity is dg.AssetCheckSeverity.ERROR
    assert made.store_checks == [False, False]


def test_health_is_looked_at_by_its_own_job_and_not_in_runs_over_cells() -> None:
    made, _ = observed(date(2026, 6, 29))
    with dg.DagsterInstance.ephemeral() as instance:
        sync(instance, made)
        run_range(instance, made, "2026-06-29|f00", "2026-06-29|f05")
        assert made.store_checks == []

        result = build_definitions(made, today=TODAY).resolve_job_def("health").execute_in_process(instance=instance)

        found = {(e.asset_key.to_user_string(), e.check_name) for e in result.get_asset_check_evaluations()}
        assert found == {
            ("health/store", "store"),
            ("health/fused", "disagreement"),
            ("health/fused", "confidence"),
            *(("health/alerts", name) for name in ("heartbeat", "audit", "on_time", "dead_letters")),
            *(("health/delivery", name) for name in ("on_time", "dead_letters", "breakers")),
            *(
                ("health/stac", name)
                for name in ("freshness", "coverage", "radiometry", "fallback", "budget", "breakers")
            ),
        }
        assert made.store_checks == [False]


def test_maintenance_repairs() -> None:
    made = installation()
    made.store_problems = [("orphan rasters", 2, "a.tif")]
    job = build_definitions(made, today=TODAY).resolve_job_def("store_maintenance")

    assert job.execute_in_process().success
    assert made.store_checks == [True]
