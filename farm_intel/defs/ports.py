"""What this layer needs of the container; `bootstrap.Container` and the tests' fake both have it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Protocol

from farm_intel.defs.ports_alerts import PumpSettings, Watching
from farm_intel.domain.assessment import DailySeries, FarmState, FusedObservation, Season
from farm_intel.domain.observations import ObservationKey
from farm_intel.domain.ports import AssessmentStore, FarmStore, ObservationStore
from farm_intel.domain.products import CollectionProfile
from farm_intel.indices.registry import IndexRegistry
from farm_intel.observing.model import CellOutcome
from farm_intel.observing.service import ObservingService
from farm_intel.resilience.budget import BudgetStatus
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord


class AssetSettings(PumpSettings, Protocol):
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
    @property
    def provider_deadline_s(self) -> float: ...  # noqa: D102


class ProviderFacts(Protocol):
    """What the table of providers says of one; meanings are documented there."""

    @property
    def title(self) -> str: ...  # noqa: D102 - see the class
    @property
    def adapter(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def monthly_units(self) -> float | None: ...  # noqa: D102
    @property
    def requests_per_minute(self) -> float | None: ...  # noqa: D102
    @property
    def note(self) -> str: ...  # noqa: D102


class Source(Protocol):
    """A provider in use, as settings and tables describe it."""

    @property
    def row(self) -> ProviderFacts:
        """What the table says of it."""
        ...

    @property
    def capability(self) -> str:
        """How its numbers are made: `pixels` or `statistics`."""
        ...

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


class Assessing(Protocol):
    """The fuse-and-smooth use case."""

    def fuse(
        self, farm_ids: Sequence[str], indices: Sequence[str], *, start: date, end: date
    ) -> Iterator[FusedObservation]:
        """Fuse and store a block; yields its days with candidates, and days outside it whose row changed."""
        ...

    def build_series(self, farm_ids: Sequence[str], indices: Sequence[str]) -> Iterator[DailySeries]:
        """Smooth and store the daily series of farms; a farm without a usable value has none."""
        ...


class Seasons(Protocol):
    """The season use case."""

    def build_seasons(self, farm_ids: Sequence[str], indices: Sequence[str]) -> Iterator[Season]:
        """Make and store the seasons of farms from their stored series."""
        ...


class States(Protocol):
    """The farm-state use case."""

    def build_states(self, farm_ids: Sequence[str], *, start: date, end: date) -> Iterator[FarmState]:
        """Tell and store the states of farms; yields every farm and day."""
        ...


class Pictures(Protocol):
    """Small PNGs for people who look at a cell."""

    def thumbnail(self, outcome: CellOutcome) -> bytes | None:
        """Return the cell's raster in the index's colours, or None where there is nothing to show."""
        ...

    def sparkline(self, key: ObservationKey) -> bytes | None:
        """Return the stored series of the cell's farm and index up to its day, or None while it is too short."""
        ...


class FarmIntel(Watching, Protocol):
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
    def observing(self) -> ObservingService:
        """The observe-farms use case."""
        ...

    @property
    def assessing(self) -> Assessing:
        """The fuse-and-smooth use case."""
        ...

    @property
    def assessments(self) -> AssessmentStore:
        """What is stored of it."""
        ...

    @property
    def seasons(self) -> Seasons:
        """The season use case."""
        ...

    @property
    def states(self) -> States:
        """The farm-state use case."""
        ...

    @property
    def pictures(self) -> Pictures:
        """Previews of stored cells."""
        ...

    def provider_order(self, slug: str) -> Sequence[tuple[str, str]]:
        """Return (provider, collection) in the order they are to be asked for an index, those that can be asked."""
        ...

    def changed_since(self, cursor: str) -> tuple[str, Mapping[str, tuple[date, date]]]:
        """Return the next cursor and, per farm with newly recorded days, the first and the last of those days."""
        ...

    def sparkline(self, values: Sequence[float | None]) -> str:
        """Return a series as one line of block characters."""
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
