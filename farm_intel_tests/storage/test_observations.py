"""What is published is what is read back, on every database; the same twice changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from farm_intel.domain.batches import Verdict
from farm_intel.domain.errors import StoreError
from farm_intel.domain.observations import STATISTICS, CoverageDay, ObservationKey, ObservationStatus
from farm_intel.domain.products import PixelReason
from farm_intel.storage import tables
from farm_intel.storage.database import migrate, open_database, reading
from farm_intel.storage.observations import SqlObservationStore
from farm_intel.storage.rasters import FolderRasters
from farm_intel_tests.storage.publications import INDICES, RECORDED_AT, failed, later, make_publication

DAY = date(2024, 6, 1)


def assert_reads_back(store, publication):
    """Compare every field of every cell with the arrays it came from."""
    batch, judgement = publication.batch, publication.judgement
    rows = {row.key: row for row in store.observations(start=batch.solar_day, end=batch.solar_day)}
    assert len(rows) == len(batch.farm_ids) * len(batch.indices)
    for f, farm_id in enumerate(batch.farm_ids):
        for i, slug in enumerate(batch.indices):
            row = rows[
                ObservationKey(
                    farm_id=farm_id,
                    index=slug,
                    provider=publication.provider,
                    collection=publication.collection,
                    solar_day=batch.solar_day,
                )
            ]
            assert row.status is judgement.statuses[f][i]
            assert row.reason == judgement.reasons[f][i]
            assert row.flags == judgement.flags[f][i]
            if row.status is ObservationStatus.OBSERVED:
                assert [getattr(row.statistics, name) for name in STATISTICS] == batch.statistics[f, i].tolist()
                std = batch.statistics[f, i, STATISTICS.index("std")]
                assert row.standard_error == pytest.approx(std / np.sqrt(batch.n_effective[f, i]), nan_ok=True)
            else:
                assert row.statistics is None
                assert row.standard_error is None
            assert row.pixel_count == batch.pixel_count[f, i]
            assert row.valid_pixel_count == batch.valid_pixel_count[f, i]
            assert row.used_pixel_count == batch.used_pixel_count[f, i]
            assert row.n_effective == batch.n_effective[f, i]
            assert row.valid_pixel_fraction == judgement.valid_fraction[f, i]
            assert row.cloud_fraction == judgement.cloud_fraction[f, i]
            assert row.covered_fraction == judgement.covered_fraction[f, i]
            expected = {
                reason.name.lower(): pytest.approx(batch.reason_fractions[f, i, reason], abs=1e-6)
                for reason in PixelReason
                if reason is not PixelReason.VALID and batch.reason_fractions[f, i, reason] > 5e-7
            }
            assert row.masked_fractions == expected
            assert row.scene_ids == batch.scene_ids[f]
            assert row.fingerprint == publication.fingerprints[f][i]
            assert row.boundary_version == publication.boundary_versions[farm_id]
            assert row.gsd_m == batch.gsd_m[i]
            assert row.radiometry == batch.radiometry[f]
            assert row.acquired_at == batch.acquired_at[f]
            assert row.recorded_at == publication.recorded_at
            assert row.run_id == publication.run_id


def test_every_field_reads_back(store):
    outside = Verdict(status=ObservationStatus.OUTSIDE_FOOTPRINT, reason='the swath "ends" west\\of, {the} farm')
    publication = make_publication(7, cloudy=frozenset({2}), verdicts={4: outside, 5: failed()})

    receipt = store.publish(publication)

    assert_reads_back(store, publication)
    assert [sha is None for sha in receipt.raster_sha256] == [False, False, True, False, True, True, False]
    for row in store.observations():
        position = publication.batch.farm_ids.index(row.key.farm_id)
        assert row.raster_sha256 == receipt.raster_sha256[position]
        assert row.raster_path == receipt.raster_paths[position]
        if row.raster_path is not None:
            assert row.raster_band == publication.batch.indices.index(row.key.index) + 1
            assert (store.rasters.root / row.raster_path).is_file()


providers = (f"provider-{number}" for number in count())  # every example gets cells of its own
names = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    farms=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    columns=st.integers(1, 5),
    scene=names,
    reason=names,
    run=names,
    lost=st.sets(st.integers(0, 4)),
    clouded=st.sets(st.integers(0, 4)),
    minutes=st.integers(0, 50_000_000),
)
def test_any_publication_reads_back(store, farms, seed, columns, scene, reason, run, lost, clouded, minutes):  # noqa: PLR0917 - the dimensions of a batch
    verdicts = {f: Verdict(status=ObservationStatus.REJECTED, reason=reason) for f in lost if f < farms}
    cloudy = frozenset(f for f in clouded if f < farms and f not in verdicts)
    day = DAY + timedelta(days=seed % 20_000)
    moment = datetime(1985, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes, microseconds=seed)
    publication = make_publication(
        farms,
        seed=seed,
        day=day,
        indices=INDICES[:columns],
        cloudy=cloudy,
        verdicts=verdicts,
        edge_px=4,
        provider=(provider := next(providers)),
    )
    batch = replace(publication.batch, scene_ids=((scene, "plain"),) * farms)
    publication = replace(publication, batch=batch, run_id=run, recorded_at=moment)

    store.publish(publication)
    rows = list(store.observations(provider=provider))

    assert {row.scene_ids for row in rows} == {(scene, "plain")}
    assert {row.run_id for row in rows} == {run}
    assert {row.recorded_at for row in rows} == {moment}
    position = {farm_id: f for f, farm_id in enumerate(batch.farm_ids)}
    for row in rows:
        f, i = position[row.key.farm_id], batch.indices.index(row.key.index)
        assert row.reason == publication.judgement.reasons[f][i]
        if row.statistics is not None:
            assert [getattr(row.statistics, name) for name in STATISTICS] == batch.statistics[f, i].tolist()


def test_publishing_the_same_twice_changes_nothing(store):
    publication = make_publication(5, cloudy=frozenset({1}))
    store.publish(publication)
    before = list(store.observations()), store.calendar(farm_id="farm-00001")

    receipt = store.publish(later(publication))

    assert (list(store.observations()), store.calendar(farm_id="farm-00001")) == before
    assert {row.recorded_at for row in before[0]} == {RECORDED_AT}
    assert receipt.raster_sha256[0] == before[0][0].raster_sha256


def test_changed_content_replaces_the_row_once(store):
    store.publish(make_publication(3, seed=1))

    store.publish(later(make_publication(3, seed=2, revision="r2"), run_id="run-9"))

    rows = list(store.observations())
    assert len(rows) == 15
    assert {row.run_id for row in rows} == {"run-9"}
    assert all(row.fingerprint.startswith("r2-2-") for row in rows)


def test_a_failed_read_does_not_replace_a_number_but_keeps_the_cell_due(store):
    store.publish(make_publication(2, revision="old"))

    store.publish(later(make_publication(2, revision="new", verdicts={0: failed()})))

    rows = [row for row in store.observations() if row.key.farm_id == "farm-00000"]
    assert {row.status for row in rows} == {ObservationStatus.OBSERVED}
    assert all(row.fingerprint.startswith("old-") for row in rows)
    assert store.calendar(farm_id="farm-00000")[0].status is ObservationStatus.OBSERVED


def test_a_failed_read_is_replaced_by_the_next_good_one(store):
    store.publish(make_publication(2, verdicts={0: failed()}))
    assert store.calendar(farm_id="farm-00000")[0].status is ObservationStatus.PROVIDER_FAILED

    store.publish(later(make_publication(2)))

    assert store.calendar(farm_id="farm-00000")[0].status is ObservationStatus.OBSERVED
    assert all(row.statistics for row in store.observations(farm_ids=["farm-00000"]))


def test_calendar_speaks_for_the_best_index_of_the_day(store):
    publication = make_publication(1)
    publication.judgement.statuses[0][:4] = [ObservationStatus.CLOUDY] * 4
    publication.judgement.reasons[0][:4] = ["clouds"] * 4

    store.publish(publication)

    (day,) = store.calendar(farm_id="farm-00000")
    assert (day.status, day.reason) == (ObservationStatus.OBSERVED, "")
    assert day.valid_pixel_fraction == publication.judgement.valid_fraction[0, 4]
    assert day.scene_ids == publication.batch.scene_ids[0]
    assert store.rasters.exists(day.raster_sha256)


def test_a_second_index_that_saw_less_does_not_downgrade_the_day(store):
    store.publish(make_publication(1, indices=INDICES[:2]))

    store.publish(later(make_publication(1, indices=INDICES[2:], cloudy=frozenset({0}))))

    assert store.calendar(farm_id="farm-00000")[0].status is ObservationStatus.OBSERVED


def test_a_recomputation_that_finds_less_takes_the_day_back(store):
    store.publish(make_publication(2))

    store.publish(later(make_publication(2, revision="stricter", cloudy=frozenset({0}))))

    (day,) = store.calendar(farm_id="farm-00000")
    assert day.status is ObservationStatus.CLOUDY
    assert day.raster_sha256 is None
    assert day.recorded_at == RECORDED_AT + timedelta(days=1)
    assert store.calendar(farm_id="farm-00001")[0].status is ObservationStatus.OBSERVED


def _day(status, *, farm_id="farm-00000", day=DAY, reason="nothing came", at=RECORDED_AT):
    return CoverageDay(
        farm_id=farm_id,
        provider="stac",
        collection="sentinel-2-l2a",
        solar_day=day,
        status=status,
        reason=reason,
        recorded_at=at,
    )


def test_days_without_cells_are_recorded_and_never_beat_a_better_status(store):
    empty = DAY - timedelta(days=1)
    store.publish(make_publication(1))

    store.record_days([_day(ObservationStatus.NO_ACQUISITION), _day(ObservationStatus.NO_ACQUISITION, day=empty)])
    store.record_days([_day(ObservationStatus.OUTSIDE_FOOTPRINT, day=empty, reason="swath edge")])
    store.record_days([_day(ObservationStatus.NO_ACQUISITION, day=empty)])

    days = store.calendar(farm_id="farm-00000")
    assert [(day.solar_day, day.status, day.reason) for day in days] == [
        (empty, ObservationStatus.OUTSIDE_FOOTPRINT, "swath edge"),
        (DAY, ObservationStatus.OBSERVED, ""),
    ]
    assert days[0].valid_pixel_fraction is None


def test_recording_a_day_again_leaves_its_time(store):
    store.record_days([_day(ObservationStatus.NO_ACQUISITION)])

    store.record_days([_day(ObservationStatus.NO_ACQUISITION, at=RECORDED_AT + timedelta(days=3))])

    assert store.calendar(farm_id="farm-00000")[0].recorded_at == RECORDED_AT


def test_a_day_without_its_time_is_refused(store):
    with pytest.raises(StoreError, match="does not say when"):
        store.record_days([_day(ObservationStatus.NO_ACQUISITION, at=None)])


def test_fingerprints_of_a_block(store):
    store.publish(make_publication(3, day=DAY))
    store.publish(make_publication(3, day=DAY + timedelta(days=1), verdicts={0: failed()}))

    found = store.fingerprints(
        provider="stac",
        collection="sentinel-2-l2a",
        farm_ids=["farm-00000", "farm-00002", "unknown"],
        indices=["first", "fifth"],
        start=DAY + timedelta(days=1),
        end=DAY + timedelta(days=9),
    )

    assert {(key.farm_id, key.index, key.solar_day): value for key, value in found.items()} == {
        ("farm-00000", slug, DAY + timedelta(days=1)): (f"r1-0-farm-00000-{slug}", ObservationStatus.PROVIDER_FAILED)
        for slug in ("first", "fifth")
    } | {
        ("farm-00002", slug, DAY + timedelta(days=1)): (f"r1-0-farm-00002-{slug}", ObservationStatus.OBSERVED)
        for slug in ("first", "fifth")
    }


def test_filters_and_order(store):
    for offset in (1, 0):
        store.publish(make_publication(3, day=DAY + timedelta(days=offset), cloudy=frozenset({1})))
    store.publish(make_publication(1, provider="other"))

    rows = [row.key for row in store.observations(provider="stac")]
    assert rows == sorted(rows, key=lambda key: (key.farm_id, key.index, key.solar_day))
    assert len(rows) == 30
    assert [row.key.provider for row in store.observations(farm_ids=["farm-00000"], indices=["first"], end=DAY)] == [
        "other",
        "stac",
    ]
    assert {row.key.farm_id for row in store.observations(statuses=[ObservationStatus.CLOUDY])} == {"farm-00001"}
    assert list(store.observations(farm_ids=[])) == []
    assert list(store.observations(collection="landsat")) == []
    assert {row.key.solar_day for row in store.observations(start=DAY + timedelta(days=1))} == {DAY + timedelta(days=1)}


def test_more_farms_than_a_statement_has_parameters(sqlite_store):
    wanted = [f"farm-{number:05d}" for number in range(40_000)]
    sqlite_store.publish(make_publication(3))

    assert len(list(sqlite_store.observations(farm_ids=wanted))) == 15


def test_latest_is_the_newest_day_with_a_number(store):
    store.publish(make_publication(1, day=DAY))
    store.publish(make_publication(1, day=DAY + timedelta(days=5), cloudy=frozenset({0})))

    assert store.latest("farm-00000", "first").key.solar_day == DAY
    assert store.latest("farm-00000", "first", until=DAY - timedelta(days=1)) is None
    assert store.latest("farm-00000", "unknown") is None


def test_raster_rows_tell_the_grid_and_the_bands(store):
    publication = make_publication(1)
    receipt = store.publish(publication)

    record = store.raster(receipt.raster_sha256[0])

    assert record.grid == publication.batch.clips[0].grid
    assert [(band.name, band.scale, band.offset) for band in record.bands] == [(slug, 1e-4, 0.0) for slug in INDICES]
    assert record.size_bytes == (store.rasters.root / record.path).stat().st_size
    assert store.raster("0" * 64) is None


def test_cursors_remember_their_last_value(store):
    assert store.get_cursor("new-scenes") is None

    store.set_cursor("new-scenes", "a", at=RECORDED_AT)
    store.set_cursor("new-scenes", "b", at=RECORDED_AT)

    assert store.get_cursor("new-scenes") == "b"


def test_an_empty_batch_changes_nothing(store):
    assert store.publish(make_publication(0)).raster_sha256 == ()
    assert list(store.observations()) == []


def test_reading_while_publishing_sees_one_moment(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path}/s.db")
    migrate(engine)
    store = SqlObservationStore(engine, FolderRasters(tmp_path / "r"))
    store.publish(make_publication(3, seed=1, revision="a"))

    rows = store.observations()
    first = next(rows)
    store.publish(make_publication(3, seed=2, revision="b"))
    seen = [first, *rows]

    assert {row.fingerprint[0] for row in seen} == {"a"}
    assert {row.fingerprint[0] for row in store.observations()} == {"b"}


def test_overwritten_rasters_stay_until_the_reaper_comes(store):
    store.publish(make_publication(2, seed=1))
    changed = make_publication(2, seed=2, revision="b")
    store.publish(changed)

    with reading(store.engine) as connection:
        assert connection.scalar(select(func.count()).select_from(tables.rasters)) == 4


def test_a_cell_that_lost_its_raster_is_not_known_any_more_until_it_is_published_again(store):
    """The planner takes what is not known for missing, so that a backfill mends a lost disk without `--force`."""
    publication = make_publication(4)
    receipt = store.publish(publication)
    asked = {
        "provider": publication.provider,
        "collection": publication.collection,
        "farm_ids": publication.batch.farm_ids,
        "indices": publication.batch.indices,
        "start": publication.batch.solar_day,
        "end": publication.batch.solar_day,
    }
    whole = store.fingerprints(**asked)
    lost = next(k for k, sha256 in enumerate(receipt.raster_sha256) if sha256)
    store.rasters.remove(receipt.raster_sha256[lost])

    left = store.fingerprints(**asked)

    assert {key.farm_id for key in whole.keys() - left.keys()} == {publication.batch.farm_ids[lost]}
    assert left.keys() < whole.keys()
    store.publish(publication)
    assert store.fingerprints(**asked) == whole
