"""The world's scenes as Sentinel Hub's input: mosaicked, resampled by nearest neighbours, in the units asked for.

The digital numbers of the rendered scenes carry the quirks of other catalogues; here they are put back to what ESA
delivers: 10000 rho + 1000 from baseline 04.00 on, 10000 rho before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation.emulators.sentinel_hub_scripts import Evalscript, FloatArray, RefusedError, require_only
from farm_intel.simulation.layout import transformer
from farm_intel.simulation.render import DN_OFFSET, DN_PER_REFLECTANCE, TileGround
from farm_intel.simulation.scenes import WorldScene, plan_scenes
from farm_intel.simulation.spectra import BANDS
from farm_intel.simulation.stac import WorldFootprints
from farm_intel.simulation.world import FarmWorld

COLLECTION = "sentinel-2-l2a"
MAX_PX = 2500
_CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
_EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
_SCENES_KEPT = 40
"""Rendered scenes in memory; one of 660 px has about 5 MB."""
_GSD_M = {band.number: band.gsd_m for band in BANDS} | {"SCL": 20}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestGrid:
    """The pixels a request asks for."""

    epsg: int
    x: FloatArray
    """(n,) of the pixel centres, row by row."""
    y: FloatArray
    inside: npt.NDArray[np.bool_]
    """(n,) False outside the polygon."""
    width: int
    height: int
    bounds: tuple[float, float, float, float]


def parse_grid(bounds: Mapping[str, Any], output: Mapping[str, Any]) -> RequestGrid:
    """Return the grid of `input.bounds` and `output` (or `aggregation`).

    Raises:
        RefusedError: a CRS or size the service refuses.

    """
    require_only(bounds, ("bbox", "geometry", "properties"), "input.bounds")
    epsg = _epsg(bounds.get("properties", {}).get("crs", _CRS84))
    if "geometry" not in bounds and "bbox" not in bounds:
        raise RefusedError("input.bounds needs bbox or geometry")
    shape = shapely.geometry.shape(bounds["geometry"]) if "geometry" in bounds else shapely.box(*bounds["bbox"])
    west, south, east, north = bounds.get("bbox", shape.bounds)
    width, height = _size(output, east - west, north - south)
    if not (1 <= width <= MAX_PX and 1 <= height <= MAX_PX):
        raise RefusedError(f"The output image size {width} x {height} must be between 1 and {MAX_PX} in each dimension")
    columns = west + (np.arange(width) + 0.5) * (east - west) / width
    rows = north - (np.arange(height) + 0.5) * (north - south) / height
    x, y = (axis.ravel() for axis in np.meshgrid(columns, rows))
    inside = shapely.contains_xy(shape, x, y)
    return RequestGrid(
        epsg=epsg, x=x, y=y, inside=inside, width=width, height=height, bounds=(west, south, east, north)
    )


def _epsg(crs: str) -> int:
    if crs == _CRS84:
        return 4326
    if not crs.startswith(_EPSG) or not crs.removeprefix(_EPSG).isdigit():
        raise RefusedError(f"unknown crs {crs}")
    return int(crs.removeprefix(_EPSG))


def _size(output: Mapping[str, Any], width_m: float, height_m: float) -> tuple[int, int]:
    """Return the size in pixels; from a resolution it is the nearest integer (recorded: 1604.67 m at 10 m is 160)."""
    if "resx" in output or "resy" in output:
        return max(1, round(width_m / output["resx"])), max(1, round(height_m / output["resy"]))
    return int(output.get("width", 256)), int(output.get("height", 256))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pixels:
    """A rendered scene: arrays by band number, 0 where there is no data."""

    bands: Mapping[str, npt.NDArray[np.uint16]]


class HubScenes:
    """The scenes the service holds: the newest processing of each acquisition, whole files, whatever others broke."""

    def __init__(self, world: FarmWorld) -> None:
        """Render nothing yet."""
        self.world = world
        newest: dict[tuple[str, datetime], WorldScene] = {}
        for scene in plan_scenes(world):
            newest[scene.tile.name, scene.acquired_at] = scene
        self.scenes: tuple[WorldScene, ...] = tuple(newest.values())
        footprints = WorldFootprints(world=world)
        self.footprints: dict[str, BaseGeometry] = {scene.scene_id: footprints.of(scene) for scene in self.scenes}
        self._grounds: dict[str, TileGround] = {}
        self._rendered: OrderedDict[str, _Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def pixels(self, scene: WorldScene) -> _Pixels:
        """Return a scene's arrays, rendered on first use."""
        with self._lock:
            if scene.scene_id not in self._rendered:
                if scene.tile.name not in self._grounds:
                    self._grounds[scene.tile.name] = TileGround(self.world, scene.tile)
                self._rendered[scene.scene_id] = _render(self._grounds[scene.tile.name], scene)
                while len(self._rendered) > _SCENES_KEPT:
                    self._rendered.popitem(last=False)
            self._rendered.move_to_end(scene.scene_id)
            return self._rendered[scene.scene_id]

    def over(self, grid: RequestGrid, start: datetime, end: datetime, order: str) -> list[WorldScene]:
        """Return the scenes of a period over a grid in mosaicking order.

        Of scenes taken at the same second, those in the request's own CRS come first: the service does not document
        its choice between two zones, this one keeps pixels unresampled.
        """
        if order not in {"mostRecent", "leastRecent"}:
            raise RefusedError(f"this emulator does not implement mosaickingOrder {order}")
        found = [
            scene
            for scene in self.scenes
            if start <= scene.acquired_at.replace(microsecond=0) < end and _meets(scene, grid)
        ]
        sign = -1 if order == "mostRecent" else 1
        found.sort(key=lambda scene: (sign * int(scene.acquired_at.timestamp()), scene.tile.epsg != grid.epsg))
        return found


