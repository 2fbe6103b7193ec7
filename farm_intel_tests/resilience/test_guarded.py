"""The protections together: order, every try for itself, nothing kept, everything told."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from farm_intel.domain.errors import (
    BadRequestError,
    BudgetExceededError,
    DeadlineExceededError,
    FarmIntelError,
    ProviderDownError,
    ThrottledError,
    TransientError,
)
from farm_intel.resilience import deadlines
from farm_intel.resilience.breaker import BreakerRule
from farm_intel.resilience.events import CallResult
from farm_intel.resilience.guard import CallGuard
from farm_intel.resilience.limiter import Rate
from farm_intel.resilience.memory import MemoryBreakers, MemoryBudgets
from farm_intel.resilience.retry import without_waiting
from farm_intel.resilience.state import BreakerState
from farm_intel_tests.resilience.support import PROCESS, SEARCH, Parts, Unreachable


class Host:
    """Answers with what is planned, then with `fine`; counts."""

    def __init__(self, *plan: BaseException) -> None:
        self.plan = list(plan)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.plan:
            raise self.plan.pop(0)
        return "fine"

    async def later(self) -> str:
        return self()


type Ask = Callable[..., str]


@pytest.fixture(params=["call", "acall"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Return one of the two ways to call a host through a guard."""

    def by_call(parts: Parts, host: Host, operation: Any = PROCESS, **options: Any) -> str:
        return parts.guard.call(operation, host, **options)

    def by_acall(parts: Parts, host: Host, operation: Any = PROCESS, **options: Any) -> str:
        return asyncio.run(parts.guard.acall(operation, host.later, **options))

    return by_call if request.param == "call" else by_acall


def test_it_is_a_call_guard() -> None:
    guard: CallGuard = Parts().guard
    assert guard.remaining_s(30.0) == 30.0


def test_a_good_call_is_made_once_paid_and_told(ask: Ask) -> None:
    parts, host = Parts(), Host()

    assert ask(parts, host, units=5.0) == "fine"

    assert host.asked == 1
    assert parts.ledger.spent("hub") == 5.0
    (event,) = parts.events
    assert (event.provider, event.host, event.operation) == ("hub", "hub.example", "process")
    assert (event.result, event.retry, event.units, event.error) == (CallResult.OK, 0, 5.0, "")


def test_every_try_counts_for_breaker_budget_and_events(ask: Ask) -> None:
    parts, host = Parts(retries=5), Host(TransientError("502"), TransientError("503"))

    with without_waiting():
        assert ask(parts, host, units=5.0) == "fine"

    assert parts.ledger.spent("hub") == 15.0
    assert [(event.result, event.retry) for event in parts.events] == [
        (CallResult.FAILED, 0),
        (CallResult.FAILED, 1),
        (CallResult.OK, 2),
    ]
    counts = {count.result: (count.calls, count.retries) for count in parts.guard.counters.counts()}
    assert counts == {CallResult.FAILED: (2, 1), CallResult.OK: (1, 1)}


def test_retries_stop_as_soon_as_the_breaker_opens(ask: Ask) -> None:
    parts, host = Parts(retries=9), Host(*(TransientError("503") for _ in range(10)))

    with without_waiting(), pytest.raises(ProviderDownError, match="503"):
        ask(parts, host)

    assert host.asked == 3
    with pytest.raises(ProviderDownError):
        ask(parts, host)
    assert host.asked == 3
    assert parts.events[-1].result is CallResult.NOT_PERMITTED


