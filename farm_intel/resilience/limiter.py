"""How often, and how many at once: a rate and a number of calls under way per provider and host.

A provider that allows a few calls a second is limited over all processes, through a shared store; range reads are
limited within the process, because a round trip to a database would cost more than the read. A server that says when
to come back (Retry-After) is obeyed by everybody who shares the store, those who already wait included.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping
from dataclasses import dataclass

from farm_intel.domain.errors import DeadlineExceededError, ThrottledError
from farm_intel.resilience import deadlines
from farm_intel.resilience.clock import Sleeper
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.memory import MemoryRates
from farm_intel.resilience.state import Bucket, RateStore

_POLL_S = (0.01, 0.5)
"""First and longest pause between two looks for a free place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one provider's hosts allow."""

    calls_per_s: float | None = None
    """None: as fast as it goes."""
    burst: int = 1
    """Calls that may come at once after a pause."""
    at_once: int | None = None
    """Calls under way at the same time; None: no limit."""
    shared: bool = False
    """True: over all processes. For providers that allow few calls, never for range reads."""
    lease_s: float = 300.0
    """How long a call counts as under way if its process dies."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call under way; goes back to the limiter when it ends."""

    bucket: Bucket
    store: RateStore
    token: str | None
    waited_s: float


class RateLimiter:
    """The rates of all providers."""

    def __init__(
        self,
        rates: Mapping[str, Rate],
        *,
        shared: RateStore | None = None,
        clock: Sleeper,
        longest_wait_s: float = 120.0,
    ) -> None:
        """Limit providers by name.

        Args:
            rates: provider -> rate; a provider without one is only held up by its own Retry-After.
            shared: where rates with `shared` are kept; None keeps them in this process.
            clock: the wall clock, and what sleeps.
            longest_wait_s: a caller who would have to wait longer is told so at once.

        """
        self._rates = dict(rates)
        self._local = MemoryRates()
        self._shared = shared or self._local
        self._clock = clock
        self._longest_wait_s = longest_wait_s
        self._known: dict[tuple[str, str], tuple[Bucket, Rate, RateStore]] = {}
        self._free = Rate()

    def shares(self, provider: str) -> bool:
        """Return whether entering may touch a store outside this process."""
        return self._rates.get(provider, self._free).shared and self._shared is not self._local

    def enter(self, operation: Operation) -> Ticket:
        """Wait for a turn and return it, to be given to `leave`.

        Raises:
            ThrottledError: the turn is farther away than anybody should wait.
            DeadlineExceededError: the turn comes after the caller's deadline.
            StoreError: the shared store cannot answer.

        """
        steps = self._steps(operation)
        try:
            while True:
                self._clock.sleep(next(steps))
        except StopIteration as end:
            ticket: Ticket = end.value
            return ticket

    async def aenter(self, operation: Operation) -> Ticket:
        """Wait for a turn without keeping the event loop; see `enter`."""
        import asyncio

        steps = self._steps(operation)
        step = (lambda: asyncio.to_thread(_step, steps)) if self.shares(operation.provider) else None
        while True:
            outcome = _step(steps) if step is None else await step()
            if isinstance(outcome, Ticket):
                return outcome
            await self._clock.asleep(outcome)

    def leave(self, ticket: Ticket) -> None:
        """End a call."""
        if ticket.token is not None:
            ticket.store.leave(ticket.token)

    def hold_off(self, operation: Operation, seconds: float) -> None:
        """Obey a Retry-After: nobody calls the host for so long."""
        bucket, _, store = self._bucket(operation)
        store.hold_off(bucket, self._now_s() + seconds)

    def _bucket(self, operation: Operation) -> tuple[Bucket, Rate, RateStore]:
        key = (operation.provider, operation.host)
        known = self._known.get(key)
        if known is None:
            rate = self._rates.get(operation.provider, self._free)
            bucket = Bucket(
                provider=operation.provider,
                host=operation.host,
                interval_s=0.0 if rate.calls_per_s is None else 1.0 / rate.calls_per_s,
                burst=rate.burst,
            )
            known = self._known[key] = (bucket, rate, self._shared if rate.shared else self._local)
        return known

    def _steps(self, operation: Operation) -> Generator[float, None, Ticket]:
        """Yield the seconds to sleep until the turn has come; return its ticket."""
        bucket, rate, store = self._bucket(operation)
        began_s = self._now_s()
        token: str | None = None
        if rate.at_once is not None:
            token = yield from self._place(operation, bucket, rate, store)
        try:
            yield from self._slot(operation, bucket, store)
        except BaseException:
            if token is not None:
                store.leave(token)
            raise
        return Ticket(bucket, store, token, self._now_s() - began_s)

    def _place(self, operation: Operation, bucket: Bucket, rate: Rate, store: RateStore) -> Generator[float, None, str]:
        """Wait until fewer than `at_once` calls are under way."""
        latest_s = self._latest_s()
        pause_s, longest_s = _POLL_S
        while True:
            now_s = self._now_s()
            token = store.enter(bucket, limit=rate.at_once or 1, now_s=now_s, lease_s=rate.lease_s)
            if token is not None:
                return token
            if now_s + pause_s > latest_s:
                raise self._too_late(operation, f"{rate.at_once} calls are under way already", pause_s)
            yield pause_s * (0.5 + secrets.randbelow(1000) / 1000)
            pause_s = min(longest_s, 2 * pause_s)

    def _slot(self, operation: Operation, bucket: Bucket, store: RateStore) -> Generator[float, None, None]:
        """Take a slot and wait for it; a Retry-After that came meanwhile costs a new one."""
        latest_s = self._latest_s()
        while True:
            now_s = self._now_s()
            slot_s = store.take(bucket, now_s=now_s, latest_s=latest_s)
            if slot_s <= now_s:
                return
            if slot_s > latest_s:
                raise self._too_late(operation, "the rate allows the next call only later", slot_s - now_s)
            while (left_s := slot_s - self._now_s()) > 0.0:
                yield left_s
            if store.not_before_s(bucket) <= slot_s:
                return

    def _latest_s(self) -> float:
        left_s = deadlines.remaining_s()
        wait_s = self._longest_wait_s if left_s is None else min(left_s, self._longest_wait_s)
        return self._now_s() + wait_s

    def _too_late(self, operation: Operation, why: str, wait_s: float) -> ThrottledError | DeadlineExceededError:
        left_s = deadlines.remaining_s()
        text = f"{operation.provider} {operation.name} at {operation.host} was not asked: {why}, in {wait_s:.1f} s"
        if left_s is not None and left_s < self._longest_wait_s:
            return DeadlineExceededError(f"{text}; {left_s:.1f} s are left", hint="Allow more time.")
        return ThrottledError(text, retry_after_s=wait_s, hint="Try again later, or run fewer processes at once.")

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _step(steps: Generator[float, None, Ticket]) -> float | Ticket:
    try:
        return next(steps)
    except StopIteration as end:
        ticket: Ticket = end.value
        return ticket
