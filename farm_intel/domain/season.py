"""Where a farm stands against its own earlier seasons, and where it is heading.

Everything rests on observations; the gap-free daily series only lends earlier seasons a value on the very day of season
that is asked for, and only where it is near data. Seasons are compared by days since their start where both starts are
known, else by the day of the year.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from farm_intel.domain.assessment import DailySeries, Phenology, Season, SeasonDay

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_YEAR_DAYS = 365.25
_MIN_TREND_POINTS = 3
_MAD_TO_SIGMA = 1.4826
"""Of a normal distribution."""
_SQRT_HALF = math.sqrt(0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeasonRule:
    """Parameters of baseline and trend."""

    trend_window_days: float = 30.0
    """Trailing; the original platform's window, about four clear acquisitions."""
    same_start_days: int = 60
    """Starts this close on the calendar begin the same season of different years (long rains, short rains)."""
    lead_days: int = 30
    """A start so soon after a day already claims it: emergence comes before the start that can be seen."""
    season_days: int = 240
    """Beyond it a day no longer belongs to the season that started last."""
    blur_days: int = 7
    """Earlier seasons are read this many days before and after too: no two seasons keep step to the day."""
    most_sigma: float = 0.08
    """A day of the daily series less sure than this lends no value, index units."""
    least_spread: float = 0.02
    """Spread below which seasons are not told apart, index units: the error of a field mean."""
    min_seasons_for_spread: int = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObservedDays:
    """Usable fused observations of one farm and index, ascending, one a day; arrays are (n,)."""

    days: IntArray
    """Ordinals."""
    values: FloatArray
    sigma: FloatArray


def assess_season(
    observed: ObservedDays,
    daily: DailySeries,
    seasons: Sequence[Phenology],
    rule: SeasonRule,
    *,
    plantings: Sequence[int] = (),
) -> Season:
    """Return a farm's season of one index, one day of it per observation.

    Args:
        observed: the observations.
        daily: the daily series made of them.
        seasons: what `phenology.find_seasons` found in it.
        rule: parameters.
        plantings: ordinals of known planting days; they count before starts that were seen.

    """
    anchors = season_anchors(seasons, plantings, rule)
    sample, counts = _earlier_seasons(observed.days, daily, anchors, rule)
    with np.errstate(invalid="ignore"):
        baseline = _nanmedian(sample)
        spread = np.maximum(_MAD_TO_SIGMA * _nanmedian(np.abs(sample - baseline[:, None])), rule.least_spread)
    spread[counts < rule.min_seasons_for_spread] = math.nan
    slope, slope_sigma = trailing_trend(observed.days, observed.values, observed.sigma, rule.trend_window_days)
    columns = zip(
        observed.days.tolist(),
        observed.values.tolist(),
        baseline.tolist(),
        spread.tolist(),
        counts.tolist(),
        observed.sigma.tolist(),
        slope.tolist(),
        slope_sigma.tolist(),
        strict=True,
    )
    days = tuple(
        SeasonDay(
            day=date.fromordinal(day),
            value=value,
            baseline=_known(middle),
            baseline_spread=_known(width),
            baseline_seasons=count,
            anomaly=_known(value - middle),
            percentile=_percentile(value - middle, width, sigma),
            trend_per_day=_known(trend),
            trend_sigma=_known(trend_sigma),
        )
        for day, value, middle, width, count, sigma, trend, trend_sigma in columns
    )
    return Season(
        farm_id=daily.farm_id, index=daily.index, days=days, seasons=tuple(seasons), note=_note(counts, anchors)
    )


def season_anchors(seasons: Sequence[Phenology], plantings: Sequence[int], rule: SeasonRule) -> IntArray:
    """Return season starts as ordinals, ascending: those seen, where a planting day was not near enough to be it.

    A planting day and a seen start differ by the days to emergence. To compare seasons of which only some have a known
    planting day, the seen start is used wherever there is one.
    """
    seen = [phase.start.toordinal() for phase in seasons if phase.start is not None]
    unseen = [day for day in plantings if all(abs(day - start) > rule.same_start_days for start in seen)]
    return np.array(sorted({*seen, *unseen}), np.int64)


