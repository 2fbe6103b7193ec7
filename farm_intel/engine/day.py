"""One solar day: every farm through its home scene, then the few that need a second one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import Verdict
from farm_intel.domain.errors import SceneProblemError, SceneProblemKind, TransientError
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.domain.products import PixelReason
from farm_intel.domain.scenes import Scene
from farm_intel.engine.candidates import (
    DayCandidates,
    Failure,
    TileScenes,
    failure_of,
    is_older_processing,
    may_show,
)
from farm_intel.engine.composites import dated
from farm_intel.engine.context import RunContext
from farm_intel.engine.emitting import DayEmitter, DayPart, Provenance, verdict_part
from farm_intel.engine.filling import OpenFarm, fill, missing_points
from farm_intel.engine.gathering import count_missing
from farm_intel.engine.grid import FarmCells
from farm_intel.engine.opening import OpenScene
from farm_intel.engine.planning import Group
from farm_intel.engine.reading import GroupPixels, SceneRead
from farm_intel.engine.zonal import ZonalResult, evaluate_farms, join_pixels

_MOST = 0.5
"""Share of a farm without data above which failed scenes make a failure of it."""


class DayWork:
    """The state of one day: what is emitted, which farms are still open."""

    def __init__(self, context: RunContext, candidates: DayCandidates, emitter: DayEmitter) -> None:
        self._context = context
        self._candidates = candidates
        self._emitter = emitter
        self._open: dict[int, OpenFarm] = {}
        self._further: dict[str, OpenScene | Failure] = {}
        self._groups: list[asyncio.Task[None]] = []
        self._gsd = context.gsd_m(next((tile.home for tile in candidates.tiles if tile.home is not None), None))
        for tile in candidates.tiles:
            emitter.problems.extend(failure.problem for failure in tile.failures)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start every group of every home scene, as fast as the pool admits them."""
        await self._tell_outside()
        for number, tile in enumerate(self._candidates.tiles):
            farms = self._candidates.farms_at_home(number)
            if tile.home is None or tile.cells is None or not len(farms):
                continue
            self._emitter.problems.extend(tile.home.problems)
            read = self._context.read_job(tile.home, tile.cells)
            groups = self._context.groups(read, tile.cells.position[farms])
            await self._admit(tasks, read, tile.cells, groups)

    async def finish(self, tasks: asyncio.TaskGroup) -> None:
        """Wait for the groups, ask further scenes for the farms that are still open, hand on the rest."""
        await self._drain()
        while True:
            waiting = [farm for farm in self._open.values() if farm.candidates]
            if not waiting:
                break
            scene = waiting[0].candidates[0]
            await self._ask(tasks, scene, [farm for farm in waiting if farm.candidates[0] is scene])
        await self._close_farms()
        await self._emitter.flush()

    async def _drain(self) -> None:
        groups, self._groups = self._groups, []
        if groups:
            await asyncio.wait(groups)

    async def _admit(
        self, tasks: asyncio.TaskGroup, read: SceneRead, cells: FarmCells, groups: Sequence[Group]
    ) -> None:
        pool = self._context.pool
        for group in groups:
            pool.expect(read.needs(group))
        for group in groups:
            size = read.size(group)
            await pool.admit(size)
            self._groups.append(tasks.create_task(self._run_group(read, cells, group, size)))

    async def _run_group(self, read: SceneRead, cells: FarmCells, group: Group, size: int) -> None:
        context = self._context
        context.take_turn()
        try:
            found = await read.run(group, context.pool, context.executor)
            await self._route(read.scene, cells, found)
        finally:
            await context.pool.leave(size)

    async def _route(self, scene: OpenScene, cells: FarmCells, found: GroupPixels) -> None:
        """Compute the farms the scene has seen wholly, or that no other scene can complete; keep the others open."""
        gone = np.zeros(len(found.pixels.reasons), np.bool_)
        missing = await self._context.compute(
            count_missing, found.pixels.reflectance, found.pixels.reasons, scene.present, found.pixels.starts, gone
        )
        ready = np.ones(len(found.areas), np.bool_)
        unclear = set(np.nonzero(missing)[0].tolist()) | set(found.failed)
        totals = np.diff(found.pixels.starts)
        for k in unclear:
            farm = self._farm(int(cells.farm_index[found.areas[k]]), scene.scene)
            if k in found.failed:
                farm.failures.append(found.failed[k])
                self._emitter.problems.append(found.failed[k].problem)
                ready[k] = False
            elif missing[k] == totals[k]:
                farm.seen.append(scene)
                ready[k] = False
            elif farm.candidates:
                span = slice(int(found.pixels.starts[k]), int(found.pixels.starts[k + 1]))
                farm.home, farm.cells = scene, cells
                farm.pixels, farm.missing = found.pixels.area(k), gone[span].copy()
                farm.contributors.append(scene)
                ready[k] = False
        parts = np.nonzero(ready)[0].astype(np.int64)
        if len(parts):
            await self._compute(scene, cells, found, parts)

    async def _compute(
        self, scene: OpenScene, cells: FarmCells, found: GroupPixels, parts: npt.NDArray[np.int64]
    ) -> None:
        areas = found.areas[parts]
        bundle = self._context.bundle(scene, cells)
        result = await self._context.compute(evaluate_farms, cells, areas, found.pixels, bundle, parts)
        farms = cells.farm_index[areas]
        kept = await self._without_lost([self._open.get(number) for number in farms.tolist()], result)
        if not kept.all():
            for number in farms[~kept].tolist():
                del self._open[number]
            if kept.any():
                await self._compute(scene, cells, found, parts[kept])
            return
        plain = self._provenance(scene, None)
        provenance = []
        for number, part in zip(farms.tolist(), parts.tolist(), strict=True):
            farm = self._open.pop(number, None)
            source = plain if farm is None else self._provenance(scene, farm)
            provenance.append(dated(source, scene.scene, found.pixels, part))
        await self._emit(scene, cells, areas, result, provenance)

    async def _without_lost(self, opened: Sequence[OpenFarm | None], result: ZonalResult) -> npt.NDArray[np.bool_]:
        """Return (farms,) True but for farms that are mostly unseen because scenes failed; those are told.

        What little was seen would pass for the farm, or the day for one without a pass.
        """
        kept = np.ones(len(opened), np.bool_)
        lost = []
        for k, farm in enumerate(opened):
            if farm is None or not (farm.failures or self._lacking(farm)):
                continue
            if result.fractions[k, :, PixelReason.NODATA].min() > _MOST:
                kept[k] = False
                lost.append(farm)
        if lost:
            await self._emitter.add(
                verdict_part(
                    [farm.farm for farm in lost],
                    [self._verdict(farm) for farm in lost],
                    [_looked_at(farm) for farm in lost],
                    self._gsd,
                )
            )
        return kept

    async def _emit(
        self,
        scene: OpenScene,
        cells: FarmCells,
        areas: npt.NDArray[np.int64],
        result: ZonalResult,
        provenance: Sequence[Provenance],
    ) -> None:
        await self._emitter.add(
            DayPart(
                farms=cells.farm_index[areas],
                result=result,
                provenance=provenance,
                verdicts=(None,) * len(areas),
                gsd_m=self._context.gsd_m(scene),
            )
        )

    def _provenance(self, scene: OpenScene, farm: OpenFarm | None) -> Provenance:
        """Return where numbers of a home scene come from; a farm is given where the scene had gaps or was not first."""
        tile = next((tile for tile in self._candidates.tiles if scene.scene in tile.scenes), None)
        before = [*(farm.failures if farm else ()), *(tile.failures if tile is not None else ())]
        flags = frozenset(farm.flags if farm else ())
        if self._context.inputs.profile.composite_days > 1:
            flags |= {Flag.COMPOSITE}
        if is_older_processing(scene.scene, before):
            flags |= {Flag.OLDER_PROCESSING}
        return Provenance(
            scene_ids=(scene.scene.scene_id,),
            acquired_at=scene.scene.acquired_at,
            flags=flags | scene.radiometry.flags,
            radiometry=scene.radiometry.rule,
            retry=next((str(failure.problem) for failure in [*before, *self._lacking(farm)] if failure.transient), ""),
        )

    def _lacking(self, farm: OpenFarm | None) -> list[Failure]:
        """Return what could not be read of the scenes that may have filled the farm's remaining gaps."""
        filled = farm is None or (farm.pixels is not None and not farm.missing.any())
        return [] if farm is None or filled else [*farm.unread, *self._failed_over(farm.farm)]

    def _farm(self, number: int, asked: Scene) -> OpenFarm:
        """Return the open state of a farm; a new one still has every scene after its home scene to ask."""
        if number not in self._open:
            order = [int(tile) for tile in self._candidates.order[number] if tile >= 0]
            scenes: list[Scene] = []
            for tile in order:
                scenes.extend(self._usable(self._candidates.tiles[tile]))
            self._open[number] = OpenFarm(
                farm=number, candidates=[scene for scene in scenes if scene.scene_id != asked.scene_id]
            )
        return self._open[number]

    @staticmethod
    def _usable(tile: TileScenes) -> tuple[Scene, ...]:
        return tile.scenes[len(tile.failures) :]

    async def _ask(self, tasks: asyncio.TaskGroup, scene: Scene, farms: Sequence[OpenFarm]) -> None:
        """Ask one further scene for all farms whose turn it is."""
        for farm in farms:
            farm.candidates.pop(0)
        opened = await self._open_further(scene)
        if isinstance(opened, Failure):
            for farm in farms:
                farm.failures.append(opened)
            return
        cells = await self._context.cells_of(opened)
        homeless = [farm.farm for farm in farms if farm.pixels is None and cells.position[farm.farm] >= 0]
        if homeless:
            read = self._context.read_job(opened, cells)
            areas = cells.position[np.array(homeless, np.int64)]
            await self._admit(tasks, read, cells, read.plan(areas))
            await self._drain()
        gaps = [farm for farm in farms if farm.pixels is not None and farm.missing.any()]
        # farms that this very scene gave a first home have nothing more to take from it
        gaps = [farm for farm in gaps if farm.home is not opened]
        if gaps:
            await self._fill(opened, gaps)

    async def _open_further(self, scene: Scene) -> OpenScene | Failure:
        """Open a scene once; a failure is a problem of the day and of the farms that waited for it."""
        for tile in self._candidates.tiles:
            if tile.home is not None and tile.home.scene.scene_id == scene.scene_id:
                return tile.home
        if scene.scene_id not in self._further:
            try:
                self._further[scene.scene_id] = await self._context.open_scene(scene)
            except (SceneProblemError, TransientError) as error:
                failure = failure_of(error, scene)
                self._emitter.problems.append(failure.problem)
                self._further[scene.scene_id] = failure
        return self._further[scene.scene_id]

    async def _fill(self, scene: OpenScene, farms: Sequence[OpenFarm]) -> None:
        context = self._context
        points = missing_points(farms, scene)
        read = SceneRead(context.next_job(), scene, points, context.rules)
        groups = read.plan(np.arange(len(farms), dtype=np.int64))
        for group in groups:
            context.pool.expect(read.needs(group))
        for group in groups:
            size = read.size(group)
            await context.pool.admit(size)
            try:
                found = await read.run(group, context.pool, context.executor)
            finally:
                await context.pool.leave(size)
            for k, area in enumerate(found.areas.tolist()):
                if k in found.failed:
                    self._emitter.problems.append(found.failed[k].problem)
                    farms[area].unread.append(found.failed[k])
                else:
                    fill(farms[area], scene, found.pixels.area(k))

    async def _close_farms(self) -> None:
        """Compute the farms that are as complete as they get; say why the others have nothing."""
        closing, self._open = list(self._open.values()), {}
        by_home: dict[tuple[int, int], list[OpenFarm]] = {}
        empty = []
        for farm in closing:
            if farm.pixels is None:
                empty.append(farm)
            else:
                by_home.setdefault((id(farm.home), id(farm.cells)), []).append(farm)
        for farms in by_home.values():
            await self._compute_filled(farms)
        if empty:
            await self._emitter.add(
                verdict_part(
                    [farm.farm for farm in empty],
                    [self._verdict(farm) for farm in empty],
                    [_looked_at(farm) for farm in empty],
                    self._gsd,
                )
            )

    async def _compute_filled(self, farms: Sequence[OpenFarm]) -> None:
        if not farms:
            return
        home, cells = farms[0].home, farms[0].cells
        if home is None or cells is None:
            return
        areas = np.array([farm.area for farm in farms], np.int64)
        pixels = join_pixels([farm.pixels for farm in farms if farm.pixels is not None])
        result = await self._context.compute(evaluate_farms, cells, areas, pixels, self._context.bundle(home, cells))
        kept = await self._without_lost(farms, result)
        if not kept.all():
            await self._compute_filled([farm for farm, keep in zip(farms, kept.tolist(), strict=True) if keep])
            return
        provenance = []
        for place, farm in enumerate(farms):
            plain = dated(self._provenance(home, farm), home.scene, pixels, place)
            rules = dict.fromkeys(scene.radiometry.rule for scene in farm.contributors)
            provenance.append(
                Provenance(
                    scene_ids=tuple(dict.fromkeys(scene.scene.scene_id for scene in farm.contributors)),
                    acquired_at=plain.acquired_at,
                    flags=plain.flags,
                    radiometry="; ".join(rules),
                    retry=plain.retry,
                )
            )
        await self._emit(home, cells, areas, result, provenance)

    def _verdict(self, farm: OpenFarm) -> Verdict:
        number = farm.farm
        tiles = [self._candidates.tiles[int(t)] for t in self._candidates.order[number] if t >= 0]
        failures = [*farm.failures, *farm.unread, *(failure for tile in tiles for failure in tile.failures)]
        failures += self._failed_over(number)
        if failures:
            return failed_verdict(failures)
        names = ", ".join(scene.scene.scene_id for scene in farm.seen)
        return Verdict(status=ObservationStatus.OUTSIDE_FOOTPRINT, reason=f"no data over the farm in {names}")

    def _failed_over(self, number: int) -> list[Failure]:
        """Return failures of tiles that could not be opened at all and may show the farm."""
        return [
            failure
            for tile in self._candidates.failed_tiles()
            for failure in tile.failures
            if may_show(self._context.inputs.geometries, failure.scene.bbox)[number]
        ]

    async def _tell_outside(self) -> None:
        """Emit the farms that no opened file holds, and those without a single pixel."""
        order = self._candidates.order
        outside = np.arange(len(order)) if not order.shape[1] else np.nonzero(order[:, 0] < 0)[0]
        if not len(outside):
            return
        geometries = self._context.inputs.geometries
        over: dict[int, list[Failure]] = {}
        for tile in self._candidates.failed_tiles():
            for failure in tile.failures:
                for number in np.nonzero(may_show(geometries, failure.scene.bbox))[0].tolist():
                    over.setdefault(number, []).append(failure)
        nowhere = Verdict(status=ObservationStatus.OUTSIDE_FOOTPRINT, reason="the farm lies outside every scene's file")
        verdicts = [failed_verdict(over[n]) if n in over else nowhere for n in outside.tolist()]
        await self._emitter.add(verdict_part(outside.tolist(), verdicts, (Provenance(),) * len(outside), self._gsd))


def failed_verdict(failures: Sequence[Failure]) -> Verdict:
    """Return why a farm has nothing, when at least one scene that may show it failed.

    Only refused radiometry is a verdict on the data (REJECTED); everything else is the provider's failure.
    """
    problems = list(dict.fromkeys(failure.problem for failure in failures))
    refused = all(problem.kind is SceneProblemKind.RADIOMETRY_UNDECIDED for problem in problems)
    return Verdict(
        status=ObservationStatus.REJECTED if refused else ObservationStatus.PROVIDER_FAILED,
        reason="; ".join(str(problem) for problem in problems),
        transient=any(failure.transient for failure in failures),
    )


def _looked_at(farm: OpenFarm) -> Provenance:
    """Return which scenes had nothing of the farm."""
    return Provenance(
        scene_ids=tuple(scene.scene.scene_id for scene in farm.seen),
        acquired_at=farm.seen[0].scene.acquired_at if farm.seen else None,
    )
