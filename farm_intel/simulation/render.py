"""From the world's closed form to the arrays of one scene: what the satellite and its processor would have stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from farm_intel.simulation.kernels import SUB, digital_numbers, mean_reflectance, paint_ellipses, uniform_values
from farm_intel.simulation.layout import WorldTile, transformer
from farm_intel.simulation.scenes import WorldScene
from farm_intel.simulation.sky import sky_classes
from farm_intel.simulation.spectra import BAND_NAMES, BANDS, FloatArray, SimulatedBand
from farm_intel.simulation.world import FarmWorld, ground_classes

DN_PER_REFLECTANCE = 10_000
DN_OFFSET = 1_000
"""Added by processing baseline 04.00 and later."""
SWATH_EDGE_SLOPE = 0.2
"""Metres the swath edge moves west for every metre south."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedScene:
    """A scene's classification, and its bands on demand."""

    scene: WorldScene
    classes: npt.NDArray[np.uint8]
    """(n/2, n/2) at 20 m; 0 outside the swath."""
    _static: TileGround
    _sky: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]]
    _no_data: npt.NDArray[np.bool_]

    def bands(self) -> Iterator[tuple[SimulatedBand, npt.NDArray[np.uint16]]]:
        """Yield every band with its digital numbers on its own grid."""
        world, scene = self._static.world, self.scene
        mean, slope = world.ground(scene.day)
        for i, band in enumerate(BANDS):
            fine = self._static.mean_reflectance(self._sky, i, mean, slope)
            if band.common_name in {"nir", "nir08"}:
                fine += np.float32(scene.artefact)
            rho = block_mean(fine, band.gsd_m // 10)
            no_data = block_any(self._no_data, band.gsd_m // 10)
            numbers = np.empty(rho.shape, np.uint16)
            offset = DN_OFFSET if scene.dialect.offset_in_pixels else 0
            key = noise_key(world.options.seed, scene, band)
            digital_numbers(rho, no_data, key, world.options.noise, offset, numbers)
            yield band, numbers


class TileGround:
    """What stays the same on a tile from day to day: which cover lies where, at 2.5 m."""

    def __init__(self, world: FarmWorld, tile: WorldTile) -> None:
        self.world = world
        self.tile = tile
        n = tile.grid.width_px
        self._corner = (tile.grid.west_m, tile.grid.north_m)
        covers = [self._to_tile(cover) for cover in world.covers]
        step = tile.grid.pixel_m / SUB
        self.labels = rasterize(
            [(cover, number + 1) for number, cover in enumerate(covers)],
            out_shape=(n * SUB, n * SUB),
            transform=Affine(step, 0.0, self._corner[0], 0.0, -step, self._corner[1]),
            dtype="int16",
        )
        self.pure = np.empty((n, n), np.int16)
        uniform_values(self.labels, self.pure)
        self.gradients = self._pixel_gradients()
        water = world.is_water()[self.labels].reshape(n // 2, 2 * SUB, n // 2, 2 * SUB)
        self.water = water.mean(axis=(1, 3)) > 0.5

    def render(self, scene: WorldScene) -> RenderedScene:
        """Return the scene over this tile."""
        n = self.tile.grid.width_px
        sky = np.zeros((n * SUB, n * SUB), np.uint8)
        paint_ellipses(self._tile_sky(scene.day), self.tile.grid.pixel_m / SUB, sky)
        pure_sky = np.empty((n, n), np.int16)
        uniform_values(sky, pure_sky)
        no_data = self._outside_swath() if scene.swath_edge else np.zeros((n, n), np.bool_)
        touched = np.bitwise_or.reduce(np.bitwise_or.reduce(sky.reshape(n // 2, 2 * SUB, n // 2, 2 * SUB), 3), 1)
        classes = sky_classes(touched, self._ground_classes(scene.day))
        classes[no_data[::2, ::2]] = 0
        return RenderedScene(scene=scene, classes=classes, _static=self, _sky=(sky, pure_sky), _no_data=no_data)

    def mean_reflectance(
        self,
        sky: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16]],
        band: int,
        mean: FloatArray,
        slope: FloatArray,
    ) -> npt.NDArray[np.float32]:
        """Return one band's mean over every 10 m pixel (n, n), without noise; sky as in kernels.mean_reflectance."""
        out = np.empty(self.pure.shape, np.float32)
        ground = np.column_stack([mean[:, band], slope[:, band]])
        effects = np.column_stack([self.world.gain, self.world.path[:, band]])
        mean_reflectance((self.labels, self.pure), sky, self.gradients, ground, effects, out)
        return out

    def _to_tile(self, shape: BaseGeometry) -> BaseGeometry:
        if self.tile.epsg == self.world.site.epsg_east:
            return shape
        to_tile = transformer(self.world.site.epsg_east, self.tile.epsg)
        return shapely.transform(shape, lambda xy: np.column_stack(to_tile.transform(xy[:, 0], xy[:, 1])))

    def _pixel_gradients(self) -> FloatArray:
        """Return the covers' gradient coordinates per pixel column and row of this tile.

        Between neighbouring zones the plane is turned by a few minutes of arc and stretched by 1e-5: over a field an
        affine map through three points is exact to 1e-6 of the coordinate.
        """
        back = transformer(self.tile.epsg, self.world.site.epsg_east)
        out = np.zeros_like(self.world.gradients)
        west, north = self._corner
        for number, (gx, gy, g0) in enumerate(self.world.gradients):
            if gx == 0.0 and gy == 0.0:
                continue
            center = self._to_tile(self.world.covers[number - 1]).centroid
            x, y = np.array([0.0, 100.0, 0.0]) + center.x, np.array([0.0, 0.0, -100.0]) + center.y
            px, py = (x, y) if self.tile.epsg == self.world.site.epsg_east else back.transform(x, y)
            s = gx * px + gy * py + g0
            per_col, per_row = (s[1] - s[0]) / 10.0, (s[2] - s[0]) / 10.0
            col, row = (center.x - west) / 10.0, (north - center.y) / 10.0
            out[number] = per_col, per_row, s[0] - per_col * col - per_row * row
        return out

    def _tile_sky(self, day: date) -> FloatArray:
        """Return the sky's ellipses in metres right and down from this tile's corner."""
        shapes = self.world.sky(day)
        if not len(shapes):
            return shapes
        center = shapes[:, 0:2]
        points = np.stack([center, center + shapes[:, 2:4], center + shapes[:, 4:6]])
        if self.tile.epsg != self.world.site.epsg_east:
            to_tile = transformer(self.world.site.epsg_east, self.tile.epsg)
            points = np.stack(to_tile.transform(points[..., 0], points[..., 1]), axis=-1)
        points = (points - self._corner) * (1.0, -1.0)
        return np.column_stack([points[0], points[1] - points[0], points[2] - points[0], shapes[:, 6]])

    def _outside_swath(self) -> npt.NDArray[np.bool_]:
        """Return True west of a slanted line, in whole 20 m cells."""
        n = self.tile.grid.width_px
        line = swath_edge_m(n)
        cell = np.arange(n // 2) * 20.0 + 10.0
        outside = cell[None, :] < line - SWATH_EDGE_SLOPE * cell[:, None]
        return np.repeat(np.repeat(outside, 2, axis=0), 2, axis=1)

    def _ground_classes(self, day: date) -> npt.NDArray[np.uint8]:
        mean, slope = self.world.ground(day)
        n = self.tile.grid.width_px
        clear = np.zeros((n * SUB, n * SUB), np.uint8), np.zeros((n, n), np.int16)
        nir, red = (
            block_mean(self.mean_reflectance(clear, BAND_NAMES.index(name), mean, slope), 2) for name in ("nir", "red")
        )
        return ground_classes(nir, red, self.water)


def swath_edge_m(tile_px: int) -> float:
    """Return where the swath edge crosses the tile's northern border, metres from its western border.

    It passes through the strip both tiles see and beyond it, so that some farms are filled from the other tile, some
    are seen in part and some not at all.
    """
    return 0.35 * tile_px * 10.0


def block_mean(values: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """Return means over factor x factor blocks."""
    if factor == 1:
        return values
    rows, cols = values.shape
    blocks = values.reshape(rows // factor, factor, cols // factor, factor)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64), np.float32)


def block_any(values: npt.NDArray[np.bool_], factor: int) -> npt.NDArray[np.bool_]:
    """Return True where any of a factor x factor block is."""
    rows, cols = values.shape
    return np.asarray(values.reshape(rows // factor, factor, cols // factor, factor).any(axis=(1, 3)))


def noise_key(seed: int, scene: WorldScene, band: SimulatedBand) -> np.uint64:
    """Return the key of a band's noise; other processings of a scene differ by it."""
    digest = hashlib.sha256(f"{seed}|{scene.scene_id}|{band.common_name}".encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))
