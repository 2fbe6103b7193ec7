"""From the bytes of a TIFF block to pixels: libdeflate, then the horizontal predictor undone in place."""

from __future__ import annotations

from typing import Any

import deflate
import numba
import numpy as np
import numpy.typing as npt

from farm_intel.engine.blocks import Block

DEFLATE_CODES = frozenset({8, 32946})
"""TIFF compression codes of zlib streams (Adobe deflate and its older private code)."""


class CorruptBlockError(ValueError):
    """The bytes of a block are not what its header promises."""


@numba.njit(cache=True, nogil=True)
def _undo_horizontal(block: npt.NDArray[Any]) -> None:  # pragma: no cover - compiled
    for row in range(block.shape[0]):
        total = block[row, 0]
        for col in range(1, block.shape[1]):
            total += block[row, col]
            block[row, col] = total


def undo_horizontal(block: npt.NDArray[Any]) -> None:
    """Turn the differences along each row back into values, in place, wrapping like the encoder did.

    TIFF 6.0, section 14, predictor 2. Signed types are summed as unsigned ones of their size: the bits are the same.
    """
    _undo_horizontal(block.view(f"u{block.itemsize}"))


def decode_block(
    data: memoryview, *, shape: tuple[int, int], dtype: np.dtype[Any], compression: int, predictor: int
) -> Block:
    """Return the pixels of one block, writable, (rows, cols), native type.

    Args:
        data: the block's bytes as stored.
        shape: (rows, cols) of a full block.
        dtype: pixel type, little-endian.
        compression: TIFF code, 1 or one of DEFLATE_CODES.
        predictor: 1 none, 2 horizontal.

    Raises:
        CorruptBlockError: the stream is broken or holds another number of bytes.

    """
    size = shape[0] * shape[1] * dtype.itemsize
    if compression in DEFLATE_CODES:
        try:
            raw: bytearray | memoryview = deflate.zlib_decompress(data, size)
        except (deflate.DeflateError, ValueError) as error:
            raise CorruptBlockError(f"the deflate stream is broken ({error})") from error
    else:
        raw = bytearray(data)
    if len(raw) != size:
        raise CorruptBlockError(f"the block holds {len(raw)} bytes instead of {size}")
    block = np.frombuffer(raw, dtype).reshape(shape)
    if predictor == 2:
        undo_horizontal(block)
    return block
