"""The world seen on any north-up grid: sub-pixel means of ground and sky for sensors coarser than Sentinel-2.

Pixels are divided into cells, cells into 4 x 4 points as in `render`; covers and clouds are brought into the grid's
CRS as shapes, so that a field edge lies where it lies in every sensor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.geo import PixelGrid
from farm_intel.simulation.kernels import SUB, mean_reflectance, paint_ellipses, uniform_values
from farm_intel.simulation.sky import Extent
from farm_intel.simulation.spectra import BAND_NAMES, FloatArray
from farm_intel.simulation.world import FarmWorld

_EDGE_STEP_M = 250.0
"""Longest piece of an edge that is taken to another projection as a straight line (then bent by centimetres only)."""


@dataclass(frozen=True, slots=True)
class SkyView:
    """One day's sky over a grid."""

    day: date
    sub: npt.NDArray[np.uint8]
    """(rows * cells * 4, cols * cells * 4) sky codes at points."""
    pure: npt.NDArray[np.int16]
    """(rows * cells, cols * cells) the cell's one code, else kernels.MIXED."""
    touched: npt.NDArray[np.uint8]
    """(rows, cols) every sky bit that occurs anywhere in the pixel."""


class GridGround:
    """What lies where on one grid, and what a sensor with that grid sees on a day."""

    def __init__(self, world: FarmWorld, grid: PixelGrid, cells: int) -> None:
        """Rasterise the world's covers once.

        Args:
            world: the world.
            grid: the sensor's grid; any projected CRS in which the world is not cut in two.
            cells: cells along a pixel's edge; each is counted at 4 x 4 points.

        """
        self.world = world
        self.grid = grid
        self._cells = cells
        self._cell_m = grid.pixel_m / cells
        self._rows, self._cols = grid.height_px * cells, grid.width_px * cells
        plane = f"EPSG:{world.site.epsg_east}"
        self._to_grid = Transformer.from_crs(plane, grid.crs, always_xy=True)
        self._to_plane = Transformer.from_crs(grid.crs, plane, always_xy=True)
        self._labels = self._rasterise_covers()
        self._pure = np.empty((self._rows, self._cols), np.int16)
        uniform_values(self._labels, self._pure)
        self._gradients = self._cell_gradients()
        self.water = self._pixels(world.is_water()[self._labels]).mean(axis=(1, 3)) > 0.5
        """(rows, cols) True where more than half of the pixel is water."""

    def sky(self, day: date) -> SkyView:
        """Return the day's sky over the grid."""
        sub = np.zeros((self._rows * SUB, self._cols * SUB), np.uint8)
        paint_ellipses(self._sky_shapes(day), self._cell_m / SUB, sub)
        pure = np.empty((self._rows, self._cols), np.int16)
        uniform_values(sub, pure)
        touched = np.bitwise_or.reduce(np.bitwise_or.reduce(self._pixels(sub), 3), 1)
        return SkyView(day=day, sub=sub, pure=pure, touched=touched)

    def sky_fraction(self, view: SkyView, bits: int) -> FloatArray:
        """Return (rows, cols) the share of each pixel under any of the sky bits."""
        return np.asarray(self._pixels((view.sub & bits) != 0).mean(axis=(1, 3)))

    def reflectance(self, view: SkyView, band: str) -> npt.NDArray[np.float32]:
        """Return (rows, cols) the mean reflectance of one band over each pixel, without noise.

        Args:
            view: the sky to look through; its day is the ground's.
            band: common name.

        """
        number = BAND_NAMES.index(band)
        mean, slope = self.world.ground(view.day)
        ground = np.column_stack([mean[:, number], slope[:, number]])
        effects = np.column_stack([self.world.gain, self.world.path[:, number]])
        fine = np.empty((self._rows, self._cols), np.float32)
        sky = (view.sub, view.pure)
        mean_reflectance((self._labels, self._pure), sky, self._gradients, ground, effects, fine)
        blocks = fine.reshape(self.grid.height_px, self._cells, self.grid.width_px, self._cells)
        return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64), np.float32)

    def _pixels[T: np.generic](self, sub: npt.NDArray[T]) -> npt.NDArray[T]:
        """Return point values as (rows, points, cols, points)."""
        points = self._cells * SUB
        return sub.reshape(self.grid.height_px, points, self.grid.width_px, points)

    def _rasterise_covers(self) -> npt.NDArray[np.int16]:
        step = self._cell_m / SUB
        labels: npt.NDArray[np.int16] = rasterize(
            [(self._projected(cover), number + 1) for number, cover in enumerate(self.world.covers)],
            out_shape=(self._rows * SUB, self._cols * SUB),
            transform=Affine(step, 0.0, self.grid.west_m, 0.0, -step, self.grid.north_m),
            dtype="int16",
        )
        return labels

    def _projected(self, shape: BaseGeometry) -> BaseGeometry:
        fine = shapely.segmentize(shape, _EDGE_STEP_M)
        return shapely.transform(fine, lambda xy: np.column_stack(self._to_grid.transform(xy[:, 0], xy[:, 1])))

    def _cell_gradients(self) -> FloatArray:
        """Return the covers' gradient coordinates per cell column and row, by an affine map at each cover's centre."""
        out = np.zeros_like(self.world.gradients)
        for number, (gx, gy, g0) in enumerate(self.world.gradients):
            if gx == 0.0 and gy == 0.0:
                continue
            center = self.world.covers[number - 1].centroid
            x0, y0 = self._to_grid.transform(center.x, center.y)
            x, y = np.array([0.0, 100.0, 0.0]) + x0, np.array([0.0, 0.0, -100.0]) + y0
            px, py = self._to_plane.transform(x, y)
            s = gx * np.asarray(px) + gy * np.asarray(py) + g0
            per_col, per_row = (s[1:] - s[0]) / 100.0 * self._cell_m
            col, row = (x0 - self.grid.west_m) / self._cell_m, (self.grid.north_m - y0) / self._cell_m
            out[number] = per_col, per_row, s[0] - per_col * col - per_row * row
        return out

    def _sky_shapes(self, day: date) -> FloatArray:
        """Return the sky's ellipses in metres right and down from the grid's corner."""
        shapes = self.world.sky(day)
        if not len(shapes):
            return shapes
        center = shapes[:, 0:2]
        # Half axes are taken over as differences across 100 m, so that an overcast as large as a country stays affine.
        steps = center + np.array([(0.0, 0.0), (100.0, 0.0), (0.0, 100.0)])[:, None]
        x, y = self._to_grid.transform(steps[..., 0], steps[..., 1])
        points = np.stack([x, y], axis=-1)
        east, north = (points[1] - points[0]) / 100.0, (points[2] - points[0]) / 100.0
        axes = [shapes[:, k, None] * east + shapes[:, k + 1, None] * north for k in (2, 4)]
        corner = (self.grid.west_m, self.grid.north_m)
        down = (1.0, -1.0)
        return np.column_stack([(points[0] - corner) * down, axes[0] * down, axes[1] * down, shapes[:, 6]])


def extent_in(world: FarmWorld, crs: str, margin_m: float) -> Extent:
    """Return the box around the world's extent in another CRS, widened by a margin (CRS units)."""
    to_crs = Transformer.from_crs(f"EPSG:{world.site.epsg_east}", crs, always_xy=True)
    west, south, east, north = to_crs.transform_bounds(
        world.extent.west_m, world.extent.south_m, world.extent.east_m, world.extent.north_m, densify_pts=21
    )
    return Extent(west_m=west - margin_m, south_m=south - margin_m, east_m=east + margin_m, north_m=north + margin_m)


def hash_key(*parts: object) -> np.uint64:
    """Return a noise key that depends on every part and nothing else."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))
