"""Rasters to read and ways to read them, shared by the tests of the block readers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

from farm_intel.domain.scenes import BandFile
from farm_intel.engine.blocks import BlockReader
from farm_intel.providers.blocks.auto import ReaderOptions, block_readers

CRS = "EPSG:32637"
TRANSFORM = from_origin(300_000, 1_000_020, 10, 10)


def pixels(height: int, width: int, dtype: str, seed: int = 7) -> np.ndarray:
    """Noise on a ramp: neighbouring values differ, and sums wrap in every integer type."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 7)
    return (ramp * 97 + rng.integers(0, 1000, (height, width)) + info.min).astype(dtype)


def write_cog(path: Path, data: np.ndarray, **options: Any) -> Path:
    """Write a COG with GDAL's own driver; `options` replace the defaults, `tags` are set."""
    profile = {
        "driver": "COG", "count": 1, "height": data.shape[0], "width": data.shape[1], "dtype": data.dtype,
        "crs": CRS, "transform": TRANSFORM, "nodata": 0, "compress": "deflate", "predictor": 2, "blocksize": 256,
        "level": 1,
    }  # fmt: skip
    tags = options.pop("tags", {})
    profile |= options
    profile = {key: value for key, value in profile.items() if value is not None}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.update_tags(**tags)
        dataset.write(data, 1)
    return path


def band(href: object, name: str = "red") -> BandFile:
    return BandFile(common_name=name, asset_key=name, href=str(href))


def use_reader[T](kind: str, work: Callable[[BlockReader], Awaitable[T]], **options: object) -> T:
    """Enter a reader of the kind, run `work` with it, return the result."""
    values = {"kind": kind, "wait_initial_s": 0.01, "wait_max_s": 0.2, "retries": 3, "timeout_s": 20.0} | options

    async def run(pool: ThreadPoolExecutor) -> T:
        async with block_readers(ReaderOptions(**values))(pool) as reader:  # type: ignore[arg-type] # test options
            return await work(reader)

    with ThreadPoolExecutor(2) as pool:
        return asyncio.run(run(pool))


def read_blocks(
    kind: str, href: object, blocks: Sequence[tuple[int, int]] | None = None, **options: object
) -> tuple[object, list[np.ndarray], object]:
    """Return (header, blocks, counters) of one file; all blocks row by row unless told which."""

    async def work(reader: BlockReader) -> tuple[object, list[np.ndarray], object]:
        opened = await reader.open(band(href), scene_id="S2_TEST")
        header = opened.header
        places = blocks or [(r, c) for r in range(header.block_rows) for c in range(header.block_cols)]
        return header, await opened.read(places), reader.counters()

    return use_reader(kind, work, **options)


def reference(path: Path, row: int, col: int, shape: tuple[int, int], fill: float) -> np.ndarray:
    """One block as plain rasterio reads it, padded with `fill`."""
    with rasterio.open(path) as dataset:
        whole = dataset.read(1)
    full = np.full(shape, fill, whole.dtype)
    part = whole[row * shape[0] : (row + 1) * shape[0], col * shape[1] : (col + 1) * shape[1]]
    full[: part.shape[0], : part.shape[1]] = part
    return full
