"""What rules on a farm's state look at: facts per observation day, made from fused observations.

Indices differ in scale, rules should not have to. So every canopy index is scaled linearly between its value over bare
ground and under a closed canopy (Gutman and Ignatov 1998, https://doi.org/10.1080/014311698215333), and canopy water
is read as the offset from what that much canopy normally shows (the moisture-greenness plane of Sadeghi et al. 2017,
https://doi.org/10.1016/j.rse.2017.05.041). Facts never look ahead: what a day's facts say does not change when later
observations come, so a state once told stays told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from farm_intel.domain.season import trailing_trend

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Axis(StrEnum):
    """What an index can tell of a farm."""

    CANOPY = "canopy"
    MOISTURE = "moisture"
    """Water in leaves and soil."""
    WATER = "water"
    """Open water, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisIndex:
    """How one index is read on one axis."""

    index: str
    axis: Axis
    bare: float
    """Its value over bare dry ground."""
    full: float
    """Its value over a closed, well-watered canopy."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrightnessPair:
    """Two indices that together tell how bright the ground is.

    With s = nir + red, the normalised difference is d / s and the soil-adjusted one (1 + L) d / (s + L) (Huete 1988,
    https://doi.org/10.1016/0034-4257(88)90106-X); so their ratio r gives s = L r / (1 + L - r). Cloud is bright,
    water is dark, and a mask that missed the one cannot pass it off as the other.
    """

    normalised: str
    adjusted: str
    adjustment: float
    """L"""
    least: float
    """Normalised difference below which (in size) the ratio is noise."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexSeries:
    """Usable observations of one farm and index, ascending, one a day."""

    index: str
    days: IntArray
    """(n,) proleptic ordinals."""
    values: FloatArray
    sigma: FloatArray
    """(n,) standard error of each value; NaN where unknown."""
    confidence: FloatArray
    """(n,) 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """Facts of one farm; every array is (n,) over `days`, NaN where a fact cannot be told."""

    days: IntArray
    values: Mapping[str, FloatArray]
    """`axis.fact` -> values; see `FACTS`."""
    sigma: Mapping[str, FloatArray]
    """Standard error of the facts that have one."""
    confidence: FloatArray
    indices: Mapping[Axis, AxisIndex] = field(default_factory=dict)
    """The index each axis is read from; axes without data are missing."""


FACTS = frozenset(
    {
        "canopy.value",
        "canopy.cover",
        "canopy.before",
        "canopy.step",
        "canopy.sudden",
        "canopy.trend",
        "canopy.trend_z",
        "canopy.peak",
        "canopy.lost",
        "canopy.anomaly_z",
        "canopy.brightness",
        "moisture.value",
        "moisture.offset",
        "moisture.change",
        "water.value",
        "water.offset",
        "water.change",
        "season.age_days",
        "season.gap_days",
    }
)
"""`cover` is the scaled canopy index, `before` the same one observation earlier, `step` the fall since then, `sudden`
the part of it that is faster than the crop ripens; `trend` is per day; `peak` is the season's highest cover so far and
`lost` the fall since; `brightness` is the reflectance of near infrared and red together; `offset` is from what this
much canopy normally shows, `change` the same against the farm's own past; `age_days` counts from planting, or from
green-up plus emergence; `gap_days` since the observation before."""

CROP_PARAMETERS = (
    "season_days",
    "emergence_days",
    "ripening_from_days",
    "ripening_per_day",
    "growing_per_day",
    "green_up_cover",
    "trend_window_days",
    "before_days",
    "sigma_floor",
)
"""Numbers the facts need from the rule table."""

_PRIOR_COUNT = 3
_LIKE_COVER = 0.25


def index_series(index: str, points: Sequence[tuple[int, float, float, float]]) -> IndexSeries:
    """Return (ordinal, value, standard error, confidence) points, ascending by day, as columns."""
    columns = list(zip(*points, strict=True)) if points else [(), (), (), ()]
    return IndexSeries(
        index=index,
        days=np.array(columns[0], np.int64),
        values=np.array(columns[1], np.float64),
        sigma=np.array(columns[2], np.float64),
        confidence=np.array(columns[3], np.float64),
    )


def build_facts(
    series: Mapping[str, IndexSeries],
    axes: Sequence[AxisIndex],
    parameters: Mapping[str, float],
    *,
    plantings: Sequence[int] = (),
    anomaly_z: Mapping[int, float] | None = None,
    pair: BrightnessPair | None = None,
) -> Facts:
    """Return the facts of one farm.

    Args:
        series: index -> observations; indices no axis reads are ignored.
        axes: indices by preference; the first with data serves its axis.
        parameters: of the crop; holds at least `CROP_PARAMETERS`.
        plantings: ordinals of known planting days, any order.
        anomaly_z: ordinal -> anomaly over its spread, where a baseline is known.
        pair: the indices that tell brightness; None for no such fact.

    """
    chosen: dict[Axis, AxisIndex] = {}
    for row in axes:
        if row.axis not in chosen and row.index in series and series[row.index].days.size:
            chosen[row.axis] = row
    picked = {axis: series[row.index] for axis, row in chosen.items()}
    days = np.unique(np.concatenate([s.days for s in picked.values()])) if picked else np.empty(0, np.int64)
    values: dict[str, FloatArray] = {name: np.full(days.size, math.nan) for name in FACTS}
    sigma: dict[str, FloatArray] = {}
    confidence = np.zeros(days.size)
    for axis, one in picked.items():
        at = np.searchsorted(days, one.days)
        values[f"{axis.value}.value"][at] = one.values
        sigma[f"{axis.value}.value"] = np.full(days.size, math.nan)
        sigma[f"{axis.value}.value"][at] = one.sigma
        confidence[at] = np.maximum(confidence[at], one.confidence)
    if Axis.CANOPY in chosen:
        _canopy(values, sigma, days, chosen[Axis.CANOPY], parameters)
        _season(values, days, parameters, plantings)
    if Axis.MOISTURE in chosen:
        _offset(values, Axis.MOISTURE, chosen[Axis.MOISTURE])
        sigma["moisture.offset"] = sigma["moisture.value"]
    if Axis.WATER in chosen:
        _offset(values, Axis.WATER, chosen[Axis.WATER])
    if pair is not None:
        _brightness(values, days, series, pair)
    for day, z in (anomaly_z or {}).items():
        values["canopy.anomaly_z"][days == day] = z
    return Facts(days=days, values=values, sigma=sigma, confidence=confidence, indices=chosen)


def _canopy(
    values: dict[str, FloatArray],
    sigma: dict[str, FloatArray],
    days: IntArray,
    row: AxisIndex,
    parameters: Mapping[str, float],
) -> None:
    cover = (values["canopy.value"] - row.bare) / (row.full - row.bare)
    floor = parameters["sigma_floor"]
    error = np.fmax(np.nan_to_num(sigma["canopy.value"], nan=floor) / (row.full - row.bare), floor)
    sigma["canopy.cover"] = error
    values["canopy.cover"] = cover
    seen = np.flatnonzero(np.isfinite(cover))
    before = values["canopy.before"]
    gap = values["season.gap_days"]
    earlier, later = seen[:-1], seen[1:]
    near = days[later] - days[earlier] <= parameters["before_days"]
    before[later[near]] = cover[earlier[near]]
    gap[later] = days[later] - days[earlier]
    values["canopy.step"] = before - cover
    trend, trend_sigma = trailing_trend(days, cover, error, parameters["trend_window_days"])
    values["canopy.trend"] = trend
    values["canopy.trend_z"] = trend / trend_sigma
    values["canopy.peak"] = _trailing_peak(days, cover, parameters["season_days"])
    values["canopy.lost"] = values["canopy.peak"] - cover


def _brightness(
    values: dict[str, FloatArray], days: IntArray, series: Mapping[str, IndexSeries], pair: BrightnessPair
) -> None:
    if pair.normalised not in series or pair.adjusted not in series:
        return
    one, other = series[pair.normalised], series[pair.adjusted]
    both, first, second = np.intersect1d(one.days, other.days, return_indices=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = other.values[second] / one.values[first]
        bright = pair.adjustment * ratio / (1.0 + pair.adjustment - ratio)
    told = (np.abs(one.values[first]) >= pair.least) & (ratio > 0.0) & (ratio < 1.0 + pair.adjustment)
    known = told & np.isin(both, days)
    values["canopy.brightness"][np.searchsorted(days, both[known])] = bright[known]


def _season(
    values: dict[str, FloatArray], days: IntArray, parameters: Mapping[str, float], plantings: Sequence[int]
) -> None:
    longest = parameters["season_days"] + parameters["emergence_days"]
    greened = _green_up_days(days, values["canopy.cover"], parameters["green_up_cover"])
    age = days - greened + parameters["emergence_days"]
    known = np.sort(np.asarray(plantings, np.int64))
    if known.size:
        last = np.searchsorted(known, days, side="right") - 1
        since = np.where(last >= 0, days - known[np.maximum(last, 0)], math.inf)
        age = np.where(since <= longest, since, age)
    values["season.age_days"] = np.where(age <= longest, age, math.nan)
    ripening = ~(values["season.age_days"] < parameters["ripening_from_days"])
    rate = np.where(ripening, parameters["ripening_per_day"], parameters["growing_per_day"])
    values["canopy.sudden"] = values["canopy.step"] - rate * values["season.gap_days"]


def _trailing_peak(days: IntArray, cover: FloatArray, window_days: float) -> FloatArray:
    """Return the highest cover of the trailing window, where at least two observations reached it within 0.1.

    One observation alone does not make a peak: a bright spike that slipped through would turn every season into a loss.
    """
    inside = (days[None, :] <= days[:, None]) & (days[None, :] > days[:, None] - window_days)
    table = np.where(inside & np.isfinite(cover)[None, :], cover[None, :], -math.inf)
    if days.size < 2:
        return np.where(np.isfinite(cover), cover, math.nan)
    top = np.sort(table, axis=1)[:, -2:]
    peak = np.where(np.isfinite(top[:, 0]), np.minimum(top[:, 1], top[:, 0] + 0.1), top[:, 1])
    return np.where(np.isfinite(peak), peak, math.nan)


def _offset(values: dict[str, FloatArray], axis: Axis, row: AxisIndex) -> None:
    """Fill the offset from what this much canopy shows, and its change against the farm's own past at like cover.

    A day without a canopy value has none: what a moisture index says depends on the leaves. Only a farm without any
    canopy index is judged as bare ground.
    """
    cover = np.clip(values["canopy.cover"], 0.0, 1.1)
    if not np.isfinite(cover).any():
        cover = np.zeros(cover.size)
    offset = values[f"{axis.value}.value"] - (row.bare + cover * (row.full - row.bare))
    values[f"{axis.value}.offset"] = offset
    values[f"{axis.value}.change"] = _against_own_past(offset, cover)


def _against_own_past(offset: FloatArray, cover: FloatArray) -> FloatArray:
    """Return offsets minus the median of all earlier ones at like cover.

    The expectation itself counts as three observations of no offset, so a farm without a past is judged by the line and
    one with a past by its own soil and crop.
    """
    count = offset.size
    order = np.arange(count)
    like = (order[None, :] < order[:, None]) & (np.abs(cover[None, :] - cover[:, None]) < _LIKE_COVER)
    like &= np.isfinite(offset)[None, :]
    table = np.where(like, offset[None, :], math.inf)
    table = np.sort(np.hstack([table, np.zeros((count, _PRIOR_COUNT))]), axis=1)
    known = like.sum(axis=1) + _PRIOR_COUNT
    median = 0.5 * (table[order, (known - 1) // 2] + table[order, known // 2])
    return np.asarray(offset - median)


def _green_up_days(days: IntArray, cover: FloatArray, threshold: float) -> FloatArray:
    """Return the day the canopy last rose through the threshold; NaN before it ever was bare."""
    result = np.full(days.size, math.nan)
    last_bare = math.nan
    for i, (day, value) in enumerate(zip(days.tolist(), cover.tolist(), strict=True)):
        if value < threshold:
            last_bare = day
        result[i] = last_bare
    return result
