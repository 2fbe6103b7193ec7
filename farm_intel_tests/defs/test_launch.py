"""Backfills of our own: only what is due, in few runs, to be stopped and gone on with at any time."""

from __future__ import annotations

import signal
from datetime import date, timedelta

import dagster as dg
import pytest

from farm_intel.defs.build import build_definitions
from farm_intel.defs.launch import enqueue_on, launch_block, launch_on
from farm_intel.domain.errors import StoreError, TransientError
from farm_intel.domain.observations import ObservationStatus
from farm_intel.observing.model import ObserveRequest
from farm_intel_tests.defs.harness import instance_in, materializations, materialized
from farm_intel_tests.support.fake_observing import installation

D1 = date(2026, 5, 1)
D2 = date(2026, 5, 6)
MAY = tuple(D1 + timedelta(days=n) for n in range(31))


@pytest.fixture
def instance(tmp_path):
    with instance_in(tmp_path / "dagster") as opened:
        yield opened


def block(made, days=MAY, farms=None, indices=None, *, force=False):
    return ObserveRequest(
        provider="stac",
        collection="sentinel-2-l2a",
        indices=indices or made.settings.asset_indices,
        farm_ids=farms or tuple(farm.farm_id for farm in made.farms.list()),
        days=tuple(days),
        force=force,
    )


def jobs_of(instance, summary):
    return [instance.get_run_by_id(run_id).job_name for run_id in summary.run_ids]


class Steps:
    def __init__(self):
        self.steps = []

    def advance(self, done, total, detail):
        self.steps.append((done, total))


def test_only_days_with_something_due_make_runs_and_a_second_call_makes_none(instance):
    made = installation(days=[D1, D2])
    steps = Steps()

    first = launch_on(instance, made, block(made), progress=steps)
    second = launch_on(instance, made, block(made))

    assert jobs_of(instance, first) == ["stac_observe", "stac_observe"]
    assert (first.computed, first.up_to_date, first.failures) == (24, 0, {})
    assert first.by_status == {ObservationStatus.OBSERVED: 24}
    assert steps.steps[-1] == (24, 24)
    assert (second.runs, second.computed, second.up_to_date) == (0, 0, 24)
    assert len(materialized(instance, "stac", "ndvi")) == 12


def test_a_signal_stops_it_as_the_operator_meant_and_the_next_call_goes_on(instance):
    """Dagster itself calls such a run failed."""

    class Impatient(Steps):
        def advance(self, done, total, detail):
            super().advance(done, total, detail)
            if done == 3:
                signal.raise_signal(signal.SIGINT)

    made = installation(days=[D1, D2])

    with pytest.raises(KeyboardInterrupt):
        launch_on(instance, made, block(made), progress=Impatient())
    rest = launch_on(instance, made, block(made))

    assert rest.by_status == {ObservationStatus.OBSERVED: 24}
    assert rest.failures == {}
    assert len(materialized(instance, "stac", "ndvi")) == len(materialized(instance, "stac", "evi")) == 12


def test_a_refusal_of_dagsters_own_database_is_told_as_one(tmp_path):
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "runs.db").write_text("this is no database, whatever its name says" * 30)
    made = installation(days=[D1])

    with pytest.raises(StoreError, match="Dagster's history"):
        launch_block(made, block(made), dagster_home=tmp_path)


def test_one_farm_over_a_season_is_one_run_of_the_cells_job(instance):
    made = installation(("only",), days=[D1, D2])

    summary = launch_on(instance, made, block(made))

    assert jobs_of(instance, summary) == ["stac_cells"]
    assert materialized(instance, "stac", "evi") == {f"{D1}|only", f"{D2}|only"}


def test_some_farms_are_computed_and_the_others_left_alone(instance):
    made = installation(days=[D1])

    summary = launch_on(instance, made, block(made, farms=("f00", "f01", "f02", "f03", "f05")))

    assert summary.computed == 10
    assert "2026-05-01|f04" not in materialized(instance, "stac", "ndvi")
    assert not any(key.farm_id == "f04" for key in made.observations.rows)


def test_one_index_can_be_asked_for_and_another_added_later_reads_only_what_is_missing(instance):
    made = installation(days=[D1])

    launch_on(instance, made, block(made, indices=("ndvi",)))
    summary = launch_on(instance, made, block(made))

    assert [call[0] for call in made.engine.calls] == [("ndvi",), ("evi",)]
    assert (summary.computed, summary.up_to_date) == (6, 6)


