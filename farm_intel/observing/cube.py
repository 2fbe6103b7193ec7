"""The analyst's cube: one farm's scenes as xarray, read by stackstac on the files' own grid, indices by our rules.

stackstac stays what it is good at, reading any file into a grid; scale, offset, nodata and masks are ours, because its
own rescaling follows metadata that are wrong in the wild. A few scenes are read beside each other and written in pieces
of days, so that neither latency nor a large farm's memory grows with the length of the series.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm_intel.domain.errors import BadRequestError, SceneProblemError, TransientError
from farm_intel.domain.farms import Farm
from farm_intel.domain.ports import Progress
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, solar_day
from farm_intel.observing.cube_grid import MARGIN_PX, CubeGrid, home_grid
from farm_intel.observing.cube_scene import SceneRules, SceneStep, scene_step

if TYPE_CHECKING:
    import xarray as xr

    from farm_intel.engine.options import EngineOptions
    from farm_intel.indices.index import SpectralIndex

_SCENES_AT_ONCE = 8
PIECE_BYTES = 64 << 20
"""Values held before they are written; also the size of the Zarr's chunks, but for _MOST_DAYS."""
_MOST_DAYS = 64
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")
"""One of these files is in every Zarr, of format 3 or 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeSource:
    """Where a cube's scenes come from and by what rules they are read."""

    profile: CollectionProfile
    refresh: Callable[[Scene], Scene]
    """Returns a scene with hrefs that can be opened now."""
    options: EngineOptions
    """The limits and the mask dilation of stored numbers hold here too."""
    gdal: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `rasterio.Env`: time limits, proxy, credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeReport:
    """What was written."""

    path: Path
    days: int
    shape: tuple[int, int]
    indices: tuple[str, ...]
    left_out: tuple[str, ...]
    """Scenes that could not be used, with their reason."""

    def __str__(self) -> str:
        """Return one line for people, and one per scene left out."""
        rows, cols = self.shape
        text = f"{self.path}: {', '.join(self.indices)}, {self.days} days, {rows} x {cols} pixels"
        return "\n".join([text, *(f"left out: {reason}" for reason in self.left_out)])


def write_cube(
    path: Path,
    *,
    farm: Farm,
    scenes: Sequence[Scene],
    indices: Sequence[SpectralIndex],
    source: CubeSource,
    progress: Progress,
    piece_bytes: int = PIECE_BYTES,
) -> CubeReport:
    """Write (time, y, x) arrays of the indices over a farm's scenes as Zarr and return what was written.

    One time step per solar day; scenes of one day are merged, the home tile and the newest processing first. Later
    ones fill only what earlier ones have no data for, as in the engine: a cloud is not a gap. A value is NaN where the
    pixel is masked, an input is no reflectance of land (EngineOptions), or the index leaves its valid range. The Zarr
    appears under its name when it is complete; a Zarr that was there before is replaced then.

    Raises:
        BadRequestError: there is no usable scene over the farm, or something that is no Zarr has the name.
        UnknownNameError: the product has no band that an index needs.

    """
    for index in indices:
        index.resolve_bands(source.profile.bands)
    if path.exists() and not any((path / name).is_file() for name in _ZARR_MARKS):
        raise BadRequestError(f"{path} exists and is no Zarr", hint="Choose another name, or move it away.")
    job = _Job(farm=farm, indices=tuple(indices), source=source, progress=progress, piece_bytes=piece_bytes)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with warnings.catch_warnings():
            # consolidated metadata is what every reader of today expects, the v3 specification has yet to name it;
            # stackstac's affine arithmetic warns on every call
            warnings.simplefilter("ignore")
            report = job.write(scenes, partial, path)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


