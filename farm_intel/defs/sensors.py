"""The new-scene sensor of a provider: a thin shell around `due`."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.due import (
    BlockRequest,
    block_requests,
    choose_requests,
    days_in_flight,
    find_due,
    group_tags,
)
from farm_intel.defs.groups import AssetGroup, python_name
from farm_intel.defs.jobs import cells_run_config
from farm_intel.defs.partitions import date_window, partition_key, sync_farm_partitions
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.domain.errors import FarmIntelError


def build_scene_sensor(
    container: FarmIntel,
    provider: str,
    groups: Sequence[AssetGroup],
    jobs: Sequence[compat.AssetJob | dg.JobDefinition],
) -> dg.SensorDefinition:
    """Return the sensor that keeps farm partitions in step and asks for runs over new and reprocessed scenes."""

    @dg.sensor(
        name=f"{python_name(provider)}_new_scenes",
        jobs=list(jobs),
        minimum_interval_seconds=container.settings.sensor_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Looks {container.settings.sensor_lookback_days} days back for scenes of {provider} whose cells are "
            "missing or stale, and keeps the farm partitions in step with the farms."
        ),
    )
    def new_scenes(
        context: dg.SensorEvaluationContext, farm_intel: FarmIntelResource
    ) -> dg.SensorResult | dg.SkipReason:
        """Ask the store what is due and request it."""
        if reason := not_set_up(farm_intel.container, provider):
            return dg.SkipReason(reason)
        return look_for_scenes(farm_intel.container, groups, context.instance, context.cursor or "", datetime.now(UTC))

    return new_scenes


def not_set_up(container: FarmIntel, provider: str) -> str:
    """Return why a provider cannot be asked, or an empty text."""
    missing = next((source.missing_settings for source in container.sources if source.name == provider), ())
    return f"{provider} is not set up: {', '.join(missing)} has no value." if missing else ""


def look_for_scenes(
    container: FarmIntel, groups: Sequence[AssetGroup], instance: dg.DagsterInstance, cursor: str, now: datetime
) -> dg.SensorResult | dg.SkipReason:
    """Return the runs to request for what is due now.

    Raises:
        FarmIntelError: a cohort could not be looked at and no other had anything due; the tick shows the error.

    """
    window = date_window(container.settings, now.date())
    days = window.last_days(container.settings.sensor_lookback_days)
    under_way = compat.unfinished_run_tags(instance)
    requests: dict[str, tuple[AssetGroup, BlockRequest]] = {}
    errors: list[FarmIntelError] = []
    for group in groups:
        sync_farm_partitions(instance, group.dimension, container.farms.list(cohort=group.cohort))
        try:
            found = group_requests(
                container, group, instance, days, days_in_flight(under_way, group.cohort, group.provider)
            )
        except FarmIntelError as error:
            errors.append(error)
            continue
        requests |= {request.block: (group, request) for request in found}
    if errors and not requests:
        raise errors[0]
    chosen, next_cursor = choose_requests([request for _, request in requests.values()], cursor=cursor)
    if not chosen:
        return dg.SkipReason(f"Nothing new is due between {days[0]} and {days[-1]}.")
    return dg.SensorResult(
        run_requests=[run_request(*requests[request.block]) for request in chosen], cursor=next_cursor
    )


def group_requests(
    container: FarmIntel, group: AssetGroup, instance: dg.DagsterInstance, days: Sequence[date], busy: set[date]
) -> list[BlockRequest]:
    """Return the blocks of a group to ask for, days that runs are working on left out."""
    partitions = instance.get_dynamic_partitions(group.dimension)
    active = {farm.farm_id for farm in container.farms.list(cohort=group.cohort)}
    due = find_due(container, group, [farm_id for farm_id in partitions if farm_id in active], days)
    if due is None:
        return []
    by_day = {day: farms for day, farms in due.by_day.items() if day not in busy}
    return block_requests(
        group, by_day, partitions, hashes=due.scene_set_hash, max_cells=container.settings.run_max_cells
    )


def run_request(group: AssetGroup, request: BlockRequest, run_key: str | None = None) -> dg.RunRequest:
    """Return Dagster's form of a request: a row by its range tags, scattered cells by the cells job."""
    tags = group_tags(group, request.start, request.end)
    key = run_key or request.run_key
    if request.row is not None:
        start, end = request.row
        tags |= {compat.RANGE_START_TAG: start, compat.RANGE_END_TAG: end}
        return dg.RunRequest(run_key=key, job_name=group.observe_job, tags=tags)
    keys = [partition_key(*cell) for cell in request.cells]
    return dg.RunRequest(run_key=key, job_name=group.cells_job, run_config=cells_run_config(group, keys), tags=tags)
