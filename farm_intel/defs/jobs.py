"""Jobs: whole rows of the grid, scattered cells, and maintenance of the store."""

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.cell_quality import CHECK_NAME
from farm_intel.defs.groups import AssetGroup, python_name
from farm_intel.defs.index_assets import active_cells
from farm_intel.defs.partitions import parse_partition_key
from farm_intel.defs.recording import CellWork, observe_cells
from farm_intel.defs.resources import FARM_INTEL, FarmIntelResource, deadline_s, installation

MAINTENANCE_JOB = "store_maintenance"


class CellsConfig(dg.Config):
    """A set of cells of any shape."""

    keys: list[str]
    """Partition keys, `2026-05-01|farm-id`."""
    indices: list[str]
    """Slugs; empty means all asset indices."""
    force: bool = False
    """Compute cells again although nothing they depend on has changed."""


def observe_job(group: AssetGroup) -> compat.AssetJob:
    """Return the job that materialises a group's assets over a partition or a range of partitions."""
    return dg.define_asset_job(
        group.observe_job,
        selection=dg.AssetSelection.assets(*group.asset_keys).without_checks()
        | dg.AssetSelection.checks(*(dg.AssetCheckKey(key, CHECK_NAME) for key in group.asset_keys)),
        description=(
            f"Observe all indices of {group.provider} over the farms of cohort {group.cohort}: one run reads every "
            "scene of its days once. Launched for rectangles of days and farms."
        ),
        executor_def=dg.in_process_executor,
    )


def cells_job(group: AssetGroup) -> dg.JobDefinition:
    """Return the job for cells that form no rectangle: a selection like that would become one run per cell."""

    @dg.op(
        name=f"{group.name}_observe_cells",
        pool=python_name(group.provider),
        required_resource_keys={FARM_INTEL, group.provider},
    )
    def observe_listed(context: dg.OpExecutionContext, config: CellsConfig) -> None:
        """Observe the listed cells and record each on its asset."""
        farm_intel = installation(context)
        wanted = config.indices or group.slugs
        work = CellWork(
            group=group,
            slugs=tuple(slug for slug in group.slugs if slug in wanted),
            cells=active_cells(farm_intel.container, group, tuple(parse_partition_key(key) for key in config.keys)),
            force=config.force,
            run_id=context.run_id,
            deadline_s=deadline_s(context, group.provider),
        )
        for event in observe_cells(work, farm_intel, context):
            compat.log_cell_event(context, event)

    @dg.job(
        name=group.cells_job,
        executor_def=dg.in_process_executor,
        description=f"Observe listed cells of {group.provider}, cohort {group.cohort}; any set, one run.",
    )
    def observe_cells_job() -> None:
        observe_listed()

    return observe_cells_job


def cells_run_config(
    group: AssetGroup, keys: list[str], *, slugs: tuple[str, ...] = (), force: bool = False
) -> dict[str, object]:
    """Return the run configuration of the cells job for these cells."""
    config = {"keys": keys, "indices": list(slugs), "force": force}
    return {"ops": {f"{group.name}_observe_cells": {"config": config}}}


def observe_run_config(group: AssetGroup, *, force: bool) -> dict[str, object]:
    """Return the run configuration of the observe job."""
    return {"ops": {f"observe_{group.name}": {"config": {"force": force}}}}


@dg.op(description="Remove orphaned rasters past their grace period and half-written files; report what is missing.")
def tend_store(context: dg.OpExecutionContext, farm_intel: FarmIntelResource) -> None:
    """Compare rows with objects in both directions, without reading every raster, and repair what is safe."""
    found = [entry for entry in farm_intel.container.check_store(rehash=False, repair=True) if entry[1]]
    context.add_output_metadata({kind: count for kind, count, _ in found} or {"problems": 0})
    for kind, count, examples in found:
        context.log.warning("%s: %d (%s)", kind, count, examples)


@dg.job(
    name=MAINTENANCE_JOB,
    executor_def=dg.in_process_executor,
    description="Reap what crashed runs left behind; safe at any time.",
)
def maintenance_job() -> None:
    """Tend the store."""
    tend_store()