@pytest.mark.parametrize(
    ("error", "spent", "result"),
    [
        (TransientError("timed out"), 5.0, CallResult.FAILED),
        (ThrottledError("429"), 0.0, CallResult.THROTTLED),
        (BadRequestError("400"), 0.0, CallResult.REFUSED),
        (ZeroDivisionError("ours"), 5.0, CallResult.BROKEN_OFF),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_a_host_did_not_do_is_not_paid(ask: Ask, error: Exception, spent: float, result: CallResult) -> None:
    parts = Parts()

    with pytest.raises(type(error)):
        ask(parts, Host(error), units=5.0)

    (status,) = parts.ledger.status()
    assert (status.spent, status.reserved) == (spent, 0.0)
    assert parts.events[-1].result is result


def test_the_breaker_comes_before_the_budget_and_the_budget_before_the_rate(ask: Ask) -> None:
    parts = Parts(units=4.0, rates={"hub": Rate(calls_per_s=0.01)})
    host = Host(*(TransientError("503") for _ in range(3)))
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            ask(parts, host, units=5.0)
    assert parts.time.slept == []
    for _ in range(3):
        with pytest.raises(TransientError):
            ask(parts, host)
        parts.time.advance(100.0)
    parts.breaker.reset(PROCESS)
    with pytest.raises(BudgetExceededError):
        ask(parts, host, units=5.0)

    assert host.asked == 3
    assert parts.events[-1].result is CallResult.OVER_BUDGET


def test_a_probe_without_budget_gives_way_to_another(ask: Ask) -> None:
    parts = Parts(units=4.0)
    host = Host(*(TransientError("503") for _ in range(3)))
    for _ in range(3):
        with pytest.raises(TransientError):
            ask(parts, host)
    parts.time.advance(6.0)

    with pytest.raises(BudgetExceededError):
        ask(parts, host, units=5.0)

    assert ask(parts, host) == "fine"
    assert parts.breaker.state(PROCESS) is BreakerState.CLOSED


def test_a_retry_after_is_waited_for_by_other_calls(ask: Ask) -> None:
    parts, host = Parts(), Host(ThrottledError("429", retry_after_s=9.0))
    with pytest.raises(ThrottledError):
        ask(parts, host)

    assert ask(parts, host) == "fine"

    assert sum(parts.time.slept) == pytest.approx(9.0, abs=1e-4)
    assert parts.events[-1].waited_s == pytest.approx(9.0, abs=1e-4)
    assert parts.breaker.state(PROCESS) is BreakerState.CLOSED


def test_nothing_is_asked_after_the_deadline(ask: Ask) -> None:
    parts, host = Parts(), Host()

    with deadlines.deadline(5.0, monotonic_s=parts.time.monotonic_s):
        assert parts.guard.remaining_s(30.0) == pytest.approx(5.0, abs=1e-3)
        parts.time.advance(5.0)
        with pytest.raises(DeadlineExceededError, match=r"no time is left for hub process at hub\.example"):
            ask(parts, host)
        assert 0.0 < parts.guard.remaining_s(30.0) <= 0.001

    assert host.asked == 0
    assert parts.events[-1].result is CallResult.TOO_LATE


def test_the_deadline_comes_before_everything_else(ask: Ask) -> None:
    """Neither the breaker's store nor the books are touched for a caller who has left."""
    parts = Parts(units=1.0, budgets=Unreachable())

    with deadlines.deadline(5.0, monotonic_s=parts.time.monotonic_s):
        parts.time.advance(5.0)
        with pytest.raises(DeadlineExceededError):
            ask(parts, Host(), units=5.0)


def test_no_retry_waits_past_the_deadline(ask: Ask) -> None:
    """The first wait is half a second at least; the last failure comes out at once instead."""
    parts, host = Parts(retries=5), Host(*(TransientError("503") for _ in range(2)))

    with deadlines.deadline(0.3), pytest.raises(TransientError, match="503"):
        ask(parts, host)

    assert host.asked == 1


def test_a_caller_may_know_better_than_to_retry(ask: Ask) -> None:
    parts, host = Parts(retries=5), Host(TransientError("504"))

    with without_waiting(), pytest.raises(TransientError, match="504"):
        ask(parts, host, give_up=lambda error: error.message == "504")

    assert host.asked == 1


def test_what_the_provider_says_it_cost_replaces_the_estimate() -> None:
    parts = Parts()
    parts.guard.call(PROCESS, Host(), units=5.0)

    parts.guard.settle(PROCESS, reserved=5.0, actual=1.25)

    assert parts.ledger.spent("hub") == 1.25


class ForgetsToWrite(MemoryBudgets):
    """Takes reservations and then loses the database."""

    settle = correct = release = Unreachable().settle  # type: ignore[assignment]


def test_an_answer_reaches_the_caller_even_if_its_cost_cannot_be_written(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(budgets=ForgetsToWrite())

    with caplog.at_level(logging.WARNING, logger="farm_intel.guard"):
        assert ask(parts, Host(), units=60.0) == "fine"

    assert "could not be written" in caplog.text
    with pytest.raises(BudgetExceededError):
        ask(parts, Host(), units=60.0)  # it still counts


def test_a_free_call_works_without_any_database(ask: Ask) -> None:
    parts = Parts(breakers=Unreachable(), budgets=Unreachable())

    assert ask(parts, Host(), SEARCH) == "fine"


def test_a_cancelled_call_gives_everything_back() -> None:
    parts = Parts(rates={"hub": Rate(at_once=1)}, rule=BreakerRule(failures=1, jitter=0.0))
    with pytest.raises(TransientError):
        parts.guard.call(PROCESS, Host(TransientError("503")))
    parts.time.advance(6.0)

    async def cancel() -> None:
        begun = asyncio.Event()

        async def hang() -> str:
            begun.set()
            await asyncio.Event().wait()
            return "never"

        task = asyncio.create_task(parts.guard.acall(PROCESS, hang, units=5.0))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())

    assert parts.events[-1].result is CallResult.BROKEN_OFF
    assert parts.ledger.status()[0].reserved == 0.0
    assert parts.guard.call(PROCESS, Host()) == "fine"  # the probe and the only place are free again


def test_a_slow_store_does_not_keep_the_event_loop() -> None:
    """Failures are written down; while that takes its time, other coroutines go on."""
    writing = threading.Event()

    class Slow(MemoryBreakers):
        def compare_and_set(self, *args: Any) -> bool:
            assert writing.wait(5.0)
            return super().compare_and_set(*args)

    parts = Parts(breakers=Slow())

    async def main() -> None:
        failing = asyncio.create_task(parts.guard.acall(PROCESS, Host(TransientError("503")).later))
        await asyncio.sleep(0.05)
        assert not failing.done()
        writing.set()
        with pytest.raises(FarmIntelError):
            await failing

    asyncio.run(main())


def test_many_threads_make_many_calls() -> None:
    parts = Parts(rates={"hub": Rate(at_once=64)})

    def work() -> None:
        for _ in range(200):
            parts.guard.call(PROCESS, Host())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (count,) = parts.guard.counters.counts()
    assert (count.calls, count.result) == (1600, CallResult.OK)


def test_callers_beside_a_probe_wait_for_its_answer(ask: Ask) -> None:
    """The first block after an outage reads much at once: only one read probes, the others must not be lost."""
    parts = Parts(rule=BreakerRule(failures=1, open_s=5.0, jitter=0.0))
    with pytest.raises(TransientError):
        ask(parts, Host(TransientError("503")))
    parts.time.advance(6.0)
    probe = parts.breaker.admit(PROCESS)
    assert probe.probe_token is not None
    looks: list[float] = []
    sleep = parts.time.sleep

    class Answered(Host):
        """Asked only once the probe is back."""

        def __call__(self) -> str:
            looks.extend(parts.time.slept)
            return super().__call__()

    def pass_time(seconds: float) -> None:
        sleep(seconds)
        if len(parts.time.slept) == 3:
            parts.breaker.succeeded(probe)

    parts.time.sleep = pass_time  # type: ignore[method-assign]  # the probe comes back while the caller waits
    assert ask(parts, Answered()) == "fine"
    assert 0.0 < sum(looks) < 1.0


def test_a_probe_that_hangs_is_not_waited_for_long(ask: Ask) -> None:
    parts, host = Parts(rule=BreakerRule(failures=1, open_s=5.0, jitter=0.0)), Host()
    with pytest.raises(TransientError):
        ask(parts, Host(TransientError("503")))
    parts.time.advance(6.0)
    parts.breaker.admit(PROCESS)

    with pytest.raises(ProviderDownError):
        ask(parts, host)

    assert host.asked == 0
    assert sum(parts.time.slept) < 6.0
    assert [event.result for event in parts.events].count(CallResult.NOT_PERMITTED) == 1
