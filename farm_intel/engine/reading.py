"""Reads the areas of one scene group by group: blocks in, reflectance and reasons of the areas' pixels out."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import SceneProblemError, TransientError
from farm_intel.domain.products import PixelReason
from farm_intel.engine.blocks import Block
from farm_intel.engine.candidates import Failure, failure_of
from farm_intel.engine.gathering import BlockPlace, Scaling, gather_reasons, gather_reflectance
from farm_intel.engine.grid import PixelSet
from farm_intel.engine.masking import gather_dilated
from farm_intel.engine.opening import BandSlot, OpenScene
from farm_intel.engine.planning import BandLayout, Group, Piece, plan_groups
from farm_intel.engine.pool import BlockKey, BlockPool, Need
from farm_intel.engine.zonal import GatheredPixels, empty_pixels, pixel_arrays

MASK = -1
"""Number of the mask among the bands of a read job."""
_DAY = -2
_BESIDE = -3
"""Number of the first further mask; the next ones count down from it."""
_WAVES = 4
"""A group is read in waves of at most a quarter of the budget, so that a farm of many blocks stays within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRules:
    """What of the engine's options reading needs."""

    lookup: npt.NDArray[np.uint8]
    """Mask value -> PixelReason."""
    mask_first: bool
    dilation_px: int
    budget_bytes: int
    more_lookups: tuple[npt.NDArray[np.uint8], ...] = ()
    """Of the further masks, in the order of `OpenScene.more_masks`."""
    valid_dn: tuple[int, int] | None = None
    """Digital numbers outside this range are no measurement."""

    @property
    def group_bytes(self) -> int:
        """Decoded bytes after which a group is closed."""
        return max(1, self.budget_bytes // _WAVES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupPixels:
    """What was read for one group."""

    areas: npt.NDArray[np.int64]
    """Positions in the pixel set."""
    pixels: GatheredPixels
    """Of these areas, in that order."""
    failed: dict[int, Failure]
    """Position in `areas` -> why its pixels are not to be used."""
    beside: npt.NDArray[np.uint8]
    """(further masks, n) PixelReason by each of them alone."""


def band_layout(slot: BandSlot, margin_px: int = 0) -> BandLayout:
    """Return how an open band is cut into blocks."""
    header = slot.header
    return BandLayout(
        ratio=slot.ratio,
        block_height_px=header.block_height_px,
        block_width_px=header.block_width_px,
        height_px=header.grid.height_px,
        width_px=header.grid.width_px,
        margin_px=margin_px,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class SceneLayouts:
    """The distinct layouts of a scene's bands and which bands use them."""

    layouts: list[BandLayout] = field(default_factory=list)
    bands: list[list[int]] = field(default_factory=list)
    """Per layout, band numbers; MASK is the mask."""
    weights: list[int] = field(default_factory=list)
    """Per layout, decoded bytes of one block over its bands."""

    def add(self, layout: BandLayout, band: int, itemsize: int) -> None:
        """Register one band."""
        if layout not in self.layouts:
            self.layouts.append(layout)
            self.bands.append([])
            self.weights.append(0)
        place = self.layouts.index(layout)
        self.bands[place].append(band)
        self.weights[place] += layout.block_height_px * layout.block_width_px * itemsize


def scene_layouts(scene: OpenScene, dilation_px: int) -> SceneLayouts:
    """Return the layouts of all bands a scene offers."""
    found = SceneLayouts()
    for number, slot in enumerate(scene.inputs):
        if slot is not None:
            found.add(band_layout(slot), number, slot.header.dtype.itemsize)
    found.add(band_layout(scene.mask, dilation_px), MASK, scene.mask.header.dtype.itemsize)
    for place, slot in enumerate(scene.more_masks):
        found.add(band_layout(slot), _BESIDE - place, slot.header.dtype.itemsize)
    if scene.day is not None:
        found.add(band_layout(scene.day), _DAY, scene.day.header.dtype.itemsize)
    return found


def combine_reasons(found: GroupPixels) -> None:
    """Let every further mask speak about the pixels that all masks before it call valid."""
    reasons = found.pixels.reasons
    for beside in found.beside:
        np.copyto(reasons, beside, where=reasons == PixelReason.VALID)


class SceneRead:
    """One scene, one set of areas: a read job."""

    def __init__(self, job: int, scene: OpenScene, pixels: PixelSet, rules: ReadRules) -> None:
        self.scene = scene
        self.pixels = pixels
        self._job = job
        self._rules = rules
        self._layouts = scene_layouts(scene, rules.dilation_px)
        self._arrays = pixel_arrays(pixels)

    @property
    def plan_key(self) -> tuple[BandLayout, ...]:
        """What, besides pixels and areas, the groups depend on."""
        return tuple(self._layouts.layouts)

    def plan(self, areas: npt.NDArray[np.int64]) -> tuple[Group, ...]:
        """Return the groups for these areas."""
        layouts = self._layouts
        return plan_groups(self.pixels, areas, layouts.layouts, layouts.weights, self._rules.group_bytes)

    def needs(self, group: Group) -> list[Need]:
        """Return every block of a group."""
        return [
            Need(self._key(band, piece), self._size(band), piece.rows)
            for place, pieces in enumerate(group.pieces)
            for piece in pieces
            for band in self._layouts.bands[place]
        ]

    def size(self, group: Group) -> int:
        """Return the decoded bytes a group has in memory at a time."""
        return min(sum(need.size for need in self.needs(group)), 2 * self._rules.group_bytes)

    async def run(self, group: Group, pool: BlockPool, executor: Executor) -> GroupPixels:
        """Read and gather one group whose blocks the pool expects; releases them."""
        counts = self.pixels.counts()[group.areas]
        with_days = self.scene.day is not None
        out = empty_pixels(len(self.scene.inputs), counts, PixelReason.NODATA, with_days=with_days)
        beside = np.full((len(self.scene.more_masks), len(out.reasons)), PixelReason.NODATA, np.uint8)
        result = GroupPixels(areas=group.areas, pixels=out, failed={}, beside=beside)
        wanted = [
            (band, piece)
            for place, pieces in enumerate(group.pieces)
            for band in self._layouts.bands[place]
            for piece in pieces
        ]
        masks = [entry for entry in wanted if entry[0] == MASK or entry[0] <= _BESIDE]
        rest = [entry for entry in wanted if entry[0] > MASK or entry[0] == _DAY]
        if self._rules.mask_first:
            await self._read(masks, result, pool, executor)
            combine_reasons(result)
            rest, skipped = self._split_clear(rest, result)
            await pool.release(self._key(band, piece) for band, piece in skipped)
            await self._read(rest, result, pool, executor)
        else:
            await self._read(masks + rest, result, pool, executor)
            combine_reasons(result)
        if self._rules.valid_dn is not None:
            self._bar_invalid(result.pixels.reflectance, self._rules.valid_dn)
        return result

    def _bar_invalid(self, reflectance: npt.NDArray[np.float32], valid_dn: tuple[int, int]) -> None:
        """Make digital numbers outside the product's range reflectances that nothing can be computed from."""
        for band, slot in enumerate(self.scene.inputs):
            if slot is None:
                continue
            rule = self.scene.scalings[band]
            # half a digital number of room: the comparison is made after scaling to float32
            low, high = (np.float32(dn * rule.scale + rule.offset) for dn in (valid_dn[0] - 0.5, valid_dn[1] + 0.5))
            values = reflectance[band]
            # NaN compares false and stays no data
            values[(values < low) | (values > high)] = -np.inf

    def _split_clear(
        self, rest: list[tuple[int, Piece]], result: GroupPixels
    ) -> tuple[list[tuple[int, Piece]], list[tuple[int, Piece]]]:
        """Part the blocks into those with at least one area that has a clear pixel, and those without."""
        starts = result.pixels.starts
        valid = np.concatenate([[0], np.cumsum(result.pixels.reasons == PixelReason.VALID)])
        clear = valid[starts[1:]] > valid[starts[:-1]]
        needed = [entry for entry in rest if clear[entry[1].slots].any()]
        return needed, [entry for entry in rest if not clear[entry[1].slots].any()]

    async def _read(
        self, entries: list[tuple[int, Piece]], result: GroupPixels, pool: BlockPool, executor: Executor
    ) -> None:
        """Fetch, gather and release blocks, wave by wave."""
        loop = asyncio.get_running_loop()
        for wave in self._waves(entries):
            by_band: dict[int, list[Piece]] = {}
            for band, piece in wave:
                by_band.setdefault(band, []).append(piece)
            for band, pieces in by_band.items():
                pool.fetch(self._slot(band).band, [self._key(band, piece) for piece in pieces])
            blocks = [await pool.get(self._key(band, piece)) for band, piece in wave]
            await loop.run_in_executor(executor, self._gather, wave, blocks, result)
            blocks.clear()
            await pool.release(self._key(band, piece) for band, piece in wave)

    def _waves(self, entries: list[tuple[int, Piece]]) -> list[list[tuple[int, Piece]]]:
        """Cut the blocks into waves; with dilation the mask needs all its blocks at once, they are small."""
        waves: list[list[tuple[int, Piece]]] = []
        weight = 0
        for band, piece in entries:
            size = self._size(band)
            together = band == MASK and self._rules.dilation_px > 0
            if not waves or (weight + size > 2 * self._rules.group_bytes and not together):
                waves.append([])
                weight = 0
            waves[-1].append((band, piece))
            weight += size
        return waves

    def _gather(
        self,
        wave: list[tuple[int, Piece]],
        blocks: list[Block | SceneProblemError | TransientError],
        result: GroupPixels,
    ) -> None:
        starts = result.pixels.starts
        masks: list[tuple[BlockPlace, Block, Piece]] = []
        for (band, piece), block in zip(wave, blocks, strict=True):
            if isinstance(block, (SceneProblemError, TransientError)):
                failure = failure_of(block, self.scene.scene)
                result.failed.update(dict.fromkeys(piece.slots.tolist(), failure))
                continue
            place = self._place(band, piece)
            areas = result.areas[piece.slots]
            where = starts[piece.slots]
            if band <= _BESIDE:
                number = _BESIDE - band
                lookup = self._rules.more_lookups[number]
                gather_reasons(block, place, areas, where, self._arrays, lookup, result.beside[number])
            elif band == _DAY:
                if result.pixels.days is not None:
                    header = self._slot(band).header
                    rule = Scaling(np.nan if header.nodata is None else float(header.nodata), 1.0, 0.0)
                    gather_reflectance(block, place, areas, where, self._arrays, rule, result.pixels.days)
            elif band != MASK:
                rule = self.scene.scalings[band]
                gather_reflectance(block, place, areas, where, self._arrays, rule, result.pixels.reflectance[band])
            elif self._rules.dilation_px:
                masks.append((place, block, piece))
            else:
                gather_reasons(block, place, areas, where, self._arrays, self._rules.lookup, result.pixels.reasons)
        if masks:
            gather_dilated(masks, result.areas, self._arrays, self._rules, result.pixels)

    def _slot(self, band: int) -> BandSlot:
        slot: BandSlot | None
        if band <= _BESIDE:
            slot = self.scene.more_masks[_BESIDE - band]
        else:
            slot = {MASK: self.scene.mask, _DAY: self.scene.day}[band] if band < 0 else self.scene.inputs[band]
        if slot is None:
            raise KeyError(f"band {band} is not part of {self.scene.scene.scene_id}")
        return slot

    def _size(self, band: int) -> int:
        header = self._slot(band).header
        return header.block_height_px * header.block_width_px * header.dtype.itemsize

    def _key(self, band: int, piece: Piece) -> BlockKey:
        return (self._job, band, *piece.block)

    def _place(self, band: int, piece: Piece) -> BlockPlace:
        slot = self._slot(band)
        header = slot.header
        row, col = piece.block[0] * header.block_height_px, piece.block[1] * header.block_width_px
        return BlockPlace(
            row,
            col,
            min(header.block_height_px, header.grid.height_px - row),
            min(header.block_width_px, header.grid.width_px - col),
            slot.ratio,
        )
