"""What a run ended in, and whether that was right."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from farm_intel.domain.errors import CellsFailedError, FarmIntelError, PermanentError, ThrottledError, TransientError
from farm_intel.domain.observations import ObservationStatus
from farm_intel_tests.faults.rows import ALWAYS, EITHER, FAILED_ALL, FAILED_DAY, NO_DATA, RIGHT, DataRow, FaultRow
from farm_intel_tests.faults.running import RETRIES, Bench, Cell, Run, Value, stands_in

TOLERANCE = 1e-6
SLACK = 1.10
"""A run may take this much of its deadline."""
ANSWER, FALLBACK = "answer", "fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One run, judged; plain values, for it comes from another process."""

    column: str
    place: str
    row: str
    mode: str
    in_order: bool
    """Another provider stood by."""
    ended: str
    """`answer`, `fallback`, or the name of the error."""
    seconds: float
    requests: int
    wrong: tuple[str, ...]
    """What was not right; empty where all was."""
    detail: str = ""


def judge_fault(bench: Bench, row: FaultRow, place: str, mode: str, run: Run, *, in_order: bool) -> Verdict:
    """Judge a run under a fault of the server."""
    ended = ending(bench, run)
    wrong = violations(bench, run)
    expected = _expected(row, mode, in_order=in_order)
    if not _is_one_of(ended, run, expected):
        wrong.append(f"ended in {ended}, not in {' or '.join(_name(e) for e in expected)}")
    most = _most_requests(bench.requests[place])
    if run.requests > most:
        wrong.append(f"{run.requests} requests where {most} are enough")
    return _verdict(bench, run, wrong, ended, place=place, row=row.name, mode=mode, in_order=in_order)


def judge_data(bench: Bench, row: DataRow, run: Run, *, in_order: bool) -> Verdict:
    """Judge a run over a catalogue with wrong data; the first day of the column is struck."""
    struck = {RIGHT: (), FAILED_ALL: bench.column.days}.get(row.ends, bench.column.days[:1])
    wrong = violations(bench, run, tolerated=struck if row.ends == NO_DATA else ())
    for cell in _cells(bench):
        fine = _cell_is_right(bench, run, cell)
        if cell[1] not in struck or (in_order and row.ends in {FAILED_DAY, FAILED_ALL}):
            if not fine:
                wrong.append(f"{cell[0]} {cell[1]} has no right answer")
        elif row.ends == NO_DATA:
            if _number(run, cell) is not None:
                wrong.append(f"{cell[0]} {cell[1]} has a number without any pixel")
        elif not _failed(run, cell) and not (row.ends == EITHER and fine):
            wrong.append(f"{cell[0]} {cell[1]} did not fail")
    ended = ending(bench, run)
    if row.ends == NO_DATA and run.error is None:
        told = {o.status.value for cell, o in run.outcomes.items() if cell[1] in struck and not stands_in(o)}
        ended = "/".join(sorted(told)) or ("no scene, told" if run.problems else "no scene")
    return _verdict(bench, run, wrong, ended, place="data", row=row.name, mode=ALWAYS, in_order=in_order)


def ending(bench: Bench, run: Run) -> str:
    """Return what a run ended in."""
    if run.error is not None:
        return _error_name(run)
    cells = _cells(bench)
    if any(run.outcomes[cell].status is ObservationStatus.PROVIDER_FAILED for cell in cells if cell in run.outcomes):
        return "provider_failed"
    if any(cell not in run.outcomes for cell in cells):
        return "nothing" if not run.outcomes else "some cells"
    return FALLBACK if any(stands_in(run.outcomes[cell]) for cell in cells) else ANSWER


def violations(bench: Bench, run: Run, *, tolerated: Collection[date] = ()) -> list[str]:
    """Return what no run may do, whatever the fault."""
    wrong = []
    if run.error is not None and not isinstance(run.error, FarmIntelError):
        wrong.append(f"untyped error {type(run.error).__name__}: {run.error}")
    if run.seconds > run.deadline_s * SLACK:
        wrong.append(f"took {run.seconds:.1f} s of {run.deadline_s:g} s")
    wrong += [f"store: {text}" for text in run.damage]
    for (provider, farm_id, day), value in run.stored.items():
        right = bench.known.get((provider, farm_id, day))
        if value[0] in {ObservationStatus.PROVIDER_FAILED, ObservationStatus.REJECTED} or (
            day in tolerated and value[1] is None
        ):
            continue
        if right is None or not _same(value, right):
            wrong.append(f"stored {provider} {farm_id} {day}: {value}, right is {right}")
    for (farm_id, day), outcome in run.outcomes.items():
        if stands_in(outcome) != (outcome.key.provider != bench.column.provider):
            wrong.append(f"{farm_id} {day} by {outcome.key.provider} is not flagged as what it is")
        if stands_in(outcome) and not run.switches:
            wrong.append("another provider took over and nobody was told")
    return wrong


