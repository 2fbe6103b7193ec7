"""Our deflate streams are inflated by zlib and libdeflate to the differences of the pixels, whatever those are."""

from __future__ import annotations

import zlib
from itertools import accumulate, pairwise

import deflate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from farm_intel.storage.deflating import deflate_blocks


def streams(pixels):
    content, sizes = deflate_blocks(np.ascontiguousarray(pixels))
    assert sum(sizes) == len(content)
    return [content[begin:end] for begin, end in pairwise(accumulate(sizes, initial=0))]


def assert_reads_back(pixels):
    """Check the checksum too: zlib refuses a stream whose Adler-32 is wrong, and one that ends early or late."""
    differences = pixels.copy()
    differences[..., 1:] -= pixels[..., :-1]
    for block, stream in zip(differences, streams(pixels), strict=True):
        reader = zlib.decompressobj()
        assert reader.decompress(stream) == block.astype("<i2").tobytes()
        assert reader.eof
        assert not reader.unused_data
        assert deflate.zlib_decompress(stream, block.nbytes) == block.astype("<i2").tobytes()


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=12)))
def test_any_pixels_read_back(pixels):
    assert_reads_back(pixels)


@settings(max_examples=100, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(-32768, 32767), st.integers(1, 700)), min_size=1, max_size=12),
    blocks=st.integers(1, 3),
)
def test_runs_of_any_length_read_back(runs, blocks):
    """A match holds at most 129 pixels and at least two: lengths around its multiples are the awkward ones."""
    steps = np.concatenate([np.full(length, value, np.int16) for value, length in runs])
    row = np.cumsum(steps, dtype=np.int16)
    assert_reads_back(np.repeat(row[None, None, :], blocks, axis=0))


@pytest.mark.parametrize("length", [1, 2, 3, 129, 130, 131, 132, 258, 259, 260, 389])
def test_runs_around_the_longest_match(length):
    assert_reads_back(np.full((1, 1, length), 300, np.int16))
    assert_reads_back(np.cumsum(np.full((2, 1, length), 300, np.int16), axis=2, dtype=np.int16))


def test_a_code_that_would_grow_too_long_is_limited():
    """Frequencies that grow like Fibonacci's numbers want a code of 23 bits for the rarest byte; deflate allows 15."""
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    values = np.repeat(np.arange(1, 25, dtype=np.int16), fibonacci)
    steps = np.random.default_rng(3).permutation(values)
    assert_reads_back(np.cumsum(steps, dtype=np.int16)[None, None, :])


def test_noise_does_not_grow_and_emptiness_vanishes():
    noise = np.random.default_rng(1).integers(-32768, 32768, (4, 64, 64)).astype(np.int16)
    assert_reads_back(noise)
    assert len(deflate_blocks(noise)[0]) < noise.nbytes * 1.06
    empty = np.full((4, 200, 200), -32768, np.int16)
    assert_reads_back(empty)
    assert len(deflate_blocks(empty)[0]) < empty.nbytes / 100


def test_size_is_close_to_that_of_a_general_compressor():
    """An index over a field is a smooth surface and noise, with nothing outside the boundary."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:60, :60]
    surface = 6000 + 400 * np.sin(x / 9) + 300 * np.cos(y / 7)
    pixels = np.array([surface + rng.normal(0, 120, surface.shape) for _ in range(5)]).astype(np.int16)
    pixels[:, (x - 30) ** 2 + (y - 30) ** 2 > 800] = -32768
    differences = pixels.copy()
    differences[..., 1:] -= pixels[..., :-1]

    general = sum(len(deflate.zlib_compress(block, 6)) for block in differences)

    assert len(deflate_blocks(pixels)[0]) < general * 1.1
