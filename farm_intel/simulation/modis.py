"""The world as MODIS on Terra would see it: MOD09A1-like composites, the best pixel of every 8 days.

Facts kept: the global sinusoidal grid of 463.3127 m pixels, windows that start on days 1, 9, 17, … of the year, each
pixel observed on its own day, which the day-of-year band tells; DN = rho / 0.0001, fill -28672, state flags as in
real files. The point spread of the real instrument (wider than a pixel) is not modelled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation.ground import GridGround, SkyView, extent_in, hash_key
from farm_intel.simulation.kernels import add_noise, pixel_draws
from farm_intel.simulation.landsat import neighbours
from farm_intel.simulation.sky import CORE, FRINGE, HAZE, SHADOW, SNOW
from farm_intel.simulation.world import FarmWorld

SPHERE_M = 6371007.181
TILE_M = math.pi * SPHERE_M / 18
PIXEL_M = TILE_M / 2400
"""463.3127 m."""
CELLS = 24
"""Cells of 19 m, each counted at 4 x 4 points 5 m apart."""
WINDOW_DAYS = 8
FILL = -28672
BANDS: dict[str, str] = {
    "red": "sur_refl_b01",
    "nir08": "sur_refl_b02",
    "blue": "sur_refl_b03",
    "green": "sur_refl_b04",
    "swir16": "sur_refl_b06",
    "swir22": "sur_refl_b07",
}
"""Common name -> asset key."""
SINUSOIDAL_WKT = (
    'PROJCRS["unnamed",BASEGEOGCRS["Unknown datum based upon the custom spheroid",'
    'DATUM["Not specified (based on custom spheroid)",'
    'ELLIPSOID["Custom spheroid",6371007.181,0,LENGTHUNIT["metre",1]]],'
    'PRIMEM["Greenwich",0,ANGLEUNIT["degree",0.0174532925199433]]],'
    'CONVERSION["unnamed",METHOD["Sinusoidal"],'
    'PARAMETER["Longitude of natural origin",0,ANGLEUNIT["degree",0.0174532925199433]],'
    'PARAMETER["False easting",0,LENGTHUNIT["metre",1]],PARAMETER["False northing",0,LENGTHUNIT["metre",1]]],'
    'CS[Cartesian,2],AXIS["easting",east,ORDER[1],LENGTHUNIT["Meter",1]],'
    'AXIS["northing",north,ORDER[2],LENGTHUNIT["Meter",1]]]'
)
"""The CRS as the Planetary Computer's items tell it; it has no EPSG code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModisProduct:
    """What differs between the two composites."""

    name: str
    pixel_m: float
    cells: int
    window_days: int
    bands: Mapping[str, str]
    """Common name -> asset key."""
    quality_key: str
    day_key: str
    lowest_dn: int
    highest_dn: int


SURFACE = ModisProduct(
    name="MOD09A1",
    pixel_m=PIXEL_M,
    cells=CELLS,
    window_days=WINDOW_DAYS,
    bands=BANDS,
    quality_key="sur_refl_state_500m",
    day_key="sur_refl_day_of_year",
    lowest_dn=-100,
    highest_dn=16_000,
)
VEGETATION = ModisProduct(
    name="MOD13Q1",
    pixel_m=PIXEL_M / 2,
    cells=CELLS // 2,
    window_days=16,
    bands={
        "red": "250m_16_days_red_reflectance",
        "nir08": "250m_16_days_NIR_reflectance",
        "blue": "250m_16_days_blue_reflectance",
        "swir22": "250m_16_days_MIR_reflectance",
    },
    quality_key="250m_16_days_pixel_reliability",
    day_key="250m_16_days_composite_day_of_the_year",
    lowest_dn=0,
    highest_dn=10_000,
)
"""Of the vegetation index product only what an index is computed from is written: reflectance, reliability, day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModisScene:
    """One composite."""

    scene_id: str
    first: date
    """First day of the window."""
    last: date
    horizontal: int
    vertical: int

    @property
    def days(self) -> tuple[date, ...]:
        """The days of the window; the last one of a year is shorter."""
        return tuple(self.first + timedelta(days=i) for i in range((self.last - self.first).days + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModisArrays:
    """One composite's pixels."""

    bands: dict[str, npt.NDArray[np.int16]]
    state: npt.NDArray[np.uint16]
    """State flags; see `reliability` for the vegetation index product."""
    day_of_year: npt.NDArray[np.uint16]


def modis_scenes(world: FarmWorld, product: ModisProduct = SURFACE) -> tuple[ModisScene, ...]:
    """Return every composite whose window begins within the world's time."""
    west, north = _corner(world)
    horizontal, vertical = math.floor(west / TILE_M) + 18, 9 - math.ceil(north / TILE_M)
    scenes = []
    for after in range(world.options.days):
        first = world.options.start + timedelta(days=after)
        number = first.timetuple().tm_yday
        if (number - 1) % product.window_days:
            continue
        last = min(first + timedelta(days=product.window_days - 1), date(first.year, 12, 31))
        scenes.append(
            ModisScene(
                scene_id=f"{product.name}.A{first.year}{number:03d}.h{horizontal:02d}v{vertical:02d}.061",
                first=first,
                last=last,
                horizontal=horizontal,
                vertical=vertical,
            )
        )
    return tuple(scenes)


