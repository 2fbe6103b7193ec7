"""The scoreboard: stored observations against the world's truth."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Protocol

import numpy as np

from farm_intel.domain.observations import Flag, Observation, ObservationStatus
from farm_intel.simulation.scenes import plan_scenes
from farm_intel.simulation.world import EvaluableIndex, FarmWorld

ALL = "all"
PURE, MIXED, UNEVEN, UNEVEN_PART = "pure", "mixed", "uneven", "uneven_part"
"""How a cell was measured: an even field from pixels wholly inside; any field with edge pixels (flag mixed_pixels); an
uneven field from pixels wholly inside, which leave out its rim and so weigh it a little differently than its area does;
part of an uneven field, whose mean the hidden rest would have changed (no sensor can know: nothing is judged by it)."""


class IndexLookup(Protocol):
    """Where the indices' formulas come from."""

    def get(self, slug: str, /) -> EvaluableIndex:
        """Return one index; UnknownNameError where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyTarget:
    """A limit that rows of the scoreboard are held to (ARCHITECTURE, section 3)."""

    name: str
    measure: str
    """`bias` (its absolute value) or `p95`."""
    limit: float
    """Index units."""
    purity: str
    """Rows it judges: `all` or `pure`."""
    indices: frozenset[str] | None = None
    """Slugs it judges; None: every index."""
    min_size_ha: float = 0.0
    """Smallest field size class it judges."""
    min_cells: int = 1
    """With fewer cells a row is left to the row that sums it up."""


TARGETS: tuple[AccuracyTarget, ...] = (
    AccuracyTarget(
        name="bias <= 0.01 from 0.25 ha",
        measure="bias",
        limit=0.01,
        purity=ALL,
        indices=frozenset({"ndvi"}),
        min_size_ha=0.25,
        min_cells=10,
    ),
    AccuracyTarget(name="p95 <= 0.005 pure", measure="p95", limit=0.005, purity=PURE, min_cells=20),
)
"""A 95th percentile of fewer than 20 cells is their maximum, and a mean of fewer than 10 tells of one cloud's edge
rather than of a bias: such rows are judged in the sums over dialects and sizes they are part of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRow:
    """One line of the scoreboard; errors are observed mean minus true mean, in index units."""

    index: str
    size_class_ha: float | None
    """None: all sizes."""
    dialect: str
    """A RadiometricDialect, `mixed` where scenes of several were merged, or `all`."""
    purity: str
    """`pure`, `mixed`, `uneven`, `uneven_part` or `all` (the first three)."""
    n: int
    bias: float
    mae: float
    p95: float
    judged_by: tuple[str, ...]
    """Names of the targets this row is held to."""
    failed: tuple[str, ...]
    """Those it misses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyReport:
    """What the scoreboard says."""

    rows: tuple[AccuracyRow, ...]
    targets: tuple[AccuracyTarget, ...]
    scored: int
    """Cells with a number and a truth."""
    not_scored: Mapping[str, int]
    """Cells without a number by status, and `unknown_farm` for farms that are not the world's."""

    @property
    def failed_targets(self) -> tuple[str, ...]:
        """One line for every row and target that is missed, and for a target that judged nothing."""
        missed = [
            f"{name}: {row.index}, {_size_text(row.size_class_ha)}, {row.dialect}, {row.purity}:"
            f" bias {row.bias:+.4f}, p95 {row.p95:.4f}, n {row.n}"
            for row in self.rows
            for name in row.failed
        ]
        judging = {name for row in self.rows for name in row.judged_by}
        return tuple(missed + [f"{t.name}: no row to judge" for t in self.targets if t.name not in judging])

    def table(self) -> list[dict[str, str]]:
        """The rows as text, for a table."""
        return [
            {
                "index": row.index,
                "size": _size_text(row.size_class_ha),
                "dialect": row.dialect,
                "purity": row.purity,
                "n": str(row.n),
                "bias": f"{row.bias:+.4f}",
                "mae": f"{row.mae:.4f}",
                "p95": f"{row.p95:.4f}",
                "target": "; ".join(row.judged_by) or "-",
                "verdict": ("missed" if row.failed else "met") if row.judged_by else "-",
            }
            for row in self.rows
        ]

    def as_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "scored": self.scored,
            "not_scored": dict(self.not_scored),
            "targets": [{**asdict(t), "indices": sorted(t.indices) if t.indices else None} for t in self.targets],
            "failed_targets": list(self.failed_targets),
            "rows": [asdict(row) for row in self.rows],
        }


