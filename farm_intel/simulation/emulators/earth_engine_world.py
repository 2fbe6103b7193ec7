"""The world's scenes as Earth Engine would hold them: harmonised Sentinel-2, Landsat, daily MODIS."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation.emulators.earth_engine_assets import AssetStore, StoredImage, lonlat_footprint
from farm_intel.simulation.emulators.earth_engine_values import SINUSOIDAL, Projection, Raster
from farm_intel.simulation.landsat import BANDS as LANDSAT_BANDS
from farm_intel.simulation.landsat import LandsatGround, LandsatScene, landsat_grid, landsat_scenes
from farm_intel.simulation.modis import BANDS as MODIS_BANDS
from farm_intel.simulation.modis import FILL, TILE_M, ModisGround, ModisScene, modis_grid
from farm_intel.simulation.modis import PIXEL_M as MODIS_PIXEL_M
from farm_intel.simulation.render import DN_OFFSET, TileGround
from farm_intel.simulation.scenes import WorldScene, plan_scenes
from farm_intel.simulation.spectra import BANDS
from farm_intel.simulation.world import FarmWorld

S2 = "COPERNICUS/S2_SR_HARMONIZED"
MOD09GA = "MODIS/061/MOD09GA"
LANDSAT = {
    f"landsat-{n}": f"LANDSAT/{code}/C02/T1_L2" for n, code in ((5, "LT05"), (7, "LE07"), (8, "LC08"), (9, "LC09"))
}
_KEPT_SCENES = 6
_GLOBE: dict[str, Any] = {
    "type": "Polygon",
    "coordinates": [[[-180.0, -90.0], [180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [-180.0, -90.0]]],
}
_CLOUD_BITS = 0b11
_LAND_WATER_BITS = 0b111 << 3

Arrays = Mapping[str, npt.NDArray[Any]]


def world_assets(world: FarmWorld) -> AssetStore:
    """Return the world's scenes as Earth Engine's collections."""
    images = [*sentinel2_images(world), *landsat_images(world), *modis_images(world)]
    return AssetStore(images, empty=(S2, MOD09GA, *LANDSAT.values()))


class SceneCache[S]:
    """Renders a scene when its first pixel is asked for; keeps the last few."""

    def __init__(self, render: Callable[[S], Arrays], name: Callable[[S], str]) -> None:
        self._render = render
        self._name = name
        self._known: OrderedDict[str, Arrays] = OrderedDict()
        self._lock = threading.Lock()

    def band(self, scene: S, band: str) -> npt.NDArray[Any]:
        """Return one band's digital numbers."""
        name = self._name(scene)
        with self._lock:
            if name not in self._known:
                self._known[name] = self._render(scene)
                while len(self._known) > _KEPT_SCENES:
                    self._known.popitem(last=False)
            self._known.move_to_end(name)
            return self._known[name][band]

    def loader(self, scene: S, band: str) -> Callable[[], npt.NDArray[Any]]:
        """Return a function that gives the band."""
        return lambda: self.band(scene, band)


def sentinel2_images(world: FarmWorld) -> Iterator[StoredImage]:
    """Yield the newest processing of every acquisition."""
    grounds = {tile.name: TileGround(world, tile) for tile in world.tiles}

    def render(scene: WorldScene) -> Arrays:
        rendered = grounds[scene.tile.name].render(scene)
        offset = DN_OFFSET if scene.dialect.offset_in_pixels else 0
        found: dict[str, npt.NDArray[Any]] = {"SCL": rendered.classes}
        for band, numbers in rendered.bands():
            # harmonised: the offset is out again, and what falls below is clamped
            found[_band_id(band.number)] = np.where(numbers > offset, numbers - offset, 0).astype(np.uint16)
        return found

    cache = SceneCache(render, lambda scene: scene.scene_id)
    newest: dict[tuple[str, date], WorldScene] = {}
    for scene in plan_scenes(world):
        key = (scene.tile.name, scene.day)
        if key not in newest or newest[key].sequence < scene.sequence:
            newest[key] = scene
    for scene in newest.values():
        yield _sentinel2_image(scene, cache)


def _sentinel2_image(scene: WorldScene, cache: SceneCache[WorldScene]) -> StoredImage:
    grid = scene.tile.grid
    stamp = f"{scene.acquired_at:%Y%m%dT%H%M%S}"
    tile = f"{scene.tile.name:0>5}"
    crs = f"EPSG:{scene.tile.epsg}"

    def raster(band: str, gsd_m: int, dtype: str) -> Raster:
        size = grid.width_px * 10 // gsd_m
        home = Projection(crs=crs, pixel_m=float(gsd_m), west_m=grid.west_m, north_m=grid.north_m)
        load = cache.loader(scene, band)
        return Raster(projection=home, width=size, height=size, dtype=dtype, load=load, fill=0)

    rasters = {_band_id(band.number): raster(_band_id(band.number), band.gsd_m, "uint16") for band in BANDS}
    return StoredImage(
        image_id=f"{S2}/{stamp}_{stamp}_T{tile}",
        start=scene.acquired_at,
        end=scene.acquired_at,
        footprint=lonlat_footprint(crs, grid.bounds),
        rasters={**rasters, "SCL": raster("SCL", 20, "uint8")},
        properties={
            "MGRS_TILE": tile,
            "SPACECRAFT_NAME": scene.platform.upper().replace("SENTINEL", "Sentinel"),
            "PROCESSING_BASELINE": scene.baseline,
            "GENERATION_TIME": int(scene.generated_at.timestamp() * 1000),
        },
    )


