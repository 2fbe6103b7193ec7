"""The analyst's cube: one farm's scenes as xarray, read by stackstac on the files' own grid, indices by our rules.

stackstac stays what it is good at, lazy reading into a grid; scale, offset, nodata and mask are ours, because its own
rescaling follows metadata that are wrong in the wild. Everything is read as raw integers on the home tile's grid.
"""

from __future__ import annotations

import shutil
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import BadRequestError, SceneProblemError
from farm_intel.domain.farms import Farm
from farm_intel.domain.ports import Progress
from farm_intel.domain.products import CollectionProfile, PixelReason
from farm_intel.domain.scenes import Scene, solar_day

if TYPE_CHECKING:
    import xarray as xr

    from farm_intel.indices.index import SpectralIndex

MARGIN_PX = 2
"""Pixels around the farm, so that an analyst sees its edge."""
REFLECTANCE_MAX = 1.6
"""As in the engine: an input at or below 0, or above this, makes no index."""
_PROBE_EDGE_PX = 512
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")
"""One of these files is in every Zarr, of format 3 or 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeGrid:
    """The grid of a cube: the home tile's own pixels around the farm."""

    epsg: int
    resolution_m: float
    bounds: tuple[float, float, float, float]
    """(left, bottom, right, top) on pixel edges of the file."""
    covered: float
    """Share of the farm inside the file."""
    off_centre_m: float
    """Distance of the farm from the file's centre."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        left, bottom, right, top = self.bounds
        return round((top - bottom) / self.resolution_m), round((right - left) / self.resolution_m)


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


@dataclass(frozen=True, slots=True)
class _Step:
    """The indices of one scene or several on the grid."""

    values: xr.Dataset
    seen: npt.NDArray[np.bool_]
    """(y, x) True where there is data, clear or not."""

    def filled_by(self, other: _Step) -> _Step:
        """Return this step with the pixels it has no data for taken from another."""
        import xarray as xr

        here = xr.DataArray(self.seen, dims=("y", "x"))
        return _Step(self.values.where(here, other.values), self.seen | other.seen)


def write_cube(
    path: Path,
    *,
    farm: Farm,
    scenes: Sequence[Scene],
    indices: Sequence[SpectralIndex],
    profile: CollectionProfile,
    refresh: Callable[[Scene], Scene],
    progress: Progress,
) -> CubeReport:
    """Write (time, y, x) arrays of the indices over a farm's scenes as Zarr and return what was written.

    One time step per solar day; scenes of one day are merged, the home tile and the newest processing first. Later
    ones fill only what earlier ones have no data for, as in the engine: a cloud is not a gap. A value is NaN where the
    pixel is masked, an input is outside 0 to 1.6, or the index leaves its valid range. The Zarr appears under its name
    when it is complete; a Zarr that was there before is replaced then.

    Raises:
        BadRequestError: there is no usable scene over the farm, or something that is no Zarr has the name.

    """
    import xarray as xr

    if path.exists() and not any((path / name).is_file() for name in _ZARR_MARKS):
        raise BadRequestError(f"{path} exists and is no Zarr", hint="Choose another name, or move it away.")
    left_out: list[str] = []
    grid, home_tile = _home(scenes, farm, profile, refresh, left_out)
    by_day: dict[date, list[Scene]] = defaultdict(list)
    for scene in sorted(scenes, key=lambda s: (s.tile == home_tile, s.revision, s.acquired_at), reverse=True):
        by_day[solar_day(scene.acquired_at, farm.longitude_deg)].append(scene)
    steps: list[xr.Dataset] = []
    for done, day in enumerate(sorted(by_day), 1):
        merged: _Step | None = None
        for scene in by_day[day]:
            try:
                step = _scene_step(refresh(scene), grid, indices, profile)
            except SceneProblemError as problem:
                left_out.append(str(problem))
                continue
            merged = step if merged is None else merged.filled_by(step)
        if merged is not None:
            steps.append(merged.values.assign_coords(time=np.datetime64(day, "ns")).expand_dims("time"))
        progress.advance(done, len(by_day), day.isoformat())
    if not steps:
        raise _nothing(farm, profile, left_out)
    cube = _described(xr.concat(steps, dim="time"), farm, grid, indices)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with warnings.catch_warnings():
        # consolidated metadata is what every reader of today expects, the v3 specification has yet to name it
        warnings.simplefilter("ignore")
        cube.to_zarr(partial, mode="w", consolidated=True)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)
    names = tuple(index.slug for index in indices)
    return CubeReport(path=path, days=len(steps), shape=grid.shape, indices=names, left_out=tuple(left_out))


def _home(
    scenes: Sequence[Scene],
    farm: Farm,
    profile: CollectionProfile,
    refresh: Callable[[Scene], Scene],
    left_out: list[str],
) -> tuple[CubeGrid, str]:
    """Return the grid and the name of the tile that covers most of the farm, nearest to its centre where several do."""
    grids: dict[str, CubeGrid] = {}
    for scene in scenes:
        if scene.tile not in grids:
            try:
                grids[scene.tile] = home_grid(refresh(scene), farm, profile)
            except SceneProblemError as problem:
                left_out.append(str(problem))
    if not grids:
        raise _nothing(farm, profile, left_out)
    best = min(grids, key=lambda tile: (-round(grids[tile].covered, 6), grids[tile].off_centre_m, tile))
    return grids[best], best


def _nothing(farm: Farm, profile: CollectionProfile, left_out: Sequence[str]) -> BadRequestError:
    return BadRequestError(
        f"no usable scene of {profile.collection} over farm {farm.farm_id} in that time",
        hint="; ".join(left_out[:3]) or f"`farm-intel calendar --farm {farm.farm_id}` shows what there is.",
    )


def home_grid(scene: Scene, farm: Farm, profile: CollectionProfile) -> CubeGrid:
    """Return the pixels around the farm on the grid of the scene's finest band, edges even for half-resolution bands.

    Raises:
        SceneProblemError: the file cannot be opened or has no EPSG code.

    """
    import rasterio
    import shapely
    from pyproj import Transformer
    from rasterio.errors import RasterioError

    from farm_intel.domain.errors import SceneProblemKind

    names = sorted(set(scene.bands) & profile.bands)
    try:
        transforms = {}
        for name in names:
            with rasterio.open(scene.bands[name].href) as file:
                transforms[name] = (file.transform, file.crs, file.bounds)
    except RasterioError as error:
        raise SceneProblemError(SceneProblemKind.UNREADABLE_FILE, scene.scene_id, str(error)) from error
    transform, crs, frame = min(transforms.values(), key=lambda entry: abs(float(entry[0].a)))
    coarsest = max(abs(float(entry[0].a)) for entry in transforms.values())
    epsg = crs.to_epsg() if crs else None
    if epsg is None:
        raise SceneProblemError(SceneProblemKind.MISSING_PROJECTION, scene.scene_id, "the cube needs an EPSG code")
    to_tile = Transformer.from_crs(4326, epsg, always_xy=True)
    boundary = shapely.transform(
        shapely.from_wkb(farm.boundary_wkb), lambda xy: np.column_stack(to_tile.transform(xy[:, 0], xy[:, 1]))
    )
    margin = MARGIN_PX * coarsest
    west, south, east, north = shapely.bounds(boundary)
    left = transform.c + np.floor((west - margin - transform.c) / coarsest) * coarsest
    right = transform.c + np.ceil((east + margin - transform.c) / coarsest) * coarsest
    top = transform.f - np.floor((transform.f - north - margin) / coarsest) * coarsest
    bottom = transform.f - np.ceil((transform.f - south + margin) / coarsest) * coarsest
    inside = shapely.intersection(boundary, shapely.box(*frame))
    centre = shapely.Point((frame.left + frame.right) / 2, (frame.bottom + frame.top) / 2)
    return CubeGrid(
        epsg=epsg,
        resolution_m=float(transform.a),
        bounds=(float(left), float(bottom), float(right), float(top)),
        covered=float(inside.area / boundary.area),
        off_centre_m=float(shapely.distance(shapely.centroid(boundary), centre)),
    )


def _scene_step(scene: Scene, grid: CubeGrid, indices: Sequence[SpectralIndex], profile: CollectionProfile) -> _Step:
    """Return the indices of one scene as (y, x) arrays on the grid, and where it has data."""
    import xarray as xr

    from farm_intel.engine.reflectance import decide_radiometry, resolve_radiometry

    names = sorted({band for index in indices for band in index.resolve_bands(scene.bands).values()})
    rules = {name: resolve_radiometry(profile, scene, scene.bands[name]) for name in names}
    probe = _probe(scene, profile) if any(rule.needs_probe for rule in rules.values()) else None
    decided = decide_radiometry(scene.scene_id, rules, probe)
    raw = _read(scene, [*names, profile.mask.band], grid)
    reasons = profile.mask.lookup()[np.clip(raw[-1], 0, (1 << profile.mask.bits) - 1)]
    clear = reasons == PixelReason.VALID
    seen = reasons != PixelReason.NODATA
    reflectance = {}
    for band, numbers in zip(names, raw, strict=False):
        nodata = scene.bands[band].nodata
        there = numbers != (profile.radiometry.nodata if nodata is None else nodata)
        seen &= there | ~clear
        rho = numbers.astype(np.float64) * decided.bands[band].scale + decided.bands[band].offset
        reflectance[band] = np.where(clear & there & (rho > 0) & (rho <= REFLECTANCE_MAX), rho, np.nan)
    left, _, _, top = grid.bounds
    rows, cols = grid.shape
    coordinates = {
        "y": top - (np.arange(rows) + 0.5) * grid.resolution_m,
        "x": left + (np.arange(cols) + 0.5) * grid.resolution_m,
    }
    values = {index.slug: (("y", "x"), _evaluate(index, reflectance)) for index in indices}
    return _Step(xr.Dataset(values, coords=coordinates), seen)


def _evaluate(index: SpectralIndex, reflectance: dict[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float32]:
    low, high = index.valid_range
    with np.errstate(all="ignore"):
        values = index.evaluate(reflectance)
        inside = (values >= low) & (values <= high)
    return np.where(inside, values, np.nan).astype(np.float32)


def _read(scene: Scene, names: Sequence[str], grid: CubeGrid) -> npt.NDArray[np.int64]:
    """Return (band, y, x) raw numbers by stackstac, nearest neighbour, 0 where there is nothing."""
    import stackstac
    from rasterio.errors import RasterioError

    from farm_intel.domain.errors import SceneProblemKind

    item: dict[str, Any] = {
        "id": scene.scene_id,
        "type": "Feature",
        "bbox": [scene.bbox.west, scene.bbox.south, scene.bbox.east, scene.bbox.north],
        "properties": {"datetime": scene.acquired_at.isoformat()},
        "assets": {name: {"href": scene.bands[name].href, "type": "image/tiff"} for name in names},
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its affine arithmetic warns on every call
            stack = stackstac.stack(
                [item],
                assets=list(names),
                epsg=grid.epsg,
                bounds=grid.bounds,
                resolution=grid.resolution_m,
                snap_bounds=False,
                dtype=np.dtype(np.uint16),
                fill_value=np.uint16(0),
                rescale=False,
                xy_coords=False,
                properties=False,
                band_coords=False,
                errors_as_nodata=(),
            )
            values: npt.NDArray[np.int64] = stack.data[0].compute().astype(np.int64)
    except (RasterioError, RuntimeError) as error:
        raise SceneProblemError(SceneProblemKind.UNREADABLE_FILE, scene.scene_id, str(error)) from error
    return values


def _probe(scene: Scene, profile: CollectionProfile) -> Any:
    """Ask the darkest band of the whole scene whether the offset is in its pixels; None without such a band."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError

    from farm_intel.domain.errors import SceneProblemKind
    from farm_intel.engine.reflectance import DARK_BANDS, probe_offset

    name = next((name for name in DARK_BANDS if name in scene.bands), None)
    if name is None:
        return None
    try:
        small = []
        for band in (name, profile.mask.band):
            with rasterio.open(scene.bands[band].href) as file:
                shrink = max(1.0, max(file.shape) / _PROBE_EDGE_PX)
                shape = tuple(max(1, round(edge / shrink)) for edge in file.shape)
                small.append(file.read(1, out_shape=shape, resampling=Resampling.nearest))
    except RasterioError as error:
        raise SceneProblemError(SceneProblemKind.UNREADABLE_FILE, scene.scene_id, str(error)) from error
    dark, mask = small
    rows = np.arange(dark.shape[0]) * mask.shape[0] // dark.shape[0]
    cols = np.arange(dark.shape[1]) * mask.shape[1] // dark.shape[1]
    return probe_offset(dark, profile.mask.lookup()[mask[rows][:, cols]] == PixelReason.VALID)


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
