"""When each alert rule truly should have opened on a simulated field: from what happened, not from what was told.

Rules on events are held against the true events. Rules on numbers are held against the same numbers without noise,
cloud and shadow, with a margin: clearly beyond the threshold an alert is required, clearly on the good side it is
false, and what lies within the margin counts neither way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from farm_intel.domain.alerts import AlertRule
from farm_intel.domain.observations import ObservationStatus
from farm_intel.simulation.phenology import CROPS
from farm_intel.simulation.season_stores import SeasonObservations, logged_harvests
from farm_intel.simulation.seasons import HARVEST, SimulatedFarm

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

EVENT_TOLERANCE_DAYS: Mapping[str, int] = {"harvest": 45, "flood": 30, "hail": 40, "drought": 45}
"""How late an alert may open: the 25 days in which two clear acquisitions must show it (`TrueEvent.seen`), and what the
event rules of `states.toml` allow for its confirmation."""
SPAN_TOLERANCE_DAYS = 15
"""An alert on a number may open so long after the last day on which it was truly beyond the threshold: three
revisits."""
FACT_EVENTS: Mapping[str, str] = {"moisture_is_saturated": "flood", "water_is_water": "flood"}
"""What a fact of the farm state may come from; rules on facts are held to precision only."""
MARGIN = 0.05
"""Index units within which a true value is too close to the threshold to call: four errors of a field mean."""
_CLEAN_VALID = 0.6
_HARVEST_DAYS = 60
_MERGE_DAYS = 25
"""Runs so close are one: an open alert needs clear looks to resolve."""
_RIPENING_DAYS = 25
"""So long before the middle of its senescence a crop begins to ripen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueAlert:
    """One thing a rule should, or at least may, have told."""

    day: date
    latest: date
    """Latest day on which the alert may open."""
    required: bool
    """False: told or not, it counts neither as missed nor as false."""


StageOf = Callable[[str, int], str | None]
"""(crop, days after planting) -> stage."""
Truth = Callable[[SimulatedFarm, AlertRule, StageOf], list[TrueAlert]]


def is_scored(rule: AlertRule) -> bool:
    """Return whether simulated seasons can score a rule: it rests on looks, not on weather, people or pixels."""
    return rule.kind in _TRUTHS and (rule.kind != "silence" or rule.parameters["of"] == "looks")


def true_alerts(farm: SimulatedFarm, rule: AlertRule, stage_of: StageOf) -> list[TrueAlert]:
    """Return what a scored rule should have told of a field, ascending."""
    if rule.crops and farm.crop not in rule.crops:
        return []
    return _TRUTHS[rule.kind](farm, rule, stage_of)


def _of_events(farm: SimulatedFarm, rule: AlertRule, _stage_of: StageOf) -> list[TrueAlert]:
    events = _names(rule, "events")
    related = {FACT_EVENTS[fact] for fact in _names(rule, "facts") if fact in FACT_EVENTS}
    logged = {entry.done_at.date() for entry in logged_harvests(farm)}
    silent = bool(_names(rule, "without_log"))
    return [
        TrueAlert(
            day=event.day,
            latest=event.day + timedelta(days=EVENT_TOLERANCE_DAYS[event.kind]),
            required=event.seen and event.kind in events,
        )
        for event in farm.events
        if event.kind in {*events, *related} and not (silent and event.kind == HARVEST and event.day in logged)
    ]


def _of_threshold(farm: SimulatedFarm, rule: AlertRule, stage_of: StageOf) -> list[TrueAlert]:
    sign = 1.0 if rule.parameters["direction"] == "below" else -1.0
    beyond = sign * (float(rule.parameters["enter"]) - farm.truth[rule.index])
    return _runs(farm, rule, beyond, _in_stage(farm, rule, stage_of))


def _of_drop(farm: SimulatedFarm, rule: AlertRule, stage_of: StageOf) -> list[TrueAlert]:
    values, days = farm.truth[rule.index], _ordinals(farm)
    fall = np.full(values.size, -np.inf)
    for number, day in enumerate(days.tolist()):
        first = bisect_left(days.tolist(), day - float(rule.parameters["days"]))
        before = np.sort(values[first:number])[::-1]
        if before.size and before[min(1, before.size - 1)] >= float(rule.parameters["from_at_least"]):
            fall[number] = before[min(1, before.size - 1)] - values[number]
    return _runs(farm, rule, fall - float(rule.parameters["enter"]), _in_stage(farm, rule, stage_of))


