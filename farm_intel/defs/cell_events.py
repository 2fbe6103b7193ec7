"""Cells as Dagster events: recorded as soon as they are stored, with one check each; what is missing is repaired.

The order matters: the store commits, then the materialisation is recorded, then (in chunks) the check that judges it.
A run that dies in between is repaired by the next run over the same cells: it finds them unchanged, and whatever event
is missing is recorded then.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from farm_intel.defs import compat

CellEvent = dg.AssetMaterialization | dg.AssetCheckEvaluation
Metadata = Mapping[str, dg.MetadataValue | str | bool | int | float]

CHUNK_CELLS = 100
"""Cells whose checks are recorded together: one query finds the materialisations they judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCheck:
    """The check result of one cell."""

    name: str
    passed: bool
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN
    metadata: Mapping[str, str | bool | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRecord:
    """A stored cell of an asset, about to be told."""

    asset_key: dg.AssetKey
    partition: str
    changed: bool
    """False: stored before just so; it is materialised only where no event tells of it."""
    describe: Callable[[], Metadata]
    """Makes the materialisation's metadata; pictures cost, so only when they are needed."""
    data_version: str = ""
    check: CellCheck | None = None

    def materialization(self) -> dg.AssetMaterialization:
        """Return the event that tells of the cell."""
        return dg.AssetMaterialization(
            asset_key=self.asset_key,
            partition=self.partition,
            metadata=dict(self.describe()),
            tags={"dagster/data_version": self.data_version} if self.data_version else None,
        )


@dataclass(slots=True, kw_only=True)
class CellLedger:
    """Turns the cells of one run into events, in chunks."""

    instance: dg.DagsterInstance
    run_id: str
    recheck: bool = True
    """False: unchanged cells that have a finished check get no other, which spares large runs that change little."""
    pending: list[CellRecord] = field(default_factory=list)

    def record(self, cell: CellRecord) -> Iterator[CellEvent]:
        """Yield what can be told about a cell now; its check follows with the chunk."""
        if cell.changed:
            yield cell.materialization()
        self.pending.append(cell)
        if len(self.pending) >= CHUNK_CELLS:
            yield from self.flush()

    def flush(self) -> Iterator[CellEvent]:
        """Yield missing materialisations of unchanged cells, and the checks of the chunk."""
        cells, self.pending = self.pending, []
        by_asset: dict[dg.AssetKey, dict[str, CellRecord]] = {}
        for cell in cells:
            by_asset.setdefault(cell.asset_key, {})[cell.partition] = cell
        for asset_key, members in by_asset.items():
            yield from self._flush_asset(asset_key, members if self.recheck else self._untold(asset_key, members))

    def _untold(self, asset_key: dg.AssetKey, cells: Mapping[str, CellRecord]) -> dict[str, CellRecord]:
        """Return the cells without those that are unchanged and have everything that would be told of them."""
        named: dict[str, set[str]] = {}
        for partition, cell in cells.items():
            if cell.check is not None and not cell.changed:
                named.setdefault(cell.check.name, set()).add(partition)
        done = {
            partition
            for name, partitions in named.items()
            for partition in compat.checked_partitions(self.instance, asset_key, name, partitions)
        }
        return {partition: cell for partition, cell in cells.items() if partition not in done}

    def _flush_asset(self, asset_key: dg.AssetKey, cells: Mapping[str, CellRecord]) -> Iterator[CellEvent]:
        ids = compat.materialization_ids(self.instance, asset_key, cells)
        unrecorded = [cell for partition, cell in cells.items() if partition not in ids]
        for cell in unrecorded:
            yield cell.materialization()
        ids |= compat.materialization_ids(self.instance, asset_key, [cell.partition for cell in unrecorded])
        now = datetime.now(UTC).timestamp()
        for partition, cell in cells.items():
            if cell.check is None:
                continue
            yield compat.cell_check(
                asset_key=asset_key,
                name=cell.check.name,
                partition=partition,
                passed=cell.check.passed,
                severity=cell.check.severity,
                metadata=cell.check.metadata,
                storage_id=ids[partition],
                run_id=self.run_id,
                timestamp=now,
            )
