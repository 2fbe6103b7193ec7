"""How long the caller is willing to wait, known to everything that is called on its behalf.

The deadline travels in a context variable: into coroutines and `asyncio.to_thread` by itself, into threads of a pool
by `carried`. Nothing that waits (retries, rates, probes) sleeps past it.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from farm_intel.domain.errors import BadRequestError, DeadlineExceededError

_MonotonicS = Callable[[], float]

_CURRENT: contextvars.ContextVar[tuple[float, _MonotonicS] | None] = contextvars.ContextVar(
    "farm_intel_deadline", default=None
)


@contextmanager
def deadline(seconds: float, *, monotonic_s: _MonotonicS = time.monotonic) -> Iterator[None]:
    """Give the body `seconds` of time; an outer deadline that is nearer stays in force.

    In a generator, wrap the single steps and never a `yield`: a context variable set there leaks to the consumer.

    Args:
        seconds: time from now.
        monotonic_s: the clock to measure with; only tests pass another.

    Raises:
        BadRequestError: the time is not positive.

    """
    if not seconds > 0.0:
        raise BadRequestError(f"a deadline of {seconds} s leaves no time", hint="Give a positive number of seconds.")
    until = monotonic_s() + seconds
    outer = _CURRENT.get()
    if outer is not None and outer[0] - outer[1]() < seconds:
        yield
        return
    token = _CURRENT.set((until, monotonic_s))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def remaining_s() -> float | None:
    """Return the seconds left, at least 0; None where nobody set a deadline."""
    current = _CURRENT.get()
    return None if current is None else max(0.0, current[0] - current[1]())


def check(what: str) -> None:
    """Refuse to begin `what` once the time is up.

    Raises:
        DeadlineExceededError: the time is up.

    """
    current = _CURRENT.get()
    if current is not None and current[0] - current[1]() <= 0.0:
        raise DeadlineExceededError(
            f"no time is left for {what}", hint="Allow more time, or ask for fewer farms or days at once."
        )


def carried[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Return `function` bound to the deadline of here and now, to be run by another thread."""
    context = contextvars.copy_context()

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        # a copy per call: one context cannot be entered by two threads at once
        return context.copy().run(function, *args, **kwargs)

    return run
