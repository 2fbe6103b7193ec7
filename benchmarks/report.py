"""From measurements to `summary.md` and `cost.png`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.agreement import TOLERANCE, Agreement, agreements
from benchmarks.ours import OURS
from benchmarks.peers import PEERS
from benchmarks.records import Point, Records
from benchmarks.targets import Verdict, judge

_TITLES = {name: title for name, (_, title) in OURS.items()} | {name: peer.title for name, peer in PEERS.items()}
_RULES = {"same": "ours", "whole": "wholly inside (exactextract)", "centre": "pixel centre"}


def write_report(folder: Path, records: Records, about: dict[str, Any], means: Path) -> str:
    """Write summary and plot, and return the verdicts for the terminal."""
    verdicts = list(judge(records))
    compared = list(agreements(records, means))
    text = "\n".join(
        (
            "# Benchmark results",
            "",
            _about(about),
            "",
            "## Targets",
            "",
            *_verdict_table(verdicts),
            "",
            "## Agreement of the means with the engine's",
            "",
            *_agreement_table(compared),
            "",
            "`ladder`: cells where clouds left fewer than ten whole pixels, so that the engine took edge pixels too;",
            "no peer has that rule, so they are counted and not compared.",
            "`only one has it`: the store refuses cells with less than a tenth of the farm clear; and a few clear",
            "pixels may give a number by one pixel rule and none by another.",
            "",
            "## Measurements",
            "",
            "Medians over the rounds. A row is one farm on one date with five indices, nine statistics each.",
            "CPU is the client's, all threads; requests and bytes are counted by the server.",
            "`*`: measured on a sample of farms spread over all; its cost per farm-date does not depend on how many",
            "there are, so the row stands for any number.",
            "",
            *_measurement_table(records),
            "",
            *_full_cost(records),
            "",
            "![CPU per farm-date](cost.png)",
            "",
        ),
    )
    (folder / "summary.md").write_text(text)
    _plot(folder / "cost.png", records)
    return "\n".join((*_verdict_table(verdicts), "", *_agreement_table(compared)))


def _about(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    ratios = ", ".join(f"{key} {ratio}" for key, ratio in about["compression"].items())
    return (
        f"{about['date']}, {about['cores']} cores ({about['cpu']}), Python {about['python']}, {versions}.\n"
        f"One Sentinel-2-like tile, deflate with predictor in blocks of 1024; compression: {ratios}.\n"
        f"`http` is a range server on the same machine with {about['latency_ms']} ms before each answer; its CPU is\n"
        "not counted, but it shares the cores, so wall times over http are pessimistic for all.\n"
        "The machine is shared: trust ratios, not seconds."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _verdict_table(verdicts: Iterable[Verdict]) -> list[str]:
    return _table(
        ("target", "goal", "measured", ""),
        ((v.name, v.goal, v.measured, "pass" if v.passed else "**FAIL**") for v in verdicts),
    )


def _agreement_table(compared: Iterable[Agreement]) -> list[str]:
    return _table(
        (
            "contender",
            "pixel rule",
            "means",
            "ladder",
            "largest difference",
            "at",
            "median",
            "tolerance",
            "only one has it",
            "",
        ),
        (
            (
                _TITLES[a.contender],
                _RULES[a.rule],
                str(a.compared),
                str(a.ladder),
                f"{a.largest:.2g}",
                a.where,
                f"{a.median:.1g}",
                f"{TOLERANCE[a.rule]:g}",
                str(a.missing),
                "agrees" if a.good else "**DIFFERS**",
            )
            for a in compared
        ),
    )


def _measurement_table(records: Records) -> list[str]:
    head = (
        "contender", "via", "farms", "dates", "rows/s", "CPU ms/row", "observations per CPU-s", "requests/row",
        "kB/row", "peak MB", "rounds",
    )  # fmt: skip
    points = [point for point in records.points.values() if point.case.contender in _TITLES]
    order = list(_TITLES)
    points.sort(key=lambda p: (p.case.via, p.case.dates, p.case.farms, order.index(p.case.contender)))
    return _table(head, (_measurement(point) for point in points))


def _measurement(point: Point) -> tuple[str, ...]:
    case = point.case
    rows = case.farm_dates
    sampled = f"{case.sample}*" if case.sample else str(case.farms)
    requests = f"{point.requests / rows:.2f}" if point.requests is not None else ""
    kilobytes = f"{1e3 * point.megabytes / rows:.0f}" if point.megabytes is not None else ""
    floor = case.contender == "floor"
    return (
        _TITLES[case.contender],
        case.via,
        sampled,
        str(case.dates),
        f"{point.rows_per_s:.0f}",
        f"{point.cpu_ms:.2f}",
        "" if floor or case.contender == "engine-one" else f"{point.rows_per_cpu_s:.0f}",
        requests,
        kilobytes,
        f"{point.peak_mb:.0f}",
        str(point.rounds),
    )


def _full_cost(records: Records) -> list[str]:
    """Say what a year of 5,000 farms would take, from the same points."""
    rows = []
    for point in records.points.values():
        case = point.case
        whole = case.farms == 5_000 and case.dates == 1 and case.contender not in {"floor", "engine-one"}
        if case.contender in _TITLES and (whole or case.sample):
            hours = 5_000 * 73 / point.rows_per_s / 3600
            basis = "extrapolated per farm-date" if case.sample else "extrapolated per date"
            rows.append((hours, (_TITLES[case.contender], case.via, f"{hours:.2f}", basis)))
    table = _table(("contender", "via", "hours", "basis"), (row for _, row in sorted(rows)))
    return ["Wall time for 5,000 farms on 73 dates (one satellite year), from the rows above:", "", *table]


def _plot(path: Path, records: Records) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 5), sharey=True, layout="constrained")
    for axis, via in zip(axes, ("local", "http"), strict=True):
        for number, name in enumerate(name for name in _TITLES if name != "engine-one"):
            points = sorted(
                (p for p in records.points.values() if (p.case.contender, p.case.via, p.case.dates) == (name, via, 1)),
                key=lambda p: p.case.farms,
            )
            if not points:
                continue
            style = {"color": f"C{number}", "linewidth": 2.5 if name in OURS else 1.2, "label": _TITLES[name]}
            if points[0].case.sample:
                axis.axhline(points[0].cpu_ms, linestyle=":", **style)
            else:
                axis.plot([p.case.farms for p in points], [p.cpu_ms for p in points], marker="o", **style)
        axis.set(xscale="log", yscale="log", xlabel="farms in one tile")
        axis.set_title("local disk" if via == "local" else "range server, 30 ms latency")
        axis.grid(visible=True, which="both", alpha=0.2)
    axes[0].set_ylabel("CPU per farm-date, ms (five indices)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
