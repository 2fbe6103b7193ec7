"""How often and how many at once; Retry-After for everybody."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.domain.errors import DeadlineExceededError, ThrottledError
from farm_intel.resilience import deadlines
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.limiter import Rate, RateLimiter
from farm_intel.resilience.memory import MemoryRates
from farm_intel_tests.resilience.support import PROCESS, SEARCH, FakeTime


def limiter(clock: FakeTime, *, longest_wait_s: float = 120.0, **rate: Any) -> RateLimiter:
    return RateLimiter({"hub": Rate(**rate)}, clock=clock, longest_wait_s=longest_wait_s)


def test_calls_come_in_bursts_and_then_at_the_rate() -> None:
    clock = FakeTime()
    began = clock.monotonic_s()
    rates = limiter(clock, calls_per_s=2.0, burst=3)
    instants = []
    for _ in range(7):
        rates.enter(PROCESS)
        instants.append(clock.monotonic_s() - began)

    assert instants == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0], abs=1e-4)


@given(
    pauses=st.lists(st.floats(0.0, 3.0), min_size=2, max_size=40),
    burst=st.integers(1, 5),
    rate=st.sampled_from([0.5, 2.0, 10.0]),
)
@settings(max_examples=60, deadline=None)
def test_no_window_holds_more_calls_than_burst_and_rate_allow(pauses: list[float], burst: int, rate: float) -> None:
    clock = FakeTime()
    rates = limiter(clock, calls_per_s=rate, burst=burst)
    instants = []
    for pause in pauses:
        clock.advance(pause)
        rates.enter(PROCESS)
        instants.append(clock.monotonic_s())

    for first in range(len(instants)):
        for last in range(first, len(instants)):
            allowed = burst + rate * (instants[last] - instants[first])
            assert last - first + 1 <= allowed + 1e-3


def test_a_provider_without_a_rate_never_waits() -> None:
    clock = FakeTime()
    rates = limiter(clock, calls_per_s=1.0)
    for _ in range(1000):
        rates.leave(rates.enter(SEARCH))

    assert clock.slept == []


def test_a_retry_after_holds_for_everybody_who_shares_the_store() -> None:
    clock, shared = FakeTime(), MemoryRates()
    one, other = (
        RateLimiter({"hub": Rate(calls_per_s=10.0, shared=True)}, shared=shared, clock=clock) for _ in range(2)
    )
    began = clock.monotonic_s()

    one.hold_off(PROCESS, 7.0)
    other.enter(PROCESS)

    assert clock.monotonic_s() - began == pytest.approx(7.0, abs=1e-4)


def test_a_retry_after_without_a_rate_is_obeyed_too_and_only_for_its_host() -> None:
    clock = FakeTime()
    rates = RateLimiter({}, clock=clock)
    rates.hold_off(SEARCH, 5.0)
    rates.enter(Operation(provider="stac", host="other.example", name="search"))
    assert clock.slept == []

    rates.enter(SEARCH)

    assert sum(clock.slept) == pytest.approx(5.0, abs=1e-4)


class Interrupted(FakeTime):
    """Somebody else is throttled while we sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile = lambda: None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()


def test_a_retry_after_that_comes_while_one_waits_is_obeyed() -> None:
    clock = Interrupted()
    rates = limiter(clock, calls_per_s=1.0)
    began = clock.monotonic_s()
    rates.enter(PROCESS)
    clock.meanwhile = lambda: rates.hold_off(PROCESS, 20.0)

    rates.enter(PROCESS)

    assert clock.monotonic_s() - began >= 21.0 - 1e-4


def test_who_would_wait_past_the_deadline_is_told_at_once_and_takes_nothing() -> None:
    clock = FakeTime()
    rates = limiter(clock, calls_per_s=0.1)
    rates.enter(PROCESS)

    with deadlines.deadline(5.0, monotonic_s=clock.monotonic_s), pytest.raises(DeadlineExceededError, match=r"5\.0 s"):
        rates.enter(PROCESS)

    assert clock.slept == []
    rates.enter(PROCESS)
    assert sum(clock.slept) == pytest.approx(10.0, abs=1e-4)


def test_nobody_waits_longer_than_anybody_should() -> None:
    clock = FakeTime()
    rates = limiter(clock, calls_per_s=1.0, longest_wait_s=30.0)
    rates.hold_off(PROCESS, 3600.0)

    with pytest.raises(ThrottledError) as caught:
        rates.enter(PROCESS)

    assert caught.value.retry_after_s == pytest.approx(3600.0)
    assert clock.slept == []


def test_only_so_many_are_under_way_and_a_dead_process_does_not_count_for_ever() -> None:
    clock = FakeTime()
    rates = limiter(clock, at_once=2, lease_s=60.0)
    tickets = [rates.enter(PROCESS) for _ in range(2)]
    with deadlines.deadline(1.0, monotonic_s=clock.monotonic_s), pytest.raises(DeadlineExceededError, match="2 calls"):
        rates.enter(PROCESS)

    rates.leave(tickets.pop())
    assert rates.enter(PROCESS).waited_s == pytest.approx(0.0, abs=1e-6)
    began = clock.monotonic_s()
    rates.enter(PROCESS)  # the others never come back

    assert 50.0 < clock.monotonic_s() - began < 62.0


def test_the_place_goes_back_where_the_slot_is_too_late() -> None:
    clock = FakeTime()
    rates = limiter(clock, calls_per_s=0.01, at_once=1)
    rates.leave(rates.enter(PROCESS))
    for _ in range(2):
        with deadlines.deadline(1.0, monotonic_s=clock.monotonic_s), pytest.raises(DeadlineExceededError, match="rate"):
            rates.enter(PROCESS)


def test_threads_and_coroutines_share_the_places() -> None:
    rates = RateLimiter({"hub": Rate(at_once=3)}, clock=SystemClock())
    lock, under_way, most = threading.Lock(), 0, 0

    def inside(step: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += step
            most = max(most, under_way)

    def by_thread() -> None:
        for _ in range(5):
            ticket = rates.enter(PROCESS)
            inside(1)
            inside(-1)
            rates.leave(ticket)

    async def by_coroutine() -> None:
        ticket = await rates.aenter(PROCESS)
        inside(1)
        await asyncio.sleep(0.001)
        inside(-1)
        rates.leave(ticket)

    async def all_coroutines() -> None:
        await asyncio.gather(*(by_coroutine() for _ in range(20)))

    threads = [threading.Thread(target=by_thread) for _ in range(8)]
    for thread in threads:
        thread.start()
    asyncio.run(all_coroutines())
    for thread in threads:
        thread.join()

    assert 1 < most <= 3
