"""Simulated seasons behind the stores' own interfaces, in memory: the use cases read them as they read a database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from farm_intel.domain.activities import LogEntry
from farm_intel.domain.assessment import DailySeries, FarmState, FusedObservation, Season
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.farms import Farm
from farm_intel.domain.geo import BBox
from farm_intel.domain.observations import CoverageDay, Observation, ObservationKey, ObservationStatus
from farm_intel.domain.publication import Publication, PublishReceipt
from farm_intel.simulation.seasons import HARVEST, SimulatedFarm
from farm_intel.simulation.state_accuracy import observations_of

PROVIDER, COLLECTION = "stac", "sentinel-2-l2a"
_LOGGED_SHARE = 0.5
_CLOUDY_SHARE = 0.8
"""Of acquisitions without a look, the share that came and was cloudy; the others never came."""
_REVISIT_DAYS = 5
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SeasonFarms:
    """Farms of simulated fields; only the latest planting day is known, as for real farms."""

    simulated: Mapping[str, SimulatedFarm]

    def get(self, farm_id: str) -> Farm:
        """Return one farm.

        Raises:
            UnknownNameError: there is none.

        """
        if farm_id not in self.simulated:
            raise UnknownNameError(f"there is no simulated farm {farm_id!r}")
        return _farm(self.simulated[farm_id])

    def list(self, *, cohort: str | None = None, include_inactive: bool = False) -> list[Farm]:
        """Return all farms; every one is active and of the main cohort."""
        del include_inactive
        return [_farm(one) for one in self.simulated.values()] if cohort in {None, "main"} else []


def _farm(one: SimulatedFarm) -> Farm:
    return Farm(
        farm_id=one.farm_id,
        name=one.farm_id,
        boundary_wkb=b"",
        boundary_version=1,
        boundary_hash="0" * 16,
        bbox=BBox(west=36.80, south=-1.20, east=36.81, north=-1.19),
        longitude_deg=36.805,
        latitude_deg=-1.195,
        area_ha=4.0,
        time_zone="Africa/Nairobi",
        home_tile="37MBU",
        crop=one.crop,
        planting_date=one.seasons[-1].planted,
    )


@dataclass(frozen=True, slots=True)
class SeasonObservations:
    """What a provider stored of simulated fields, and the calendar; nothing can be published here."""

    simulated: Mapping[str, SimulatedFarm]

    def fingerprints(
        self, *, provider: str, collection: str, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[ObservationKey, tuple[str, ObservationStatus]]:
        """Return fingerprint and status of the cells of a block."""
        rows = self.observations(
            farm_ids=farm_ids, indices=indices, provider=provider, collection=collection, start=start, end=end
        )
        return {row.key: (row.fingerprint, row.status) for row in rows}

    def publish(self, publication: Publication) -> PublishReceipt:
        """Refuse: seasons are made, not observed.

        Raises:
            UnknownNameError: always.

        """
        raise UnknownNameError(f"{publication.provider} cannot publish into simulated seasons")

    def record_days(self, days: Sequence[CoverageDay]) -> None:
        """Refuse: seasons are made, not observed.

        Raises:
            UnknownNameError: always.

        """
        raise UnknownNameError(f"{len(days)} days cannot be recorded in simulated seasons")

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
        if not (_among(PROVIDER, provider) and _among(COLLECTION, collection)):
            return
        if statuses is not None and ObservationStatus.OBSERVED not in statuses:
            return
        for farm_id in sorted(self.simulated if farm_ids is None else {*farm_ids} & {*self.simulated}):
            farm = self.simulated[farm_id]
            for index in sorted(farm.values if indices is None else {*indices} & {*farm.values}):
                for row in observations_of(farm, index):
                    if _between(row.key.solar_day, start, end):
                        yield row

    def calendar(
        self, *, farm_id: str, provider: str | None = None, start: date | None = None, end: date | None = None
    ) -> list[CoverageDay]:
        """Return the farm's calendar ordered by day: looks, cloudy acquisitions, and days on which none came."""
        farm = self.simulated[farm_id]
        if not _among(PROVIDER, provider):
            return []
        return [row for row in _calendar(farm) if _between(row.solar_day, start, end)]