def _render(ground: TileGround, scene: WorldScene) -> _Pixels:
    rendered = ground.render(replace(scene, artefact=0.0))
    present = DN_OFFSET if scene.dialect.offset_in_pixels else 0
    wanted = DN_OFFSET if scene.baseline >= "04.00" else 0
    bands: dict[str, npt.NDArray[np.uint16]] = {"SCL": rendered.classes.astype(np.uint16)}
    for band, numbers in rendered.bands():
        moved = np.maximum(numbers.astype(np.int32) - present + wanted, 1)
        bands[band.number] = np.where(numbers == 0, 0, moved).astype(np.uint16)
    return _Pixels(bands=bands)


def _meets(scene: WorldScene, grid: RequestGrid) -> bool:
    rows, cols = _places(scene.tile.grid, scene.tile.epsg, grid, 10)
    return bool(_on_tile(scene.tile.grid, rows, cols, 10)[grid.inside].any())


def _places(
    tile: PixelGrid, epsg: int, grid: RequestGrid, gsd_m: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return row and column of the tile's pixel under every requested pixel's centre."""
    x, y = grid.x, grid.y
    if grid.epsg != epsg:
        x, y = transformer(grid.epsg, epsg).transform(x, y)
    rows = np.floor((tile.north_m - y) / gsd_m).astype(np.int64)
    return rows, np.floor((x - tile.west_m) / gsd_m).astype(np.int64)


def _on_tile(
    tile: PixelGrid, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], gsd_m: int
) -> npt.NDArray[np.bool_]:
    edge = tile.width_px * 10 // gsd_m
    on_tile: npt.NDArray[np.bool_] = (rows >= 0) & (cols >= 0) & (rows < edge) & (cols < edge)
    return on_tile


def sample_layer(
    hub: HubScenes, script: Evalscript, item: Mapping[str, Any], grid: RequestGrid, scenes: Sequence[WorldScene]
) -> dict[str, FloatArray]:
    """Return what the script gets per input band, (n,) each: the first scene with data wins, 0 where none has any."""
    harmonize = bool(item.get("processing", {}).get("harmonizeValues", True))
    layer = {name: np.zeros(grid.x.size) for name in script.bands}
    have = np.zeros(grid.x.size, np.bool_)
    for scene in scenes:
        pixels = hub.pixels(scene)
        rows, cols = _places(scene.tile.grid, scene.tile.epsg, grid, 10)
        take = _on_tile(scene.tile.grid, rows, cols, 10) & grid.inside & ~have
        at = np.nonzero(take)[0]
        at = at[pixels.bands["B04"][rows[at], cols[at]] > 0]
        for name, unit in zip(script.bands, script.units, strict=True):
            if name != "dataMask":
                gsd_rows, gsd_cols = _places(scene.tile.grid, scene.tile.epsg, grid, _gsd(name))
                numbers = pixels.bands[name][gsd_rows[at], gsd_cols[at]].astype(np.float64)
                layer[name][at] = _in_unit(name, unit, numbers, scene, harmonize=harmonize)
        have[at] = True
    if "dataMask" in layer:
        layer["dataMask"] = have.astype(np.float64)
    return layer


def _gsd(name: str) -> int:
    if name not in _GSD_M:
        raise RefusedError(f"Dataset with id: 0 has no band {name}.", code="RENDERER_EXCEPTION")
    return _GSD_M[name]


def _in_unit(name: str, unit: str | None, numbers: FloatArray, scene: WorldScene, *, harmonize: bool) -> FloatArray:
    """Return values in the unit asked for (source: S2L2A.qmd, Units and Harmonize Values)."""
    if name == "SCL":
        if unit not in {None, "DN"}:
            raise RefusedError(f"Band SCL has no unit {unit}", code="RENDERER_EXCEPTION")
        return numbers
    offset = DN_OFFSET if scene.baseline >= "04.00" else 0
    harmonised = numbers - offset
    if harmonize:
        harmonised = np.maximum(harmonised, 0.0)
    match unit or "REFLECTANCE":
        case "REFLECTANCE":
            return (harmonised / DN_PER_REFLECTANCE).astype(np.float32).astype(np.float64)
        case "DN":
            return harmonised if harmonize else numbers
    raise RefusedError(f"Band {name} has no unit {unit}", code="RENDERER_EXCEPTION")
