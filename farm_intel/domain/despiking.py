"""Unmasked cloud and shadow, told from real events by a farm's own neighbours in time.

The rule: a look is a spike if it deviates from the days before *and* the days after it return. A cloud pulls an index
towards the value the index has over cloud, and is gone at the next overpass; a harvest, a flood, hail or drought is
still there. So for a look x with the neighbours b before and a after it, on the same side:

    depth = min((x - b) / max(step / 2, z s),  (x - a) / (max(step, z s) + recovery * days))  signed towards cloud

is the spike's depth, and 1 is the threshold. s is the standard error of the difference, so that noisy neighbours prove
less; `recovery * days` is what a field can really regain until a, so that after a long gap a returned value proves
nothing. A value beyond that of cloud itself (open water after a flood) cannot be cloud. Two cloudy dates in a row are
judged together as one run against the days around them, at a higher threshold.

The newest look has no day after it: where it drops like a cloud it is kept at a lower temporal confidence, and judged
again when the next look comes. This is the idea of the best index slope extraction (Viovy et al. 1992,
https://doi.org/10.1080/01431169208904212), made two-sided, noise-scaled and free of the assumption that high is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from farm_intel.domain.looks import Booleans, Floats, Integers, Looks

_FARM_STRIDE = 1 << 24
"""More than any ordinal: farm * stride + day orders days within farms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeRule:
    """Parameters of one index."""

    step: float
    """A change this large asks for a second look, index units."""
    cloud_value: float
    """What the index is over thick cloud; which way a cloud pulls follows from it."""
    beyond: float = 0.1
    """A value further than this behind the cloud's is not cloud, index units."""
    recovery_per_day: float = 0.02
    """The fastest a field really comes back, index units per day."""
    window_days: int = 30
    """Neighbours further away say nothing: in a month a field can regain what a cloud would have hidden."""
    run_days: int = 12
    """Two consecutive dates this close may be one spell of cloud."""
    run_factor: float = 1.5
    """How much deeper a run of two must be than a single date."""
    z: float = 3.0
    """Standard errors of a difference below which it is noise."""
    unconfirmed: float = 0.35
    """Temporal component of a newest (or oldest) look that looks like a spike from the one side there is."""

    @property
    def reach_days(self) -> int:
        """Days on either side that can change a judgement: neighbours, and what their own neighbours say of them."""
        return 2 * self.window_days


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpikeJudgement:
    """What the neighbours in time say of each look; arrays are (N,)."""

    temporal: Floats
    """0..1; NaN without neighbours."""
    spike: Booleans
    unconfirmed: Booleans
    """Looks like a spike from one side, and the other side has nobody yet."""
    before: Integers
    """Look that stands for the day before, -1 for none."""
    after: Integers


def judge_spikes(looks: Looks, value: Floats, sigma: Floats, static: Floats, rule: SpikeRule) -> SpikeJudgement:
    """Judge every look against the best looks of the farm's other days.

    Done twice: first against all days, then against the days that were not spikes themselves.

    Args:
        looks: sorted columns.
        value: (N,) harmonised values.
        sigma: (N,) standard errors.
        static: (N,) confidence without the temporal component; the best look of a day stands for it.
            Negative for looks that may not testify about others.
        rule: the index's parameters.

    """
    trusted = static >= 0.0
    first = _judge(looks, value, sigma, _Days.of(looks, static, trusted), rule)
    return _judge(looks, value, sigma, _Days.of(looks, static, trusted & ~first.spike), rule)


@dataclass(frozen=True, slots=True, eq=False)
class _Days:
    """The best trusted look of each farm and day, in order."""

    look: Integers
    key: Integers

    @classmethod
    def of(cls, looks: Looks, static: Floats, trusted: Booleans) -> _Days:
        position = np.arange(len(looks))
        key = looks.farm * _FARM_STRIDE + looks.day
        order = np.lexsort((position, -np.round(static, 9), key))
        order = order[trusted[order]]
        first = np.ones(len(order), np.bool_)
        first[1:] = key[order][1:] != key[order][:-1]
        best = order[first]
        return cls(best, key[best])

    def neighbour(self, looks: Looks, offset: int, window: int) -> Integers:
        """Return the look `offset` days of data away from each look (-1 the one before), -1 where there is none."""
        key = looks.farm * _FARM_STRIDE + looks.day
        if not len(self.key):
            return np.full(len(looks), -1, np.int64)
        if offset < 0:
            place = np.searchsorted(self.key, key, "left") + offset
        else:
            place = np.searchsorted(self.key, key, "right") + offset - 1
        inside = (place >= 0) & (place < len(self.key))
        place = np.clip(place, 0, len(self.key) - 1)
        inside &= np.abs(self.key[place] - key) <= window  # another farm is a stride away
        return np.where(inside, self.look[place], -1)


