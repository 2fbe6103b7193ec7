"""A month's budget is never overdrawn, whatever dies; with each protection taken away it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from farm_intel.domain.errors import BadRequestError, BudgetExceededError, StoreError
from farm_intel.resilience.budget import Budget, BudgetLedger
from farm_intel.resilience.memory import MemoryBudgets
from farm_intel.resilience.state import Reservation
from farm_intel_tests.resilience.support import FakeTime, Unreachable

LIMIT = 100.0
BUDGETS = {"hub": Budget(units=LIMIT, unit="processing unit", setting="FARM_INTEL_HUB_BUDGET")}
HOLD_S = 3600.0


def ledger(clock: FakeTime, store: Any = None, **budgets: Budget) -> BudgetLedger:
    return BudgetLedger(store or MemoryBudgets(), budgets or BUDGETS, clock, hold_s=HOLD_S)


def machine(make_store: Callable[[], Any]) -> type[RuleBasedStateMachine]:
    """Return a machine that spends, dies and waits, with books of its own."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.time = FakeTime(datetime(2026, 6, 30, 20, tzinfo=UTC))
            store = make_store()
            self.ledgers = [ledger(self.time, store) for _ in range(2)]
            self.spent: dict[date, float] = {}
            self.held: list[tuple[Reservation, datetime]] = []
            self.lost: list[tuple[Reservation, datetime]] = []

        def _held(self, month: date) -> float:
            now = self.time.now()
            return sum(r.units for r, until in [*self.held, *self.lost] if r.month == month and now < until)

        @rule(process=st.integers(0, 1), units=st.sampled_from([1.0, 20.0, 60.0]))
        def reserve(self, process: int, units: float) -> None:
            month = self.time.now().date().replace(day=1)
            left = LIMIT - self.spent.get(month, 0.0) - self._held(month)
            try:
                reservation = self.ledgers[process].reserve("hub", units)
            except BudgetExceededError:
                assert units > left, "refused what was left"
                return
            assert units <= left, "overdrawn"
            self.held.append((reservation, self.time.now() + timedelta(seconds=HOLD_S)))

        @precondition(lambda self: self.held)
        @rule(which=st.integers(0, 100), share=st.sampled_from([0.25, 0.5, 1.0]))
        def settle(self, which: int, share: float) -> None:
            reservation, _ = self.held.pop(which % len(self.held))
            actual = reservation.units * share
            self.ledgers[0].settle(reservation, actual)
            self.spent[reservation.month] = self.spent.get(reservation.month, 0.0) + actual

        @precondition(lambda self: self.held)
        @rule(which=st.integers(0, 100))
        def release(self, which: int) -> None:
            self.ledgers[1].release(self.held.pop(which % len(self.held))[0])

        @precondition(lambda self: self.held)
        @rule(which=st.integers(0, 100))
        def die(self, which: int) -> None:
            self.lost.append(self.held.pop(which % len(self.held)))

        @rule(seconds=st.sampled_from([60.0, 1800.0, 3600.0, 4 * 3600.0]))
        def wait(self, seconds: float) -> None:
            self.time.advance(seconds)
            # no try takes longer than its reservation is held: who would be late has died
            now = self.time.now()
            self.lost += [entry for entry in self.held if entry[1] <= now]
            self.held = [entry for entry in self.held if entry[1] > now]

        def teardown(self) -> None:
            month = self.time.now().date().replace(day=1)
            (status,) = self.ledgers[0].status()
            assert (status.month, status.spent) == (month, pytest.approx(self.spent.get(month, 0.0)))
            assert status.reserved == pytest.approx(self._held(month))

    return Machine


def examine(make_store: Callable[[], Any] = MemoryBudgets, examples: int = 150) -> None:
    run_state_machine_as_test(
        machine(make_store),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            phases=[Phase.generate],
        ),
    )


def test_the_budget_is_never_overdrawn_and_never_refused_while_it_lasts() -> None:
    examine()


class Trusting(MemoryBudgets):
    """Looks at no limit."""

    def reserve(self, reservation: Reservation, *, limit: float, now: datetime, expires_at: datetime) -> bool:
        return super().reserve(reservation, limit=math.inf, now=now, expires_at=expires_at)


class CountsSettledOnly(MemoryBudgets):
    """Forgets calls under way."""

    def reserve(self, reservation: Reservation, *, limit: float, now: datetime, expires_at: datetime) -> bool:
        return super().reserve(reservation, limit=limit, now=now, expires_at=now)


