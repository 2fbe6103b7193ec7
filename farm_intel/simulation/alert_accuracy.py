"""The scoreboard of alerts: what the rules tell of simulated seasons against what they should have told.

The path is the one production takes: observations fused, seasons and states assessed, rules evaluated day by day, and
opened and resolved by the life cycle's own reducer. Half of the harvests are logged. An alert is right when it opens
after the true onset and within the tolerance, once per event: a second one for the same event is false.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np

from farm_intel.domain.alerts import AlertRule
from farm_intel.indices.index import SpectralIndex
from farm_intel.simulation.alert_truth import StageOf, TrueAlert, is_scored, true_alerts
from farm_intel.simulation.seasons import SeasonOptions, SimulatedFarm, simulate_seasons

SCORED_SEEDS = (401, 402, 403)
"""Seeds the rules were not tuned on (they were on 1, 2, 11 and 12)."""
LIMIT = 0.9
"""Precision and recall that all rules on fields together are held to."""
_ALL = "all on fields"
"""Rules on what happens on fields. Silence is scored too, but it is certain by nature and would drown the others."""

_SILENCE = "silence"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldAlert:
    """An alert that the rules opened on a simulated field."""

    farm_id: str
    rule: str
    opened: date
    resolved: date | None


Tell = Callable[[Mapping[str, SimulatedFarm]], Iterable[ToldAlert]]
"""Runs the use cases over simulated fields and returns the alerts they open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One line of the scoreboard."""

    rule: str
    true: int
    """What should have been told."""
    told: int
    right: int
    """Of these, alerts on something that truly was there."""
    found: int
    """Of the true ones, those that were told."""
    late_days: float | None
    """Median of the days from the true onset to the opening."""
    latest_days: float | None
    """The same, nine out of ten."""
    judged: bool

    @property
    def precision(self) -> float:
        """Share of the told alerts that were right, 0..1; 1 where none was told."""
        return self.right / self.told if self.told else 1.0

    @property
    def recall(self) -> float:
        """Share of what should have been told that was, 0..1; 1 where there was nothing to tell."""
        return self.found / self.true if self.true else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertReport:
    """What the scoreboard of alerts says."""

    rows: tuple[AlertRow, ...]
    farms: int
    farm_years: float
    not_scored: tuple[str, ...]
    """Rules that simulated seasons cannot score: they rest on weather, people, providers or pixels."""
    seeds: tuple[int, ...]

    @property
    def failed_targets(self) -> tuple[str, ...]:
        """One line where all rules together miss the limit."""
        return tuple(
            f"alerts: precision {row.precision:.3f}, recall {row.recall:.3f}, both should reach {LIMIT}"
            for row in self.rows
            if row.judged and min(row.precision, row.recall) < LIMIT
        )

    def table(self) -> list[dict[str, str]]:
        """The rows as text, for a table."""
        return [
            {
                "rule": row.rule,
                "true": str(row.true),
                "told": str(row.told),
                "found": str(row.found),
                "missed": str(row.true - row.found),
                "false": str(row.told - row.right),
                "precision": f"{row.precision:.3f}",
                "recall": f"{row.recall:.3f}",
                "days late": "-" if row.late_days is None else f"{row.late_days:.0f}",
                "9 of 10": "-" if row.latest_days is None else f"{row.latest_days:.0f}",
                "verdict": ("met" if min(row.precision, row.recall) >= LIMIT else "missed") if row.judged else "-",
            }
            for row in self.rows
        ]

    def as_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        rows = [{**asdict(row), "precision": row.precision, "recall": row.recall} for row in self.rows]
        return {**asdict(self), "rows": rows, "failed_targets": list(self.failed_targets)}


@dataclass(slots=True)
class _Count:
    true: int = 0
    told: int = 0
    right: int = 0
    found: int = 0


def score_alerts(
    tell: Tell,
    rules: Sequence[AlertRule],
    indices: Sequence[SpectralIndex],
    *,
    stage_of: StageOf,
    seeds: Sequence[int] = SCORED_SEEDS,
    farms: int = 120,
) -> AlertReport:
    """Return how well alerts are told on simulated seasons, per rule and over all rules.

    Args:
        tell: runs the use cases.
        rules: the rules that `tell` evaluates.
        indices: what is observed: those of the rules and of the farm states.
        stage_of: (crop, days after planting) -> stage.
        seeds: of the seasons; do not score on what was tuned on.
        farms: per seed.

    """
    counts: dict[str, _Count] = defaultdict(_Count)
    late: dict[str, list[int]] = defaultdict(list)
    total, years = 0, 0.0
    scored = [rule for rule in rules if is_scored(rule)]
    for seed in seeds:
        simulated = {farm.farm_id: farm for farm in simulate_seasons(SeasonOptions(seed=seed, farms=farms), indices)}
        told: dict[tuple[str, str], list[date]] = defaultdict(list)
        for alert in tell(simulated):
            told[alert.farm_id, alert.rule].append(alert.opened)
        for farm in simulated.values():
            total, years = total + 1, years + (farm.end - farm.start).days / 365.25
            for rule in scored:
                truth = true_alerts(farm, rule, stage_of)
                for name in (rule.slug, _ALL) if rule.kind != _SILENCE else (rule.slug,):
                    late[name] += _count(truth, told[farm.farm_id, rule.slug], counts[name])
    return AlertReport(
        rows=tuple(_row(name, counts[name], late[name]) for name in (*(rule.slug for rule in scored), _ALL)),
        farms=total,
        farm_years=years,
        not_scored=tuple(rule.slug for rule in rules if not is_scored(rule)),
        seeds=tuple(seeds),
    )


def match_alerts(truth: Sequence[TrueAlert], opened: Sequence[date]) -> list[tuple[TrueAlert | None, int]]:
    """Return for every opening the true alert it tells of and how many days late it is; None for a false one.

    Earliest openings first, each takes the latest true onset that is still free and within its tolerance.
    """
    free = sorted(truth, key=lambda one: one.day)
    pairs: list[tuple[TrueAlert | None, int]] = []
    for day in sorted(opened):
        fitting = [one for one in free if one.day <= day <= one.latest]
        if not fitting:
            pairs.append((None, 0))
            continue
        free.remove(fitting[-1])
        pairs.append((fitting[-1], (day - fitting[-1].day).days))
    return pairs


def _count(truth: Sequence[TrueAlert], opened: Sequence[date], count: _Count) -> list[int]:
    pairs = match_alerts(truth, opened)
    found = [days for one, days in pairs if one is not None and one.required]
    count.true += sum(one.required for one in truth)
    count.told += len(opened)
    count.right += sum(one is not None for one, _ in pairs)
    count.found += len(found)
    return found


def _row(name: str, count: _Count, late: Sequence[int]) -> AlertRow:
    return AlertRow(
        rule=name,
        true=count.true,
        told=count.told,
        right=count.right,
        found=count.found,
        late_days=float(np.median(late)) if late else None,
        latest_days=float(np.percentile(late, 90)) if late else None,
        judged=name == _ALL,
    )
