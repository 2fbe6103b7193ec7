"""A group of assets: the indices of one provider and one cohort of farms, computed together in one operation."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dagster as dg

from farm_intel.defs.ports import FarmIntel, Source
from farm_intel.domain.errors import FarmIntelError, UnknownNameError
from farm_intel.indices.index import SpectralIndex

MAIN_COHORT = "main"
"""Cohort of an installation that has only one; domain.farms gives it to every farm by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetGroup:
    """Identity of the assets of one provider and cohort."""

    provider: str
    collection: str
    cohort: str
    plain: bool
    """True: the asset keys and the farm dimension do not name the cohort."""
    indices: tuple[SpectralIndex, ...]

    @property
    def slugs(self) -> tuple[str, ...]:
        """Slugs of the group's indices, in the order of the setting."""
        return tuple(index.slug for index in self.indices)

    @property
    def dimension(self) -> str:
        """Name of the dynamic partitions that hold the cohort's farms."""
        return farm_dimension(self.cohort, plain=self.plain)

    @property
    def name(self) -> str:
        """Name for operations, jobs and Dagster's group: `[a-z0-9_]`."""
        return python_name(self.provider if self.plain else f"{self.provider}_{self.cohort}")

    @property
    def observe_job(self) -> str:
        """Name of the job that materialises whole rows of the grid."""
        return f"{self.name}_observe"

    @property
    def cells_job(self) -> str:
        """Name of the job that materialises scattered cells."""
        return f"{self.name}_cells"

    def asset_key(self, slug: str) -> dg.AssetKey:
        """Return the asset key of one of the group's indices."""
        return dg.AssetKey([self.provider, slug] if self.plain else [self.provider, slug, self.cohort])

    @property
    def asset_keys(self) -> tuple[dg.AssetKey, ...]:
        """Keys of all assets of the group."""
        return tuple(self.asset_key(slug) for slug in self.slugs)

    def selected(self, keys: Iterable[dg.AssetKey]) -> tuple[str, ...]:
        """Return the slugs of those of the group's assets that are among `keys`."""
        wanted = set(keys)
        return tuple(slug for slug in self.slugs if self.asset_key(slug) in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortGroup:
    """Identity of what is made of a cohort's observations, whichever provider they come from."""

    cohort: str
    plain: bool
    """True: the asset keys and the farm dimension do not name the cohort."""
    indices: tuple[SpectralIndex, ...]
    """Those that some provider serves."""
    groups: tuple[AssetGroup, ...]
    """The cohort's observations, best provider first."""

    @property
    def slugs(self) -> tuple[str, ...]:
        """Slugs of the indices, in the order of the setting."""
        return tuple(index.slug for index in self.indices)

    @property
    def dimension(self) -> str:
        """Name of the dynamic partitions that hold the cohort's farms."""
        return farm_dimension(self.cohort, plain=self.plain)

    def named(self, verb: str) -> str:
        """Return the name of an operation over the cohort: `[a-z0-9_]`."""
        return python_name(f"{verb}_{self.cohort}")

    def asset_key(self, kind: str, name: str) -> dg.AssetKey:
        """Return the key of one of the cohort's assets: its kind, then index or subject."""
        return dg.AssetKey([kind, name] if self.plain else [kind, name, self.cohort])

    def observed(self, slug: str) -> tuple[dg.AssetKey, ...]:
        """Return the assets of an index that providers fill."""
        return tuple(group.asset_key(slug) for group in self.groups if slug in group.slugs)

    def selected(self, kind: str, keys: Iterable[dg.AssetKey]) -> tuple[str, ...]:
        """Return the slugs of those of a kind's assets that are among `keys`."""
        wanted = set(keys)
        return tuple(slug for slug in self.slugs if self.asset_key(kind, slug) in wanted)


def farm_dimension(cohort: str, *, plain: bool) -> str:
    """Return the name of the dynamic partitions that hold a cohort's farms."""
    return "farms" if plain else f"farms_{cohort}"


def cohort_groups(groups: Iterable[AssetGroup]) -> tuple[CohortGroup, ...]:
    """Return one group per cohort over all its providers."""
    by_cohort: dict[str, list[AssetGroup]] = {}
    for group in groups:
        by_cohort.setdefault(group.cohort, []).append(group)
    return tuple(
        CohortGroup(
            cohort=cohort,
            plain=members[0].plain,
            indices=tuple({index.slug: index for group in members for index in group.indices}.values()),
            groups=tuple(members),
        )
        for cohort, members in by_cohort.items()
    )


def python_name(text: str) -> str:
    """Return `text` with everything Dagster does not allow in a name replaced by `_`."""
    return re.sub(r"\W", "_", text)


def asset_groups(container: FarmIntel, *, extra_indices: Sequence[str] = ()) -> tuple[AssetGroup, ...]:
    """Return the groups of an installation: one per provider in use and cohort that has farms.

    A provider has the indices its product has bands for.

    The main cohort keeps its plain keys when others join it, so that growing never renames an asset.
    A store that cannot be read yet has the main cohort and no farms: definitions must load before the first import.

    Args:
        container: the installation.
        extra_indices: slugs to have beside the asset indices of the settings, for a launch that asks for them.

    """
    settings = container.settings
    slugs = dict.fromkeys((*settings.asset_indices, *extra_indices))
    indices = tuple(container.registry.select(tuple(slugs)))
    try:
        cohorts = sorted({farm.cohort for farm in container.farms.list()}) or [MAIN_COHORT]
    except FarmIntelError:
        cohorts = [MAIN_COHORT]
    return tuple(
        AssetGroup(
            provider=source.name,
            collection=source.collection,
            cohort=cohort,
            plain=cohort == MAIN_COHORT or len(cohorts) == 1,
            indices=served,
        )
        for source in container.sources
        if (served := tuple(index for index in indices if serves(source, index)))
        for cohort in cohorts
    )


def serves(source: Source, index: SpectralIndex) -> bool:
    """Return whether a provider's product has the bands an index needs."""
    try:
        index.resolve_bands(source.profile.bands)
    except UnknownNameError:
        return False
    return True
