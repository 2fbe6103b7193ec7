"""What processes share about providers: the same answers from memory, SQLite and PostgreSQL, and real processes."""

from __future__ import annotations

import http.server
import math
import multiprocessing
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Self

import pytest
from sqlalchemy import text

from farm_intel.domain.errors import BudgetExceededError, ProviderDownError, TransientError
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.budget import Budget, BudgetLedger
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.limiter import Rate, RateLimiter
from farm_intel.resilience.memory import MemoryBreakers, MemoryBudgets, MemoryRates
from farm_intel.resilience.state import BreakerRecord, Bucket, Reservation
from farm_intel.storage.database import open_database, transaction
from farm_intel.storage.resilience_state import SqlBreakers, SqlBudgets, SqlRates

NOW = datetime(2026, 6, 30, 12, 0, 0, 123456, tzinfo=UTC)
JUNE = date(2026, 6, 1)
HOUR = timedelta(hours=1)
SEARCH = Operation(provider="stac", host="catalogue.example", name="search")
BUCKET = Bucket(provider="hub", host="hub.example", interval_s=0.5, burst=2)

_KINDS = ["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))]


@pytest.fixture(params=_KINDS)
def stores(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    """Return breakers, rates and budgets of each kind."""
    if request.param == "memory":
        return MemoryBreakers(), MemoryRates(), MemoryBudgets()
    engine = request.getfixturevalue("sqlite_engine" if request.param == "sqlite" else "postgres_engine")
    return SqlBreakers(engine), SqlRates(engine), SqlBudgets(engine)


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[Any]:
    """Return a migrated PostgreSQL database of its own."""
    from farm_intel.storage.database import migrate

    admin = open_database(postgres_url).execution_options(isolation_level="AUTOCOMMIT")
    name = f"r{os.urandom(6).hex()}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = open_database(postgres_url.replace("/postgres?", f"/{name}?"))
    migrate(engine)
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


# --- breakers


def test_a_breaker_comes_back_as_it_was_stored(stores: tuple[Any, Any, Any]) -> None:
    breakers, _, _ = stores
    record = BreakerRecord(
        version=1,
        failures=2,
        openings=3,
        open_until=NOW + HOUR,
        probe_token="a" * 32,
        probe_until=NOW + 2 * HOUR,
        reason="503 Service Unavailable",
        changed_at=NOW,
    )
    assert breakers.load(SEARCH) == BreakerRecord()

    assert breakers.compare_and_set(SEARCH, 0, record)

    assert breakers.load(SEARCH) == record
    assert breakers.breakers() == [(SEARCH, record)]


def test_only_who_saw_the_newest_version_may_store(stores: tuple[Any, Any, Any]) -> None:
    breakers, _, _ = stores
    first = BreakerRecord(version=1, changed_at=NOW)
    assert breakers.compare_and_set(SEARCH, 0, first)

    assert not breakers.compare_and_set(SEARCH, 0, replace(first, reason="too late"))
    assert breakers.compare_and_set(SEARCH, 1, replace(first, version=2, reason="next"))
    assert not breakers.compare_and_set(SEARCH, 1, replace(first, version=2, reason="too late"))

    assert breakers.load(SEARCH).reason == "next"


def test_of_many_threads_one_is_first(stores: tuple[Any, Any, Any]) -> None:
    breakers, _, _ = stores
    won: list[int] = []

    def race(number: int) -> None:
        if breakers.compare_and_set(SEARCH, 0, BreakerRecord(version=1, reason=str(number), changed_at=NOW)):
            won.append(number)

    _at_once(race, 12)

    assert len(won) == 1
    assert breakers.load(SEARCH).reason == str(won[0])


# --- rates


def test_slots_are_given_in_bursts_and_then_at_the_rate(stores: tuple[Any, Any, Any]) -> None:
    _, rates, _ = stores
    now_s = NOW.timestamp()

    slots = [rates.take(BUCKET, now_s=now_s, latest_s=math.inf) - now_s for _ in range(5)]

    assert slots == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.5], abs=1e-5)
    late = rates.take(BUCKET, now_s=now_s, latest_s=now_s + 1.0)
    assert late - now_s == pytest.approx(2.0, abs=1e-5)
    again = rates.take(BUCKET, now_s=now_s, latest_s=math.inf)
    assert again == late  # the late one took nothing


def test_nobody_is_let_in_before_the_latest_retry_after(stores: tuple[Any, Any, Any]) -> None:
    _, rates, _ = stores
    now_s = NOW.timestamp()
    assert rates.not_before_s(BUCKET) == 0.0
    rates.hold_off(BUCKET, now_s + 30.0)
    rates.hold_off(BUCKET, now_s + 10.0)

    assert rates.not_before_s(BUCKET) == now_s + 30.0
    assert rates.take(BUCKET, now_s=now_s, latest_s=math.inf) == now_s + 30.0


