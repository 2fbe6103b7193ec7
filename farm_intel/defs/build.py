"""From a container to Dagster definitions: pure assembly, no pixels and no network."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import dagster as dg

from farm_intel.defs.activity_assets import build_activity_asset, build_plan_schedule, plan_job
from farm_intel.defs.alert_assets import build_alert_asset
from farm_intel.defs.assess_assets import build_series_assets, build_state_asset
from farm_intel.defs.assess_job import assess_job, build_assess_schedule, build_assess_sensor
from farm_intel.defs.fused_assets import build_fused_assets
from farm_intel.defs.groups import asset_groups, cohort_groups
from farm_intel.defs.health import build_health_assets, health_job_and_schedule
from farm_intel.defs.index_assets import build_index_assets
from farm_intel.defs.jobs import cells_job, maintenance_job, observe_job
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.pump import build_pump_sensor, pump_job, pump_schedule
from farm_intel.defs.reconciling import build_reconcile_sensor
from farm_intel.defs.resources import FARM_INTEL, FarmIntelResource, RunWatch, provider_resources
from farm_intel.defs.schedules import build_daily_schedule, maintenance_schedule
from farm_intel.defs.sensors import build_scene_sensor


def build_definitions(
    container: FarmIntel,
    *,
    today: date | None = None,
    resource: FarmIntelResource | None = None,
    extra_indices: Sequence[str] = (),
) -> dg.Definitions:
    """Return the code location of an installation: assets, checks, jobs, sensors and schedules.

    Args:
        container: the installation; its store is asked for cohorts only.
        today: the day the date window is reckoned from; now by default.
        resource: how runs see the container, where a launcher in this process watches them; plain by default.
        extra_indices: slugs to have beside the asset indices of the settings.

    """
    day = today or datetime.now(UTC).date()
    groups = asset_groups(container, extra_indices=extra_indices)
    rows = {group: observe_job(group) for group in groups}
    cells = {group: cells_job(group) for group in groups}
    sensors = [
        build_scene_sensor(
            container,
            provider,
            [group for group in groups if group.provider == provider],
            [jobs[group] for jobs in (rows, cells) for group in groups if group.provider == provider],
        )
        for provider in sorted({group.provider for group in groups})
    ]
    cohorts = cohort_groups(groups)
    assessing = assess_job(cohorts)
    plans = {cohort: plan_job(cohort) for cohort in cohorts}
    health = build_health_assets(container)
    health_job, health_schedule = health_job_and_schedule(health)
    return dg.Definitions(
        assets=[
            *(build_index_assets(container, group, day) for group in groups),
            *(build_fused_assets(container, cohort, day) for cohort in cohorts),
            *(build_series_assets(cohort) for cohort in cohorts),
            *(build_state_asset(container, cohort, day) for cohort in cohorts),
            *(build_alert_asset(container, cohort, day) for cohort in cohorts),
            *(build_activity_asset(container, cohort, day) for cohort in cohorts),
            *health,
        ],
        jobs=[*rows.values(), *cells.values(), assessing, *plans.values(), pump_job, health_job, maintenance_job],
        schedules=[
            *(build_daily_schedule(container, group, cells[group]) for group in groups),
            build_assess_schedule(container, assessing),
            *(build_plan_schedule(cohort, plans[cohort]) for cohort in cohorts),
            pump_schedule,
            health_schedule,
            maintenance_schedule,
        ],
        sensors=[
            *sensors,
            build_assess_sensor(container, cohorts, assessing),
            build_pump_sensor(container),
            build_reconcile_sensor([job.name for job in plans.values()]),
        ],
        resources={
            FARM_INTEL: resource or FarmIntelResource(container=container, watch=RunWatch()),
            **provider_resources(container),
        },
        executor=dg.in_process_executor,
    )