def _calendar(farm: SimulatedFarm) -> Iterator[CoverageDay]:
    """Yield every revisit; what has no look was mostly cloudy, by a draw that belongs to the farm."""
    rng = np.random.default_rng([len(farm.days), *farm.farm_id.encode()])
    looked = set(farm.days)
    day = farm.days[0] - timedelta(days=(farm.days[0] - farm.start).days // _REVISIT_DAYS * _REVISIT_DAYS)
    while day <= farm.end:
        cloudy = bool(rng.random() < _CLOUDY_SHARE)
        status = ObservationStatus.CLOUDY if cloudy else ObservationStatus.NO_ACQUISITION
        yield CoverageDay(
            farm_id=farm.farm_id,
            provider=PROVIDER,
            collection=COLLECTION,
            solar_day=day,
            status=ObservationStatus.OBSERVED if day in looked else status,
            reason="",
        )
        day += timedelta(days=_REVISIT_DAYS)


@dataclass(slots=True)
class SeasonAssessments:
    """What is made of simulated observations; every farm's rows together, so that reading a farm is quick."""

    _fused: dict[str, dict[str, dict[date, FusedObservation]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    _series: dict[str, dict[str, DailySeries]] = field(default_factory=lambda: defaultdict(dict))
    _seasons: dict[str, dict[str, Season]] = field(default_factory=lambda: defaultdict(dict))
    _states: dict[str, dict[date, FarmState]] = field(default_factory=lambda: defaultdict(dict))

    def save_fused(
        self, fused: Sequence[FusedObservation], *, recorded_at: datetime, gone: Sequence[tuple[str, str, date]] = ()
    ) -> None:
        """Upsert fused observations and remove those of `gone`."""
        del recorded_at
        for farm_id, index, day in gone:
            self._fused[farm_id][index].pop(day, None)
        for item in fused:
            self._fused[item.farm_id][item.index][item.solar_day] = item

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
        """Yield fused observations ordered by farm, index, day; always with their candidates."""
        del with_candidates
        for farm_id in _chosen(self._fused, farm_ids):
            for index in _chosen(self._fused[farm_id], indices):
                for day, item in sorted(self._fused[farm_id][index].items()):
                    if _between(day, start, end) and not (usable and item.value is None):
                        yield item

    def fused_fingerprints(
        self, *, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[tuple[str, str, date], str]:
        """Return the fingerprint of every fused observation of the block, by farm, index and day."""
        found = self.fused(farm_ids=farm_ids, indices=indices, start=start, end=end)
        return {(item.farm_id, item.index, item.solar_day): item.fingerprint for item in found}

    def save_series(
        self, series: Sequence[DailySeries], *, recorded_at: datetime, gone: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Upsert daily series and remove those of `gone`."""
        del recorded_at
        _forget(self._series, gone)
        for item in series:
            self._series[item.farm_id][item.index] = item

    def series(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[DailySeries]:
        """Yield daily series ordered by farm, index."""
        yield from _each(self._series, farm_ids, indices)

    def save_seasons(
        self, seasons: Sequence[Season], *, recorded_at: datetime, gone: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Upsert seasons and remove those of `gone`."""
        del recorded_at
        _forget(self._seasons, gone)
        for item in seasons:
            self._seasons[item.farm_id][item.index] = item

    def seasons(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[Season]:
        """Yield seasons ordered by farm, index."""
        yield from _each(self._seasons, farm_ids, indices)

    def save_states(
        self, states: Sequence[FarmState], *, recorded_at: datetime, gone: Sequence[tuple[str, date]] = ()
    ) -> None:
        """Upsert farm states and remove those of `gone`."""
        del recorded_at
        for farm_id, day in gone:
            self._states[farm_id].pop(day, None)
        for item in states:
            self._states[item.farm_id][item.day] = item

    def states(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        events_only: bool = False,
    ) -> Iterator[FarmState]:
        """Yield farm states ordered by farm, day."""
        for farm_id in _chosen(self._states, farm_ids):
            for day, item in sorted(self._states[farm_id].items()):
                if _between(day, start, end) and not (events_only and item.event is None):
                    yield item


@dataclass(frozen=True, slots=True)
class SeasonLogbook:
    """Logs half of the harvests, on the day they happened; which half belongs to the farm."""

    simulated: Mapping[str, SimulatedFarm]

    def explaining(self, farm_id: str, start: datetime, end: datetime) -> Sequence[LogEntry]:
        """Return the logged harvests from `start` inclusive to `end` exclusive."""
        return [entry for entry in logged_harvests(self.simulated[farm_id]) if start <= entry.done_at < end]


def logged_harvests(farm: SimulatedFarm) -> list[LogEntry]:
    """Return the log entries of a simulated farm."""
    rng = np.random.default_rng([*farm.farm_id.encode(), 17])
    entries: list[LogEntry] = []
    for number, event in enumerate(event for event in farm.events if event.kind == HARVEST):
        if rng.random() >= _LOGGED_SHARE:
            continue
        done_at = datetime.combine(event.day, time(15), UTC)
        entries.append(
            LogEntry(
                entry_id=f"{farm.farm_id}-{number}",
                farm_id=farm.farm_id,
                type=HARVEST,
                title="Harvest",
                done=True,
                done_at=done_at,
                by="simulated",
                recorded_at=done_at,
            )
        )
    return entries


@dataclass(frozen=True, slots=True)
class SeasonTime:
    """A clock that stands still: nothing in simulated seasons depends on when they are assessed."""

    def now(self) -> datetime:
        """Return one and the same time."""
        return _ANY_TIME


def _chosen[V](rows: Mapping[str, V], names: Collection[str] | None) -> list[str]:
    return sorted(rows if names is None else {*names} & {*rows})


def _each[V](
    rows: Mapping[str, Mapping[str, V]], farm_ids: Sequence[str] | None, indices: Sequence[str] | None
) -> Iterator[V]:
    for farm_id in _chosen(rows, farm_ids):
        for index in _chosen(rows[farm_id], indices):
            yield rows[farm_id][index]


def _forget[V](rows: Mapping[str, dict[str, V]], gone: Sequence[tuple[str, str]]) -> None:
    for farm_id, index in gone:
        rows[farm_id].pop(index, None)


def _among(name: str, wanted: str | None) -> bool:
    return wanted is None or name == wanted


def _between(day: date, start: date | None, end: date | None) -> bool:
    return (start is None or start <= day) and (end is None or day <= end)
