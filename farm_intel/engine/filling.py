"""Fills pixels that the home scene has no data for from another scene of the same day.

For every missing pixel the other scene's pixel that contains its centre is taken: on the same zone's grid that is
exact, in another zone it is the nearest neighbour. All bands of a pixel come from one scene, never a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyproj

from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.observations import Flag
from farm_intel.domain.scenes import Scene
from farm_intel.engine.candidates import Failure
from farm_intel.engine.gathering import count_missing
from farm_intel.engine.grid import FarmCells, PixelSet
from farm_intel.engine.opening import OpenScene
from farm_intel.engine.zonal import GatheredPixels


@dataclass(slots=True, kw_only=True, eq=False)
class OpenFarm:
    """A farm whose home scene did not see all of it."""

    farm: int
    """Position in the run's list of farms."""
    candidates: list[Scene]
    """Scenes still to ask, in order."""
    home: OpenScene | None = None
    cells: FarmCells | None = None
    pixels: GatheredPixels | None = None
    """Of the home scene, as far as filled; None until a scene has at least one pixel of the farm."""
    missing: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    """(n,) pixels without data."""
    contributors: list[OpenScene] = field(default_factory=list)
    flags: set[Flag] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    """Scenes asked before the home scene, or for its gaps, that could not be used."""
    unread: list[Failure] = field(default_factory=list)
    """Scenes that could be opened but not read where they were to fill gaps."""
    seen: list[OpenScene] = field(default_factory=list)
    """Scenes that were read and had nothing of the farm."""

    @property
    def area(self) -> int:
        """Position in the cells of the home scene's grid."""
        if self.cells is None:
            raise ValueError(f"farm {self.farm} has no home scene yet")
        return int(self.cells.position[self.farm])


def missing_points(farms: Sequence[OpenFarm], scene: OpenScene) -> PixelSet:
    """Return the missing pixels of farms as pixels of another scene's base grid, one area per farm."""
    windows = np.zeros((len(farms), 4), np.int32)
    rows: list[npt.NDArray[np.uint16]] = []
    cols: list[npt.NDArray[np.uint16]] = []
    for k, farm in enumerate(farms):
        row, col = _pixels_in(farm, scene.grid)
        top, left = int(row.min()), int(col.min())
        windows[k] = (top, left, int(row.max()) - top + 1, int(col.max()) - left + 1)
        rows.append((row - top).astype(np.uint16))
        cols.append((col - left).astype(np.uint16))
    counts = [len(row) for row in rows]
    return PixelSet(
        windows=windows,
        ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows=np.concatenate(rows),
        cols=np.concatenate(cols),
    )


def _pixels_in(farm: OpenFarm, grid: PixelGrid) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of `grid` that contain the centres of the farm's missing pixels."""
    cells = farm.cells
    if cells is None:
        raise ValueError(f"farm {farm.farm} has no home scene yet")
    span = slice(int(cells.ptr[farm.area]), int(cells.ptr[farm.area + 1]))
    home = cells.grid
    x = home.west_m + (cells.windows[farm.area, 1] + cells.cols[span][farm.missing] + 0.5) * home.pixel_m
    y = home.north_m - (cells.windows[farm.area, 0] + cells.rows[span][farm.missing] + 0.5) * home.pixel_m
    if grid.crs != home.crs:
        x, y = pyproj.Transformer.from_crs(home.crs, grid.crs, always_xy=True).transform(x, y)
    place = [np.floor((grid.north_m - y) / grid.pixel_m), np.floor((x - grid.west_m) / grid.pixel_m)]
    # a centre the other zone cannot express, or far off its file, stays missing
    outside = ~((place[0] >= 0) & (place[1] >= 0) & (place[0] < grid.height_px) & (place[1] < grid.width_px))
    inside = ~outside
    row, col = (np.where(inside, values, -1).astype(np.int64) for values in place)
    if inside.any():
        # keep the window small: pixels outside stand right beside those inside
        row[outside] = row[inside].min()
        col[outside] = -1 if col[inside].min() < grid.width_px // 2 else grid.width_px
    return row, col


def fill(farm: OpenFarm, scene: OpenScene, found: GatheredPixels) -> None:
    """Take over what another scene has of the farm's missing pixels.

    Args:
        farm: changed in place.
        scene: the other scene.
        found: its pixels, one for every missing pixel of the farm in order.

    """
    if farm.pixels is None or farm.home is None:
        raise ValueError(f"farm {farm.farm} has no pixels to fill yet")
    gone = np.zeros(len(found.reasons), np.bool_)
    count_missing(found.reflectance, found.reasons, scene.present, found.starts, gone)
    if gone.all():
        return
    targets = np.nonzero(farm.missing)[0][~gone]
    farm.pixels.reflectance[:, targets] = found.reflectance[:, ~gone]
    farm.pixels.reasons[targets] = found.reasons[~gone]
    if farm.pixels.days is not None and found.days is not None:
        farm.pixels.days[targets] = found.days[~gone]
    farm.missing[targets] = False
    farm.contributors.append(scene)
    farm.flags.add(Flag.MERGED_TILES)
    farm.flags |= scene.radiometry.flags
    if scene.grid.crs != farm.home.grid.crs:
        farm.flags.add(Flag.REPROJECTED)
