"""The assess-farms use case: observations of all providers in, fused observations and daily series out and stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from hashlib import blake2b
from itertools import batched

import numpy as np

from farm_intel.domain.assessment import DailySeries, FusedObservation
from farm_intel.domain.daily_series import METHOD, Points, SmoothingRule, smooth
from farm_intel.domain.fused_days import assemble
from farm_intel.domain.fusion import AssessmentRules, decide
from farm_intel.domain.looks import collect_looks
from farm_intel.domain.observations import ObservationStatus
from farm_intel.domain.ports import AssessmentStore, Clock, ObservationStore
from farm_intel.indices.quality import assessment_rules, smoothing_rule
from farm_intel.indices.registry import IndexRegistry

FARMS_AT_ONCE = 200
"""Farms of one index that are judged together: enough that array operations dominate, few enough for a laptop."""
COMPOSITE_DAYS = timedelta(days=31)
"""A composite is filed under its window's first day, up to this long before the day its pixels were seen."""


def _nobody(_index: str) -> tuple[str, ...]:
    """Prefer no provider."""
    return ()


class AssessingService:
    """Fuses, smooths and stores; pure rules are in domain, their parameters in indices."""

    def __init__(
        self,
        *,
        observations: ObservationStore,
        assessments: AssessmentStore,
        registry: IndexRegistry,
        clock: Clock,
        harmonise: bool = True,
        preference: Callable[[str], Sequence[str]] = _nobody,
    ) -> None:
        """Keep the ports.

        Args:
            observations: what providers saw.
            assessments: where results go.
            registry: the indices, with their parameters.
            clock: when results were recorded.
            harmonise: bring other sensors to the common one's scale (off where sensors are known to be equal).
            preference: index -> providers, best first, for looks that are equally sure.

        """
        self._observations = observations
        self._assessments = assessments
        self._registry = registry
        self._clock = clock
        self._harmonise = harmonise
        self._preference = preference

    def rules(self, index: str) -> AssessmentRules:
        """Return the rules an index is fused by.

        Raises:
            UnknownNameError: there is no such index.

        """
        return assessment_rules(
            self._registry.get(index), harmonise=self._harmonise, preference=self._preference(index)
        )

    def fuse(
        self, farm_ids: Sequence[str], indices: Sequence[str], *, start: date, end: date
    ) -> Iterator[FusedObservation]:
        """Fuse and store the days of a block, and judge again what its neighbours in time now say otherwise.

        Yields every day of the block on which a provider has a number, and days outside it whose stored row changed
        because of it (a newest drop that is now confirmed, or refuted), by farms in batches, by index, farm and day.
        `recorded_at` is left to the store. Results are stored batch by batch, before they are yielded.

        Raises:
            UnknownNameError: one of the indices does not exist.
            StoreError: the store refused.

        """
        rules = [self.rules(index) for index in dict.fromkeys(indices)]
        for farms in batched(dict.fromkeys(farm_ids), FARMS_AT_ONCE):
            for rule in rules:
                yield from self._fuse_batch(farms, rule, start, end)

    def build_series(self, farm_ids: Sequence[str], indices: Sequence[str]) -> Iterator[DailySeries]:
        """Smooth and store the daily series of farms from their stored fused observations.

        A farm without a usable value has no series; one that was stored before is removed.

        Raises:
            UnknownNameError: one of the indices does not exist.
            StoreError: the store refused.

        """
        rules = {index: smoothing_rule(self._registry.get(index)) for index in dict.fromkeys(indices)}
        for farms in batched(dict.fromkeys(farm_ids), FARMS_AT_ONCE):
            for index, rule in rules.items():
                fused = self._assessments.fused(farm_ids=farms, indices=[index], usable=True, with_candidates=False)
                series = build_series(fused, rule)
                have = {item.farm_id for item in series}
                gone = [(farm_id, index) for farm_id in farms if farm_id not in have]
                self._assessments.save_series(series, recorded_at=self._clock.now(), gone=gone)
                yield from series

    def series(self, farm_id: str, index: str) -> DailySeries | None:
        """Return the daily series of a farm and index, built from what is stored now, or None without any value.

        Raises:
            UnknownNameError: there is no such index.

        """
        return next(self.build_series([farm_id], [index]), None)

    def _fuse_batch(
        self, farms: tuple[str, ...], rules: AssessmentRules, start: date, end: date
    ) -> Iterator[FusedObservation]:
        reach = timedelta(days=rules.spikes.reach_days)
        first, last = _minus(start, reach), _plus(end, reach)
        stored = self._assessments.fused_fingerprints(farm_ids=farms, indices=[rules.index], start=first, end=last)
        looks = collect_looks(
            self._observations.observations(
                farm_ids=farms,
                indices=[rules.index],
                start=_minus(first, reach + COMPOSITE_DAYS),
                end=_plus(last, reach),
                statuses=[ObservationStatus.OBSERVED],
            ),
            rules.sensors,
        )
        fused = list(assemble(decide(looks, rules), rules, days=(first, last)))
        keys = [(item.farm_id, item.index, item.solar_day) for item in fused]
        changed = [item for item, key in zip(fused, keys, strict=True) if stored.get(key) != item.fingerprint]
        gone = sorted(stored.keys() - set(keys))
        if changed or gone:
            self._assessments.save_fused(changed, recorded_at=self._clock.now(), gone=gone)
        new = {id(item) for item in changed}
        yield from (item for item in fused if start <= item.solar_day <= end or id(item) in new)


def build_series(fused: Iterable[FusedObservation], rule: SmoothingRule) -> list[DailySeries]:
    """Return one daily series per farm and index of the usable fused observations, ordered by farm and index."""
    groups: dict[tuple[str, str], list[FusedObservation]] = defaultdict(list)
    for item in fused:
        if item.value is not None and item.standard_error is not None:
            groups[item.farm_id, item.index].append(item)
    keys = sorted(groups)
    points = [_points(groups[key]) for key in keys]
    smoothed = smooth(points, rule)
    return [
        DailySeries(
            farm_id=key[0],
            index=key[1],
            start=date.fromordinal(series.days[0]),
            values=smoothed.values[s, : smoothed.lengths[s]],
            sigma=smoothed.sigma[s, : smoothed.lengths[s]],
            observed=smoothed.observed[s, : smoothed.lengths[s]],
            method=METHOD,
            fingerprint=_series_fingerprint(series, rule),
        )
        for s, (key, series) in enumerate(zip(keys, points, strict=True))
    ]


def _points(fused: list[FusedObservation]) -> Points:
    ordered = sorted(fused, key=lambda item: item.solar_day)
    return Points(
        days=[item.solar_day.toordinal() for item in ordered],
        values=[item.value for item in ordered if item.value is not None],
        # A value that is not sure pulls less: its error is widened by what its confidence lacks.
        errors=[item.standard_error / max(item.confidence, 0.1) for item in ordered if item.standard_error is not None],
    )


def _series_fingerprint(points: Points, rule: SmoothingRule) -> str:
    numbers = np.array([points.days, points.values, points.errors], np.float64)
    return blake2b(numbers.tobytes() + repr(rule).encode() + METHOD.encode(), digest_size=16).hexdigest()


def _minus(day: date, span: timedelta) -> date:
    return max(day, date.min + span) - span


def _plus(day: date, span: timedelta) -> date:
    return min(day, date.max - span) + span
