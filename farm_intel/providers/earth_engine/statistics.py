"""Statistics computed by Earth Engine: small tables instead of pixels, under the engine's own rules.

Each farm is asked for twice: over the pixels wholly inside it, and over its whole boundary weighted by coverage. Which
of the two counts is decided by the answer, as in the engine: enough pure pixels left under the clouds, or all of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from typing import Any

from farm_intel.domain.batches import FarmDayBatch, FarmShape, ReadCounters, SceneDay
from farm_intel.domain.errors import SceneProblemKind, TransientError
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, SceneProblem
from farm_intel.engine.context import RunInputs, compile_inputs
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.summary import PlanSummary
from farm_intel.indices.index import SpectralIndex
from farm_intel.providers.earth_engine.expressions import statistics_table
from farm_intel.providers.earth_engine.failures import NoSuchAssetError, TooLargeError
from farm_intel.providers.earth_engine.pixels import earth_engine_block_readers
from farm_intel.providers.earth_engine.questions import RequestPlanner, StatisticsRequest
from farm_intel.providers.earth_engine.session import EarthEngineCalls, EarthEngineSession, QuotaState
from farm_intel.providers.earth_engine.tables import (
    Row,
    batch_of_rows,
    failed_batch,
    outside_batch,
    seen_elsewhere,
)
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

    def _work(
        self, inputs: RunInputs, days: Sequence[SceneDay], profile: CollectionProfile
    ) -> Iterator[StatisticsRequest]:
        """Yield the requests of all days, in order."""
        with ThreadPoolExecutor(1) as executor, asyncio.Runner() as runner:
            readers = earth_engine_block_readers(self._session, profile, self._guard, provider=self._calls.provider)
            planner = RequestPlanner(inputs, profile, readers, self._session.options, (executor, runner))
            for day in days:
                yield from planner.day(day)

    def _ask(self, work: StatisticsRequest) -> list[FarmDayBatch]:
        """Return the batches of one request; in halves where Earth Engine finds it too much."""
        if work.problem is not None:
            return [failed_batch(work.chunk, work.problem, transient=False)]
        if work.image is None:
            return [outside_batch(work.chunk, "the farm lies outside every scene's image")]
        try:
            return self._answered(work, self._rows(work))
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

    def _answered(self, work: StatisticsRequest, rows: dict[tuple[int, int], Row]) -> list[FarmDayBatch]:
        """Return an answer's batches; farms the home tile shows nothing of are asked again on the next tile's grid."""
        elsewhere = [place for place in range(len(work.chunk.farms)) if seen_elsewhere(rows.get((place, 0), {}))]
        further = list(work.further([work.chunk.farms[place] for place in elsewhere])) if elsewhere else []
        moved = {number for other in further for number in other.chunk.farms}
        staying = [place for place, number in enumerate(work.chunk.farms) if number not in moved]
        places = {old: new for new, old in enumerate(staying)}
        kept = {(places[place], ratio): row for (place, ratio), row in rows.items() if place in places}
        batches = [batch_of_rows(work.chunk.part(staying), kept)] if staying else []
        return [*batches, *(batch for other in further for batch in self._ask(other))]

    def _rows(self, work: StatisticsRequest) -> dict[tuple[int, int], Row]:
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
