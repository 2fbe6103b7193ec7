"""Which blocks to read for which farms, in which order: made once per grid, blocking and farm set.

A farm belongs to the block that holds its upper-left pixel; blocks are walked row by row. Neighbouring blocks form a
group that is read and computed together, so that a reader can fetch a run of blocks with one request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from farm_intel.engine.blocks import Rows
from farm_intel.engine.grid import PixelSet


@dataclass(frozen=True, slots=True, kw_only=True)
class BandLayout:
    """How a band is cut into blocks; bands that are cut alike share one list of blocks."""

    ratio: int
    """Pixel edge in base pixels."""
    block_height_px: int
    block_width_px: int
    height_px: int
    width_px: int
    margin_px: int = 0
    """Band pixels needed around each window (cloud dilation)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """One block and the areas that have pixels in it."""

    block: tuple[int, int]
    """Row and column of the block."""
    slots: npt.NDArray[np.int64]
    """Positions in the group's `areas`."""
    rows: Rows
    """Rows of the block that hold all of their pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Areas that are gathered and computed together, and the blocks they need."""

    areas: npt.NDArray[np.int64]
    """Positions in the pixel set."""
    pieces: tuple[tuple[Piece, ...], ...]
    """Per layout, row-major."""
    pixel_count: int


def plan_groups(
    pixels: PixelSet, areas: npt.NDArray[np.int64], layouts: Sequence[BandLayout], weights: Sequence[int], limit: int
) -> tuple[Group, ...]:
    """Return groups in row-major order of their blocks.

    Args:
        pixels: the grid's areas.
        areas: positions of those to read.
        layouts: distinct layouts; the first with ratio 1 decides which block owns an area.
        weights: decoded bytes of one block, summed over the bands of each layout.
        limit: decoded bytes after which a group is closed.

    """
    if not len(areas):
        return ()
    reference = next((layout for layout in layouts if layout.ratio == 1), layouts[0])
    owner = _block_id(reference, pixels.windows[areas, 0], pixels.windows[areas, 1])
    order = np.argsort(owner, kind="stable")
    areas, owner = areas[order], owner[order]
    pairs = [_area_blocks(pixels, areas, layout) for layout in layouts]
    cuts = _cut_groups(owner, pairs, weights, limit)
    counts = pixels.counts()
    spans = [_band_rows(layout, pixels.windows[areas]) for layout in layouts]
    return tuple(
        Group(
            areas=areas[first:end],
            pieces=tuple(
                _pieces(layout, pair, span, (first, end))
                for layout, pair, span in zip(layouts, pairs, spans, strict=True)
            ),
            pixel_count=int(counts[areas[first:end]].sum()),
        )
        for first, end in cuts
    )


type _Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""(area slots ascending, block ids): which area needs which block."""


def _columns(layout: BandLayout) -> int:
    return -(-layout.width_px // layout.block_width_px)


def _block_id(
    layout: BandLayout, rows: npt.NDArray[np.int32], cols: npt.NDArray[np.int32], shift: int = 0
) -> npt.NDArray[np.int64]:
    """Return the linear block number of base pixels, moved by band pixels and clamped to the image."""
    row = np.clip(rows.astype(np.int64) // layout.ratio + shift, 0, layout.height_px - 1) // layout.block_height_px
    col = np.clip(cols.astype(np.int64) // layout.ratio + shift, 0, layout.width_px - 1) // layout.block_width_px
    return row * _columns(layout) + col


def _area_blocks(pixels: PixelSet, areas: npt.NDArray[np.int64], layout: BandLayout) -> _Pairs:
    """Return the blocks each area has pixels in, exactly: no block is read for a window's empty corner."""
    row, col, height, width = pixels.windows[areas].T
    first = _block_id(layout, row, col, -layout.margin_px)
    last = _block_id(layout, row + height - 1, col + width - 1, layout.margin_px)
    single = first == last
    slots = [np.nonzero(single)[0]]
    blocks = [first[single]]
    for slot in np.nonzero(~single)[0].tolist():
        found = _window_blocks(layout, int(first[slot]), int(last[slot]))
        if not layout.margin_px:
            found = _pixel_blocks(pixels, int(areas[slot]), layout)
        slots.append(np.full(len(found), slot, np.int64))
        blocks.append(found)
    all_slots, all_blocks = np.concatenate(slots), np.concatenate(blocks)
    order = np.argsort(all_slots, kind="stable")
    return all_slots[order], all_blocks[order]


