"""Which scenes may show which farm on one solar day, and in which order they are asked.

Order for a farm: the home tile first (the tile whose file holds most of the farm, then the one whose centre is nearest,
then by name), then the other tiles that hold part of it; within a tile the newest processing first, then the latest
acquisition. Everything after the first scene only fills what the first did not see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import SceneDay
from farm_intel.domain.errors import SceneProblemError, TransientError
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import Scene, SceneProblem
from farm_intel.engine.grid import FarmCells, FarmGeometries
from farm_intel.engine.opening import OpenScene, problem_of

_MARGIN_DEG = 0.1
"""Catalogue boxes are rounded and simplified; a file may reach a little further."""
_SAME_ACQUISITION = timedelta(minutes=10)
_SHARE_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A scene that could not be used."""

    scene: Scene
    problem: SceneProblem
    transient: bool
    """True where the same read may succeed later."""


@dataclass(slots=True, kw_only=True, eq=False)
class TileScenes:
    """All scenes of one tile on one day, newest first, and what became of them."""

    name: str
    scenes: tuple[Scene, ...]
    home: OpenScene | None = None
    """The first that could be opened."""
    cells: FarmCells | None = None
    failures: list[Failure] = field(default_factory=list)
    """Scenes before `home` that could not be opened."""

    @property
    def further(self) -> tuple[Scene, ...]:
        """Scenes after `home`, in order."""
        return self.scenes[len(self.failures) + (self.home is not None) :]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DayCandidates:
    """One day, opened: tiles and the home tile of every farm."""

    day: SceneDay
    tiles: tuple[TileScenes, ...]
    order: npt.NDArray[np.int64]
    """(farms, tiles) tile numbers per farm in the order to ask them, -1 past the last one that holds part of it."""

    def farms_at_home(self, tile: int) -> npt.NDArray[np.int64]:
        """Return the farms whose home is this tile."""
        if not self.order.shape[1]:
            return np.empty(0, np.int64)
        farms: npt.NDArray[np.int64] = np.nonzero(self.order[:, 0] == tile)[0].astype(np.int64)
        return farms

    def failed_tiles(self) -> list[TileScenes]:
        """Return tiles of which no scene could be opened."""
        return [tile for tile in self.tiles if tile.home is None]


def may_show(geometries: FarmGeometries, box: BBox) -> npt.NDArray[np.bool_]:
    """Return (farms,) True where a farm may lie in a scene's box, with a margin and across longitude 180."""
    west, south, east, north = geometries.bounds.T
    found = np.zeros(len(geometries), np.bool_)
    for part in box.split():
        in_latitude = (south <= part.north + _MARGIN_DEG) & (north >= part.south - _MARGIN_DEG)
        for turn in (-360.0, 0.0, 360.0):
            in_longitude = (west + turn <= part.east + _MARGIN_DEG) & (east + turn >= part.west - _MARGIN_DEG)
            found |= in_latitude & in_longitude
    return found


def group_tiles(day: SceneDay, geometries: FarmGeometries) -> tuple[TileScenes, ...]:
    """Return the day's scenes by tile, newest first, without those that lie nowhere near a farm."""
    tiles: dict[str, list[Scene]] = {}
    for scene in day.scenes:
        if may_show(geometries, scene.bbox).any():
            tiles.setdefault(scene.tile or str(scene.bbox), []).append(scene)
    return tuple(
        TileScenes(
            name=name,
            scenes=tuple(sorted(scenes, key=lambda s: (s.revision, s.acquired_at, s.scene_id), reverse=True)),
        )
        for name, scenes in sorted(tiles.items())
    )


async def open_day(
    day: SceneDay,
    geometries: FarmGeometries,
    open_scene: Callable[[Scene], Awaitable[OpenScene]],
    cells_of: Callable[[OpenScene], Awaitable[FarmCells]],
) -> DayCandidates:
    """Open the newest usable scene of every tile and choose each farm's home."""
    tiles = group_tiles(day, geometries)

    async def open_tile(tile: TileScenes) -> None:
        for scene in tile.scenes:
            try:
                tile.home = await open_scene(scene)
            except (SceneProblemError, TransientError) as error:
                tile.failures.append(failure_of(error, scene))
                continue
            tile.cells = await cells_of(tile.home)
            return

    await asyncio.gather(*(open_tile(tile) for tile in tiles))
    return DayCandidates(day=day, tiles=tiles, order=_order_tiles(tiles, len(geometries)))


def failure_of(error: SceneProblemError | TransientError, scene: Scene) -> Failure:
    """Return what a scene's error means for its farms."""
    return Failure(scene=scene, problem=problem_of(error, scene), transient=isinstance(error, TransientError))


def _order_tiles(tiles: Sequence[TileScenes], farms: int) -> npt.NDArray[np.int64]:
    share = np.zeros((farms, len(tiles)))
    distance = np.full((farms, len(tiles)), np.inf)
    for number, tile in enumerate(tiles):
        if tile.cells is not None:
            share[tile.cells.farm_index, number] = tile.cells.inside_fraction
            distance[tile.cells.farm_index, number] = tile.cells.centre_distance_m
    # tiles come sorted by name, and the last key of lexsort is the first criterion
    names = np.broadcast_to(np.arange(len(tiles)), share.shape)
    order = np.lexsort((names, distance, -np.round(share, _SHARE_DIGITS)), axis=1).astype(np.int64)
    order[np.take_along_axis(share, order, axis=1) <= 0] = -1
    return order


def is_older_processing(used: Scene, failures: Sequence[Failure]) -> bool:
    """Return whether a newer processing of the same acquisition failed before `used`."""
    return any(
        failure.scene.tile == used.tile
        and failure.scene.platform == used.platform
        and abs(failure.scene.acquired_at - used.acquired_at) <= _SAME_ACQUISITION
        for failure in failures
    )