def _band_id(number: str) -> str:
    """Return `B4` for `B04`."""
    return f"B{number[1:].lstrip('0')}"


def landsat_images(world: FarmWorld) -> Iterator[StoredImage]:
    """Yield every overpass, in the collection of its platform."""
    grounds: list[LandsatGround] = []

    def render(scene: LandsatScene) -> Arrays:
        if not grounds:
            grounds.append(LandsatGround(world))
        arrays = grounds[0].render(scene)
        bands = {LANDSAT_BANDS[name]: numbers for name, numbers in arrays.bands.items()}
        return {**bands, "QA_PIXEL": arrays.qa_pixel, "QA_RADSAT": arrays.qa_radsat}

    cache = SceneCache(render, lambda scene: scene.scene_id)
    grid = landsat_grid(world)
    fills: dict[str, int | None] = {**dict.fromkeys(LANDSAT_BANDS.values(), 0), "QA_PIXEL": 1, "QA_RADSAT": None}
    for scene in landsat_scenes(world):
        name = f"LC0{scene.platform[-1]}_{scene.path:03d}{scene.row:03d}_{scene.day:%Y%m%d}"
        yield StoredImage(
            image_id=f"{LANDSAT[scene.platform]}/{name}",
            start=scene.acquired_at,
            end=scene.acquired_at,
            footprint=lonlat_footprint(grid.crs, grid.bounds),
            rasters={band: _landsat_raster(grid, cache.loader(scene, band), fill) for band, fill in fills.items()},
            properties={
                "WRS_PATH": scene.path,
                "WRS_ROW": scene.row,
                "SPACECRAFT_ID": scene.platform.upper().replace("-", "_"),
                "PROCESSING_SOFTWARE_VERSION": "LPGS_16.4.0",
            },
        )


def _landsat_raster(grid: PixelGrid, load: Callable[[], npt.NDArray[Any]], fill: int | None) -> Raster:
    return Raster(
        projection=Projection(crs=grid.crs, pixel_m=grid.pixel_m, west_m=grid.west_m, north_m=grid.north_m),
        width=grid.width_px,
        height=grid.height_px,
        dtype="uint16",
        load=load,
        fill=fill,
    )


def modis_images(world: FarmWorld) -> Iterator[StoredImage]:
    """Yield a global image per day of the world's time; nothing where the sinusoidal grid is cut."""
    if abs(world.site.boundary_longitude_deg) == 180.0:
        return
    grounds: list[ModisGround] = []
    grid = modis_grid(world)
    first = round((9 * TILE_M - grid.north_m) / MODIS_PIXEL_M), round((grid.west_m + 18 * TILE_M) / MODIS_PIXEL_M)

    def render(scene: ModisScene) -> Arrays:
        if not grounds:
            grounds.append(ModisGround(world))
        arrays = grounds[0].render(scene)
        bands = {MODIS_BANDS[name]: numbers for name, numbers in arrays.bands.items()}
        return {**bands, "state_1km": coarse_state(arrays.state, first)}

    cache = SceneCache(render, lambda scene: scene.scene_id)
    for number in range(world.options.days):
        day = world.options.start + timedelta(days=number)
        name = f"{day:%Y_%m_%d}"
        scene = ModisScene(scene_id=f"MOD09GA.{name}", first=day, last=day, horizontal=0, vertical=0)
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        rasters = {band: _modis_raster(cache.loader(scene, band), first, FILL) for band in MODIS_BANDS.values()}
        half = first[0] // 2, first[1] // 2
        yield StoredImage(
            image_id=f"{MOD09GA}/{name}",
            start=start,
            end=start + timedelta(days=1),
            footprint=_GLOBE,
            rasters={**rasters, "state_1km": _modis_raster(cache.loader(scene, "state_1km"), half, None, scale=2)},
            properties={},
        )


def _modis_raster(
    load: Callable[[], npt.NDArray[Any]], first: tuple[int, int], fill: int | None, *, scale: int = 1
) -> Raster:
    return Raster(
        projection=Projection(crs=SINUSOIDAL, pixel_m=MODIS_PIXEL_M * scale, west_m=-18 * TILE_M, north_m=9 * TILE_M),
        width=36 * 2400 // scale,
        height=18 * 2400 // scale,
        dtype="uint16" if fill is None else "int16",
        load=load,
        fill=fill,
        first=first,
    )


def coarse_state(state: npt.NDArray[np.uint16], first: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """Return the state of 1 km pixels: cloudy where all four 500 m pixels are, mixed where any is, other flags if any.

    Args:
        state: (rows, cols) of 500 m pixels.
        first: row and column of the first one in the global grid, which decides how they pair up.

    """
    before = first[0] % 2, first[1] % 2
    rows, cols = state.shape[0] + before[0], state.shape[1] + before[1]
    padded = np.pad(state, ((before[0], rows % 2), (before[1], cols % 2)), mode="edge")
    four = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).swapaxes(1, 2).reshape(-1, 4)
    cloud = four & _CLOUD_BITS
    cloudy, mixed = (cloud == 1).all(axis=1), np.isin(cloud, (1, 2)).any(axis=1)
    flags = np.bitwise_or.reduce(four & ~np.uint16(_CLOUD_BITS | _LAND_WATER_BITS), axis=1)
    out = flags | (four[:, 0] & _LAND_WATER_BITS) | np.where(cloudy, 1, np.where(mixed, 2, 0))
    return np.asarray(out, np.uint16).reshape(padded.shape[0] // 2, padded.shape[1] // 2)
