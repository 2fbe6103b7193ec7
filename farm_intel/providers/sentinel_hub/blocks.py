"""Pixels through the Process API: a scene's grid cut into virtual blocks, one request per block for all its bands.

The engine asks band by band and block by block; the service charges by request. So the first band that wants a block
asks for every band that was opened for the scene at that resolution (with the mask band riding along at the finest),
and the other bands find their pixels waiting.
"""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from farm_intel.domain.batches import ReadCounters
from farm_intel.domain.errors import TransientError
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import BandFile
from farm_intel.engine.blocks import BandHeader, Block, BlockReader, BlockReaderFactory, OpenBand, Rows
from farm_intel.providers.sentinel_hub.client import Answer, SentinelHubGateway
from farm_intel.providers.sentinel_hub.options import SentinelHubOptions
from farm_intel.providers.sentinel_hub.requests import Period, Service, pixels_request
from farm_intel.providers.sentinel_hub.tiles import BandReference, parse_reference
from farm_intel.providers.sentinel_hub.units import process_units
from farm_intel.resilience.deadlines import carried
from farm_intel.resilience.guard import CallGuard

_BASE_M = 10.0
"""Pixel of `SentinelHubOptions.block_px`."""

Planes = dict[str, npt.NDArray[np.uint16]]


def sentinel_hub_block_readers(
    options: SentinelHubOptions, profile: CollectionProfile, guard: CallGuard
) -> BlockReaderFactory:
    """Return what the engine opens its reader with.

    Args:
        options: account, deployment, block size, requests in flight.
        profile: the collection's row; names the mask band that rides along.
        guard: every request goes through it.

    """
    gateway = SentinelHubGateway(options, guard)

    def open_reader(executor: Executor) -> AbstractAsyncContextManager[BlockReader]:
        del executor  # its threads are for computing; requests wait in threads of their own
        return _reader(gateway, profile)

    return open_reader


@asynccontextmanager
async def _reader(gateway: SentinelHubGateway, profile: CollectionProfile) -> AsyncIterator[BlockReader]:
    with ThreadPoolExecutor(gateway.options.concurrency, thread_name_prefix="sentinel-hub") as threads:
        reader = _ProcessReader(gateway, profile, threads)
        try:
            yield reader
        finally:
            reader.close()


@dataclass(slots=True, eq=False)
class _Meter:
    requests: int = 0
    bytes_fetched: int = 0
    blocks_decoded: int = 0
    bytes_decoded: int = 0


@dataclass(slots=True, eq=False)
class _SceneBands:
    """What was opened of one scene on one extent, by pixel size."""

    by_pixel_m: dict[float, dict[str, BandReference]] = field(default_factory=dict)


type _SceneKey = tuple[str, datetime, str, float, float]
type _BlockKey = tuple[_SceneKey, float, int, int]


