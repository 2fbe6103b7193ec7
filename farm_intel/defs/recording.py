"""From a provider's outcomes to Dagster events: every cell is recorded as soon as it is stored, with its own check."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.blocks import Cell, group_cells
from farm_intel.defs.cell_events import CellCheck, CellEvent, CellLedger, CellRecord
from farm_intel.defs.cell_metadata import CellDescriber
from farm_intel.defs.cell_quality import CHECK_NAME, judge_cell, verdict_metadata
from farm_intel.defs.failures import as_failure, cells_failure
from farm_intel.defs.groups import AssetGroup
from farm_intel.defs.in_time import in_time
from farm_intel.defs.partitions import cell_name, partition_key
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.domain.errors import CellsFailedError, FarmIntelError
from farm_intel.domain.observations import ObservationStatus
from farm_intel.indices.index import SpectralIndex
from farm_intel.observing.model import CellOutcome, ObserveRequest


@dataclass(slots=True, kw_only=True)
class CellRecorder:
    """Tells the outcomes of one group's cells on its assets."""

    group: AssetGroup
    ledger: CellLedger
    describer: CellDescriber
    indices: Mapping[str, SpectralIndex] = field(init=False)

    def __post_init__(self) -> None:
        """Look up indices by slug once."""
        self.indices = {index.slug: index for index in self.group.indices}

    def record(self, outcome: CellOutcome, *, switched: str = "") -> Iterator[CellEvent]:
        """Yield what can be told about a cell now; its check follows with the chunk.

        Args:
            outcome: what became of the cell.
            switched: why this provider was asked instead of another; empty where it was not.

        """
        if outcome.status is ObservationStatus.NO_ACQUISITION:
            return
        verdict = judge_cell(outcome, self.indices[outcome.key.index])
        told = {"fallback": switched} if switched else {}
        yield from self.ledger.record(
            CellRecord(
                asset_key=self.group.asset_key(outcome.key.index),
                partition=partition_key(outcome.key.solar_day, outcome.key.farm_id),
                changed=outcome.recomputed,
                describe=lambda: self.describer.describe(outcome) | told,
                data_version=outcome.fingerprint,
                check=CellCheck(
                    name=CHECK_NAME,
                    passed=verdict.passed,
                    severity=verdict.severity,
                    metadata=verdict_metadata(verdict, outcome) | told,
                ),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellWork:
    """What one run has to do."""

    group: AssetGroup
    slugs: tuple[str, ...]
    cells: tuple[Cell, ...]
    force: bool
    run_id: str
    deadline_s: float
    """Time for observing each block of cells."""
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
        ledger=CellLedger(instance=context.instance, run_id=work.run_id),
        describer=CellDescriber(pictures=container.pictures if asked <= resource.preview_max_cells else None),
    )
    failures: dict[str, str] = {}
    tally: dict[str, int] = {}
    answered: set[tuple[Cell, str]] = set()
    for request in work.requests():
        try:
            observed = container.observing.observe(request, run_id=work.run_id, progress=resource.watch.progress)
            for outcome in in_time(observed, work.deadline_s, f"observing with {work.group.provider}"):
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
            yield from recorder.ledger.flush()
            resource.watch.stopped(error)
            raise as_failure(error) from error
    yield from recorder.ledger.flush()
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
