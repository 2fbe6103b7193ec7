"""One farm through every provider in use: do they agree?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import combinations

from farm_intel.bootstrap import Container
from farm_intel.cli.backfilling import run_backfill
from farm_intel.cli.output import progress_bar
from farm_intel.domain.assessment import Candidate, CandidateVerdict
from farm_intel.domain.errors import FarmIntelError
from farm_intel.observing.model import ObserveRequest

SMALLEST_HA = 4.0
"""A field of this size has whole pixels of every provider of up to 30 m."""
_UNUSABLE = (CandidateVerdict.DESPIKED, CandidateVerdict.LOW_CONFIDENCE, CandidateVerdict.CONTEXT_ONLY)


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What came of asking every provider."""

    farm_id: str
    slug: str
    numbers: dict[str, int] = field(default_factory=dict)
    """Provider -> days with a number."""
    failures: dict[str, str] = field(default_factory=dict)
    """Provider -> why it could not be asked."""
    largest_difference: float = 0.0
    """Between usable numbers of one day and one pixel size, index units."""


def compare_providers(container: Container, days: Sequence[date], slug: str) -> Comparison:
    """Ask every provider in use for one index of one farm, fuse what came for all farms, and say how far they differ.

    The farm is the first that is large enough for all; a provider that fails is told and not waited for.
    """
    farms = container.farms.list()
    farm = next((farm for farm in farms if farm.area_ha >= SMALLEST_HA), farms[0])
    result = Comparison(farm_id=farm.farm_id, slug=slug)
    for source in container.sources[1:]:
        request = ObserveRequest(
            provider=source.name,
            collection=source.collection,
            indices=(slug,),
            farm_ids=(farm.farm_id,),
            days=tuple(days),
        )
        try:
            with progress_bar(source.name) as progress:
                run_backfill(container, request, progress)
        except FarmIntelError as error:
            result.failures[source.name] = str(error)
    assess(container, days)
    gsd_m = {source.name: source.profile.gsd_m for source in container.sources}
    numbers: Counter[str] = Counter()
    for item in container.assessments.fused(farm_ids=[farm.farm_id], indices=[slug]):
        numbers.update(candidate.key.provider for candidate in item.candidates)
        result.largest_difference = max(result.largest_difference, _largest_difference(item.candidates, gsd_m))
    result.numbers = dict(sorted(numbers.items()))
    return result


def assess(container: Container, days: Sequence[date]) -> None:
    """Fuse, smooth, and tell seasons and states of all farms from what is stored."""
    farm_ids = [farm.farm_id for farm in container.farms.list()]
    slugs = container.settings.asset_indices
    with progress_bar("assess") as progress:
        for done, step in enumerate(
            (
                container.assessing.fuse(farm_ids, slugs, start=days[0], end=days[-1]),
                container.assessing.build_series(farm_ids, slugs),
                container.seasons.build_seasons(farm_ids, slugs),
                container.states.build_states(farm_ids, start=days[0], end=days[-1]),
            )
        ):
            for _ in step:
                pass
            progress.advance(done + 1, 4, "")


def _largest_difference(candidates: Sequence[Candidate], gsd_m: Mapping[str, float]) -> float:
    """Return the largest difference between usable numbers of one pixel size.

    Landsat beside Sentinel-2 on the same day is another look, through other pixels at another minute.
    """
    usable = [c for c in candidates if c.verdict not in _UNUSABLE]
    pairs = ((a, b) for a, b in combinations(usable, 2) if gsd_m[a.key.provider] == gsd_m[b.key.provider])
    return max((abs(a.harmonised - b.harmonised) for a, b in pairs), default=0.0)
