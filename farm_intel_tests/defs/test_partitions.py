"""The grid follows the settings and the farms, and nothing is taken away under a running run."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pytest

from farm_intel.defs import compat
from farm_intel.defs.partitions import (
    cell_partitions,
    date_window,
    parse_partition_key,
    partition_changes,
    partition_key,
    sync_farm_partitions,
)
from farm_intel.domain.errors import BadRequestError
from farm_intel_tests.support.fake_observing import FakeSettings
from farm_intel_tests.support.fakes import make_farm

TODAY = date(2026, 6, 30)


def test_the_rolling_window_ends_today_and_the_fixed_one_where_it_is_set():
    rolling = date_window(FakeSettings(history_start=None, history_end=None, window_days=10), TODAY)
    fixed = date_window(FakeSettings(), TODAY)

    assert (date(2026, 6, 21), TODAY) == (rolling.start, rolling.end)
    assert (date(2026, 5, 1), date(2026, 6, 30)) == (fixed.start, fixed.end)
    assert tuple(rolling.last_days(3)) == (date(2026, 6, 28), date(2026, 6, 29), TODAY)
    assert len(rolling.last_days(100)) == 10


def test_a_window_that_ends_before_it_starts_is_refused_with_the_settings_named():
    with pytest.raises(BadRequestError, match="FARM_INTEL_HISTORY_START"):
        date_window(FakeSettings(history_start=TODAY, history_end=date(2026, 1, 1)), TODAY)


def test_today_and_both_fixed_ends_are_partitions():
    now = date.today()  # noqa: DTZ011 - Dagster reckons the open end from the wall clock
    grid = cell_partitions(FakeSettings(history_start=None, history_end=None, window_days=5), "farms", now)
    fixed = cell_partitions(FakeSettings(), "farms", TODAY)

    assert now.isoformat() == grid.get_partitions_def_for_dimension("date").get_last_partition_key()
    assert len(grid.get_partitions_def_for_dimension("date").get_partition_keys()) == 5
    days = fixed.get_partitions_def_for_dimension("date")
    assert (days.get_first_partition_key(), days.get_last_partition_key()) == ("2026-05-01", "2026-06-30")


def test_keys_read_date_then_farm_as_dagster_writes_them():
    key = dg.MultiPartitionKey({"farm": "f-1", "date": "2026-05-01"})

    assert str(key) == partition_key(date(2026, 5, 1), "f-1")
    assert (date(2026, 5, 1), "f-1") == parse_partition_key(str(key))


@pytest.mark.parametrize("text", ["", "2026-05-01", "2026-05-01|", "yesterday|f1", "f1|2026-05-01"])
def test_what_is_not_a_key_is_refused(text):
    with pytest.raises(BadRequestError):
        parse_partition_key(text)


def test_removal_waits_for_the_runs_that_may_touch_the_farm():
    single = {compat.PARTITION_TAG: "2026-05-01|b"}
    ranged = {compat.RANGE_START_TAG: "2026-05-01|a", compat.RANGE_END_TAG: "2026-05-01|z"}

    def removed(*runs, backfilling=False):
        return partition_changes(["a", "new"], ["a", "b", "c"], runs, backfilling=backfilling)

    assert (removed().add, removed().remove, removed().deferred) == (("new",), ("b", "c"), ())
    assert (removed(single).remove, removed(single).deferred) == (("c",), ("b",))
    assert (removed(ranged).remove, removed(ranged).deferred) == ((), ("b", "c"))
    assert removed({}).remove == ()
    assert removed(backfilling=True).remove == ()


def test_partitions_follow_the_farms_in_the_order_of_the_store():
    farms = [make_farm("z", home_tile="37MAV"), make_farm("a", home_tile="37MBV")]
    with dg.DagsterInstance.ephemeral() as instance:
        first = sync_farm_partitions(instance, "farms", farms)
        again = sync_farm_partitions(instance, "farms", farms)
        sync_farm_partitions(instance, "farms", [*farms[1:], make_farm("m")])

        assert first.add == ("z", "a")
        assert (again.add, again.remove) == ((), ())
        assert list(instance.get_dynamic_partitions("farms")) == ["a", "m"]


def test_a_queued_range_run_defers_the_removal_of_a_farm():
    with dg.DagsterInstance.ephemeral() as instance:
        sync_farm_partitions(instance, "farms", [make_farm("a"), make_farm("b")])

        @dg.job
        def anything():
            pass

        instance.create_run_for_job(
            anything,
            status=dg.DagsterRunStatus.STARTED,
            tags={compat.RANGE_START_TAG: "2026-05-01|a", compat.RANGE_END_TAG: "2026-05-01|b"},
        )
        changes = sync_farm_partitions(instance, "farms", [make_farm("a")])

        assert changes.deferred == ("b",)
        assert instance.has_dynamic_partition("farms", "b")
