"""The pump: the job that does what is due, the sensor that asks for it, and a schedule for those without sensors.

The durable truth is in our store: occurrences, alerts and messages are rows with leases. So nothing hangs on a tick or
on a run: whatever one of them left is due again, and the next pass takes it. One run does a whole batch; nothing here
launches a run per occurrence.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.cell_events import Metadata
from farm_intel.defs.failures import told_failures
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.ports_alerts import DueWork, PumpReport
from farm_intel.defs.resources import FarmIntelResource

PUMP_JOB = "pump_job"
PUMP_SENSOR = "pump"
PUMP_SCHEDULE = "pump_every_five_minutes"
PUMP_CRON = "*/5 * * * *"
PUMP_TAG = "farm_intel/pump"
"""The batch a run was asked for."""
DUE_TAG = "farm_intel/due"
"""Counts of what was due, `3 occurrences, 2 messages, 0 steps`."""
OLDEST_TAG = "farm_intel/oldest_due"
IDLE_BATCH = "idle"
QUIET_S = 600
"""A pass is made after this even where nothing is due: it audits the alerts and leaves the heartbeat."""
FIRST_PAUSE_S = 30
LONGEST_PAUSE_S = 900
"""After a run that took nothing the next waits, twice as long each time: a worker that dies at once, or a date that
cannot be worked, does not cost a process every 30 s."""
RUNS_LOOKED_AT = 6
"""Enough to tell the longest pause."""


@dg.op(name="pump_once")
def pump_once(context: dg.OpExecutionContext, farm_intel: FarmIntelResource) -> None:
    """Do everything that is due once."""
    with told_failures(farm_intel.watch):
        report = farm_intel.container.pump.run(run_id=context.run_id)
    context.add_output_metadata(report_metadata(report))
    for problem in report.problems:
        context.log.warning("cannot be planned: %s", problem)
    for finding in report.findings:
        context.log.warning("the auditor found: %s", finding)


@dg.job(
    name=PUMP_JOB,
    executor_def=dg.in_process_executor,
    # the sensor asks again by itself; a retry beside it would only be a second run
    tags={"dagster/max_retries": "0", "dagster/priority": "10"},
    description=(
        "Generate what fell due, work on it, propose activities for events, let alerts escalate, and deliver messages. "
        "The same as `farm-intel pump`; safe at any time, also twice at once."
    ),
)
def pump_job() -> None:
    """Pump once."""
    pump_once()


def report_metadata(report: PumpReport) -> Metadata:
    """Return what a pass did, as metadata of its output."""
    worked = {f"occurrences_{state}": count for state, count in sorted(report.worked.items())}
    return {
        "generated": report.generated,
        **worked,
        "proposed": report.proposed,
        "steps": report.steps,
        "sent": report.sent,
        "failed": report.failed,
        "dead": report.dead,
        "problems": dg.MetadataValue.md(_bullets(report.problems)),
        "findings": dg.MetadataValue.md(_bullets(report.findings)),
        "seconds": round(report.seconds, 3),
    }


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "none"


def build_pump_sensor(container: FarmIntel) -> dg.SensorDefinition:
    """Return the sensor that asks for a run while anything is due."""

    @dg.sensor(
        name=PUMP_SENSOR,
        job=pump_job,
        minimum_interval_seconds=container.settings.pump_interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Asks the store whether occurrences, alert steps or messages are due, and requests one run for all of "
            f"them, one at a time; after {QUIET_S // 60} quiet minutes one for the heartbeat. Switched off, nothing is "
            "lost: it is done when the pump runs again."
        ),
    )
    def pump(context: dg.SensorEvaluationContext, farm_intel: FarmIntelResource) -> dg.RunRequest | dg.SkipReason:
        """Ask the store what is due and request a run over it."""
        return look_for_work(farm_intel.container, context.instance, datetime.now(UTC))

    return pump


@dg.schedule(
    name=PUMP_SCHEDULE,
    job=pump_job,
    cron_schedule=PUMP_CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description=(
        "For installations that switch sensors off: the same question every five minutes. Off at first, because the "
        "sensor asks it more often; with both on, one of them finds the other's run and skips."
    ),
)
def pump_schedule(
    context: dg.ScheduleEvaluationContext, farm_intel: FarmIntelResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask the store what is due and request a run over it."""
    return look_for_work(farm_intel.container, context.instance, context.scheduled_execution_time.astimezone(UTC))


def look_for_work(container: FarmIntel, instance: dg.DagsterInstance, now: datetime) -> dg.RunRequest | dg.SkipReason:
    """Return the run to request for what is due, at most one under way.

    Raises:
        StoreError: the store cannot be read; the tick shows it.

    """
    records = compat.newest_runs(instance, PUMP_JOB, RUNS_LOOKED_AT)
    under_way = next((record for record in records if record.dagster_run.status in compat.UNFINISHED), None)
    if under_way is not None:
        run = under_way.dagster_run
        return dg.SkipReason(f"Run {run.run_id[:8]} is pumping ({run.status.value.lower()}).")
    work = container.pump.due()
    if work.occurrences or work.messages or work.steps:
        if (until := resting_until(records, work.batch)) is not None and now < until:
            return dg.SkipReason(f"The last run left what is due as it was: the next waits until {until:%H:%M:%S} UTC.")
        return pump_request(work, work.batch, records)
    if not records or now - _ended(records[0]) >= timedelta(seconds=QUIET_S):
        return pump_request(work, IDLE_BATCH, records)
    return dg.SkipReason("Nothing is due.")


def resting_until(records: Sequence[dg.RunRecord], batch: str) -> datetime | None:
    """Return until when no run is asked for after runs that left a batch as it is, None where none did.

    A run that failed but took some of it leaves another batch: what else is due need not wait for whatever fails.

    Args:
        records: the newest runs of the pump, newest first.
        batch: what is due.

    """
    fruitless = len(list(takewhile(lambda record: record.dagster_run.tags.get(PUMP_TAG) == batch, records)))
    if not fruitless:
        return None
    pause_s = min(FIRST_PAUSE_S * 2 ** (fruitless - 1), LONGEST_PAUSE_S)
    return _ended(records[0]) + timedelta(seconds=pause_s)


def pump_request(work: DueWork, batch: str, records: Sequence[dg.RunRecord]) -> dg.RunRequest:
    """Return the request for a run over a batch.

    Dagster remembers run keys for ever, and a batch whose run died is due again unchanged: so the key also names the
    run before it.
    """
    before = records[0].dagster_run.run_id[:8] if records else "first"
    tags = {
        PUMP_TAG: batch,
        DUE_TAG: f"{work.occurrences} occurrences, {work.messages} messages, {work.steps} steps",
    }
    if work.oldest is not None:
        tags[OLDEST_TAG] = work.oldest.isoformat(timespec="seconds")
    return dg.RunRequest(run_key=f"pump:{batch}:{before}", tags=tags)


def _ended(record: dg.RunRecord) -> datetime:
    """Return when a run ended; one that never started has only its last change."""
    if record.end_time is not None:
        return datetime.fromtimestamp(record.end_time, UTC)
    changed = record.update_timestamp
    return changed.replace(tzinfo=UTC) if changed.tzinfo is None else changed
