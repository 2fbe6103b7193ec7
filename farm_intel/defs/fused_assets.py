"""The factory of fused assets: one operation per cohort, one asset and one check per index."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.cell_events import CellEvent
from farm_intel.defs.fused_metadata import AGREEMENT, AGREEMENT_DESCRIPTION
from farm_intel.defs.fusing import FUSED, FuseWork, fuse_cells
from farm_intel.defs.groups import CohortGroup
from farm_intel.defs.index_assets import OWNERS, active_cells, run_cells
from farm_intel.defs.partitions import cell_partitions
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.resources import FARM_INTEL, deadline_s, installation
from farm_intel.indices.index import SpectralIndex


class FuseConfig(dg.Config):
    """What an operator may choose when launching a run."""

    ask: bool = True
    """Ask the providers in their order for what is missing; off: fuse what is stored."""


def build_fused_assets(container: FarmIntel, group: CohortGroup, today: date) -> dg.AssetsDefinition:
    """Return the fused assets of a cohort: all its indices in one operation."""
    partitions = cell_partitions(container.settings, group.dimension, today)
    providers = tuple(member.provider for member in group.groups)

    @dg.multi_asset(
        name=group.named("fuse"),
        specs=[_asset_spec(group, index, partitions) for index in group.indices],
        check_specs=[
            compat.partitioned_check(AGREEMENT, group.asset_key(FUSED, slug), partitions, AGREEMENT_DESCRIPTION)
            for slug in group.slugs
        ],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=FUSED,
        required_resource_keys={FARM_INTEL, *providers},
    )
    def fuse(context: dg.AssetExecutionContext, config: FuseConfig) -> Iterator[CellEvent]:
        """Ask the providers in order, fuse what they saw, and record providers' and fused cells."""
        farm_intel = installation(context)
        work = FuseWork(
            group=group,
            slugs=group.selected(FUSED, context.selected_asset_keys),
            cells=active_cells(farm_intel.container, group, run_cells(context, group)),
            run_id=context.run.run_id,
            deadlines_s={name: deadline_s(context, name) for name in providers} if config.ask else {},
            complete=compat.BACKFILL_TAG in context.run.tags,
        )
        yield from fuse_cells(work, farm_intel, context)

    return fuse


def _asset_spec(group: CohortGroup, index: SpectralIndex, partitions: dg.PartitionsDefinition) -> dg.AssetSpec:
    return dg.AssetSpec(
        group.asset_key(FUSED, index.slug),
        deps=list(group.observed(index.slug)),
        description=(
            f"{index.long_name} ({index.name}) per farm and solar day, one value from all providers.\n\n"
            "Candidates are brought to one sensor's scale, judged and weighted by their confidence; all of them, and "
            "what became of each, are kept. Materialising it asks the providers in the order of the settings."
        ),
        group_name=FUSED if group.plain else group.named(FUSED),
        owners=list(OWNERS),
        kinds={"python"},
        code_version=index.formula_version,
        partitions_def=partitions,
        skippable=True,
    )
