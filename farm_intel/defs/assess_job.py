"""The job that assesses farms whose observations changed, the sensor that asks for it, and its daily schedule.

Alerts follow the states in the same run, so that new imagery leads to alerts without anybody's click.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.alert_events import AlertTeller
from farm_intel.defs.assess_assets import ASSESS
from farm_intel.defs.blocks import Cell
from farm_intel.defs.cell_events import CellEvent, CellLedger
from farm_intel.defs.changes import next_share, parse_sweep
from farm_intel.defs.due import COHORT_TAG, DAYS_TAG, PROVIDER_TAG, days_in_flight
from farm_intel.defs.failures import told_failures
from farm_intel.defs.fusing import FUSED, FuseWork, fuse_cells
from farm_intel.defs.groups import CohortGroup
from farm_intel.defs.index_assets import active_cells
from farm_intel.defs.partitions import date_window, parse_partition_key, partition_key
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.defs.series_events import Teller

ASSESS_OP = "assess_cells"
SENSOR_INTERVAL_S = 60
"""One run per look; a look that finds nothing is one query."""
ASSESS_CRON = "50 4 * * *"
"""After the daily schedule of the providers: states grow old even where nothing is observed."""


class AssessConfig(dg.Config):
    """Which cells to assess."""

    keys: list[str] = []
    """Partition keys, `2026-05-01|farm-id`; empty: every active farm over the last days."""
    lookback_days: int = 14
    """Days back from today, where no keys are given."""


def assess_job(groups: Sequence[CohortGroup]) -> dg.JobDefinition:
    """Return the job that fuses stored cells and makes series, seasons, states and alerts of their farms."""

    @dg.op(name=ASSESS_OP, pool=ASSESS)
    def assess_cells(context: dg.OpExecutionContext, config: AssessConfig, farm_intel: FarmIntelResource) -> None:
        """Assess the cells, cohort by cohort; asks no provider."""
        today = datetime.now(UTC).date()
        for group in groups:
            cells = chosen_cells(farm_intel.container, group, config, today)
            if cells:
                for event in assess(context, group, cells, farm_intel, today):
                    compat.log_cell_event(context, event)

    @dg.job(
        name=ASSESS,
        executor_def=dg.in_process_executor,
        description=(
            "Fuse what is stored of the cells, then smooth, season and state their farms and evaluate the alert rules; "
            "asks no provider."
        ),
    )
    def assess_changed() -> None:
        assess_cells()

    return assess_changed


def chosen_cells(container: FarmIntel, group: CohortGroup, config: AssessConfig, today: date) -> tuple[Cell, ...]:
    """Return the cells of a cohort's active farms that a run is to assess."""
    if config.keys:
        return active_cells(container, group, tuple(parse_partition_key(key) for key in config.keys))
    days = date_window(container.settings, today).last_days(config.lookback_days)
    return tuple((day, farm.farm_id) for day in days for farm in container.farms.list(cohort=group.cohort))


def assess(
    context: dg.OpExecutionContext,
    group: CohortGroup,
    cells: tuple[Cell, ...],
    resource: FarmIntelResource,
    today: date,
) -> Iterator[CellEvent]:
    """Assess the cells of one cohort and yield the events of all they touch.

    Every step is done again although the one before it changed nothing: a run that died between the two left it open.
    What is unchanged and recorded makes no event.

    Raises:
        dg.Failure: the store refused.

    """
    work = FuseWork(group=group, slugs=group.slugs, cells=cells, run_id=context.run_id, recheck=False)
    yield from fuse_cells(work, resource, context)
    teller = Teller(
        group=group,
        container=resource.container,
        ledger=CellLedger(instance=context.instance, run_id=context.run_id, recheck=False),
    )
    farm_ids = tuple(dict.fromkeys(farm_id for _, farm_id in cells))
    with told_failures(resource.watch), compat.quick_sqlite_events(context.instance):
        yield from teller.daily(farm_ids, group.slugs)
        yield from teller.seasons(farm_ids, group.slugs)
        told = until_today(resource.container, cells, today)
        yield from teller.states(told)
        yield from teller.ledger.flush()  # alerts may fail; the states they rest on are told
        yield from AlertTeller(group=group, container=resource.container, ledger=teller.ledger).tell(told)
        yield from teller.ledger.flush()


