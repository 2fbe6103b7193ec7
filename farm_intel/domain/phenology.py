"""Start, peak and end of growing seasons in a daily series.

A season runs from trough to trough of the smoothed course. It starts where the course has risen by a fraction of the
left amplitude above the trough before the peak, and ends where it has fallen to the same fraction of the right
amplitude (Jonsson and Eklundh 2004, TIMESAT, https://doi.org/10.1016/j.cageo.2004.05.006; with one half for the
fraction the rule is that of White et al. 1997, https://doi.org/10.1029/97GB00330). Any number of seasons a year; what
has not been seen is None and said so: the last season has ended when the course is back at the level it started from,
or when the next one has begun.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from farm_intel.domain.assessment import DailySeries, Phenology

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhenologyRule:
    """Parameters of one index."""

    min_amplitude: float
    """Rise and fall that make a season, index units; smaller ones are weeds, weather and noise."""
    fraction: float = 0.2
    """Of the amplitude at which a season starts and ends: TIMESAT's default."""
    slope_days: int = 3
    """The slope at a crossing is taken over so many days on both sides."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """A trough or peak, as the position in the series."""

    at: int
    is_peak: bool


def find_seasons(series: DailySeries, rule: PhenologyRule) -> tuple[Phenology, ...]:
    """Return the seasons of a series, ascending; the first and last may be incomplete."""
    values = series.values
    turns = turning_points(values, rule.min_amplitude)
    seasons: list[Phenology] = []
    for k, turn in enumerate(turns):
        if not turn.is_peak:
            continue
        left = turns[k - 1].at if k > 0 else 0
        right = turns[k + 1].at if k + 1 < len(turns) else values.size - 1
        back = float(values[left]) + rule.fraction * float(values[turn.at] - values[left])
        ended = k + 2 < len(turns) or (k + 1 < len(turns) and float(values[right]) <= back)
        seasons.append(_season(series, (left, turn.at, right), ended, rule))
    return tuple(seasons)


def turning_points(values: FloatArray, swing: float) -> list[_Turn]:
    """Return alternating troughs and peaks such that the course swings by at least `swing` between neighbours.

    The last turn is only reported once the course has left it by `swing`, except for the highest point after the last
    trough, if it stands `swing` above it: the season under way.
    """
    turns: list[_Turn] = []
    low = high = 0
    rising: bool | None = None
    course = values.tolist()
    for k, value in enumerate(course):
        if value > course[high]:
            high = k
        if value < course[low]:
            low = k
        if rising is not False and course[high] - value >= swing:
            if rising is None and low < high and course[high] - course[low] >= swing:
                turns.append(_Turn(low, is_peak=False))
            turns.append(_Turn(high, is_peak=True))
            rising, low = False, k
        elif rising is not True and value - course[low] >= swing:
            turns.append(_Turn(low, is_peak=False))
            rising, high = True, k
    if rising:
        turns.append(_Turn(high, is_peak=True))
    elif rising is False and turns and low > turns[-1].at:
        turns.append(_Turn(low, is_peak=False))
    return turns


def _season(series: DailySeries, turns: tuple[int, int, int], ended: bool, rule: PhenologyRule) -> Phenology:  # noqa: FBT001 - private, one caller
    left, peak, right = turns
    values = series.values
    top = float(values[peak])
    rise, fall = top - float(values[left]), top - float(values[right])
    start = _crossing(values, peak, left, float(values[left]) + rule.fraction * rise) if rise > 0.0 else None
    seen_start = start is not None and rise >= rule.min_amplitude
    end = _crossing(values, peak, right, float(values[right]) + rule.fraction * fall) if ended and fall > 0.0 else None
    peaked = ended or fall >= 0.5 * rule.min_amplitude
    notes = []
    if not seen_start:
        notes.append("began before the first observation")
    if end is None:
        notes.append("not over yet" if peaked else "still growing")
    return Phenology(
        start=_day(series, start) if seen_start and start is not None else None,
        start_sigma_days=_sigma_days(series, start, rule) if seen_start and start is not None else None,
        peak=_day(series, peak) if peaked else None,
        peak_value=top if peaked else None,
        end=None if end is None else _day(series, end),
        end_sigma_days=None if end is None else _sigma_days(series, end, rule),
        amplitude=top - min(float(values[left]), float(values[right])) if peaked else None,
        complete=seen_start and end is not None,
        note="; ".join(notes),
    )


def _crossing(values: FloatArray, peak: int, base: int, level: float) -> float | None:
    """Return where, going from the peak to the base, the course first is at the level; a fraction of a day."""
    step = 1 if base > peak else -1
    course = values[peak : base + 1] if step > 0 else values[base : peak + 1][::-1]
    below = np.flatnonzero(course <= level)
    if not below.size or below[0] == 0:
        return None
    k = int(below[0])
    over, under = float(course[k - 1]), float(course[k])
    part = (over - level) / (over - under)
    return peak + step * (k - 1 + part)


def _day(series: DailySeries, position: float) -> date:
    return date.fromordinal(series.start.toordinal() + round(position))


def _sigma_days(series: DailySeries, position: float, rule: PhenologyRule) -> float:
    """Return the standard error of a crossing: the series' own over its slope, and the gap in the data around it."""
    at = round(position)
    low, high = max(at - rule.slope_days, 0), min(at + rule.slope_days, series.values.size - 1)
    slope = abs(float(series.values[high] - series.values[low])) / max(high - low, 1)
    seen = np.flatnonzero(series.observed)
    before, after = seen[seen <= position], seen[seen >= position]
    gap = float(after[0] - before[-1]) if before.size and after.size else 0.0
    from_value = float(series.sigma[at]) / slope if slope > 0.0 else math.inf
    return math.hypot(min(from_value, gap), gap / math.sqrt(12.0)) if gap > 0.0 else max(min(from_value, 30.0), 0.5)
