"""Backfills of our own: the same assets and run batching the UI uses, planned from what is really due.

`launch_block` executes in this process, `enqueue_block` leaves the work to the daemon; both show up in the UI.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import batched
from pathlib import Path
from uuid import uuid4

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.blocks import Cell, RowRun, pack_days, plan_runs
from farm_intel.defs.build import build_definitions
from farm_intel.defs.cell_quality import CHECK_NAME
from farm_intel.defs.due import group_tags
from farm_intel.defs.groups import AssetGroup, asset_groups
from farm_intel.defs.jobs import cells_run_config, observe_run_config
from farm_intel.defs.partitions import cell_name, date_window, partition_key, sync_farm_partitions
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource, RunWatch
from farm_intel.domain.errors import FarmIntelError, StoreError
from farm_intel.domain.observations import ObservationKey, ObservationStatus
from farm_intel.domain.ports import Progress
from farm_intel.observing.model import CellOutcome, ObserveRequest

QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}
"""Dagster prints every event and failure otherwise; the caller has the summary, the run's page has them all."""
EVENT_QUERY_CELLS = 500
"""Partitions asked about in one query of the event log; SQLite takes at most 32,766 parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSummary:
    """What a backfill did."""

    run_ids: tuple[str, ...]
    computed: int
    """Cells computed and stored by this backfill."""
    up_to_date: int
    """Cells of the block that were stored already and left alone."""
    by_status: Counter[ObservationStatus]
    """Stored cells of the block afterwards, by status."""
    failures: dict[str, str]
    """`day|farm|index` -> why it could not be computed for now; scenes that can never be read are in `by_status`."""
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> int:
        """Number of Dagster runs."""
        return len(self.run_ids)


@dataclass(slots=True)
class BackfillWatch(RunWatch):
    """Counts the cells of the runs it watches and reports progress over all of them."""

    total: int
    report: Progress | None = None
    seen: int = 0
    computed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Cells whose scenes cannot be read whatever we do: an answer, but Dagster shows them as failed."""
    failed_runs: set[str] = field(default_factory=set)
    error: FarmIntelError | None = None

    def cell(self, outcome: CellOutcome) -> None:
        """Count a stored cell."""
        self.seen += 1
        if outcome.status is ObservationStatus.PROVIDER_FAILED:
            self.unreadable[cell_name(outcome.key)] = outcome.reason
        else:
            self.computed += outcome.recomputed
        if self.report is not None:
            self.report.advance(min(self.seen, self.total), self.total, outcome.key.solar_day.isoformat())

    def failed(self, run_id: str, failures: Mapping[str, str]) -> None:
        """Remember cells that could not be computed."""
        self.failed_runs.add(run_id)
        self.failures |= {cell: reason for cell, reason in failures.items() if cell not in self.unreadable}

    def stopped(self, error: FarmIntelError) -> None:
        """Remember why a run ended early."""
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run to execute: a row by range tags, or listed cells."""

    job: str
    tags: Mapping[str, str]
    run_config: Mapping[str, object]
    assets: tuple[dg.AssetKey, ...] | None
    """Assets of a row to select; None for listed cells."""


def launch_block(
    container: FarmIntel, request: ObserveRequest, *, dagster_home: Path, progress: Progress | None = None
) -> LaunchSummary:
    """Backfill on the instance whose dagster.yaml lies in `dagster_home`; see launch_on."""
    with _ledger_errors(dagster_home), compat.open_instance(dagster_home) as instance:
        return launch_on(instance, container, request, progress=progress)


def launch_on(
    instance: dg.DagsterInstance,
    container: FarmIntel,
    request: ObserveRequest,
    *,
    progress: Progress | None = None,
) -> LaunchSummary:
    """Materialise what is missing or stale in a block of cells (everything with `force`), run by run, in this process.

    It can be stopped at any time: each cell is stored and recorded on its own, and the next call asks the store
    again. Cells that are stored but lack an event or its check (the process died in between) are recorded as well.

    Raises:
        TransientError: the catalogue does not answer.
        KeyboardInterrupt: the operator stopped a run; what was stored stays.

    """
    groups = _groups(container, request)
    notes = _index_notes(container, request)
    planned: list[tuple[AssetGroup, PlannedRun]] = []
    open_cells = 0
    for group, farm_ids in groups.items():
        due = _due_cells(container, group, request, farm_ids, instance)
        open_cells += sum(map(len, due.values()))
        planned.extend((group, run) for run in _plan(container, group, request, due, instance))
        if outside := _outside_window(container, due):
            notes.append(outside)
    watch = BackfillWatch(total=open_cells * len(request.indices), report=progress)
    definitions = build_definitions(
        container, resource=FarmIntelResource(container=container, watch=watch), extra_indices=request.indices
    )
    with compat.quick_sqlite_events(instance):
        run_ids = [_execute(definitions, group, run, instance, watch) for group, run in planned]
    return _summary(container, request, run_ids, watch, notes)


def enqueue_block(
    container: FarmIntel, request: ObserveRequest, *, dagster_home: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ask the daemon of the instance in `dagster_home` for a block; see enqueue_on."""
    with _ledger_errors(dagster_home), compat.open_instance(dagster_home) as instance:
        return enqueue_on(instance, container, request)


