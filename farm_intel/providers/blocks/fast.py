"""The fast reader: bounded header reads, coalesced ranges by obstore, decoding in the engine's threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from farm_intel.domain.batches import ReadCounters
from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.scenes import BandFile
from farm_intel.engine.blocks import BandHeader, Block, BlockReader, OpenBand, Rows
from farm_intel.providers.blocks.decode import CorruptBlockError, decode_block
from farm_intel.providers.blocks.directory import UnsupportedFileError
from farm_intel.providers.blocks.headers import check_places, fill_value, pad_block
from farm_intel.providers.blocks.locations import Scheme
from farm_intel.providers.blocks.options import ReaderOptions
from farm_intel.providers.blocks.source import Pieces, RangeSource, ReadContext
from farm_intel.providers.blocks.tiff import Level, TiffHeader, read_header

_GAP_BYTES = 64 * 1024
"""Bytes we rather fetch for nothing than pay one more request for; COG blocks of a row lie 8 bytes apart."""
_RUN_BYTES = 8 * 1024 * 1024
"""Longest coalesced request: decoding its first block must not wait for a whole row of blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Neighbouring blocks fetched with one request."""

    start: int
    stop: int
    blocks: tuple[int, ...]
    """Positions in the caller's list."""


class FastReader:
    """Opens band files without GDAL."""

    def __init__(self, context: ReadContext) -> None:
        """Share the context's connections and counters."""
        self._context = context

    async def open(self, file: BandFile, *, scene_id: str) -> OpenBand:
        """Return the open band.

        Raises:
            SceneProblemError: not there, not readable, no usable grid, or a format only rasterio reads.
            TransientError: the server did not answer within the retries.

        """
        try:
            return await self.try_open(file, scene_id=scene_id)
        except UnsupportedFileError as error:
            ref, _ = await self._context.locate(file, scene_id)
            raise ref.problem(
                SceneProblemKind.UNREADABLE_FILE,
                f"the fast reader does not read this kind of file: {error}",
                hint="Set FARM_INTEL_READER=auto.",
            ) from error

    async def try_open(self, file: BandFile, *, scene_id: str) -> OpenBand:
        """Return the open band, as `open` does.

        Raises:
            UnsupportedFileError: the file is for rasterio.

        """
        ref, location = await self._context.locate(file, scene_id)
        if location.scheme is Scheme.HTTP and location.query:
            raise UnsupportedFileError("a URL with a query")
        source = RangeSource(self._context, ref, location)
        return FastBand(self._context, source, await read_header(source))

    def counters(self) -> ReadCounters:
        """Return requests, bytes and decoded blocks so far."""
        return self._context.meter.snapshot()


class FastBand:
    """One open band file of the fast reader."""

    def __init__(self, context: ReadContext, source: RangeSource, header: TiffHeader) -> None:
        """Keep the parsed header; no handle stays open."""
        self._context = context
        self._source = source
        self._levels = header.levels
        self._header = header.band
        self._fill = fill_value(header.band.dtype, header.band.nodata)

    @property
    def header(self) -> BandHeader:
        """Grid, blocking, type and nodata as the file declares them."""
        return self._header

    async def read(self, blocks: Sequence[tuple[int, int]], rows: Sequence[Rows] | None = None) -> list[Block]:
        """Return blocks (row, col) in the order asked; see engine.blocks."""
        wanted = None if self._context.options.whole_blocks else rows
        return await self._read_level(self._levels[0], blocks, wanted)

    async def read_overview(self, max_edge_px: int) -> Block:
        """Return the largest image whose longer edge is at most `max_edge_px`, or the coarsest there is."""
        levels = sorted(self._levels, key=lambda level: max(level.width_px, level.height_px))
        fitting = [level for level in levels if max(level.width_px, level.height_px) <= max_edge_px]
        level = fitting[-1] if fitting else levels[0]
        rows, cols = level.offsets.shape
        places = [(row, col) for row in range(rows) for col in range(cols)]
        blocks = await self._read_level(level, places)
        height, width = level.form.shape
        image = np.empty((rows * height, cols * width), level.form.dtype)
        for (row, col), block in zip(places, blocks, strict=True):
            image[row * height : (row + 1) * height, col * width : (col + 1) * width] = block
        return image[: level.height_px, : level.width_px].copy()

    async def _read_level(
        self, level: Level, blocks: Sequence[tuple[int, int]], rows: Sequence[Rows] | None = None
    ) -> list[Block]:
        check_places(level.offsets.shape, blocks)
        result: list[Block] = [np.empty(0)] * len(blocks)
        stored: list[int] = []
        for position, place in enumerate(blocks):
            if level.sizes[place]:
                stored.append(position)
            else:
                result[position] = np.full(level.form.shape, self._fill, level.form.dtype)
        runs = _coalesce(level, blocks, stored)

        async def read_run(run: _Run) -> None:
            pieces = await self._source.hold(run.start, run.stop)
            loop = asyncio.get_running_loop()

            async def decode(position: int) -> None:
                wanted = None if rows is None else rows[position]
                result[position] = await loop.run_in_executor(
                    self._context.pool, self._decode, level, blocks[position], pieces, wanted
                )

            await together([decode(position) for position in run.blocks])

        await together([read_run(run) for run in runs])
        return result

    def _decode(self, level: Level, place: tuple[int, int], pieces: Pieces, wanted: Rows | None) -> Block:
        shape = level.form.shape
        height = min(shape[0], level.height_px - place[0] * shape[0])
        width = min(shape[1], level.width_px - place[1] * shape[1])
        try:
            data = pieces.piece(int(level.offsets[place]), int(level.sizes[place]))
            block = decode_block(data, level.form, wanted)
        except (EOFError, OSError) as error:
            raise self._source.unreadable(error) from error
        except CorruptBlockError as error:
            raise self._source.ref.problem(
                SceneProblemKind.UNREADABLE_FILE,
                f"block row {place[0]}, column {place[1]} is corrupt: {error}",
                hint="Have the file delivered again.",
            ) from error
        self._context.meter.decoded(block.nbytes)
        whole = wanted is not None or (height, width) == shape
        return block if whole else pad_block(block, height, width, self._fill)


def fast_blocks(options: ReaderOptions) -> Callable[[Executor], AbstractAsyncContextManager[BlockReader]]:
    """Return the factory of fast readers."""

    @asynccontextmanager
    async def reader(pool: Executor) -> AsyncIterator[BlockReader]:
        yield FastReader(ReadContext(options, pool))

    return reader


async def together(jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run jobs at once; the first failure cancels the others and is raised as it is."""
    if len(jobs) == 1:  # most often: farms of a group lie in one block, and tasks for it cost more than asking
        await jobs[0]
        return
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _coalesce(level: Level, blocks: Sequence[tuple[int, int]], stored: Sequence[int]) -> list[_Run]:
    """Group stored blocks that lie close together in the file, in file order."""
    runs: list[_Run] = []
    for position in sorted(stored, key=lambda position: int(level.offsets[blocks[position]])):
        start = int(level.offsets[blocks[position]])
        stop = start + int(level.sizes[blocks[position]])
        if runs and start - runs[-1].stop <= _GAP_BYTES and stop - runs[-1].start <= _RUN_BYTES:
            last = runs[-1]
            runs[-1] = _Run(start=last.start, stop=max(last.stop, stop), blocks=(*last.blocks, position))
        else:
            runs.append(_Run(start=start, stop=stop, blocks=(position,)))
    return runs
