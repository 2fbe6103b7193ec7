"""The code location: what is in it, how cheap it is to load, and that an index is a row and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from farm_intel.defs.alert_health import ALERT_CHECKS, DELIVERY_CHECKS
from farm_intel.defs.build import build_definitions
from farm_intel.defs.checks import CHECKS
from farm_intel.defs.groups import asset_groups
from farm_intel.domain.errors import StoreError
from farm_intel.indices.registry import load_registry
from farm_intel_tests.defs.harness import TODAY, instance_in, materialized, run_range, sync
from farm_intel_tests.support.fake_observing import installation
from farm_intel_tests.support.fakes import FakeFarmStore, make_farm

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = (
    "rasterio", "geopandas", "shapely", "pyproj", "xarray", "pandas", "numba", "stackstac", "matplotlib", "odc",
    "pystac", "pystac_client", "obstore", "async_tiff", "pyarrow", "psycopg2", "PIL", "sentinelhub", "ee",
    "onnxruntime", "fastapi", "starlette", "uvicorn", "apprise", "hibari_tts", "piper", "websockets",
)  # fmt: skip
MEASURE = """
import json, sys, time
import dagster
before = time.process_time()
import farm_intel.definitions
spent = time.process_time() - before
loaded = sorted(name for name in sys.modules if "." not in name)
assets = len(list(farm_intel.definitions.defs.resolve_all_asset_specs()))
print(json.dumps({"cpu_s": spent, "modules": loaded, "assets": assets}))
"""


def loaded_in_a_fresh_process(tmp_path: Path) -> dict[str, object]:
    environment = {"PATH": "", "FARM_INTEL_HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_code_location_loads_without_farms_catalogue_or_heavy_libraries(tmp_path):
    loaded = loaded_in_a_fresh_process(tmp_path)

    assert loaded["assets"] == 28
    assert [name for name in HEAVY if name in loaded["modules"]] == []
    # The target is 2 s on an idle machine; the factor is for a machine that runs other tests at the same time.
    assert loaded["cpu_s"] < 3.0


def test_assets_checks_jobs_schedules_and_sensors_are_these():
    location = build_definitions(installation(), today=TODAY)
    graph = location.resolve_asset_graph()

    assert {key.to_user_string() for key in graph.materializable_asset_keys} == {
        "stac/ndvi",
        "stac/evi",
        *(f"{kind}/{slug}" for kind in ("fused", "daily", "season") for slug in ("ndvi", "evi")),
        "state/farm",
        "alerts/farm",
        "activities/farm",
        "health/stac",
        "health/fused",
        "health/store",
        "health/alerts",
        "health/delivery",
    }
    assert {f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys} == {
        "stac/ndvi:quality",
        "stac/evi:quality",
        "fused/ndvi:agreement",
        "fused/evi:agreement",
        "state/farm:state_known",
        "alerts/farm:no_alert",
        "activities/farm:all_settled",
        *(f"health/alerts:{name}" for name in ALERT_CHECKS),
        *(f"health/delivery:{name}" for name in DELIVERY_CHECKS),
        "health/fused:disagreement",
        "health/fused:confidence",
        "health/store:store",
        *(f"health/stac:{name}" for name in CHECKS),
    }
    repository = location.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} == {
        "stac_observe",
        "stac_cells",
        "assess",
        "activities",
        "pump_job",
        "health",
        "store_maintenance",
        "__ASSET_JOB",
    }
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "stac_daily",
        "assess_daily",
        "activities_daily",
        "pump_every_five_minutes",
        "health_hourly",
        "store_maintenance_nightly",
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "stac_new_scenes",
        "assess_changes",
        "pump",
        "runs_left_started",
    }


def test_an_asset_says_what_it_is():
    (spec,) = [
        spec
        for spec in build_definitions(installation(), today=TODAY).resolve_all_asset_specs()
        if spec.key == dg.AssetKey(["stac", "evi"])
    ]
    index = load_registry().get("evi")

    assert index.formula in spec.description
    assert index.reference in spec.description
    assert spec.code_version == index.formula_version
    assert spec.owners == ["team:agronomy"]
    assert spec.group_name == "stac"
    assert spec.tags["provider"] == "stac"
    assert spec.tags["collection"] == "sentinel-2-l2a"
    assert spec.skippable


def test_an_index_from_a_users_file_becomes_asset_and_check_and_is_computed(tmp_path):
    (tmp_path / "mine.toml").write_text(
        '[[index]]\nname = "Toy"\nslug = "toy"\nlong_name = "Toy index"\nformula = "(N - R) / (N + R + 0.1)"\n'
        'reference = "a test"\nvalid_range = [-1.0, 1.0]\n'
    )
    day = date(2026, 5, 1)
    made = installation(days=[day], asset_indices=("toy",))
    made.registry = load_registry([tmp_path / "mine.toml"])
    location = build_definitions(made, today=TODAY)

    assert dg.AssetKey(["stac", "toy"]) in location.resolve_asset_graph().materializable_asset_keys
    with instance_in(tmp_path / "dagster") as instance:
        sync(instance, made)
        assert run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05").success
        assert len(materialized(instance, "stac", "toy")) == 6


def test_several_cohorts_have_their_own_assets_and_farms_and_the_first_keeps_its_name():
    made = installation()
    made.farms = FakeFarmStore([make_farm("a"), make_farm("b", cohort="t36MZE_00")])
    groups = {group.cohort: group for group in asset_groups(made)}
    keys = build_definitions(made, today=TODAY).resolve_asset_graph().materializable_asset_keys

    assert groups["main"].dimension == "farms"
    assert groups["t36MZE_00"].dimension == "farms_t36MZE_00"
    of_indices = {f"{kind}/{slug}" for kind in ("stac", "fused", "daily", "season") for slug in ("ndvi", "evi")}
    of_a_cohort = {*of_indices, "state/farm", "alerts/farm", "activities/farm"}
    assert {key.to_user_string() for key in keys} == {
        *of_a_cohort,
        *(f"{key}/t36MZE_00" for key in of_a_cohort),
        "health/stac",
        "health/fused",
        "health/store",
        "health/alerts",
        "health/delivery",
    }


def test_a_store_that_cannot_be_read_yet_does_not_keep_the_definitions_from_loading():
    class Unmigrated(FakeFarmStore):
        def list(self, *, cohort=None, include_inactive=False):
            raise StoreError("no such table: farms")

    made = installation()
    made.farms = Unmigrated([])

    assert len(list(build_definitions(made, today=TODAY).resolve_all_asset_specs())) == 16


@pytest.mark.parametrize("name", ["dagster.yaml", "deploy/dagster.prod.yaml"])
def test_the_instance_files_hold_what_batches_need(name):
    import yaml

    config = yaml.safe_load((REPOSITORY / name).read_text())

    assert config["run_retries"]["retry_on_asset_or_op_failure"] is False
    assert config["run_monitoring"]["enabled"] is True
    assert config["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert config["concurrency"]["pools"]["granularity"] == "run"
    assert config["telemetry"]["enabled"] is False
    assert config["nux"]["enabled"] is False


def test_the_local_instance_file_makes_an_instance(tmp_path):
    from farm_intel.defs import compat

    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    with compat.open_instance(tmp_path) as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled
