"""Statistics taken by the Statistical API: the engine's protocol, without a pixel leaving the service.

One request covers one farm, one ground sample distance and many days. Intervals of 24 hours begin where the farm's
solar day does, so each interval is one solar day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import shapely

from farm_intel.domain.batches import FarmDayBatch, FarmShape, ReadCounters, SceneDay
from farm_intel.domain.errors import TransientError
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, solar_hours
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.summary import PlanSummary
from farm_intel.indices.index import SpectralIndex
from farm_intel.providers.collections.sentinel_hub import BAND_GSD_M
from farm_intel.providers.sentinel_hub.answers import IntervalAnswer, parse_statistics, require
from farm_intel.providers.sentinel_hub.areas import FarmArea, FarmPlace, place_farms
from farm_intel.providers.sentinel_hub.client import Answer, SentinelHubGateway
from farm_intel.providers.sentinel_hub.evalscripts import REASONS_OUTPUT, StatisticsScript, statistics_script
from farm_intel.providers.sentinel_hub.farm_days import DayAnswers, IndexGroup, build_batch
from farm_intel.providers.sentinel_hub.options import SentinelHubOptions
from farm_intel.providers.sentinel_hub.requests import Period, Service, statistics_request
from farm_intel.providers.sentinel_hub.tiles import parse_reference
from farm_intel.providers.sentinel_hub.units import statistics_units
from farm_intel.resilience.deadlines import carried
from farm_intel.resilience.guard import CallGuard

_ANSWER_BYTES = 900
"""Of one index and one day in an answer; for estimates."""


class SentinelHubStatistics:
    """Implements `observing.service.Engine`: batches without rasters, flagged as the provider's own statistics.

    Args:
        options: account and deployment.
        guard: every request goes through it.
        engine: the limits that change numbers (pure pixels, largest reflectance) and the batch size.

    """

    def __init__(self, options: SentinelHubOptions, guard: CallGuard, engine: EngineOptions) -> None:
        self._gateway = SentinelHubGateway(options, guard)
        self._engine = engine

    def run(
        self,
        days: Sequence[SceneDay],
        farms: Sequence[FarmShape],
        indices: Sequence[SpectralIndex],
        profile: CollectionProfile,
        *,
        refresh: Callable[[Scene], Scene] | None = None,
        on_counters: Callable[[ReadCounters], None] | None = None,
    ) -> Iterator[FarmDayBatch]:
        """Yield results; every farm and day with at least one scene comes out exactly once, in one of the batches.

        Nothing is asked before the first batch is asked for. Farms are taken `batch_farms` at a time, each for all its
        days, and handed on day by day.

        Args:
            days: solar days with their scenes.
            farms: unique ids; boundaries in EPSG:4326.
            indices: any number of different resolutions; each resolution is a request of its own per farm.
            profile: bands, mask rule.
            refresh: not needed, references do not end.
            on_counters: called once at the end with what asking cost.

        Raises:
            BadRequestError: no index, a boundary that is no polygon, or a collection whose mask has no script.
            UnknownNameError: the collection has no band for an index.
            NotConfiguredError: credentials or addresses are wrong.
            BudgetExceededError: the quota is used up.

        """
        del refresh
        wanted = [day for day in days if day.scenes]
        if not wanted or not farms:
            return
        job = _Job.build(wanted, indices, profile, self._engine)
        meter = _Meter()
        step = self._engine.batch_farms
        with ThreadPoolExecutor(self._gateway.options.concurrency, thread_name_prefix="sentinel-hub") as threads:
            for start in range(0, len(farms), step):
                yield from self._chunk(job, farms[start : start + step], threads, meter)
        if on_counters is not None:
            on_counters(ReadCounters(requests=meter.requests, bytes_fetched=meter.bytes_fetched))

    def plan_summary(
        self,
        days: Sequence[SceneDay],
        farms: Sequence[FarmShape],
        indices: Sequence[SpectralIndex],
        profile: CollectionProfile,
        *,
        refresh: Callable[[Scene], Scene] | None = None,
    ) -> PlanSummary:
        """Return how many requests a run would make; nothing is asked."""
        del refresh
        wanted = [day for day in days if day.scenes]
        if not wanted or not farms:
            return PlanSummary()
        job = _Job.build(wanted, indices, profile, self._engine)
        places = job.places(farms)
        asks = sum(len(self._asks(job, farm, place)) for farm, place in zip(farms, places, strict=True))
        farm_days = len(wanted) * sum(place is not None for place in places)
        return PlanSummary(
            days=len(wanted),
            scenes=sum(len(day.scenes) for day in wanted),
            farm_days=farm_days,
            requests=asks,
            bytes_to_fetch=farm_days * len(indices) * _ANSWER_BYTES,
        )

    def _chunk(
        self, job: _Job, farms: Sequence[FarmShape], threads: ThreadPoolExecutor, meter: _Meter
    ) -> Iterator[FarmDayBatch]:
        places = job.places(farms)
        answers = [DayAnswers() for _ in farms]
        futures: list[tuple[int, _Ask, Future[list[IntervalAnswer]]]] = [
            (number, ask, threads.submit(carried(self._send), job, ask, meter))
            for number, (farm, place) in enumerate(zip(farms, places, strict=True))
            for ask in self._asks(job, farm, place)
        ]
        try:
            for number, ask, future in futures:
                self._collect(answers[number], ask, future)
        finally:
            # closing the iterator, or an error that ends the run, leaves nothing queued
            for _, _, future in futures:
                future.cancel()
        for day in job.days:
            yield build_batch(day, farms, places, answers, job.groups, job.profile)

    @staticmethod
    def _collect(answers: DayAnswers, ask: _Ask, future: Future[list[IntervalAnswer]]) -> None:
        """Sort an answer's intervals to their days; a farm whose request failed for now fails on all its days."""
        try:
            intervals = future.result()
        except TransientError as error:
            for day in ask.days:
                answers.failed[day] = str(error)
            return
        for interval in intervals:
            answers.add(ask.group, (interval.start + timedelta(hours=ask.hours_ahead)).date(), interval)

    def _asks(self, job: _Job, farm: FarmShape, place: FarmPlace | None) -> list[_Ask]:
        """Return the requests for one farm: one per resolution and range of days."""
        if place is None:
            return []
        longitude = shapely.from_wkb(farm.boundary_wkb).representative_point().x
        hours = hours_ahead(job.days, float(longitude))
        ranges = split_days([day.solar_day for day in job.days], self._gateway.options.statistics_days)
        return [
            _Ask(farm_id=farm.farm_id, group=number, area=area, grid=place.grid, days=days, hours_ahead=hours)
            for number, area in enumerate(place.areas)
            if area is not None
            for days in ranges
        ]

    def _send(self, job: _Job, ask: _Ask, meter: _Meter) -> list[IntervalAnswer]:
        script = job.scripts[ask.group]
        what = f"statistics of farm {ask.farm_id} from {ask.days[0]} to {ask.days[-1]}"
        service = Service(
            config=self._gateway.config,
            collection=self._gateway.collection(job.profile),
            mask=job.profile.assets[job.profile.mask.band],
        )
        left, bottom, right, top = ask.area.polygon.bounds
        width, height = (max(1, round(length / ask.grid.pixel_m)) for length in (right - left, top - bottom))
        expected = {slug: ["B0"] for slug in script.outputs}
        expected[REASONS_OUTPUT] = [name for name, _, _ in script.reasons]

        def decode(answer: Answer) -> list[IntervalAnswer]:
            meter.add(len(answer.content))
            intervals = parse_statistics(answer.content, what)
            require(intervals, expected, what)
            return intervals

        return self._gateway.send(
            "statistics",
            statistics_request(service, script, ask.area.polygon, ask.grid, ask.period),
            units=statistics_units(width, height, len(script.bands), len(ask.days)),
            what=what,
            decode=decode,
        )


@dataclass(slots=True, eq=False)
class _Meter:
    requests: int = 0
    bytes_fetched: int = 0

    def add(self, size: int) -> None:
        self.requests += 1
        self.bytes_fetched += size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ask:
    """One request."""

    farm_id: str
    group: int
    area: FarmArea
    grid: PixelGrid
    days: tuple[date, ...]
    hours_ahead: int
    """Of the solar day against UTC."""

    @property
    def period(self) -> Period:
        """From the beginning of the first solar day to the end of the last, in UTC."""
        ahead = timedelta(hours=self.hours_ahead)
        start = datetime.combine(self.days[0], time(), UTC) - ahead
        return start, datetime.combine(self.days[-1] + timedelta(days=1), time(), UTC) - ahead


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """What all farms of a run share."""

    days: tuple[SceneDay, ...]
    profile: CollectionProfile
    groups: tuple[IndexGroup, ...]
    """Indices by ground sample distance."""
    scripts: tuple[StatisticsScript, ...]
    """One per group."""
    grids: tuple[tuple[str, PixelGrid], ...]
    """The widest base grid of every tile."""
    min_pure: int
    _places: dict[str, FarmPlace | None] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        days: Sequence[SceneDay],
        indices: Sequence[SpectralIndex],
        profile: CollectionProfile,
        engine: EngineOptions,
    ) -> _Job:
        groups = group_indices(indices, profile)
        return cls(
            days=tuple(days),
            profile=profile,
            groups=groups,
            scripts=tuple(
                statistics_script(
                    [indices[place] for place in group.places], profile, reflectance_max=engine.reflectance_max
                )
                for group in groups
            ),
            grids=tuple(_base_grids(days).items()),
            min_pure=engine.min_pure_pixels,
        )

    def places(self, farms: Sequence[FarmShape]) -> list[FarmPlace | None]:
        ratios = [group.ratio for group in self.groups]
        return place_farms(farms, self.grids, ratios, min_pure=self.min_pure)


