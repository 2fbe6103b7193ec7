"""The scoreboard of farm states: events told from simulated seasons against those that truly happened.

The path is the one production takes: observations of one provider, judged and fused (spikes told by their neighbours in
time), then facts and rules. Only the latest planting day of a farm is made known, as for real farms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time

import numpy as np

from farm_intel.domain.farm_events import FarmEvent, detect_events
from farm_intel.domain.farm_state import RuleTable, classify
from farm_intel.domain.fused_days import assemble
from farm_intel.domain.fusion import decide
from farm_intel.domain.looks import collect_looks
from farm_intel.domain.observations import Flag, Observation, ObservationKey, ObservationStatus, ZonalStatistics
from farm_intel.domain.state_facts import Facts, build_facts, index_series
from farm_intel.indices.index import SpectralIndex
from farm_intel.indices.quality import assessment_rules
from farm_intel.indices.state_rules import StateRules
from farm_intel.simulation.seasons import SeasonOptions, SimulatedFarm, TrueEvent, simulate_seasons

SCORED_SEEDS = (201, 202, 203)
"""Seeds the rules were not tuned on (they were on 1 and 2)."""
TOLERANCE_DAYS: Mapping[str, int] = {"harvest": 15, "flood": 15, "hail": 15, "drought": 25}
"""How far the told day may be from the true one: three revisits; a drought begins slowly, so five."""
LIMIT = 0.9
"""Precision and recall each event type is held to."""
_ALL = "all"
_FLAP_DAYS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One line of the scoreboard."""

    event: str
    crop: str
    """Or `all`."""
    seasons: int
    true: int
    """Events that happened."""
    unseen: int
    """Of these, events that no usable acquisitions show (`TrueEvent.seen`): found or not, they do not count."""
    found: int
    missed: int
    false: int
    """Told, but nothing of the kind happened within the tolerance."""
    error_days: float | None
    """Median distance of the told from the true day."""
    tolerance_days: int
    judged: bool

    @property
    def precision(self) -> float:
        """Share of the told events that happened, 0..1; 1 where none was told."""
        return self.found / (self.found + self.false) if self.found + self.false else 1.0

    @property
    def recall(self) -> float:
        """Share of the seen events that were told, 0..1; 1 where there is none."""
        return self.found / (self.found + self.missed) if self.found + self.missed else 1.0

    @property
    def met(self) -> bool:
        """True where precision and recall reach the limit."""
        return self.precision >= LIMIT and self.recall >= LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReport:
    """What the scoreboard of states says."""

    rows: tuple[EventRow, ...]
    farms: int
    farm_years: float
    changes: int
    """Changes of the farm state."""
    flaps: int
    """Changes that were taken back within 15 days."""
    rules: str
    seeds: tuple[int, ...]

    @property
    def failed_targets(self) -> tuple[str, ...]:
        """One line for every event type below the limit."""
        return tuple(
            f"{row.event}: precision {row.precision:.3f}, recall {row.recall:.3f}, both should reach {LIMIT}"
            for row in self.rows
            if row.judged and not row.met
        )

    def table(self) -> list[dict[str, str]]:
        """The rows as text, for a table."""
        return [
            {
                "event": row.event,
                "crop": row.crop,
                "true": str(row.true),
                "unseen": str(row.unseen),
                "found": str(row.found),
                "missed": str(row.missed),
                "false": str(row.false),
                "precision": f"{row.precision:.3f}",
                "recall": f"{row.recall:.3f}",
                "days off": "-" if row.error_days is None else f"{row.error_days:.0f}",
                "tolerance": f"{row.tolerance_days} d",
                "verdict": ("met" if row.met else "missed") if row.judged else "-",
            }
            for row in self.rows
        ]

    def as_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        rows = [{**asdict(row), "precision": row.precision, "recall": row.recall} for row in self.rows]
        return {**asdict(self), "rows": rows, "failed_targets": list(self.failed_targets)}


@dataclass(slots=True)
class _Count:
    seasons: int = 0
    true: int = 0
    unseen: int = 0
    found: int = 0
    missed: int = 0
    false: int = 0


def score_states(
    rules: StateRules, indices: Sequence[SpectralIndex], *, seeds: Sequence[int] = SCORED_SEEDS, farms: int = 120
) -> StateReport:
    """Return how well events are told on simulated seasons, per event type, and per event type and crop.

    Args:
        rules: the rule tables to score.
        indices: what is observed; those without an axis only cost time.
        seeds: of the seasons; do not score on what was tuned on.
        farms: per seed.

    """
    counts: dict[tuple[str, str], _Count] = defaultdict(_Count)
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    changes = flaps = total = 0
    years = 0.0
    for seed in seeds:
        simulated = simulate_seasons(SeasonOptions(seed=seed, farms=farms), indices)
        facts = fused_facts(simulated, indices, rules)
        for farm in simulated:
            table, total = rules.table(farm.crop), total + 1
            _count(farm, detect_events(facts[farm.farm_id], table.events), counts, errors, rules.events)
            changed, flapped = _unrest(facts[farm.farm_id], table)
            changes, flaps = changes + changed, flaps + flapped
            years += (farm.end - farm.start).days / 365.25
    return StateReport(
        rows=tuple(_row(*key, counts[key], errors[key]) for key in _order(counts, rules.events)),
        farms=total,
        farm_years=years,
        changes=changes,
        flaps=flaps,
        rules=rules.version,
        seeds=tuple(seeds),
    )


