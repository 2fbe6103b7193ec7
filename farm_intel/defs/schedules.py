"""The daily schedule: it wakes and asks the store what is due, so a lost tick loses nothing."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.blocks import pack_days
from farm_intel.defs.due import days_in_flight, find_due, group_tags
from farm_intel.defs.groups import AssetGroup
from farm_intel.defs.jobs import cells_run_config, maintenance_job
from farm_intel.defs.partitions import date_window, partition_key, sync_farm_partitions
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.defs.sensors import not_set_up

MAINTENANCE_CRON = "15 2 * * *"


def build_daily_schedule(container: FarmIntel, group: AssetGroup, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Return the schedule that asks once a day for whatever the lookback window still misses.

    It repeats what the sensor asked for and what failed since: Dagster remembers the sensor's run keys for ever.
    """

    @dg.schedule(
        name=f"{group.name}_daily",
        job=job,
        cron_schedule=container.settings.daily_cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            f"Asks for every missing or stale cell of the last {container.settings.sensor_lookback_days} days, "
            "those that failed included."
        ),
    )
    def daily(
        context: dg.ScheduleEvaluationContext, farm_intel: FarmIntelResource
    ) -> Sequence[dg.RunRequest] | dg.SkipReason:
        """Ask the store what is due and request it."""
        if reason := not_set_up(farm_intel.container, group.provider):
            return dg.SkipReason(reason)
        wake = context.scheduled_execution_time.astimezone(UTC)
        return due_requests(farm_intel.container, group, context.instance, wake)

    return daily


def due_requests(
    container: FarmIntel, group: AssetGroup, instance: dg.DagsterInstance, wake: datetime
) -> Sequence[dg.RunRequest] | dg.SkipReason:
    """Return runs of the cells job that cover everything due in the lookback window, whole days together."""
    farms = container.farms.list(cohort=group.cohort)
    sync_farm_partitions(instance, group.dimension, farms)
    window = date_window(container.settings, wake.date())
    busy = days_in_flight(compat.unfinished_run_tags(instance), group.cohort, group.provider)
    days: tuple[date, ...] = tuple(
        day for day in window.last_days(container.settings.sensor_lookback_days) if day not in busy
    )
    due = find_due(container, group, [farm.farm_id for farm in farms], days)
    if due is None or not due.by_day:
        return dg.SkipReason(f"Cohort {group.cohort} misses nothing.")
    bins = pack_days(sorted(due.by_day.items()), container.settings.run_max_cells)
    return [
        dg.RunRequest(
            run_key=f"{group.name}:daily:{wake.date()}:{number}",
            run_config=cells_run_config(group, [partition_key(*cell) for cell in cells]),
            tags=group_tags(group, cells[0][0], cells[-1][0]),
        )
        for number, cells in enumerate(bins)
    ]


maintenance_schedule = dg.ScheduleDefinition(
    name="store_maintenance_nightly",
    job=maintenance_job,
    cron_schedule=MAINTENANCE_CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Reaps what crashed runs left behind.",
)
