"""The state machine over occurrences on both databases, and that it notices when a protection is taken away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Connection, Engine

from farm_intel.domain.activities import Activity
from farm_intel.domain.activity_work import Advance, Move
from farm_intel.storage.activities import SqlActivityStore
from farm_intel.storage.occurrence_moves import OccurrenceWriter
from farm_intel_tests.activities.machine import Occurrences


def run(engine: Engine, machine: type[Occurrences], *, examples: int, steps: int = 30, shrink: bool = True) -> None:
    class Machine(machine):  # type: ignore[misc, valid-type]  # the engine is only known at run time
        pass

    Machine.engine = engine
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            phases=tuple(Phase) if shrink else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_that_can_happen_breaks_an_occurrence(engine: Engine) -> None:
    run(engine, Occurrences, examples=25 if engine.dialect.name == "sqlite" else 8)


class ForgetsEffects(OccurrenceWriter):
    """Writes the state without the line of the logbook."""

    def apply(self, connection: Connection, moves: Iterable[Move], now: datetime) -> list[Move]:
        return super().apply(connection, [replace(move, entry=None) for move in moves], now)


class MarkTooFar(SqlActivityStore):
    """Moves the high-water mark past a date that has no row."""

    def raise_mark(self, connection: Connection, plan: Activity, advance: Advance) -> None:
        further = advance.high_water + timedelta(hours=1)
        super().raise_mark(connection, plan, replace(advance, high_water=further))


def test_the_machine_notices_an_effect_that_is_not_written(sqlite_engine: Engine) -> None:
    mutant = type("Mutant", (Occurrences,), {"writer": ForgetsEffects})
    with pytest.raises(AssertionError):
        run(sqlite_engine, mutant, examples=50, shrink=False)


def test_the_machine_notices_a_mark_that_overtakes_its_rows(sqlite_engine: Engine) -> None:
    mutant = type("Mutant", (Occurrences,), {"plan_store": MarkTooFar})
    with pytest.raises(AssertionError):
        run(sqlite_engine, mutant, examples=50, shrink=False)
