"""The rasterio reader: every file GDAL's GeoTIFF and JPEG 2000 drivers know, behind the same interface.

Slower than the fast reader (1.5 to 2.5 times the CPU) and independent of it down to the bytes, so that it is both the
fallback and the second opinion in parity tests.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from farm_intel.domain.batches import ReadCounters
from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.domain.scenes import BandFile
from farm_intel.engine.blocks import BandHeader, Block, BlockReader, OpenBand, Rows
from farm_intel.providers.blocks.failures import TransferError, ask_status, error_for_status
from farm_intel.providers.blocks.gdal import NetworkStatistics, environment, gdal_driver, gdal_path
from farm_intel.providers.blocks.headers import check_places, checked_grid, fill_value, pad_block
from farm_intel.providers.blocks.locations import BandRef, Location, Scheme
from farm_intel.providers.blocks.options import ReaderOptions
from farm_intel.providers.blocks.source import RangeSource, ReadContext, retrying

_VIRTUAL_BLOCK_PX = 512
"""Blocking shown for strips and for odd blocks: a strip is as wide as the file, useless as a unit of work."""
_VIRTUAL_JP2_BLOCK_PX = 1024
"""Sentinel-2 JPEG 2000 files are coded in tiles of 1024."""
_MAX_BLOCK_BYTES = 512 << 20
"""GDAL decodes whole blocks; a file that is one strip of 10980 x 10980 x 2 bytes is half of this, a bomb is more."""
_BLOCK_RANGE_PX = range(64, 2049)
_REMOTE_THREADS = 16
"""GDAL waits for the network inside its call, so remote files need more threads than there are cores."""
_CORRUPT_RETRIES = 2
"""A file GDAL cannot read though the server answers well is read afresh this often before it is called corrupt: answers
that are well formed but too short look the same, and two of them may strike one block."""


class RasterioReader:
    """Opens band files with GDAL, in the engine's threads."""

    def __init__(self, context: ReadContext) -> None:
        """Share the context's options and counters."""
        self._context = context
        self._network = NetworkStatistics()
        self._remote_pool = ThreadPoolExecutor(min(context.options.concurrency, _REMOTE_THREADS), "gdal")
        self._bands: weakref.WeakSet[RasterioBand] = weakref.WeakSet()

    async def open(self, file: BandFile, *, scene_id: str) -> OpenBand:
        """Return the open band.

        Raises:
            SceneProblemError: not there, not readable, not an allowed format, no usable grid.
            TransientError: the server did not answer within the retries.

        """
        ref, location = await self._context.locate(file, scene_id)
        pool = self._context.pool if location.scheme is Scheme.FILE else self._remote_pool
        band = RasterioBand(self._context, self._network, pool, ref, location)
        await band.read_header()
        self._bands.add(band)
        return band

    def counters(self) -> ReadCounters:
        """Return requests, bytes and decoded blocks so far; a local block counts as one request of its stored size."""
        counted = self._context.meter.snapshot()
        requests, received = self._network.spent()
        return replace(counted, requests=counted.requests + requests, bytes_fetched=counted.bytes_fetched + received)

    def close(self) -> None:
        """Close every handle that is still open; no read may be under way."""
        self._remote_pool.shutdown()
        for band in self._bands:
            band.close()


