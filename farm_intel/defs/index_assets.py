"""The asset factory: registry rows in, one operation with one asset and one check per index out."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.blocks import Cell
from farm_intel.defs.cell_events import CellEvent
from farm_intel.defs.cell_quality import CHECK_NAME
from farm_intel.defs.groups import AssetGroup, CohortGroup, python_name
from farm_intel.defs.partitions import cell_partitions, parse_partition_key
from farm_intel.defs.ports import FarmIntel
from farm_intel.defs.recording import CellWork, observe_cells
from farm_intel.defs.resources import FARM_INTEL, deadline_s, installation
from farm_intel.indices.index import SpectralIndex

OWNERS = ("team:agronomy",)
QUALITY_DESCRIPTION = (
    "Per cell: has a number, valid area, value in the interpreted range, radiometry agrees with the metadata. "
    "WARN for nature and catalogues, ERROR for a record that breaks its contract."
)


class ObserveConfig(dg.Config):
    """What an operator may choose when launching a run."""

    force: bool = False
    """Compute cells again although nothing they depend on has changed."""


def build_index_assets(container: FarmIntel, group: AssetGroup, today: date) -> dg.AssetsDefinition:
    """Return the assets of a group: all its indices in one operation, so that selecting several costs one read."""
    partitions = cell_partitions(container.settings, group.dimension, today)

    @dg.multi_asset(
        name=f"observe_{group.name}",
        specs=[_asset_spec(group, index, partitions) for index in group.indices],
        check_specs=[
            compat.partitioned_check(CHECK_NAME, key, partitions, QUALITY_DESCRIPTION) for key in group.asset_keys
        ],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=python_name(group.provider),
        required_resource_keys={FARM_INTEL, group.provider},
    )
    def observe(context: dg.AssetExecutionContext, config: ObserveConfig) -> Iterator[CellEvent]:
        """Observe the selected indices over the run's farms and days."""
        farm_intel = installation(context)
        work = CellWork(
            group=group,
            slugs=group.selected(context.selected_asset_keys),
            cells=active_cells(farm_intel.container, group, run_cells(context, group)),
            force=config.force,
            run_id=context.run.run_id,
            deadline_s=deadline_s(context, group.provider),
            complete=compat.BACKFILL_TAG in context.run.tags,
        )
        yield from observe_cells(work, farm_intel, context)

    return observe


def run_cells(context: dg.AssetExecutionContext, group: AssetGroup | CohortGroup) -> tuple[Cell, ...]:
    """Return the cells a run was launched for, day by day, farms in the order of their partitions.

    A range is resolved from its two corners: Dagster's own expansion walks the whole grid.
    """
    start, end = context.run.tags.get(compat.RANGE_START_TAG), context.run.tags.get(compat.RANGE_END_TAG)
    if start is None or end is None:
        return tuple(parse_partition_key(str(key)) for key in context.partition_keys)
    (first_day, first_farm), (last_day, last_farm) = parse_partition_key(start), parse_partition_key(end)
    farms = list(context.instance.get_dynamic_partitions(group.dimension))
    chosen = farms[farms.index(first_farm) : farms.index(last_farm) + 1]
    days = [date.fromordinal(n) for n in range(first_day.toordinal(), last_day.toordinal() + 1)]
    return tuple((day, farm_id) for day in days for farm_id in chosen)


def active_cells(container: FarmIntel, group: AssetGroup | CohortGroup, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Return the cells of farms that are still active; a deactivated farm keeps its partition for a while."""
    active = {farm.farm_id for farm in container.farms.list(cohort=group.cohort)}
    return tuple(cell for cell in cells if cell[1] in active)


def _asset_spec(group: AssetGroup, index: SpectralIndex, partitions: dg.PartitionsDefinition) -> dg.AssetSpec:
    return dg.AssetSpec(
        group.asset_key(index.slug),
        description=describe_index(index),
        group_name=group.name,
        owners=list(OWNERS),
        tags={
            "provider": _tag(group.provider),
            "collection": _tag(group.collection),
            "cohort": _tag(group.cohort),
            "application": _tag(index.application),
        },
        kinds={"python", "geotiff"},
        metadata={
            "formula": index.formula,
            "reference": index.reference,
            "valid_range": f"{index.valid_range[0]:g} to {index.valid_range[1]:g}",
        },
        code_version=index.formula_version,
        partitions_def=partitions,
        skippable=True,
    )


def describe_index(index: SpectralIndex) -> str:
    """Return the description of an index's asset in Markdown: what it is, formula, range, reference."""
    constants = ", ".join(f"{name} = {value:g}" for name, value in sorted(index.constants.items()))
    low, high = index.display_range
    valid_low, valid_high = index.valid_range
    lines = [
        # no emphasis: the catalogue shows the first line as plain text
        f"{index.long_name} ({index.name}) per farm and solar day.",
        f"Formula: `{index.formula}`" + (f" with {constants}" if constants else ""),
        f"Range shown: {low:g} to {high:g}; a pixel has a value within {valid_low:g} to {valid_high:g}.",
        f"Reference: {index.reference}",
    ]
    if index.note:
        lines.append(index.note)
    return "\n\n".join(lines)


def _tag(text: str) -> str:
    """Return text that Dagster takes as a tag value: up to 63 of letters, digits, `_`, `-`, `.`."""
    return "".join(c if c.isalnum() or c in "_-." else "-" for c in text)[:63].strip("-_.")