def until_today(container: FarmIntel, cells: Sequence[Cell], today: date) -> list[Cell]:
    """Return per farm the first of its days and the newest there is: a state rests on everything before it."""
    end = min(date_window(container.settings, today).end, today)
    first: dict[str, date] = {}
    last: dict[str, date] = {}
    for day, farm_id in cells:
        first[farm_id] = min(day, first.get(farm_id, day))
        last[farm_id] = max(day, last.get(farm_id, end))
    return [
        (date.fromordinal(number), farm_id)
        for farm_id, start in first.items()
        for number in range(start.toordinal(), last[farm_id].toordinal() + 1)
    ]


def build_assess_sensor(
    container: FarmIntel, groups: Sequence[CohortGroup], job: dg.JobDefinition
) -> dg.SensorDefinition:
    """Return the sensor that asks for farms whose observations changed."""

    @dg.sensor(
        name="assess_changes",
        job=job,
        minimum_interval_seconds=min(SENSOR_INTERVAL_S, container.settings.sensor_interval_s),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Asks for one run over farms with newly recorded days, once nothing works on those days any more; at most "
            f"{container.settings.run_max_cells} cells at a time."
        ),
    )
    def assess_changes(
        context: dg.SensorEvaluationContext, farm_intel: FarmIntelResource
    ) -> dg.SensorResult | dg.SkipReason:
        """Ask the store what changed and request it."""
        return look_for_changes(farm_intel.container, groups, context.instance, context.cursor or "")

    return assess_changes


def look_for_changes(
    container: FarmIntel, groups: Sequence[CohortGroup], instance: dg.DagsterInstance, cursor: str
) -> dg.SensorResult | dg.SkipReason:
    """Return the run to request for what changed since the cursor.

    Raises:
        BadRequestError: the cursor is none of ours.
        StoreError: the store cannot be read.

    """
    sweep = parse_sweep(cursor)
    upto, changed = container.changed_since(sweep.since)
    cohorts = {farm.farm_id: farm.cohort for farm in container.farms.list()}
    known = {group.cohort for group in groups}
    farms = sorted((id_ for id_, cohort in cohorts.items() if cohort in known), key=lambda id_: (cohorts[id_], id_))
    under_way = compat.unfinished_run_tags(instance)
    busy = {day for cohort in known for day in days_in_flight(under_way, cohort, None)}
    share = next_share(sweep, changed, farms, upto=upto, busy=busy, max_cells=container.settings.run_max_cells)
    if not share.cells and share.waiting:
        return dg.SkipReason("Observations changed; runs are still working on their days.")
    requests = [assess_request(share.cells, {cohorts[farm_id] for _, farm_id in share.cells})] if share.cells else []
    if not requests and share.sweep == sweep:
        return dg.SkipReason("No observation changed.")
    return dg.SensorResult(run_requests=requests, cursor=share.sweep.cursor())


def assess_request(cells: Sequence[Cell], cohorts: set[str]) -> dg.RunRequest:
    """Return the request for a run over the cells.

    It has no run key: a farm changes again and again, and Dagster resumes a tick that died with the ids it reserved.
    """
    days = [day for day, _ in cells]
    tags = {PROVIDER_TAG: FUSED, DAYS_TAG: f"{min(days)}..{max(days)}"}
    if len(cohorts) == 1:
        tags[COHORT_TAG] = next(iter(cohorts))
    keys = [partition_key(*cell) for cell in cells]
    return dg.RunRequest(run_config={"ops": {ASSESS_OP: {"config": {"keys": keys}}}}, tags=tags)


def build_assess_schedule(container: FarmIntel, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Return the schedule that assesses the lookback window once a day."""
    config = {"lookback_days": container.settings.sensor_lookback_days}
    return dg.ScheduleDefinition(
        name="assess_daily",
        job=job,
        cron_schedule=ASSESS_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        run_config={"ops": {ASSESS_OP: {"config": config}}},
        description=(
            f"Assesses the last {container.settings.sensor_lookback_days} days of every farm: tells the state of days "
            "without an observation, evaluates the alert rules, and repeats what a run left open. What is unchanged "
            "makes no event."
        ),
    )
