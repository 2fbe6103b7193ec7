"""Statistics computed by Earth Engine: small tables instead of pixels, under the engine's own rules.

Each farm is asked for twice: over the pixels wholly inside it, and over its whole boundary weighted by coverage. Which
of the two counts is decided by the answer, as in the engine: enough pure pixels left under the clouds, or all of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.batches import FarmDayBatch, FarmShape, ReadCounters, SceneDay
from farm_intel.domain.errors import SceneProblemKind, TransientError
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, SceneProblem
from farm_intel.engine.candidates import DayCandidates, may_show, open_day
from farm_intel.engine.context import RunContext, RunInputs, compile_inputs
from farm_intel.engine.grid import FarmCells, project
from farm_intel.engine.opening import OpenScene
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.summary import PlanSummary
from farm_intel.engine.zonal import coarsest_ratios
from farm_intel.indices.index import SpectralIndex
from farm_intel.providers.earth_engine.expressions import DayImage, FarmRegions, statistics_table
from farm_intel.providers.earth_engine.failures import NoSuchAssetError, TooLargeError
from farm_intel.providers.earth_engine.pixels import earth_engine_block_readers
from farm_intel.providers.earth_engine.regions import pure_count, pure_region, whole_region
from farm_intel.providers.earth_engine.session import EarthEngineCalls, EarthEngineSession, QuotaState
from farm_intel.providers.earth_engine.tables import Chunk, Row, batch_of_rows, failed_batch, outside_batch
from farm_intel.resilience.guard import CallGuard

_LOG = logging.getLogger(__name__)
_AHEAD = 8
"""Requests in flight of one run; each keeps Earth Engine busy on many machines already."""
_BYTES_PER_ROW = 400
"""Of an answer, per farm and index; for estimates."""


class EarthEngineStatistics:
    """Has the same methods as the engine; its batches carry no rasters.

    Args:
        session: shared with the catalogue.
        options: the engine's, for purity and reflectance limits.
        guard: deadline, breaker, rate and retries.
        provider: name for the guard and the workload tags.

    """

    def __init__(self, session: EarthEngineSession, options: EngineOptions, guard: CallGuard, *, provider: str) -> None:
        self._session = session
        self._options = options
        self._guard = guard
        self._calls = EarthEngineCalls(session, guard, provider)

    @property
    def quota_state(self) -> QuotaState:
        """What Earth Engine said of the project's computing quota."""
        return self._session.quota_state

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
        """Yield results; every farm and day with at least one scene comes out exactly once, day after day.

        Args:
            days: solar days with their scenes.
            farms: unique ids; boundaries in EPSG:4326.
            indices: computed together.
            profile: an Earth Engine row.
            refresh: not needed; scenes of this provider never expire.
            on_counters: called once at the end with what asking cost.

        Raises:
            BadRequestError: no index, or a boundary that is no polygon.
            UnknownNameError: the collection has no band for an index.
            NotConfiguredError: the service account is refused.
            BudgetExceededError: the budget is spent.

        """
        del refresh
        wanted = [day for day in days if day.scenes]
        if not wanted or not farms:
            return
        requests, received = self._session.requests, self._session.bytes_received
        inputs = compile_inputs(farms, indices, profile, self._options)
        self._calls.client()
        waiting: deque[Future[list[FarmDayBatch]]] = deque()
        with ThreadPoolExecutor(min(_AHEAD, self._session.options.max_concurrent)) as pool:
            try:
                for work in self._work(inputs, wanted, profile):
                    waiting.append(pool.submit(contextvars.copy_context().run, self._ask, work))
                    if len(waiting) > _AHEAD:
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
        self._tell_quota()
        if on_counters is not None:
            on_counters(
                ReadCounters(
                    requests=self._session.requests - requests,
                    bytes_fetched=self._session.bytes_received - received,
                )
            )

    def plan_summary(
        self,
        days: Sequence[SceneDay],
        farms: Sequence[FarmShape],
        indices: Sequence[SpectralIndex],
        profile: CollectionProfile,
        *,
        refresh: Callable[[Scene], Scene] | None = None,
    ) -> PlanSummary:
        """Return what a run would ask, asking nobody.

        Raises:
            BadRequestError: no index, or a boundary that is no polygon.
            UnknownNameError: the collection has no band for an index.

        """
        del refresh
        wanted = [day for day in days if day.scenes]
        summary = PlanSummary()
        if not wanted or not farms:
            return summary
        inputs = compile_inputs(farms, indices, profile, self._options)
        summary.days = len(wanted)
        seen: set[tuple[date, str]] = set()
        for work in self._work(inputs, wanted, profile):
            if work.image is None:
                continue
            rows = len(work.chunk.farms)
            seen.add((work.chunk.day, work.image.home.scene_id))
            summary.farm_days += rows
            # every page holds at most page_size rows, of which a farm has one whole and one per resolution
            summary.requests += -(-rows * (1 + len(work.by_ratio)) // self._session.options.page_size)
            summary.bytes_to_fetch += rows * len(indices) * _BYTES_PER_ROW
        summary.scenes = len(seen)
        return summary

    def _work(self, inputs: RunInputs, days: Sequence[SceneDay], profile: CollectionProfile) -> Iterator[_Work]:
        """Yield the requests of all days, in order."""
        with ThreadPoolExecutor(1) as executor, asyncio.Runner() as runner:
            planner = _Planner(inputs, profile, executor, runner, self._session, self._guard, self._calls.provider)
            for day in days:
                yield from planner.day(day)

    def _ask(self, work: _Work) -> list[FarmDayBatch]:
        """Return the batches of one request; in halves where Earth Engine finds it too much."""
        if work.problem is not None:
            return [failed_batch(work.chunk, work.problem, transient=False)]
        if work.image is None:
            return [outside_batch(work.chunk, "the farm lies outside every scene's image")]
        try:
            return [batch_of_rows(work.chunk, self._rows(work))]
        except TooLargeError as error:
            if len(work.chunk.farms) > 1:
                first, second = work.halves()
                return [*self._ask(first), *self._ask(second)]
            problem, transient = str(error), False
        except NoSuchAssetError as error:
            problem, transient = str(error), False
        except TransientError as error:
            problem, transient = str(error), True
        found = SceneProblem(scene_id=work.image.home.scene_id, kind=SceneProblemKind.UNREADABLE_FILE, detail=problem)
        return [failed_batch(work.chunk, found, transient=transient)]

    def _rows(self, work: _Work) -> dict[tuple[int, int], Row]:
        """Return the answer's rows by (farm of the chunk, ratio), page after page."""
        image = work.image
        if image is None or not image.servable:
            return {}
        table = statistics_table(self._calls.client(), image, work.regions, work.by_ratio)
        parameters: dict[str, Any] = {
            "expression": table,
            "pageSize": min(self._session.options.page_size, 1000),
            "workloadTag": self._session.tag(f"statistics-{self._calls.provider}-{image.profile.collection}"),
        }
        rows: dict[tuple[int, int], Row] = {}
        while True:
            page = self._calls.compute_features(parameters)
            for feature in page.get("features") or []:
                row: Mapping[str, Any] = feature.get("properties") or {}
                rows[int(row["farm"]), int(row["ratio"])] = row
            token = page.get("nextPageToken")
            if not token:
                return rows
            parameters["pageToken"] = token

    def _tell_quota(self) -> None:
        if self.quota_state is QuotaState.RESTRICTED:
            _LOG.warning(
                "Earth Engine project %s has used up its computing quota: answers come slowly until the month ends",
                self._session.options.project,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One request, or farms that no image shows."""

    chunk: Chunk
    image: DayImage | None
    regions: tuple[FarmRegions, ...] = ()
    by_ratio: Mapping[int, Sequence[int]] = field(default_factory=dict)
    problem: SceneProblem | None = None
    """Why the only images of the farms cannot be used."""

    def halves(self) -> tuple[_Work, _Work]:
        """Return two requests of half the farms."""
        middle = len(self.regions) // 2
        first, second = range(middle), range(middle, len(self.regions))
        return self._part(first), self._part(second)

    def _part(self, places: range) -> _Work:
        regions = tuple(
            FarmRegions(number=number, whole=self.regions[place].whole, pure=self.regions[place].pure)
            for number, place in enumerate(places)
        )
        return _Work(chunk=self.chunk.part(places), image=self.image, regions=regions, by_ratio=self.by_ratio)


class _Planner:
    """Cuts days into requests; farms' outlines are made once per grid."""

    def __init__(
        self,
        inputs: RunInputs,
        profile: CollectionProfile,
        executor: Executor,
        runner: asyncio.Runner,
        session: EarthEngineSession,
        guard: CallGuard,
        provider: str,
    ) -> None:
        self._inputs = inputs
        self._profile = profile
        self._executor = executor
        self._runner = runner
        self._session = session
        self._readers = earth_engine_block_readers(session, profile, guard, provider=provider)
        self._regions: dict[tuple[object, ...], FarmRegions] = {}
        self._projected: dict[str, Any] = {}
        self._context: RunContext | None = None

    def day(self, day: SceneDay) -> Iterator[_Work]:
        """Yield the requests of one day."""
        candidates = self._runner.run(self._candidates(day))
        inside = np.zeros(len(self._inputs.farms), np.bool_)
        for number, tile in enumerate(candidates.tiles):
            farms = candidates.farms_at_home(number)
            if tile.home is None or tile.cells is None or not len(farms):
                continue
            inside[farms] = True
            yield from self._home(day, candidates, number, (tile.home, tile.cells))
        yield from self._without_home(day, candidates, ~inside)

    def _without_home(
        self, day: SceneDay, candidates: DayCandidates, homeless: npt.NDArray[np.bool_]
    ) -> Iterator[_Work]:
        """Yield the farms no image shows, apart from those whose image cannot be used."""
        gsd = (self._profile.gsd_m,) * len(self._inputs.indices)
        failures = [failure for tile in candidates.failed_tiles() for failure in tile.failures]
        for failure in failures:
            over = homeless & may_show(self._inputs.geometries, failure.scene.bbox)
            if over.any():
                yield _Work(
                    chunk=self._chunk(day, np.flatnonzero(over).tolist(), gsd), image=None, problem=failure.problem
                )
            homeless &= ~over
        if homeless.any():
            yield _Work(chunk=self._chunk(day, np.flatnonzero(homeless).tolist(), gsd), image=None)

    async def _candidates(self, day: SceneDay) -> DayCandidates:
        """Return homes and order of scenes; opening asks nobody, because hrefs carry the grids."""
        if self._context is None:
            async with self._readers(self._executor) as reader:
                self._context = RunContext(self._inputs, reader, self._executor)
        context = self._context
        return await open_day(day, self._inputs.geometries, context.open_scene, context.cells_of)

    def _home(
        self, day: SceneDay, candidates: DayCandidates, tile: int, opened: tuple[OpenScene, FarmCells]
    ) -> Iterator[_Work]:
        home, cells = opened
        ratios = coarsest_ratios(self._inputs.program, home.ratios).tolist()
        gsd = tuple(float(ratio * home.grid.pixel_m) for ratio in ratios)
        farms = candidates.farms_at_home(tile)
        scenes = self._scenes(candidates, tile, farms)
        image = DayImage(
            scenes=scenes,
            profile=self._profile,
            indices=self._inputs.indices,
            reflectance_max=self._inputs.options.reflectance_max,
        )
        by_ratio = {
            ratio: [i for i in image.servable if ratios[i] == ratio]
            for ratio in sorted({ratios[i] for i in image.servable})
        }
        for members in self._chunks(cells, farms.tolist(), tuple(by_ratio)):
            chunk = self._chunk(day, [number for number, _ in members], gsd)
            regions = tuple(
                FarmRegions(number=place, whole=region.whole, pure=region.pure)
                for place, (_, region) in enumerate(members)
            )
            yield _Work(
                chunk=chunk.at_home(home, cells, scenes, tuple(ratios)), image=image, regions=regions, by_ratio=by_ratio
            )

    def _scenes(self, candidates: DayCandidates, tile: int, farms: Any) -> tuple[Scene, ...]:
        """Return the home scene and those that may fill its gaps, in the order the engine would ask them."""
        mine = candidates.tiles[tile]
        order = [mine.scenes[len(mine.failures) :]]
        others = {int(other) for number in farms.tolist() for other in candidates.order[number] if other >= 0}
        order += [candidates.tiles[other].scenes for other in sorted(others - {tile})]
        return tuple(scene for scenes in order for scene in scenes)

    def _chunks(
        self, cells: FarmCells, farms: Sequence[int], ratios: tuple[int, ...]
    ) -> Iterator[list[tuple[int, FarmRegions]]]:
        """Yield farms with their outlines, cut by number and by the bytes they take."""
        members: list[tuple[int, FarmRegions]] = []
        size = 0
        for number in farms:
            region = self._region(cells, number, ratios)
            weight = _bytes_of(region)
            full = len(members) >= self._session.options.farms_per_request
            if members and (full or size + weight > self._session.options.request_bytes):
                yield members
                members, size = [], 0
            members.append((number, region))
            size += weight
        if members:
            yield members

    def _region(self, cells: FarmCells, number: int, ratios: tuple[int, ...]) -> FarmRegions:
        key = (cells.grid, cells.ratios, number, ratios)
        if key not in self._regions:
            area = int(cells.position[number])
            least = self._inputs.options.min_pure_pixels
            pure: dict[int, BaseGeometry] = {
                ratio: pure_region(cells, area, ratio)
                for ratio in ratios
                if pure_count(cells, area, ratio) >= max(1, least * ratio * ratio)
            }
            self._regions[key] = FarmRegions(number=0, whole=self._whole(cells, number), pure=pure)
        return self._regions[key]

    def _whole(self, cells: FarmCells, number: int) -> BaseGeometry:
        crs = cells.grid.crs
        if crs not in self._projected:
            self._projected[crs] = project(self._inputs.geometries, crs)
        return whole_region(self._inputs.geometries, self._projected[crs], number)

    def _chunk(self, day: SceneDay, farms: Sequence[int], gsd: tuple[float, ...]) -> Chunk:
        return Chunk(
            day=day.solar_day,
            farms=tuple(farms),
            farm_ids=tuple(self._inputs.farms[number].farm_id for number in farms),
            indices=tuple(index.slug for index in self._inputs.indices),
            gsd_m=gsd,
            min_pure_pixels=self._inputs.options.min_pure_pixels,
        )


def _bytes_of(region: FarmRegions) -> int:
    """Return about how many bytes a farm's outlines take in a request."""
    return sum(
        len(json.dumps(shapely.get_coordinates(shape).tolist())) for shape in (region.whole, *region.pure.values())
    )
