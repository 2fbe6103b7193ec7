"""Blocks in flight: each read once, shared by reference count, bounded by a budget of decoded bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from farm_intel.domain.errors import SceneProblemError, TransientError
from farm_intel.engine.blocks import Block, OpenBand, Rows

type BlockKey = tuple[int, int, int, int]
"""(read job, band number, block row, block column)."""


class Need(NamedTuple):
    """A block that a group needs."""

    key: BlockKey
    size: int
    """Decoded bytes."""
    rows: Rows
    """The rows it looks at."""


@dataclass(slots=True)
class _Entry:
    users: int
    size: int
    rows: Rows
    """All rows any user looks at."""
    block: asyncio.Future[Block] | None = None


class BlockPool:
    """Holds decoded blocks until the last group that needs them is done."""

    def __init__(self, budget_bytes: int, groups_ahead: int) -> None:
        self._budget = budget_bytes
        self._ahead = groups_ahead
        self._entries: dict[BlockKey, _Entry] = {}
        self._running = 0
        self._admitted = 0
        self._room = asyncio.Condition()
        self._reads: set[asyncio.Task[None]] = set()
        self.held = 0
        """Decoded bytes of blocks fetched or being fetched."""
        self.peak_held = 0
        self.touched = 0
        """Distinct blocks any group needed."""

    def expect(self, needs: Iterable[Need]) -> None:
        """Count one more user for every block a group needs; all groups of a job, before the first of them reads.

        Raises:
            RuntimeError: the block is being read already, without some of the rows.

        """
        for key, size, rows in needs:
            entry = self._entries.get(key)
            if entry is None:
                self._entries[key] = _Entry(users=1, size=size, rows=rows)
                self.touched += 1
                continue
            entry.users += 1
            wider = (min(rows[0], entry.rows[0]), max(rows[1], entry.rows[1]))
            if entry.block is not None and wider != entry.rows:
                raise RuntimeError(f"block {key} was asked for before all of its users were known")
            entry.rows = wider

    async def admit(self, size: int) -> None:
        """Wait until another group of `size` decoded bytes may start.

        With nothing running a group always starts, so that a group larger than the budget, or a budget full of blocks
        kept for farms that cross into later groups, cannot stop the run.
        """
        async with self._room:
            await self._room.wait_for(
                lambda: (
                    not self._running
                    or (self._running < self._ahead and max(self.held, self._admitted) + size <= self._budget)
                )
            )
            self._running += 1
            self._admitted += size

    async def leave(self, size: int) -> None:
        """Give back the place of an admitted group."""
        async with self._room:
            self._running -= 1
            self._admitted -= size
            self._room.notify_all()

    def fetch(self, band: OpenBand, keys: Sequence[BlockKey]) -> None:
        """Start reading those of the blocks of one band that nobody has asked for yet, with one call."""
        wanted = [key for key in keys if self._entries[key].block is None]
        if not wanted:
            return
        loop = asyncio.get_running_loop()
        for key in wanted:
            entry = self._entries[key]
            entry.block = loop.create_future()
            self.held += entry.size
        self.peak_held = max(self.peak_held, self.held)
        task = asyncio.create_task(self._read(band, wanted))
        self._reads.add(task)
        task.add_done_callback(lambda done: self._finish(done, wanted))

    async def _read(self, band: OpenBand, keys: Sequence[BlockKey]) -> None:
        try:
            rows = [self._entries[key].rows for key in keys]
            blocks = await band.read([(row, col) for _, _, row, col in keys], rows)
        except (SceneProblemError, TransientError) as error:
            if len(keys) > 1:
                # one bad block must not take its neighbours with it, whatever was asked for together
                await asyncio.gather(*(self._read(band, [key]) for key in keys))
            else:
                self._settle(keys[0], error=error)
            return
        for key, block in zip(keys, blocks, strict=True):
            self._settle(key, block=block)

    def _finish(self, task: asyncio.Task[None], keys: Sequence[BlockKey]) -> None:
        """Tell those who wait for blocks of a read that ended otherwise; a bug in a reader must not hang the run."""
        self._reads.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            for key in keys:
                self._settle(key, error=error)

    def _settle(self, key: BlockKey, *, block: Block | None = None, error: BaseException | None = None) -> None:
        entry = self._entries.get(key)
        future = entry.block if entry is not None else None
        if future is None or future.done():
            return
        if block is not None:
            future.set_result(block)
        elif isinstance(error, asyncio.CancelledError):
            future.cancel()
        elif error is not None:
            future.set_exception(error)
            # a group that was cancelled never looks
            future.exception()

    async def get(self, key: BlockKey) -> Block | SceneProblemError | TransientError:
        """Return a fetched block, or why it cannot be read."""
        future = self._entries[key].block
        if future is None:
            raise KeyError(f"block {key} was not fetched")
        try:
            return await asyncio.shield(future)
        except (SceneProblemError, TransientError) as error:
            return error

    async def release(self, keys: Iterable[BlockKey]) -> None:
        """Drop one user of each block; the last one frees it."""
        async with self._room:
            for key in keys:
                entry = self._entries[key]
                entry.users -= 1
                if entry.users == 0:
                    del self._entries[key]
                    if entry.block is not None:
                        self.held -= entry.size
            self._room.notify_all()

    async def close(self) -> None:
        """Cancel reads nobody waits for any more."""
        for task in list(self._reads):
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)
