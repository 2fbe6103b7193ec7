"""The numbers to reach, each as a ratio within one run, with what was measured and whether it is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.records import Records

_NOISE = 1.1
"""CPU of equal runs differs by a tenth on a shared machine; growth within it is no growth."""
_HEADER_REQUESTS = 3
"""Requests per band file that are not blocks: header, perhaps its continuation, the overview of the probe."""
_FILES = 7


@dataclass(frozen=True)
class Verdict:
    """One target and what became of it."""

    name: str
    goal: str
    measured: str
    passed: bool


type _Rule = Callable[[Records], tuple[str, bool]]


def judge(records: Records) -> Iterator[Verdict]:
    """Yield a verdict per target; one whose cases were not measured has failed."""
    for name, goal, rule in _TARGETS:
        try:
            measured, passed = rule(records)
        except KeyError as missing:
            measured, passed = f"not measured: {missing}", False
        yield Verdict(name, goal, measured, passed)


def _faster(peer: str, goal: float, *, farms: int, via: str) -> _Rule:
    """Throughput in wall time decides; CPU is told as well."""

    def rule(records: Records) -> tuple[str, bool]:
        ours, theirs = records.get("engine", farms, via=via), records.get(peer, farms, via=via)
        ratio, cpu = ours.rows_per_s / theirs.rows_per_s, theirs.cpu_ms / ours.cpu_ms
        stored = ""
        if ("path", farms, 1, via) in records.points:
            path = records.get("path", farms, via=via)
            stored = f"; with storing {path.rows_per_s / theirs.rows_per_s:.1f}x wall"
        return f"{ratio:.1f}x wall, {cpu:.1f}x CPU{stored}", ratio >= goal

    return rule


def _amplification(records: Records) -> tuple[str, bool]:
    """Blocks decoded over blocks that shapely says the farms touch, which is not our own count."""
    worst = max(
        records.get("engine", farms).facts["blocks_decoded"] / records.get("floor", farms).facts["blocks_touched"]
        for farms in (100, 1_000, 5_000)
    )
    return f"{worst:.3f}", worst <= 1.05


def _requests(records: Records) -> tuple[str, bool]:
    parts, good = [], True
    for farms in (100, 1_000, 5_000):
        requests = records.get("engine", farms, via="http").requests or 0
        blocks = records.get("floor", farms).facts["blocks_touched"]
        good &= requests <= blocks + _HEADER_REQUESTS * _FILES
        parts.append(f"{requests} for {blocks} blocks ({farms} farms)")
    return ", ".join(parts), good


def _peak(records: Records) -> tuple[str, bool]:
    """Engine and whole path, every number of dates: memory is per process, whatever it is asked for."""
    points = [p for p in records.points.values() if p.case.contender in {"engine", "path"} and p.case.farms == 5_000]
    if not points:
        raise KeyError("engine, 5000")
    worst = {
        name: max((p for p in points if p.case.contender == name), key=lambda p: p.peak_mb, default=None)
        for name in ("engine", "path")
    }
    told = [f"{name} {p.peak_mb:.0f} MB ({p.case.dates} dates, {p.case.via})" for name, p in worst.items() if p]
    return ", ".join(told), max(p.peak_mb for p in points) <= 700


def _no_growth(records: Records) -> tuple[str, bool]:
    parts, good = [], True
    for via in ("local", "http"):
        four, sixteen = (records.get("engine", 5_000, dates, via).peak_mb for dates in (4, 16))
        good &= abs(sixteen / four - 1) <= 0.10
        parts.append(f"{four:.0f} to {sixteen:.0f} MB ({via})")
    return ", ".join(parts), good


def _floor(records: Records) -> tuple[str, bool]:
    path, floor = records.get("path", 5_000), records.get("floor", 5_000)
    engine = records.get("engine", 5_000)
    ratio = path.cpu_s / floor.cpu_s
    return (
        f"{ratio:.2f}x ({path.cpu_s:.2f} s over {floor.cpu_s:.2f} s); engine alone {engine.cpu_s / floor.cpu_s:.2f}x",
        ratio <= 2.0,
    )


def _storing(records: Records) -> tuple[str, bool]:
    path, engine = records.get("path", 5_000), records.get("engine", 5_000)
    beyond = path.cpu_s - engine.cpu_s
    publish = path.facts["publish_thread_cpu_s"]
    return (
        f"publishing {publish:.2f} s, all beyond the engine {beyond:.2f} s; engine {engine.cpu_s:.2f} s",
        max(beyond, publish) <= engine.cpu_s,
    )


def _one_read(records: Records) -> tuple[str, bool]:
    ratio = records.get("engine", 5_000).cpu_s / records.get("engine-one", 5_000).cpu_s
    return f"{ratio:.2f}x", ratio <= 1.15


def _falls(records: Records) -> tuple[str, bool]:
    parts, good = [], True
    for via in ("local", "http"):
        costs = [records.get("engine", farms, via=via).cpu_ms for farms in (100, 1_000, 5_000)]
        good &= costs[0] > costs[1] > costs[2]
        parts.append(" > ".join(f"{cost:.2f}" for cost in costs) + f" ms ({via})")
    return ", ".join(parts), good


def _linear(records: Records) -> tuple[str, bool]:
    parts, good = [], True
    for farms in (100, 1_000, 5_000):
        costs = [records.get("engine", farms, dates).cpu_s / dates for dates in (1, 4, 16)]
        good &= costs[1] <= costs[0] * _NOISE and costs[2] <= costs[1] * _NOISE
        parts.append(", ".join(f"{cost:.2f}" for cost in costs) + f" s a date ({farms} farms)")
    return "; ".join(parts), good


def _cells(records: Records) -> tuple[str, bool]:
    facts = records.get("dagster", 1_000).facts
    return f"{facts['overhead_ms_per_cell']:.1f} ms ({facts['cells']} cells)", facts["overhead_ms_per_cell"] <= 60


def _definitions(records: Records) -> tuple[str, bool]:
    facts = records.get("definitions", 0).facts
    return f"{facts['beyond_s']:.2f} s (Dagster itself {facts['dagster_cpu_s']:.2f} s)", facts["beyond_s"] < 2.0


_TARGETS: tuple[tuple[str, str, _Rule], ...] = (
    (
        "stackstac + exactextract over the bounding box, 1,000 farms, 30 ms",
        ">= 8x",
        _faster("stackstac-box", 8, farms=1_000, via="http"),
    ),
    (
        "stackstac + exactextract farm by farm, 1,000 farms, 30 ms",
        ">= 100x",
        _faster("stackstac-farm", 100, farms=1_000, via="http"),
    ),
    (
        "odc-stac + exactextract over the bounding box, 1,000 farms, 30 ms",
        ">= 4x",
        _faster("odc-box", 4, farms=1_000, via="http"),
    ),
    (
        "exactextract per scene, 5,000 farms, local disk",
        ">= 2x",
        _faster("exactextract-scene", 2, farms=5_000, via="local"),
    ),
    ("Blocks decoded over blocks touched", "<= 1.05", _amplification),
    ("Requests per scene, bounded by blocks", f"<= blocks + {_HEADER_REQUESTS} a file", _requests),
    ("Peak memory, 5,000 farms", "<= 700 MB", _peak),
    ("Peak memory from 4 to 16 dates, 5,000 farms", "+-10 %", _no_growth),
    ("Whole path over the inflate floor, CPU, 5,000 farms", "<= 2x", _floor),
    ("Storing over the engine, CPU, 5,000 farms", "<= 1x", _storing),
    ("Five indices over one index of the same bands, CPU, 5,000 farms", "<= 1.15x", _one_read),
    ("CPU per farm-date falls from 100 to 5,000 farms", "falls", _falls),
    ("CPU grows no faster than dates", f"within {_NOISE}x", _linear),
    ("Dagster's share per cell, 1,000 farms", "<= 60 ms", _cells),
    ("Definitions load beyond Dagster's import, CPU", "< 2 s", _definitions),
)