class RasterioBand:
    """One open band file; handles are used by one thread at a time and kept for the next."""

    def __init__(
        self, context: ReadContext, network: NetworkStatistics, pool: Executor, ref: BandRef, location: Location
    ) -> None:
        """Nothing is opened yet."""
        self._context = context
        self._network = network
        self._pool = pool
        self._ref = ref
        self._location = location
        self._idle: list[DatasetReader] = []
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._header: BandHeader | None = None
        self._mask_fill: float | None = None

    @property
    def header(self) -> BandHeader:
        """Grid, blocking, type and nodata as the file declares them."""
        if self._header is None:
            raise RuntimeError("the header was not read")
        return self._header

    async def read_header(self) -> None:
        """Open the file and check its grid."""
        self._header = await self._run(self._parse)

    async def read(self, blocks: Sequence[tuple[int, int]], rows: Sequence[Rows] | None = None) -> list[Block]:
        """Return blocks (row, col) in the order asked, always whole ones; see engine.blocks."""
        del rows
        check_places((self.header.block_rows, self.header.block_cols), blocks)

        async def one(row: int, col: int) -> Block:
            return await self._run(lambda dataset: self._read_block(dataset, row, col))

        tasks = [asyncio.ensure_future(one(row, col)) for row, col in blocks]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def read_overview(self, max_edge_px: int) -> Block:
        """Return the largest image whose longer edge is at most `max_edge_px`, or the coarsest there is."""
        return await self._run(lambda dataset: self._read_image(dataset, max_edge_px))

    def close(self) -> None:
        """Close the idle handles."""
        with self._lock:
            handles, self._idle = self._idle, []
        for handle in handles:
            handle.close()

    async def _run[T](self, work: Callable[[DatasetReader], T]) -> T:
        """Run `work` with a handle in a thread; each attempt after the first opens afresh and makes real requests."""
        attempts = unexplained = 0

        async def attempt() -> T:
            nonlocal attempts, unexplained
            attempts += 1
            loop = asyncio.get_running_loop()
            try:
                async with self._context.in_flight:
                    return await loop.run_in_executor(self._pool, self._use, work, attempts > 1)
            except RasterioError as error:
                await self._explain(error)
                unexplained += 1
                if unexplained > _CORRUPT_RETRIES or self._location.scheme is Scheme.FILE:
                    raise self._ref.problem(
                        SceneProblemKind.UNREADABLE_FILE,
                        "not a GeoTIFF or JPEG 2000 file, or truncated or corrupt",
                        hint="Have the file delivered again.",
                    ) from error
                raise TransferError(f"{self._ref}: GDAL failed although the server answers") from error

        return await retrying(self._context, attempt)

    def _use[T](self, work: Callable[[DatasetReader], T], fresh: bool) -> T:  # noqa: FBT001 - run_in_executor
        with environment(self._context.options, fresh=fresh):
            handle = self._handle(fresh=fresh)
            try:
                result = work(handle)
            except RasterioError:
                with self._opening:
                    handle.close()
                raise
        with self._lock:
            self._idle.append(handle)
        return result

    def _handle(self, *, fresh: bool) -> DatasetReader:
        """Return an idle handle or a new one, inside a GDAL environment.

        One thread opens at a time: the next finds the header in GDAL's cache. A fresh handle drops that cache when it
        closes, and a neighbour in the middle of opening would go back to the network with the GIL held.
        """
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop()
        path = gdal_path(self._location)
        if self._location.scheme is not Scheme.FILE:
            self._network.watch(path)
        with self._opening:
            return rasterio.open(path, driver=gdal_driver(self._location))

    async def _explain(self, error: RasterioError) -> None:
        """Raise what the failure really is: GDAL's texts do not tell, one small request of our own does."""
        context, location = self._context, self._location
        if location.scheme in {Scheme.HTTP, Scheme.AZURE}:
            context.meter.asked()
            try:
                status, retry_after_s = await asyncio.to_thread(
                    ask_status, location.url, context.options.timeout_s, context.options.proxy_url
                )
            except OSError as silence:
                raise TransferError(f"{self._ref}: the server does not answer", hint="Try again later.") from silence
            if status >= 300:
                named = error_for_status(self._ref, status, retry_after_s)
                await self._maybe_sign_again(named)
                raise named from error
        else:
            await RangeSource(context, self._ref, location).probe()

    async def _maybe_sign_again(self, named: Exception) -> None:
        """Where a signature ran out, sign once more and have the attempt repeated; a second refusal stands."""
        if not isinstance(named, SceneProblemError) or named.kind is not SceneProblemKind.ACCESS_DENIED:
            return
        fresh = await self._context.sign_again(self._location, self._ref)
        if fresh is not None and fresh.url != self._location.url:
            self._location = fresh
            self.close()
            raise TransferError(f"{self._ref}: the signature ran out") from named

    def _parse(self, dataset: DatasetReader) -> BandHeader:
        if dataset.count != 1:
            raise self._ref.problem(
                SceneProblemKind.UNREADABLE_FILE, f"the file holds {dataset.count} bands instead of one"
            )
        dtype = np.dtype(dataset.dtypes[0])
        height, width = dataset.block_shapes[0]
        if height * width * dtype.itemsize > _MAX_BLOCK_BYTES:
            raise self._ref.problem(
                SceneProblemKind.UNREADABLE_FILE,
                f"one block holds {height} x {width} pixels",
                hint="Have the file tiled, for example by `rio cogeo create`.",
            )
        epsg = dataset.crs.to_epsg() if dataset.crs else None
        crs = f"EPSG:{epsg}" if epsg else (dataset.crs.to_wkt() if dataset.crs else None)
        grid = checked_grid(self._ref, crs, dataset.transform[:6], width_px=dataset.width, height_px=dataset.height)
        if MaskFlags.per_dataset in dataset.mask_flag_enums[0]:
            if dataset.nodata is None:
                raise self._ref.problem(
                    SceneProblemKind.MISSING_NODATA, "the file has a mask band but no nodata value to put in its place"
                )
            self._mask_fill = fill_value(dtype, dataset.nodata)
        height, width = _blocking(dataset)
        return BandHeader(grid=grid, block_height_px=height, block_width_px=width, dtype=dtype, nodata=dataset.nodata)

    def _read_block(self, dataset: DatasetReader, row: int, col: int) -> Block:
        header = self.header
        height, width = header.block_height_px, header.block_width_px
        rows = min(height, header.grid.height_px - row * height)
        cols = min(width, header.grid.width_px - col * width)
        block = np.empty((height, width), header.dtype)
        block[:rows, :cols] = self._window(dataset, Window(col * width, row * height, cols, rows))
        pad_block(block, rows, cols, fill_value(header.dtype, header.nodata))
        self._context.meter.decoded(block.nbytes)
        self._count_local(dataset, row, col)
        return block

    def _window(self, dataset: DatasetReader, window: Window | None) -> npt.NDArray[Any]:
        pixels: npt.NDArray[Any] = dataset.read(1, window=window)
        if self._mask_fill is not None:
            pixels[dataset.read_masks(1, window=window) == 0] = self._mask_fill
        return pixels

    def _count_local(self, dataset: DatasetReader, row: int, col: int) -> None:
        """Count a local block: GDAL keeps no books of files; the header knows the stored size of true blocks."""
        if self._location.scheme is not Scheme.FILE:
            return
        self._context.meter.asked()
        if dataset.driver == "GTiff" and dataset.block_shapes[0] == (
            self.header.block_height_px,
            self.header.block_width_px,
        ):
            size = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1)
            self._context.meter.received(int(size or 0))

    def _read_image(self, dataset: DatasetReader, max_edge_px: int) -> Block:
        """Read the fitting overview as it is stored, without resampling."""
        longer = max(dataset.width, dataset.height)
        factors = [1, *sorted(dataset.overviews(1))]
        fitting = [factor for factor in factors if -(-longer // factor) <= max_edge_px]
        factor = fitting[0] if fitting else factors[-1]
        if factor == 1:
            return self._window(dataset, None)
        path, driver = gdal_path(self._location), gdal_driver(self._location)
        with rasterio.open(path, driver=driver, overview_level=factors.index(factor) - 1) as overview:
            return self._window(overview, None)


def rasterio_blocks(options: ReaderOptions) -> Callable[[Executor], AbstractAsyncContextManager[BlockReader]]:
    """Return the factory of rasterio readers."""

    @asynccontextmanager
    async def reader(pool: Executor) -> AsyncIterator[BlockReader]:
        opened = RasterioReader(ReadContext(options, pool))
        try:
            yield opened
        finally:
            opened.close()

    return reader


def _blocking(dataset: DatasetReader) -> tuple[int, int]:
    """Return the block shape to show: the file's own where it is a usable unit of work, else a virtual one."""
    height, width = dataset.block_shapes[0]
    tiled = width < dataset.width or height == dataset.height
    if height in _BLOCK_RANGE_PX and width in _BLOCK_RANGE_PX and tiled:
        return height, width
    virtual = _VIRTUAL_JP2_BLOCK_PX if dataset.driver == "JP2OpenJPEG" else _VIRTUAL_BLOCK_PX
    return virtual, virtual
