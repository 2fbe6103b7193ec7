"""Cloud dilation: mask pixels near cloud or shadow lose their word.

Dilation works on the mask band's own grid, per farm, on a canvas that reaches `dilation_px` beyond the farm's window;
the blocks under that margin are read too, so the result does not depend on where blocks begin. Beyond the file's edge
nothing is known and nothing is grown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from farm_intel.domain.products import PixelReason
from farm_intel.engine.blocks import Block
from farm_intel.engine.gathering import BlockPlace, PixelArrays, dilate_reasons, gather_canvas, paste_reasons
from farm_intel.engine.planning import Piece
from farm_intel.engine.zonal import GatheredPixels


class DilationRules(Protocol):
    """What dilation needs to know."""

    @property
    def lookup(self) -> npt.NDArray[np.uint8]:
        """Mask value -> PixelReason."""
        ...

    @property
    def dilation_px(self) -> int:
        """Radius in mask pixels."""
        ...


def gather_dilated(
    masks: Sequence[tuple[BlockPlace, Block, Piece]],
    areas: npt.NDArray[np.int64],
    pixels: PixelArrays,
    rules: DilationRules,
    out: GatheredPixels,
) -> None:
    """Write the reasons of all areas' pixels after growing cloud and shadow.

    Args:
        masks: every mask block the areas and their margins touch.
        areas: positions in `pixels`.
        pixels: the grid's areas.
        rules: lookup and radius.
        out: reasons are written, areas in the order of `areas`.

    """
    touching: dict[int, list[tuple[BlockPlace, Block]]] = {}
    for place, block, piece in masks:
        for slot in piece.slots.tolist():
            touching.setdefault(slot, []).append((place, block))
    radius = rules.dilation_px
    for slot, blocks in touching.items():
        area = int(areas[slot])
        row, col, height, width = pixels.windows[area].tolist()
        ratio = blocks[0][0].ratio
        top, left = row // ratio - radius, col // ratio - radius
        bottom, right = (row + height - 1) // ratio + radius + 1, (col + width - 1) // ratio + radius + 1
        canvas = np.full((bottom - top, right - left), PixelReason.NODATA, np.uint8)
        for place, block in blocks:
            paste_reasons(block, place, (top, left), rules.lookup, canvas)
        span = slice(int(out.starts[slot]), int(out.starts[slot + 1]))
        gather_canvas(dilate_reasons(canvas, radius), (top, left), area, ratio, pixels, out.reasons[span])
