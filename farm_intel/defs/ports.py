"""What this layer needs of the container; `bootstrap.Container` and the tests' fake both have it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Protocol

from farm_intel.domain.observations import ObservationKey
from farm_intel.domain.ports import FarmStore, ObservationStore, Progress
from farm_intel.domain.products import CollectionProfile
from farm_intel.indices.registry import IndexRegistry
from farm_intel.observing.model import CellOutcome, ObserveRequest
from farm_intel.resilience.budget import BudgetStatus
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord


class AssetSettings(Protocol):
    """The settings that shape assets, runs and automation; meanings and units are documented in farm_intel.settings."""

    @property
    def asset_indices(self) -> tuple[str, ...]: ...  # noqa: D102 - see the class
    @property
    def history_start(self) -> date | None: ...  # noqa: D102
    @property
    def history_end(self) -> date | None: ...  # noqa: D102
    @property
    def window_days(self) -> int: ...  # noqa: D102
    @property
    def run_max_cells(self) -> int: ...  # noqa: D102
    @property
    def backfill_max_cells(self) -> int: ...  # noqa: D102
    @property
    def sensor_interval_s(self) -> int: ...  # noqa: D102
    @property
    def sensor_lookback_days(self) -> int: ...  # noqa: D102
    @property
    def daily_cron(self) -> str: ...  # noqa: D102
    @property
    def min_valid_fraction(self) -> float: ...  # noqa: D102


class Source(Protocol):
    """A provider in use, as settings and tables describe it."""

    @property
    def name(self) -> str:
        """The provider's name."""
        ...

    @property
    def collection(self) -> str:
        """The collection it reads."""
        ...

    @property
    def profile(self) -> CollectionProfile:
        """Its product row."""
        ...

    @property
    def missing_settings(self) -> tuple[str, ...]:
        """Settings without which it cannot be asked; empty when it can."""
        ...


class Due(Protocol):
    """Cells of a block that are missing or stale."""

    @property
    def by_day(self) -> Mapping[date, tuple[str, ...]]:
        """Day -> farms with at least one index to compute."""
        ...

    @property
    def scene_set_hash(self) -> Mapping[date, str]:
        """Day -> hash over the versions of its scenes."""
        ...


class Observing(Protocol):
    """The observe-farms use case."""

    def observe(
        self, request: ObserveRequest, *, run_id: str, progress: Progress | None = None
    ) -> Iterator[CellOutcome]:
        """Yield every cell once it is stored; CellsFailedError at the end names those that could not be read."""
        ...

    def due(
        self, *, provider: str, collection: str, farm_ids: Sequence[str], indices: Sequence[str], days: Sequence[date]
    ) -> Due:
        """Return which farms of which days have cells to compute; reads no pixels."""
        ...


class Pictures(Protocol):
    """Small PNGs for people who look at a cell."""

    def thumbnail(self, outcome: CellOutcome) -> bytes | None:
        """Return the cell's raster in the index's colours, or None where there is nothing to show."""
        ...

    def sparkline(self, key: ObservationKey) -> bytes | None:
        """Return the stored series of the cell's farm and index up to its day, or None while it is too short."""
        ...


class FarmIntel(Protocol):
    """Adapters and use cases of one installation."""

    @property
    def settings(self) -> AssetSettings:
        """The settings."""
        ...

    @property
    def sources(self) -> Sequence[Source]:
        """The providers in use, best first."""
        ...

    @property
    def registry(self) -> IndexRegistry:
        """The index catalogue."""
        ...

    @property
    def farms(self) -> FarmStore:
        """Farms."""
        ...

    @property
    def observations(self) -> ObservationStore:
        """What is stored."""
        ...

    @property
    def observing(self) -> Observing:
        """The observe-farms use case."""
        ...

    @property
    def pictures(self) -> Pictures:
        """Previews of stored cells."""
        ...

    def budgets(self) -> Sequence[BudgetStatus]:
        """Return what each provider with a budget has spent this month."""
        ...

    def breakers(self) -> Sequence[tuple[Operation, BreakerRecord]]:
        """Return every circuit breaker that ever had to do with a failure."""
        ...

    def check_store(self, *, rehash: bool, repair: bool) -> Sequence[tuple[str, int, str]]:
        """Compare rows with objects; (kind of problem, count, examples), counts of zero included or not."""
        ...
