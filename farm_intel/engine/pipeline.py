"""The engine: days, farms and indices in, batches of results out; reads every needed block once."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from farm_intel.domain.batches import FarmDayBatch, FarmShape, ReadCounters, SceneDay
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene
from farm_intel.engine.blocks import BlockReader, BlockReaderFactory
from farm_intel.engine.candidates import DayCandidates, open_day
from farm_intel.engine.context import RunContext, RunInputs, compile_inputs
from farm_intel.engine.day import DayWork
from farm_intel.engine.emitting import DayEmitter
from farm_intel.engine.memory import share_one_heap
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.ordering import OrderedExecutor
from farm_intel.engine.summary import PlanSummary, summarise_days
from farm_intel.indices.index import SpectralIndex

__all__ = ["EngineOptions", "PlanSummary", "SceneMajorEngine"]

_BATCHES_WAITING = 2
"""Batches computed ahead of the consumer; more would only cost memory."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """The last thing a run puts into its queue."""

    error: BaseException | None


class SceneMajorEngine:
    """Reads scenes once for all farms in them and all indices asked of them."""

    def __init__(self, readers: BlockReaderFactory, options: EngineOptions) -> None:
        self._readers = readers
        self._options = options

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

        Nothing is read before the first batch is asked for. Closing the iterator early cancels what is in flight.

        Args:
            days: solar days with their scenes, in the order they should come.
            farms: unique ids; boundaries in EPSG:4326.
            indices: computed together from one read.
            profile: what the collection's digital numbers and mask values mean.
            refresh: called once per scene before it is opened, for signed hrefs.
            on_counters: called once at the end with what reading cost.

        Raises:
            BadRequestError: no index, or a boundary that is no polygon.
            UnknownNameError: the collection has no band for an index.
            FarmIntelError: what readers raise beyond problems of one scene.

        """
        wanted = [day for day in days if day.scenes]
        if not wanted or not farms:
            return
        share_one_heap()
        inputs = compile_inputs(farms, indices, profile, self._options)
        run = _Run(self._readers, inputs, wanted, refresh)
        yield from run.batches()
        if on_counters is not None:
            on_counters(run.counters)

    def plan_summary(
        self,
        days: Sequence[SceneDay],
        farms: Sequence[FarmShape],
        indices: Sequence[SpectralIndex],
        profile: CollectionProfile,
        *,
        refresh: Callable[[Scene], Scene] | None = None,
    ) -> PlanSummary:
        """Return what a run would touch, from the image headers of one scene per tile, reading no pixels.

        Later days of a tile are taken to be cut like its first; a tile whose headers cannot be read is assumed to be
        of the profile's resolution and cut into blocks of 1024 pixels.

        Raises:
            BadRequestError: no index, or a boundary that is no polygon.
            UnknownNameError: the collection has no band for an index.

        """
        wanted = [day for day in days if day.scenes]
        if not wanted or not farms:
            return PlanSummary()
        # the probe reads overviews, and an estimate must not read pixels
        silent = replace(profile, radiometry=replace(profile.radiometry, probe=False))
        inputs = compile_inputs(farms, indices, silent, self._options)

        async def estimate() -> PlanSummary:
            async with _context(self._readers, inputs, refresh) as (context, _):
                return await summarise_days(context, wanted)

        with asyncio.Runner() as runner:
            return runner.run(estimate())


@asynccontextmanager
async def _context(
    readers: BlockReaderFactory, inputs: RunInputs, refresh: Callable[[Scene], Scene] | None
) -> AsyncIterator[tuple[RunContext, BlockReader]]:
    with OrderedExecutor(inputs.options.thread_count, "farm-intel-engine") as executor:
        async with readers(executor) as reader:
            context = RunContext(inputs, reader, executor, refresh)
            try:
                yield context, reader
            finally:
                await context.pool.close()


class _Run:
    """One run: an event loop in a thread of its own, feeding a queue the consumer empties."""

    def __init__(
        self,
        readers: BlockReaderFactory,
        inputs: RunInputs,
        days: Sequence[SceneDay],
        refresh: Callable[[Scene], Scene] | None,
    ) -> None:
        self._readers = readers
        self._inputs = inputs
        self._days = days
        self._refresh = refresh
        self._queue: queue.SimpleQueue[FarmDayBatch | _Ended] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._places = asyncio.Semaphore(_BATCHES_WAITING)
        self._task: asyncio.Task[None] | None = None
        self.counters = ReadCounters()

    def batches(self) -> Iterator[FarmDayBatch]:
        """Yield batches until the loop ends; stop the loop when the consumer stops."""
        self._task = self._loop.create_task(self._main())
        thread = threading.Thread(target=self._serve, name="farm-intel-engine-loop", daemon=True)
        thread.start()
        try:
            while not isinstance(item := self._queue.get(), _Ended):
                self._loop.call_soon_threadsafe(self._places.release)
                yield item
            if item.error is not None:
                raise item.error
        finally:
            if thread.is_alive():
                self._loop.call_soon_threadsafe(self._task.cancel)
            thread.join()
            self._loop.close()

    def _serve(self) -> None:
        task = self._task
        if task is None:
            return
        asyncio.set_event_loop(self._loop)
        task.add_done_callback(lambda _: self._loop.stop())
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        error = None if task.cancelled() else task.exception()
        self._queue.put(_Ended(_innermost(error)))

    async def _send(self, batch: FarmDayBatch) -> None:
        await self._places.acquire()
        self._queue.put(batch)

    async def _main(self) -> None:
        async with _context(self._readers, self._inputs, self._refresh) as (context, reader):
            async with asyncio.TaskGroup() as tasks:
                await self._walk(context, tasks)
            self.counters = replace(
                reader.counters(), blocks_touched=context.pool.touched, peak_bytes_held=context.pool.peak_held
            )

    async def _walk(self, context: RunContext, tasks: asyncio.TaskGroup) -> None:
        """Start the days in order; while one computes, the next one's headers are read."""
        opening = tasks.create_task(self._open(context, self._days[0]))
        finishing: asyncio.Task[None] | None = None
        for number in range(len(self._days)):
            candidates = await opening
            if number + 1 < len(self._days):
                opening = tasks.create_task(self._open(context, self._days[number + 1]))
            work = DayWork(context, candidates, self._emitter(candidates))
            await work.start(tasks)
            # at most two days are open, so that farms waiting for a second scene cannot pile up
            if finishing is not None:
                await finishing
            finishing = tasks.create_task(work.finish(tasks))

    async def _open(self, context: RunContext, day: SceneDay) -> DayCandidates:
        return await open_day(day, self._inputs.geometries, context.open_scene, context.cells_of)

    def _emitter(self, candidates: DayCandidates) -> DayEmitter:
        inputs = self._inputs
        return DayEmitter(
            day=candidates.day.solar_day,
            farms=inputs.farms,
            slugs=tuple(index.slug for index in inputs.indices),
            batch_farms=inputs.options.batch_farms,
            send=self._send,
        )


def _innermost(error: BaseException | None) -> BaseException | None:
    """Return the first real error of a task group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
