"""The one module that uses Dagster symbols outside its public API; farm_intel_tests/defs/test_compat.py holds it.

Dagster is pinned to `~=1.13.27` because of what is here. Everything else in this package uses names exported by
`dagster` itself.
"""

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition as AssetJob
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
)

__all__ = ["AssetJob"]

RANGE_START_TAG = ASSET_PARTITION_RANGE_START_TAG
RANGE_END_TAG = ASSET_PARTITION_RANGE_END_TAG
PARTITION_TAG = PARTITION_NAME_TAG
SEEN_RUN_KEY_TAG = RUN_KEY_TAG

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def open_instance(dagster_home: Path) -> dg.DagsterInstance:
    """Return the instance whose dagster.yaml lies in `dagster_home`, without reading the environment."""
    return dg.DagsterInstance.from_config(str(dagster_home))


def materialization_ids(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Collection[str]
) -> dict[str, int]:
    """Return partition -> storage id of its newest materialisation, for those that have one; one query."""
    if not partitions:
        return {}
    found: Mapping[str, int] = instance.get_latest_storage_id_by_partition(
        asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, partitions=set(partitions)
    )
    return dict(found)


def partitioned_check(
    name: str, asset: dg.AssetKey, partitions: dg.PartitionsDefinition, description: str
) -> dg.AssetCheckSpec:
    """Return a check that has one result per partition; a preview in Dagster 1.13, so its warning is expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(name, asset=asset, partitions_def=partitions, description=description)


def cell_check(  # noqa: PLR0913 - the fields of Dagster's own event
    *,
    asset_key: dg.AssetKey,
    name: str,
    partition: str,
    passed: bool,
    severity: dg.AssetCheckSeverity,
    metadata: Mapping[str, str | bool | int | float],
    storage_id: int,
    run_id: str,
    timestamp: float,
) -> dg.AssetCheckEvaluation:
    """Return a check result of one partition, tied to the materialisation it judged.

    Without the target Dagster shows the result as not current; `AssetCheckResult` has no partition at all.
    """
    return dg.AssetCheckEvaluation(
        asset_key=asset_key,
        check_name=name,
        passed=passed,
        metadata=metadata,
        partition=partition,
        severity=severity,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=storage_id, run_id=run_id, timestamp=timestamp
        ),
    )


def log_cell_event(context: dg.OpExecutionContext, event: dg.AssetMaterialization | dg.AssetCheckEvaluation) -> None:
    """Record an event of an asset's cell from a plain operation."""
    context.log_event(event)  # type: ignore[arg-type]  # evaluations are handled, the annotation forgets them


def unfinished_run_tags(instance: dg.DagsterInstance, tags: Mapping[str, str] | None = None) -> list[Mapping[str, str]]:
    """Return the tags of every run that is queued or under way, optionally only of runs carrying `tags`."""
    filters = dg.RunsFilter(statuses=list(UNFINISHED), tags=dict(tags or {}))
    return [record.dagster_run.tags for record in instance.get_run_records(filters=filters)]


def backfill_in_flight(instance: dg.DagsterInstance) -> bool:
    """Return whether a backfill has been requested and still has runs to launch."""
    return bool(instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]), limit=1))


def request_backfill(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    *,
    backfill_id: str,
    assets: Sequence[dg.AssetKey],
    partitions: Iterable[str],
    timestamp: float,
    title: str,
) -> None:
    """Ask the daemon for a backfill of `partitions` of every asset, as the UI's own button does."""
    graph = definitions.resolve_asset_graph()
    with partition_loading_context(dynamic_partitions_store=instance):
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=backfill_id,
            asset_graph=graph,
            partition_names=list(partitions),
            asset_selection=list(assets),
            backfill_timestamp=timestamp,
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=title,
            description=None,
            run_config=None,
        )
    instance.add_backfill(backfill)
