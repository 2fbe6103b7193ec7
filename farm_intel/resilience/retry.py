"""The one retry policy: transient failures are tried again with exponential back-off and jitter, nothing else is.

A server that says when to come back (`ThrottledError.retry_after_s`) is obeyed to the second, up to
`RetryPolicy.longest_retry_after_s`: a run that would have to sleep longer is better told so at once. No wait reaches
past the caller's deadline (see `deadlines`), and what says by itself that asking again is no use is not asked again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypedDict

import stamina

from farm_intel.domain.errors import DeadlineExceededError, ProviderDownError, ThrottledError, TransientError
from farm_intel.resilience import deadlines

_LOG = logging.getLogger("farm_intel.retry")
_RANDOM = random.SystemRandom()


def tell_of_waits() -> None:
    """Have every wait of this process told in one line of the log, instead of stamina's own structured one."""
    stamina.instrumentation.set_on_retry_hooks([_tell])


def _tell(details: stamina.instrumentation.RetryDetails) -> None:
    _LOG.warning("waiting %.1f s before attempt %d: %s", details.wait_for, details.retry_num + 1, details.caused_by)


GiveUp = Callable[[TransientError], bool]
"""Says of a transient failure that the caller knows a better answer than trying the same again."""


class _StaminaArguments(TypedDict):
    attempts: int
    timeout: None
    wait_initial: float
    wait_max: float
    wait_jitter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long a transient failure is tried again."""

    retries: int
    """Attempts after the first."""
    wait_initial_s: float = 0.5
    """Back-off before the second attempt; doubles with every further one."""
    wait_max_s: float = 30.0
    """Longest back-off between two attempts."""
    wait_jitter_s: float = 1.0
    """Random addition that keeps parallel callers from coming back together."""
    longest_retry_after_s: float = 120.0
    """A server that asks for a longer pause is not waited for."""

    def call[T](self, function: Callable[[], T], *, give_up: GiveUp | None = None) -> T:
        """Return what `function` returns, trying again on TransientError.

        Args:
            function: one attempt; must be safe to repeat.
            give_up: if it returns True for a failure, that failure is raised at once.

        Raises:
            TransientError: the last attempt's, unchanged.

        """
        caller = stamina.RetryingCaller(**self._arguments())
        return caller(_Verdict(self, give_up), function)

    async def acall[T](self, function: Callable[[], Awaitable[T]], *, give_up: GiveUp | None = None) -> T:
        """Return what the awaitable of `function` gives, trying again on TransientError; see `call`."""
        caller = stamina.AsyncRetryingCaller(**self._arguments())
        return await caller(_Verdict(self, give_up), function)

    def _arguments(self) -> _StaminaArguments:
        return {
            "attempts": self.retries + 1,
            "timeout": None,
            "wait_initial": self.wait_initial_s,
            "wait_max": self.wait_max_s,
            "wait_jitter": self.wait_jitter_s,
        }


class _Verdict:
    """Says after each failure of one call whether to try again, or after how many seconds exactly."""

    def __init__(self, policy: RetryPolicy, give_up: GiveUp | None) -> None:
        self._policy = policy
        self._give_up = give_up
        self._failures = 0

    def __call__(self, error: Exception) -> bool | float:
        """Return False for no further try, True for a wait by the policy, seconds where they are known."""
        self._failures += 1
        if not isinstance(error, TransientError) or isinstance(error, ProviderDownError | DeadlineExceededError):
            return False
        if self._give_up is not None and self._give_up(error):
            return False
        policy = self._policy
        wait_s: float | None = None
        if isinstance(error, ThrottledError) and error.retry_after_s is not None:
            wait_s = error.retry_after_s
            if wait_s > policy.longest_retry_after_s:
                return False
        left_s = deadlines.remaining_s()
        if left_s is None:
            return True if wait_s is None else wait_s
        if wait_s is None:  # as stamina would, but known beforehand
            backoff_s = policy.wait_initial_s * 2.0 ** (self._failures - 1)
            jitter_s = _RANDOM.uniform(0.0, policy.wait_jitter_s)
            wait_s = min(policy.wait_max_s, backoff_s + jitter_s)
        return wait_s if wait_s < left_s else False


def without_waiting(attempts: int = 100) -> AbstractContextManager[None]:
    """Return a context in which no policy sleeps between attempts and none makes more than `attempts`.

    The switch is process-wide and meant for tests and demos against simulated failures.
    """
    return stamina.set_testing(True, attempts=attempts, cap=True)
