"""Items made from rows are what pystac and rasterio say of the file."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime

import pystac
import pytest
import rasterio
import shapely
from pystac.extensions.projection import ProjectionExtension

from farm_intel.domain.errors import StoreError
from farm_intel.domain.farms import Farm
from farm_intel.domain.geo import BBox
from farm_intel.storage.stac_items import stac_item
from farm_intel_tests.storage.publications import INDICES, make_publication

BOUNDARY = shapely.box(15.0, 45.1, 15.01, 45.11)
FARM = Farm(
    farm_id="farm-00000",
    name="North field",
    boundary_wkb=shapely.to_wkb(BOUNDARY),
    boundary_version=1,
    boundary_hash="0" * 16,
    bbox=BBox(west=15.0, south=45.1, east=15.01, north=45.11),
    longitude_deg=15.0,
    latitude_deg=45.1,
    area_ha=87.0,
    time_zone="Europe/Zagreb",
    home_tile="33TWK",
)


@pytest.fixture
def made(sqlite_store):
    receipt = sqlite_store.publish(make_publication(2))
    (day,) = sqlite_store.calendar(farm_id="farm-00000")
    href = str(sqlite_store.rasters.root / receipt.raster_paths[0])
    item = stac_item(
        farm=FARM,
        day=day,
        raster=sqlite_store.raster(receipt.raster_sha256[0]),
        observations=list(sqlite_store.observations(farm_ids=["farm-00000"])),
        href=href,
    )
    return sqlite_store, item


def test_pystac_reads_the_item(made):
    _, plain = made

    item = pystac.Item.from_dict(plain, preserve_dict=True)

    assert plain["stac_version"] == "1.1.0"
    assert item.datetime == datetime(2024, 6, 1, 10, 0, 0, 123000, UTC)
    assert shapely.geometry.shape(item.geometry).equals(BOUNDARY)
    assert item.bbox == [15.0, 45.1, 15.01, 45.11]
    assert item.collection_id == "sentinel-2-l2a"
    assert pystac.Item.from_dict(item.to_dict(include_self_link=False)).id == plain["id"]
    assert item.assets["indices"].media_type == pystac.MediaType.COG


def test_the_asset_says_what_gdal_says_of_the_file(made):
    _, plain = made
    asset = pystac.Item.from_dict(plain).assets["indices"]
    projection = ProjectionExtension.ext(asset)

    with rasterio.open(asset.href) as source:
        assert projection.code == source.crs.to_string()
        assert projection.shape == list(source.shape)
        assert projection.transform == list(source.transform)[:6]
        assert projection.bbox == list(source.bounds)
        fields = asset.extra_fields
        assert fields["nodata"] == source.nodata
        assert fields["data_type"] == source.dtypes[0]
        assert [band["name"] for band in fields["bands"]] == list(source.descriptions) == list(INDICES)
        assert [band["raster:scale"] for band in fields["bands"]] == list(source.scales)
    content = open(asset.href, "rb").read()  # noqa: PTH123, SIM115
    assert fields["file:size"] == len(content)
    assert fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()


def test_bands_carry_the_numbers_of_their_observations(made):
    store, plain = made

    for band in plain["assets"]["indices"]["bands"]:
        (row,) = store.observations(farm_ids=["farm-00000"], indices=[band["name"]])
        assert band["statistics"]["mean"] == row.statistics.mean
        assert band["statistics"]["count"] == row.used_pixel_count
        assert band["statistics"]["valid_percent"] == 100 * row.valid_pixel_fraction
        assert band["farm_intel:flags"] == [flag.value for flag in row.flags]


def test_another_days_raster_is_refused(made):
    store, _ = made
    store.publish(make_publication(1, seed=3, day=date(2024, 6, 9)))
    first, second = store.calendar(farm_id="farm-00000")

    with pytest.raises(StoreError, match="is not that of farm"):
        stac_item(farm=FARM, day=first, raster=store.raster(second.raster_sha256), observations=[], href="x")
