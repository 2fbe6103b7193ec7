"""The day's plan of each farm as an asset, the job over it and its daily schedule."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.cell_events import CellEvent, CellLedger
from farm_intel.defs.due import COHORT_TAG, PROVIDER_TAG
from farm_intel.defs.failures import told_failures
from farm_intel.defs.groups import CohortGroup, python_name
from farm_intel.defs.index_assets import OWNERS, active_cells, run_cells
from farm_intel.defs.partitions import DATE_DIMENSION, FARM_DIMENSION, date_window, partition_key, sync_farm_partitions
from farm_intel.defs.plan_events import ACTIVITIES, ALL_SETTLED, ALL_SETTLED_DESCRIPTION, PlanTeller, plan_key
from farm_intel.defs.ports import AssetSettings, FarmIntel
from farm_intel.defs.resources import FarmIntelResource

DAYS_AHEAD = 7
"""Days to come that have partitions, so that the week's plan can be looked at."""
DAYS_BACK = 7
"""Days the schedule tells again: what was open may have been answered since."""
PLAN_CRON = "5 0 * * *"


def plan_partitions(settings: AssetSettings, dimension: str, today: date) -> dg.MultiPartitionsDefinition:
    """Return the grid of plans: from where the observations' grid starts to a week from now.

    A fixed end of that grid does not count here: people go on working when no more imagery is read.
    """
    start = min(date_window(settings, today).start, today - timedelta(days=DAYS_BACK))
    days = dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1 + DAYS_AHEAD)
    return dg.MultiPartitionsDefinition(
        {DATE_DIMENSION: days, FARM_DIMENSION: dg.DynamicPartitionsDefinition(name=dimension)}
    )


def build_activity_asset(container: FarmIntel, group: CohortGroup, today: date) -> dg.AssetsDefinition:
    """Return the plans of the farms of a cohort, one partition per day (on the farm's calendar) and farm."""
    key = plan_key(group)
    partitions = plan_partitions(container.settings, group.dimension, today)

    @dg.multi_asset(
        name=group.named("tell_plan"),
        specs=[
            dg.AssetSpec(
                key,
                description=(
                    "What is planned on a farm on a day, and what became of it. Read from the store: materialising it "
                    "does no work.\n\nA day without a plan is not materialised."
                ),
                group_name=ACTIVITIES if group.plain else group.named(ACTIVITIES),
                owners=list(OWNERS),
                kinds={"python"},
                partitions_def=partitions,
                skippable=True,
            )
        ],
        check_specs=[compat.partitioned_check(ALL_SETTLED, key, partitions, ALL_SETTLED_DESCRIPTION)],
        can_subset=True,  # otherwise Dagster waits for an output of the check besides its events
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def tell_plan(context: dg.AssetExecutionContext, farm_intel: FarmIntelResource) -> Iterator[CellEvent]:
        """Tell the plans of the run's farms and days."""
        cells = active_cells(farm_intel.container, group, run_cells(context, group))
        teller = PlanTeller(
            group=group,
            container=farm_intel.container,
            ledger=CellLedger(instance=context.instance, run_id=context.run.run_id),
            now=datetime.now(UTC),
            complete=compat.BACKFILL_TAG in context.run.tags,
        )
        with told_failures(farm_intel.watch), compat.quick_sqlite_events(context.instance):
            yield from teller.tell(cells)
            yield from teller.ledger.flush()

    return tell_plan


def plan_name(group: CohortGroup) -> str:
    """Return the name of a cohort's job over its plans."""
    return python_name(ACTIVITIES if group.plain else f"{ACTIVITIES}_{group.cohort}")


def plan_job(group: CohortGroup) -> compat.AssetJob:
    """Return the job that tells the plans of a partition or a range of partitions."""
    return dg.define_asset_job(
        plan_name(group),
        selection=dg.AssetSelection.assets(plan_key(group)),
        description=f"Tell what is planned on the farms of cohort {group.cohort}; does none of it.",
        executor_def=dg.in_process_executor,
    )


def build_plan_schedule(group: CohortGroup, job: compat.AssetJob) -> dg.ScheduleDefinition:
    """Return the schedule that tells the plans of all farms of a cohort once a day, in one run."""
    name = python_name(f"{ACTIVITIES}_daily" if group.plain else f"{ACTIVITIES}_daily_{group.cohort}")

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=PLAN_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            f"Tells the plan of today and tomorrow, and what became of the last {DAYS_BACK} days', of every farm in "
            "one run."
        ),
    )
    def daily(context: dg.ScheduleEvaluationContext, farm_intel: FarmIntelResource) -> dg.RunRequest | dg.SkipReason:
        """Ask for the rows of these days."""
        wake = context.scheduled_execution_time.astimezone(UTC)
        return plan_request(farm_intel.container, group, context.instance, wake, run_key=f"{name}:{wake.date()}")

    return daily


def plan_request(
    container: FarmIntel, group: CohortGroup, instance: dg.DagsterInstance, now: datetime, *, run_key: str
) -> dg.RunRequest | dg.SkipReason:
    """Return the run over all farms of a cohort, from `DAYS_BACK` days ago to tomorrow.

    Tomorrow by UTC is today already on farms far enough to the east.
    """
    sync_farm_partitions(instance, group.dimension, container.farms.list(cohort=group.cohort))
    farms = list(instance.get_dynamic_partitions(group.dimension))
    if not farms:
        return dg.SkipReason(f"Cohort {group.cohort} has no farms.")
    first, last = now.date() - timedelta(days=DAYS_BACK), now.date() + timedelta(days=1)
    return dg.RunRequest(
        run_key=run_key,
        tags={
            # runs over observations need not wait for it
            PROVIDER_TAG: ACTIVITIES,
            COHORT_TAG: group.cohort,
            compat.RANGE_START_TAG: partition_key(first, farms[0]),
            compat.RANGE_END_TAG: partition_key(last, farms[-1]),
        },
    )
