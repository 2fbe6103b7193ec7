"""The breaker against a model of what it promises, under threads, and with each of its protections taken away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from farm_intel.domain.errors import (
    BadRequestError,
    DeadlineExceededError,
    ProviderDownError,
    StoreError,
    ThrottledError,
    TransientError,
)
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker, Permit
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.memory import MemoryBreakers
from farm_intel.resilience.state import BreakerRecord, BreakerState
from farm_intel_tests.resilience.support import SEARCH, FakeTime, Unreachable

RULE = BreakerRule(
    failures=3, rate_calls=10_000, open_s=10.0, open_max_s=20.0, jitter=0.0, probe_lease_s=30.0, cache_s=0.0
)
DOWN = TransientError("503")
ENDINGS = {
    "ok": None,
    "down": DOWN,
    "throttled": ThrottledError("429", retry_after_s=1.0),
    "bad request": BadRequestError("400"),
    "no time": DeadlineExceededError("late"),
    "bug": ZeroDivisionError(),
}
MakeBreaker = Callable[[Any, FakeTime], CircuitBreaker]


@dataclass
class Promise:
    """What the breaker promises, told from the calls and their endings alone."""

    failures: int = 0
    openings: int = 0
    open_until: datetime | None = None
    prober: Permit | None = None
    prober_dead_at: datetime | None = None

    def admits(self, now: datetime) -> bool:
        if self.open_until is None:
            return True
        waiting = self.prober is not None and self.prober_dead_at is not None and now < self.prober_dead_at
        return now >= self.open_until and not waiting

    def admitted(self, permit: Permit, now: datetime) -> None:
        if self.open_until is not None:
            self.prober, self.prober_dead_at = permit, now + timedelta(seconds=RULE.probe_lease_s)

    def ended(self, permit: Permit, ending: str, now: datetime) -> None:
        if self.open_until is None:
            self.failures = {"ok": 0, "down": self.failures + 1}.get(ending, self.failures)
            if self.failures >= RULE.failures:
                self.opens(now)
        elif permit is self.prober:
            self.prober = None
            if ending == "down":
                self.opens(now)
            elif ending in {"ok", "throttled", "bad request"}:
                self.open_until, self.openings = None, 0

    def opens(self, now: datetime) -> None:
        self.open_until = now + timedelta(seconds=min(RULE.open_max_s, RULE.open_s * 2**self.openings))
        self.openings, self.failures = self.openings + 1, 0


def machine(make: MakeBreaker, make_store: Callable[[], Any]) -> type[RuleBasedStateMachine]:
    """Return a machine of two processes that share a store."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.time = FakeTime()
            store = make_store()
            self.processes = [make(store, self.time) for _ in range(2)]
            self.promise = Promise()
            self.under_way: list[tuple[int, Permit]] = []

        @rule(process=st.integers(0, 1))
        def begin(self, process: int) -> None:
            now = self.time.now()
            promised = self.promise.admits(now)
            try:
                permit = self.processes[process].admit(SEARCH)
            except ProviderDownError:
                assert not promised, "refused a call although the host may be asked"
                return
            assert promised, "asked a host that is known to be down"
            self.promise.admitted(permit, now)
            self.under_way.append((process, permit))

        @precondition(lambda self: self.under_way)
        @rule(which=st.integers(0, 1000), ending=st.sampled_from([*ENDINGS, "down", "down", "crash"]))
        def end(self, which: int, ending: str) -> None:
            self.finish(which % len(self.under_way), ending)

        @rule(process=st.integers(0, 1), rounds=st.integers(1, 4))
        def stay_down(self, process: int, rounds: int) -> None:
            for _ in range(rounds):
                before = len(self.under_way)
                self.begin(process)
                if len(self.under_way) > before:
                    self.finish(before, "down")
                self.time.advance(20.0)

        def finish(self, place: int, ending: str) -> None:
            process, permit = self.under_way.pop(place)
            if ending == "crash":
                return
            error = ENDINGS[ending]
            if error is None:
                self.processes[process].succeeded(permit)
            else:
                self.processes[process].failed(permit, error)
            self.promise.ended(permit, ending, self.time.now())

        @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 30.0, 50.0]))
        def wait(self, seconds: float) -> None:
            self.time.advance(seconds)

        def teardown(self) -> None:
            self.time.advance(1000.0)
            for _ in range(2):
                self.processes[0].succeeded(self.processes[0].admit(SEARCH))
            assert self.processes[1].state(SEARCH) is BreakerState.CLOSED, "never came back"

    return Machine


def examine(make: MakeBreaker, make_store: Callable[[], Any] = MemoryBreakers, examples: int = 150) -> None:
    run_state_machine_as_test(
        machine(make, make_store),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            phases=[Phase.generate],  # shrinking would take most of the time
            suppress_health_check=list(HealthCheck),
        ),
    )


def plain(store: Any, clock: FakeTime, **changes: Any) -> CircuitBreaker:
    return CircuitBreaker(store, clock, replace(RULE, **changes), jitter=lambda: 0.5)


