"""Time that only passes when somebody sleeps, and the parts of a guard over it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from farm_intel.domain.errors import StoreError
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.budget import Budget, BudgetLedger
from farm_intel.resilience.events import CallEvent
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.guarded import GuardedCalls
from farm_intel.resilience.limiter import Rate, RateLimiter
from farm_intel.resilience.memory import MemoryBreakers, MemoryBudgets, MemoryRates
from farm_intel.resilience.retry import RetryPolicy

SEARCH = Operation(provider="stac", host="catalogue.example", name="search")
PROCESS = Operation(provider="hub", host="hub.example", name="process")


class FakeTime:
    """Implements `Sleeper`; to sleep is to move on."""

    def __init__(self, start: datetime = datetime(2026, 6, 30, 12, tzinfo=UTC)) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._now.timestamp()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += timedelta(seconds=seconds)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


class Unreachable:
    """A store that answers nothing."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_args: object, **_options: object) -> None:
            raise StoreError(f"{name}: the database is gone")

        return refuse


class Parts:
    """A guard in memory with everything to look at."""

    def __init__(
        self,
        *,
        rule: BreakerRule | None = None,
        rates: dict[str, Rate] | None = None,
        units: float = 100.0,
        retries: int = 0,
        breakers: Any = None,
        budgets: Any = None,
    ) -> None:
        self.time = FakeTime()
        self.events: list[CallEvent] = []
        self.breaker = CircuitBreaker(
            breakers or MemoryBreakers(), self.time, rule or BreakerRule(jitter=0.0), jitter=lambda: 0.5
        )
        self.rates = MemoryRates()
        self.limiter = RateLimiter(rates or {}, shared=self.rates, clock=self.time)
        self.ledger = BudgetLedger(
            budgets or MemoryBudgets(), {"hub": Budget(units=units, unit="processing unit")}, self.time
        )
        self.guard = GuardedCalls(
            breaker=self.breaker,
            limiter=self.limiter,
            ledger=self.ledger,
            policy=RetryPolicy(retries=retries),
            clock=self.time,
            on_event=self.events.append,
        )
