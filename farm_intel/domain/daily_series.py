"""A gap-free daily series: the Whittaker smoother, with weights from standard errors and honest uncertainty between.

Eilers 2003, "A perfect smoother", Analytical Chemistry 75:3631-3636, https://doi.org/10.1021/ac034173t: minimise

    sum_i w_i (y_i - z_i)^2 + sum_j lambda_j (z_j - 2 z_j+1 + z_j+2)^2,     w_i = 1 / sigma_i^2 or 0 without data

With lambda = 1 / q^2 this is also the posterior of a curve whose slope changes by q a day, so the diagonal of the
inverse of (W + D' Lambda D) is its variance: it grows with the distance from data by itself. Where two neighbouring
observations are a step apart (a harvest), lambda is lowered in the gap between them, so that the curve may bend there
instead of swinging before and after, and its uncertainty says that the day of the step is not known.

The system has five diagonals. It is solved for many farms at once, day by day, each step one array operation over the
farms; no matrix is ever formed. Nothing is extrapolated: a series runs from the first to the last observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farm_intel.domain.looks import Booleans, Floats, Integers

METHOD = "whittaker, second differences (Eilers 2003)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothingRule:
    """Parameters of one index."""

    bend_per_day: float = 0.0015
    """q: standard deviation of the daily change of slope, index units per day squared; lambda is 1 / q^2."""
    step: float = 0.15
    """Neighbouring observations this far apart are joined loosely."""
    step_days: int = 30
    """In longer gaps there is room to bend anyway."""
    step_loosening: float = 20.0
    """Factor on q in a gap with a step."""
    least_sigma: float = 0.01
    """No observation is trusted more than this, index units."""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Smoothed:
    """Series of S farms on a common axis of L days; beyond a farm's own length there is NaN."""

    values: Floats
    """(S, L)"""
    sigma: Floats
    """(S, L) one standard deviation."""
    observed: Booleans
    """(S, L)"""
    lengths: Integers
    """(S,) days of each series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Usable fused observations of one farm: ascending days, one value a day."""

    days: Sequence[int]
    """Ordinals."""
    values: Sequence[float]
    errors: Sequence[float]


def smooth(points: Sequence[Points], rule: SmoothingRule) -> Smoothed:
    """Return the daily series of every farm, each from its first to its last day; every farm has at least one point."""
    lengths = np.array([series.days[-1] - series.days[0] + 1 for series in points], np.int64)
    shape = (len(points), int(lengths.max()) if len(points) else 0)
    data, weights, rough = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for s, series in enumerate(points):
        offset = np.asarray(series.days, np.int64) - series.days[0]
        data[s, offset] = series.values
        weights[s, offset] = np.maximum(series.errors, rule.least_sigma) ** -2.0
        rough[s, : lengths[s] - 2] = rule.bend_per_day**-2.0
        _loosen(rough[s], offset, np.asarray(series.values, np.float64), rule)
    beyond = np.arange(shape[1])[None, :] >= lengths[:, None]
    values, variance = _solve(data, np.where(beyond, 1.0, weights), rough, lengths)
    values[beyond], variance[beyond] = np.nan, np.nan
    return Smoothed(values=values, sigma=np.sqrt(variance), observed=(weights > 0.0) & ~beyond, lengths=lengths)


def _loosen(rough: Floats, offset: Integers, values: Floats, rule: SmoothingRule) -> None:
    """Lower the penalty of the bends in every gap that holds a step; bend j is about days j, j + 1 and j + 2."""
    gap = np.diff(offset)
    for k in np.flatnonzero((np.abs(np.diff(values)) >= rule.step) & (gap <= rule.step_days)).tolist():
        first = max(int(offset[k]) - 1, 0)
        rough[first : int(offset[k + 1])] = np.minimum(
            rough[first : int(offset[k + 1])], (rule.bend_per_day * rule.step_loosening) ** -2.0
        )


def _solve(data: Floats, weights: Floats, rough: Floats, lengths: Integers) -> tuple[Floats, Floats]:
    """Return the minimiser and the diagonal of the inverse, both (S, L).

    A = W + D' Lambda D = L D L' with a unit lower triangle of two diagonals. The inverse's central band follows from
    the factors from the last day backwards (Hutchinson and de Hoog 1985, https://doi.org/10.1007/BF01389878).
    """
    # Time first: each day's numbers of all farms then lie together.
    main, one, two = _bands(weights.T, rough.T, lengths)
    days = len(main)
    pivot, below, second = np.empty_like(main), np.zeros_like(main), np.zeros_like(main)
    z = weights.T * data.T
    for i in range(days):
        pivot[i] = main[i]
        if i >= 1:
            link = one[i - 1]
            if i >= 2:
                second[i - 2] = two[i - 2] / pivot[i - 2]
                pivot[i] -= second[i - 2] ** 2 * pivot[i - 2]
                z[i] -= second[i - 2] * z[i - 2]
                link = link - second[i - 2] * below[i - 2] * pivot[i - 2]
            below[i - 1] = link / pivot[i - 1]
            pivot[i] -= below[i - 1] ** 2 * pivot[i - 1]
            z[i] -= below[i - 1] * z[i - 1]
    z /= pivot
    variance = np.empty_like(main)
    beside = np.zeros_like(main)  # covariance of day i and i + 1
    for i in range(days - 1, -1, -1):
        variance[i] = 1.0 / pivot[i]
        if i + 1 < days:
            z[i] -= below[i] * z[i + 1]
            across = 0.0
            beside[i] = -below[i] * variance[i + 1]
            if i + 2 < days:
                z[i] -= second[i] * z[i + 2]
                beside[i] -= second[i] * beside[i + 1]
                across = -below[i] * beside[i + 1] - second[i] * variance[i + 2]
            variance[i] -= below[i] * beside[i] + second[i] * across
    return z.T, variance.T


def _bands(weights: Floats, rough: Floats, lengths: Integers) -> tuple[Floats, Floats, Floats]:
    """Return the three upper diagonals of W + D' Lambda D, each (L, S).

    A series of one or two days has no bends; two days with one observation each are determined by their weights.
    """
    main, one, two = weights.copy(), np.zeros_like(weights), np.zeros_like(weights)
    bends = rough[:-2] * (np.arange(len(rough) - 2)[:, None] < (lengths - 2)[None, :]) if len(rough) > 2 else rough[:0]
    if len(bends):
        main[:-2] += bends
        main[1:-1] += 4.0 * bends
        main[2:] += bends
        one[:-2] -= 2.0 * bends
        one[1:-1] -= 2.0 * bends
        two[:-2] += bends
    return main, one, two
