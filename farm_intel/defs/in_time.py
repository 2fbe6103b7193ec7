"""Deadlines around generators whose consumer has all the time it needs."""

import time
from collections.abc import Callable, Iterator

from farm_intel.domain.errors import DeadlineExceededError
from farm_intel.resilience import deadlines


def in_time[T](
    steps: Iterator[T], seconds: float, what: str, *, monotonic_s: Callable[[], float] = time.monotonic
) -> Iterator[T]:
    """Yield from a generator that may work for `seconds` altogether.

    Only its own work counts, and the deadline is in force only while it works: set across a `yield`, it would leak to
    the consumer, who records events that must not be given up.

    Args:
        steps: what is worked on.
        seconds: time for all of its steps together.
        what: what is worked on, for the error.
        monotonic_s: the clock to measure with; only tests pass another.

    Raises:
        DeadlineExceededError: the time was up and there was more to do.

    """
    left_s = seconds
    while left_s > 0.0:
        began_s = monotonic_s()
        with deadlines.deadline(left_s):
            step = next(steps, None)
        if step is None:
            return
        left_s -= monotonic_s() - began_s
        yield step
    raise DeadlineExceededError(
        f"{what} is not done after {seconds:g} s",
        hint="What it gave is stored, so run it again; FARM_INTEL_PROVIDER_DEADLINE_S allows more time.",
    )