def _judge(looks: Looks, value: Floats, sigma: Floats, days: _Days, rule: SpikeRule) -> SpikeJudgement:
    neighbours = {offset: days.neighbour(looks, offset, rule.window_days) for offset in (-2, -1, 1, 2)}
    sides = _Sides(looks, value, sigma, rule)
    this = np.arange(len(looks))
    single = sides.depth(this, neighbours[-1], neighbours[1], this)
    later = _run(looks, sides, neighbours[-1], (this, neighbours[1]), neighbours[2])
    earlier = _run(looks, sides, neighbours[-2], (neighbours[-1], this), neighbours[1])
    with np.errstate(invalid="ignore"):
        depth = np.fmax(np.fmax(single, later), earlier)
        spike = depth >= 1.0
        two_sided = 1.0 - 0.5 * np.clip(depth, 0.0, 1.0) ** 2
        before, after = neighbours[-1] >= 0, neighbours[1] >= 0
        one = np.where(before, sides.lone(this, neighbours[-1]), sides.lone(this, neighbours[1]))
        unconfirmed = (before ^ after) & (one >= 1.0) & ~spike
        one_sided = 1.0 - (1.0 - rule.unconfirmed) * np.clip(2.0 * one - 1.0, 0.0, 1.0)
    temporal = np.where(before & after, two_sided, np.where(before | after, one_sided, np.nan))
    temporal = np.where(spike, 0.5 / np.fmax(depth, 1.0), temporal)
    return SpikeJudgement(
        temporal=temporal, spike=spike, unconfirmed=unconfirmed, before=neighbours[-1], after=neighbours[1]
    )


def _run(looks: Looks, sides: _Sides, before: Integers, pair: tuple[Integers, Integers], after: Integers) -> Floats:
    """Return the depth of a run of two dates as one spike; both must be deep."""
    first, second = pair
    close = (first >= 0) & (second >= 0) & (looks.day[second] - looks.day[first] <= sides.rule.run_days)
    depth = np.minimum(sides.depth(first, before, after, second), sides.depth(second, before, after, second))
    return np.where(close, depth / sides.rule.run_factor, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Signed distances of looks from their neighbours, in thresholds."""

    looks: Looks
    value: Floats
    sigma: Floats
    rule: SpikeRule

    def depth(self, look: Integers, before: Integers, after: Integers, last: Integers) -> Floats:
        """Return the smaller of drop and return; NaN where a side is missing.

        Args:
            look: the looks that are judged.
            before: their neighbours before.
            after: their neighbours after.
            last: the last looks of the runs they belong to, from which recovery counts.

        """
        rule = self.rule
        x, b, a = self.value[look], self.value[before], self.value[after]
        pull = np.sign(rule.cloud_value - (a + b) / 2.0)
        days = self.looks.day[after] - self.looks.day[last]
        drop = pull * (x - b) / np.maximum(rule.step / 2.0, self._noise(look, before))
        back = pull * (x - a) / (np.maximum(rule.step, self._noise(look, after)) + rule.recovery_per_day * days)
        depth = np.minimum(drop, back)
        depth[pull * (x - rule.cloud_value) > rule.beyond] = 0.0
        depth[(look < 0) | (before < 0) | (after < 0)] = np.nan
        return np.asarray(depth, np.float64)

    def lone(self, look: Integers, neighbour: Integers) -> Floats:
        """Return how much a look with one neighbour departs towards cloud; NaN without the neighbour."""
        rule = self.rule
        x, other = self.value[look], self.value[neighbour]
        pull = np.sign(rule.cloud_value - other)
        days = np.abs(self.looks.day[look] - self.looks.day[neighbour])
        away = pull * (x - other)
        away /= np.maximum(rule.step, self._noise(look, neighbour)) + rule.recovery_per_day * days
        away[pull * (x - rule.cloud_value) > rule.beyond] = 0.0
        away[neighbour < 0] = np.nan
        return np.asarray(away, np.float64)

    def _noise(self, one: Integers, other: Integers) -> Floats:
        return np.asarray(self.rule.z * np.hypot(self.sigma[one], self.sigma[other]), np.float64)
