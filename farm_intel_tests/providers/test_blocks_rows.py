"""Reading only some rows of a block: the same pixels as reading it whole."""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from farm_intel.domain.errors import SceneProblemError
from farm_intel.domain.scenes import BandFile
from farm_intel.engine.blocks import Block, Rows
from farm_intel.providers.blocks.auto import ReaderOptions, block_readers
from farm_intel.providers.blocks.decode import BlockFormat, CorruptBlockError, decode_block
from farm_intel.providers.blocks.prefix import MARGIN_BYTES, BrokenStreamError, inflate_prefix

_FORM = BlockFormat(shape=(128, 64), dtype=np.dtype("u1"), compression=8, predictor=1)


def _smooth(n: int) -> bytes:
    """Return bytes that deflate to literals and matches of all lengths."""
    rng = np.random.default_rng(n)
    runs = np.repeat(rng.integers(0, 40, n, dtype=np.uint8), rng.integers(1, 300, n))[:n]
    return (runs + (rng.random(n) < 0.1)).astype(np.uint8).tobytes()


@pytest.mark.parametrize("wanted", [0, 1, 257, 4096, 50_000, 99_000])
@pytest.mark.parametrize("level", [1, 6, 9])
def test_the_beginning_of_a_stream_is_what_zlib_says(wanted: int, level: int) -> None:
    plain = _smooth(100_000)
    out = np.full(len(plain), 255, np.uint8)

    assert inflate_prefix(memoryview(zlib.compress(plain, level)), out, wanted)
    assert out[:wanted].tobytes() == plain[:wanted]
    assert (out[wanted + MARGIN_BYTES :] == 255).all()


def test_a_whole_stream_is_left_to_the_checked_way() -> None:
    plain = _smooth(10_000)
    assert not inflate_prefix(memoryview(zlib.compress(plain)), np.empty(10_000, np.uint8), 10_000)


def test_a_stream_that_breaks_off_or_ends_before_the_wanted_bytes_is_refused() -> None:
    plain = _smooth(100_000)
    out = np.empty(len(plain), np.uint8)
    stream = zlib.compress(plain)
    with pytest.raises(BrokenStreamError):
        inflate_prefix(memoryview(stream)[: len(stream) // 4], out, 90_000)
    with pytest.raises(BrokenStreamError, match="ends after 500 bytes"):
        inflate_prefix(memoryview(zlib.compress(plain[:500])), out, 90_000)
    with pytest.raises(CorruptBlockError):
        decode_block(memoryview(b"\x78\x9c" + b"\xff" * 100), _FORM, (0, 10))


def test_rows_of_a_block_equal_those_of_the_whole_block() -> None:
    plain = _smooth(128 * 64)
    for predictor in (1, 2):
        form = BlockFormat(shape=_FORM.shape, dtype=_FORM.dtype, compression=8, predictor=predictor)
        stream = memoryview(zlib.compress(plain))
        whole = decode_block(stream, form)
        for first, end in [(0, 1), (17, 40), (100, 128), (0, 128), (5, 5)]:
            assert np.array_equal(decode_block(stream, form, (first, end))[first:end], whole[first:end])


@pytest.mark.parametrize("kind", ["fast", "rasterio"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_every_reader_returns_the_rows_asked_for(tmp_path: Path, kind: str, dtype: str) -> None:
    path = tmp_path / "band.tif"
    pixels = np.cumsum(np.random.default_rng(1).integers(-3, 4, (200, 200)), axis=1).astype(dtype)
    profile = {"driver": "GTiff", "width": 200, "height": 200, "count": 1, "dtype": dtype, "crs": "EPSG:32636"}
    profile |= {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "DEFLATE", "predictor": 2}
    with rasterio.open(path, "w", transform=from_origin(600_000, 100_000, 10, 10), **profile) as dataset:
        dataset.write(pixels, 1)
    blocks = [(0, 0), (1, 1), (1, 0)]
    rows: list[Rows] = [(3, 50), (0, 20), (60, 72)]

    async def read() -> list[Block]:
        with ThreadPoolExecutor(2) as pool:
            async with block_readers(ReaderOptions(kind=kind))(pool) as reader:  # type: ignore[arg-type] # parametrised
                file = BandFile(common_name="red", asset_key="red", href=str(path))
                band = await reader.open(file, scene_id="S")
                return await band.read(blocks, rows)

    for (row, col), (first, end), block in zip(blocks, rows, asyncio.run(read()), strict=True):
        part = pixels[row * 128 + first : row * 128 + end, col * 128 : (col + 1) * 128]
        assert block.shape == (128, 128)
        assert np.array_equal(block[first:end, : part.shape[1]], part)


def test_only_whole_blocks_are_checked_and_they_can_be_asked_for(tmp_path: Path) -> None:
    """A stream whose checksum is wrong and whose code is whole is noticed where, and only where, it is inflated whole.

    The first half is the price of inflating only what is needed; it fails where that is no longer done.
    """
    path = tmp_path / "band.tif"
    pixels = np.random.default_rng(2).integers(0, 3000, (128, 128)).astype(np.uint16)
    profile = {"driver": "GTiff", "width": 128, "height": 128, "count": 1, "dtype": "uint16", "crs": "EPSG:32636"}
    profile |= {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "DEFLATE", "predictor": 2}
    with rasterio.open(path, "w", transform=from_origin(600_000, 100_000, 10, 10), **profile) as dataset:
        dataset.write(pixels, 1)
    with rasterio.open(path) as dataset:
        start, size = (int(dataset.get_tag_item(f"BLOCK_{what}_0_0", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    content = bytearray(path.read_bytes())
    content[start + size - 1] ^= 1
    path.write_bytes(content)

    async def read(*, whole_blocks: bool) -> Block:
        with ThreadPoolExecutor(1) as pool:
            async with block_readers(ReaderOptions(kind="fast", whole_blocks=whole_blocks))(pool) as reader:
                band = await reader.open(BandFile(common_name="red", asset_key="red", href=str(path)), scene_id="S")
                return (await band.read([(0, 0)], [(0, 90)]))[0]

    assert np.array_equal(asyncio.run(read(whole_blocks=False))[:90], pixels[:90])
    with pytest.raises(SceneProblemError, match="is corrupt"):
        asyncio.run(read(whole_blocks=True))
