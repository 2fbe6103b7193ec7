"""The health of providers, of what is fused, of the store and of the watcher, as assets of their own with checks.

They hang on no index asset on purpose: Dagster adds every check of an asset to every run over it, and shows those that
such a run skips as failed when another step fails.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.alert_health import alerts_health, delivery_health
from farm_intel.defs.checks import CHECKS, DESCRIPTIONS, STORE, store_check
from farm_intel.defs.fused_health import fused_health
from farm_intel.defs.ports import FarmIntel, Source
from farm_intel.defs.resources import FarmIntelResource

HEALTH = "health"
HEALTH_CRON = "10 * * * *"


def build_health_assets(container: FarmIntel) -> list[dg.AssetsDefinition]:
    """Return the health assets of an installation: one per provider, for what is fused, the store, alerts, delivery."""
    providers = [_provider_health(source) for source in container.sources]
    return [*providers, fused_health, store_health, alerts_health, delivery_health]


def health_key(name: str) -> dg.AssetKey:
    """Return the asset key of a provider's health."""
    return dg.AssetKey([HEALTH, name])


def _provider_health(source: Source) -> dg.AssetsDefinition:
    key = health_key(source.name)

    @dg.asset(
        key=key,
        group_name=HEALTH,
        description=f"How {source.name} does: what it gave, what it withheld and why, what it may still cost.",
        kinds={"python"},
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=DESCRIPTIONS[name]) for name in CHECKS],
        op_tags={"provider": source.name},
    )
    def health(context: dg.AssetExecutionContext, farm_intel: FarmIntelResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the plain class
        """Read stored rows, breakers and budgets; asks no provider."""
        now = datetime.now(UTC)
        results = [_named(check(farm_intel.container, source, now), name) for name, check in CHECKS.items()]
        open_checks = [result.check_name for result in results if not result.passed]
        context.log.info("%s: %s", source.name, ", ".join(map(str, open_checks)) or "all well")
        return dg.MaterializeResult(check_results=results, metadata={"checked_at": now.isoformat()})

    return health


def _named(result: dg.AssetCheckResult, name: str) -> dg.AssetCheckResult:
    return result._replace(check_name=name)


@dg.asset(
    key=health_key(STORE),
    group_name=HEALTH,
    description="Whether rows and rasters of the store belong together.",
    kinds={"python"},
    check_specs=[dg.AssetCheckSpec(STORE, asset=health_key(STORE), description=DESCRIPTIONS[STORE])],
)
def store_health(farm_intel: FarmIntelResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads the plain class
    """Compare rows with rasters in both directions, changing nothing."""
    return dg.MaterializeResult(check_results=[_named(store_check(farm_intel.container), STORE)])


def health_job_and_schedule(assets: Sequence[dg.AssetsDefinition]) -> tuple[compat.AssetJob, dg.ScheduleDefinition]:
    """Return the job that looks after everything's health and the schedule that runs it hourly."""
    job = dg.define_asset_job(
        HEALTH,
        selection=dg.AssetSelection.assets(*(key for asset in assets for key in asset.keys)),
        description=(
            "Look at freshness, coverage, radiometry, fallbacks, budgets, breakers, agreement, the store, the pump and "
            "the outbox."
        ),
        executor_def=dg.in_process_executor,
    )
    schedule = dg.ScheduleDefinition(
        name="health_hourly",
        job=job,
        cron_schedule=HEALTH_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Looks after everything's health; asks no provider.",
    )
    return job, schedule
