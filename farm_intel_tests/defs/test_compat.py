"""The contract with the parts of Dagster that are not its public API."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.build import build_definitions
from farm_intel_tests.defs.harness import check_partitions, instance_in, run_range, sync
from farm_intel_tests.support.fake_observing import installation

DAY = date(2026, 5, 1)


def test_the_storage_id_is_that_of_the_newest_materialisation_and_missing_cells_are_left_out(tmp_path):
    key = dg.AssetKey("a")
    with instance_in(tmp_path / "d") as instance:
        for value in (1, 2):
            instance.report_runless_asset_event(
                dg.AssetMaterialization(key, partition="2026-05-01|f1", metadata={"value": value})
            )
        ids = compat.materialization_ids(instance, key, ["2026-05-01|f1", "2026-05-01|f2"])
        newest = instance.fetch_materializations(key, limit=1).records[0]

        assert {"2026-05-01|f1": newest.storage_id} == ids
        assert compat.materialization_ids(instance, key, []) == {}


def test_a_cell_check_counts_as_current_for_its_partition(tmp_path):
    made = installation(days=[DAY])
    with instance_in(tmp_path / "d") as instance:
        sync(instance, made)
        result = run_range(instance, made, "2026-05-01|f00", "2026-05-01|f05")
        evaluation = result.get_asset_check_evaluations()[0]
        newest = compat.materialization_ids(instance, evaluation.asset_key, [evaluation.partition])

        assert evaluation.target_materialization_data.storage_id == newest[evaluation.partition]
        assert set(check_partitions(instance, "stac", "ndvi").values()) == {"SUCCEEDED"}


def test_a_check_is_there_until_a_newer_materialisation_lacks_one(tmp_path):
    made = installation(days=[DAY])
    with instance_in(tmp_path / "d") as instance:
        sync(instance, made)
        run_range(instance, made, "2026-05-01|f00", "2026-05-01|f01")
        key, cells = dg.AssetKey(["stac", "ndvi"]), ["2026-05-01|f00", "2026-05-01|f01", "2026-05-01|f02"]

        assert compat.checked_partitions(instance, key, "quality", cells) == set(cells[:2])
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=cells[0]))
        assert compat.checked_partitions(instance, key, "quality", cells) == {cells[1]}
        assert compat.checked_partitions(instance, key, "quality", []) == set()


def test_a_requested_backfill_targets_exactly_the_cells_and_counts_as_in_flight(tmp_path):
    made = installation(days=[DAY])
    with instance_in(tmp_path / "d") as instance:
        sync(instance, made)
        assert not compat.backfill_in_flight(instance)

        compat.request_backfill(
            instance,
            build_definitions(made, today=date(2026, 6, 30)),
            backfill_id="b1",
            assets=[dg.AssetKey(["stac", "ndvi"])],
            partitions=["2026-05-01|f00", "2026-05-01|f01"],
            timestamp=datetime(2026, 6, 30, tzinfo=UTC).timestamp(),
            title="a day",
        )
        backfill = instance.get_backfill("b1")

        assert compat.backfill_in_flight(instance)
        assert backfill.asset_selection == [dg.AssetKey(["stac", "ndvi"])]
        assert backfill.title == "a day"


def test_unfinished_runs_are_found_by_status():
    @dg.job
    def anything():
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        instance.create_run_for_job(anything, status=dg.DagsterRunStatus.STARTED, tags={"who": "running"})
        instance.create_run_for_job(anything, status=dg.DagsterRunStatus.SUCCESS, tags={"who": "done"})

        assert [tags["who"] for tags in compat.unfinished_run_tags(instance)] == ["running"]


def test_quick_events_write_what_the_storage_would_and_leave_it_as_it_was(tmp_path):
    key = dg.AssetKey("a")
    folder = tmp_path / "d" / "history" / "runs"

    def report(instance, value):
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="p", metadata={"value": value}))

    with instance_in(tmp_path / "d") as instance:
        report(instance, 1)
        with compat.quick_sqlite_events(instance), compat.quick_sqlite_events(instance):
            report(instance, 2)
            assert (folder / "index.db-wal").exists(), "the connection stays open between statements"
            with instance_in(tmp_path / "d") as other:
                report(other, 3)
                assert len(other.fetch_materializations(key, limit=10).records) == 3
        assert not (folder / "index.db-wal").exists(), "nothing is left open"
        report(instance, 4)

        records = instance.fetch_materializations(key, limit=10).records
        assert [record.asset_materialization.metadata["value"].value for record in records] == [4, 3, 2, 1]
        assert "_connect" not in vars(instance.event_log_storage)


def test_quick_events_leave_other_storages_alone():
    with dg.DagsterInstance.ephemeral() as instance, compat.quick_sqlite_events(instance):
        instance.report_runless_asset_event(dg.AssetMaterialization("a"))

        assert len(instance.fetch_materializations(dg.AssetKey("a"), limit=10).records) == 1


def test_the_version_that_was_told_last_is_found_for_each_partition(tmp_path):
    key = dg.AssetKey("a")

    def tell(instance, partition, version):
        tags = {compat.DATA_VERSION_TAG: version} if version else None
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, tags=tags))

    with instance_in(tmp_path / "d") as instance:
        tell(instance, "p", "1")
        tell(instance, "q", "7")
        tell(instance, "p", "2")
        tell(instance, "unsaid", "")

        assert compat.told_versions(instance, key, ["p", "q", "unsaid", "never"]) == {"p": "2", "q": "7", "unsaid": ""}
        assert compat.told_versions(instance, key, []) == {}
        many = [f"never-{n}" for n in range(compat.VERSIONS_AT_ONCE)]
        assert compat.told_versions(instance, key, ["p", *many, "q"]) == {"p": "2", "q": "7"}, "more than one query"


def test_a_run_last_spoke_when_its_newest_event_says():
    @dg.job
    def anything():
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        silent, spoke = (instance.create_run_for_job(anything, status=dg.DagsterRunStatus.STARTED) for _ in range(2))
        before = datetime.now(UTC)
        instance.report_engine_event("first", spoke)
        instance.report_engine_event("last", spoke)

        assert compat.last_event(instance, silent.run_id) is None
        assert before <= compat.last_event(instance, spoke.run_id) <= datetime.now(UTC)
        assert all(before - compat.made_at(record) < timedelta(minutes=1) for record in instance.get_run_records())
        assert {record.dagster_run.run_id for record in compat.started_runs(instance, "anything")} == {
            silent.run_id,
            spoke.run_id,
        }
        assert not compat.started_runs(instance, "another")
