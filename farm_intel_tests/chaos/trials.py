"""All trials, each as lines of a table: what is wanted, what was measured, and whether that is right."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from farm_intel_tests.api import resume
from farm_intel_tests.chaos.kills import KillTrial, Verdict, run_trial
from farm_intel_tests.chaos.mutants import MUTANTS
from farm_intel_tests.chaos.outage import LatestOnly, Outage, run_outages
from farm_intel_tests.chaos.points import ERRORS, LANES, PointsVerdict, can_trace, run_points
from farm_intel_tests.chaos.postmaster import ServerVerdict, run_server_kills
from farm_intel_tests.chaos.voices import NoBreaker, run_voices
from farm_intel_tests.support.postgres import private_cluster

KILLED_MUTANTS = ("fence", "mark", "outbox", "lease", "sent")
STRUCK_MUTANTS = (("mark", "occurrence"), ("outbox", "occurrence"), ("sent", "delivery"))
LONGEST_RECOVERY_S = 10.0
DATES_PER_SERVER_KILL = 7
"""Things keep falling due for as long as the server is killed: a second of work, and two until it is back."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the table."""

    trial: str
    what: str
    """The design, or what a mutant lacks."""
    wanted: str
    measured: str
    right: bool


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is tried."""

    kills: int = 200
    activities: int = 20
    each: int = 40
    mutant_kills: int = 60
    mutant_each: int = 20
    server_kills: int = 10
    errors: tuple[str, ...] = ERRORS
    events: int = 10_000
    disconnects: int = 200
    alerts: int = 1000
    postgres: bool = True
    killed_mutants: tuple[str, ...] = KILLED_MUTANTS
    struck_mutants: tuple[tuple[str, str], ...] = STRUCK_MUTANTS
    at_once: int = 2
    """Kill loops of mutants: they mostly wait for things to fall due."""


QUICK = Size(
    kills=30,
    activities=8,
    each=10,
    mutant_kills=30,
    mutant_each=10,
    server_kills=2,
    errors=(),
    events=1000,
    disconnects=20,
    alerts=60,
    postgres=False,
    killed_mutants=("fence", "mark", "outbox"),
    struck_mutants=(("mark", "occurrence"), ("sent", "delivery")),
    at_once=3,
)
"""About a minute on two idle cores: every crash point, no server, and fewer mutants."""

type Lines = Iterator[Line]


def kills_on_sqlite(size: Size) -> Lines:
    """Kill processes over SQLite, then over each mutant."""
    yield _killed("SQLite", "", _kill_sqlite("", size))
    with ThreadPoolExecutor(size.at_once) as pool:
        small = Size(kills=size.mutant_kills, activities=10, each=size.mutant_each)
        verdicts = pool.map(lambda mutant: _kill_sqlite(mutant, small), size.killed_mutants)
        for mutant, verdict in zip(size.killed_mutants, verdicts, strict=True):
            yield _killed("SQLite", mutant, verdict)


def _kill_sqlite(mutant: str, size: Size) -> Verdict:
    with _folder() as folder:
        slow = 0.1 if mutant == "fence" else 0.02
        return run_trial(
            KillTrial(
                url=f"sqlite:///{folder}/store.db",
                folder=folder,
                mutant=mutant,
                kills=size.kills,
                activities=size.activities,
                each=size.each,
                slow=slow,
            )
        )


def kills_on_postgres(size: Size) -> Lines:
    """Kill processes over PostgreSQL, then the server itself."""
    if not size.postgres:
        return
    try:
        with private_cluster() as cluster:
            for mutant, kills, each in (("", size.kills, size.each), ("mark", size.mutant_kills, size.mutant_each)):
                name = f"kills{mutant}"
                cluster.create(name)
                with _folder() as folder:
                    trial = KillTrial(
                        url=cluster.url(name),
                        folder=folder,
                        mutant=mutant,
                        kills=kills,
                        activities=size.activities,
                        each=each,
                    )
                    yield _killed("PostgreSQL", mutant, run_trial(trial))
            for mutant, kills in (("", size.server_kills), ("told", max(2, size.server_kills // 3))):
                name = f"server{mutant}"
                cluster.create(name)
                with _folder() as folder:
                    trial = KillTrial(
                        url=cluster.url(name),
                        folder=folder,
                        kills=kills,
                        mutant=mutant,
                        each=DATES_PER_SERVER_KILL * kills,
                    )
                    yield _server(run_server_kills(cluster, trial), mutant)
    except pytest.skip.Exception as absent:
        yield Line(
            trial="PostgreSQL", what="the design", wanted="a server", measured=f"left out: {absent}", right=False
        )


def crash_points(size: Size) -> Lines:
    """Kill, and fail, each system call that writes."""
    if not can_trace():
        yield Line(trial="crash points", what="the design", wanted="strace", measured="may not trace here", right=False)
        return
    yield from _struck("", "", LANES, size.errors)
    for mutant, lane in size.struck_mutants:
        yield from _struck(mutant, lane, (lane,), ())


def _struck(mutant: str, lane: str, lanes: tuple[str, ...], errors: tuple[str, ...]) -> Lines:
    with _folder() as folder:
        verdict = run_points(Path(folder), mutant=mutant, lanes=lanes, errors=errors)
    if mutant:
        yield Line(
            trial=f"crash points, one {lane}",
            what=MUTANTS[mutant].what,
            wanted="a violation is found",
            measured=f"at point {verdict.count('SIGKILL')}: {'; '.join(verdict.violations) or 'nothing'}",
            right=bool(verdict.violations),
        )
        return
    for one in LANES:
        yield _points_line(one, verdict, "SIGKILL")
    for error in errors:
        yield _errors_line(verdict, error)


def _points_line(lane: str, verdict: PointsVerdict, struck: str) -> Line:
    calls = {call: count for (name, call, what), count in verdict.points.items() if (name, what) == (lane, struck)}
    wrong = [what for what in verdict.violations if what.startswith(f"{lane}: ") and f" {struck}: " in what]
    points = ", ".join(f"{count} {call}" for call, count in sorted(calls.items()))
    return Line(
        trial=f"crash points, one {lane}",
        what="the design",
        wanted="0 violations",
        measured=f"{len(wrong)} violations at {sum(calls.values())} points ({points})" + _first(wrong),
        right=not wrong and bool(calls),
    )


def _errors_line(verdict: PointsVerdict, error: str) -> Line:
    wrong = [what for what in verdict.violations if f" {error}: " in what]
    return Line(
        trial=f"{error} at each of these points",
        what="the design",
        wanted="typed error or none, nothing half written, healed by the next run",
        measured=f"{len(wrong)} violations at {verdict.count(error)} points" + _first(wrong),
        right=not wrong and verdict.count(error) > 0,
    )


def outage(size: Size) -> Lines:
    """Let nothing run for a day."""
    del size
    with _folder() as folder:
        for found in run_outages(Path(folder)):
            yield _missed(found)
    with _folder() as folder:
        mutant = run_outages(Path(folder), LatestOnly)
    wrong = [found for found in mutant if found.wrong]
    yield Line(
        trial="24 h outage",
        what="only the latest missed date is looked at",
        wanted="missing rows are found",
        measured=f"{sum(found.expected - found.rows for found in wrong)} dates without a row",
        right=bool(wrong),
    )


def _missed(found: Outage) -> Line:
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.states.items()))
    return Line(
        trial=f"24 h outage, `{found.plan}`",
        what=f"misfire {found.policy}",
        wanted=f"{found.expected} rows, done or with a reason",
        measured=f"{found.rows} rows: {states}; {found.unexplained} without a reason; {found.told} told",
        right=not found.wrong,
    )


def resuming(size: Size) -> Lines:
    """Cut clients of the live channel off, again and again."""
    for mutant, events, disconnects in (("", size.events, size.disconnects), ("skips", 2000, 100)):
        with _folder() as folder:
            url = f"sqlite:///{folder}/store.db"
            found = resume.run_trial(
                resume.Trial(database_url=url, events=events, disconnects=disconnects, mutant=mutant)
            )
        yield Line(
            trial="resume, 8 writers",
            what="a resume begins one too late" if mutant else "the design",
            wanted="missed events are found" if mutant else "0 missed, 0 out of order, 0 duplicates",
            measured=f"{found.events} events, {found.disconnects} disconnects: {found.missed} missed,"
            f" {found.out_of_order} out of order, {found.duplicates} duplicates",
            right=bool(found.faults) if mutant else not found.faults and found.disconnects >= disconnects,
        )


def voices(size: Size) -> Lines:
    """Kill the neural voice whenever it is asked."""
    with _folder() as folder:
        found = run_voices(Path(folder), alerts=size.alerts)
    engines = ", ".join(f"{count} by {engine}" for engine, count in sorted(found.engines.items()))
    yield Line(
        trial="neural voice killed",
        what="the design",
        wanted="audio for every alert, at most one call per open period",
        measured=f"{found.with_audio} of {found.alerts} alerts with audio ({engines}), {found.calls} calls in"
        f" {found.periods} open periods",
        right=not found.faults,
    )
    with _folder() as folder:
        found = run_voices(Path(folder), alerts=20, breaker=NoBreaker)
    yield Line(
        trial="neural voice killed",
        what="no breaker",
        wanted="calls are found",
        measured=f"{found.calls} calls for {found.alerts} alerts",
        right=found.calls > found.periods,
    )


TRIALS: dict[str, Callable[[Size], Lines]] = {
    "kills": kills_on_sqlite,
    "postgres": kills_on_postgres,
    "points": crash_points,
    "outage": outage,
    "resume": resuming,
    "voices": voices,
}


def _killed(database: str, mutant: str, found: Verdict) -> Line:
    measured = (
        f"{found.executed} of {found.expected} executed, {found.lost} lost, {found.doubled} doubled,"
        f" {found.untold} without a message, {found.undelivered} undelivered after {found.kills} kills;"
        f" {found.deliveries} deliveries, {found.repeated} repeated with the same id;"
        f" {found.retaken} taken on more than once"
    )
    if found.acknowledged_lost or found.unexpected or found.fallen:
        measured += (
            f"; {found.acknowledged_lost} acknowledged and lost, {found.unexpected} nobody planned,"
            f" {found.fallen} processes fell"
        )
    return Line(
        trial=f"kill loop, {database}",
        what=MUTANTS[mutant].what,
        wanted="losses or duplicates are found"
        if mutant
        else f"{found.expected} executed, 0 lost, 0 doubled, all delivered",
        measured=measured,
        # a loop whose kills never meet anybody at work has lost its aim
        right=bool(found.faults) if mutant else not found.faults and found.retaken > 0,
    )


def _server(found: ServerVerdict, mutant: str) -> Line:
    verdict = found.verdict
    longest = max(found.recovery_s)
    return Line(
        trial="PostgreSQL postmaster killed, 3 workers",
        what=MUTANTS[mutant].what,
        wanted="acknowledged and lost are found"
        if mutant
        else f"0 acknowledged lost, 0 without outbox row, 0 twice, back in < {LONGEST_RECOVERY_S:.0f} s",
        measured=f"{verdict.executed} of {verdict.expected} executed, {verdict.acknowledged_lost} acknowledged lost,"
        f" {verdict.untold} without outbox row, {verdict.doubled} twice after {found.server_kills} kills;"
        f" {verdict.retaken} taken on more than once, {verdict.deliveries} deliveries, {verdict.repeated} repeated with"
        " the same id;"
        f" back after {found.median_recovery_s:.1f} s (longest {longest:.1f} s)",
        right=verdict.acknowledged_lost > 0
        if mutant
        else not verdict.faults and verdict.retaken > 0 and found.median_recovery_s < LONGEST_RECOVERY_S,
    )


def _first(wrong: list[str]) -> str:
    return f"; the first: {wrong[0]}" if wrong else ""


_folder = partial(tempfile.TemporaryDirectory, prefix="farm-intel-chaos-")