def test_the_breaker_keeps_its_promise() -> None:
    examine(plain)


# --- mutation partners: each takes one protection away, and the same examination turns red -------------------------


class LosesUpdates(MemoryBreakers):
    """Stores whatever comes, and tells everybody that they were first: no compare-and-set."""

    def load(self, operation: Operation) -> BreakerRecord:
        record = super().load(operation)
        return replace(record, probe_token=None, probe_until=None)

    def compare_and_set(self, operation: Operation, expected_version: int, record: BreakerRecord) -> bool:
        return super().compare_and_set(operation, super().load(operation).version, record)


class StaysHalfOpen(CircuitBreaker):
    """Forgets that a probe failed, as the original did."""

    def failed(self, permit: Permit, error: BaseException) -> None:
        if permit.probe_token is None:
            super().failed(permit, error)
        else:
            self.released(permit)


class CountsThrottling(CircuitBreaker):
    """Takes a busy host for a dead one."""

    def failed(self, permit: Permit, error: BaseException) -> None:
        super().failed(permit, DOWN if isinstance(error, ThrottledError) else error)


class CountsMistakes(CircuitBreaker):
    """Takes our mistake for a dead host."""

    def failed(self, permit: Permit, error: BaseException) -> None:
        super().failed(permit, DOWN if isinstance(error, BadRequestError) else error)


class KeepsBrokenProbe(CircuitBreaker):
    """Does not give the permit back when a probe was broken off."""

    def released(self, permit: Permit) -> None:
        pass


class AnyoneCloses(CircuitBreaker):
    """Lets a call from before the opening close the breaker."""

    def succeeded(self, permit: Permit) -> None:
        super().succeeded(Permit(permit.operation, self._store.load(permit.operation).probe_token))


