"""A slice of the fault matrix, so that every change is held to it; `make faults` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm_intel_tests.faults.columns import COLUMNS, PIXELS, STATISTICS, write_small_world
from farm_intel_tests.faults.judging import ANSWER, FALLBACK
from farm_intel_tests.faults.matrix import Selection, run_columns
from farm_intel_tests.faults.recovering import dead_host, stop_and_start
from farm_intel_tests.faults.rows import ALWAYS, ONCE

SLICE = Selection(
    places=(PIXELS, STATISTICS),
    cells=(("403", ALWAYS), ("503", ALWAYS), ("truncated", ONCE)),
    call_timeout_s=10.0,
    deadline_s=30.0,
)
"""One fault per class: refused, down for now, an answer that breaks off. None of them hangs, so there is time for a
machine that runs other tests as well."""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the matrix's world."""
    return write_small_world(tmp_path_factory.mktemp("faults") / "world").folder


NIGHTLY = dict.fromkeys(("landsat", "modis", "sentinel_hub tables", "earth_engine tables"), (pytest.mark.nightly,))
"""Columns whose adapter another one strikes already; `make faults` has them all."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one.name, marks=[pytest.mark.xdist_group(f"faults-{n % 2}"), *NIGHTLY.get(one.name, ())])
        for n, one in enumerate(COLUMNS)
    ],
)
def test_a_fault_ends_in_a_right_answer_a_right_fallback_or_a_typed_failure(world: Path, name: str) -> None:
    (verdicts,) = run_columns(world, [name], SLICE, processes=1, on_column=lambda _: None)

    assert [verdict for verdict in verdicts if verdict.wrong] == []
    ends = {(verdict.row, verdict.mode, verdict.in_order): verdict.ended for verdict in verdicts}
    assert len(ends) == 5
    assert ends["truncated", ONCE, False] == ANSWER
    assert ends["403", ALWAYS, True] == ends["503", ALWAYS, True] == FALLBACK


@pytest.mark.xdist_group("faults-0")
def test_a_provider_that_goes_away_is_replaced_and_asked_again_when_it_is_back(world: Path) -> None:
    recovery = stop_and_start(world)

    assert recovery.wrong == ()
    half, away, again, back = recovery.blocks
    assert half.other > 0
    assert (away.first, again.first, again.requests) == (0, 0, 0)
    assert (back.other, back.reasons) == (0, ())


@pytest.mark.xdist_group("faults-1")
def test_a_dead_host_is_asked_at_most_once_per_open_period_by_fifty_callers(world: Path) -> None:
    dead = dead_host(world, seconds=4.0)

    assert dead.calls > dead.before + dead.probes
    assert dead.right, dead