@dataclass(frozen=True, slots=True)
class _Cell:
    index: str
    size_class_ha: float
    dialect: str
    purity: str
    error: float


def score(
    world: FarmWorld,
    observations: Iterable[Observation],
    indices: IndexLookup,
    *,
    targets: tuple[AccuracyTarget, ...] = TARGETS,
) -> AccuracyReport:
    """Return the scoreboard of observations against the world's truth.

    Cells without a number are counted by status, not scored. Rows are given per index x size class x dialect x purity,
    and summed up over dialects, over sizes and over purities.

    Args:
        world: whose truth counts.
        observations: any; of every provider that looked at the world.
        indices: where formulas come from, e.g. the registry.
        targets: what to judge by.

    """
    dialects = {scene.scene_id: scene.dialect.value for scene in plan_scenes(world)}
    known = {farm.farm_id: farm for farm in world.farms}
    truth: dict[tuple[str, date, str], float] = {}
    cells: list[_Cell] = []
    not_scored: dict[str, int] = defaultdict(int)
    for seen in observations:
        farm = known.get(seen.key.farm_id)
        if farm is None:
            not_scored["unknown_farm"] += 1
            continue
        if seen.status is not ObservationStatus.OBSERVED or seen.statistics is None:
            not_scored[seen.status.value] += 1
            continue
        place = (seen.key.farm_id, seen.key.solar_day, seen.key.index)
        if place not in truth:
            truth[place] = world.true_index(place[0], place[1], indices.get(place[2]))
        cells.append(
            _Cell(
                seen.key.index,
                farm.size_class_ha,
                _dialect(seen, dialects),
                _purity(seen, even=farm.even),
                seen.statistics.mean - truth[place],
            )
        )
    return AccuracyReport(
        rows=_rows(cells, targets), targets=targets, scored=len(cells), not_scored=dict(sorted(not_scored.items()))
    )


def _dialect(seen: Observation, dialects: Mapping[str, str]) -> str:
    found = {dialects.get(scene_id, "unknown") for scene_id in seen.scene_ids}
    return found.pop() if len(found) == 1 else ("mixed" if found else "unknown")


def _purity(seen: Observation, *, even: bool) -> str:
    partial = seen.valid_pixel_fraction < 0.99
    if partial and not even:
        return UNEVEN_PART
    if Flag.MIXED_PIXELS in seen.flags:
        return MIXED
    return PURE if even else UNEVEN


def _rows(cells: list[_Cell], targets: tuple[AccuracyTarget, ...]) -> tuple[AccuracyRow, ...]:
    groups: dict[tuple[str, float, str, str], list[float]] = defaultdict(list)
    for cell in cells:
        purities = (cell.purity,) if cell.purity == UNEVEN_PART else (cell.purity, ALL)
        for size in (cell.size_class_ha, math.inf):
            for dialect in (cell.dialect, ALL):
                for purity in purities:
                    groups[cell.index, size, dialect, purity].append(cell.error)
    return tuple(
        _row(
            index,
            None if math.isinf(size) else size,
            dialect,
            purity,
            np.array(groups[index, size, dialect, purity]),
            targets,
        )
        for index, size, dialect, purity in sorted(groups)
    )


def _row(
    index: str,
    size: float | None,
    dialect: str,
    purity: str,
    errors: np.ndarray[tuple[int], np.dtype[np.float64]],
    targets: tuple[AccuracyTarget, ...],
) -> AccuracyRow:
    bias = float(errors.mean())
    p95 = float(np.percentile(np.abs(errors), 95))
    measures = {"bias": abs(bias), "p95": p95}
    judges = [target for target in targets if _judges(target, index, size, purity, errors.size)]
    return AccuracyRow(
        index=index,
        size_class_ha=size,
        dialect=dialect,
        purity=purity,
        n=int(errors.size),
        bias=bias,
        mae=float(np.abs(errors).mean()),
        p95=p95,
        judged_by=tuple(target.name for target in judges),
        failed=tuple(target.name for target in judges if not measures[target.measure] <= target.limit),
    )


def _judges(target: AccuracyTarget, index: str, size: float | None, purity: str, cells: int) -> bool:
    """Return True where a target applies; rows over all sizes include small fields, so a size limit excludes them."""
    return (
        (target.indices is None or index in target.indices)
        and purity == target.purity
        and (target.min_size_ha <= 0.0 if size is None else size >= target.min_size_ha)
        and cells >= target.min_cells
    )


def _size_text(size_class_ha: float | None) -> str:
    return "all sizes" if size_class_ha is None else f"{size_class_ha:g} ha"
