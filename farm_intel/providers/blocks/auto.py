"""The choice of a reader: fast where the file allows it, rasterio for the others, decided file by file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager

from farm_intel.domain.batches import ReadCounters
from farm_intel.domain.scenes import BandFile
from farm_intel.engine.blocks import BlockReader, BlockReaderFactory, OpenBand
from farm_intel.providers.blocks.directory import UnsupportedFileError
from farm_intel.providers.blocks.fast import FastReader, fast_blocks
from farm_intel.providers.blocks.options import ReaderKind, ReaderOptions, S3Options, SignHref
from farm_intel.providers.blocks.rasterio_reader import RasterioReader, rasterio_blocks
from farm_intel.providers.blocks.source import ReadContext

__all__ = ["AutoReader", "ReaderKind", "ReaderOptions", "S3Options", "SignHref", "block_readers"]


class AutoReader:
    """Tries the fast reader, falls back to rasterio for formats it does not know; failures are not retried there."""

    def __init__(self, context: ReadContext) -> None:
        """Both readers share options, counters and the limit in flight."""
        self._fast = FastReader(context)
        self._rasterio = RasterioReader(context)

    async def open(self, file: BandFile, *, scene_id: str) -> OpenBand:
        """Return the open band; see engine.blocks."""
        try:
            return await self._fast.try_open(file, scene_id=scene_id)
        except UnsupportedFileError:
            return await self._rasterio.open(file, scene_id=scene_id)

    def counters(self) -> ReadCounters:
        """Return requests, bytes and decoded blocks of both readers so far."""
        return self._rasterio.counters()

    def close(self) -> None:
        """Close rasterio's handles; the fast reader keeps none."""
        self._rasterio.close()


def block_readers(options: ReaderOptions) -> BlockReaderFactory:
    """Return the factory of block readers the options ask for."""
    if options.kind == "fast":
        return fast_blocks(options)
    if options.kind == "rasterio":
        return rasterio_blocks(options)

    @asynccontextmanager
    async def reader(pool: Executor) -> AsyncIterator[BlockReader]:
        opened = AutoReader(ReadContext(options, pool))
        try:
            yield opened
        finally:
            opened.close()

    return reader
