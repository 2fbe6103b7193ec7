"""What is tried again, how often, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from farm_intel.domain.errors import FarmIntelError, PermanentError, ThrottledError, TransientError
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.retry import RetryPolicy, without_waiting


class Flaky:
    """Fails with the given errors, then succeeds."""

    def __init__(self, *errors: FarmIntelError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def later(self) -> str:
        return self()


def test_transient_failures_are_tried_again_until_one_attempt_succeeds() -> None:
    function = Flaky(TransientError("one"), TransientError("two"))

    with without_waiting():
        assert RetryPolicy(retries=2).call(function) == "done"

    assert function.calls == 3


def test_the_last_failure_comes_out_unchanged() -> None:
    last = TransientError("last")
    function = Flaky(TransientError("one"), last, TransientError("never"))

    with without_waiting(), pytest.raises(TransientError) as caught:
        RetryPolicy(retries=1).call(function)

    assert caught.value is last


def test_permanent_failures_are_raised_at_once() -> None:
    function = Flaky(PermanentError("no"))

    with without_waiting(), pytest.raises(PermanentError, match="no"):
        RetryPolicy(retries=5).call(function)

    assert function.calls == 1


def test_the_caller_may_give_up_early() -> None:
    function = Flaky(*(TransientError(str(n)) for n in range(9)))

    with without_waiting(), pytest.raises(TransientError, match="1"):
        RetryPolicy(retries=8).call(function, give_up=lambda error: str(error) == "1")

    assert function.calls == 2


@pytest.mark.parametrize(("asked_s", "calls"), [(0.3, 2), (5.0, 1)])
def test_a_server_that_names_the_pause_is_obeyed_up_to_a_limit(asked_s: float, calls: int) -> None:
    function = Flaky(ThrottledError("slow down", retry_after_s=asked_s))
    policy = RetryPolicy(retries=1, wait_initial_s=60, longest_retry_after_s=1.0)
    outcome: Callable[[], object] = lambda: policy.call(function)  # noqa: E731
    started = time.monotonic()

    if calls == 1:
        with pytest.raises(ThrottledError):
            outcome()
    else:
        assert outcome() == "done"

    assert function.calls == calls
    assert (asked_s if calls == 2 else 0) <= time.monotonic() - started < 5.0


def test_coroutines_are_retried_by_the_same_policy() -> None:
    function = Flaky(TransientError("one"))

    with without_waiting():
        assert asyncio.run(RetryPolicy(retries=1).acall(function.later)) == "done"

    assert function.calls == 2


def test_the_test_switch_caps_attempts_and_is_undone() -> None:
    capped = Flaky(*(TransientError(str(n)) for n in range(9)))
    with without_waiting(attempts=3), pytest.raises(TransientError):
        RetryPolicy(retries=8).call(capped)

    waiting = Flaky(TransientError("one"))
    started = time.monotonic()
    RetryPolicy(retries=1, wait_initial_s=0.2, wait_jitter_s=0).call(waiting)

    assert capped.calls == 3
    assert time.monotonic() - started >= 0.2


def test_the_system_clock_is_utc_and_monotonic() -> None:
    clock = SystemClock()

    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 5
    assert clock.monotonic_s() <= clock.monotonic_s()
