"""When a message that failed is tried again, and when it is given up.

The schedule is that of Standard Webhooks (spec/standard-webhooks.md, "Operational considerations"): ten attempts over
about 75 hours. Every wait is made longer by up to a fifth, so that what failed together does not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from farm_intel.domain.errors import ThrottledError, TransientError

STANDARD_WAITS = tuple(
    timedelta(seconds=seconds)
    for seconds in (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
"""Wait before the first, second … attempt."""

_RANDOM = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """How often and how long a message is tried."""

    waits: tuple[timedelta, ...] = STANDARD_WAITS
    jitter: float = 0.2
    """Largest share by which a wait is made longer."""
    longest_retry_after: timedelta = timedelta(hours=24)
    """A server that asks for more is asked again then all the same."""
    give_up_after: timedelta = timedelta(days=7)
    """Age at which a message whose server was never up is given up; nobody is helped by older news."""
    draw: Callable[[], float] = _RANDOM.random
    """Numbers from 0 to 1."""

    @property
    def attempts(self) -> int:
        """How often a message is tried."""
        return len(self.waits)

    def wait(self, attempt: int, error: TransientError | None = None) -> timedelta | None:
        """Return how long to wait after attempt number `attempt` (from 1) failed; None where it was the last.

        A server that says when to come back is never asked earlier.
        """
        if attempt >= self.attempts:
            return None
        wait = self.waits[attempt] * (1.0 + self.jitter * self.draw())
        if isinstance(error, ThrottledError) and error.retry_after_s is not None:
            asked = min(timedelta(seconds=max(0.0, error.retry_after_s)), self.longest_retry_after)
            return max(wait, asked)
        return wait
