"""Verbs over an ephemeral Dagster instance: launch, and read back what was recorded per cell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_spec import AssetCheckKey

from farm_intel.defs import compat
from farm_intel.defs.build import build_definitions
from farm_intel.defs.groups import asset_groups
from farm_intel.defs.partitions import sync_farm_partitions
from farm_intel.defs.resources import FarmIntelResource, RunWatch
from farm_intel_tests.support.fake_observing import FakeInstallation

TODAY = date(2026, 6, 30)


@contextmanager
def instance_in(folder: Path) -> Iterator[dg.DagsterInstance]:
    """Open a SQLite instance in a folder; unlike an ephemeral one it can be opened again."""
    folder.mkdir(exist_ok=True)
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with compat.open_instance(folder) as instance:
        yield instance


def sync(instance: dg.DagsterInstance, made: FakeInstallation) -> None:
    for group in asset_groups(made):
        sync_farm_partitions(instance, group.dimension, made.farms.list(cohort=group.cohort))


def run_range(
    instance: dg.DagsterInstance,
    made: FakeInstallation,
    start: str,
    end: str,
    *,
    job: str = "stac_observe",
    assets: list[dg.AssetKey] | None = None,
    force: bool = False,
    preview_max_cells: int = 600,
    tags: dict[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Launch a rectangle as the UI and the sensor do."""
    resource = FarmIntelResource(container=made, watch=RunWatch(), preview_max_cells=preview_max_cells)
    return (
        build_definitions(made, today=TODAY, resource=resource)
        .resolve_job_def(job)
        .execute_in_process(
            instance=instance,
            tags={compat.RANGE_START_TAG: start, compat.RANGE_END_TAG: end} | (tags or {}),
            asset_selection=assets,
            run_config={"ops": {f"observe_{job.removesuffix('_observe')}": {"config": {"force": force}}}},
            raise_on_error=False,
        )
    )


def run_cells(
    instance: dg.DagsterInstance, made: FakeInstallation, keys: list[str], indices: tuple[str, ...] = ()
) -> dg.ExecuteInProcessResult:
    """Launch listed cells."""
    return (
        build_definitions(made, today=TODAY)
        .resolve_job_def("stac_cells")
        .execute_in_process(
            instance=instance,
            run_config={
                "ops": {"stac_observe_cells": {"config": {"keys": keys, "indices": list(indices), "force": False}}}
            },
            raise_on_error=False,
        )
    )


def materialized(instance: dg.DagsterInstance, *key: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(list(key))))


def materializations(
    instance: dg.DagsterInstance, key: tuple[str, ...], partition: str
) -> list[dg.AssetMaterialization]:
    """All materialisations of one cell, newest first."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(list(key)), asset_partitions=[partition]), limit=100
    ).records
    return [record.asset_materialization for record in records if record.asset_materialization]


def check_partitions(instance: dg.DagsterInstance, *key: str) -> dict[str, str]:
    """Partition -> newest execution status of the quality check."""
    check = AssetCheckKey(dg.AssetKey(list(key)), "quality")
    return {
        info.partition_key: info.latest_execution_status.value
        for info in instance.event_log_storage.get_asset_check_partition_info([check])
        if info.partition_key is not None
    }


def evaluations(result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    return list(result.get_asset_check_evaluations())