def _earlier_seasons(
    days: IntArray, daily: DailySeries, anchors: IntArray, rule: SeasonRule
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return (n, samples) values of earlier years on the same day of season, NaN where unknown, and seasons per day."""
    first = daily.start.toordinal()
    years = int((days[-1] - first) / _YEAR_DAYS) if days.size else 0
    if years == 0:
        return np.full((days.size, 1), math.nan), np.zeros(days.size, np.int64)
    own = _latest_anchor(days, anchors, rule)
    offsets = np.array((-rule.blur_days, 0, rule.blur_days))
    samples: list[FloatArray] = []
    counts = np.zeros(days.size, np.int64)
    for year in range(1, years + 1):
        back = np.round(days - year * _YEAR_DAYS)
        other = _matching_anchor(own, anchors, year, rule)
        same_day = np.where(np.isnan(other), back, other + (days - own)).astype(np.int64)
        values = _lent(daily, first, same_day[:, None] + offsets[None, :], rule)
        counts += np.isfinite(values).any(axis=1)
        samples.append(values)
    return np.hstack(samples), counts


def _latest_anchor(days: IntArray, anchors: IntArray, rule: SeasonRule) -> FloatArray:
    """Return the start of the season each day belongs to; NaN where none is known."""
    if not anchors.size:
        return np.full(days.size, math.nan)
    number = np.searchsorted(anchors, days + rule.lead_days, side="right") - 1
    start = anchors[np.maximum(number, 0)].astype(np.float64)
    inside = (number >= 0) & (days - start <= rule.season_days)
    return np.where(inside, start, math.nan)


def _matching_anchor(own: FloatArray, anchors: IntArray, years: int, rule: SeasonRule) -> FloatArray:
    """Return the start nearest to each own start so many years earlier; NaN where none is close."""
    if not anchors.size:
        return np.full(own.size, math.nan)
    wanted = own - years * _YEAR_DAYS
    distance = np.abs(anchors[None, :] - np.where(np.isnan(wanted), math.inf, wanted)[:, None])
    nearest = distance.argmin(axis=1)
    close = distance[np.arange(own.size), nearest] <= rule.same_start_days
    return np.where(close, anchors[nearest].astype(np.float64), math.nan)


def _lent(daily: DailySeries, first: int, wanted: IntArray, rule: SeasonRule) -> FloatArray:
    place = wanted - first
    inside = (place >= 0) & (place < daily.values.size)
    place = np.where(inside, place, 0)
    sure = inside & (daily.sigma[place] <= rule.most_sigma)
    return np.where(sure, daily.values[place], math.nan)


def _nanmedian(table: FloatArray) -> FloatArray:
    """Return the median per row without NaN; NaN where nothing is left (numpy's own warns there)."""
    ordered = np.sort(np.where(np.isnan(table), math.inf, table), axis=1)
    count = np.isfinite(table).sum(axis=1)
    rows = np.arange(len(table))
    low, high = ordered[rows, np.maximum(count - 1, 0) // 2], ordered[rows, np.minimum(count // 2, table.shape[1] - 1)]
    return np.where(count > 0, 0.5 * (low + high), math.nan)


def _percentile(anomaly: float, spread: float, sigma: float) -> float | None:
    """Return 0..100 under a normal distribution of the seasons, the observation's own error added to their spread.

    Two or three seasons have no empirical percentiles; a normal one at least says how far out a value is.
    """
    error = 0.0 if math.isnan(sigma) else sigma
    z = anomaly / math.hypot(spread, error)
    return None if math.isnan(z) else 50.0 * (1.0 + math.erf(z * _SQRT_HALF))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _note(counts: npt.NDArray[np.int64], anchors: IntArray) -> str:
    most = int(counts.max()) if counts.size else 0
    by = "days since the start of the season" if anchors.size > 1 else "the day of the year"
    if most == 0:
        return "There is no earlier season to compare with: no baseline, no anomaly."
    if most == 1:
        return f"One earlier season only, compared by {by}: its spread is unknown, so there is no percentile."
    return f"Up to {most} earlier seasons, compared by {by}."


def trailing_trend(
    days: IntArray, values: FloatArray, sigma: FloatArray, window_days: float
) -> tuple[FloatArray, FloatArray]:
    """Return slope per day over the trailing window and its standard error, each (n,); NaN below three observations.

    Weighted least squares on the irregular observations themselves, weights 1/sigma^2. The standard error is the larger
    of what the sigmas give and what the scatter about the line gives: a curved course is not told with confidence.
    """
    seen = np.isfinite(values)
    inside = (days[None, :] <= days[:, None]) & (days[None, :] > days[:, None] - window_days) & seen[None, :]
    weight = inside / np.maximum(sigma, 1e-9)[None, :] ** 2
    t = days[None, :] - days[:, None].astype(np.float64)
    y = np.where(seen, values, 0.0)[None, :]
    total = weight.sum(axis=1)
    count = inside.sum(axis=1)
    enough = (count >= _MIN_TREND_POINTS) & seen
    with np.errstate(divide="ignore", invalid="ignore"):
        t_mean = (weight * t).sum(axis=1) / total
        y_mean = (weight * y).sum(axis=1) / total
        dt = t - t_mean[:, None]
        spread = (weight * dt**2).sum(axis=1)
        slope = (weight * dt * (y - y_mean[:, None])).sum(axis=1) / spread
        misfit = (weight * (y - y_mean[:, None] - slope[:, None] * dt) ** 2).sum(axis=1)
        scatter = np.maximum(misfit / np.maximum(count - 2, 1), 1.0)
        error = np.sqrt(scatter / spread)
    return np.where(enough, slope, math.nan), np.where(enough, error, math.nan)
