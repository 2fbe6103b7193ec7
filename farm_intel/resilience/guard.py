"""What stands between an adapter and a provider: deadline, breaker, budget, rate and retries, in that order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from farm_intel.resilience.retry import GiveUp, RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One kind of call to one host: the key of breaker, rate and budget."""

    provider: str
    host: str
    """Host and port as in the URL."""
    name: str
    """`search`, `process`, `statistics`, `token`, `read`, `compute_pixels` …"""


class CallGuard(Protocol):
    """Lets a call through, or says at once why not."""

    def call[T](
        self, operation: Operation, attempt: Callable[[], T], *, units: float = 0.0, give_up: GiveUp | None = None
    ) -> T:
        """Return what `attempt` returns, within the caller's deadline and after retries.

        Args:
            operation: what is called.
            attempt: one try, safe to repeat; raises the errors of domain.errors, each of which it may raise at once.
            units: what a try is expected to cost, in the provider's own unit; reserved before, see `settle`.
            give_up: if it returns True for a failure, that failure is raised at once.

        Raises:
            ProviderDownError: the breaker is open; nothing was asked.
            BudgetExceededError: the month's budget is spent; nothing was asked.
            DeadlineExceededError: the caller's time is up.
            FarmIntelError: the last attempt's error.

        """
        ...

    async def acall[T](
        self,
        operation: Operation,
        attempt: Callable[[], Awaitable[T]],
        *,
        units: float = 0.0,
        give_up: GiveUp | None = None,
    ) -> T:
        """Return what the awaitable of `attempt` gives; see `call`."""
        ...

    def settle(self, operation: Operation, *, reserved: float, actual: float) -> None:
        """Correct a reservation by what the provider says the call cost."""
        ...

    def remaining_s(self, default_s: float) -> float:
        """Return how long one try may take now: `default_s`, or less where the caller's deadline is nearer."""
        ...


class PlainGuard:
    """Retries and nothing else: for tests of adapters and for tools that talk to one server of their own."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def call[T](
        self,
        operation: Operation,  # noqa: ARG002 - the interface's
        attempt: Callable[[], T],
        *,
        units: float = 0.0,  # noqa: ARG002 - the interface's
        give_up: GiveUp | None = None,
    ) -> T:
        """Return what `attempt` returns after retries."""
        return self._policy.call(attempt, give_up=give_up)

    async def acall[T](
        self,
        operation: Operation,  # noqa: ARG002 - the interface's
        attempt: Callable[[], Awaitable[T]],
        *,
        units: float = 0.0,  # noqa: ARG002 - the interface's
        give_up: GiveUp | None = None,
    ) -> T:
        """Return what the awaitable of `attempt` gives after retries."""
        return await self._policy.acall(attempt, give_up=give_up)

    def settle(self, operation: Operation, *, reserved: float, actual: float) -> None:
        """Nothing is accounted."""

    def remaining_s(self, default_s: float) -> float:
        """Return the default: there is no deadline."""
        return default_s