def _of_anomaly(farm: SimulatedFarm, rule: AlertRule, stage_of: StageOf) -> list[TrueAlert]:
    """Compare with the earlier plantings of the same time of year, day by day of development."""
    values, days = farm.truth[rule.index], _ordinals(farm)
    zeros = [season.planted.toordinal() + season.shift_days for season in farm.seasons]
    beyond = np.full(values.size, -np.inf)
    growing = np.zeros(values.size, np.bool_)
    ripe = next(crop.senescence_days for crop in CROPS if crop.name == farm.crop) - _RIPENING_DAYS
    for number, day in enumerate(days.tolist()):
        k = int(np.searchsorted(zeros, day, side="right")) - 1
        before = [zero for zero in zeros[: max(k, 0)] if abs((zeros[k] - zero + 182.6) % 365.25 - 182.6) < 60.0]
        earlier = [zero + day - zeros[k] for zero in before if zero + day - zeros[k] >= days[0]]
        if len(earlier) < float(rule.parameters["min_seasons"]):
            continue
        baseline = float(np.median(np.interp(earlier, days, values)))
        if baseline >= float(rule.parameters["baseline_at_least"]):
            beyond[number] = float(rule.parameters["enter"]) - (values[number] - baseline)
            growing[number] = 0 <= day - zeros[k] < ripe
    staged = _in_stage(farm, rule, stage_of)
    return _runs(farm, rule, beyond, growing & staged, may=staged)


def _of_silence(farm: SimulatedFarm, rule: AlertRule, _stage_of: StageOf) -> list[TrueAlert]:
    enter = timedelta(days=int(rule.parameters["enter"]))
    rows = SeasonObservations({farm.farm_id: farm}).calendar(farm_id=farm.farm_id)
    cloudy = [row.solar_day for row in rows if row.status is ObservationStatus.CLOUDY]
    looks = list(farm.days) if rows[0].solar_day in farm.days else [rows[0].solar_day, *farm.days]
    ends = [*looks[1:], farm.end + timedelta(days=1)]
    return [
        TrueAlert(
            day=last + enter + timedelta(days=1),
            latest=following,
            required=any(last < day <= last + enter for day in cloudy),
        )
        for last, following in zip(looks, ends, strict=True)
        if following - last > enter + timedelta(days=1)
    ]


_TRUTHS: Mapping[str, Truth] = {
    "state": _of_events,
    "threshold": _of_threshold,
    "drop": _of_drop,
    "anomaly": _of_anomaly,
    "silence": _of_silence,
}


def _runs(
    farm: SimulatedFarm, rule: AlertRule, beyond: FloatArray, applies: BoolArray, *, may: BoolArray | None = None
) -> list[TrueAlert]:
    """Return the runs of looks on which a true value is, or nearly is, beyond the threshold.

    Args:
        farm: the field.
        rule: how many looks open it.
        beyond: (looks,) how far beyond the threshold, index units; minus infinity where unknown.
        applies: (looks,) where an alert can be required.
        may: (looks,) where it may be told; None for the same.

    """
    near = (beyond > -MARGIN) & (applies if may is None else may)
    clean = ~farm.contaminated & (farm.valid >= _CLEAN_VALID)
    found: list[list[int]] = []
    for number in np.flatnonzero(near).tolist():
        if found and (farm.days[number] - farm.days[found[-1][-1]]).days <= _MERGE_DAYS:
            found[-1].append(number)
        else:
            found.append([number])
    harvests = [event.day for event in farm.events if event.kind == HARVEST]
    runs: list[TrueAlert] = []
    for run in found:
        day, last = farm.days[run[0]], farm.days[run[-1]]
        sure = (beyond > MARGIN) & clean & applies
        harvested = any(-_MERGE_DAYS <= (day - one).days <= _HARVEST_DAYS or day <= one <= last for one in harvests)
        runs.append(
            TrueAlert(
                day=day,
                latest=last + timedelta(days=SPAN_TOLERANCE_DAYS),
                required=not harvested and _in_a_row(sure[run[0] : run[-1] + 1]) >= rule.looks_to_open,
            )
        )
    return runs


def _in_a_row(flags: BoolArray) -> int:
    longest = count = 0
    for flag in flags.tolist():
        count = count + 1 if flag else 0
        longest = max(longest, count)
    return longest


def _in_stage(farm: SimulatedFarm, rule: AlertRule, stage_of: StageOf) -> BoolArray:
    """Return on which looks the crop is in one of the rule's stages; only the latest planting is known."""
    if not rule.stages:
        return np.ones(len(farm.days), np.bool_)
    planted = farm.seasons[-1].planted
    return np.array([stage_of(farm.crop, (day - planted).days) in rule.stages for day in farm.days], np.bool_)


def _ordinals(farm: SimulatedFarm) -> npt.NDArray[np.int64]:
    return np.array([day.toordinal() for day in farm.days], np.int64)


def _names(rule: AlertRule, name: str) -> Sequence[str]:
    return [part.strip() for part in str(rule.parameters.get(name, "")).split(",") if part.strip()]
