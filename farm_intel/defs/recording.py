"""From outcomes to Dagster events: every cell is recorded as soon as it is stored, with its own check result.

The order matters: the store commits, then the materialisation is recorded, then (in chunks) the check that judges it.
A run that dies in between is repaired by the next run over the same cells: the service reports them as up to date,
and whatever event is missing is recorded then.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.blocks import Cell, group_cells
from farm_intel.defs.cell_metadata import CellDescriber
from farm_intel.defs.cell_quality import CHECK_NAME, judge_cell, verdict_metadata
from farm_intel.defs.failures import as_failure, cells_failure
from farm_intel.defs.groups import AssetGroup
from farm_intel.defs.partitions import cell_name, partition_key
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.domain.errors import CellsFailedError, FarmIntelError
from farm_intel.domain.observations import ObservationStatus
from farm_intel.indices.index import SpectralIndex
from farm_intel.observing.model import CellOutcome, ObserveRequest

CellEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation

CHUNK_CELLS = 100
"""Cells whose checks are recorded together: one query finds the materialisations they judge."""


@dataclass(slots=True, kw_only=True)
class CellRecorder:
    """Turns the outcomes of one run into events, in chunks."""

    group: AssetGroup
    instance: dg.DagsterInstance
    run_id: str
    describer: CellDescriber
    indices: Mapping[str, SpectralIndex] = field(init=False)
    pending: list[CellOutcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Look up indices by slug once."""
        self.indices = {index.slug: index for index in self.group.indices}

    def record(self, outcome: CellOutcome) -> Iterator[CellEvent]:
        """Yield what can be told about a cell now; its check follows with the chunk."""
        if outcome.status is ObservationStatus.NO_ACQUISITION:
            return
        if outcome.recomputed:
            yield self._materialization(outcome)
        self.pending.append(outcome)
        if len(self.pending) >= CHUNK_CELLS:
            yield from self.flush()

    def flush(self) -> Iterator[CellEvent]:
        """Yield missing materialisations of up-to-date cells, and the checks of the chunk."""
        outcomes, self.pending = self.pending, []
        by_slug: dict[str, list[CellOutcome]] = {}
        for outcome in outcomes:
            by_slug.setdefault(outcome.key.index, []).append(outcome)
        for slug, members in by_slug.items():
            yield from self._flush_asset(self.group.asset_key(slug), members)

    def _flush_asset(self, asset_key: dg.AssetKey, outcomes: Sequence[CellOutcome]) -> Iterator[CellEvent]:
        keyed = {_partition(outcome): outcome for outcome in outcomes}
        ids = compat.materialization_ids(self.instance, asset_key, keyed)
        unrecorded = [outcome for key, outcome in keyed.items() if key not in ids]
        for outcome in unrecorded:
            yield self._materialization(outcome)
        ids |= compat.materialization_ids(self.instance, asset_key, [_partition(outcome) for outcome in unrecorded])
        now = datetime.now(UTC).timestamp()
        for key, outcome in keyed.items():
            verdict = judge_cell(outcome, self.indices[outcome.key.index])
            yield compat.cell_check(
                asset_key=asset_key,
                name=CHECK_NAME,
                partition=key,
                passed=verdict.passed,
                severity=verdict.severity,
                metadata=verdict_metadata(verdict, outcome),
                storage_id=ids[key],
                run_id=self.run_id,
                timestamp=now,
            )

    def _materialization(self, outcome: CellOutcome) -> dg.AssetMaterialization:
        return dg.AssetMaterialization(
            asset_key=self.group.asset_key(outcome.key.index),
            partition=_partition(outcome),
            metadata=self.describer.describe(outcome),
            tags={"dagster/data_version": outcome.fingerprint} if outcome.fingerprint else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellWork:
    """What one run has to do."""

    group: AssetGroup
    slugs: tuple[str, ...]
    cells: tuple[Cell, ...]
    force: bool
    run_id: str
    complete: bool = False
    """Record cells without a scene too: Dagster calls a backfill failed unless every cell it asked for has an event."""

    def requests(self) -> Iterator[ObserveRequest]:
        """Yield the work as blocks for the use case."""
        for block in group_cells(self.cells):
            yield ObserveRequest(
                provider=self.group.provider,
                collection=self.group.collection,
                indices=self.slugs,
                farm_ids=block.farm_ids,
                days=block.days,
                force=self.force,
            )


def observe_cells(
    work: CellWork, resource: FarmIntelResource, context: dg.AssetExecutionContext | dg.OpExecutionContext
) -> Iterator[CellEvent]:
    """Observe the cells and yield their events.

    Raises:
        dg.Failure: after everything else is recorded, when cells could not be computed or the work could not go on.

    """
    with compat.quick_sqlite_events(context.instance):
        yield from _observe_cells(work, resource, context)


def _observe_cells(
    work: CellWork, resource: FarmIntelResource, context: dg.AssetExecutionContext | dg.OpExecutionContext
) -> Iterator[CellEvent]:
    asked = len(work.cells) * len(work.slugs)
    container = resource.container
    recorder = CellRecorder(
        group=work.group,
        instance=context.instance,
        run_id=work.run_id,
        describer=CellDescriber(pictures=container.pictures if asked <= resource.preview_max_cells else None),
    )
    failures: dict[str, str] = {}
    tally: dict[str, int] = {}
    answered: set[tuple[Cell, str]] = set()
    for request in work.requests():
        try:
            for outcome in container.observing.observe(request, run_id=work.run_id, progress=resource.watch.progress):
                resource.watch.cell(outcome)
                tally[outcome.status.value] = tally.get(outcome.status.value, 0) + 1
                answered.add(((outcome.key.solar_day, outcome.key.farm_id), outcome.key.index))
                if outcome.status is ObservationStatus.PROVIDER_FAILED:
                    failures[cell_name(outcome.key)] = outcome.reason
                else:
                    yield from recorder.record(outcome)
        except CellsFailedError as error:
            failures |= error.failures
        except FarmIntelError as error:
            yield from recorder.flush()
            resource.watch.stopped(error)
            raise as_failure(error) from error
    yield from recorder.flush()
    if work.complete:
        yield from _without_scene(work, container, answered, failures)
    context.log.info("%d cells asked: %s; %d failed", asked, tally or "no scene over these farms", len(failures))
    if failures:
        resource.watch.failed(work.run_id, failures)
        raise cells_failure(failures, asked)


def _without_scene(
    work: CellWork, container: FarmIntel, answered: Collection[tuple[Cell, str]], failures: Mapping[str, str]
) -> Iterator[dg.AssetMaterialization]:
    """Yield a materialisation for every cell that was asked for and has no scene, with the calendar's reason."""
    open_farms = {cell[1] for cell in work.cells for slug in work.slugs if (cell, slug) not in answered}
    days = [day for day, _ in work.cells]
    calendar = {
        (row.solar_day, row.farm_id): row
        for farm_id in open_farms
        for row in container.observations.calendar(
            farm_id=farm_id, provider=work.group.provider, start=min(days), end=max(days)
        )
        if row.collection == work.group.collection
    }
    for cell in work.cells:
        for slug in work.slugs:
            key = partition_key(*cell)
            if (cell, slug) in answered or f"{key}|{slug}" in failures:
                continue
            row = calendar.get(cell)
            status = row.status if row is not None else ObservationStatus.NO_ACQUISITION
            reason = row.reason if row is not None else "no scene over the farm in the catalogue yet"
            yield dg.AssetMaterialization(
                asset_key=work.group.asset_key(slug),
                partition=key,
                metadata={"status": status.value, "reason": reason},
            )


def _partition(outcome: CellOutcome) -> str:
    return partition_key(outcome.key.solar_day, outcome.key.farm_id)
