"""The threads that decode and compute: work of groups that were started first goes first.

Answers to range requests arrive in any order. Taken as they come, all groups in flight would be decoded at once and
finish together; then no block is left to decode while the next groups' requests travel. In order, the first group gives
its place back early, and the latency of the next hides behind the rest.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from itertools import count
from typing import Any

turn: ContextVar[int] = ContextVar("turn", default=0)
"""The number of the group that a task works for, lower ones first; 0 for what groups wait for, like headers."""

type _Job = tuple[int, int, Future[Any], Callable[[], None]]


class OrderedExecutor(Executor):
    """A fixed number of threads that take the waiting work of the lowest `turn` of its submitter, then the oldest."""

    def __init__(self, threads: int, name: str) -> None:
        """Start the threads; `name` begins theirs."""
        self._waiting: list[_Job] = []
        self._numbers = count()
        self._change = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return the future of a call; it can be cancelled until a thread takes it.

        Raises:
            RuntimeError: after `shutdown`.

        """
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the future hands on whatever it is, as every executor does
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._change:
            if self._closed:
                raise RuntimeError("the threads were shut down")
            heapq.heappush(self._waiting, (turn.get(), next(self._numbers), future, call))
            self._change.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as Executor has it
        """Take no more work; what waits is still done unless `cancel_futures`."""
        with self._change:
            self._closed = True
            if cancel_futures:
                dropped, self._waiting = self._waiting, []
                for _, _, future, _ in dropped:
                    future.cancel()
            self._change.notify_all()
        if wait:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return
                *_, call = heapq.heappop(self._waiting)
            call()
            # a finished call must not keep its block alive until the next one comes
            del call
