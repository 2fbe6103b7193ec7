"""The world as Landsat 8 and 9 would see it: Collection 2 Level 2 arrays on a 30 m grid of their own.

Facts kept: the UTM zone is a northern one even south of the equator (negative northings), pixel edges lie at odd
multiples of 15 m, DN = (rho + 0.2) / 2.75e-5 with fill 0, QA_PIXEL values as in real files, overpasses every 8 days
with two platforms. The bands are those of the world's spectra: no bandpass difference to Sentinel-2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
from pyproj import Transformer

from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation.ground import GridGround, extent_in, hash_key
from farm_intel.simulation.kernels import add_noise
from farm_intel.simulation.sky import CORE, FRINGE, HAZE, SHADOW, SNOW
from farm_intel.simulation.world import FarmWorld

PIXEL_M = 30.0
CELLS = 3
BANDS: dict[str, str] = {
    "coastal": "SR_B1",
    "blue": "SR_B2",
    "green": "SR_B3",
    "red": "SR_B4",
    "nir08": "SR_B5",
    "swir16": "SR_B6",
    "swir22": "SR_B7",
}
"""Common name -> band in file names of Landsat 8 and 9."""
REPEAT_DAYS = 8
"""Days between overpasses of the two platforms together."""
FIRST_AFTER_DAYS = 3
"""The first overpass, days after the world's start: other days than Sentinel-2's, but for one in five."""
SATURATED_AT = 1
"""Number of the overpass with a saturated spot."""
SATURATED_DN = 43_636
"""What a saturated pixel reads: reflectance 1.0, which no range check finds."""
SCALE, OFFSET = 2.75e-05, -0.2
CLEAR, CLEAR_WATER, DILATED, CLOUD, CIRRUS, CLOUD_SHADOW, SNOW_ICE = 21824, 21952, 21762, 22280, 54596, 23888, 30048
"""QA_PIXEL values as they stand in real files, confidence bits included."""
PATH_ROW = {"kenya": (168, 61), "antimeridian": (73, 71)}
_PLATFORMS = ("landsat-8", "landsat-9")
_OVERPASS_SOLAR = timedelta(hours=10, minutes=11)
_SATURATED_RADIUS_M = 130.0
_RED_SATURATED = 1 << 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LandsatScene:
    """One overpass."""

    scene_id: str
    """As the Planetary Computer and Earth Search write it, without the processing date."""
    day: date
    acquired_at: datetime
    platform: str
    path: int
    row: int
    saturated: bool = False
    """A round spot on the largest ordinary field is saturated in red, which only QA_RADSAT tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandsatArrays:
    """One scene's pixels."""

    bands: dict[str, npt.NDArray[np.uint16]]
    """Common name -> digital numbers; fill 0."""
    qa_pixel: npt.NDArray[np.uint16]
    qa_radsat: npt.NDArray[np.uint16]


def landsat_scenes(world: FarmWorld) -> tuple[LandsatScene, ...]:
    """Return every overpass of the world's time, ascending."""
    return tuple(_scenes(world))


def _scenes(world: FarmWorld) -> Iterator[LandsatScene]:
    path, row = PATH_ROW[world.site.name]
    for number, after in enumerate(range(FIRST_AFTER_DAYS, world.options.days, REPEAT_DAYS)):
        day = world.options.start + timedelta(days=after)
        platform = _PLATFORMS[number % 2]
        solar = datetime(day.year, day.month, day.day, tzinfo=UTC) + _OVERPASS_SOLAR
        yield LandsatScene(
            scene_id=f"LC0{platform[-1]}_L2SP_{path:03d}{row:03d}_{day:%Y%m%d}_02_T1",
            day=day,
            acquired_at=solar
            + timedelta(seconds=number * 11 % 60)
            - timedelta(hours=world.tiles[0].longitude_deg / 15),
            platform=platform,
            path=path,
            row=row,
            saturated=number == SATURATED_AT,
        )


def landsat_grid(world: FarmWorld) -> PixelGrid:
    """Return the scene grid: the northern UTM zone of the world's eastern tile, edges at odd multiples of 15 m."""
    epsg = world.site.epsg_east - 100
    extent = extent_in(world, f"EPSG:{epsg}", 300.0)
    west = math.floor((extent.west_m - 15.0) / PIXEL_M) * PIXEL_M + 15.0
    north = math.ceil((extent.north_m - 15.0) / PIXEL_M) * PIXEL_M + 15.0
    return PixelGrid(
        crs=f"EPSG:{epsg}",
        width_px=math.ceil((extent.east_m - west) / PIXEL_M),
        height_px=math.ceil((north - extent.south_m) / PIXEL_M),
        pixel_m=PIXEL_M,
        west_m=west,
        north_m=north,
    )


class LandsatGround:
    """Renders the world's Landsat scenes; the ground is prepared once."""

    def __init__(self, world: FarmWorld) -> None:
        self.world = world
        self.grid = landsat_grid(world)
        self._ground = GridGround(world, self.grid, CELLS)

    def render(self, scene: LandsatScene) -> LandsatArrays:
        """Return the scene's arrays, each (height, width)."""
        view = self._ground.sky(scene.day)
        bands = {}
        for name in BANDS:
            rho = self._ground.reflectance(view, name)
            key = hash_key(self.world.options.seed, scene.scene_id, name)
            add_noise(rho, key, self.world.options.noise)
            numbers = np.rint((rho.astype(np.float64) - OFFSET) / SCALE)
            bands[name] = np.clip(numbers, 1, 65455).astype(np.uint16)
        radsat = np.zeros(self._ground.water.shape, np.uint16)
        if scene.saturated:
            spot = self._spot()
            radsat[spot] = _RED_SATURATED
            bands["red"][spot] = SATURATED_DN
        return LandsatArrays(bands=bands, qa_pixel=quality(view.touched, self._ground.water), qa_radsat=radsat)

    def _spot(self) -> npt.NDArray[np.bool_]:
        field = max(self.world.layout.fields, key=lambda field: float(field.shape.area)).shape.centroid
        to_grid = Transformer.from_crs(f"EPSG:{self.world.site.epsg_east}", self.grid.crs, always_xy=True)
        x0, y0 = to_grid.transform(field.x, field.y)
        x = self.grid.west_m + (np.arange(self.grid.width_px) + 0.5) * PIXEL_M
        y = self.grid.north_m - (np.arange(self.grid.height_px) + 0.5) * PIXEL_M
        return np.asarray((x[None, :] - x0) ** 2 + (y[:, None] - y0) ** 2 <= _SATURATED_RADIUS_M**2)


def quality(touched: npt.NDArray[np.uint8], water: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    """Return QA_PIXEL: the most opaque thing that touches a pixel; clear pixels next to cloud are dilated cloud.

    Args:
        touched: sky bits per pixel.
        water: True where the pixel is mostly water.

    """
    cloudy = (touched & (CORE | FRINGE)) != 0
    out = np.where(water, CLEAR_WATER, CLEAR).astype(np.uint16)
    out[neighbours(cloudy)] = DILATED
    for bit, value in ((SNOW, SNOW_ICE), (SHADOW, CLOUD_SHADOW), (HAZE, CIRRUS)):
        out[(touched & bit) != 0] = value
    out[cloudy] = CLOUD
    return out


def neighbours(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return True within one pixel, diagonals included, of a marked one."""
    padded = np.pad(marked, 1)
    rows, cols = marked.shape
    near = np.zeros_like(marked)
    for row in range(3):
        for col in range(3):
            near |= padded[row : row + rows, col : col + cols]
    return near