MUTANTS: dict[str, tuple[MakeBreaker, Callable[[], Any]]] = {
    "no compare-and-set": (plain, LosesUpdates),
    "failed probe does not open": (lambda s, c: StaysHalfOpen(s, c, RULE, jitter=lambda: 0.5), MemoryBreakers),
    "throttling counts": (lambda s, c: CountsThrottling(s, c, RULE, jitter=lambda: 0.5), MemoryBreakers),
    "bad requests count": (lambda s, c: CountsMistakes(s, c, RULE, jitter=lambda: 0.5), MemoryBreakers),
    "broken probe is kept": (lambda s, c: KeepsBrokenProbe(s, c, RULE, jitter=lambda: 0.5), MemoryBreakers),
    "anybody closes": (lambda s, c: AnyoneCloses(s, c, RULE, jitter=lambda: 0.5), MemoryBreakers),
    "a dead prober blocks for ever": (lambda s, c: plain(s, c, probe_lease_s=1e6), MemoryBreakers),
    "the open period does not grow": (lambda s, c: plain(s, c, open_max_s=10.0), MemoryBreakers),
    "the open period grows without end": (lambda s, c: plain(s, c, open_max_s=1e6), MemoryBreakers),
    "never opens": (lambda s, c: plain(s, c, failures=10**9), MemoryBreakers),
    "a stale cache is believed": (lambda s, c: plain(s, c, cache_s=1e6), MemoryBreakers),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_without_one_of_its_protections_it_breaks_its_promise(mutant: str) -> None:
    make, store = MUTANTS[mutant]

    with pytest.raises((AssertionError, ProviderDownError)):
        examine(make, store, examples=600)


# --- what the model does not say ------------------------------------------------------------------------------------


def opened(clock: FakeTime, store: Any = None, **changes: Any) -> CircuitBreaker:
    breaker = plain(store or MemoryBreakers(), clock, **changes)
    for _ in range(3):
        breaker.failed(breaker.admit(SEARCH), DOWN)
    return breaker


def test_whoever_is_refused_learns_why_and_for_how_long() -> None:
    clock = FakeTime()
    breaker = opened(clock)
    clock.advance(4.0)

    with pytest.raises(ProviderDownError, match=r"stac search at catalogue\.example is down.*503") as caught:
        breaker.admit(SEARCH)

    assert caught.value.retry_after_s == pytest.approx(6.0)
    assert breaker.breakers()[0][1].state(clock.now()) is BreakerState.OPEN


def test_hosts_and_operations_have_breakers_of_their_own() -> None:
    breaker = opened(FakeTime())

    breaker.admit(Operation(provider="stac", host="other.example", name="search"))
    breaker.admit(Operation(provider="stac", host="catalogue.example", name="read"))


def test_a_share_of_failures_opens_it_even_if_they_are_not_in_a_row() -> None:
    clock = FakeTime()
    breaker = plain(MemoryBreakers(), clock, rate=0.5, rate_calls=10, window_s=60.0)
    for _ in range(4):
        breaker.succeeded(breaker.admit(SEARCH))
        breaker.failed(breaker.admit(SEARCH), DOWN)
    assert breaker.state(SEARCH) is BreakerState.CLOSED
    breaker.succeeded(breaker.admit(SEARCH))
    breaker.failed(breaker.admit(SEARCH), DOWN)

    assert breaker.state(SEARCH) is BreakerState.OPEN


def test_failures_older_than_the_window_are_forgotten() -> None:
    clock = FakeTime()
    breaker = plain(MemoryBreakers(), clock, rate=0.5, rate_calls=10, window_s=60.0)
    for _ in range(8):
        breaker.succeeded(breaker.admit(SEARCH))
        breaker.failed(breaker.admit(SEARCH), DOWN)
        clock.advance(61.0)

    assert breaker.state(SEARCH) is BreakerState.CLOSED


def test_open_periods_are_spread() -> None:
    periods = set()
    for share in (0.0, 0.5, 1.0):
        clock = FakeTime()
        breaker = CircuitBreaker(MemoryBreakers(), clock, replace(RULE, jitter=0.2), jitter=lambda share=share: share)
        for _ in range(3):
            breaker.failed(breaker.admit(SEARCH), DOWN)
        until = breaker.breakers()[0][1].open_until
        assert until is not None
        periods.add(round((until - clock.now()).total_seconds(), 3))

    assert periods == {8.0, 10.0, 12.0}


def test_it_is_closed_by_hand() -> None:
    breaker = opened(FakeTime())

    breaker.reset(SEARCH)

    assert breaker.admit(SEARCH).probe_token is None


class Counting(MemoryBreakers):
    """Counts what it is asked."""

    asked = 0

    def load(self, operation: Operation) -> BreakerRecord:
        self.asked += 1
        return super().load(operation)

    def compare_and_set(self, operation: Operation, expected_version: int, record: BreakerRecord) -> bool:
        self.asked += 1
        return super().compare_and_set(operation, expected_version, record)


def test_while_all_is_well_the_store_is_read_once_a_second() -> None:
    clock, store = FakeTime(), Counting()
    breaker = plain(store, clock, cache_s=1.0)
    for _ in range(5000):
        breaker.succeeded(breaker.admit(SEARCH))
        clock.advance(0.001)

    assert 4 <= store.asked <= 6


def test_an_opening_elsewhere_is_seen_within_the_time_of_the_cache() -> None:
    clock, store = FakeTime(), MemoryBreakers()
    other = plain(store, clock, cache_s=1.0)
    other.admit(SEARCH)
    opened(clock, store)

    other.admit(SEARCH)
    clock.advance(1.0)
    with pytest.raises(ProviderDownError):
        other.admit(SEARCH)


def test_one_failure_here_is_enough_to_look_there_at_every_call() -> None:
    clock, store = FakeTime(), MemoryBreakers()
    other = plain(store, clock, cache_s=1.0)
    breaker = plain(store, clock)
    other.failed(other.admit(SEARCH), DOWN)
    for _ in range(2):
        breaker.failed(breaker.admit(SEARCH), DOWN)

    with pytest.raises(ProviderDownError):
        other.admit(SEARCH)


def test_without_its_store_a_process_goes_on_by_itself() -> None:
    clock = FakeTime()
    breaker = opened(clock, Unreachable())
    with pytest.raises(ProviderDownError):
        breaker.admit(SEARCH)
    clock.advance(10.0)
    probe = breaker.admit(SEARCH)
    with pytest.raises(ProviderDownError):
        breaker.admit(SEARCH)

    breaker.succeeded(probe)

    breaker.admit(SEARCH)
    with pytest.raises(StoreError):
        breaker.breakers()


@pytest.mark.parametrize("seed", range(3))
def test_fifty_threads_ask_a_dead_host_once_per_open_period(seed: int) -> None:
    """Real threads and a real clock; the host counts what reaches it."""
    rule = BreakerRule(failures=3, open_s=0.1, open_max_s=0.4, jitter=0.1, probe_lease_s=5.0, cache_s=0.02)
    store = MemoryBreakers()
    breakers = [CircuitBreaker(store, SystemClock(), rule) for _ in range(5)]
    asked: list[tuple[float, bool]] = []
    until = time.monotonic() + 1.0
    start = threading.Barrier(50)

    def hammer(breaker: CircuitBreaker) -> None:
        start.wait()
        while (before_s := time.monotonic()) < until:
            try:
                permit = breaker.admit(SEARCH)
            except ProviderDownError:
                time.sleep(0.002)
                continue
            # a thread may be kept waiting right after it was let through: what counts is when it surely was not yet
            probe = permit.probe_token is not None
            asked.append((time.monotonic() if probe else before_s, probe))
            time.sleep(0.005)
            breaker.failed(permit, DOWN)

    threads = [threading.Thread(target=hammer, args=(breakers[n % 5],)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ((_, record),) = store.breakers()
    probes = [when for when, probe in asked if probe]
    before = [when for when, probe in asked if not probe]
    # every open period but the last ended with one probe; the first 50 were under way before the first period
    assert len(probes) in {record.openings - 1, record.openings}
    assert len(probes) >= 2
    assert len(before) <= 50 + 5
    assert not before or not probes or max(before) < min(probes)
    assert all(later - earlier >= 0.09 for earlier, later in pairwise(probes))
