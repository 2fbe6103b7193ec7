"""The season use case: from stored fused observations and daily series to each farm's season, stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import batched

import numpy as np

from farm_intel.domain.assessment import DailySeries, FusedObservation, Season
from farm_intel.domain.farms import Farm
from farm_intel.domain.phenology import find_seasons
from farm_intel.domain.ports import AssessmentStore, Clock, FarmStore
from farm_intel.domain.season import ObservedDays, assess_season
from farm_intel.indices.index import SpectralIndex
from farm_intel.indices.registry import IndexRegistry
from farm_intel.indices.state_rules import StateRules

FARMS_AT_ONCE = 200
"""Farms that are read together: few enough for a laptop's memory."""


class SeasonService:
    """Baselines, trends and phenology; pure rules are in domain, their parameters in indices."""

    def __init__(
        self,
        *,
        farms: FarmStore,
        assessments: AssessmentStore,
        registry: IndexRegistry,
        rules: StateRules,
        clock: Clock,
    ) -> None:
        """Keep the ports."""
        self._farms = farms
        self._assessments = assessments
        self._registry = registry
        self._rules = rules
        self._clock = clock

    def build_seasons(self, farm_ids: Sequence[str], indices: Sequence[str]) -> Iterator[Season]:
        """Make and store the seasons of farms from what is stored of them now, ordered by batch, index and farm.

        What has not changed since it was stored is not made again. A farm without a daily series has no season; one
        that was stored before is removed.

        Raises:
            UnknownNameError: one of the indices does not exist.
            StoreError: the store refused.

        """
        chosen = self._registry.select(indices)
        farms = {farm.farm_id: farm for farm in self._farms.list(include_inactive=True)}
        for batch in batched(dict.fromkeys(farm_ids), FARMS_AT_ONCE):
            for index in chosen:
                yield from self._batch(batch, index, farms)

    def _batch(self, farm_ids: tuple[str, ...], index: SpectralIndex, farms: Mapping[str, Farm]) -> list[Season]:
        slugs = [index.slug]
        stored = {season.farm_id: season for season in self._assessments.seasons(farm_ids=farm_ids, indices=slugs)}
        fused = self._fused(farm_ids, index)
        results: list[Season] = []
        changed: list[Season] = []
        for daily in self._assessments.series(farm_ids=farm_ids, indices=slugs):
            season = self._season(daily, fused[daily.farm_id], index, farms.get(daily.farm_id), stored)
            results.append(season)
            if season is not stored.get(daily.farm_id):
                changed.append(season)
        gone = [(farm_id, index.slug) for farm_id in stored.keys() - {season.farm_id for season in results}]
        if changed or gone:
            self._assessments.save_seasons(changed, recorded_at=self._clock.now(), gone=sorted(gone))
        return results

    def _fused(self, farm_ids: tuple[str, ...], index: SpectralIndex) -> Mapping[str, list[FusedObservation]]:
        groups: dict[str, list[FusedObservation]] = defaultdict(list)
        for item in self._assessments.fused(
            farm_ids=farm_ids, indices=[index.slug], usable=True, with_candidates=False
        ):
            groups[item.farm_id].append(item)
        return groups

    def _season(
        self,
        daily: DailySeries,
        fused: Sequence[FusedObservation],
        index: SpectralIndex,
        farm: Farm | None,
        stored: Mapping[str, Season],
    ) -> Season:
        rule, phenology = self._rules.season_rule(index), self._rules.phenology_rule(index)
        plantings = (farm.planting_date.toordinal(),) if farm and farm.planting_date else ()
        digest = blake2b(digest_size=16)
        for part in (daily.fingerprint, *(item.fingerprint for item in fused), rule, phenology, plantings):
            digest.update(f"{part}\n".encode())
        fingerprint = digest.hexdigest()
        before = stored.get(daily.farm_id)
        if before is not None and before.fingerprint == fingerprint:
            return before
        season = assess_season(observed_days(fused), daily, find_seasons(daily, phenology), rule, plantings=plantings)
        return Season(
            farm_id=season.farm_id,
            index=season.index,
            days=season.days,
            seasons=season.seasons,
            note=season.note,
            fingerprint=fingerprint,
        )


def observed_days(fused: Sequence[FusedObservation]) -> ObservedDays:
    """Return usable fused observations of one farm and index, ascending, as columns."""
    usable = [item for item in fused if item.value is not None]
    return ObservedDays(
        days=np.array([item.solar_day.toordinal() for item in usable], np.int64),
        values=np.array([item.value for item in usable], np.float64),
        sigma=np.array([np.nan if item.standard_error is None else item.standard_error for item in usable]),
    )
