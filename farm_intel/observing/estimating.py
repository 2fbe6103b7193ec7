"""What a plan would cost. The unit costs are measured (benchmarks/), the counts come from headers and catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Protocol

from farm_intel.observing.model import Explanation
from farm_intel.observing.planning import ObservePlan

CPU_SECONDS_PER_BLOCK = 0.004
"""Inflating and un-differencing one 1024 x 1024 uint16 block (reference/performance.md section 4)."""
CPU_SECONDS_PER_CELL = 0.0002
"""Statistics, raster, rows and events of one farm, day and index in a batch."""
WALL_SECONDS_PER_REQUEST = 0.030 / 32
"""30 ms of latency with 32 requests in flight."""


class PlanSummary(Protocol):
    """What the engine says reading would touch."""

    blocks: int
    requests: int
    bytes_to_fetch: int
    farm_days: int


def free_of_charge(summary: PlanSummary) -> float:  # noqa: ARG001 - the price list of providers without one
    """Return 0: nothing is charged for reading."""
    return 0.0


def explain_plan(plan: ObservePlan, summaries: Sequence[PlanSummary], units: float = 0.0) -> Explanation:
    """Return the cost of a plan as plain numbers."""
    blocks = sum(summary.blocks for summary in summaries)
    requests = sum(summary.requests for summary in summaries)
    cpu_seconds = blocks * CPU_SECONDS_PER_BLOCK + plan.to_compute * CPU_SECONDS_PER_CELL
    done_per_day = Counter(day for day, _, _ in plan.up_to_date)
    cells_per_day = Counter(day for day, _ in plan.fingerprints)
    indices = len(plan.request.indices)
    return Explanation(
        provider=plan.request.provider,
        collection=plan.request.collection,
        farms=len(plan.request.farm_ids),
        days_asked=len(plan.request.days),
        days_with_scenes=len({day for day, _ in plan.found.by_cell}),
        scenes=len({scene_id for ids in plan.found.by_cell.values() for scene_id in ids}),
        cells=plan.cells,
        cells_up_to_date=len(plan.up_to_date),
        cells_to_compute=plan.to_compute,
        blocks=blocks,
        requests=requests + plan.found.requests,
        bytes_to_fetch=sum(summary.bytes_to_fetch for summary in summaries),
        cpu_seconds=round(cpu_seconds, 2),
        wall_seconds=round(max(cpu_seconds / 2, requests * WALL_SECONDS_PER_REQUEST), 2),
        units=round(units, 2),
        notes=(
            "blocks and requests are counted from the image headers; bytes assume a compression of 1.6",
            "time assumes two cores and 30 ms of latency",
            *(f"problem: {problem}" for problem in plan.found.problems[:20]),
        ),
        per_day=tuple(
            (day, _scenes_on(plan, day), cells_per_day[day] * indices - done_per_day[day])
            for day in sorted({day for day, _ in plan.found.by_cell})
        ),
    )


def _scenes_on(plan: ObservePlan, day: date) -> int:
    return len({s for (d, _), ids in plan.found.by_cell.items() if d == day for s in ids})
