"""One column of the matrix after the other, or side by side in processes of their own."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from farm_intel.simulation.emulators.faults import FaultKind
from farm_intel_tests.faults.columns import COLUMNS, PIXELS, STATISTICS, Column, column
from farm_intel_tests.faults.judging import Verdict, judge_data, judge_fault
from farm_intel_tests.faults.rows import (
    ALWAYS,
    BAND,
    DATA_FAULTS,
    FAULTS,
    MIDWAY,
    ONCE,
    SCENES,
    DataRow,
    FaultRow,
)
from farm_intel_tests.faults.running import (
    CALL_TIMEOUT_S,
    DEADLINE_S,
    PATIENT_DEADLINE_S,
    PATIENT_TIMEOUT_S,
    Bench,
    Known,
    bench,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which cells to run; empty means all."""

    rows: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    cells: tuple[tuple[str, str], ...] = ()
    """(row, mode)"""
    call_timeout_s: float = CALL_TIMEOUT_S
    deadline_s: float = DEADLINE_S
    """Of rows that are not patient."""

    def takes(self, row: str, place: str, mode: str) -> bool:
        """Return whether a cell is meant."""
        return (
            (not self.rows or row in self.rows)
            and (not self.places or place in self.places)
            and (not self.cells or (row, mode) in self.cells)
        )


ALL = Selection()


def run_column(name: str, world: Path, selection: Selection = ALL) -> list[Verdict]:
    """Run one column: every fault at every place of it, then wrong data."""
    one = column(name)
    verdicts = []
    with bench(one, world) as running:
        running.learn()
        for place, path in one.places.items():
            for row in FAULTS:
                for mode in (ONCE, MIDWAY, ALWAYS):
                    if selection.takes(row.name, place, mode) and _occurs(running, place, mode):
                        verdicts += _fault_runs(running, row, place, path, mode, selection)
        known = running.known
    for data in DATA_FAULTS:
        if one.name in data.columns and selection.takes(data.name, "data", ALWAYS):
            verdicts += _data_runs(one, world, data, known)
    return verdicts


def run_columns(
    world: Path, names: Sequence[str], selection: Selection = ALL, *, processes: int, on_column: Callable[[str], None]
) -> Iterator[list[Verdict]]:
    """Yield the verdicts of columns as they are done.

    A process each: Earth Engine's client and the proxy variables are the process's.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_quiet, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run_column, name, world, selection): name for name in names}
        for future in as_completed(futures):
            on_column(futures[future])
            yield future.result()


def _quiet() -> None:
    """Keep what the guards tell of every struck call from burying the table."""
    logging.disable(logging.WARNING)


def all_names() -> tuple[str, ...]:
    """Return the names of all columns."""
    return tuple(one.name for one in COLUMNS)


def _occurs(running: Bench, place: str, mode: str) -> bool:
    """Return whether there is a request to strike; that one in the middle matters where half the work is done."""
    if mode == MIDWAY:
        return place in {PIXELS, STATISTICS} and running.requests[place] >= 2
    return running.requests[place] >= 1


def _fault_runs(
    running: Bench, row: FaultRow, place: str, path: str, mode: str, selection: Selection
) -> Iterator[Verdict]:
    deadline_s = PATIENT_DEADLINE_S if row.patient else selection.deadline_s
    timeout_s = PATIENT_TIMEOUT_S if row.patient else selection.call_timeout_s
    alone = (running.column.provider,)
    orders = (alone, (*alone, running.column.stand_in)) if mode == ALWAYS and not row.harmless else (alone,)
    for order in orders:
        running.server.reset()
        running.server.faults.add(row.fault(path, mode))
        run = running.run(order, deadline_s=deadline_s, timeout_s=timeout_s)
        run.requests = running.count(path)
        running.server.reset()
        if row.kind in {FaultKind.TIMEOUT, FaultKind.SLOW}:
            # the SDK's abandoned token calls must not fill its cache during the next run
            running.server.stop()
            running.server.start()
        yield judge_fault(running, row, place, mode, run, in_order=len(order) > 1)


def _data_runs(one: Column, world: Path, row: DataRow, known: Known) -> Iterator[Verdict]:
    faults = row.faults(SCENES[one.name], BAND[one.name])
    with bench(one, world, faults=faults, sas_ttl_s=row.sas_ttl_s) as running:
        running.known = known
        for order in ((one.provider,), (one.provider, one.stand_in)):
            run = running.run(order)
            run.requests = len(running.server.log)
            yield judge_data(running, row, run, in_order=len(order) > 1)