class NeverExpires(MemoryBudgets):
    """Counts the dead for ever."""

    def reserve(self, reservation: Reservation, *, limit: float, now: datetime, expires_at: datetime) -> bool:
        return super().reserve(reservation, limit=limit, now=now, expires_at=expires_at + timedelta(days=9))


class KeepsReleased(MemoryBudgets):
    """Does not give back."""

    def release(self, reservation: Reservation) -> None:
        pass


class SettlesForFree(MemoryBudgets):
    """Forgets what a settled call cost."""

    def settle(self, reservation: Reservation, *, units: float, now: datetime) -> None:
        super().settle(reservation, units=0.0 * units, now=now)


class OneMonth(MemoryBudgets):
    """Takes every month for the first."""

    def reserve(self, reservation: Reservation, *, limit: float, now: datetime, expires_at: datetime) -> bool:
        moved = replace(reservation, month=date(2026, 6, 1))
        return super().reserve(moved, limit=limit, now=now, expires_at=expires_at)


@pytest.mark.parametrize("mutant", [Trusting, CountsSettledOnly, NeverExpires, KeepsReleased, SettlesForFree, OneMonth])
def test_without_one_of_its_protections_the_books_are_wrong(mutant: type[MemoryBudgets]) -> None:
    with pytest.raises(AssertionError):
        examine(mutant, examples=400)


def test_a_spent_budget_says_what_to_do() -> None:
    books = ledger(FakeTime())
    books.settle(books.reserve("hub", 99.0), 99.0)

    with pytest.raises(BudgetExceededError, match=r"hub was not asked: 2\.00 processing units.*100.*2026-06") as caught:
        books.reserve("hub", 2.0)

    assert "FARM_INTEL_HUB_BUDGET" in caught.value.hint


def test_the_month_is_the_calendar_month_in_utc() -> None:
    clock = FakeTime(datetime(2026, 7, 1, 1, 30, tzinfo=UTC).astimezone(tz=None) - timedelta(hours=2))
    books = ledger(clock)
    books.settle(books.reserve("hub", 100.0), 100.0)
    assert books.status()[0].month == date(2026, 6, 1)
    clock.advance(3600.0)

    assert books.remaining("hub") == LIMIT
    assert books.status()[0].month == date(2026, 7, 1)


def test_a_call_that_ends_next_month_is_paid_by_the_month_it_began_in() -> None:
    clock = FakeTime(datetime(2026, 6, 30, 23, 59, tzinfo=UTC))
    store = MemoryBudgets()
    books = ledger(clock, store)
    reservation = books.reserve("hub", 10.0)
    clock.advance(120.0)

    books.settle(reservation, 10.0)

    assert books.spent("hub") == 0.0
    (june,) = store.usage(month=date(2026, 6, 1), now=clock.now())
    assert (june.spent, june.reserved, june.calls) == (10.0, 0.0, 1)


def test_it_fails_closed() -> None:
    with pytest.raises(BudgetExceededError, match=r"cannot be read.*the database is gone"):
        ledger(FakeTime(), Unreachable()).reserve("hub", 1.0)
    with pytest.raises(BudgetExceededError, match="elsewhere was not asked: it has no budget"):
        ledger(FakeTime()).reserve("elsewhere", 1.0)
    with pytest.raises(StoreError):
        ledger(FakeTime(), Unreachable()).status()
    for units in (-1.0, math.nan):
        with pytest.raises(BadRequestError):
            ledger(FakeTime()).reserve("hub", units)


def test_what_the_provider_says_it_cost_counts() -> None:
    books = ledger(FakeTime())
    books.settle(books.reserve("hub", 10.0), 10.0)
    books.correct("hub", reserved=10.0, actual=4.5)
    assert books.spent("hub") == 4.5
    books.correct("hub", reserved=1.0, actual=200.0)
    assert books.remaining("hub") == 0.0
    books.correct("hub", reserved=1000.0, actual=0.0)
    assert books.spent("hub") == 0.0


def test_a_preview_reserves_nothing() -> None:
    books = ledger(FakeTime())
    books.reserve("hub", 30.0)

    assert books.preview("hub", 70.0).fits
    assert not books.preview("hub", 70.1).fits
    assert str(books.preview("hub", 12.34)) == "hub: about 12.3 of 70.0 processing units left this month, fits"
    assert books.remaining("hub") == 70.0


def test_a_budget_without_end_counts() -> None:
    books = ledger(FakeTime(), earth=Budget(units=math.inf, unit="EECU second"))
    books.settle(books.reserve("earth", 1e9), 1e9)

    assert (books.spent("earth"), books.remaining("earth")) == (1e9, math.inf)