class _ProcessReader:
    """Implements `engine.blocks.BlockReader`; lives in one event loop."""

    def __init__(self, gateway: SentinelHubGateway, profile: CollectionProfile, threads: ThreadPoolExecutor) -> None:
        self._gateway = gateway
        self._mask = profile.assets[profile.mask.band]
        self._service = Service(config=gateway.config, collection=gateway.collection(profile), mask=self._mask)
        self._threads = threads
        self._scenes: dict[_SceneKey, _SceneBands] = {}
        self._waiting: OrderedDict[_BlockKey, Planes] = OrderedDict()
        self._fetching: dict[_BlockKey, list[tuple[frozenset[str], asyncio.Task[None]]]] = {}
        self._delivered: dict[_BlockKey, set[str]] = {}
        self._meter = _Meter()

    async def open(self, file: BandFile, *, scene_id: str) -> OpenBand:
        """Return the open band; nothing is asked of the service, the reference tells the grid.

        Raises:
            SceneProblemError: the href is no Sentinel Hub reference.

        """
        reference = parse_reference(file.href, scene_id)
        grid = reference.grid
        key = (reference.collection, reference.acquired_at, grid.crs, grid.west_m, grid.north_m)
        scene = self._scenes.setdefault(key, _SceneBands())
        scene.by_pixel_m.setdefault(grid.pixel_m, {})[reference.band] = reference
        edge = block_edge_px(self._gateway.options.block_px, grid.pixel_m)
        header = BandHeader(
            grid=grid, block_height_px=edge, block_width_px=edge, dtype=np.dtype(np.uint16), nodata=file.nodata
        )
        return _ProcessBand(reader=self, key=key, reference=reference, header=header, scene_id=scene_id)

    def counters(self) -> ReadCounters:
        """Return what reading cost so far; requests count every try that was answered."""
        meter = self._meter
        return ReadCounters(
            requests=meter.requests,
            bytes_fetched=meter.bytes_fetched,
            blocks_decoded=meter.blocks_decoded,
            bytes_decoded=meter.bytes_decoded,
        )

    def close(self) -> None:
        """Cancel what nobody waits for any more."""
        for entries in self._fetching.values():
            for _, task in entries:
                task.cancel()
        self._waiting.clear()

    async def plane(self, band: _ProcessBand, row: int, col: int) -> Block:
        """Return one band's pixels of one block, and forget them; fetched with the other bands if they are not here."""
        key = (band.key, band.header.grid.pixel_m, row, col)
        name = band.reference.band
        while True:
            planes = self._waiting.get(key)
            if planes is not None and name in planes:
                plane = planes.pop(name)
                if not planes:
                    del self._waiting[key]
                return plane
            await self._fetched(key, band, row, col)

    async def _fetched(self, key: _BlockKey, band: _ProcessBand, row: int, col: int) -> None:
        """Wait for a fetch that brings the band's block, starting one where none is on its way."""
        entries = self._fetching.setdefault(key, [])
        for names, task in entries:
            if band.reference.band in names and not task.done():
                await asyncio.shield(task)
                return
        together = self._missing(self._together(band), band, row, col)
        wanted = {pixel_m: [ref.band for ref in refs] for pixel_m, refs in together.items()}
        task = asyncio.ensure_future(self._fetch(band, row, col, together))
        for pixel_m, wanted_names in wanted.items():
            self._fetching.setdefault((band.key, pixel_m, row, col), []).append((frozenset(wanted_names), task))
        try:
            await asyncio.shield(task)
        finally:
            if task.done():
                for pixel_m in wanted:
                    place = (band.key, pixel_m, row, col)
                    left = [entry for entry in self._fetching.get(place, ()) if entry[1] is not task]
                    self._fetching[place] = left
                    if not left:
                        del self._fetching[place]

    def _together(self, band: _ProcessBand) -> dict[float, list[BandReference]]:
        """Return the bands to fetch with a band: all of its resolution; the mask goes with the finest, and vice versa.

        Blocks of different resolutions cover the same ground (see `block_edge_px`), so the mask's block is the same
        request's pixels thinned out: with nearest neighbours each of its pixels is repeated exactly.
        """
        scene = self._scenes[band.key].by_pixel_m
        shared = [pixel_m for pixel_m in scene if _shares_ground(self._gateway.options.block_px, pixel_m)]
        mask = next((refs[self._mask] for refs in scene.values() if self._mask in refs), None)
        home = min((p for p in shared if set(scene[p]) - {self._mask}), default=band.reference.grid.pixel_m)
        pixel_m = home if band.reference.band == self._mask else band.reference.grid.pixel_m
        group = {
            pixel_m: [ref for ref in scene.get(pixel_m, {}).values() if ref.band != self._mask],
        }
        if mask is not None and pixel_m == home:
            group.setdefault(mask.grid.pixel_m, []).append(mask)
        if band.reference not in [ref for refs in group.values() for ref in refs]:
            group.setdefault(band.reference.grid.pixel_m, []).append(band.reference)
        return {pixel_m: refs for pixel_m, refs in group.items() if refs}

    def _missing(
        self, together: dict[float, list[BandReference]], band: _ProcessBand, row: int, col: int
    ) -> dict[float, list[BandReference]]:
        """Leave out what was delivered for this block already; a band that asks twice begins a new round with all."""
        places = {pixel_m: (band.key, pixel_m, row, col) for pixel_m in together}
        if band.reference.band in self._delivered.get(places[band.reference.grid.pixel_m], ()):
            for place in places.values():
                self._delivered.pop(place, None)
        missing = {
            pixel_m: [ref for ref in refs if ref.band not in self._delivered.get(places[pixel_m], ())]
            for pixel_m, refs in together.items()
        }
        return {pixel_m: refs for pixel_m, refs in missing.items() if refs}

    async def _fetch(self, band: _ProcessBand, row: int, col: int, together: dict[float, list[BandReference]]) -> None:
        """Ask for one block of several bands and put the planes where the bands will look for them."""
        finest = min(together)
        names = [ref.band for refs in together.values() for ref in refs]
        reference = together[finest][0]
        edge = block_edge_px(self._gateway.options.block_px, finest)
        grid = block_grid(reference.grid, edge, row, col)
        loop = asyncio.get_running_loop()
        cube = await loop.run_in_executor(
            self._threads, carried(self._ask), names, grid, reference.period, band.scene_id
        )
        at = 0
        for pixel_m, refs in together.items():
            ratio = round(pixel_m / finest)
            places = self._waiting.setdefault((band.key, pixel_m, row, col), {})
            size = block_edge_px(self._gateway.options.block_px, pixel_m)
            for ref in refs:
                places[ref.band] = _padded(cube[at, ::ratio, ::ratio], size)
                self._delivered.setdefault((band.key, pixel_m, row, col), set()).add(ref.band)
                at += 1
                self._meter.blocks_decoded += 1
                self._meter.bytes_decoded += places[ref.band].nbytes
        self._forget_oldest((band.key, band.header.grid.pixel_m, row, col))

    def _forget_oldest(self, keep: _BlockKey) -> None:
        """Bound what waits for bands that may never ask; they would be fetched again."""
        limit = self._gateway.options.cache_mib << 20
        held = sum(plane.nbytes for planes in self._waiting.values() for plane in planes.values())
        for key in list(self._waiting):
            if held <= limit:
                return
            if key != keep:
                held -= sum(plane.nbytes for plane in self._waiting.pop(key).values())

    def _ask(self, names: Sequence[str], grid: PixelGrid, period: Period, scene_id: str) -> npt.NDArray[np.uint16]:
        shape = (len(names) + 1, grid.height_px, grid.width_px)

        def decode(answer: Answer) -> npt.NDArray[np.uint16]:
            self._meter.requests += 1
            self._meter.bytes_fetched += len(answer.content)
            return decode_pixels(answer.content, shape, scene_id)

        cube = self._gateway.send(
            "process",
            pixels_request(self._service, names, grid, period),
            units=process_units(grid.width_px, grid.height_px, len(names)),
            what=f"a block of {', '.join(names)} of {scene_id}",
            decode=decode,
        )
        # 0 is nodata in every band; where the service has no data it promises 0 too, but says so only in dataMask
        return np.asarray(np.where(cube[-1] > 0, cube[:-1], np.uint16(0)), np.uint16)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ProcessBand:
    """Implements `engine.blocks.OpenBand`."""

    reader: _ProcessReader
    key: _SceneKey
    reference: BandReference
    header: BandHeader
    scene_id: str

    async def read(self, blocks: Sequence[tuple[int, int]], rows: Sequence[Rows] | None = None) -> list[Block]:
        """Return blocks in the order asked; `rows` saves nothing here, requests cover whole blocks.

        Raises:
            TransientError: no good answer within the retries.

        """
        del rows
        planes = await asyncio.gather(
            *(self.reader.plane(self, row, col) for row, col in blocks), return_exceptions=True
        )
        for plane in planes:
            if isinstance(plane, BaseException):
                raise plane
        return [plane for plane in planes if not isinstance(plane, BaseException)]

    async def read_overview(self, max_edge_px: int) -> Block:
        """Return the whole band thinned out to at most `max_edge_px`, asked for at that size."""
        grid = self.header.grid
        ratio = max(1, -(-max(grid.width_px, grid.height_px) // max_edge_px))
        coarse = replace(
            grid,
            width_px=-(-grid.width_px // ratio),
            height_px=-(-grid.height_px // ratio),
            pixel_m=grid.pixel_m * ratio,
        )
        loop = asyncio.get_running_loop()
        reader = self.reader
        cube = await loop.run_in_executor(
            reader._threads,  # noqa: SLF001 - band and reader are one thing in two classes
            carried(reader._ask),  # noqa: SLF001 - its own reader
            [self.reference.band],
            coarse,
            self.reference.period,
            self.scene_id,
        )
        return np.asarray(cube[0])


def _shares_ground(block_px: int, pixel_m: float) -> bool:
    """Return whether a block of 10 m pixels is a whole number of pixels of this size."""
    return (block_px * _BASE_M) % pixel_m == 0


def block_edge_px(block_px: int, pixel_m: float) -> int:
    """Return the edge of a block in a band's own pixels.

    The same ground for every band where that is a whole number of its pixels, so that one request can serve several;
    else `block_px` of its own.
    """
    return round(block_px * _BASE_M / pixel_m) if _shares_ground(block_px, pixel_m) else block_px


def block_grid(grid: PixelGrid, edge_px: int, row: int, col: int) -> PixelGrid:
    """Return the part of a grid that block (row, col) covers; blocks at the right and lower edge are smaller."""
    top, left = row * edge_px, col * edge_px
    return PixelGrid(
        crs=grid.crs,
        width_px=min(edge_px, grid.width_px - left),
        height_px=min(edge_px, grid.height_px - top),
        pixel_m=grid.pixel_m,
        west_m=grid.west_m + left * grid.pixel_m,
        north_m=grid.north_m - top * grid.pixel_m,
    )


def _padded(plane: npt.NDArray[np.uint16], edge_px: int) -> npt.NDArray[np.uint16]:
    if plane.shape == (edge_px, edge_px):
        return np.ascontiguousarray(plane)
    out = np.zeros((edge_px, edge_px), np.uint16)
    out[: plane.shape[0], : plane.shape[1]] = plane
    return out


_BROKEN = (
    tifffile.TiffFileError,
    ValueError,
    OSError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,
    zlib.error,
    struct.error,
)
"""What tifffile raises on damaged files, found by cutting and flipping bytes."""


def decode_pixels(content: bytes, shape: tuple[int, int, int], scene_id: str) -> npt.NDArray[np.uint16]:
    """Return a TIFF's bands as (bands, height, width).

    Args:
        content: the answer's body.
        shape: what was asked for.
        scene_id: for the message.

    Raises:
        TransientError: the file is empty, cut short, damaged, or not what was asked for.

    """
    why = "it is empty"
    if content:
        try:
            values = _decoded(content)
        except _BROKEN as error:
            why = f"it cannot be read ({type(error).__name__})"
        else:
            bands, height, width = shape
            if bands == 1 and values.shape == (height, width):
                values = values[..., np.newaxis]
            if values.shape == (height, width, bands) and values.dtype == np.uint16:
                return np.ascontiguousarray(np.moveaxis(values, -1, 0))
            why = f"it holds {values.dtype} {values.shape} instead of 16-bit {(height, width, bands)}"
    raise TransientError(
        f"Sentinel Hub's image for {scene_id} is unusable: {why}",
        hint="The answer was damaged on its way; the same request may succeed later.",
    )


def _decoded(content: bytes) -> npt.NDArray[Any]:
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        if not isinstance(page, tifffile.TiffPage):
            raise TypeError(type(page).__name__)
        ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > len(content):
            raise ValueError("strips lie beyond the end")
        return np.asarray(page.asarray())
