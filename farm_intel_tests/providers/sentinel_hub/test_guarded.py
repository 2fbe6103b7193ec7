"""The adapter behind the guard of production: books, breaker, deadline."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from farm_intel.domain.errors import BudgetExceededError, ProviderDownError, TransientError
from farm_intel.domain.observations import ObservationStatus
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.pipeline import SceneMajorEngine
from farm_intel.indices.registry import load_registry
from farm_intel.providers.sentinel_hub.blocks import sentinel_hub_block_readers
from farm_intel.providers.sentinel_hub.catalog import SentinelHubCatalog
from farm_intel.providers.sentinel_hub.statistics import SentinelHubStatistics
from farm_intel.resilience import deadlines
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.budget import Budget, BudgetLedger
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.guarded import GuardedCalls
from farm_intel.resilience.limiter import RateLimiter
from farm_intel.resilience.memory import MemoryBreakers, MemoryBudgets, MemoryRates
from farm_intel.resilience.retry import RetryPolicy
from farm_intel.simulation.emulators.faults import Fault, FaultKind
from farm_intel_tests.providers.sentinel_hub.conftest import PROFILE, Hub

INDEX = load_registry().select(["ndvi"])


def production(units: float = 1000.0, retries: int = 1) -> tuple[GuardedCalls, BudgetLedger]:
    clock = SystemClock()
    ledger = BudgetLedger(MemoryBudgets(), {"sentinel_hub": Budget(units=units, unit="processing unit")}, clock)
    guard = GuardedCalls(
        breaker=CircuitBreaker(MemoryBreakers(), clock, BreakerRule()),
        limiter=RateLimiter({}, shared=MemoryRates(), clock=clock),
        ledger=ledger,
        policy=RetryPolicy(retries=retries, wait_initial_s=0.01, wait_max_s=0.02, wait_jitter_s=0.0),
        clock=clock,
    )
    return guard, ledger


def test_the_books_hold_what_the_service_charged(hub: Hub) -> None:
    """After statistics and pixels the ledger is the account, whatever was estimated before."""
    days, farms = hub.days(2), hub.farms("F001", "F003")
    guard, ledger = production()
    spent = hub.state.units_spent
    list(SentinelHubStatistics(hub.options(), guard, EngineOptions()).run(days, farms, INDEX, PROFILE))
    readers = sentinel_hub_block_readers(hub.options(), PROFILE, guard)
    list(SceneMajorEngine(readers, EngineOptions()).run(days, farms, INDEX, PROFILE))

    assert hub.state.units_spent > spent
    assert ledger.spent("sentinel_hub") == pytest.approx(hub.state.units_spent - spent)


def test_nothing_is_asked_beyond_the_budget(hub: Hub) -> None:
    days = hub.days(1)
    guard, _ = production(units=0.004)
    hub.server.log.clear()
    with pytest.raises(BudgetExceededError):
        list(SentinelHubStatistics(hub.options(), guard, EngineOptions()).run(days, hub.farms("F001"), INDEX, PROFILE))

    assert hub.count("/statistics") == 0


def test_a_dead_service_is_left_alone(hub: Hub) -> None:
    """After three failures the breaker answers at once, and the farms say that the provider failed for now."""
    days = hub.days(1)
    guard, _ = production(retries=0)
    hub.server.log.clear()
    hub.server.faults.add(Fault(kind=FaultKind.UNAVAILABLE, path="statistics|search", times=0))
    engine = SentinelHubStatistics(hub.options(concurrency=1), guard, EngineOptions())
    (batch,) = engine.run(days, hub.farms(), INDEX, PROFILE)
    verdicts = [verdict for verdict in batch.verdicts if verdict is not None and verdict.transient]

    assert hub.count("/statistics") == 3
    assert len(verdicts) >= 5
    assert {verdict.status for verdict in verdicts} == {ObservationStatus.PROVIDER_FAILED}
    catalog = SentinelHubCatalog(hub.options(), PROFILE, guard, provider="sentinel_hub")
    for _ in range(3):
        with pytest.raises(TransientError):
            catalog.search(hub.query())
    with pytest.raises(ProviderDownError):
        catalog.search(hub.query())
    assert hub.count("/search") == 3


@pytest.mark.parametrize("kind", [FaultKind.TIMEOUT, FaultKind.SLOW])
def test_the_callers_deadline_ends_pixels_and_statistics(hub: Hub, kind: FaultKind) -> None:
    """A service that never answers, or drips, holds nobody longer than the time that was given."""
    days = hub.days(1)
    scene = days[0].scenes[0]
    hub.server.faults.add(Fault(kind=kind, path="process|statistics", times=0, delay_s=0.3 if kind == "slow" else 0.0))
    guard, _ = production(retries=3)

    async def read() -> None:
        with ThreadPoolExecutor(1) as pool:
            async with sentinel_hub_block_readers(hub.options(), PROFILE, guard)(pool) as reader:
                band = await reader.open(scene.bands["red"], scene_id=scene.scene_id)
                await band.read([(0, 0)])

    began = time.monotonic()
    with deadlines.deadline(0.6), pytest.raises(TransientError):
        asyncio.run(read())
    assert time.monotonic() - began < 1.2
    began = time.monotonic()
    with deadlines.deadline(0.6):
        batches = list(
            SentinelHubStatistics(hub.options(), guard, EngineOptions()).run(days, hub.farms("F001"), INDEX, PROFILE)
        )
    assert time.monotonic() - began < 1.2
    assert batches[0].verdicts[0] is not None
    assert batches[0].verdicts[0].transient
