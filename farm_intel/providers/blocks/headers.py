"""Rules every reader holds a file to before a pixel is read: a CRS, a north-up grid, square pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.geo import PixelGrid
from farm_intel.engine.blocks import Block
from farm_intel.providers.blocks.locations import BandRef

_SQUARE_TOLERANCE = 1e-6
"""Relative difference of pixel width and height that is still rounding (MODIS writes 463.3127165279165/…167)."""

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x = a*col + b*row + c, y = d*col + e*row + f."""


def checked_grid(ref: BandRef, crs: str | None, transform: Affine, *, width_px: int, height_px: int) -> PixelGrid:
    """Return the grid of a file.

    Raises:
        SceneProblemError: no CRS, or a grid that is not north-up with square pixels.

    """
    if not crs:
        raise ref.problem(
            SceneProblemKind.MISSING_PROJECTION,
            "the file does not say its coordinate reference system",
            hint="Have the provider deliver a georeferenced file.",
        )
    a, b, c, d, e, f = transform
    finite = all(math.isfinite(value) for value in transform)
    if not finite or b or d or a <= 0 or e >= 0 or not math.isclose(a, -e, rel_tol=_SQUARE_TOLERANCE):
        raise ref.problem(
            SceneProblemKind.UNKNOWN_GRID,
            f"the grid is not north-up with square pixels (transform {a:g} {b:g} {c:g} {d:g} {e:g} {f:g})",
            hint="Only unrotated grids are read; warp the file first.",
        )
    return PixelGrid(crs=crs, width_px=width_px, height_px=height_px, pixel_m=a, west_m=c, north_m=f)


def fill_value(dtype: np.dtype[Any], nodata: float | None) -> float:
    """Return what absent pixels hold: nodata where the type can hold it, else 0 (as GDAL fills sparse blocks)."""
    if nodata is None or (dtype.kind != "f" and not math.isfinite(nodata)):
        return 0
    if dtype.kind == "f":
        return nodata
    limits = np.iinfo(dtype)
    return nodata if limits.min <= nodata <= limits.max and nodata == int(nodata) else 0


def pad_block(block: npt.NDArray[Any], rows: int, cols: int, fill: float) -> Block:
    """Overwrite everything below row `rows` and right of column `cols` with `fill`, in place, and return the block."""
    block[rows:] = fill
    block[:, cols:] = fill
    return block


def check_places(shape: tuple[int, ...], blocks: Sequence[tuple[int, int]]) -> None:
    """Refuse blocks a file does not have; a negative index would silently count from the end.

    Raises:
        IndexError: a (row, col) outside `shape`, the number of block rows and columns.

    """
    for row, col in blocks:
        if not (0 <= row < shape[0] and 0 <= col < shape[1]):
            raise IndexError(f"no block ({row}, {col}) in a file of {shape[0]} x {shape[1]} blocks")
