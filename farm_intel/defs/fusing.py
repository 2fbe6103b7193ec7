"""From providers to fused cells: ask them in order, fuse what is stored, tell each cell on the asset it belongs to."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.blocks import Cell, CellBlock, group_cells
from farm_intel.defs.cell_events import CellEvent, CellLedger, CellRecord
from farm_intel.defs.cell_metadata import CellDescriber
from farm_intel.defs.failures import as_failure, cells_failure
from farm_intel.defs.fused_metadata import describe_fused, judge_fused
from farm_intel.defs.groups import CohortGroup
from farm_intel.defs.partitions import cell_name, partition_key
from farm_intel.defs.recording import CellRecorder
from farm_intel.defs.resources import FarmIntelResource
from farm_intel.domain.assessment import FusedObservation
from farm_intel.domain.errors import CellsFailedError, FarmIntelError
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.observing.fallback import Switch, observe_in_order
from farm_intel.observing.model import CellOutcome, ObserveRequest

FUSED = "fused"
"""First part of the keys of fused assets, and what their runs are tagged with instead of a provider."""

Context = dg.AssetExecutionContext | dg.OpExecutionContext


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseWork:
    """What one run has to fuse."""

    group: CohortGroup
    slugs: tuple[str, ...]
    cells: tuple[Cell, ...]
    run_id: str
    deadlines_s: Mapping[str, float] = field(default_factory=dict)
    """Provider -> time for asking it; empty: nobody is asked, what is stored is fused."""
    complete: bool = False
    """Record cells nobody has a number of too: Dagster calls a backfill failed unless every cell has an event."""
    recheck: bool = True
    """False: leave the checks of unchanged cells alone."""


def fuse_cells(work: FuseWork, resource: FarmIntelResource, context: Context) -> Iterator[CellEvent]:
    """Ask for the cells, fuse them and yield the events of provider and fused assets.

    Raises:
        dg.Failure: after everything else is recorded, when no provider could answer for some cells, or the work could
            not go on.

    """
    with compat.quick_sqlite_events(context.instance):
        yield from _Fusing(work, resource, context).events()


class _Fusing:
    """One run over blocks of cells."""

    def __init__(self, work: FuseWork, resource: FarmIntelResource, context: Context) -> None:
        self._work = work
        self._resource = resource
        self._container = resource.container
        self._log = context.log
        self._ledger = CellLedger(instance=context.instance, run_id=work.run_id, recheck=work.recheck)
        pictures = len(work.cells) * len(work.slugs) <= resource.preview_max_cells
        describer = CellDescriber(pictures=self._container.pictures if pictures else None)
        self._recorders = {
            group.provider: CellRecorder(group=group, ledger=self._ledger, describer=describer)
            for group in work.group.groups
        }
        self._failures: dict[str, str] = {}
        self._switches: dict[str, str] = {}
        """Provider -> why it was asked last in place of another."""
        self._stood_in: dict[str, str] = {}
        """Name of a cell -> why another provider than the first one answered."""
        self._told: set[tuple[Cell, str]] = set()

    def events(self) -> Iterator[CellEvent]:
        work = self._work
        try:
            for block in group_cells(work.cells):
                if work.deadlines_s:
                    yield from self._ask(block)
                yield from self._fuse(block)
        except FarmIntelError as error:
            yield from self._ledger.flush()
            self._resource.watch.stopped(error)
            raise as_failure(error) from error
        yield from self._ledger.flush()
        if work.complete:
            yield from self._without_candidates()
        asked = len(work.cells) * len(work.slugs)
        self._log.info("%d cells asked: %d fused, %d failed", asked, len(self._told), len(self._failures))
        if self._failures:
            self._resource.watch.failed(work.run_id, self._failures)
            raise cells_failure(self._failures, asked)

    def _ask(self, block: CellBlock) -> Iterator[CellEvent]:
        """Observe a block with the first provider that can, each group of indices in its own order."""
        orders: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
        for slug in self._work.slugs:
            orders[tuple(self._container.provider_order(slug))].append(slug)
        for order, slugs in orders.items():
            if not order:
                self._log.warning("no provider that is set up serves %s: what is stored is fused", ", ".join(slugs))
                continue
            self._switches.clear()
            provider, collection = order[0]
            request = ObserveRequest(
                provider=provider,
                collection=collection,
                indices=tuple(slugs),
                farm_ids=block.farm_ids,
                days=block.days,
            )
            outcomes = observe_in_order(
                self._container.observing,
                request,
                order,
                run_id=self._work.run_id,
                deadline_s=sum(self._work.deadlines_s[name] for name, _ in order),
                on_switch=self._switched,
            )
            try:
                for outcome in outcomes:
                    yield from self._observed(outcome)
            except CellsFailedError as error:
                self._failures |= error.failures

    def _switched(self, switch: Switch) -> None:
        told = f"{switch.source} -> {switch.target}: {switch.reason}"
        self._switches[switch.target] = told
        self._log.warning("another provider is asked for up to %d cells: %s", switch.cells, told)

    def _observed(self, outcome: CellOutcome) -> Iterator[CellEvent]:
        self._resource.watch.cell(outcome)
        name = cell_name(outcome.key)
        if outcome.status is ObservationStatus.PROVIDER_FAILED:
            self._failures[name] = outcome.reason
            return
        switched = self._switches.get(outcome.key.provider, "")
        if switched and Flag.FALLBACK_PROVIDER in outcome.flags:
            self._stood_in[name] = switched
        yield from self._recorders[outcome.key.provider].record(outcome, switched=self._stood_in.get(name, ""))

    def _fuse(self, block: CellBlock) -> Iterator[CellEvent]:
        """Fuse a block; days beside it whose row changed are told as well, each on its own partition."""
        start, end = min(block.days), max(block.days)
        farm_ids, slugs = block.farm_ids, self._work.slugs
        before = self._container.assessments.fused_fingerprints(farm_ids=farm_ids, indices=slugs, start=start, end=end)
        days = set(block.days)
        for fused in self._container.assessing.fuse(farm_ids, slugs, start=start, end=end):
            changed = before.get((fused.farm_id, fused.index, fused.solar_day)) != fused.fingerprint
            asked = fused.solar_day in days
            failed = f"{partition_key(fused.solar_day, fused.farm_id)}|{fused.index}" in self._failures
            if changed or (asked and not failed):
                yield from self._record(fused, changed=changed or (asked and self._work.complete))

    def _record(self, fused: FusedObservation, *, changed: bool) -> Iterator[CellEvent]:
        cell = (fused.solar_day, fused.farm_id)
        self._told.add((cell, fused.index))
        stood_in = self._stood_in.get(f"{partition_key(*cell)}|{fused.index}", "")
        yield from self._ledger.record(
            CellRecord(
                asset_key=self._work.group.asset_key(FUSED, fused.index),
                partition=partition_key(*cell),
                changed=changed,
                describe=lambda: describe_fused(fused, stood_in),
                data_version=fused.fingerprint,
                check=judge_fused(fused, stood_in),
            )
        )

    def _without_candidates(self) -> Iterator[dg.AssetMaterialization]:
        """Yield a materialisation for every cell that was asked for and has no number, with each provider's reason."""
        open_cells = [
            (cell, slug)
            for cell in self._work.cells
            for slug in self._work.slugs
            if (cell, slug) not in self._told and f"{partition_key(*cell)}|{slug}" not in self._failures
        ]
        reasons = self._calendar(open_cells)
        for cell, slug in open_cells:
            yield dg.AssetMaterialization(
                asset_key=self._work.group.asset_key(FUSED, slug),
                partition=partition_key(*cell),
                metadata={"method": "none", "reason": reasons.get(cell, "no provider has a scene over the farm")},
            )

    def _calendar(self, cells: list[tuple[Cell, str]]) -> dict[Cell, str]:
        days: list[date] = [day for (day, _), _ in cells]
        said: dict[Cell, list[str]] = defaultdict(list)
        for farm_id in {farm_id for (_, farm_id), _ in cells}:
            for row in self._container.observations.calendar(farm_id=farm_id, start=min(days), end=max(days)):
                said[row.solar_day, farm_id].append(f"{row.provider}: {row.reason or row.status.value}")
        return {cell: "; ".join(reasons) for cell, reasons in said.items()}
