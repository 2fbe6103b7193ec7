"""The module that uses Dagster symbols outside its public API; farm_intel_tests/defs/test_compat.py holds it.

Selections, which only the guard takes apart, are in compat_selections, held by the guard's own tests.

Dagster is pinned to `~=1.13.27` because of what is here. Everything else in this package uses names exported by
`dagster` itself.
"""

import sqlite3
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import batched
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
)

AssetJob = UnresolvedAssetJobDefinition
RANGE_START_TAG = ASSET_PARTITION_RANGE_START_TAG
RANGE_END_TAG = ASSET_PARTITION_RANGE_END_TAG
PARTITION_TAG = PARTITION_NAME_TAG
BACKFILL_TAG = BACKFILL_ID_TAG
ASSET_JOB = IMPLICIT_ASSET_JOB_NAME
"""The job of runs that somebody asked for on the page of an asset, backfills included."""

DATA_VERSION_TAG = "dagster/data_version"
VERSIONS_AT_ONCE = 500

SQLITE_BUSY_TIMEOUT_S = 60
"""How long a statement waits for another process that writes the same file."""

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


@contextmanager
def quick_sqlite_events(instance: dg.DagsterInstance) -> Iterator[None]:
    """Make event writes of this process several times cheaper while the context lasts; does nothing on PostgreSQL.

    Dagster's SQLite storage builds an engine, opens its file and closes it again for every statement. Building costs
    two thirds of the CPU; closing the last connection folds the write-ahead log into the file with several fsyncs.
    Here the connections stay open, and commits do not wait for the disk (`synchronous = NORMAL`). A killed process
    loses nothing by that, a power cut perhaps the newest events: the store has the cells, and the next run over them
    records what is missing.
    """
    # Both cost a third of a second, which loading the definitions should not pay.
    from dagster._core.storage.event_log import SqliteEventLogStorage

    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage) or "_connect" in vars(storage):
        yield
        return
    connections = _OpenShards(storage)
    vars(storage)["_connect"] = connections.connect
    try:
        yield
    finally:
        del vars(storage)["_connect"]
        connections.close()


class _OpenShards:
    """Keeps the engine of the index and of the newest run of an event log open."""

    def __init__(self, storage: Any) -> None:
        self._lock = storage._db_lock  # noqa: SLF001 - the same lock as the method this stands in for
        self._connect_once = storage._connect  # noqa: SLF001 - the one place for private symbols
        self._address = storage.conn_string_for_shard
        self._engines: dict[str, Any] = {}

    @contextmanager
    def connect(self, shard: str) -> Iterator[Any]:
        """Yield a connection in a transaction, as the storage's own method does."""
        if shard not in self._engines:
            with self._connect_once(shard):
                pass  # creates the file and its tables where they are missing
        with self._lock:
            if shard not in self._engines:
                self._open(shard)
            with self._engines[shard].begin() as connection:
                yield connection

    def _open(self, shard: str) -> None:
        from sqlalchemy import create_engine, event

        for old in [name for name in self._engines if name not in {"index", shard}]:
            self._engines.pop(old).dispose()
        engine = create_engine(self._address(shard), connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _without_waiting)
        self._engines[shard] = engine

    def close(self) -> None:
        """Close what is open; the last connection folds the log into the file."""
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()


def _without_waiting(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")


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


def told_versions(instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Collection[str]) -> dict[str, str]:
    """Return partition -> data version of its newest materialisation, for those that have one; it may be empty.

    Two queries per `VERSIONS_AT_ONCE` partitions.
    """
    told: dict[str, str] = {}
    for some in batched(partitions, VERSIONS_AT_ONCE):
        ids = materialization_ids(instance, asset_key, some)
        if not ids:
            continue
        wanted = dg.AssetRecordsFilter(asset_key=asset_key, storage_ids=list(ids.values()))
        for record in instance.fetch_materializations(wanted, limit=len(ids)).records:
            event = record.asset_materialization
            if event is not None and event.partition is not None:
                told[event.partition] = (event.tags or {}).get(DATA_VERSION_TAG, "")
    return told


@contextmanager
def expected_previews() -> Iterator[None]:
    """Silence what Dagster says about its own preview and beta features, some of which nobody here asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def checked_partitions(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, name: str, partitions: Collection[str]
) -> set[str]:
    """Return those of the partitions whose newest materialisation has a finished check of that name; one query."""
    if not partitions:
        return set()
    done = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    found = instance.event_log_storage.get_asset_check_partition_info(
        [dg.AssetCheckKey(asset_key, name)], partition_keys=list(partitions)
    )
    return {
        info.partition_key
        for info in found
        if info.partition_key is not None
        and info.latest_execution_status in done
        and info.latest_materialization_storage_id is not None
        and info.latest_target_materialization_storage_id == info.latest_materialization_storage_id
    }


def partitioned_check(
    name: str, asset: dg.AssetKey, partitions: dg.PartitionsDefinition, description: str
) -> dg.AssetCheckSpec:
    """Return a check that has one result per partition; a preview in Dagster 1.13, so its warning is expected."""
    with expected_previews():
        return dg.AssetCheckSpec(name, asset=asset, partitions_def=partitions, description=description)


def whole_of_dimension(dimension: str) -> dg.PartitionMapping:
    """Return the mapping between the cells of a grid and the keys of one of its dimensions; a beta in Dagster 1.13."""
    with expected_previews():
        return dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=dimension)


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


def newest_runs(instance: dg.DagsterInstance, job: str, limit: int) -> Sequence[dg.RunRecord]:
    """Return the newest runs of a job, newest first."""
    return instance.get_run_records(filters=dg.RunsFilter(job_name=job), limit=limit)


def started_runs(instance: dg.DagsterInstance, job: str) -> Sequence[dg.RunRecord]:
    """Return the runs of a job that a process should be working on."""
    statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    return instance.get_run_records(filters=dg.RunsFilter(job_name=job, statuses=statuses))


def last_event(instance: dg.DagsterInstance, run_id: str) -> datetime | None:
    """Return when (UTC) a run last said anything, None where it never did."""
    records = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    return datetime.fromtimestamp(records[0].timestamp, UTC) if records else None


def made_at(record: dg.RunRecord) -> datetime:
    """Return when (UTC) a run was asked for; storages differ in whether they say the zone."""
    made = record.create_timestamp
    return made.replace(tzinfo=UTC) if made.tzinfo is None else made


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