def test_places_are_limited_given_back_and_lapse(stores: tuple[Any, Any, Any]) -> None:
    _, rates, _ = stores
    now_s = NOW.timestamp()
    one, two = (rates.enter(BUCKET, limit=2, now_s=now_s, lease_s=60.0) for _ in range(2))
    assert one is not None
    assert two is not None
    assert rates.enter(BUCKET, limit=2, now_s=now_s, lease_s=60.0) is None
    elsewhere = replace(BUCKET, host="other.example")
    assert rates.enter(elsewhere, limit=1, now_s=now_s, lease_s=60.0) is not None

    rates.leave(one)
    assert rates.enter(BUCKET, limit=2, now_s=now_s + 30.0, lease_s=60.0) is not None
    assert rates.enter(BUCKET, limit=2, now_s=now_s + 59.0, lease_s=60.0) is None
    assert rates.enter(BUCKET, limit=2, now_s=now_s + 61.0, lease_s=60.0) is not None


def test_threads_get_different_slots_and_no_more_places_than_there_are(stores: tuple[Any, Any, Any]) -> None:
    _, rates, _ = stores
    now_s = NOW.timestamp()
    slots: list[float] = []
    tokens: list[str | None] = []

    def take(_: int) -> None:
        slots.append(rates.take(BUCKET, now_s=now_s, latest_s=math.inf))
        tokens.append(rates.enter(BUCKET, limit=5, now_s=now_s, lease_s=60.0))

    _at_once(take, 12)

    steps = [0.0, *(0.5 * n for n in range(11))]
    assert sorted(slot - now_s for slot in slots) == pytest.approx(steps, abs=1e-5)
    assert sum(token is not None for token in tokens) == 5


# --- budgets


def _reservation(token: str, units: float, provider: str = "hub") -> Reservation:
    return Reservation(token=token, provider=provider, month=JUNE, units=units)


def test_units_are_reserved_settled_released_and_expire(stores: tuple[Any, Any, Any]) -> None:
    _, _, budgets = stores

    def reserve(token: str, units: float, now: datetime = NOW) -> bool:
        granted: bool = budgets.reserve(_reservation(token, units), limit=100.0, now=now, expires_at=now + HOUR)
        return granted

    assert reserve("a", 60.0)
    assert not reserve("b", 40.5)
    assert reserve("c", 40.0)
    budgets.release(_reservation("c", 40.0))
    budgets.settle(_reservation("a", 60.0), units=30.0, now=NOW)
    assert reserve("d", 70.0)
    (usage,) = budgets.usage(month=JUNE, now=NOW)
    assert (usage.provider, usage.spent, usage.reserved, usage.calls) == ("hub", 30.0, 70.0, 1)

    assert not reserve("e", 1.0, NOW + HOUR - timedelta(seconds=1))
    assert reserve("f", 70.0, NOW + HOUR)  # who held `d` is given up
    budgets.settle(_reservation("d", 70.0), units=70.0, now=NOW + HOUR)  # and comes back: it was spent
    (usage,) = budgets.usage(month=JUNE, now=NOW + HOUR)
    assert (usage.spent, usage.reserved) == (100.0, 70.0)
    assert budgets.usage(month=date(2026, 7, 1), now=NOW) == []


def test_corrections_add_and_take_away(stores: tuple[Any, Any, Any]) -> None:
    _, _, budgets = stores
    budgets.correct("hub", JUNE, units=12.5, now=NOW)
    budgets.correct("hub", JUNE, units=-2.0, now=NOW)
    budgets.correct("other", JUNE, units=-2.0, now=NOW)

    assert [(u.provider, u.spent, u.calls) for u in budgets.usage(month=JUNE, now=NOW)] == [
        ("hub", 10.5, 0),
        ("other", 0.0, 0),
    ]


def test_of_many_threads_only_as_many_reserve_as_there_is_budget(stores: tuple[Any, Any, Any]) -> None:
    _, _, budgets = stores
    granted: list[int] = []

    def spend(number: int) -> None:
        mine = _reservation(str(number), 10.0)
        if budgets.reserve(mine, limit=75.0, now=NOW, expires_at=NOW + HOUR):
            granted.append(number)
            budgets.settle(mine, units=10.0, now=NOW)

    _at_once(spend, 16)

    assert len(granted) == 7
    (usage,) = budgets.usage(month=JUNE, now=NOW)
    assert (usage.spent, usage.reserved, usage.calls) == (70.0, 0.0, 7)


