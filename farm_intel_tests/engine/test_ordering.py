"""The threads of a run: order, failures, shutdown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextvars import copy_context

import numpy as np
import pytest

from farm_intel.engine.blocks import Block
from farm_intel.engine.ordering import OrderedExecutor, turn
from farm_intel.engine.pool import BlockPool, Need


def test_waiting_work_is_done_by_turn_and_then_by_age() -> None:
    done: list[str] = []
    gate = threading.Event()
    with OrderedExecutor(1, "test") as executor:

        def submit(number: int, name: str) -> None:
            turn.set(number)
            executor.submit(done.append, name)

        executor.submit(gate.wait)
        for number, name in [(3, "late"), (1, "first"), (2, "middle"), (1, "second"), (0, "header")]:
            copy_context().run(submit, number, name)
        gate.set()

    assert done == ["header", "first", "second", "middle", "late"]


def test_a_failure_reaches_the_one_who_asked_and_the_thread_lives_on() -> None:
    with OrderedExecutor(1, "test") as executor:
        broken = executor.submit(int, "no number")
        sound = executor.submit(int, "7")
        with pytest.raises(ValueError, match="no number"):
            broken.result(timeout=5)
        assert sound.result(timeout=5) == 7


def test_work_that_waits_at_shutdown_is_done_or_cancelled_and_none_is_taken_afterwards() -> None:
    gate = threading.Event()
    executor = OrderedExecutor(1, "test")
    running = executor.submit(gate.wait)
    while not running.running():
        pass
    waiting = executor.submit(int, "7")
    executor.shutdown(wait=False, cancel_futures=True)
    gate.set()

    assert running.result(timeout=5)
    with pytest.raises(CancelledError):
        waiting.result(timeout=5)
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(int, "7")


class _Band:
    """Remembers which rows were asked of it."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []

    async def read(self, blocks: Sequence[tuple[int, int]], rows: Sequence[tuple[int, int]]) -> list[Block]:
        self.rows += rows
        return [np.zeros((16, 16), np.uint8)] * len(blocks)


def test_a_block_is_read_with_the_rows_of_all_its_users_and_none_may_come_too_late() -> None:
    key = (1, 0, 0, 0)
    band = _Band()

    async def run() -> None:
        pool = BlockPool(1 << 20, 2)
        pool.expect([Need(key, 256, (4, 9)), Need(key, 256, (2, 5))])
        pool.fetch(band, [key])  # type: ignore[arg-type] # the one method the pool calls
        await pool.get(key)
        pool.expect([Need(key, 256, (3, 8))])
        with pytest.raises(RuntimeError, match="before all of its users"):
            pool.expect([Need(key, 256, (0, 3))])

    asyncio.run(run())
    assert band.rows == [(2, 9)]
