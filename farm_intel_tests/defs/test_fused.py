"""Fused cells: asked of providers in order, fused, recorded on the assets they belong to, repaired by the next run."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import dagster as dg
import pytest

from farm_intel.defs import compat
from farm_intel.defs.build import build_definitions
from farm_intel.defs.resources import FarmIntelResource, RunWatch
from farm_intel.domain.batches import Verdict
from farm_intel.domain.observations import Flag, ObservationKey, ObservationStatus
from farm_intel.observing.model import ObserveRequest
from farm_intel_tests.defs.harness import TODAY, evaluations, materializations, materialized, sync
from farm_intel_tests.support.fake_observing import FakeInstallation, installation

D1, D2, D3 = date(2026, 6, 1), date(2026, 6, 6), date(2026, 6, 11)
FARMS = ("f00", "f01", "f02")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def two_providers(days=(D1,), *, mean=0.5, second=None) -> FakeInstallation:
    made = installation(FARMS, days=days, asset_indices=("ndvi",))
    made.add_provider("sentinel_hub", days=days if second is None else second, mean=mean)
    return made


def fuse(instance, made, start, end, *, ask=True, tags=None, resources=None):
    definitions = build_definitions(
        made, today=TODAY, resource=FarmIntelResource(container=made, watch=RunWatch(), preview_max_cells=0)
    )
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["fused", "ndvi"])],
        tags={compat.RANGE_START_TAG: start, compat.RANGE_END_TAG: end} | (tags or {}),
        run_config={"ops": {"fuse_main": {"config": {"ask": ask}}}, "resources": resources or {}},
        raise_on_error=False,
    )


def checks(result, name="agreement"):
    return {
        (event.asset_key.to_user_string(), event.partition): event
        for event in evaluations(result)
        if event.check_name == name
    }


def test_the_first_provider_is_asked_and_its_cells_and_the_fused_ones_are_recorded(instance):
    made = two_providers()
    sync(instance, made)

    result = fuse(instance, made, f"{D1}|f00", f"{D1}|f02")

    assert result.success
    cells = {f"{D1}|{farm}" for farm in FARMS}
    assert materialized(instance, "stac", "ndvi") == cells
    assert materialized(instance, "fused", "ndvi") == cells
    assert materialized(instance, "sentinel_hub", "ndvi") == set(), "the second is not needed"
    (event,) = materializations(instance, ("fused", "ndvi"), f"{D1}|f00")
    assert event.metadata["value"].value == 0.5
    assert 0 < event.metadata["confidence"].value <= 1
    assert event.metadata["method"].value == "single"
    assert "| stac | 0.5000 | 0.5000 |" in event.metadata["candidates"].value
    stored = made.assessments.fused_rows["f00", "ndvi", D1]
    assert event.tags["dagster/data_version"] == stored.fingerprint
    told = checks(result)
    assert {key for key in told if key[0] == "fused/ndvi"} == {("fused/ndvi", cell) for cell in cells}
    assert all(check.passed for check in told.values())
    assert len(checks(result, "quality")) == 3


def test_providers_that_disagree_make_a_warning_with_both_values(instance):
    made = two_providers(mean=0.7)
    sync(instance, made)
    observe(made, "stac", (D1,))
    observe(made, "sentinel_hub", (D1,))

    result = fuse(instance, made, f"{D1}|f00", f"{D1}|f02", ask=False)

    check = checks(result)["fused/ndvi", f"{D1}|f00"]
    assert result.success
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "disagree" in check.metadata["because"].value
    (event,) = materializations(instance, ("fused", "ndvi"), f"{D1}|f00")
    assert "| stac | 0.5000" in event.metadata["candidates"].value
    assert "| sentinel_hub | 0.7000" in event.metadata["candidates"].value
    assert "provider_disagreement" in event.metadata["flags"].value


def test_a_provider_that_is_down_is_replaced_visibly_on_the_other_providers_asset(instance):
    made = two_providers()
    made.catalog.down = True
    sync(instance, made)

    result = fuse(instance, made, f"{D1}|f00", f"{D1}|f02")

    assert result.success
    cells = {f"{D1}|{farm}" for farm in FARMS}
    assert materialized(instance, "stac", "ndvi") == set()
    assert materialized(instance, "sentinel_hub", "ndvi") == cells
    assert materialized(instance, "fused", "ndvi") == cells
    (event,) = materializations(instance, ("sentinel_hub", "ndvi"), f"{D1}|f00")
    assert "stac -> sentinel_hub" in event.metadata["fallback"].value
    assert "503" in event.metadata["fallback"].value
    quality = checks(result, "quality")["sentinel_hub/ndvi", f"{D1}|f00"]
    assert not quality.passed
    assert quality.severity is dg.AssetCheckSeverity.WARN
    assert "stands in" in quality.metadata["because"].value
    agreement = checks(result)["fused/ndvi", f"{D1}|f00"]
    assert not agreement.passed
    assert "503" in agreement.metadata["because"].value


def test_a_switch_that_was_recorded_before_is_still_told_by_the_next_run(instance):
    made = two_providers()
    made.catalog.down = True
    sync(instance, made)
    fuse(instance, made, f"{D1}|f00", f"{D1}|f02")

    again = fuse(instance, made, f"{D1}|f00", f"{D1}|f02", ask=False)

    assert not checks(again)["fused/ndvi", f"{D1}|f00"].passed
    assert len(materializations(instance, ("fused", "ndvi"), f"{D1}|f00")) == 1


def test_cells_nobody_could_answer_fail_and_a_second_run_computes_exactly_them(instance):
    made = two_providers(days=(D1, D2))
    made.poison((D1, "f01"))
    made.others["sentinel_hub"].engine.verdicts[D1, "f01"] = Verdict(
        status=ObservationStatus.PROVIDER_FAILED, reason="gateway timeout", transient=True
    )
    sync(instance, made)

    failed = fuse(instance, made, f"{D1}|f00", f"{D2}|f02")

    others = {f"{day}|{farm}" for day in (D1, D2) for farm in FARMS} - {f"{D1}|f01"}
    assert not failed.success
    assert materialized(instance, "fused", "ndvi") == others
    (event,) = [e for e in failed.all_events if e.is_step_failure]
    text = str(event.step_failure_data.user_failure_data)
    assert f"{D1}|f01|ndvi" in text
    assert "connection reset" in text
    assert "gateway timeout" in text

    made.engine.verdicts.clear()
    made.engine.calls.clear()
    again = fuse(instance, made, f"{D1}|f00", f"{D2}|f02")

    assert again.success
    assert made.engine.calls == [(("ndvi",), (D1,), ("f01",))]
    assert materialized(instance, "fused", "ndvi") == others | {f"{D1}|f01"}
    # the other day of the farm is judged again beside its new neighbour
    untouched = {cell for cell in others if "f01" not in cell}
    assert all(len(materializations(instance, ("fused", "ndvi"), cell)) == 1 for cell in untouched)


def test_what_a_dead_run_stored_without_telling_is_told_by_the_next(instance):
    made = two_providers()
    sync(instance, made)
    observe(made, "stac", (D1,))
    list(made.assessing.fuse(FARMS, ["ndvi"], start=D1, end=D1))

    result = fuse(instance, made, f"{D1}|f00", f"{D1}|f02", ask=False)

    assert result.success
    assert materialized(instance, "fused", "ndvi") == {f"{D1}|{farm}" for farm in FARMS}
    assert len(checks(result)) == 3


def test_a_day_beside_the_block_whose_judgement_changed_is_told_on_its_own_cell(instance):
    days = tuple(date(2026, 5, 2) + timedelta(days=5 * n) for n in range(6))
    made = two_providers(days=days)
    sync(instance, made)
    observe(made, "stac", days[:3])
    fuse(instance, made, f"{days[0]}|f00", f"{days[2]}|f02", ask=False)
    # A sudden drop on the fourth day, which nothing after it confirms yet; then it is refuted.
    observe(made, "stac", days[3:4])
    drop(made, days[3])
    fuse(instance, made, f"{days[3]}|f00", f"{days[3]}|f02", ask=False)
    before = len(materializations(instance, ("fused", "ndvi"), f"{days[3]}|f00"))
    observe(made, "stac", days[4:])

    fuse(instance, made, f"{days[4]}|f00", f"{days[5]}|f02", ask=False)

    told = materializations(instance, ("fused", "ndvi"), f"{days[3]}|f00")
    assert len(told) == before + 1
    assert "despiked" in told[0].metadata["candidates"].value


def test_a_backfill_tells_cells_without_a_number_with_each_providers_reason(instance):
    made = two_providers()
    made.cloud((D1, "f01"))
    sync(instance, made)

    result = fuse(instance, made, f"{D1}|f00", f"{D1}|f02", tags={"dagster/backfill": "b"})

    assert result.success
    assert materialized(instance, "fused", "ndvi") == {f"{D1}|{farm}" for farm in FARMS}
    (event,) = materializations(instance, ("fused", "ndvi"), f"{D1}|f01")
    assert "stac: 100% of the farm under cloud" in event.metadata["reason"].value


def test_without_a_provider_that_is_set_up_what_is_stored_is_fused(instance):
    made = two_providers()
    observe(made, "stac", (D1,))
    made.sources = tuple(
        type(source)(name=source.name, missing_settings=("FARM_INTEL_STAC_URL",)) for source in made.sources
    )
    sync(instance, made)

    result = fuse(instance, made, f"{D1}|f00", f"{D1}|f02")

    assert result.success
    assert len(materialized(instance, "fused", "ndvi")) == 3


def test_the_deadline_of_a_provider_can_be_set_for_a_run(instance):
    made = two_providers()
    sync(instance, made)
    tiny = {"stac": {"config": {"deadline_s": 1e-6}}, "sentinel_hub": {"config": {"deadline_s": 1e-6}}}

    result = fuse(instance, made, f"{D1}|f00", f"{D1}|f02", resources=tiny)

    assert not result.success
    assert made.engine.calls == []


def observe(made, provider, days):
    request = ObserveRequest(
        provider=provider, collection="sentinel-2-l2a", indices=("ndvi",), farm_ids=FARMS, days=tuple(days)
    )
    return list(made.observing.observe(request, run_id="before"))


def drop(made, day):
    for farm in FARMS:
        key = ObservationKey(farm_id=farm, index="ndvi", provider="stac", collection="sentinel-2-l2a", solar_day=day)
        row = made.observations.rows[key]
        assert row.statistics is not None
        assert Flag.FALLBACK_PROVIDER not in row.flags
        low = replace(row.statistics, mean=0.15, median=0.15, min=0.1, max=0.2)
        made.observations.rows[key] = replace(row, statistics=low, fingerprint="low")