def _window_blocks(layout: BandLayout, first: int, last: int) -> npt.NDArray[np.int64]:
    across = _columns(layout)
    rows = np.arange(first // across, last // across + 1)
    cols = np.arange(first % across, last % across + 1)
    return np.asarray((rows[:, None] * across + cols).ravel(), np.int64)


def _pixel_blocks(pixels: PixelSet, area: int, layout: BandLayout) -> npt.NDArray[np.int64]:
    span = slice(int(pixels.ptr[area]), int(pixels.ptr[area + 1]))
    rows = (pixels.rows[span].astype(np.int64) + pixels.windows[area, 0]) // layout.ratio
    cols = (pixels.cols[span].astype(np.int64) + pixels.windows[area, 1]) // layout.ratio
    inside = (rows >= 0) & (cols >= 0) & (rows < layout.height_px) & (cols < layout.width_px)
    ids = rows[inside] // layout.block_height_px * _columns(layout) + cols[inside] // layout.block_width_px
    return np.unique(ids)


def _cut_groups(
    owner: npt.NDArray[np.int64], pairs: Sequence[_Pairs], weights: Sequence[int], limit: int
) -> list[tuple[int, int]]:
    """Return [first, end) ranges of area slots: whole owner blocks, closed once their blocks weigh `limit`."""
    starts = np.concatenate([[0], np.nonzero(np.diff(owner))[0] + 1, [len(owner)]]).tolist()
    cuts: list[tuple[int, int]] = []
    begin = 0
    held: set[tuple[int, int]] = set()
    weight = 0
    for first, end in pairwise(starts):
        new = {
            (number, block)
            for number, (slots, blocks) in enumerate(pairs)
            for block in blocks[np.searchsorted(slots, first) : np.searchsorted(slots, end)].tolist()
        }
        extra = sum(weights[number] for number, _ in new - held)
        if held and weight + extra > limit:
            cuts.append((begin, first))
            begin, held, weight = first, set(), 0
            extra = sum(weights[number] for number, _ in new)
        held |= new
        weight += extra
    cuts.append((begin, len(owner)))
    return cuts


def _band_rows(layout: BandLayout, windows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return (n, 2) first and end band row of windows with their margin; may reach outside the image."""
    row, height = windows[:, 0].astype(np.int64), windows[:, 2]
    first = row // layout.ratio - layout.margin_px
    return np.stack([first, (row + height - 1) // layout.ratio + 1 + layout.margin_px], axis=1)


def _pieces(layout: BandLayout, pair: _Pairs, rows: npt.NDArray[np.int64], span: tuple[int, int]) -> tuple[Piece, ...]:
    slots, blocks = pair
    inside = slice(int(np.searchsorted(slots, span[0])), int(np.searchsorted(slots, span[1])))
    here, ids = slots[inside] - span[0], blocks[inside]
    order = np.argsort(ids, kind="stable")
    here, ids = here[order], ids[order]
    if not len(ids):
        return ()
    starts = np.concatenate([[0], np.nonzero(np.diff(ids))[0] + 1])
    across, height = _columns(layout), layout.block_height_px
    block_rows, block_cols = np.divmod(ids[starts], across)
    top = block_rows * height
    first = np.clip(np.minimum.reduceat(rows[here + span[0], 0], starts) - top, 0, height)
    end = np.clip(np.maximum.reduceat(rows[here + span[0], 1], starts) - top, 0, layout.height_px - top)
    end = np.minimum(end, height)
    edges = [*starts.tolist(), len(ids)]
    return tuple(
        Piece(block=(row, col), slots=here[edges[k] : edges[k + 1]], rows=(low, high))
        for k, (row, col, low, high) in enumerate(
            zip(block_rows.tolist(), block_cols.tolist(), first.tolist(), end.tolist(), strict=True)
        )
    )