def test_failures_are_named_and_the_next_call_computes_exactly_them(instance):
    made = installation(days=[D1, D2], asset_indices=("ndvi",))
    made.poison((D1, "f03"), (D2, "f01"))

    first = launch_on(instance, made, block(made))
    made.engine.verdicts.clear()
    made.engine.calls.clear()
    second = launch_on(instance, made, block(made))

    assert first.failures.keys() == {"2026-05-01|f03|ndvi", "2026-05-06|f01|ndvi"}
    assert first.computed == 10
    assert (second.computed, second.up_to_date, second.failures) == (2, 10, {})
    assert {(d, f) for _, days, farms in made.engine.calls for d in days for f in farms} == {(D1, "f03"), (D2, "f01")}


def test_a_launch_prints_nothing_not_even_when_cells_fail(instance, capfd):
    made = installation(days=[D1])
    made.poison((D1, "f03"))

    launch_on(instance, made, block(made))

    assert capfd.readouterr() == ("", "")


def test_scenes_that_can_never_be_read_are_an_answer_for_the_caller_and_red_in_dagster(instance):
    made = installation(days=[D1])
    made.poison((D1, "f03"), transient=False)

    summary = launch_on(instance, made, block(made))

    assert summary.failures == {}
    assert summary.by_status[ObservationStatus.PROVIDER_FAILED] == 2
    assert any("2026-05-01|f03" in note for note in summary.notes)
    assert instance.get_run_by_id(summary.run_ids[0]).status is dg.DagsterRunStatus.FAILURE


def test_cells_stored_by_a_killed_process_are_recorded_without_being_computed_again(instance):
    made = installation(days=[D1])
    list(made.observing.observe(block(made, [D1]), run_id="killed"))

    summary = launch_on(instance, made, block(made))

    assert (summary.computed, summary.up_to_date) == (0, 12)
    assert len(made.engine.calls) == 1
    assert len(materialized(instance, "stac", "ndvi")) == 6


def test_force_computes_every_stored_cell_again(instance):
    made = installation(days=[D1])
    launch_on(instance, made, block(made))

    summary = launch_on(instance, made, block(made, force=True))

    assert summary.computed == 12
    assert len(materializations(instance, ("stac", "ndvi"), "2026-05-01|f00")) == 2


def test_days_before_the_window_are_computed_and_the_note_says_how_to_see_them(instance):
    old = date(2019, 7, 1)
    made = installation(days=[old])

    summary = launch_on(instance, made, block(made, [old]))

    assert summary.computed == 12
    assert "FARM_INTEL_HISTORY_START=2019-07-01" in " ".join(summary.notes)


def test_an_index_that_is_no_asset_is_computed_with_a_note(instance):
    made = installation(days=[D1], asset_indices=("ndvi",))

    summary = launch_on(instance, made, block(made, indices=("ndvi", "evi")))

    assert summary.computed == 12
    assert any("evi" in note and "FARM_INTEL_ASSET_INDICES" in note for note in summary.notes)


def test_a_catalogue_that_does_not_answer_is_told_as_it_is(instance):
    class Silent:
        provider = "stac"

        def search(self, query):
            raise TransientError("the catalogue did not answer")

    made = installation()
    made.catalog = Silent()

    with pytest.raises(TransientError, match="did not answer"):
        launch_on(instance, made, block(made))


def test_the_daemon_is_asked_for_whole_rows_of_due_days_in_capped_backfills(instance):
    made = installation(days=[D1, D2, date(2026, 5, 11)], backfill_max_cells=24)

    ids, notes = enqueue_on(instance, made, block(made))

    assert notes == ()
    targets = [instance.get_backfill(backfill_id) for backfill_id in ids]
    assert len(targets) == 2, "6 farms x 2 indices x 3 days is more than 24 cells"
    graph = build_definitions(made).resolve_asset_graph()
    cells = [
        (cell.asset_key.path[-1], cell.partition_key)
        for backfill in targets
        for cell in backfill.get_asset_backfill_data(graph).target_subset.iterate_asset_partitions()
    ]
    expected = [
        (slug, f"{day}|f0{n}") for slug in ("ndvi", "evi") for day in (D1, D2, date(2026, 5, 11)) for n in range(6)
    ]
    assert sorted(cells) == sorted(expected)
