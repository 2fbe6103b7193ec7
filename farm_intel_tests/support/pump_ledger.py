"""A pump over a SQLite file that outlives the process which works on it, and a worker that hangs until it is killed.

usage: python -m farm_intel_tests.support.pump_ledger LEDGER DAGSTER_HOME
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from farm_intel_tests.support.fake_alerts import FakeActivities, FakeReport, FakeWork

LEASE_S = 300.0
CLAIMED = "claimed"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class LedgerPump:
    """Occurrences as rows with leases."""

    path: Path
    now: Callable[[], datetime] = _now
    hang: bool = False

    def fill(self, count: int) -> None:
        """Let occurrences fall due."""
        with self._open() as ledger:
            ledger.execute("CREATE TABLE occurrences (id INTEGER PRIMARY KEY, state TEXT, run_id TEXT, lease REAL)")
            ledger.executemany("INSERT INTO occurrences VALUES (?, 'due', '', 0)", [(n,) for n in range(count)])

    def due(self) -> FakeWork:
        open_ones = self._ids("state = 'due' OR (state = 'running' AND lease < ?)", self.now().timestamp())
        return FakeWork(occurrences=len(open_ones), batch=f"batch-{open_ones[:1]}-{len(open_ones)}")

    def run(self, *, run_id: str) -> FakeReport:
        at = self.now().timestamp()
        with self._open() as ledger:
            ledger.execute(
                "UPDATE occurrences SET state = 'running', run_id = ?, lease = ? "
                "WHERE state = 'due' OR (state = 'running' AND lease < ?)",
                (run_id, at + LEASE_S, at),
            )
        if self.hang:
            sys.stdout.write(f"{CLAIMED}\n")
            sys.stdout.flush()
            threading.Event().wait()
        with self._open() as ledger:
            done = ledger.execute(
                "UPDATE occurrences SET state = 'done' WHERE state = 'running' AND run_id = ?", (run_id,)
            ).rowcount
        return FakeReport(worked={"done": done})

    def states(self) -> list[str]:
        with self._open() as ledger:
            return [state for (state,) in ledger.execute("SELECT DISTINCT state FROM occurrences")]

    def _ids(self, where: str, *values: float) -> list[int]:
        with self._open() as ledger:
            return [n for (n,) in ledger.execute(f"SELECT id FROM occurrences WHERE {where}", values)]  # noqa: S608 - ours

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        ledger = sqlite3.connect(self.path, timeout=10.0)
        try:
            with ledger:
                yield ledger
        finally:
            ledger.close()


@dataclass
class LedgerActivities(FakeActivities):
    """Knows the runs whose leases are over."""

    pump: LedgerPump | None = None

    def runs_in_doubt(self) -> list[str]:
        assert self.pump is not None
        with self.pump._open() as ledger:
            found = ledger.execute(
                "SELECT DISTINCT run_id FROM occurrences WHERE state = 'running' AND lease < ?",
                (self.pump.now().timestamp(),),
            )
            return [run_id for (run_id,) in found]


def main(ledger: str, dagster_home: str) -> None:
    """Run the pump's job until somebody kills this process."""
    from datetime import date

    from farm_intel.defs import compat
    from farm_intel.defs.build import build_definitions
    from farm_intel.defs.pump import PUMP_JOB
    from farm_intel_tests.support.fake_observing import installation

    made = installation()
    made.pump = LedgerPump(Path(ledger), hang=True)  # type: ignore[assignment]  # another pump of the same form
    job = build_definitions(made, today=date(2026, 6, 30)).resolve_job_def(PUMP_JOB)
    with compat.open_instance(Path(dagster_home)) as instance:
        job.execute_in_process(instance=instance)


if __name__ == "__main__":
    main(*sys.argv[1:])