def test_without_its_table_the_budget_fails_closed(sqlite_engine: Any) -> None:
    with transaction(sqlite_engine) as connection:
        connection.execute(text("DROP TABLE budget_months"))
    ledger = BudgetLedger(SqlBudgets(sqlite_engine), {"hub": Budget(units=9.0, unit="unit")}, SystemClock())

    with pytest.raises(BudgetExceededError, match="cannot be read"):
        ledger.reserve("hub", 1.0)


# --- processes

RULE = BreakerRule(failures=3, open_s=0.3, open_max_s=0.6, jitter=0.1, probe_lease_s=10.0, cache_s=0.05)
PROCESSES, THREADS = 3, 12


class DeadHost:
    """A server that answers nothing but 503 and writes down when it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        """(what for, when the breaker let it through)"""
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, what, admitted_s = self.path.split("/")
                host.asked.append((what, float(admitted_s)))
                self.send_error(503)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _hammer(database_url: str, url: str, seconds: float) -> None:
    """Ask through a breaker from many threads for some time, as fast as refusals come."""
    breaker = CircuitBreaker(SqlBreakers(open_database(database_url)), SystemClock(), RULE)
    until = time.time() + seconds

    def ask(_: int) -> None:
        while (before_s := time.time()) < until:
            try:
                permit = breaker.admit(SEARCH)
            except ProviderDownError:
                time.sleep(0.01)
                continue
            # a thread may be kept waiting right after it was let through: a call counts from before, a probe from after
            asked = f"call/{before_s}" if permit.probe_token is None else f"probe/{time.time()}"
            try:
                urllib.request.urlopen(f"{url}/{asked}", timeout=5.0)  # noqa: S310 - a server of ours
            except urllib.error.URLError as error:
                breaker.failed(permit, TransientError(str(error)))

    _at_once(ask, THREADS)


def test_threads_of_several_processes_ask_a_dead_host_once_per_open_period(engine: Any, database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    with DeadHost() as host:
        workers = [context.Process(target=_hammer, args=(database_url, host.url, 3.0)) for _ in range(PROCESSES)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * PROCESSES

    ((_, record),) = SqlBreakers(engine).breakers()
    calls = [when for what, when in host.asked if what == "call"]
    probes = sorted(when for what, when in host.asked if what == "probe")
    # before the first opening was known: everybody once, and who failed before the third failure perhaps again
    assert 3 <= len(calls) <= PROCESSES * THREADS + RULE.failures
    assert max(calls) < probes[0]
    # every open period but the last ended with one probe and no other call
    assert len(probes) == record.openings - 1
    assert len(probes) >= 2
    assert all(later - earlier >= RULE.open_s * 0.85 for earlier, later in pairwise(probes))


def _probe_and_die(database_url: str) -> None:
    CircuitBreaker(SqlBreakers(open_database(database_url)), SystemClock(), RULE).admit(SEARCH)
    os._exit(9)


def test_a_prober_that_is_killed_does_not_block_the_others_for_ever(sqlite_engine: Any, tmp_path: Any) -> None:
    store = SqlBreakers(sqlite_engine)
    past = datetime.now(UTC) - timedelta(seconds=1)
    store.compare_and_set(SEARCH, 0, BreakerRecord(version=1, openings=1, open_until=past, changed_at=past))
    worker = multiprocessing.get_context("spawn").Process(
        target=_probe_and_die, args=(f"sqlite:///{tmp_path}/store.db",)
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 9
    breaker = CircuitBreaker(store, SystemClock(), RULE)
    with pytest.raises(ProviderDownError):
        breaker.admit(SEARCH)

    later = datetime.now(UTC) + timedelta(seconds=RULE.probe_lease_s)

    class Later(SystemClock):
        def now(self) -> datetime:
            return later

    assert CircuitBreaker(store, Later(), RULE).admit(SEARCH).probe_token is not None


def _enter_often(database_url: str, calls: int, answers: Any) -> None:
    clock = SystemClock()
    limiter = RateLimiter(
        {"hub": Rate(calls_per_s=20.0, burst=1, at_once=2, shared=True)},
        shared=SqlRates(open_database(database_url)),
        clock=clock,
    )
    operation = Operation(provider="hub", host="hub.example", name="process")
    instants = []
    for _ in range(calls):
        ticket = limiter.enter(operation)
        instants.append(time.time())
        limiter.leave(ticket)
    answers.put(instants)


def test_processes_share_a_rate(sqlite_engine: Any, tmp_path: Any) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    url = f"sqlite:///{tmp_path}/store.db"
    workers = [context.Process(target=_enter_often, args=(url, 10, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    instants = sorted(instant for _ in workers for instant in answers.get(timeout=60))
    for worker in workers:
        worker.join()

    assert len(instants) == 20
    assert instants[-1] - instants[0] >= 19 / 20.0 - 0.06


def _at_once(work: Callable[[int], None], count: int) -> None:
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
