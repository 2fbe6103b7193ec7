"""Dated events from rule tables: an onset that stands out, confirmed by what comes after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from farm_intel.domain.farm_state import AfterCondition, EventRule
from farm_intel.domain.state_facts import Facts

_STATISTICS: dict[str, Callable[[npt.NDArray[np.float64]], np.float64]] = {
    "median": lambda values: np.float64(np.median(values)),
    "minimum": lambda values: np.float64(values.min()),
    "maximum": lambda values: np.float64(values.max()),
}
STATISTIC_NAMES = frozenset(_STATISTICS)

_SAME_DAYS = 3
"""Onsets so close are one thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmEvent:
    """Something that happened to a farm."""

    name: str
    day: int
    """Ordinal of the most likely day."""
    sigma_days: float
    """Half the time in which it can have happened."""
    onset: int
    """Ordinal of the first observation that shows it."""
    known: int
    """Ordinal of the observation that confirmed it: before, nobody could tell."""
    strength: float
    """Share of canopy lost at the onset; NaN where unknown."""


def detect_events(facts: Facts, rules: Sequence[EventRule]) -> tuple[FarmEvent, ...]:
    """Return the events of a farm, ascending by day.

    Rules stand in order of precedence: an event mutes those below it, for the days its row says.
    """
    found: list[FarmEvent] = []
    for rule in rules:
        for number in np.flatnonzero(_onsets(facts, rule)).tolist():
            event = _confirmed(facts, rule, number)
            if event and not _is_muted(event, found, rules):
                found.append(event)
    return tuple(sorted(found, key=lambda event: (event.day, event.name)))


def _onsets(facts: Facts, rule: EventRule) -> npt.NDArray[np.bool_]:
    met = np.ones(facts.days.size, np.bool_)
    for condition in rule.onset:
        met &= condition.holds(facts.values[condition.fact], held=False)
    return met


def _confirmed(facts: Facts, rule: EventRule, number: int) -> FarmEvent | None:
    day = int(facts.days[number])
    low, high = rule.after_days
    later = np.flatnonzero((facts.days > day + low) & (facts.days <= day + high))
    if later.size < rule.after_count or not all(_after(facts, one, number, later) for one in rule.after):
        return None
    known = int(facts.days[later[rule.after_count - 1]]) if rule.after_count else day
    gap = float(facts.values["season.gap_days"][number])
    gap = 0.0 if np.isnan(gap) else gap
    return FarmEvent(
        name=rule.name,
        day=round(day - gap / 2) if rule.between else day,
        sigma_days=max(gap / 2, 1.0),
        onset=day,
        known=known,
        strength=float(facts.values["canopy.step"][number]),
    )


def _after(facts: Facts, one: AfterCondition, number: int, later: npt.NDArray[np.intp]) -> bool:
    values = facts.values[one.condition.fact][later]
    values = values[np.isfinite(values)]
    if not values.size:
        return one.condition.optional
    told = _STATISTICS[one.statistic](values)
    if one.change:
        told = np.float64(told - facts.values[one.condition.fact][number])
    return bool(one.condition.holds(np.array([told]), held=False)[0])


def _is_muted(event: FarmEvent, found: Sequence[FarmEvent], rules: Sequence[EventRule]) -> bool:
    for other in found:
        rule = next(rule for rule in rules if rule.name == other.name)
        quiet = rule.quiet_days if other.name == event.name else rule.mutes.get(event.name, 0.0)
        if -_SAME_DAYS <= event.onset - other.onset <= quiet and quiet > 0.0:
            return True
    return False
