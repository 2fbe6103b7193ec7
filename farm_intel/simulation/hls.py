"""The world as Harmonized Landsat Sentinel-2: both sensors on one 30 m grid per tile, 0.0001, fill -9999, Fmask bits.

As in the real product the tiles are Sentinel-2's, in the northern UTM zone even south of the equator. The world's bands
have no bandpass difference, so there is nothing to adjust.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation.ground import GridGround, hash_key
from farm_intel.simulation.kernels import add_noise
from farm_intel.simulation.landsat import landsat_scenes, neighbours
from farm_intel.simulation.layout import WorldTile
from farm_intel.simulation.scenes import plan_scenes
from farm_intel.simulation.sky import CORE, FRINGE, HAZE, SHADOW, SNOW
from farm_intel.simulation.world import FarmWorld

PIXEL_M = 30.0
CELLS = 3
FILL = -9999
_VISIBLE = {"coastal": "B01", "blue": "B02", "green": "B03", "red": "B04"}
L30_BANDS: dict[str, str] = {**_VISIBLE, "nir08": "B05", "swir16": "B06", "swir22": "B07"}
S30_BANDS: dict[str, str] = {
    **_VISIBLE,
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "swir16": "B11",
    "swir22": "B12",
}
"""Common name -> asset key; the same key is another band in the two parts."""
_CLOUD, _NEAR, _SHADOW, _SNOW, _WATER = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_LOW_AEROSOL = 1 << 6


@dataclass(frozen=True, slots=True, kw_only=True)
class HlsScene:
    """One granule."""

    scene_id: str
    tile: WorldTile
    day: date
    """Solar day at the site."""
    acquired_at: datetime
    platform: str
    bands: dict[str, str]


def hls_scenes(world: FarmWorld, part: str) -> tuple[HlsScene, ...]:
    """Return the granules of `l30` (Landsat's overpasses) or `s30` (Sentinel-2's), by time and tile."""
    if part == "l30":
        passes = [(scene.day, scene.acquired_at, scene.platform) for scene in landsat_scenes(world)]
    else:
        first = world.tiles[0].name
        plan = [scene for scene in plan_scenes(world) if scene.tile.name == first]
        passes = sorted({(scene.day, scene.acquired_at, scene.platform) for scene in plan})
    return tuple(
        HlsScene(
            scene_id=f"HLS.{part.upper()}.T{tile.name.zfill(5)}.{moment:%Y%jT%H%M%S}.v2.0",
            tile=tile,
            day=day,
            acquired_at=moment,
            platform=platform,
            bands=L30_BANDS if part == "l30" else S30_BANDS,
        )
        for day, moment, platform in passes
        for tile in world.tiles
    )


def hls_grid(tile: WorldTile) -> PixelGrid:
    """Return a tile's 30 m grid: its corner in the northern zone, where southern northings lack their 10,000 km."""
    edge = round(tile.grid.width_px * tile.grid.pixel_m / PIXEL_M)
    return PixelGrid(
        crs=f"EPSG:{tile.epsg - 100}",
        width_px=edge,
        height_px=edge,
        pixel_m=PIXEL_M,
        west_m=tile.grid.west_m,
        north_m=tile.grid.north_m - 10_000_000.0,
    )


class HlsGround:
    """Renders granules of one tile; the ground is prepared once."""

    def __init__(self, world: FarmWorld, tile: WorldTile) -> None:
        self.world = world
        self.grid = hls_grid(tile)
        self._ground = GridGround(world, self.grid, CELLS)

    def render(self, scene: HlsScene) -> tuple[dict[str, npt.NDArray[np.int16]], npt.NDArray[np.uint8]]:
        """Return digital numbers by common name and the Fmask, each (height, width)."""
        view = self._ground.sky(scene.day)
        bands = {}
        for name in scene.bands:
            rho = self._ground.reflectance(view, name)
            add_noise(rho, hash_key(self.world.options.seed, scene.scene_id, name), self.world.options.noise)
            bands[name] = np.clip(np.rint(rho.astype(np.float64) * 10_000), -2_000, 16_000).astype(np.int16)
        return bands, fmask(view.touched, self._ground.water)


def fmask(touched: npt.NDArray[np.uint8], water: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return the Fmask: every bit that applies, low aerosol everywhere.

    Args:
        touched: sky bits per pixel.
        water: True where the pixel is mostly water.

    """
    cloudy = (touched & (CORE | FRINGE | HAZE)) != 0
    shadow = (touched & SHADOW) != 0
    out = np.full(touched.shape, _LOW_AEROSOL, np.uint8)
    out |= np.where(water, _WATER, 0).astype(np.uint8)
    out |= np.where(cloudy, _CLOUD, 0).astype(np.uint8)
    out |= np.where(shadow, _SHADOW, 0).astype(np.uint8)
    out |= np.where((touched & SNOW) != 0, _SNOW, 0).astype(np.uint8)
    near = neighbours(cloudy | shadow) & ~(cloudy | shadow)
    return out | np.where(near, _NEAR, 0).astype(np.uint8)
