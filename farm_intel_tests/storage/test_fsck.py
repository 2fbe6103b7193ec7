"""Every kind of damage is found, nothing young is touched, and the reaper leaves a whole store."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from farm_intel.domain.observations import Flag
from farm_intel.storage import tables
from farm_intel.storage.database import transaction
from farm_intel.storage.fsck import GRACE, check_store, repair
from farm_intel.storage.observations import SqlObservationStore
from farm_intel.storage.rasters import FolderRasters
from farm_intel_tests.storage.publications import later, make_publication

NOW = datetime.now(UTC)
AFTER_GRACE = NOW + GRACE + timedelta(hours=1)


@pytest.fixture
def filled(store):
    store.publish(make_publication(6, cloudy=frozenset({1})))
    return store


def problems(store, **options):
    report = check_store(store.engine, store.rasters, **({"rehash": True, "now": AFTER_GRACE} | options))
    return {finding.problem: finding.count for finding in report.findings}


def test_a_published_store_is_whole(filled):
    report = check_store(filled.engine, filled.rasters, rehash=True, now=AFTER_GRACE)

    assert report.clean
    assert (report.observations, report.rasters, report.rehashed) == (30, 5, 5)
    assert (report.superseded, report.in_flight) == (0, 0)


def some_raster(store):
    return next(row.raster_sha256 for row in store.observations() if row.raster_sha256)


def test_a_lost_file_is_found(filled):
    filled.rasters.path(some_raster(filled)).unlink()

    assert problems(filled) == {"raster row without its file": 1}


def test_a_cut_file_is_found_without_reading_it(filled):
    path = filled.rasters.path(some_raster(filled))
    path.write_bytes(path.read_bytes()[:-1])

    assert problems(filled, rehash=False) == {"raster file of the wrong size": 1}


def test_a_flipped_bit_is_found_by_rehashing(filled):
    path = filled.rasters.path(some_raster(filled))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    assert problems(filled, rehash=False) == {}
    assert problems(filled) == {"raster file that does not match its checksum": 1}


@pytest.mark.parametrize(
    ("table", "values", "problem", "count"),
    [
        (tables.observations, {"raster_sha256": "f" * 64}, "observation of an unknown raster", 25),
        (tables.coverage, {"raster_sha256": "f" * 64}, "calendar day of an unknown raster", 5),
        (tables.observations, {"raster_sha256": None}, "observed cell without a raster", 25),
        (tables.observations, {"mean": None}, "observed cell without a number", 25),
        (tables.observations, {"status": "cloudy"}, "number in a cell that was not observed", 25),
        (tables.rasters, {"path": "elsewhere.tif"}, "raster row with the wrong path", 5),
    ],
)
def test_rows_that_contradict_each_other_are_found(filled, table, values, problem, count):
    statement = update(table).values(**values)
    if table is not tables.rasters:
        statement = statement.where(table.c.status == "observed")
    with transaction(filled.engine) as connection:
        connection.execute(statement)

    assert problems(filled)[problem] == count


def test_what_a_provider_counted_itself_needs_no_raster(filled):
    cells = tables.observations
    with transaction(filled.engine) as connection:
        connection.execute(update(cells).values(raster_sha256=None, flags=Flag.PROVIDER_STATISTICS.value))

    assert "observed cell without a raster" not in problems(filled)


def test_files_without_rows_are_orphans_only_when_they_are_old(filled):
    content = b"nobody knows me"
    filled.rasters.put_many({filled.rasters.address(content): content})
    (filled.rasters.root / "incoming" / "123-abc").write_bytes(b"half")

    young = check_store(filled.engine, filled.rasters, rehash=False)
    assert young.clean
    assert young.in_flight == 2
    assert problems(filled) == {"raster file without a row": 1, "half-written temporary file": 1}


def test_the_reaper_takes_what_is_old_and_leaves_the_rest(filled):
    orphan, young = b"old orphan", b"young orphan"
    filled.rasters.put_many({filled.rasters.address(content): content for content in (orphan, young)})
    old = (NOW - 2 * GRACE).timestamp()
    os.utime(filled.rasters.path(filled.rasters.address(orphan)), (old, old))
    half = filled.rasters.root / "incoming" / "123-abc"
    half.write_bytes(b"half")
    os.utime(half, (old, old))

    done = repair(filled.engine, filled.rasters)

    assert (done.raster_rows, done.objects, done.temporary_files) == (0, 1, 1)
    assert done.bytes_freed == len(orphan) + 4
    assert filled.rasters.exists(filled.rasters.address(young))
    assert problems(filled, now=NOW) == {}
    assert len(list(filled.observations())) == 30


def test_superseded_rasters_are_freed_after_the_grace_period(filled):
    filled.publish(later(make_publication(6, seed=5, revision="r2")))
    after = AFTER_GRACE + timedelta(days=1)
    assert check_store(filled.engine, filled.rasters, rehash=False, now=after).superseded == 5

    done = repair(filled.engine, filled.rasters, now=after)

    assert (done.raster_rows, done.objects) == (5, 5)
    report = check_store(filled.engine, filled.rasters, rehash=True, now=after)
    assert report.clean
    assert (report.rasters, report.superseded) == (6, 0)


class SweptRasters(FolderRasters):
    """A raster store whose reaper strikes right after the files were put, as a badly timed one would."""

    def put_many(self, contents):
        super().put_many(contents)
        if not hasattr(self, "struck"):
            self.struck = True
            for sha256 in list(contents)[:2]:
                self.remove(sha256)


def test_a_reaper_that_comes_between_file_and_row_does_no_harm(engine, tmp_path):
    rasters = SweptRasters(tmp_path / "rasters")
    store = SqlObservationStore(engine, rasters)

    store.publish(make_publication(4))

    assert rasters.struck
    assert problems(store) == {}
