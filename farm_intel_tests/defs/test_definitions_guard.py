"""Names that are nothing are found, every kind of them; what is really there passes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from farm_intel.defs.build import build_definitions
from farm_intel.defs.definitions_guard import definition_problems
from farm_intel_tests.defs.harness import TODAY
from farm_intel_tests.support.fake_observing import installation
from farm_intel_tests.support.fakes import FakeFarmStore, make_farm

REPOSITORY = Path(__file__).resolve().parents[2]


@dg.asset(group_name="soil", tags={"team": "agronomy"}, check_specs=[dg.AssetCheckSpec("wet", asset="moisture")])
def moisture() -> dg.MaterializeResult:
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="wet", passed=True)])


@dg.asset(deps=[moisture], group_name="soil")
def irrigation() -> None:
    """Rests on the other."""


@dg.asset
def rainfall() -> None:
    """Not in the code location."""


@dg.job
def tidy() -> None:
    """Do nothing."""


def sensor_of(**target) -> dg.SensorDefinition:
    return dg.SensorDefinition("look", evaluation_fn=lambda _: dg.SkipReason("nothing"), **target)


def schedule_of(cron="0 5 * * *", name="early", **target) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(name=name, cron_schedule=cron, **target)


def job_of(selection: object) -> object:
    return dg.define_asset_job("chosen", selection=selection)


def healthy(**more) -> dg.Definitions:
    """Return a code location with one of everything, and whatever a test plants in it."""
    jobs = [
        tidy,
        job_of(
            dg.AssetSelection.groups("soil") & dg.AssetSelection.assets("moisture").downstream()
            | dg.AssetSelection.tag("team", "agronomy")
            | dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("moisture"), "wet"))
        ),
    ]
    return dg.Definitions(
        assets=[moisture, irrigation, *more.get("assets", [])],
        asset_checks=more.get("asset_checks", []),
        jobs=[*more.get("jobs", jobs), *more.get("more_jobs", [])],
        schedules=[schedule_of(job_name="tidy"), *more.get("schedules", [])],
        sensors=more.get("sensors", [sensor_of(job_name="tidy")]),
    )


def planted_dependency() -> dg.Definitions:
    @dg.asset(deps=["rainfall"])
    def runoff() -> None: ...

    return healthy(assets=[runoff])


def planted_check() -> dg.Definitions:
    @dg.asset_check(asset="rainfall")
    def falls() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    return healthy(asset_checks=[falls])


def planted_check_dependency() -> dg.Definitions:
    @dg.asset_check(asset=moisture, additional_deps=["rainfall"])
    def falls() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    return healthy(asset_checks=[falls])


def planted_external_asset() -> dg.Definitions:
    @dg.asset(deps=["rainfall"])
    def runoff() -> None: ...

    return healthy(assets=[runoff, dg.AssetSpec("rainfall")])


def twin_assets() -> dg.Definitions:
    @dg.asset(name="moisture")
    def twin() -> None: ...

    return healthy(assets=[twin])


def twin_jobs() -> dg.Definitions:
    @dg.job(name="tidy")
    def twin() -> None: ...

    return healthy(more_jobs=[twin])


def missing_resource() -> dg.Definitions:
    @dg.asset(required_resource_keys={"thermometer"})
    def warmth() -> None: ...

    return healthy(assets=[warmth])


def missing_resource_of_a_job() -> dg.Definitions:
    @dg.op(required_resource_keys={"thermometer"})
    def measure() -> None: ...

    @dg.job
    def measuring() -> None:
        measure()

    return healthy(more_jobs=[measuring])


PLANTED: dict[str, tuple[Callable[[], dg.Definitions], str]] = {
    "dependency": (planted_dependency, "asset runoff depends on rainfall, which is no asset"),
    "dependency on an external asset": (planted_external_asset, "asset runoff depends on rainfall, which is no asset"),
    "check": (planted_check, "check falls names rainfall, which is no asset"),
    "dependency of a check": (planted_check_dependency, "check falls names rainfall, which is no asset"),
    "two assets": (twin_assets, "2 assets are named moisture"),
    "two jobs": (twin_jobs, "2 jobs are named tidy"),
    "two automations": (
        lambda: healthy(sensors=[sensor_of(job_name="tidy")], schedules=[schedule_of(name="look", job_name="tidy")]),
        "2 schedules or sensors are named look",
    ),
    "a date that never comes": (
        lambda: healthy(schedules=[schedule_of("0 0 31 4 *", "april", job_name="tidy")]),
        "schedule april has the cron '0 0 31 4 *', which never fires: Bad day-of-month",
    ),
    "a cron beside a good one": (
        lambda: healthy(schedules=[schedule_of(["0 5 * * *", "0 0 31 2,4 *"], "both", job_name="tidy")]),
        "schedule both has the cron '0 0 31 2,4 *', which never fires",
    ),
    "job of a schedule": (
        lambda: healthy(schedules=[schedule_of(name="late", job_name="tidi")]),
        "schedule late starts the job tidi, which does not exist",
    ),
    "job of a sensor": (
        lambda: healthy(sensors=[sensor_of(job_name="tidi")]),
        "sensor look starts the job tidi, which does not exist",
    ),
    "key": (
        lambda: healthy(jobs=[tidy, job_of(dg.AssetSelection.assets("moisture", "rainfall"))]),
        "job chosen selects the asset rainfall, which does not exist",
    ),
    "key that is taken away": (
        lambda: healthy(jobs=[tidy, job_of(dg.AssetSelection.all() - dg.AssetSelection.assets("rainfall"))]),
        "job chosen selects the asset rainfall, which does not exist",
    ),
    "key behind an arrow": (
        lambda: healthy(jobs=[tidy, job_of(dg.AssetSelection.assets("rainfall").downstream())]),
        "job chosen selects the asset rainfall, which does not exist",
    ),
    "group": (
        lambda: healthy(jobs=[tidy, job_of(dg.AssetSelection.groups("soil", "sky"))]),
        "job chosen selects the group sky, which does not exist",
    ),
    "group in words": (
        lambda: healthy(jobs=[tidy, job_of("group:sky or key:moisture")]),
        "job chosen selects the group sky, which does not exist",
    ),
    "tag": (
        lambda: healthy(jobs=[tidy, job_of(dg.AssetSelection.tag("team", "weather") | dg.AssetSelection.all())]),
        "job chosen selects tag:",
    ),
    "prefix": (
        lambda: healthy(jobs=[tidy, job_of(dg.AssetSelection.key_prefixes("sky") | dg.AssetSelection.all())]),
        "job chosen selects",
    ),
    "check of a selection": (
        lambda: healthy(
            jobs=[tidy, job_of(dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("moisture"), "dry")))]
        ),
        "job chosen selects the check moisture:dry, which does not exist",
    ),
    "checks of an asset": (
        lambda: healthy(jobs=[tidy, job_of(dg.AssetSelection.checks_for_assets(rainfall))]),
        "job chosen selects the asset rainfall, which does not exist",
    ),
    "selection of a schedule": (
        lambda: healthy(schedules=[schedule_of(name="late", target=dg.AssetSelection.groups("sky"))]),
        "schedule late selects the group sky, which does not exist",
    ),
    "selection of a sensor": (
        lambda: healthy(sensors=[sensor_of(asset_selection=dg.AssetSelection.groups("sky"))]),
        "sensor look selects the group sky, which does not exist",
    ),
    "selection of an automation": (
        lambda: healthy(
            sensors=[dg.AutomationConditionSensorDefinition("look", target=dg.AssetSelection.groups("sky"))]
        ),
        "sensor look selects the group sky, which does not exist",
    ),
    "asset of a sensor": (
        lambda: healthy(
            sensors=[
                dg.AssetSensorDefinition(
                    "look",
                    asset_key=dg.AssetKey("rainfall"),
                    job_name="tidy",
                    asset_materialization_fn=lambda *_: dg.SkipReason("nothing"),
                )
            ]
        ),
        "sensor look selects the asset rainfall, which does not exist",
    ),
    "resource of an asset": (
        missing_resource,
        "the assets cannot be resolved: resource with key 'thermometer' required by op 'warmth'",
    ),
    "what only Dagster knows": (missing_resource_of_a_job, "Dagster refuses the definitions: resource with key"),
}  # fmt: skip


def test_a_code_location_with_one_of_everything_is_well():
    assert definition_problems(healthy()) == []


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_violation_is_found_and_named(kind):
    make, expected = PLANTED[kind]

    problems = definition_problems(make())

    assert any(problem.startswith(expected) for problem in problems), problems


def of_farms(*farms):
    made = installation()
    made.farms = FakeFarmStore(list(farms))
    return made


INSTALLATIONS = {
    "no farms": of_farms,
    "one cohort": installation,
    "another cohort only": lambda: of_farms(make_farm("a", cohort="t36MZE_00")),
    "several cohorts": lambda: of_farms(
        make_farm("a"), make_farm("b", cohort="t36MZE_00"), make_farm("c", cohort="t36MZE_01")
    ),
}


@pytest.mark.parametrize("kind", INSTALLATIONS)
def test_what_we_build_is_well(kind):
    assert definition_problems(build_definitions(INSTALLATIONS[kind](), today=TODAY)) == []


def test_several_providers_are_well():
    made = installation()
    made.add_provider("sentinel_hub", days=())

    assert definition_problems(build_definitions(made, today=TODAY)) == []


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "", "FARM_INTEL_HOME": str(folder / "home"), "PYTHONPATH": f"{REPOSITORY}:{folder}"}
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "check_definitions.py"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_passes_a_new_installation_and_fails_a_planted_one(tmp_path):
    (tmp_path / "planted.py").write_text(
        "import dagster as dg\n"
        "@dg.asset(deps=['rainfall'])\n"
        "def runoff() -> None: ...\n"
        "defs = dg.Definitions(assets=[runoff])\n"
    )
    ours, planted, absent = check(tmp_path), check(tmp_path, "planted"), check(tmp_path, "nowhere")

    assert (ours.returncode, ours.stdout) == (0, ""), ours.stderr
    assert (planted.returncode, planted.stdout) == (1, "asset runoff depends on rainfall, which is no asset\n")
    assert absent.returncode == 2
    assert "nowhere has no definitions" in absent.stderr
