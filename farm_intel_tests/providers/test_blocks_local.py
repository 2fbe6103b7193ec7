"""Ranges of local files: the right bytes, in every thread, whatever happens to the file meanwhile."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.engine.blocks import BlockReader
from farm_intel.providers.blocks.local import LocalRange
from farm_intel_tests.providers.blocks_support import band, pixels, use_reader, write_cog


@pytest.fixture
def content(tmp_path: Path) -> tuple[str, bytes]:
    data = np.random.default_rng(3).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
    path = tmp_path / "some.bin"
    path.write_bytes(data)
    return str(path), data


def test_pieces_are_the_bytes_of_the_file(content: tuple[str, bytes]) -> None:
    path, data = content
    held = LocalRange(path, 1_000, 290_000)
    for start, size in [(1_000, 10), (5_001, 100_000), (1_000, 289_000), (289_999, 1), (4_096, 4_096)]:
        assert bytes(held.piece(start, size)) == data[start : start + size]


def test_threads_do_not_share_a_piece(content: tuple[str, bytes]) -> None:
    path, data = content
    held = LocalRange(path, 0, len(data))

    def read(k: int) -> bool:
        piece = held.piece(k * 1_000, 50_000)
        other = bytes(LocalRange(path, 0, 10).piece(0, 10))  # of this thread: may overwrite the first ten bytes
        return bytes(piece[10:]) == data[k * 1_000 + 10 : k * 1_000 + 50_000] and other == data[:10]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(200)))


def test_a_range_behind_the_end_says_how_much_is_missing(content: tuple[str, bytes]) -> None:
    path, data = content
    with pytest.raises(EOFError) as error:
        LocalRange(path, 0, len(data) + 7)
    assert error.value.args == (7,)


def test_a_file_cut_off_after_it_was_opened_says_how_much_is_missing(content: tuple[str, bytes]) -> None:
    path, _ = content
    held = LocalRange(path, 0, 300_000)
    os.truncate(path, 200_000)
    with pytest.raises(EOFError) as error:
        held.piece(150_000, 100_000)
    assert error.value.args == (50_000,)


def test_a_replaced_file_is_read_to_its_end_as_it_was(content: tuple[str, bytes], tmp_path: Path) -> None:
    path, data = content
    held = LocalRange(path, 0, 300_000)
    (tmp_path / "new").write_bytes(bytes(300_000))
    (tmp_path / "new").replace(path)
    assert bytes(held.piece(0, 1_000)) == data[:1_000]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors through /proc")
def test_no_descriptor_stays_open(content: tuple[str, bytes]) -> None:
    path, _ = content

    def opened() -> int:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [str(link.readlink()) for link in links if link.is_symlink()].count(path)

    for stop in (10, 400_000):
        try:
            held = LocalRange(path, 0, stop)
        except EOFError:
            continue
        assert opened() == 1
        del held
    gc.collect()
    assert opened() == 0


def test_a_file_that_shrinks_between_opening_and_reading_is_a_problem_of_its_scene(tmp_path: Path) -> None:
    path = write_cog(tmp_path / "band.tif", pixels(600, 600, "uint16"))

    async def work(reader: BlockReader) -> None:
        opened = await reader.open(band(path), scene_id="S2_TEST")
        os.truncate(path, path.stat().st_size - 5_000)
        await opened.read([(row, col) for row in range(3) for col in range(3)])

    with pytest.raises(SceneProblemError, match=r"S2_TEST.*band red.*the file ends \d+ bytes before") as error:
        use_reader("fast", work)
    assert error.value.kind is SceneProblemKind.UNREADABLE_FILE


def test_a_share_that_fails_is_told_with_the_systems_reason(tmp_path: Path) -> None:
    path = write_cog(tmp_path / "band.tif", pixels(600, 600, "uint16"))

    async def work(reader: BlockReader) -> None:
        opened = await reader.open(band(path), scene_id="S2_TEST")
        path.unlink()
        path.symlink_to(path)  # the nearest thing to a broken disk that every machine has: ELOOP
        await opened.read([(0, 0)])

    with pytest.raises(SceneProblemError, match="the file cannot be read") as error:
        use_reader("fast", work)
    assert "Check the disk" in str(error.value.hint)
