"""The scoreboard of providers: each against the world's truth, and each against each.

Judged are clear, even fields measured from pixels wholly inside: there every provider sees one number, and what remains
is noise and rounding. Truth is the index over the very bands a provider's product has (Landsat has no broad near
infrared), and providers are held to each other where they computed it from the same bands; other pairs are told only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import combinations
from typing import Protocol

import numpy as np
import numpy.typing as npt

from farm_intel.domain.looks import observed_ordinal
from farm_intel.domain.observations import Flag, Observation, ObservationStatus
from farm_intel.simulation.world import FarmWorld

COARSE_GSD_M = 100.0
"""Products this coarse or coarser say of most fields that they are too small."""
COARSE_PIXELS = 25
"""Whole pixels a field should have before a coarse product is held to its number (5 x 5)."""
STATISTICS = "statistics"


class BandIndex(Protocol):
    """What scoring needs of an index."""

    @property
    def slug(self) -> str:
        """Lower-case name."""
        ...

    def resolve_bands(self, available: frozenset[str], /) -> dict[str, str]:
        """Return symbol -> common name for the bands at hand."""
        ...

    def evaluate(self, bands: Mapping[str, npt.NDArray[np.floating]], /) -> npt.NDArray[np.floating]:
        """Return the index for reflectances by common name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredProduct:
    """What a provider's numbers are made from."""

    bands: frozenset[str]
    """Common names of its reflectance bands."""
    gsd_m: float

    @property
    def coarse(self) -> bool:
        """True for products that most fields are too small for."""
        return self.gsd_m >= COARSE_GSD_M


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """Largest differences that are accepted, index units."""

    truth: float = 0.005
    pair: float = 0.002
    capability: float = 0.003
    """Between the tables and the pixels of one provider."""
    coarse: float = 0.02
    """For whatever a coarse product takes part in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One source (a provider by one of its capabilities) and index against the truth."""

    source: str
    index: str
    bands: tuple[str, ...]
    """What it computed the index from."""
    n: int
    bias: float
    largest: float
    """Largest absolute difference from the truth."""
    limit: float
    too_small: int
    """Cells of which it said that the field is too small for it."""
    unsaid: int
    """Cells of such fields for which it gave a number as if they were large enough."""

    @property
    def met(self) -> bool:
        """True where every judged cell is within the limit and no small field was passed off as large."""
        return self.n > 0 and self.largest <= self.limit and not self.unsaid


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """Two sources on the same fields and days."""

    first: str
    second: str
    index: str
    n: int
    largest: float
    """Largest absolute difference."""
    limit: float | None
    """None: they computed the index from different bands, which truly differ; nothing is judged by it."""

    @property
    def met(self) -> bool:
        """True where the largest difference is within the limit, or there is none."""
        return self.limit is None or self.largest <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReport:
    """What the scoreboard says."""

    sources: tuple[SourceRow, ...]
    pairs: tuple[PairRow, ...]
    limits: ProviderLimits
    not_judged: Mapping[str, int]
    """Why cells were left out."""
    never_compared: tuple[tuple[str, str], ...]
    """Sources of fine pixels that share no judged cell, which leaves a target open."""

    @property
    def failed_targets(self) -> tuple[str, ...]:
        """One line for every source and pair that misses its limit, and for what could not be judged."""
        lines = [
            f"provider {row.source}, {row.index}: {row.largest:.4f} from the truth (limit {row.limit:g}), n {row.n}"
            f"{f', {row.unsaid} numbers of fields that are too small for it' if row.unsaid else ''}"
            for row in self.sources
            if not row.met
        ]
        lines += [
            f"providers {row.first} and {row.second}, {row.index}: differ by {row.largest:.4f} (limit {row.limit:g})"
            for row in self.pairs
            if not row.met
        ]
        lines += [f"providers {first} and {second}: no cell in common" for first, second in self.never_compared]
        return tuple(lines)

    def source_table(self) -> list[dict[str, str]]:
        """The sources as text, for a table."""
        return [
            {
                "provider": row.source,
                "index": row.index,
                "from bands": " ".join(row.bands),
                "n": str(row.n),
                "bias": f"{row.bias:+.5f}",
                "largest": f"{row.largest:.5f}",
                "limit": f"{row.limit:g}",
                "too small": str(row.too_small),
                "verdict": "met" if row.met else "missed",
            }
            for row in self.sources
        ]

    def pair_table(self) -> list[dict[str, str]]:
        """The pairs as text, for a table; without `limit` for pairs that are not judged."""
        return [
            {
                "provider": row.first,
                "and": row.second,
                "index": row.index,
                "n": str(row.n),
                "largest difference": f"{row.largest:.5f}",
                "limit": "-" if row.limit is None else f"{row.limit:g}",
                "verdict": "-" if row.limit is None else "met" if row.met else "missed",
            }
            for row in self.pairs
        ]

    def as_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "limits": asdict(self.limits),
            "sources": [{**asdict(row), "met": row.met} for row in self.sources],
            "pairs": [{**asdict(row), "met": row.met} for row in self.pairs],
            "not_judged": dict(self.not_judged),
            "failed_targets": list(self.failed_targets),
        }


@dataclass(frozen=True, slots=True)
class _OwnBands:
    """An index over the bands one product has."""

    index: BandIndex
    bands: frozenset[str]

    @property
    def slug(self) -> str:
        return self.index.slug

    def evaluate(self, bands: Mapping[str, npt.NDArray[np.floating]], /) -> npt.NDArray[np.floating]:
        return self.index.evaluate({name: values for name, values in bands.items() if name in self.bands})


_Place = tuple[str, str, date]
"""Index, farm, day the pixels were seen."""