def group_indices(indices: Sequence[SpectralIndex], profile: CollectionProfile) -> tuple[IndexGroup, ...]:
    """Return the indices by the coarsest band each reads: purity is judged on that band's pixels, as in the engine.

    Raises:
        UnknownNameError: the collection has no band for an index.

    """
    gsd = BAND_GSD_M[profile.dialect, profile.collection]
    by_gsd: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        names = index.resolve_bands(profile.bands).values()
        by_gsd.setdefault(max(gsd[profile.assets[name]] for name in names), []).append(place)
    return tuple(
        IndexGroup(
            slugs=tuple(indices[place].slug for place in places),
            places=tuple(places),
            gsd_m=float(gsd_m),
            ratio=round(gsd_m / profile.gsd_m),
            reasons=statistics_script([indices[place] for place in places], profile, reflectance_max=1.0).reasons,
        )
        for gsd_m, places in sorted(by_gsd.items())
    )


def _base_grids(days: Sequence[SceneDay]) -> Mapping[str, PixelGrid]:
    """Return the widest finest grid of every tile; all grids of a tile are aligned."""
    grids: dict[str, PixelGrid] = {}
    for day in days:
        for scene in day.scenes:
            found = [parse_reference(file.href, scene.scene_id).grid for file in scene.bands.values()]
            grid = min(found, key=lambda item: item.pixel_m)
            known = grids.get(scene.tile)
            if known is None or grid.width_px * grid.height_px > known.width_px * known.height_px:
                grids[scene.tile] = grid
    return grids


def hours_ahead(days: Sequence[SceneDay], longitude_deg: float) -> int:
    """Return by how many hours the farm's solar day runs ahead of UTC.

    Next to longitude 180 one acquisition belongs to two dates, and the caller decides which of them a farm lives by;
    of the hours that differ by a whole day those are taken under which the scenes fall on the days they came with.
    """
    hours = solar_hours(longitude_deg)

    def agreement(candidate: int) -> int:
        return sum(
            (scene.acquired_at + timedelta(hours=candidate)).date() == day.solar_day
            for day in days
            for scene in day.scenes
        )

    return max((hours, hours + 24, hours - 24), key=agreement)


def split_days(days: Sequence[date], longest: int) -> list[tuple[date, ...]]:
    """Return ascending days in ranges that span at most `longest` days each."""
    ranges: list[list[date]] = []
    for day in sorted(set(days)):
        if ranges and (day - ranges[-1][0]).days < longest:
            ranges[-1].append(day)
        else:
            ranges.append([day])
    return [tuple(part) for part in ranges]