@contextmanager
def _ledger_errors(dagster_home: Path) -> Iterator[None]:
    """Tell a refusal of Dagster's own database as ours would be told."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        raise StoreError(
            f"Dagster's history in {dagster_home} cannot be read or written: {error.orig}.",
            hint="Check its disk and permissions, or its database; what was stored is kept.",
        ) from error


def enqueue_on(
    instance: dg.DagsterInstance, container: FarmIntel, request: ObserveRequest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ask the daemon for what is due in a block, as backfills it can show, cancel and retry.

    Days on which anything is due are asked for over the whole cohort, so that the daemon makes one run per day; a
    sparse selection would become one run per cell. Large requests become several backfills of at most
    `backfill_max_cells` cells.

    Returns:
        ids of the backfills, and notes on what was left out.

    Raises:
        TransientError: the catalogue does not answer.

    """
    definitions = build_definitions(container, extra_indices=request.indices)
    today = datetime.now(UTC)
    window = date_window(container.settings, today.date())
    ids: list[str] = []
    notes = _index_notes(container, request)
    for group, farm_ids in _groups(container, request).items():
        due = _due_cells(container, group, request, farm_ids, instance)
        partitions = instance.get_dynamic_partitions(group.dimension)
        days = [(day, partitions) for day in sorted(due) if day in window]
        if outside := _outside_window(container, due):
            notes.append(f"{outside} The daemon cannot be asked for them.")
        assets = [group.asset_key(slug) for slug in request.indices]
        limit = max(1, container.settings.backfill_max_cells // len(assets))
        for number, cells in enumerate(pack_days(days, limit)):
            ids.append(f"{group.name}-{uuid4().hex[:8]}")
            compat.request_backfill(
                instance,
                definitions,
                backfill_id=ids[-1],
                assets=assets,
                partitions=[partition_key(*cell) for cell in cells],
                timestamp=today.timestamp(),
                title=f"{group.provider} {cells[0][0]} to {cells[-1][0]}" + (f" ({number + 1})" if number else ""),
            )
    return tuple(ids), tuple(notes)


def _groups(container: FarmIntel, request: ObserveRequest) -> dict[AssetGroup, tuple[str, ...]]:
    """Return the groups a request touches and which of its farms belong to each."""
    touched: dict[AssetGroup, tuple[str, ...]] = {}
    for group in asset_groups(container, extra_indices=request.indices):
        members = {farm.farm_id for farm in container.farms.list(cohort=group.cohort)}
        farm_ids = tuple(farm_id for farm_id in request.farm_ids if farm_id in members)
        if group.provider == request.provider and farm_ids:
            touched[group] = farm_ids
    return touched


def _due_cells(
    container: FarmIntel,
    group: AssetGroup,
    request: ObserveRequest,
    farm_ids: tuple[str, ...],
    instance: dg.DagsterInstance,
) -> dict[date, tuple[str, ...]]:
    """Return day -> farms to run: missing or stale in the store, or stored but not recorded; all with `force`."""
    sync_farm_partitions(instance, group.dimension, container.farms.list(cohort=group.cohort))
    due = container.observing.due(
        provider=request.provider,
        collection=request.collection,
        farm_ids=farm_ids,
        indices=request.indices,
        days=request.days,
    )
    cells = {(day, farm_id) for day, farms in due.by_day.items() for farm_id in farms}
    stored = _stored(container, request, farm_ids)
    cells |= {(key.solar_day, key.farm_id) for key in stored} if request.force else _unrecorded(group, stored, instance)
    by_day: dict[date, list[str]] = defaultdict(list)
    for farm_id in farm_ids:
        for day in request.days:
            if (day, farm_id) in cells:
                by_day[day].append(farm_id)
    return {day: tuple(by_day[day]) for day in sorted(by_day)}


def _stored(
    container: FarmIntel, request: ObserveRequest, farm_ids: Sequence[str]
) -> dict[ObservationKey, ObservationStatus]:
    days = set(request.days)
    rows = container.observations.fingerprints(
        provider=request.provider,
        collection=request.collection,
        farm_ids=farm_ids,
        indices=request.indices,
        start=min(days),
        end=max(days),
    )
    return {key: status for key, (_, status) in rows.items() if key.solar_day in days}


def _unrecorded(
    group: AssetGroup, stored: Mapping[ObservationKey, ObservationStatus], instance: dg.DagsterInstance
) -> set[Cell]:
    """Return stored cells without a materialisation or its check: the process died between storing and recording."""
    missing: set[Cell] = set()
    by_slug: dict[str, list[ObservationKey]] = defaultdict(list)
    for key, status in stored.items():
        if status not in {ObservationStatus.NO_ACQUISITION, ObservationStatus.PROVIDER_FAILED}:
            by_slug[key.index].append(key)
    for slug, keys in by_slug.items():
        for chunk in batched(keys, EVENT_QUERY_CELLS):
            names = {partition_key(key.solar_day, key.farm_id): key for key in chunk}
            recorded = compat.checked_partitions(instance, group.asset_key(slug), CHECK_NAME, names)
            missing |= {(key.solar_day, key.farm_id) for name, key in names.items() if name not in recorded}
    return missing


def _plan(
    container: FarmIntel,
    group: AssetGroup,
    request: ObserveRequest,
    due: Mapping[date, Sequence[str]],
    instance: dg.DagsterInstance,
) -> list[PlannedRun]:
    partitions = instance.get_dynamic_partitions(group.dimension)
    window = date_window(container.settings, datetime.now(UTC).date())
    plan = plan_runs(
        due, partitions, max_cells=container.settings.run_max_cells, rows_allowed=[day for day in due if day in window]
    )
    whole_cohort = len(partitions) == len(request.farm_ids) or not plan.rows
    if not whole_cohort:
        # A row would compute farms nobody asked for.
        plan = plan_runs(due, partitions, max_cells=container.settings.run_max_cells, rows_allowed=())
    return [_row_run(group, request, row, partitions) for row in plan.rows] + [
        _cells_run(group, request, cells) for cells in plan.leftovers
    ]


def _row_run(group: AssetGroup, request: ObserveRequest, row: RowRun, partitions: Sequence[str]) -> PlannedRun:
    return PlannedRun(
        job=group.observe_job,
        tags={
            compat.RANGE_START_TAG: partition_key(row.start, partitions[0]),
            compat.RANGE_END_TAG: partition_key(row.end, partitions[-1]),
            **group_tags(group, row.start, row.end),
        },
        run_config=observe_run_config(group, force=request.force),
        assets=tuple(group.asset_key(slug) for slug in request.indices),
    )


def _cells_run(group: AssetGroup, request: ObserveRequest, cells: Sequence[Cell]) -> PlannedRun:
    return PlannedRun(
        job=group.cells_job,
        tags=group_tags(group, cells[0][0], cells[-1][0]),
        run_config=cells_run_config(
            group, [partition_key(*cell) for cell in cells], slugs=request.indices, force=request.force
        ),
        assets=None,
    )


def _execute(
    definitions: dg.Definitions,
    group: AssetGroup,
    run: PlannedRun,
    instance: dg.DagsterInstance,
    watch: BackfillWatch,
) -> str:
    with compat.expected_previews():
        job = definitions.resolve_job_def(run.job)
    result = job.execute_in_process(
        instance=instance,
        tags=dict(run.tags),
        run_config={**run.run_config, "loggers": QUIET},
        asset_selection=run.assets,
        raise_on_error=False,
    )
    if watch.error is not None:
        raise watch.error
    if _was_stopped(result):
        raise KeyboardInterrupt
    if not result.success and result.run_id not in watch.failed_runs:
        raise StoreError(
            f"Dagster run {result.run_id} of {group.name} failed for a reason of its own",
            hint="The run's page in the Dagster UI (`farm-intel up`) has the traceback.",
        )
    return result.run_id


def _was_stopped(result: dg.ExecuteInProcessResult) -> bool:
    """Return whether a signal ended the run; Dagster calls it failed where nobody asked it for a termination."""
    if result.dagster_run.status is dg.DagsterRunStatus.CANCELED:
        return True
    errors = (getattr(event.event_specific_data, "error", None) for event in result.all_events if event.is_failure)
    return any(error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__ for error in errors)


def _summary(
    container: FarmIntel, request: ObserveRequest, run_ids: Sequence[str], watch: BackfillWatch, notes: Sequence[str]
) -> LaunchSummary:
    stored = _stored(container, request, request.farm_ids)
    if watch.unreadable:
        cell, reason = next(iter(watch.unreadable.items()))
        notes = [*notes, f"{len(watch.unreadable)} cells have only scenes that cannot be read, e.g. {cell}: {reason}"]
    kept = sum(1 for status in stored.values() if status is not ObservationStatus.PROVIDER_FAILED)
    return LaunchSummary(
        run_ids=tuple(run_ids),
        computed=watch.computed,
        up_to_date=max(0, kept - watch.computed),
        by_status=Counter(stored.values()),
        failures=watch.failures,
        notes=tuple(notes),
    )


def _index_notes(container: FarmIntel, request: ObserveRequest) -> list[str]:
    extra = [slug for slug in request.indices if slug not in container.settings.asset_indices]
    if not extra:
        return []
    return [f"{', '.join(extra)}: stored, but no asset in the UI until FARM_INTEL_ASSET_INDICES names it."]


def _outside_window(container: FarmIntel, due: Mapping[date, Sequence[str]]) -> str:
    window = date_window(container.settings, datetime.now(UTC).date())
    outside = [day for day in due if day not in window]
    if not outside:
        return ""
    return (
        f"{len(outside)} days lie outside the date window {window.start} to {window.end} that the UI shows; "
        f"set FARM_INTEL_HISTORY_START={min(outside)} to see them there."
    )
