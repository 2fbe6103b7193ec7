"""One value per farm, index and day from all providers' looks, with every candidate and the reason kept.

Per farm and observed day:

1. Looks that are too coarse for the field, too unsure, or spikes in time do not take part.
2. Looks of one sensor family within minutes of each other are one acquisition, whoever delivered it: the surest of them
   stands for it, of equally sure ones the operator's first choice. The same scene through two providers is not two
   measurements.
3. Among acquisitions the surest leads. Others within `margin` of its confidence that agree with it are averaged with
   it, weighted by inverse variance; where they scatter more than their errors allow, the error of the mean is widened
   (Birge ratio). Otherwise the leader is the value.
4. Wherever two usable looks differ by more than the index's tolerance, the day says so and names them; what disagrees
   with the leader is never averaged with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from farm_intel.domain.assessment import CandidateVerdict
from farm_intel.domain.confidence import ConfidenceRule, join_components, static_components, with_temporal
from farm_intel.domain.despiking import SpikeJudgement, SpikeRule, judge_spikes
from farm_intel.domain.harmonisation import IDENTITY, IndexLine
from farm_intel.domain.looks import Booleans, Floats, Integers, Looks, SensorTable

VERDICTS = tuple(CandidateVerdict)
"""In the order of the verdict codes."""
CHOSEN, COMBINED, OUTRANKED, LOW_CONFIDENCE, DESPIKED, CONTEXT_ONLY = range(len(VERDICTS))

DECIMALS = 6
"""Values and errors are rounded, so that equal input gives equal rows on every machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionRule:
    """Parameters of one index."""

    tolerance: float
    """Difference between two usable looks of a day above which they disagree, index units."""
    margin: float = 0.15
    """An acquisition this much less sure than the leader is not averaged with it."""
    same_acquisition_minutes: float = 30.0
    """Looks of one family this close are one acquisition: catalogues give the tile's, the granule's or the data take's
    time, minutes apart; two orbits are at least 50 minutes apart."""
    context_gsd_m: float = 100.0
    """Mixed pixels of products this coarse or coarser say more about the surroundings than about the field."""
    radiometry_error: float = 0.01
    """Standard error of calibration and atmosphere, index units; it does not average out over a field."""
    mixed_error: float = 0.03
    """Further standard error of a mean over mixed pixels, index units."""
    default_error: float = 0.05
    """Standard error where an observation has none (a single pixel)."""
    disagreement_factor: float = 0.8
    """Factor on the confidence of a day on which usable looks disagree."""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessmentRules:
    """Everything the fusion of one index depends on."""

    index: str
    sensors: SensorTable
    confidence: ConfidenceRule
    spikes: SpikeRule
    fusion: FusionRule
    lines: tuple[IndexLine, ...] = ()
    """Harmonisation per row of the sensor table; empty for none."""
    preference: tuple[str, ...] = ()
    """Providers, best first: who stands for an acquisition where two are equally sure."""
    version: str = ""
    """Changes with every parameter; part of every fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decisions:
    """What became of N looks, and of the D farm days they are on."""

    looks: Looks
    harmonised: Floats
    """(N,)"""
    sigma: Floats
    """(N,) standard errors with every term."""
    components: Floats
    """(N, C) in the order of confidence.COMPONENTS."""
    confidence: Floats
    """(N,)"""
    verdict: Integers
    """(N,) index into VERDICTS."""
    weight: Floats
    """(N,) share in the fused value, 0 for what is not in it."""
    rival: Integers
    """(N,) the look an outranked one lost to, -1 for none."""
    spikes: SpikeJudgement
    first: Integers
    """(D,) first look of each day; the looks of a day are contiguous."""
    value: Floats
    """(D,) fused value; NaN where nothing is usable."""
    error: Floats
    """(D,)"""
    day_confidence: Floats
    """(D,)"""
    low: Integers
    """(D,) usable look with the lowest value, -1 for none."""
    high: Integers
    """(D,) usable look with the highest value."""
    disagree: Booleans
    """(D,)"""


def decide(looks: Looks, rules: AssessmentRules) -> Decisions:
    """Return what becomes of every look and every farm day; a pure function of the set of looks."""
    harmonised, sigma = _harmonise(looks, rules)
    components = static_components(looks, rules.sensors, rules.confidence)
    static = join_components(components, rules.confidence)
    eligible = ~_context_only(looks, rules.fusion)
    witness = np.where(eligible & (static >= rules.confidence.minimum), static, -1.0)
    spikes = judge_spikes(looks, harmonised, sigma, witness, rules.spikes)
    components = with_temporal(components, spikes.temporal, rules.confidence)
    confidence = np.round(join_components(components, rules.confidence), DECIMALS)
    verdict = np.full(len(looks), OUTRANKED, np.int64)
    verdict[confidence < rules.confidence.minimum] = LOW_CONFIDENCE
    verdict[spikes.spike] = DESPIKED
    verdict[~eligible] = CONTEXT_ONLY
    groups = _Groups.of(looks, _merit(looks, confidence, rules), verdict == OUTRANKED, rules.fusion)
    return _combine(_Judged(looks, harmonised, sigma, components, confidence, verdict, spikes), groups, rules.fusion)


def _harmonise(looks: Looks, rules: AssessmentRules) -> tuple[Floats, Floats]:
    lines = (*(rules.lines or (IDENTITY,) * len(rules.sensors.rows)), IDENTITY)  # sensor -1 reads the last
    slope, offset, residual = (
        np.array([getattr(line, name) for line in lines])[looks.sensor] for name in ("slope", "offset", "sigma")
    )
    rule = rules.fusion
    own = np.where(np.isfinite(looks.standard_error), looks.standard_error, rule.default_error) * np.abs(slope)
    mixed = np.where(looks.mixed, rule.mixed_error, 0.0)
    sigma = np.sqrt(own**2 + residual**2 + mixed**2 + rule.radiometry_error**2)
    return np.round(looks.value * slope + offset, DECIMALS), np.round(sigma, DECIMALS)


def _context_only(looks: Looks, rule: FusionRule) -> Booleans:
    return looks.mixed & (looks.gsd_m >= rule.context_gsd_m)


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """What is known of each look before days are decided."""

    looks: Looks
    harmonised: Floats
    sigma: Floats
    components: Floats
    confidence: Floats
    verdict: Integers
    spikes: SpikeJudgement


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """Usable looks in order of merit within their day, and who stands for whom."""

    day: Integers
    """(N,) number of the day each look is on."""
    first: Integers
    """(D,) first look of each day."""
    delegate: Integers
    """(N,) the look that stands for the acquisition of a usable look, -1 for others."""
    leader: Integers
    """(D,) the surest usable look, -1 for none."""

    @classmethod
    def of(cls, looks: Looks, merit: Integers, usable: Booleans, rule: FusionRule) -> _Groups:
        fresh = np.ones(len(looks), np.bool_)
        fresh[1:] = (looks.farm[1:] != looks.farm[:-1]) | (looks.day[1:] != looks.day[:-1])
        first, day = np.flatnonzero(fresh), np.cumsum(fresh) - 1
        acquisition = _acquisitions(looks, day, rule)
        delegate = _best_of(acquisition, merit, usable)
        leader = _best_of(day, merit, usable)
        return cls(day, first, np.where(usable, delegate[acquisition] if len(looks) else -1, -1), leader)


def _merit(looks: Looks, confidence: Floats, rules: AssessmentRules) -> Integers:
    """Return (N,) the place of each look, the surest first.

    Ties go to the operator's order, then to the finer look, then to the first by key: never to the one that happened
    to arrive first.
    """
    places = {name: place for place, name in enumerate(rules.preference)}
    preferred = np.array([places.get(row.key.provider, len(places)) for row in looks.observations], np.int64)
    merit = np.empty(len(looks), np.int64)
    merit[np.lexsort((np.arange(len(looks)), looks.gsd_m, preferred, -confidence))] = np.arange(len(looks))
    return merit


def _acquisitions(looks: Looks, day: Integers, rule: FusionRule) -> Integers:
    """Return the number of the acquisition each look shows; without a time, a family has one a day."""
    order = np.lexsort((looks.minute, looks.family, day))
    minute = np.where(np.isfinite(looks.minute), looks.minute, -np.inf)[order]
    with np.errstate(invalid="ignore"):
        apart = minute[1:] - minute[:-1] > rule.same_acquisition_minutes
    fresh = np.ones(len(looks), np.bool_)
    fresh[1:] = apart & np.isfinite(minute[:-1])
    fresh[1:] |= (day[order][1:] != day[order][:-1]) | (looks.family[order][1:] != looks.family[order][:-1])
    number = np.empty(len(looks), np.int64)
    number[order] = np.cumsum(fresh) - 1
    return number


def _best_of(group: Integers, merit: Integers, usable: Booleans) -> Integers:
    """Return for each group the usable look of the least merit number, -1 for none."""
    count = int(group.max()) + 1 if len(group) else 0
    best = np.full(count, -1, np.int64)
    candidates = np.flatnonzero(usable)
    candidates = candidates[np.argsort(-merit[candidates])]
    best[group[candidates]] = candidates  # the last to write is the best
    return best


def _combine(judged: _Judged, groups: _Groups, rule: FusionRule) -> Decisions:
    looks, value, verdict = judged.looks, judged.harmonised, judged.verdict.copy()
    usable = groups.delegate >= 0
    lead = groups.leader[groups.day] if len(looks) else groups.day
    stands = usable & (groups.delegate == np.arange(len(looks)))
    close = judged.confidence >= judged.confidence[lead] - rule.margin
    joined = stands & close & (np.abs(value - value[lead]) <= rule.tolerance)
    days = len(groups.first)
    members = np.bincount(groups.day[joined], minlength=days)
    verdict[joined] = np.where(members[groups.day[joined]] > 1, COMBINED, CHOSEN)
    precision = np.where(joined, judged.sigma**-2.0, 0.0)
    total = np.bincount(groups.day, precision, days)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = precision / total[groups.day] if days else precision
        weight[~joined] = 0.0
        # of nothing at all bincount makes integers, which have no NaN
        fused = np.bincount(groups.day, weight * value, days).astype(np.float64)
        fused[total == 0.0] = np.nan
        chi2 = np.bincount(groups.day, precision * (value - fused[groups.day]) ** 2, days)
        birge = np.sqrt(np.maximum(chi2 / np.maximum(members - 1, 1), 1.0))
        error = birge / np.sqrt(total)
    low, high = _extremes(groups.day, value, usable, days)
    disagree = (low >= 0) & (np.abs(value[high] - value[low]) > rule.tolerance)
    sure = np.bincount(groups.day, weight * judged.confidence, days)
    rival = np.where(usable & ~joined, np.where(stands, lead, groups.delegate), -1)
    return Decisions(
        looks=looks,
        harmonised=value,
        sigma=judged.sigma,
        components=judged.components,
        confidence=judged.confidence,
        verdict=verdict,
        weight=weight,
        rival=rival,
        spikes=judged.spikes,
        first=groups.first,
        value=np.round(fused, DECIMALS),
        error=np.round(np.where(total > 0.0, error, np.nan), DECIMALS),
        day_confidence=np.round(np.where(disagree, rule.disagreement_factor, 1.0) * sure, DECIMALS),
        low=low,
        high=high,
        disagree=disagree,
    )


def _extremes(day: Integers, value: Floats, usable: Booleans, days: int) -> tuple[Integers, Integers]:
    """Return the usable looks of the lowest and the highest value of each day, -1 for none."""
    low, high = np.full(days, -1, np.int64), np.full(days, -1, np.int64)
    order = np.flatnonzero(usable)
    order = order[np.lexsort((-order, value[order]))]
    high[day[order]] = order
    low[day[order[::-1]]] = order[::-1]
    return low, high
