"""What protects providers from us and us from providers, put together from settings and the table of providers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from farm_intel.providers.rows import PROVIDERS, Adapter, ProviderRow
from farm_intel.resilience.breaker import BreakerRule, CircuitBreaker
from farm_intel.resilience.budget import Budget, BudgetLedger
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.guarded import GuardedCalls
from farm_intel.resilience.limiter import Rate, RateLimiter
from farm_intel.resilience.retry import RetryPolicy

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from farm_intel.settings import Settings

LONGEST_DOUBLING = 16
"""An open period grows up to this many times its first length."""
BURST_S = 1.0
"""Seconds of a rate that may be used at once after a pause."""


class Guarding:
    """Breakers, rates and budgets of an installation, shared by its processes through the store."""

    def __init__(self, settings: Settings, database: Database) -> None:
        """Put them together; asks nothing."""
        from farm_intel.storage.resilience_state import SqlBreakers, SqlBudgets, SqlRates

        clock = SystemClock()
        self.breakers = SqlBreakers(database)
        self.ledger = BudgetLedger(SqlBudgets(database), {row.name: budget(row, settings) for row in PROVIDERS}, clock)
        self._clock = clock
        self._rule = breaker_rule(settings)
        self._breaker = CircuitBreaker(self.breakers, clock, self._rule)
        self._limiter = RateLimiter(
            {row.name: rate(row, settings) for row in PROVIDERS}, shared=SqlRates(database), clock=clock
        )

    def with_policy(self, policy: RetryPolicy) -> GuardedCalls:
        """Return a guard with its own patience; breakers, rates and budgets are those of all."""
        return GuardedCalls(
            breaker=self._breaker, limiter=self._limiter, ledger=self.ledger, policy=policy, clock=self._clock
        )

    def breaker(self, rule: BreakerRule | None = None) -> CircuitBreaker:
        """Return a circuit breaker over the shared store, with its own rule or that of the settings."""
        return CircuitBreaker(self.breakers, self._clock, rule or self._rule)


def breaker_rule(settings: Settings) -> BreakerRule:
    """Return when a host counts as down."""
    return BreakerRule(
        failures=settings.breaker_failures,
        open_s=settings.breaker_open_s,
        open_max_s=settings.breaker_open_s * LONGEST_DOUBLING,
    )


def budget(row: ProviderRow, settings: Settings) -> Budget:
    """Return what a provider may cost in a month; one without a limit is counted all the same."""
    default = math.inf if row.monthly_units is None else row.monthly_units
    return Budget(
        units=settings.provider_budgets.get(row.name, default), unit=row.unit, setting="FARM_INTEL_PROVIDER_BUDGETS"
    )


def rate(row: ProviderRow, settings: Settings) -> Rate:
    """Return how often a provider may be asked; only providers with a published rate are limited over all processes."""
    per_minute = settings.provider_rates.get(row.name, row.requests_per_minute)
    per_s = None if per_minute is None else per_minute / 60
    return Rate(
        calls_per_s=per_s,
        burst=1 if per_s is None else max(1, int(per_s * BURST_S)),
        at_once=None if row.adapter is Adapter.STAC else row.concurrency,
        shared=per_s is not None,
    )
