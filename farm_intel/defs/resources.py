"""The installation as a Dagster resource; thin on purpose."""

from collections.abc import Mapping

import dagster as dg

from farm_intel.defs.ports import FarmIntel
from farm_intel.domain.errors import FarmIntelError
from farm_intel.domain.ports import Progress
from farm_intel.observing.model import CellOutcome


class RunWatch:
    """Whoever launched a run in this process may look over its shoulder; this one looks away."""

    progress: Progress | None = None

    def cell(self, outcome: CellOutcome) -> None:
        """Take note of a stored cell."""

    def failed(self, run_id: str, failures: Mapping[str, str]) -> None:
        """Take note of a run's cells that could not be computed: `day|farm|index` -> reason."""

    def stopped(self, error: FarmIntelError) -> None:
        """Take note of an error that ended a run."""


class FarmIntelResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # Dagster's own generic has a default
    """Farms, indices, observations and the observe-farms use case of one installation."""

    container: dg.ResourceDependency[FarmIntel]
    watch: dg.ResourceDependency[RunWatch]
    preview_max_cells: int = 600
    """Runs of more asset cells than this record no thumbnails and series plots."""