@dataclass(slots=True, kw_only=True)
class _Job:
    """One cube being written."""

    farm: Farm
    indices: tuple[SpectralIndex, ...]
    source: CubeSource
    progress: Progress
    piece_bytes: int
    left_out: list[str] = field(default_factory=list)

    def write(self, scenes: Sequence[Scene], partial: Path, path: Path) -> CubeReport:
        """Write the Zarr `partial` and return the report of `path`."""
        grid, home_tile = self._home(scenes)
        rules = SceneRules(
            grid=grid,
            indices=self.indices,
            profile=self.source.profile,
            options=self.source.options,
            gdal=self.source.gdal,
        )
        by_day: dict[date, list[Scene]] = defaultdict(list)
        for scene in sorted(scenes, key=lambda s: (s.tile == home_tile, s.revision, s.acquired_at), reverse=True):
            by_day[solar_day(scene.acquired_at, self.farm.longitude_deg)].append(scene)
        steps = self._steps({day: by_day[day] for day in sorted(by_day)}, rules)
        length = max(1, min(_MOST_DAYS, self.piece_bytes // (4 * math.prod(grid.shape) * len(self.indices))))
        days = 0
        while piece := list(islice(steps, length)):
            self._append(piece, grid, partial, first=not days, length=length)
            days += len(piece)
        if not days:
            raise self._nothing()
        names = tuple(index.slug for index in self.indices)
        return CubeReport(path=path, days=days, shape=grid.shape, indices=names, left_out=tuple(self.left_out))

    def _append(
        self, piece: Sequence[tuple[date, SceneStep]], grid: CubeGrid, target: Path, *, first: bool, length: int
    ) -> None:
        cube = _described(_dataset(piece, grid, self.indices), self.farm, grid, self.indices)
        if not first:
            cube.to_zarr(target, mode="a", append_dim="time", consolidated=True)
            return
        chunks = (length, *grid.shape)
        encoding: dict[str, dict[str, Any]] = {index.slug: {"chunks": chunks} for index in self.indices}
        # days as numbers since a day of their own would not continue over the pieces
        encoding["time"] = {"units": "days since 1970-01-01", "dtype": "int64"}
        cube.to_zarr(target, mode="w", consolidated=True, encoding=encoding)

    def _home(self, scenes: Sequence[Scene]) -> tuple[CubeGrid, str]:
        """Return grid and name of the tile that covers most of the farm, nearest to its centre where several do."""
        source = self.source
        margin = max(MARGIN_PX, source.options.mask_dilation_px)
        grids: dict[str, CubeGrid] = {}
        refused: list[str] = []
        for scene in scenes:
            if scene.tile in grids:
                continue
            try:
                grids[scene.tile] = home_grid(
                    source.refresh(scene), self.farm, source.profile, margin_px=margin, gdal=source.gdal
                )
            except (SceneProblemError, TransientError) as problem:
                refused.append(str(problem))
        if not grids:
            self.left_out.extend(refused)
            raise self._nothing()
        best = min(grids, key=lambda tile: (-round(grids[tile].covered, 6), grids[tile].off_centre_m, tile))
        return grids[best], best

    def _steps(self, by_day: Mapping[date, Sequence[Scene]], rules: SceneRules) -> Iterator[tuple[date, SceneStep]]:
        """Yield what each day shows; a few scenes are on their way while one is awaited."""
        waiting = deque(scene for scenes in by_day.values() for scene in scenes)
        pool = ThreadPoolExecutor(_SCENES_AT_ONCE, "cube")
        ahead: deque[Future[SceneStep]] = deque()
        try:
            for done, (day, scenes) in enumerate(by_day.items(), 1):
                merged: SceneStep | None = None
                for _ in scenes:
                    while waiting and len(ahead) < _SCENES_AT_ONCE:
                        ahead.append(pool.submit(self._step, waiting.popleft(), rules))
                    step = self._result(ahead.popleft())
                    if step is not None:
                        merged = step if merged is None else merged.filled_by(step)
                self.progress.advance(done, len(by_day), day.isoformat())
                if merged is not None:
                    yield day, merged
        finally:
            pool.shutdown(cancel_futures=True)

    def _step(self, scene: Scene, rules: SceneRules) -> SceneStep:
        return scene_step(self.source.refresh(scene), rules)

    def _result(self, future: Future[SceneStep]) -> SceneStep | None:
        try:
            return future.result()
        except (SceneProblemError, TransientError) as problem:
            self.left_out.append(str(problem))
            return None

    def _nothing(self) -> BadRequestError:
        farm_id = self.farm.farm_id
        return BadRequestError(
            f"no usable scene of {self.source.profile.collection} over farm {farm_id} in that time",
            hint="; ".join(self.left_out[:3]) or f"`farm-intel calendar --farm {farm_id}` shows what there is.",
        )


def _dataset(piece: Sequence[tuple[date, SceneStep]], grid: CubeGrid, indices: Sequence[SpectralIndex]) -> xr.Dataset:
    import xarray as xr

    left, _, _, top = grid.bounds
    rows, cols = grid.shape
    return xr.Dataset(
        {
            index.slug: (("time", "y", "x"), np.stack([step.values[index.slug] for _, step in piece]))
            for index in indices
        },
        coords={
            "time": np.array([day for day, _ in piece], "datetime64[ns]"),
            "y": top - (np.arange(rows) + 0.5) * grid.resolution_m,
            "x": left + (np.arange(cols) + 0.5) * grid.resolution_m,
        },
    )


def _described(cube: xr.Dataset, farm: Farm, grid: CubeGrid, indices: Sequence[SpectralIndex]) -> xr.Dataset:
    """Add CF attributes and the grid mapping."""
    from pyproj import CRS

    for index in indices:
        cube[index.slug].attrs = {
            "long_name": index.long_name,
            "units": "1",
            "valid_min": index.valid_range[0],
            "valid_max": index.valid_range[1],
            "grid_mapping": "spatial_ref",
            "formula": index.formula,
            "references": index.reference,
        }
    crs = CRS.from_epsg(grid.epsg)
    left, _, _, top = grid.bounds
    transform = f"{left} {grid.resolution_m} 0.0 {top} 0.0 {-grid.resolution_m}"
    cube = cube.assign_coords(spatial_ref=0)
    cube["spatial_ref"].attrs = crs.to_cf() | {"spatial_ref": crs.to_wkt(), "GeoTransform": transform}
    cube["x"].attrs = {"standard_name": "projection_x_coordinate", "units": "m"}
    cube["y"].attrs = {"standard_name": "projection_y_coordinate", "units": "m"}
    cube["time"].attrs = {"standard_name": "time", "long_name": "solar day of the farm"}
    cube.attrs = {
        "Conventions": "CF-1.11",
        "title": f"Spectral indices of farm {farm.farm_id}",
        "farm_id": farm.farm_id,
    }
    return cube
