"""Rasters in a bucket of a real S3 server behave as files in a folder do."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm_intel.bootstrap import Container
from farm_intel.domain.errors import BadRequestError, StoreError
from farm_intel.domain.observations import ObservationStatus
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel.storage.fsck import GRACE, check_store, repair
from farm_intel.storage.object_rasters import ObjectRasters
from farm_intel.storage.observations import SqlObservationStore
from farm_intel.storage.raster_places import open_raster_store
from farm_intel.storage.raster_store import RasterStore
from farm_intel.storage.rasters import FolderRasters
from farm_intel_tests.storage.publications import later, make_publication
from farm_intel_tests.support.bucket import aws_environment, make_bucket, s3_server
from farm_intel_tests.support.installations import install, observe

AFTER_GRACE = datetime.now(UTC) + GRACE + timedelta(hours=1)
_numbers = count()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def url(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty bucket's folder; credentials are in the environment, as for an operator."""
    for name, value in aws_environment(s3).items():
        monkeypatch.setenv(name, value)
    name = f"farms-{next(_numbers)}"
    make_bucket(s3, name)
    return f"s3://{name}/field/rasters"


def contents(number: int) -> dict[str, bytes]:
    return {RasterStore.address(blob): blob for blob in (os.urandom(500) for _ in range(number))}


def test_what_is_put_is_read_listed_and_removed(url: str) -> None:
    rasters = open_raster_store(url)
    stored = contents(40)
    some, absent = next(iter(stored)), "ab" * 32

    rasters.put_many(stored)
    rasters.put_many(stored)

    assert {sha256: rasters.read(sha256) for sha256 in stored} == stored
    assert {name for prefix in {sha256[:2] for sha256 in stored} for name in rasters.objects(prefix)} == set(stored)
    assert rasters.lost({*stored, absent}) == {absent}
    assert rasters.href(some) == f"{url}/{some[:2]}/{some}.tif"
    state = rasters.state(some)
    assert state is not None
    assert (state.name, state.size_bytes) == (some, 500)
    assert abs(state.modified_at - datetime.now(UTC).timestamp()) < 60
    assert list(rasters.unfinished()) == []
    rasters.remove(some)
    rasters.remove(some)
    assert not rasters.exists(some)
    assert rasters.state(absent) is None


def test_what_is_missing_or_refused_is_told_with_the_place(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"cannot read raster abab.*farms-"):
        open_raster_store(url).read("ab" * 32)
    with pytest.raises(StoreError, match="cannot store 2 rasters at s3://nobodys"):
        open_raster_store("s3://nobodys").put_many(contents(2))
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    with pytest.raises(StoreError, match="cannot list rasters") as refused:
        open_raster_store(url).objects("ab")
    assert "hush" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("wrong", ["ftp://host/rasters", "s3://", "https://example.org/rasters"])
def test_a_url_that_is_no_bucket_is_refused(wrong: str) -> None:
    with pytest.raises(BadRequestError, match="no place for rasters"):
        open_raster_store(wrong)


def test_a_folder_stays_a_folder(tmp_path: Path) -> None:
    assert isinstance(open_raster_store(str(tmp_path)), FolderRasters)


def test_publishing_checking_and_reaping_work_over_a_bucket(sqlite_engine, url: str) -> None:
    rasters = ObjectRasters(url)
    store = SqlObservationStore(sqlite_engine, rasters)
    store.publish(make_publication(6, cloudy=frozenset({1})))
    report = check_store(store.engine, rasters, rehash=True, now=AFTER_GRACE)
    assert report.clean
    assert (report.rasters, report.rehashed) == (5, 5)

    stored = [row.raster_sha256 for row in store.observations() if row.raster_sha256]
    stray, lost = next(iter(contents(1).items())), stored[0]
    rasters.put_many(dict([stray]))
    rasters.remove(lost)
    found = {
        finding.problem: finding.count
        for finding in check_store(store.engine, rasters, rehash=True, now=AFTER_GRACE).findings
    }
    assert found == {"raster row without its file": 1, "raster file without a row": 1}

    store.publish(later(make_publication(6, cloudy=frozenset({1}))))
    done = repair(store.engine, rasters, now=AFTER_GRACE)
    assert (done.objects, done.temporary_files) == (1, 0)
    assert not rasters.exists(stray[0])
    assert check_store(store.engine, rasters, rehash=True, now=AFTER_GRACE).clean


class SweptRasters(ObjectRasters):
    """A bucket whose reaper strikes right after the objects were put."""

    struck = False

    def put_many(self, contents):
        super().put_many(contents)
        if not self.struck:
            self.struck = True
            for sha256 in list(contents)[:2]:
                self.remove(sha256)


def test_a_reaper_that_comes_between_object_and_row_does_no_harm(sqlite_engine, url: str) -> None:
    rasters = SweptRasters(url)
    store = SqlObservationStore(sqlite_engine, rasters)

    store.publish(make_publication(4))

    assert rasters.struck
    assert check_store(store.engine, rasters, rehash=True, now=AFTER_GRACE).clean


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bucket") / "world"
    write_world(FarmWorld(WorldOptions(days=6, farms=2, tile_px=360, sizes_ha=(2.0,), cloudiness=0.0)), folder)
    return folder


def test_a_farm_is_observed_into_a_bucket_and_seen_from_there(world: Path, tmp_path: Path, url: str) -> None:
    files = write_world(FarmWorld(WorldOptions(days=6, farms=2, tile_px=360, sizes_ha=(2.0,), cloudiness=0.0)), world)
    ours: Container = install(tmp_path / "bucket", files.catalog, files.farms, raster_root=url)
    plain = install(tmp_path / "folder", files.catalog, files.farms)
    days = (date(2026, 1, 1), date(2026, 1, 6))

    outcomes = [one for one in observe(ours, ("ndvi",), *days) if one.status is ObservationStatus.OBSERVED]
    assert outcomes
    same = {one.key: one for one in observe(plain, ("ndvi",), *days)}
    for outcome in outcomes:
        assert outcome.raster_path == same[outcome.key].raster_path
        assert outcome.raster_path is not None
        sha256 = RasterStore.address_of_path(outcome.raster_path)
        assert ours.rasters.read(sha256) == plain.rasters.read(sha256)
    picture = ours.pictures.thumbnail(outcomes[0])
    assert picture is not None
    assert np.asarray(Image.open(io.BytesIO(picture)).convert("RGBA")).shape[2] == 4
    item = ours.stac_item(outcomes[0].key.farm_id, outcomes[0].key.solar_day, "stac")
    assert item is not None
    assert [asset["href"].startswith(url) for asset in item["assets"].values()] == [True] * len(item["assets"])
    assert not (tmp_path / "bucket" / "rasters").exists()
    assert all(not one.recomputed for one in observe(ours, ("ndvi",), *days))
    assert ours.check_store(rehash=True, repair=False) == []
