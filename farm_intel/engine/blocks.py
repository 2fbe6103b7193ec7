"""What the engine needs of a reader of tiled rasters; adapters live in providers.blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import ReadCounters
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.scenes import BandFile

Block = npt.NDArray[Any]
type Rows = tuple[int, int]
"""[first, end) rows of a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandHeader:
    """What a band file says about itself; the file's word beats the catalogue's."""

    grid: PixelGrid
    block_height_px: int
    block_width_px: int
    dtype: np.dtype[Any]
    nodata: float | None

    @property
    def block_rows(self) -> int:
        """Number of block rows; the last may be padded."""
        return -(-self.grid.height_px // self.block_height_px)

    @property
    def block_cols(self) -> int:
        """Number of block columns; the last may be padded."""
        return -(-self.grid.width_px // self.block_width_px)


class OpenBand(Protocol):
    """One open band file."""

    @property
    def header(self) -> BandHeader:
        """Grid, blocking, type and nodata as the file itself declares them."""
        ...

    async def read(self, blocks: Sequence[tuple[int, int]], rows: Sequence[Rows] | None = None) -> list[Block]:
        """Return blocks (row, col) in the order asked, each of full block shape (edge blocks padded), native dtype.

        Neighbouring blocks of one call may be fetched with one request.

        Args:
            blocks: which.
            rows: per block, the rows that will be looked at; the others, and the padding, may then hold anything,
                so that a reader need not decode them. None asks for whole blocks.

        Raises:
            SceneProblemError: the file is truncated or corrupt there.
            TransientError: the server did not answer within the retries.

        """
        ...

    async def read_overview(self, max_edge_px: int) -> Block:
        """Return the largest overview whose longer edge is at most `max_edge_px`, or the coarsest there is."""
        ...


class BlockReader(Protocol):
    """Opens band files; one per engine run, closed with it."""

    async def open(self, file: BandFile, *, scene_id: str) -> OpenBand:
        """Return the open band.

        Raises:
            SceneProblemError: the file is not there, not readable or has no usable grid.
            TransientError: the server did not answer within the retries.

        """
        ...

    def counters(self) -> ReadCounters:
        """Return what reading cost so far (requests, bytes, blocks decoded)."""
        ...


BlockReaderFactory = Callable[[Executor], AbstractAsyncContextManager[BlockReader]]
"""Given the pool for decoding, returns the reader to enter."""
