"""Runs that Dagster shows as started although nobody works on them any more.

A worker that is killed together with its code server leaves no event: Dagster's default launcher cannot look after its
workers, so such a run stays STARTED until `max_runtime_seconds` (six hours), or for ever without run monitoring. The
pump would wait for it all that time. Our own leases know better, and a run that says nothing for long tells it too.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.assess_assets import ASSESS
from farm_intel.defs.ports import AssetSettings, FarmIntel
from farm_intel.defs.pump import PUMP_JOB
from farm_intel.defs.resources import FarmIntelResource

RECONCILE_SENSOR = "runs_left_started"
INTERVAL_S = 60
SILENT_S = 3600
"""Longest time without an event of a run that evaluates or plans; its longest silent part (fusing a block) is
minutes."""
PROVIDERS_IN_A_ROW = 6
"""How many providers' deadlines a run over imagery may spend without an event: all there are."""
GRACE_S = 60
"""A run younger than this is left alone: its process may not have said anything yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRun:
    """A run to be reported as failed, and why."""

    run: dg.DagsterRun
    reason: str


def build_reconcile_sensor(jobs: Collection[str]) -> dg.SensorDefinition:
    """Return the sensor that ends runs whose process is gone.

    Args:
        jobs: names of the jobs beside the pump and the assessment that it looks after.

    """

    @dg.sensor(
        name=RECONCILE_SENSOR,
        job=None,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Reports runs as failed whose process is gone: of the pump, the assessment, the plans, and those asked for "
            "on an asset's page. Their leases are over, or they have said nothing for too long; what they left is due "
            "again. Requests no run."
        ),
    )
    def runs_left_started(context: dg.SensorEvaluationContext, farm_intel: FarmIntelResource) -> dg.SkipReason:
        """Find them and report them."""
        patience = silence_limits(farm_intel.container.settings, jobs)
        lost = find_lost_runs(farm_intel.container, context.instance, patience, datetime.now(UTC))
        return dg.SkipReason(end_lost_runs(context.instance, lost))

    return runs_left_started


def silence_limits(settings: AssetSettings, jobs: Collection[str]) -> dict[str, timedelta]:
    """Return job -> how long a run of it may say nothing.

    A pass of the pump works for `pump_deadline_s` and may then finish what it holds, which its lease allows for
    `lease_s`. Runs from an asset's page may be runs over alerts, but also over imagery, where one provider after
    another may be waited for.
    """
    limits = dict.fromkeys((ASSESS, *jobs), timedelta(seconds=SILENT_S))
    asking_s = PROVIDERS_IN_A_ROW * settings.provider_deadline_s
    limits[compat.ASSET_JOB] = timedelta(seconds=max(SILENT_S, asking_s))
    limits[PUMP_JOB] = timedelta(seconds=settings.pump_deadline_s + settings.lease_s)
    return limits


def find_lost_runs(
    container: FarmIntel, instance: dg.DagsterInstance, limits: Mapping[str, timedelta], now: datetime
) -> list[LostRun]:
    """Return the runs under way that nobody works on any more.

    Args:
        container: the installation, asked for leases that are over.
        instance: where the runs are.
        limits: job -> how long a run of it may say nothing; runs of other jobs are left alone.
        now: UTC.

    Raises:
        StoreError: the store cannot be read.

    """
    doubted = set(container.activities.runs_in_doubt())
    return [lost for job, limit in limits.items() for lost in _lost_of(instance, job, limit, doubted, now)]


def _lost_of(
    instance: dg.DagsterInstance, job: str, limit: timedelta, doubted: Collection[str], now: datetime
) -> Iterator[LostRun]:
    for record in compat.started_runs(instance, job):
        run = record.dagster_run
        spoke = compat.last_event(instance, run.run_id) or compat.made_at(record)
        silent = now - spoke
        if silent < timedelta(seconds=GRACE_S):
            continue
        if run.run_id in doubted:
            yield LostRun(
                run=run,
                reason=f"the leases of the occurrences it took are over, and its last event is of {_clock(spoke)}",
            )
        elif silent > limit:
            yield LostRun(
                run=run, reason=f"its last event is of {_clock(spoke)}, more than {limit.total_seconds():g} s ago"
            )


def end_lost_runs(instance: dg.DagsterInstance, lost: Collection[LostRun]) -> str:
    """Report the runs as failed (as canceled where that was asked for) and return what was done, in words.

    A run that has ended meanwhile is left as it is.
    """
    told = []
    for item in lost:
        current = instance.get_run_by_id(item.run.run_id)
        if current is None or current.is_finished:
            continue
        message = (
            f"farm_intel ended this run because its process is gone: {item.reason}. What it had stored is kept, and "
            "what it left is due again."
        )
        if current.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(current, message)
        else:
            instance.report_run_failed(current, message)
        told.append(f"{current.job_name} {current.run_id[:8]}: {item.reason}")
    return f"Ended {len(told)}: {'; '.join(told)}." if told else "No run was left."


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
