"""Measurements as they stand in `results/runs.jsonl`, and the questions asked of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.job import Case


@dataclass(frozen=True)
class Record:
    """One run of one case."""

    case: Case
    round: int
    values: dict[str, Any]
    """What `benchmarks.measure` printed."""

    def to_json(self) -> str:
        return json.dumps({"case": asdict(self.case), "round": self.round, **self.values})

    @classmethod
    def from_json(cls, line: str) -> Record:
        values = json.loads(line)
        return cls(Case(**values.pop("case")), values.pop("round"), values)


@dataclass(frozen=True)
class Point:
    """Medians over the rounds of one case."""

    case: Case
    rounds: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    values: dict[str, Any]
    """Of the last round: counters do not vary."""

    @property
    def rows_per_s(self) -> float:
        """Farm-dates per second of wall time."""
        return self.case.farm_dates / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU per farm-date, ms."""
        return 1e3 * self.cpu_s / self.case.farm_dates

    @property
    def rows_per_cpu_s(self) -> float:
        """Observations (farm x date x index) per CPU-second."""
        return 5 * self.case.farm_dates / self.cpu_s

    @property
    def facts(self) -> dict[str, Any]:
        return dict(self.values["facts"])

    @property
    def requests(self) -> int | None:
        return self.values.get("requests")

    @property
    def megabytes(self) -> float | None:
        sent = self.values.get("bytes_sent")
        return None if sent is None else sent / 1e6


class Records:
    """All measurements of a run."""

    def __init__(self, records: Iterable[Record]) -> None:
        grouped: dict[tuple[str, int, int, str], list[Record]] = {}
        for record in records:
            grouped.setdefault(record.case.key, []).append(record)
        self.points = {key: _point(group) for key, group in grouped.items()}

    @classmethod
    def read(cls, path: Path) -> Records:
        return cls(Record.from_json(line) for line in path.read_text().splitlines() if line.startswith('{"case"'))

    def get(self, contender: str, farms: int, dates: int = 1, via: str = "local") -> Point:
        """Return a point; KeyError where it was not measured."""
        return self.points[contender, farms, dates, via]


def _point(group: Sequence[Record]) -> Point:
    def median(name: str) -> float:
        return statistics.median(record.values[name] for record in group)

    return Point(group[0].case, len(group), median("wall_s"), median("cpu_s"), median("peak_mb"), group[-1].values)
