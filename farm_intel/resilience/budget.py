"""What providers that cost money may cost in a month: reserve before a try, settle after it, fail closed.

A try that is never settled, because its process died, counts as spent until its reservation expires: the budget may be
refused too early for an hour, it is never overdrawn. A provider without a budget may not spend at all.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, timedelta

from farm_intel.domain.errors import BadRequestError, BudgetExceededError, StoreError
from farm_intel.domain.ports import Clock
from farm_intel.resilience.state import BudgetStore, Reservation, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one provider may cost in a UTC calendar month."""

    units: float
    """In the provider's own unit; `math.inf` counts without limiting."""
    unit: str
    """Its name in the singular, for people: `processing unit`, `EECU second`."""
    setting: str = ""
    """Name of the setting that changes it, for the hint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatus:
    """One provider's month, to be shown."""

    provider: str
    month: date
    limit: float
    unit: str
    spent: float
    reserved: float
    calls: int

    @property
    def remaining(self) -> float:
        """Units that may still be reserved, at least 0."""
        return max(0.0, self.limit - self.spent - self.reserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPreview:
    """Whether something that was not asked yet would fit."""

    provider: str
    unit: str
    asked: float
    remaining: float

    @property
    def fits(self) -> bool:
        """Return whether the whole of it is left."""
        return self.asked <= self.remaining

    def __str__(self) -> str:
        """Return one line for an explanation."""
        verdict = "fits" if self.fits else "does not fit"
        return (
            f"{self.provider}: about {self.asked:.1f} of {self.remaining:.1f} {self.unit}s left this month, {verdict}"
        )


class BudgetLedger:
    """The budgets of all providers."""

    def __init__(
        self, store: BudgetStore, budgets: Mapping[str, Budget], clock: Clock, *, hold_s: float = 3600.0
    ) -> None:
        """Keep the books.

        Args:
            store: where they are kept.
            budgets: provider -> what it may cost; a provider that is not named may not spend.
            clock: says which month it is.
            hold_s: how long the reservation of a process that died counts; longer than any try.

        """
        self._store = store
        self._budgets = dict(budgets)
        self._clock = clock
        self._hold = timedelta(seconds=hold_s)

    def reserve(self, provider: str, units: float) -> Reservation:
        """Set units aside for one try; give them to `settle` or `release`.

        Raises:
            BudgetExceededError: they are not left, the provider has no budget, or the books cannot be read.
            BadRequestError: the units are negative or no number.

        """
        if not units >= 0.0:
            raise BadRequestError(f"{units} is not an amount that {provider} can cost")
        budget = self._budget(provider)
        now = self._clock.now()
        reservation = Reservation(token=secrets.token_hex(16), provider=provider, month=self._month(), units=units)
        try:
            granted = self._store.reserve(reservation, limit=budget.units, now=now, expires_at=now + self._hold)
        except StoreError as error:
            raise BudgetExceededError(
                f"{provider} was not asked: whether its budget is spent cannot be read: {error.message}",
                hint=error.hint or "Run `farm-intel doctor`.",
            ) from error
        if not granted:
            raise self._exceeded(provider, budget, units)
        return reservation

    def settle(self, reservation: Reservation, units: float) -> None:
        """Count what a try cost.

        Raises:
            StoreError: the books cannot be written; the reservation goes on counting until it expires.

        """
        self._store.settle(reservation, units=units, now=self._clock.now())

    def release(self, reservation: Reservation) -> None:
        """Give back what a try that was refused did not cost.

        Raises:
            StoreError: see `settle`.

        """
        self._store.release(reservation)

    def correct(self, provider: str, *, reserved: float, actual: float) -> None:
        """Correct a settled try by what the provider says it cost.

        Raises:
            StoreError: the books cannot be written; the estimate stays counted.

        """
        if actual != reserved:
            self._store.correct(provider, self._month(), units=actual - reserved, now=self._clock.now())

    def spent(self, provider: str) -> float:
        """Return the units spent this month, without those reserved."""
        return self._status(provider).spent

    def remaining(self, provider: str) -> float:
        """Return the units that may still be reserved this month."""
        return self._status(provider).remaining

    def preview(self, provider: str, units: float) -> BudgetPreview:
        """Return whether `units` would fit now, reserving nothing."""
        status = self._status(provider)
        return BudgetPreview(provider=provider, unit=status.unit, asked=units, remaining=status.remaining)

    def status(self) -> list[BudgetStatus]:
        """Return this month of every provider with a budget, ordered by name.

        Raises:
            StoreError: the books cannot be read.

        """
        month = self._month()
        used = {usage.provider: usage for usage in self._store.usage(month=month, now=self._clock.now())}
        return [
            self._shown(provider, budget, used.get(provider, Usage(provider=provider, month=month)))
            for provider, budget in sorted(self._budgets.items())
        ]

    def _status(self, provider: str) -> BudgetStatus:
        self._budget(provider)
        return next(status for status in self.status() if status.provider == provider)

    def _shown(self, provider: str, budget: Budget, usage: Usage) -> BudgetStatus:
        return BudgetStatus(
            provider=provider,
            month=usage.month,
            limit=budget.units,
            unit=budget.unit,
            spent=usage.spent,
            reserved=usage.reserved,
            calls=usage.calls,
        )

    def _budget(self, provider: str) -> Budget:
        budget = self._budgets.get(provider)
        if budget is None:
            known = ", ".join(sorted(self._budgets)) or "none"
            raise BudgetExceededError(
                f"{provider} was not asked: it has no budget", hint=f"Providers with one: {known}."
            )
        return budget

    def _exceeded(self, provider: str, budget: Budget, units: float) -> BudgetExceededError:
        month = self._month()
        change = f"raise {budget.setting}" if budget.setting else "raise its budget"
        return BudgetExceededError(
            f"{provider} was not asked: {units:.2f} {budget.unit}s are not left of the "
            f"{budget.units:g} it may cost in {month:%Y-%m}",
            hint=f"Wait for the next month (UTC), or {change}.",
        )

    def _month(self) -> date:
        return self._clock.now().astimezone(UTC).date().replace(day=1)
