"""The caller's time, known to all that is called."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from farm_intel.domain.errors import BadRequestError, DeadlineExceededError
from farm_intel.resilience.deadlines import carried, check, deadline, remaining_s
from farm_intel_tests.resilience.support import FakeTime


def test_without_a_deadline_there_is_no_end() -> None:
    assert remaining_s() is None
    check("anything")


def test_time_runs_and_runs_out() -> None:
    clock = FakeTime()
    with deadline(10.0, monotonic_s=clock.monotonic_s):
        clock.advance(4.0)
        assert remaining_s() == pytest.approx(6.0)
        check("the next page")
        clock.advance(7.0)
        assert remaining_s() == 0.0
        with pytest.raises(DeadlineExceededError, match="no time is left for the next page"):
            check("the next page")
    assert remaining_s() is None


@pytest.mark.parametrize(("inner", "left"), [(3.0, 3.0), (30.0, 10.0)])
def test_the_nearer_of_two_holds(inner: float, left: float) -> None:
    clock = FakeTime()
    with deadline(10.0, monotonic_s=clock.monotonic_s):
        with deadline(inner, monotonic_s=clock.monotonic_s):
            assert remaining_s() == pytest.approx(left)
        assert remaining_s() == pytest.approx(10.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_time_at_all_is_a_mistake(seconds: float) -> None:
    with pytest.raises(BadRequestError), deadline(seconds):
        pass


def test_it_goes_with_coroutines_and_into_threads() -> None:
    async def inside() -> list[float | None]:
        return [remaining_s(), await asyncio.to_thread(remaining_s), *await asyncio.gather(nested(), nested())]

    async def nested() -> float | None:
        return remaining_s()

    with deadline(100.0):
        seen = asyncio.run(inside())
        with ThreadPoolExecutor(4) as pool:
            seen += pool.map(carried(lambda _: remaining_s()), range(8))

    assert len(seen) == 12
    assert all(left is not None and 90.0 < left <= 100.0 for left in seen)


def test_what_is_not_carried_is_not_known_to_a_thread() -> None:
    """The reason `carried` exists."""
    with deadline(100.0), ThreadPoolExecutor(1) as pool:
        assert pool.submit(remaining_s).result() is None