def _corner(world: FarmWorld) -> tuple[float, float]:
    if world.site.boundary_longitude_deg == 180.0:
        raise BadRequestError(
            "the sinusoidal grid is cut at longitude 180, where this world lies",
            hint="Ask for MODIS in a world of another site.",
        )
    extent = extent_in(world, SINUSOIDAL_WKT, PIXEL_M)
    return math.floor(extent.west_m / PIXEL_M) * PIXEL_M, math.ceil(extent.north_m / PIXEL_M) * PIXEL_M


def modis_grid(world: FarmWorld, product: ModisProduct = SURFACE) -> PixelGrid:
    """Return the part of the global sinusoidal grid that covers the world."""
    west, north = _corner(world)
    extent = extent_in(world, SINUSOIDAL_WKT, PIXEL_M)
    return PixelGrid(
        crs=SINUSOIDAL_WKT,
        width_px=math.ceil((extent.east_m - west) / product.pixel_m),
        height_px=math.ceil((north - extent.south_m) / product.pixel_m),
        pixel_m=product.pixel_m,
        west_m=west,
        north_m=north,
    )


class ModisGround:
    """Renders the world's composites; the ground is prepared once."""

    def __init__(self, world: FarmWorld, product: ModisProduct = SURFACE) -> None:
        self.world = world
        self.product = product
        self.grid = modis_grid(world, product)
        self._ground = GridGround(world, self.grid, product.cells)

    def render(self, scene: ModisScene) -> ModisArrays:
        """Return the composite's arrays, each (height, width).

        Each pixel takes its clearest day; between equally clear days a draw of its own decides, in the place of the
        view angle of the real product.
        """
        shape = self._ground.water.shape
        best = np.full(shape, np.inf)
        bands = {name: np.full(shape, FILL, np.int16) for name in self.product.bands}
        state, day_of_year = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        for day in scene.days:
            view = self._ground.sky(day)
            score = self._score(view)
            taken = score < best
            if not taken.any():
                continue
            best[taken] = score[taken]
            day_of_year[taken] = day.timetuple().tm_yday
            state[taken] = self._state(view)[taken]
            for name in self.product.bands:
                bands[name][taken] = self._numbers(scene, view, name)[taken]
        return ModisArrays(bands=bands, state=state, day_of_year=day_of_year)

    def _score(self, view: SkyView) -> npt.NDArray[np.float64]:
        """Return how unwelcome each pixel is on a day: anything of the sky in it counts more than any draw."""
        draws = np.empty(view.touched.shape, np.float64)
        pixel_draws(hash_key(self.world.options.seed, view.day, "view"), draws)
        share = self._ground.sky_fraction(view, CORE | FRINGE | HAZE | SHADOW | SNOW)
        return np.where(view.touched != 0, 100.0 + 100.0 * share, 0.0) + draws

    def _state(self, view: SkyView) -> npt.NDArray[np.uint16]:
        cloud = self._ground.sky_fraction(view, CORE | FRINGE)
        touched = view.touched
        land_water = np.where(self._ground.water, 0b011, 0b001) << 3
        state = land_water | np.where(cloud > 0.5, 1, np.where(cloud > 0.0, 2, 0))
        state |= np.where((touched & SHADOW) != 0, 1 << 2, 0)
        state |= np.where((touched & HAZE) != 0, 3 << 8, 0)
        state |= np.where((touched & SNOW) != 0, 1 << 12, 0)
        near = neighbours(cloud > 0.0) & (cloud == 0.0)
        return (state | np.where(near, 1 << 13, 0)).astype(np.uint16)

    def _numbers(self, scene: ModisScene, view: SkyView, band: str) -> npt.NDArray[np.int16]:
        rho = self._ground.reflectance(view, band)
        key = hash_key(self.world.options.seed, scene.scene_id, view.day, band)
        add_noise(rho, key, self.world.options.noise)
        numbers = np.rint(rho.astype(np.float64) * 10_000)
        return np.clip(numbers, self.product.lowest_dn, self.product.highest_dn).astype(np.int16)


def reliability(state: npt.NDArray[np.uint16]) -> npt.NDArray[np.int8]:
    """Return the vegetation index product's pixel reliability for state flags: 0 good, 1 marginal, 2 snow, 3 cloudy."""
    flags = state.astype(np.int32)
    cloudy = np.isin(flags & 0b11, (1, 2)) | ((flags >> 8 & 0b11) > 1) | ((flags & (1 << 2)) != 0)
    near, snow = (flags & (1 << 13)) != 0, (flags & (1 << 12)) != 0
    return np.where(cloudy, 3, np.where(snow, 2, np.where(near, 1, 0))).astype(np.int8)
