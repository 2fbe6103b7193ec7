"""What the evaluation of alert rules reads, as small Protocols; stores, adapters and fakes implement them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from farm_intel.domain.activities import LogEntry, Occurrence
from farm_intel.domain.assessment import FarmState, FusedObservation, Season
from farm_intel.domain.farms import Farm
from farm_intel.domain.observations import CoverageDay, Observation, ObservationStatus


class FarmReader(Protocol):
    """Farms; part of `domain.ports.FarmStore`."""

    def list(self, *, cohort: str | None = None, include_inactive: bool = False) -> list[Farm]:
        """Return farms."""
        ...


class ObservationReader(Protocol):
    """Observations and the calendar; part of `domain.ports.ObservationStore`."""

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


class AssessmentReader(Protocol):
    """What is made of observations; part of `domain.ports.AssessmentStore`."""

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
        """Yield fused observations ordered by farm, index, day."""
        ...

    def seasons(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[Season]:
        """Yield seasons ordered by farm, index."""
        ...

    def states(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        events_only: bool = False,
    ) -> Iterator[FarmState]:
        """Yield farm states ordered by farm, day."""
        ...


class LogbookReader(Protocol):
    """What people did on a farm."""

    def explaining(self, farm_id: str, start: datetime, end: datetime) -> Sequence[LogEntry]:
        """Return the entries of work done from `start` inclusive to `end` exclusive."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WeatherDay:
    """Weather of one farm and day."""

    day: date
    values: Mapping[str, float]
    """Variable with its unit in the name (`temperature_min_c`, `wind_speed_max_m_s`) -> value."""
    source: str


class WeatherReader(Protocol):
    """Stored daily weather."""

    def daily(self, farm_id: str, start: date, end: date) -> Sequence[WeatherDay]:
        """Return the days there is weather of, ascending; empty where there is none."""
        ...


class OccurrenceReader(Protocol):
    """Occurrences of the farm's activities."""

    def find(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        limit: int = 1000,
    ) -> Sequence[Occurrence]:
        """Return occurrences by due time, whatever became of them; days are local dates, both inclusive."""
        ...


class PixelReader(Protocol):
    """Stored rasters."""

    def values(self, sha256: str, band: int) -> npt.NDArray[np.float64] | None:
        """Return the values of a raster's valid pixels, index units, (n,); None where the raster is not there.

        Args:
            sha256: the raster's address.
            band: 1-based.

        """
        ...


class Nothing:
    """A reader of what this installation does not have: rules that need it say that nothing is known."""

    def explaining(self, farm_id: str, start: datetime, end: datetime) -> Sequence[LogEntry]:  # noqa: ARG002 - a port
        """Return no entries."""
        return ()

    def daily(self, farm_id: str, start: date, end: date) -> Sequence[WeatherDay]:  # noqa: ARG002 - a port
        """Return no days."""
        return ()

    def find(
        self,
        *,
        farm_ids: Sequence[str] | None = None,  # noqa: ARG002 - a port
        start: date | None = None,  # noqa: ARG002 - a port
        end: date | None = None,  # noqa: ARG002 - a port
        limit: int = 1000,  # noqa: ARG002 - a port
    ) -> Sequence[Occurrence]:
        """Return no occurrences."""
        return ()

    def values(self, sha256: str, band: int) -> npt.NDArray[np.float64] | None:  # noqa: ARG002 - a port
        """Return no pixels."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything the evaluation reads."""

    farms: FarmReader
    observations: ObservationReader
    assessments: AssessmentReader
    logbook: LogbookReader
    weather: WeatherReader
    occurrences: OccurrenceReader
    pixels: PixelReader