@dataclass(slots=True)
class _Judged:
    """Values of one source, by place."""

    values: dict[_Place, float]
    too_small: Counter[str]
    """By index."""
    unsaid: Counter[str]


def source_name(observation: Observation) -> str:
    """Return the provider, and `statistics` behind it where the provider took them by its own means."""
    own = Flag.PROVIDER_STATISTICS in observation.flags
    return f"{observation.key.provider} {STATISTICS}" if own else observation.key.provider


def score_providers(
    world: FarmWorld,
    observations: Iterable[Observation],
    indices: Sequence[BandIndex],
    products: Mapping[str, ScoredProduct],
    *,
    limits: ProviderLimits | None = None,
) -> ProviderReport:
    """Return the scoreboard of providers.

    Args:
        world: whose truth counts.
        observations: of several providers and capabilities, on the same fields and days.
        indices: to score.
        products: provider -> what its numbers are made from.
        limits: to judge by; the project's own by default.

    """
    limits = limits or ProviderLimits()
    not_judged: Counter[str] = Counter()
    sources = _collect(world, observations, products, not_judged)
    rows, pairs = [], []
    for index in indices:
        bands = {name: tuple(sorted(index.resolve_bands(products[_provider(name)].bands).values())) for name in sources}
        rows += [
            _source_row(world, index, (name, found), products[_provider(name)], limits)
            for name, found in sources.items()
        ]
        for first, second in combinations(sources, 2):
            limit = _pair_limit(first, second, products, limits) if bands[first] == bands[second] else None
            row = _pair_row((first, second), index.slug, (sources[first], sources[second]), limit)
            if row.n:
                pairs.append(row)
    return ProviderReport(
        sources=tuple(sorted(rows, key=lambda row: (row.source, row.index))),
        pairs=tuple(sorted(pairs, key=lambda row: (row.first, row.second, row.index))),
        limits=limits,
        not_judged=dict(sorted(not_judged.items())),
        never_compared=_never_compared(sources, pairs, products),
    )


def _collect(
    world: FarmWorld,
    observations: Iterable[Observation],
    products: Mapping[str, ScoredProduct],
    not_judged: Counter[str],
) -> dict[str, _Judged]:
    """Return source -> its judged values, by name."""
    farms = {farm.farm_id: farm for farm in world.farms}
    sources: dict[str, _Judged] = defaultdict(lambda: _Judged({}, Counter(), Counter()))
    for seen in observations:
        farm, product = farms[seen.key.farm_id], products[seen.key.provider]
        found = sources[source_name(seen)]
        why = _why_not(seen, even=farm.even)
        small = farm.area_ha * 10_000.0 < COARSE_PIXELS * product.gsd_m**2
        if product.coarse and small and why in {ObservationStatus.TOO_FEW_PIXELS.value, Flag.MIXED_PIXELS.value}:
            found.too_small[seen.key.index] += 1
        elif why:
            not_judged[why] += 1
        elif product.coarse and small:
            found.unsaid[seen.key.index] += 1
        elif seen.statistics is not None:
            day = date.fromordinal(observed_ordinal(seen))
            found.values[seen.key.index, seen.key.farm_id, day] = seen.statistics.mean
    return dict(sorted(sources.items()))


def _why_not(seen: Observation, *, even: bool) -> str:
    """Return why a cell is not judged; empty where it is."""
    if seen.status is not ObservationStatus.OBSERVED:
        return seen.status.value
    if Flag.MIXED_PIXELS in seen.flags:
        return Flag.MIXED_PIXELS.value
    if not even:
        return "uneven field"
    return "" if seen.valid_pixel_fraction >= 0.99 else "not clear"


def _provider(source: str) -> str:
    return source.removesuffix(f" {STATISTICS}")


def _source_row(
    world: FarmWorld,
    index: BandIndex,
    source: tuple[str, _Judged],
    product: ScoredProduct,
    limits: ProviderLimits,
) -> SourceRow:
    name, found = source
    own = _OwnBands(index, product.bands)
    places = [(value, farm, day) for (slug, farm, day), value in found.values.items() if slug == index.slug]
    errors = np.array([value - world.true_index(farm, day, own) for value, farm, day in places])
    return SourceRow(
        source=name,
        index=index.slug,
        bands=tuple(sorted(index.resolve_bands(product.bands).values())),
        n=errors.size,
        bias=float(errors.mean()) if errors.size else 0.0,
        largest=float(np.abs(errors).max()) if errors.size else 0.0,
        limit=limits.coarse if product.coarse else limits.truth,
        too_small=found.too_small[index.slug],
        unsaid=found.unsaid[index.slug],
    )


def _pair_limit(first: str, second: str, products: Mapping[str, ScoredProduct], limits: ProviderLimits) -> float:
    if _provider(first) == _provider(second):
        return limits.capability
    coarse = products[_provider(first)].coarse or products[_provider(second)].coarse
    return limits.coarse if coarse else limits.pair


def _pair_row(names: tuple[str, str], slug: str, found: tuple[_Judged, _Judged], limit: float | None) -> PairRow:
    first, second = found[0].values, found[1].values
    apart = [abs(first[place] - second[place]) for place in first.keys() & second.keys() if place[0] == slug]
    return PairRow(
        first=names[0], second=names[1], index=slug, n=len(apart), largest=max(apart, default=0.0), limit=limit
    )


def _never_compared(
    sources: Iterable[str], pairs: Iterable[PairRow], products: Mapping[str, ScoredProduct]
) -> tuple[tuple[str, str], ...]:
    compared = {(row.first, row.second) for row in pairs if row.limit is not None}
    fine = [name for name in sources if not products[_provider(name)].coarse]
    return tuple(pair for pair in combinations(fine, 2) if pair not in compared)
