"""What the use cases need from outside, as small Protocols; adapters and fakes implement them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Protocol

from farm_intel.domain.assessment import DailySeries, FarmState, FusedObservation, Season
from farm_intel.domain.farms import Farm
from farm_intel.domain.observations import CoverageDay, Observation, ObservationKey, ObservationStatus
from farm_intel.domain.publication import Publication, PublishReceipt
from farm_intel.domain.scenes import Scene, SceneQuery, SceneSearch


class Clock(Protocol):
    """The only source of now."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        ...


class Progress(Protocol):
    """Where long work says how far it is."""

    def advance(self, done: int, total: int, detail: str) -> None:
        """Tell that `done` of `total` units are finished."""
        ...


class SceneCatalog(Protocol):
    """A catalogue of scenes (capability: search)."""

    provider: str

    def search(self, query: SceneQuery) -> SceneSearch:
        """Return every scene of the collection over the box and days.

        Raises:
            TransientError: the catalogue did not answer; retrying later may help.
            NotConfiguredError: the catalogue, dialect or collection is not known here.

        """
        ...

    def refresh(self, scene: Scene) -> Scene:
        """Return the scene with hrefs that can be opened now (signed where the catalogue needs it)."""
        ...


class FarmStore(Protocol):
    """Farms and the versions of their boundaries."""

    def get(self, farm_id: str) -> Farm:
        """Return one farm; UnknownNameError where there is none."""
        ...

    def list(self, *, cohort: str | None = None, include_inactive: bool = False) -> list[Farm]:
        """Return farms ordered by home tile, then id (so that farms of a tile are contiguous)."""
        ...


class ObservationStore(Protocol):
    """Observations, the coverage calendar and the rasters behind them."""

    def fingerprints(
        self, *, provider: str, collection: str, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[ObservationKey, tuple[str, ObservationStatus]]:
        """Return fingerprint and status of every stored cell of the block that has not lost its raster."""
        ...

    def publish(self, publication: Publication) -> PublishReceipt:
        """Store rasters, then rows, so that a crash at any instant leaves no row without its raster."""
        ...

    def record_days(self, days: Sequence[CoverageDay]) -> None:
        """Upsert calendar days that have no cells of their own (no acquisition, outside)."""
        ...

    def observations(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        indices: Sequence[str] | None = None,
        provider: str | None = None,
        collection: str | None = None,
        start: date | None = None,
        end: date | None = None,
        statuses: Sequence[ObservationStatus] | None = None,
    ) -> Iterator[Observation]:
        """Yield observations ordered by farm, index, day."""
        ...

    def calendar(
        self, *, farm_id: str, provider: str | None = None, start: date | None = None, end: date | None = None
    ) -> list[CoverageDay]:
        """Return the farm's calendar ordered by day."""
        ...


class AssessmentStore(Protocol):
    """What is made of observations. A row whose fingerprint and content are stored already changes nothing."""

    def save_fused(
        self,
        fused: Sequence[FusedObservation],
        *,
        recorded_at: datetime,
        gone: Sequence[tuple[str, str, date]] = (),
    ) -> None:
        """Upsert fused observations and remove those of `gone` (farm, index, day), in one transaction."""
        ...

    def fused(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        indices: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        usable: bool = False,
        with_candidates: bool = True,
    ) -> Iterator[FusedObservation]:
        """Yield fused observations ordered by farm, index, day.

        With `usable` only those that carry a value; without candidates (several times faster) theirs are empty.
        """
        ...

    def fused_fingerprints(
        self, *, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[tuple[str, str, date], str]:
        """Return the fingerprint of every stored fused observation of the block, by farm, index and day."""
        ...

    def save_series(
        self, series: Sequence[DailySeries], *, recorded_at: datetime, gone: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Upsert daily series and remove those of `gone` (farm, index); numbers keep six decimals."""
        ...

    def series(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[DailySeries]:
        """Yield daily series ordered by farm, index."""
        ...

    def save_seasons(
        self, seasons: Sequence[Season], *, recorded_at: datetime, gone: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Upsert seasons and remove those of `gone` (farm, index); numbers of days keep six decimals."""
        ...

    def seasons(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[Season]:
        """Yield seasons ordered by farm, index."""
        ...

    def save_states(
        self, states: Sequence[FarmState], *, recorded_at: datetime, gone: Sequence[tuple[str, date]] = ()
    ) -> None:
        """Upsert farm states and remove those of `gone` (farm, day), in one transaction."""
        ...

    def states(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        events_only: bool = False,
    ) -> Iterator[FarmState]:
        """Yield farm states ordered by farm, day; with `events_only` only days on which an event is dated."""
        ...
