"""Cuts days and farms into questions for Earth Engine: one home scene, as many farms as one request may hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.batches import SceneDay
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import SceneProblem
from farm_intel.engine.blocks import BlockReaderFactory
from farm_intel.engine.candidates import DayCandidates, may_show, open_day
from farm_intel.engine.context import RunContext, RunInputs
from farm_intel.engine.grid import FarmCells, project
from farm_intel.engine.zonal import coarsest_ratios
from farm_intel.providers.earth_engine.expressions import DayImage, FarmRegions
from farm_intel.providers.earth_engine.options import EarthEngineOptions
from farm_intel.providers.earth_engine.regions import pure_count, pure_region, whole_region
from farm_intel.providers.earth_engine.tables import Chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsRequest:
    """One question to Earth Engine, or farms that no image shows."""

    chunk: Chunk
    image: DayImage | None
    regions: tuple[FarmRegions, ...] = ()
    by_ratio: Mapping[int, Sequence[int]] = field(default_factory=dict)
    problem: SceneProblem | None = None
    """Why the only images of the farms cannot be used."""
    further: Callable[[Sequence[int]], Iterator[StatisticsRequest]] = lambda _: iter(())
    """Requests for farms (positions in the run) over the tile that comes after this one for each."""

    def halves(self) -> tuple[StatisticsRequest, StatisticsRequest]:
        """Return two requests of half the farms."""
        middle = len(self.regions) // 2
        first, second = range(middle), range(middle, len(self.regions))
        return self._part(first), self._part(second)

    def _part(self, places: range) -> StatisticsRequest:
        regions = tuple(
            FarmRegions(number=number, whole=self.regions[place].whole, pure=self.regions[place].pure)
            for number, place in enumerate(places)
        )
        return replace(self, chunk=self.chunk.part(places), regions=regions)


class RequestPlanner:
    """Cuts days into requests; farms' outlines are made once per grid.

    Args:
        inputs: what was asked of the run.
        profile: the row.
        readers: whose bands tell their grids without asking anybody.
        limits: farms and bytes of one request.
        workshop: threads that cut farms, and the loop that opens scenes.

    """

    def __init__(
        self,
        inputs: RunInputs,
        profile: CollectionProfile,
        readers: BlockReaderFactory,
        limits: EarthEngineOptions,
        workshop: tuple[Executor, asyncio.Runner],
    ) -> None:
        self._inputs = inputs
        self._profile = profile
        self._readers = readers
        self._limits = limits
        self._executor, self._runner = workshop
        self._regions: dict[tuple[object, ...], FarmRegions] = {}
        self._projected: dict[str, Any] = {}
        self._context: RunContext | None = None

    def day(self, day: SceneDay) -> Iterator[StatisticsRequest]:
        """Yield the requests of one day."""
        candidates = self._runner.run(self._candidates(day))
        inside = np.zeros(len(self._inputs.farms), np.bool_)
        for number, tile in enumerate(candidates.tiles):
            farms = candidates.farms_at_home(number)
            if tile.home is None or tile.cells is None or not len(farms):
                continue
            inside[farms] = True
            yield from self._home(day, candidates, number, farms.tolist())
        yield from self._without_home(day, candidates, ~inside)

    def _without_home(
        self, day: SceneDay, candidates: DayCandidates, homeless: npt.NDArray[np.bool_]
    ) -> Iterator[StatisticsRequest]:
        """Yield the farms no image shows, apart from those whose image cannot be used."""
        gsd = (self._profile.gsd_m,) * len(self._inputs.indices)
        failures = [failure for tile in candidates.failed_tiles() for failure in tile.failures]
        for failure in failures:
            over = homeless & may_show(self._inputs.geometries, failure.scene.bbox)
            if over.any():
                yield StatisticsRequest(
                    chunk=self._chunk(day, np.flatnonzero(over).tolist(), gsd), image=None, problem=failure.problem
                )
            homeless &= ~over
        if homeless.any():
            yield StatisticsRequest(chunk=self._chunk(day, np.flatnonzero(homeless).tolist(), gsd), image=None)

    async def _candidates(self, day: SceneDay) -> DayCandidates:
        """Return homes and order of scenes; opening asks nobody, because hrefs carry the grids."""
        if self._context is None:
            async with self._readers(self._executor) as reader:
                self._context = RunContext(self._inputs, reader, self._executor)
        context = self._context
        return await open_day(day, self._inputs.geometries, context.open_scene, context.cells_of)

    def _home(
        self, day: SceneDay, candidates: DayCandidates, tile: int, farms: Sequence[int]
    ) -> Iterator[StatisticsRequest]:
        """Yield the requests of some farms on one tile's grid."""
        home, cells = candidates.tiles[tile].home, candidates.tiles[tile].cells
        if home is None or cells is None:
            return
        ratios: list[int] = coarsest_ratios(self._inputs.program, home.ratios).tolist()
        image = self._image(candidates, tile, farms)
        by_ratio = {
            ratio: [i for i in image.servable if ratios[i] == ratio]
            for ratio in sorted({ratios[i] for i in image.servable})
        }
        gsd = tuple(float(ratio * home.grid.pixel_m) for ratio in ratios)

        def further(unseen: Sequence[int]) -> Iterator[StatisticsRequest]:
            return self._next_tiles(day, candidates, tile, unseen)

        for members in self._chunks(cells, farms, tuple(by_ratio)):
            chunk = self._chunk(day, [number for number, _ in members], gsd)
            yield StatisticsRequest(
                chunk=chunk.at_home(home, cells, image.scenes, tuple(ratios)),
                image=image,
                regions=tuple(replace(region, number=place) for place, (_, region) in enumerate(members)),
                by_ratio=by_ratio,
                further=further,
            )

    def _next_tiles(
        self, day: SceneDay, candidates: DayCandidates, tile: int, farms: Sequence[int]
    ) -> Iterator[StatisticsRequest]:
        """Yield requests for farms on the tile that follows for each; nothing for those without one."""
        following: dict[int, list[int]] = {}
        for number in farms:
            order = [int(other) for other in candidates.order[number] if other >= 0]
            rest = order[order.index(tile) + 1 :]
            if rest:
                following.setdefault(rest[0], []).append(number)
        for other, members in sorted(following.items()):
            yield from self._home(day, candidates, other, members)

    def _image(self, candidates: DayCandidates, tile: int, farms: Sequence[int]) -> DayImage:
        """Return the home scene and those that may fill its gaps, in the order the engine would ask them."""
        mine = candidates.tiles[tile]
        home = mine.scenes[len(mine.failures) :]
        others: set[int] = set()
        for number in farms:
            order = [int(other) for other in candidates.order[number] if other >= 0]
            others.update(order[order.index(tile) + 1 :])
        further = tuple(scene for other in sorted(others) for scene in candidates.tiles[other].scenes)
        return DayImage(
            scenes=(*home, *further),
            of_home_tile=len(home),
            profile=self._profile,
            indices=self._inputs.indices,
            reflectance_max=self._inputs.options.reflectance_max,
        )

    def _chunks(
        self, cells: FarmCells, farms: Sequence[int], ratios: tuple[int, ...]
    ) -> Iterator[list[tuple[int, FarmRegions]]]:
        """Yield farms with their outlines, cut by number and by the bytes they take."""
        members: list[tuple[int, FarmRegions]] = []
        size = 0
        for number in farms:
            region = self._region(cells, number, ratios)
            weight = _bytes_of(region)
            full = len(members) >= self._limits.farms_per_request
            if members and (full or size + weight > self._limits.request_bytes):
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
