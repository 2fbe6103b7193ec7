"""What all days of one run share: the reader, the block pool, the plans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import FarmShape
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene
from farm_intel.engine.blocks import BlockReader
from farm_intel.engine.grid import FarmCells, FarmGeometries, cut_cells, load_geometries, project
from farm_intel.engine.kernels import BundleArrays
from farm_intel.engine.opening import OpenScene, SceneOpener, known_ratios
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.ordering import turn
from farm_intel.engine.planning import BandLayout, Group
from farm_intel.engine.pool import BlockPool
from farm_intel.engine.reading import ReadRules, SceneRead
from farm_intel.engine.zonal import bundle_arrays, coarsest_ratios
from farm_intel.indices.index import SpectralIndex
from farm_intel.indices.program import BundleProgram, compile_bundle

_PLANS_KEPT = 64
"""Group lists kept; farms change their home only when a tile is missing on a day, so few are ever needed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunInputs:
    """What was asked of a run, compiled once."""

    farms: tuple[FarmShape, ...]
    geometries: FarmGeometries
    indices: tuple[SpectralIndex, ...]
    program: BundleProgram
    profile: CollectionProfile
    options: EngineOptions

    @property
    def rules(self) -> ReadRules:
        """What reading needs to know."""
        return ReadRules(
            lookup=self.profile.mask.lookup(),
            mask_first=self.options.mask_first,
            dilation_px=self.options.mask_dilation_px,
            budget_bytes=self.options.budget_bytes,
            more_lookups=tuple(rule.lookup() for rule in self.profile.more_masks),
            valid_dn=self.profile.valid_dn,
        )


def compile_inputs(
    farms: Sequence[FarmShape], indices: Sequence[SpectralIndex], profile: CollectionProfile, options: EngineOptions
) -> RunInputs:
    """Return the compiled inputs.

    Raises:
        BadRequestError: a boundary is no polygon, or no index was asked for.
        UnknownNameError: the collection has no band for one of the indices.

    """
    return RunInputs(
        farms=tuple(farms),
        geometries=load_geometries(farms),
        indices=tuple(indices),
        program=compile_bundle(indices, profile.bands),
        profile=profile,
        options=options,
    )


class RunContext:
    """Caches and shared machinery of one run; lives in its event loop."""

    def __init__(
        self,
        inputs: RunInputs,
        reader: BlockReader,
        executor: Executor,
        refresh: Callable[[Scene], Scene] | None = None,
    ) -> None:
        self.inputs = inputs
        self.executor = executor
        self.rules = inputs.rules
        self.pool = BlockPool(inputs.options.budget_bytes, inputs.options.units_ahead)
        self._opener = SceneOpener(
            reader, executor, inputs.profile, inputs.program, refresh=refresh, announce=self._start_cut
        )
        self._projected: dict[str, npt.NDArray[np.float64]] = {}
        self._cells: dict[tuple[PixelGrid, tuple[int, ...]], asyncio.Future[FarmCells]] = {}
        self._plans: dict[tuple[int, tuple[BandLayout, ...], bytes], tuple[Group, ...]] = {}
        self._bundles: dict[tuple[tuple[int, ...], tuple[int, ...]], BundleArrays] = {}
        self._jobs = 0
        self._turns = 0

    async def open_scene(self, scene: Scene) -> OpenScene:
        """Open a scene.

        Raises:
            SceneProblemError: it cannot be used.
            TransientError: catalogue or server did not answer.

        """
        return await self._opener.open(scene)

    async def compute[T](self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function in the pool of threads."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, *arguments)

    async def cells_of(self, scene: OpenScene) -> FarmCells:
        """Return the farms' pixels on the scene's grid; cut once per grid."""
        ratios = known_ratios((*scene.inputs, scene.mask))
        return await asyncio.shield(self._start_cut(scene.grid, ratios))

    def _start_cut(self, grid: PixelGrid, ratios: tuple[int, ...]) -> asyncio.Future[FarmCells]:
        """Cut the farms in a thread, unless that was begun; scenes announce their grid before all else is known."""
        key = (grid, ratios)
        if key not in self._cells:
            self._cells[key] = asyncio.ensure_future(self.compute(self._cut, grid, ratios))
            # where the scene turns out useless nobody asks what became of it
            self._cells[key].add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._cells[key]

    def _cut(self, grid: PixelGrid, ratios: tuple[int, ...]) -> FarmCells:
        geometries = self.inputs.geometries
        if grid.crs not in self._projected:
            self._projected[grid.crs] = project(geometries, grid.crs)
        return cut_cells(geometries, grid, ratios, self._projected[grid.crs])

    def take_turn(self) -> None:
        """Put this task, and those it starts, behind all groups that took their turn before."""
        self._turns += 1
        turn.set(self._turns)

    def read_job(self, scene: OpenScene, pixels: FarmCells) -> SceneRead:
        """Return a new read job over farms."""
        self._jobs += 1
        return SceneRead(self._jobs, scene, pixels, self.rules)

    def next_job(self) -> int:
        """Return the number of a new read job."""
        self._jobs += 1
        return self._jobs

    def groups(self, read: SceneRead, areas: npt.NDArray[np.int64]) -> tuple[Group, ...]:
        """Return the groups of a read job; made once per grid, blocking and farm set."""
        key = (id(read.pixels), read.plan_key, areas.tobytes())
        if key not in self._plans:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = read.plan(areas)
        return self._plans[key]

    def bundle(self, scene: OpenScene, cells: FarmCells) -> BundleArrays:
        """Return the compiled indices for a scene's band layout."""
        key = (scene.ratios, cells.ratios)
        if key not in self._bundles:
            inputs = self.inputs
            self._bundles[key] = bundle_arrays(inputs.program, inputs.indices, key, inputs.options)
        return self._bundles[key]

    def gsd_m(self, scene: OpenScene | None) -> tuple[float, ...]:
        """Return the coarsest input's pixel size per index, metres; the profile's where no scene could be opened."""
        if scene is None:
            return (self.inputs.profile.gsd_m,) * len(self.inputs.indices)
        ratios = coarsest_ratios(self.inputs.program, scene.ratios)
        return tuple(float(ratio * scene.grid.pixel_m) for ratio in ratios)
