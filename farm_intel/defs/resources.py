"""The installation and its providers as Dagster resources; thin on purpose."""

from collections.abc import Mapping
from copy import copy

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from farm_intel.defs.ports import FarmIntel, Source
from farm_intel.domain.errors import FarmIntelError
from farm_intel.domain.ports import Progress
from farm_intel.observing.model import CellOutcome


class RunWatch:
    """Whoever launched a run in this process may look over its shoulder; this one looks away."""

    progress: Progress | None = None

    def cell(self, outcome: CellOutcome) -> None:
        """Take note of a stored cell."""

    def failed(self, run_id: str, failures: Mapping[str, str]) -> None:
        """Take note of a run's cells that could not be computed: `day|farm|index` -> reason."""

    def stopped(self, error: FarmIntelError) -> None:
        """Take note of an error that ended a run."""


class FarmIntelResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # Dagster's own generic has a default
    """Farms, indices, observations and the observe-farms use case of one installation."""

    container: dg.ResourceDependency[FarmIntel]
    watch: dg.ResourceDependency[RunWatch]
    preview_max_cells: int = 600
    """Runs of more asset cells than this record no thumbnails and series plots."""


FARM_INTEL = "farm_intel"
"""Key of the installation's resource; those of the providers are their names."""
_TOLD = "Told, not set: the table of providers and the FARM_INTEL_* settings decide."


class ProviderResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # Dagster's own generic has a default
    """One imagery provider in use: what it is comes from table and settings, its deadline can be set per run."""

    dialect: str = Field(default="", description=f"Catalogue dialect. {_TOLD}")
    collection: str = Field(default="", description=_TOLD)
    capability: str = Field(default="", description=f"`pixels` or `statistics`: how its numbers are made. {_TOLD}")
    quota: str = Field(default="", description=f"What it allows. {_TOLD}")
    missing_settings: str = Field(default="", description=f"Settings without which it cannot be asked. {_TOLD}")
    deadline_s: float = Field(
        default=600.0,
        gt=0,
        description="Time a run may spend on asking it for one block of cells, seconds; what it gave stays.",
    )


def provider_resource(source: Source, *, deadline_s: float) -> ProviderResource:
    """Return a provider in use as a resource, of a class of its own.

    The facts are defaults of that class: a run that sets the deadline need not repeat them.
    """
    row = source.row
    budget = "no budget" if row.monthly_units is None else f"{row.monthly_units:g} {row.unit} a month"
    rate = "no rate limit" if row.requests_per_minute is None else f"{row.requests_per_minute:g} requests a minute"
    facts: dict[str, str | float] = {
        "dialect": source.profile.dialect,
        "collection": source.collection,
        "capability": str(source.capability),
        "quota": f"{budget}, {rate}",
        "missing_settings": ", ".join(source.missing_settings) or "none",
        "deadline_s": deadline_s,
    }
    fields = {name: (info.annotation, _with_default(info, facts[name])) for name, info in _FIELDS.items()}
    made = create_model(
        "".join(part.capitalize() for part in source.name.split("_")) + "Resource",
        __base__=ProviderResource,
        __doc__="\n\n".join(filter(None, [row.title, row.note])),
        **fields,  # type: ignore[call-overload]  # pydantic's overloads know no mapping
    )
    resource: ProviderResource = made()
    return resource


_FIELDS = {
    name: info for name, info in ProviderResource.model_fields.items() if name in ProviderResource.__annotations__
}


def _with_default(info: FieldInfo, default: str | float) -> FieldInfo:
    changed = copy(info)
    changed.default = default
    return changed


def provider_resources(container: FarmIntel) -> dict[str, ProviderResource]:
    """Return the providers in use as resources, by name."""
    deadline_s = container.settings.provider_deadline_s
    return {source.name: provider_resource(source, deadline_s=deadline_s) for source in container.sources}


def installation(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> FarmIntelResource:
    """Return the installation's resource of an operation that requires it by key."""
    resource: FarmIntelResource = getattr(context.resources, FARM_INTEL)
    return resource


def deadline_s(context: dg.AssetExecutionContext | dg.OpExecutionContext, provider: str) -> float:
    """Return the time an operation that requires a provider by key may spend on it."""
    resource: ProviderResource = getattr(context.resources, provider)
    return resource.deadline_s
