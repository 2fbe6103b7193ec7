"""Evaluators of rules on an index: a bound, a fall, the farm's own season, a share of its pixels. Pure functions.

Each returns None on a day on which the index has no look.
"""

from __future__ import annotations

import math

import numpy as np

from farm_intel.alerts.facts import DayFacts
from farm_intel.alerts.judging import Finding, gate, judge, number, text, unknown
from farm_intel.alerts.kinds import ABOVE, BELOW
from farm_intel.domain.alerts import AlertRule, RuleVerdict
from farm_intel.domain.assessment import SeasonDay
from farm_intel.domain.observations import Observation, ZonalStatistics

INDEX_UNITS = "index units"


def threshold(rule: AlertRule, facts: DayFacts) -> Finding | None:
    """Judge the value of an index against a bound."""
    seen = gate(rule, facts)
    if not isinstance(seen, tuple):
        return seen
    look, value = seen
    enter = number(rule, "enter")
    verdict = judge(value, enter, number(rule, "leave"), text(rule, "direction"))
    return Finding(verdict=verdict, value=value, threshold=enter, unit=INDEX_UNITS, looks=(look,))


def drop(rule: AlertRule, facts: DayFacts) -> Finding | None:
    """Judge how far an index fell within a window.

    It fell from the second highest of the looks before (the only one where there is one): a single bright spike that
    slipped through does not make a fall. Looks below the minimum confidence do not count.
    """
    seen = gate(rule, facts)
    if not isinstance(seen, tuple):
        return seen
    look, value = seen
    minimum, days = number(rule, "min_confidence"), number(rule, "days")
    before = [
        (one.value, one)
        for one in facts.looks(rule.index, days)
        if one.value is not None and one.solar_day < facts.day and one.confidence >= minimum
    ]
    if not before:
        return unknown(f"no sure look in the {days:g} days before", looks=[look])
    level, reference = sorted(before, key=lambda pair: (-pair[0], pair[1].solar_day))[min(1, len(before) - 1)]
    looks = (reference, look)
    if level < number(rule, "from_at_least"):
        return Finding(
            verdict=RuleVerdict.CLEAR, value=level - value, unit=INDEX_UNITS, looks=looks, note="too low before"
        )
    enter = number(rule, "enter")
    fall = level - value
    return Finding(
        verdict=judge(fall, enter, number(rule, "leave"), ABOVE),
        value=fall,
        threshold=enter,
        unit=INDEX_UNITS,
        looks=looks,
        details={"fell_from": level, "since": reference.solar_day.isoformat()},
    )


def anomaly(rule: AlertRule, facts: DayFacts) -> Finding | None:
    """Judge an index against the farm's own earlier seasons: difference, spreads of the seasons, or percentile."""
    seen = gate(rule, facts)
    if not isinstance(seen, tuple):
        return seen
    look, _ = seen
    day = facts.season_day(rule.index)
    if day is None or day.baseline is None or day.baseline_seasons < number(rule, "min_seasons"):
        seasons = 0 if day is None else day.baseline_seasons
        wanted = number(rule, "min_seasons")
        return unknown(f"{seasons} earlier seasons to compare with; {wanted:g} are wanted", looks=[look])
    details: dict[str, object] = {
        "baseline": day.baseline,
        "baseline_spread": day.baseline_spread,
        "baseline_seasons": day.baseline_seasons,
    }
    if day.baseline < number(rule, "baseline_at_least"):
        return Finding(
            verdict=RuleVerdict.CLEAR, looks=(look,), details=details, note="earlier seasons were this low too"
        )
    measured = _measure(day, text(rule, "measure"))
    if measured is None:
        return unknown("one earlier season has no spread and no percentile", looks=[look])
    value, unit = measured
    enter = number(rule, "enter")
    verdict = judge(value, enter, number(rule, "leave"), text(rule, "direction"))
    return Finding(verdict=verdict, value=value, threshold=enter, unit=unit, looks=(look,), details=details)


def _measure(day: SeasonDay, measure: str) -> tuple[float, str] | None:
    if measure == "percentile":
        return None if day.percentile is None else (day.percentile, "percentile")
    if day.anomaly is None:
        return None
    if measure == "spreads":
        return (day.anomaly / day.baseline_spread, "spreads") if day.baseline_spread else None
    return day.anomaly, INDEX_UNITS


def area_share(rule: AlertRule, facts: DayFacts) -> Finding | None:
    """Judge which share of the farm's pixels is beyond a value.

    The stored percentiles give bounds of the share; where the bounds decide, no raster is read. Where they do not, the
    raster's pixels are counted; where there is none, nothing is said.
    """
    gated = gate(rule, facts)
    if not isinstance(gated, tuple):
        return gated
    look, _ = gated
    seen = next((facts.farm.observations[key] for key in facts.cells(look) if key in facts.farm.observations), None)
    if seen is None or seen.statistics is None:
        return unknown("the observation behind the look is not stored any more", looks=[look])
    if seen.valid_pixel_fraction < number(rule, "min_valid"):
        return unknown(
            f"{seen.valid_pixel_fraction:.0%} of the field are seen, {number(rule, 'min_valid'):.0%} are wanted",
            looks=[look],
        )
    beyond, direction = number(rule, "beyond"), text(rule, "direction")
    enter, leave = number(rule, "enter"), number(rule, "leave")
    low, high = share_bounds(seen.statistics, beyond, direction)
    details: dict[str, object] = {"beyond": beyond, "share_at_least": low, "share_at_most": high, "from": "percentiles"}
    at_worst, at_best = judge(high, enter, leave, ABOVE), judge(low, enter, leave, ABOVE)
    share = low if at_best is RuleVerdict.HOLDS else high
    if at_worst is not at_best:
        counted = _counted_share(facts, seen, beyond, direction)
        if counted is None:
            return unknown(
                f"percentiles say {low:.0%} to {high:.0%} of the pixels, and there is no raster to count", looks=[look]
            )
        share, details = counted, {**details, "from": "pixels"}
    return Finding(
        verdict=judge(share, enter, leave, ABOVE),
        value=share,
        threshold=enter,
        unit="share of pixels",
        looks=(look,),
        details=details,
    )


def share_bounds(statistics: ZonalStatistics, beyond: float, direction: str) -> tuple[float, float]:
    """Return between which bounds the share of pixels below (or above) a value lies, by the stored percentiles, 0..1.

    The pth percentile below the value: at least p of the pixels are below it. At or above the value: at most p are.
    """
    sign = 1.0 if direction == BELOW else -1.0
    steps = [
        (0.10, statistics.p10),
        (0.25, statistics.p25),
        (0.50, statistics.median),
        (0.75, statistics.p75),
        (0.90, statistics.p90),
    ]
    ends = (statistics.min, statistics.max)
    if direction == ABOVE:
        steps = [(1.0 - share, value) for share, value in reversed(steps)]
        ends = (statistics.max, statistics.min)
    low, high = 0.0, 1.0
    for share, value in steps:
        if sign * value < sign * beyond:
            low = max(low, share)
        else:
            high = min(high, share)
    if not sign * ends[0] < sign * beyond:
        high = 0.0
    if sign * ends[1] < sign * beyond:
        low = 1.0
    return low, max(low, high)


def _counted_share(facts: DayFacts, seen: Observation, beyond: float, direction: str) -> float | None:
    if seen.raster_sha256 is None or seen.raster_band is None:
        return None
    values = facts.farm.pixels.values(seen.raster_sha256, seen.raster_band)
    if values is None:
        return None
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    share = float(np.mean(values < beyond if direction == BELOW else values > beyond))
    return share if math.isfinite(share) else None
