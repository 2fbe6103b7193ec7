"""`CallGuard` as it is in production: every try passes deadline, breaker, budget and rate, in that order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farm_intel.domain.errors import (
    BadRequestError,
    BudgetExceededError,
    DeadlineExceededError,
    FarmIntelError,
    NotConfiguredError,
    ProviderDownError,
    StoreError,
    ThrottledError,
    TransientError,
)
from farm_intel.resilience import deadlines
from farm_intel.resilience.breaker import CircuitBreaker, Permit, ProbeUnderwayError
from farm_intel.resilience.budget import BudgetLedger
from farm_intel.resilience.clock import Sleeper
from farm_intel.resilience.events import CallCounters, CallEvent, CallResult, OnEvent
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.limiter import RateLimiter, Ticket
from farm_intel.resilience.retry import GiveUp, RetryPolicy
from farm_intel.resilience.state import Reservation

_LOG = logging.getLogger("farm_intel.guard")

_NOT_CHARGED = (ThrottledError, BadRequestError, NotConfiguredError, ProviderDownError)
"""The host refused before it did any work; after a timeout or a 5xx it may have done all of it, so that counts."""
_PROBE_WAIT_S = 5.0
"""How long a caller waits for another one's probe: without, the first block after an outage would lose every read
beside the probe; much longer, and a host that hangs would hold up the next provider."""
_PROBE_LOOK_S = 0.05


@dataclass(slots=True)
class _Try:
    """One try under way and what it holds."""

    operation: Operation
    retry: int
    units: float
    permit: Permit
    reservation: Reservation | None = None
    ticket: Ticket | None = None
    began_s: float | None = None


class GuardedCalls:
    """Implements `CallGuard`; one per process, used by any thread and event loop."""

    def __init__(
        self,
        *,
        breaker: CircuitBreaker,
        limiter: RateLimiter,
        ledger: BudgetLedger,
        policy: RetryPolicy,
        clock: Sleeper,
        on_event: OnEvent | None = None,
    ) -> None:
        """Put the protections together.

        Args:
            breaker: of all hosts.
            limiter: of all providers.
            ledger: of the providers that cost money; asked only for calls with units.
            policy: how often a transient failure is tried again.
            clock: measures how long tries take.
            on_event: told of every try, besides `counters`.

        """
        self.counters = CallCounters()
        self._breaker = breaker
        self._limiter = limiter
        self._ledger = ledger
        self._policy = policy
        self._clock = clock
        self._on_event = on_event

    def call[T](
        self, operation: Operation, attempt: Callable[[], T], *, units: float = 0.0, give_up: GiveUp | None = None
    ) -> T:
        """Return what `attempt` returns, within the caller's deadline and after retries; see `CallGuard.call`."""
        try:
            return self._once(operation, attempt, units, 0)
        except TransientError as error:
            # the machinery of retries costs more than a range read: it starts with the first failure
            first: list[TransientError] = [error]
        tries = iter(range(1, 1_000_000))

        def again() -> T:
            if first:
                raise first.pop()
            return self._once(operation, attempt, units, next(tries))

        return self._policy.call(again, give_up=give_up)

    async def acall[T](
        self,
        operation: Operation,
        attempt: Callable[[], Awaitable[T]],
        *,
        units: float = 0.0,
        give_up: GiveUp | None = None,
    ) -> T:
        """Return what the awaitable of `attempt` gives; see `call`."""
        try:
            return await self._aonce(operation, attempt, units, 0)
        except TransientError as error:
            first: list[TransientError] = [error]
        tries = iter(range(1, 1_000_000))

        async def again() -> T:
            if first:
                raise first.pop()
            return await self._aonce(operation, attempt, units, next(tries))

        return await self._policy.acall(again, give_up=give_up)

    def settle(self, operation: Operation, *, reserved: float, actual: float) -> None:
        """Correct a try that went well by what the provider says it cost."""
        with _books_may_wait(operation):
            self._ledger.correct(operation.provider, reserved=reserved, actual=actual)

    def remaining_s(self, default_s: float) -> float:
        """Return how long one try may take now."""
        left_s = deadlines.remaining_s()
        # never 0: to many clients a timeout of 0 means none
        return default_s if left_s is None else max(0.001, min(default_s, left_s))

    # --- one try --------------------------------------------------------------------------------------------------

    def _once[T](self, operation: Operation, attempt: Callable[[], T], units: float, retry: int) -> T:
        one = self._begin(operation, units, retry)
        try:
            one.ticket = self._limiter.enter(operation)
            self._start(one)
            answer = attempt()
        except BaseException as error:
            self._end(one, error)
            raise
        self._end(one, None)
        return answer

    async def _aonce[T](self, operation: Operation, attempt: Callable[[], Awaitable[T]], units: float, retry: int) -> T:
        one = await self._abegin(operation, units, retry)
        try:
            one.ticket = await self._limiter.aenter(operation)
            self._start(one)
            answer = await attempt()
        except BaseException as error:
            await self._aend(one, error)
            raise
        await self._aend(one, None)
        return answer

    def _begin(self, operation: Operation, units: float, retry: int) -> _Try:
        """Pass the deadline, the breaker and the budget; wait a little for another caller's probe."""
        until_s = self._clock.monotonic_s() + _PROBE_WAIT_S
        while True:
            try:
                return self._enter(operation, units, retry)
            except ProbeUnderwayError as error:
                self._wait_on(operation, error, retry, until_s)
            self._clock.sleep(_PROBE_LOOK_S)

    def _wait_on(self, operation: Operation, error: ProbeUnderwayError, retry: int, until_s: float) -> None:
        """Raise what happened where waiting for the probe has taken too long."""
        if self._clock.monotonic_s() >= until_s:
            self._tell(operation, error, retry=retry, units=0.0)
            raise error

    def _enter(self, operation: Operation, units: float, retry: int) -> _Try:
        """Pass the deadline, the breaker and the budget, or be told why not."""
        try:
            deadlines.check(f"{operation.provider} {operation.name} at {operation.host}")
            permit = self._breaker.admit_at_once(operation) or self._breaker.admit(operation)
        except ProbeUnderwayError:
            raise
        except (DeadlineExceededError, ProviderDownError) as error:
            self._tell(operation, error, retry=retry, units=0.0)
            raise
        one = _Try(operation, retry, units, permit)
        if units > 0.0:
            try:
                one.reservation = self._ledger.reserve(operation.provider, units)
            except BaseException as error:
                self._end(one, error)
                raise
        return one

    def _start(self, one: _Try) -> None:
        """Begin the try itself; its turn may have come too late."""
        operation = one.operation
        deadlines.check(f"{operation.provider} {operation.name} at {operation.host}")
        one.began_s = self._clock.monotonic_s()

    def _end(self, one: _Try, error: BaseException | None) -> None:
        """Give everything back and tell of it; a try that never began cost nothing and says nothing of the host."""
        began = one.began_s is not None
        seconds = 0.0 if one.began_s is None else self._clock.monotonic_s() - one.began_s
        waited_s = 0.0
        if one.ticket is not None:
            waited_s = one.ticket.waited_s
            with _books_may_wait(one.operation):
                self._limiter.leave(one.ticket)
        if not began:
            self._breaker.released(one.permit)
        elif error is None:
            self._breaker.succeeded(one.permit)
        else:
            self._breaker.failed(one.permit, error)
        if began and isinstance(error, ThrottledError) and error.retry_after_s is not None:
            with _books_may_wait(one.operation):
                self._limiter.hold_off(one.operation, error.retry_after_s)
        if one.reservation is not None:
            self._pay(one.operation, one.reservation, charged=began and not isinstance(error, _NOT_CHARGED))
        self._tell(one.operation, error, retry=one.retry, units=one.units, seconds=seconds, waited_s=waited_s)

    def _pay(self, operation: Operation, reservation: Reservation, *, charged: bool) -> None:
        with _books_may_wait(operation):
            if charged:
                self._ledger.settle(reservation, reservation.units)
            else:
                self._ledger.release(reservation)

    def _tell(
        self,
        operation: Operation,
        error: BaseException | None,
        *,
        retry: int,
        units: float,
        seconds: float = 0.0,
        waited_s: float = 0.0,
    ) -> None:
        event = CallEvent(
            operation.provider,
            operation.host,
            operation.name,
            CallResult.OK if error is None else _result(error),
            seconds,
            waited_s,
            retry,
            units,
            "" if error is None else str(error),
        )
        self.counters(event)
        if self._on_event is not None:
            self._on_event(event)

    # --- event loops: what may wait for a database runs beside them -------------------------------------------------

    async def _abegin(self, operation: Operation, units: float, retry: int) -> _Try:
        # not in the threads, which are few: the probe's own end needs one
        until_s = self._clock.monotonic_s() + _PROBE_WAIT_S
        while True:
            try:
                return await self._aenter(operation, units, retry)
            except ProbeUnderwayError as error:
                self._wait_on(operation, error, retry, until_s)
            await self._clock.asleep(_PROBE_LOOK_S)

    async def _aenter(self, operation: Operation, units: float, retry: int) -> _Try:
        if units <= 0.0 and self._warm(operation):
            return self._enter(operation, units, retry)
        beginning = asyncio.ensure_future(asyncio.to_thread(self._enter, operation, units, retry))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # the thread cannot be stopped; what it gets goes back as soon as it has it
            beginning.add_done_callback(self._give_back)
            raise

    async def _aend(self, one: _Try, error: BaseException | None) -> None:
        if self._ends_at_once(one, error):
            self._end(one, error)
        else:
            await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(self._end, one, error)))

    def _ends_at_once(self, one: _Try, error: BaseException | None) -> bool:
        shared = one.ticket is not None and self._limiter.shares(one.operation.provider)
        return error is None and not shared and one.reservation is None and self._warm(one.operation)

    def _give_back(self, done: asyncio.Future[_Try]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._end(done.result(), asyncio.CancelledError())

    def _warm(self, operation: Operation) -> bool:
        """Return whether the breaker is closed and can be passed without a look at the store."""
        return self._breaker.admit_at_once(operation) is not None


def _result(error: BaseException) -> CallResult:
    kinds: tuple[tuple[type[BaseException], CallResult], ...] = (
        (ThrottledError, CallResult.THROTTLED),
        (ProviderDownError, CallResult.NOT_PERMITTED),
        (DeadlineExceededError, CallResult.TOO_LATE),
        (TransientError, CallResult.FAILED),
        (BudgetExceededError, CallResult.OVER_BUDGET),
        (StoreError, CallResult.BROKEN_OFF),
        (FarmIntelError, CallResult.REFUSED),
    )
    return next((result for kind, result in kinds if isinstance(error, kind)), CallResult.BROKEN_OFF)


@contextmanager
def _books_may_wait(operation: Operation) -> Iterator[None]:
    """Let an answer that was paid for reach the caller even if it cannot be written down: what is held expires."""
    try:
        yield
    except StoreError as error:
        _LOG.warning("what %s %s cost or holds could not be written: %s", operation.provider, operation.name, error)