def _expected(row: FaultRow, mode: str, *, in_order: bool) -> tuple[str | type[BaseException], ...]:
    """Return what may come out: names of endings, or classes of errors."""
    if row.harmless:
        return (ANSWER,)
    failure: tuple[str | type[BaseException], ...] = (row.raises, CellsFailedError)
    if not row.passing:
        # what one refusal means is the adapter's to know: a signature that ran out, a token that was revoked
        failure = (row.raises, PermanentError, CellsFailedError, TransientError, "provider_failed")
    if in_order:
        return (FALLBACK,) if row.passing else (FALLBACK, ANSWER, *((PermanentError,) if row.name == "409" else ()))
    if mode == ALWAYS:
        return failure
    if not row.passing:
        return (ANSWER, *failure)
    if row.too_long:
        return (ANSWER, ThrottledError, CellsFailedError)
    return (ANSWER, TransientError, CellsFailedError) if row.patient else (ANSWER,)


def _is_one_of(ended: str, run: Run, expected: tuple[str | type[BaseException], ...]) -> bool:
    if run.error is None:
        return ended in expected
    return any(isinstance(kind, type) and isinstance(run.error, kind) for kind in expected)


def _most_requests(usual: int) -> int:
    """Return how many requests to a place are too few to be without end: every one repeated, then all of it once
    more (smaller pages, a new token)."""
    return usual * (RETRIES + 1) * 2 + 4


def _cells(bench: Bench) -> list[Cell]:
    return [(farm_id, day) for farm_id in bench.column.farms for day in bench.column.days]


def _cell_is_right(bench: Bench, run: Run, cell: Cell) -> bool:
    outcome = run.outcomes.get(cell)
    if outcome is None:
        return False
    right = bench.known.get((outcome.key.provider, *cell))
    mean = None if outcome.statistics is None else outcome.statistics.mean
    return right is not None and _same((outcome.status, mean), right)


def _failed(run: Run, cell: Cell) -> bool:
    outcome = run.outcomes.get(cell)
    if outcome is not None:
        return outcome.status in {ObservationStatus.PROVIDER_FAILED, ObservationStatus.REJECTED}
    if isinstance(run.error, CellsFailedError):
        return any(name.startswith(f"{cell[1]}|{cell[0]}|") for name in run.error.failures)
    return isinstance(run.error, FarmIntelError)


def _number(run: Run, cell: Cell) -> float | None:
    outcome = run.outcomes.get(cell)
    return None if outcome is None or outcome.statistics is None or stands_in(outcome) else outcome.statistics.mean


def _same(one: Value, other: Value) -> bool:
    if one[0] is not other[0] or (one[1] is None) != (other[1] is None):
        return False
    return one[1] is None or other[1] is None or abs(one[1] - other[1]) <= TOLERANCE


def _error_name(run: Run) -> str:
    return type(run.error).__name__


def _name(expected: str | type[BaseException]) -> str:
    return expected if isinstance(expected, str) else expected.__name__


def _verdict(
    bench: Bench, run: Run, wrong: list[str], ended: str, *, place: str, row: str, mode: str, in_order: bool
) -> Verdict:
    return Verdict(
        column=bench.column.name,
        place=place,
        row=row,
        mode=mode,
        in_order=in_order,
        ended=ended,
        seconds=run.seconds,
        requests=run.requests,
        wrong=tuple(wrong),
        detail=_detail(run),
    )


def _detail(run: Run) -> str:
    """Return the first words of what was said."""
    if run.error is not None:
        return str(run.error)
    failed = [o.reason for o in run.outcomes.values() if o.status is ObservationStatus.PROVIDER_FAILED]
    return failed[0] if failed else ""