def fused_facts(
    farms: Sequence[SimulatedFarm], indices: Sequence[SpectralIndex], rules: StateRules
) -> dict[str, Facts]:
    """Return farm -> facts of its fused observations, through the fusion's own code."""
    series: dict[str, dict[str, list[tuple[int, float, float, float]]]] = defaultdict(lambda: defaultdict(list))
    for index in indices:
        wanted = assessment_rules(index)
        looks = collect_looks((row for farm in farms for row in observations_of(farm, index.slug)), wanted.sensors)
        for fused in assemble(decide(looks, wanted), wanted):
            if fused.value is not None:
                error = float("nan") if fused.standard_error is None else fused.standard_error
                series[fused.farm_id][index.slug].append(
                    (fused.solar_day.toordinal(), fused.value, error, fused.confidence)
                )
    facts: dict[str, Facts] = {}
    for farm in farms:
        table = rules.table(farm.crop)
        own = {slug: index_series(slug, points) for slug, points in series[farm.farm_id].items()}
        latest = farm.seasons[-1].planted.toordinal()
        facts[farm.farm_id] = build_facts(own, table.axes, table.parameters, plantings=(latest,), pair=table.brightness)
    return facts


def observations_of(farm: SimulatedFarm, index: str) -> Iterator[Observation]:
    """Yield what a provider would have stored of a simulated field."""
    columns = zip(farm.days, farm.values[index].tolist(), farm.valid.tolist(), strict=True)
    for day, value, valid in columns:
        yield Observation(
            key=ObservationKey(
                farm_id=farm.farm_id, index=index, provider="stac", collection="sentinel-2-l2a", solar_day=day
            ),
            status=ObservationStatus.OBSERVED,
            statistics=ZonalStatistics(
                mean=value, median=value, std=0.03, min=value, max=value, p10=value, p25=value, p75=value, p90=value
            ),
            pixel_count=100,
            valid_pixel_count=round(100 * valid),
            used_pixel_count=round(80 * valid),
            n_effective=60.0 * valid,
            standard_error=0.03 / (60.0 * valid) ** 0.5,
            valid_pixel_fraction=valid,
            cloud_fraction=1.0 - valid,
            covered_fraction=1.0,
            masked_fractions={"valid": valid, "cloud": 1.0 - valid},
            flags=(Flag.PARTLY_CLOUDY,) if valid < 1.0 else (),
            scene_ids=(f"S2A_MSIL2A_{day:%Y%m%d}T100000_N0510_R022_T36MZE",),
            gsd_m=10.0,
            acquired_at=datetime.combine(day, time(10), UTC),
        )


def _count(
    farm: SimulatedFarm,
    told: Sequence[FarmEvent],
    counts: dict[tuple[str, str], _Count],
    errors: dict[tuple[str, str], list[float]],
    kinds: Iterable[str],
) -> None:
    for kind in kinds:
        happened = [event for event in farm.events if event.kind == kind]
        pairs = match_events(happened, [event.day for event in told if event.name == kind], TOLERANCE_DAYS[kind])
        seen = [event for event in happened if event.seen]
        found = [distance for event, distance in pairs if event is not None and event.seen]
        for key in ((kind, farm.crop), (kind, _ALL)):
            one = counts[key]
            one.seasons += len(farm.seasons)
            one.true += len(happened)
            one.unseen += len(happened) - len(seen)
            one.found += len(found)
            one.missed += len(seen) - len(found)
            one.false += sum(event is None for event, _ in pairs)
            errors[key] += found


def match_events(
    happened: Sequence[TrueEvent], told: Sequence[int], tolerance_days: int
) -> list[tuple[TrueEvent | None, float]]:
    """Return for every told day the event it tells of, nearest pairs first, each used once; None for a false alarm."""
    distances = sorted(
        (abs(day - event.day.toordinal()), k, e) for k, day in enumerate(told) for e, event in enumerate(happened)
    )
    by_told: dict[int, tuple[TrueEvent, float]] = {}
    used: set[int] = set()
    for distance, k, e in distances:
        if distance <= tolerance_days and k not in by_told and e not in used:
            by_told[k] = (happened[e], float(distance))
            used.add(e)
    return [by_told.get(k, (None, 0.0)) for k in range(len(told))]


def _unrest(facts: Facts, table: RuleTable) -> tuple[int, int]:
    """Return how often the state changed, and how often it went back to what it was within 15 days."""
    course = classify(facts, table)
    runs: list[tuple[str, int]] = []
    for state, since in zip(course.states, course.since, strict=True):
        if not runs or runs[-1][0] != state:
            runs.append((state, since))
    back = zip(runs, runs[1:], runs[2:], strict=False)
    return max(len(runs) - 1, 0), sum(
        first[0] == last[0] and last[1] - middle[1] <= _FLAP_DAYS for first, middle, last in back
    )


def _row(kind: str, crop: str, count: _Count, errors: Sequence[float]) -> EventRow:
    return EventRow(
        event=kind,
        crop=crop,
        seasons=count.seasons,
        true=count.true,
        unseen=count.unseen,
        found=count.found,
        missed=count.missed,
        false=count.false,
        error_days=float(np.median(errors)) if errors else None,
        tolerance_days=TOLERANCE_DAYS[kind],
        judged=crop == _ALL,
    )


def _order(counts: Mapping[tuple[str, str], _Count], kinds: Sequence[str]) -> list[tuple[str, str]]:
    return sorted(counts, key=lambda key: (kinds.index(key[0]), key[1] != _ALL, key[1]))
