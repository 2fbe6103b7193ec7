"""A block of cells through the Dagster assets, so that what the command line does can be seen in the UI."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from farm_intel.bootstrap import Container
from farm_intel.cli.installing import prepare_dagster_home
from farm_intel.domain.observations import ObservationStatus
from farm_intel.domain.ports import Progress
from farm_intel.observing.model import ObserveRequest


@dataclass(slots=True)
class BackfillSummary:
    """What a backfill did."""

    by_status: Counter[ObservationStatus] = field(default_factory=Counter)
    computed: int = 0
    up_to_date: int = 0
    runs: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """`day|farm|index` -> reason."""
    notes: tuple[str, ...] = ()
    """What an operator should know: scenes that cannot be read, days the UI does not show."""


def run_backfill(container: Container, request: ObserveRequest, progress: Progress) -> BackfillSummary:
    """Run the request through the assets, in this process, and return what became of it."""
    from farm_intel.defs.launch import launch_block

    launched = launch_block(container, request, dagster_home=prepare_dagster_home(container), progress=progress)
    return BackfillSummary(
        by_status=launched.by_status,
        computed=launched.computed,
        up_to_date=launched.up_to_date,
        runs=launched.runs,
        failures=launched.failures,
        notes=(*launched.notes, *container.observing.problems[:5]),
    )
