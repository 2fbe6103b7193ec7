"""From the bytes of a TIFF block to pixels: libdeflate, then the horizontal predictor undone in place.

A caller that needs only some rows pays only for the stream up to the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import deflate
import numba
import numpy as np
import numpy.typing as npt

from farm_intel.engine.blocks import Block, Rows
from farm_intel.providers.blocks.prefix import inflate_prefix

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFormat:
    """How the blocks of an image are stored."""

    shape: tuple[int, int]
    """(rows, cols) of a full block."""
    dtype: np.dtype[Any]
    """Pixel type, little-endian."""
    compression: int
    """TIFF code, 1 or one of DEFLATE_CODES."""
    predictor: int
    """1 none, 2 horizontal."""

    @property
    def size(self) -> int:
        """Bytes of a decoded block."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


def decode_block(data: memoryview, form: BlockFormat, rows: Rows | None = None) -> Block:
    """Return the pixels of one block, writable, of full shape, native type.

    Args:
        data: the block's bytes as stored.
        form: what these bytes are.
        rows: the rows that will be looked at, all others may hold anything; None for all.

    Raises:
        CorruptBlockError: the stream is broken or holds another number of bytes.

    """
    top, bottom = rows or (0, form.shape[0])
    if form.compression in DEFLATE_CODES:
        block = _inflate(data, form, bottom)
    elif len(data) == form.size:
        block = np.frombuffer(bytearray(data), form.dtype).reshape(form.shape)
    else:
        raise CorruptBlockError(f"the block holds {len(data)} bytes instead of {form.size}")
    if form.predictor == 2:
        undo_horizontal(block[top:bottom])
    return block


def _inflate(data: memoryview, form: BlockFormat, bottom: int) -> Block:
    """Return a block whose rows up to `bottom` are inflated; a whole one has passed its checksum."""
    block: Block = np.empty(form.shape, form.dtype)
    try:
        if inflate_prefix(data, block, bottom * form.shape[1] * form.dtype.itemsize):
            return block
        raw = deflate.zlib_decompress(data, form.size)
    except (deflate.DeflateError, ValueError) as error:
        raise CorruptBlockError(f"the deflate stream is broken ({error})") from error
    if len(raw) != form.size:
        raise CorruptBlockError(f"the block holds {len(raw)} bytes instead of {form.size}")
    return np.frombuffer(raw, form.dtype).reshape(form.shape)
