"""Images as tiled rasters: virtual blocks, each computed by Earth Engine on the image's own grid.

All bands of a scene that share a grid come with one request per run of neighbouring blocks, whichever of them is asked
for first; the others find theirs waiting. Nothing is reprojected or resampled on the way.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import ReadCounters
from farm_intel.domain.errors import SceneProblemError, SceneProblemKind, TransientError
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import BandFile
from farm_intel.engine.blocks import BandHeader, Block, BlockReader, BlockReaderFactory, Rows
from farm_intel.providers.earth_engine.addresses import BandAddress, parse_href
from farm_intel.providers.earth_engine.failures import NoSuchAssetError, TooLargeError
from farm_intel.providers.earth_engine.options import LARGEST_ANSWER_BYTES
from farm_intel.providers.earth_engine.session import EarthEngineCalls, EarthEngineSession
from farm_intel.resilience.guard import CallGuard

_KEPT_BYTES = 96 << 20
"""Blocks of bands nobody has asked for yet; beyond it the oldest are forgotten and would be computed again."""
_RUN_BLOCKS = 8
"""Neighbouring blocks of one request: more would take longer than a few requests side by side."""
_CASTS = {"uint8": "toUint8", "uint16": "toUint16", "int16": "toInt16"}

type _Place = tuple[int, int]
type _Blocks = dict[str, Block]


def earth_engine_block_readers(
    session: EarthEngineSession, profile: CollectionProfile, guard: CallGuard, *, provider: str
) -> BlockReaderFactory:
    """Return a factory of readers for the engine.

    Args:
        session: shared with catalogue and statistics.
        profile: the row, for workload tags.
        guard: deadline, breaker, rate and retries.
        provider: name of the provider, for the guard and the tags.

    """

    @asynccontextmanager
    async def readers(executor: Executor) -> AsyncIterator[BlockReader]:
        del executor  # requests wait for the network and must not hold the threads that compute
        threads = min(session.options.max_concurrent, 16)
        pool = ThreadPoolExecutor(threads, thread_name_prefix="farm-intel-earth-engine")
        reader = EarthEngineReader(EarthEngineCalls(session, guard, provider), profile, pool)
        try:
            yield reader
        finally:
            reader.cancel()
            pool.shutdown(wait=False, cancel_futures=True)

    return readers


@dataclass(slots=True, eq=False)
class _Raster:
    """The bands of one image that share a grid, and their blocks on the way or waiting to be taken."""

    grid: BandAddress
    """Of any of its bands."""
    bands: dict[str, BandAddress] = field(default_factory=dict)
    """Band id -> address."""
    coming: dict[tuple[str, _Place], asyncio.Task[dict[_Place, _Blocks]]] = field(default_factory=dict)


class EarthEngineReader:
    """Implements `engine.blocks.BlockReader`; lives in one event loop."""

    def __init__(self, calls: EarthEngineCalls, profile: CollectionProfile, pool: ThreadPoolExecutor) -> None:
        self._calls = calls
        self._profile = profile
        self._pool = pool
        self._rasters: dict[tuple[object, ...], _Raster] = {}
        self._waiting: OrderedDict[tuple[int, str, _Place], Block] = OrderedDict()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0
        self._blocks = 0

    async def open(self, file: BandFile, *, scene_id: str) -> EarthEngineBand:
        """Return the band; nothing is asked, its address says all there is to know.

        Raises:
            SceneProblemError: the href is none of this provider's.

        """
        address = parse_href(file.href, scene_id)
        raster = self._rasters.setdefault(address.raster_key, _Raster(address))
        raster.bands[address.band] = address
        return EarthEngineBand(self, raster, address, scene_id)

    def counters(self) -> ReadCounters:
        """Return what reading cost so far."""
        return ReadCounters(
            requests=self._requests,
            bytes_fetched=self._bytes,
            blocks_decoded=self._blocks,
            bytes_decoded=self._bytes,
        )

    def cancel(self) -> None:
        """Give up what is on the way."""
        for raster in self._rasters.values():
            for task in set(raster.coming.values()):
                task.cancel()

    @property
    def block_px(self) -> int:
        """Edge of a block."""
        return self._calls.session.options.block_px

    async def blocks(self, raster: _Raster, band: str, places: Sequence[_Place], scene_id: str) -> list[Block]:
        """Return one band's blocks; see `engine.blocks.OpenBand.read`."""
        found: dict[_Place, Block] = {}
        missing: list[_Place] = []
        for place in dict.fromkeys(places):
            block = self._take(raster, band, place)
            if block is not None:
                found[place] = block
            elif (band, place) not in raster.coming:
                missing.append(place)
        for run in self._runs(raster, missing):
            self._start(raster, run, scene_id)
        coming = {place: raster.coming[band, place] for place in dict.fromkeys(places) if place not in found}
        for place, task in coming.items():
            found[place] = (await asyncio.shield(task))[place][band]
            # it was laid aside for whoever comes; this is who
            self._take(raster, band, place)
        return [found[place] for place in places]

    def _take(self, raster: _Raster, band: str, place: _Place) -> Block | None:
        block = self._waiting.pop((id(raster), band, place), None)
        if block is not None:
            self._waiting_bytes -= block.nbytes
        return block

    def _keep(self, raster: _Raster, blocks: dict[_Place, _Blocks]) -> None:
        for place, bands in blocks.items():
            for band, block in bands.items():
                self._waiting[id(raster), band, place] = block
                self._waiting_bytes += block.nbytes
        while self._waiting_bytes > _KEPT_BYTES:
            _, block = self._waiting.popitem(last=False)
            self._waiting_bytes -= block.nbytes

    def _runs(self, raster: _Raster, places: Sequence[_Place]) -> list[tuple[_Place, ...]]:
        """Group neighbours of a block row, as many as one answer may hold."""
        per_block = self.block_px**2 * sum(np.dtype(band.dtype).itemsize + 1 for band in raster.bands.values())
        longest = max(1, min(_RUN_BLOCKS, LARGEST_ANSWER_BYTES // per_block))
        runs: list[list[_Place]] = []
        for row, col in sorted(places):
            if runs and runs[-1][-1] == (row, col - 1) and len(runs[-1]) < longest:
                runs[-1].append((row, col))
            else:
                runs.append([(row, col)])
        return [tuple(run) for run in runs]

    def _start(self, raster: _Raster, run: tuple[_Place, ...], scene_id: str) -> None:
        bands = tuple(raster.bands.values())
        task = asyncio.ensure_future(self._fetch(raster, run, bands, scene_id))
        keys = [(band.band, place) for band in bands for place in run]
        raster.coming.update(dict.fromkeys(keys, task))

        def done(finished: asyncio.Task[dict[_Place, _Blocks]]) -> None:
            for key in keys:
                raster.coming.pop(key, None)
            if not finished.cancelled() and finished.exception() is None:
                self._keep(raster, finished.result())

        task.add_done_callback(done)

    async def _fetch(
        self, raster: _Raster, run: tuple[_Place, ...], bands: Sequence[BandAddress], scene_id: str
    ) -> dict[_Place, _Blocks]:
        """Compute a run of blocks of all bands; in halves where Earth Engine finds it too much."""
        try:
            data = await self._compute(raster, run, bands)
        except TooLargeError as error:
            if len(run) > 1:
                half = len(run) // 2
                first, second = run[:half], run[half:]
                return {
                    **await self._fetch(raster, first, bands, scene_id),
                    **await self._fetch(raster, second, bands, scene_id),
                }
            if len(bands) > 1:
                return await self._by_band(raster, run, bands, scene_id)
            raise SceneProblemError(
                SceneProblemKind.UNREADABLE_FILE, scene_id, error.message, hint=error.hint
            ) from error
        except NoSuchAssetError as error:
            raise SceneProblemError(SceneProblemKind.NOT_FOUND, scene_id, error.message, hint=error.hint) from error
        return self._split(run, bands, data)

    async def _by_band(
        self, raster: _Raster, run: tuple[_Place, ...], bands: Sequence[BandAddress], scene_id: str
    ) -> dict[_Place, _Blocks]:
        found: dict[_Place, _Blocks] = {place: {} for place in run}
        for band in bands:
            for place, blocks in (await self._fetch(raster, run, (band,), scene_id)).items():
                found[place].update(blocks)
        return found

    async def _compute(
        self, raster: _Raster, run: tuple[_Place, ...], bands: Sequence[BandAddress]
    ) -> npt.NDArray[Any]:
        left, top, width, height = self._window(raster, run)
        calls = self._calls

        def parameters() -> dict[str, Any]:
            return pixel_request(bands, (left, top, width, height), calls.session.tag(self._tag()))

        def count() -> None:
            with self._lock:
                self._requests += 1

        async def run_outside(attempt: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
            count()
            context = contextvars.copy_context()
            return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, attempt)

        data = await calls.compute_pixels(parameters, run_outside)
        wanted = {band.band for band in bands}
        if data.shape != (height, width) or not wanted <= set(data.dtype.names or ()):
            raise TransientError(
                f"Earth Engine, compute_pixels: {data.shape} of {data.dtype} instead of {(height, width)} of {wanted}"
            )
        self._bytes += data.nbytes
        self._blocks += len(run) * len(bands)
        return data

    def _tag(self) -> str:
        return f"pixels-{self._calls.provider}-{self._profile.collection}"

    def _window(self, raster: _Raster, run: tuple[_Place, ...]) -> tuple[int, int, int, int]:
        """Return left, top, width, height of a run in pixels, within the image."""
        size = self.block_px
        row, col = run[0]
        left, top = col * size, row * size
        width = min(len(run) * size, raster.grid.width_px - left)
        height = min(size, raster.grid.height_px - top)
        return left, top, width, height

    def _split(
        self, run: tuple[_Place, ...], bands: Sequence[BandAddress], data: npt.NDArray[Any]
    ) -> dict[_Place, _Blocks]:
        """Cut an answer into blocks of full shape, padded with the bands' fill."""
        size = self.block_px
        found: dict[_Place, _Blocks] = {}
        for number, place in enumerate(run):
            part = data[:, number * size : (number + 1) * size]
            found[place] = {}
            for band in bands:
                block = np.full((size, size), band.fill, np.dtype(band.dtype))
                block[: part.shape[0], : part.shape[1]] = part[band.band]
                found[place][band.band] = block
        return found


@dataclass(frozen=True, slots=True, eq=False)
class EarthEngineBand:
    """Implements `engine.blocks.OpenBand`."""

    reader: EarthEngineReader
    raster: _Raster
    address: BandAddress
    scene_id: str

    @property
    def header(self) -> BandHeader:
        """Grid and type as the listing declared them, cut into virtual blocks."""
        return BandHeader(
            grid=self.address.grid,
            block_height_px=self.reader.block_px,
            block_width_px=self.reader.block_px,
            dtype=np.dtype(self.address.dtype),
            nodata=float(self.address.fill),
        )

    async def read(self, blocks: Sequence[tuple[int, int]], rows: Sequence[Rows] | None = None) -> list[Block]:
        """Return blocks in the order asked; whole ones, because the other bands may need other rows.

        Raises:
            SceneProblemError: the image is gone, or Earth Engine cannot compute even one block of one band.
            TransientError: no answer within the retries.

        """
        del rows
        return await self.reader.blocks(self.raster, self.address.band, blocks, self.scene_id)

    async def read_overview(self, max_edge_px: int) -> Block:
        """Refuse: no Earth Engine row asks its pixels about radiometry."""
        raise SceneProblemError(
            SceneProblemKind.UNREADABLE_FILE,
            self.scene_id,
            f"Earth Engine rows have a fixed radiometry and no overview of {max_edge_px} px",
        )


def pixel_request(bands: Sequence[BandAddress], window: tuple[int, int, int, int], workload_tag: str) -> dict[str, Any]:
    """Return the request for a window (left, top, width, height) of an image's bands, on their own grid.

    Each band is cast to its product's type and its mask is written as its fill value: Earth Engine hands out masked
    pixels as zero otherwise, which looks like a measurement.
    """
    import ee

    left, top, width, height = window
    first = bands[0]
    image = ee.Image(first.image_id)
    parts = [
        getattr(image.select(band.band).unmask(band.fill, sameFootprint=False), _CASTS[band.dtype])() for band in bands
    ]
    return {
        "expression": ee.Image.cat(parts) if len(parts) > 1 else parts[0],
        "grid": {
            "dimensions": {"width": width, "height": height},
            "affineTransform": {
                "scaleX": first.pixel_m,
                "shearX": 0,
                "translateX": first.west_m + left * first.pixel_m,
                "shearY": 0,
                "scaleY": -first.pixel_m,
                "translateY": first.north_m - top * first.pixel_m,
            },
            "crsCode": first.crs_code,
        },
        "workloadTag": workload_tag,
    }
