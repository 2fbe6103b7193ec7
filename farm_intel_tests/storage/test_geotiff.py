"""Our GeoTIFFs are read by GDAL and rio-tiler as anybody's, and laid out as cloud-optimised files are."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from farm_intel.domain.batches import RASTER_NODATA
from farm_intel.domain.errors import StoreError
from farm_intel.domain.geo import PixelGrid
from farm_intel.storage.geotiff import SINGLE_BLOCK_MAX_PX, encode_geotiff
from farm_intel.storage.rasters import RasterBand

SINUSOIDAL = rasterio.CRS.from_proj4("+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs").to_wkt()


def bands(number):
    return tuple(RasterBand(name=f"index<{k}>&", scale=1e-4 * (k + 1), offset=0.5 * k) for k in range(number))


def grid(height, width, crs="EPSG:32633", pixel=10.0, west=500_000.0, north=5_000_000.0):
    return PixelGrid(crs=crs, width_px=width, height_px=height, pixel_m=pixel, west_m=west, north_m=north)


def pixels(number, height, width, seed=0):
    data = np.random.default_rng(seed).integers(-32767, 32768, (number, height, width)).astype(np.int16)
    data[:, : height // 3, : width // 3] = RASTER_NODATA
    return data


CASES = [
    (5, 30, 30, {}),
    (1, 1, 1, {}),
    (2, 512, 17, {"crs": "EPSG:3035"}),
    (3, 513, 40, {"crs": "EPSG:32733"}),
    (2, 700, 1100, {}),
    (1, 9, 7, {"crs": "EPSG:4326", "pixel": 0.001, "west": 179.9, "north": -10.0}),
    (4, 8, 8, {"crs": SINUSOIDAL, "pixel": 231.65635826}),
]


@pytest.mark.parametrize(("number", "height", "width", "place"), CASES)
@pytest.mark.parametrize("note", ["odd", "even"])
def test_gdal_reads_back_what_was_written(number, height, width, place, note, caplog):
    data, where = pixels(number, height, width), grid(height, width, **place)

    content = encode_geotiff(data, where, bands(number), {"FARM_ID": "a&b <c>", "NOTE": note})

    # in an environment of rasterio's own, so that what GDAL complains of is logged
    with caplog.at_level("WARNING"), rasterio.Env(), MemoryFile(content) as memory, memory.open() as source:
        assert np.array_equal(source.read(), data)
        assert source.crs == rasterio.CRS.from_string(where.crs)
        assert tuple(source.transform)[:6] == where.transform
        assert source.nodata == RASTER_NODATA
        assert source.descriptions == tuple(band.name for band in bands(number))
        assert source.scales == tuple(band.scale for band in bands(number))
        assert source.offsets == tuple(band.offset for band in bands(number))
        assert source.colorinterp[0] == ColorInterp.gray
        assert source.tags()["FARM_ID"] == "a&b <c>"
        assert source.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        if max(height, width) > SINGLE_BLOCK_MAX_PX:
            assert_statistics(source, data)
        else:
            assert not any(name.startswith("STATISTICS") for k in range(number) for name in source.tags(k + 1))
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("rasterio")]


def assert_statistics(source, data):
    for band, stored in enumerate(data, start=1):
        valid = stored[stored != RASTER_NODATA].astype(float)
        tags = {name: float(value) for name, value in source.tags(band).items()}
        assert tags["STATISTICS_MINIMUM"] == valid.min()
        assert tags["STATISTICS_MAXIMUM"] == valid.max()
        assert tags["STATISTICS_MEAN"] == pytest.approx(valid.mean(), rel=1e-12, abs=1e-9)
        assert tags["STATISTICS_STDDEV"] == pytest.approx(valid.std(), rel=1e-9, abs=1e-9)
        assert tags["STATISTICS_VALID_PERCENT"] == pytest.approx(100 * valid.size / stored.size)


@settings(max_examples=40, deadline=None)
@given(
    data=hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=20)),
    west=st.floats(-5e6, 5e6),
    pixel=st.floats(0.5, 500),
)
def test_any_small_raster_reads_back(data, west, pixel):
    where = grid(*data.shape[1:], west=west, pixel=pixel)

    content = encode_geotiff(data, where, bands(data.shape[0]), {})

    with MemoryFile(content) as memory, memory.open() as source:
        assert np.array_equal(source.read(), data)
        assert tuple(source.transform)[:6] == where.transform


def test_a_band_without_a_valid_pixel_has_no_statistics():
    data = np.full((2, 5, 600), RASTER_NODATA, np.int16)
    data[1, 2, 2] = 7

    with MemoryFile(encode_geotiff(data, grid(5, 600), bands(2), {})) as memory, memory.open() as source:
        assert source.tags(1) == {}
        assert float(source.tags(2)["STATISTICS_STDDEV"]) == 0.0


def directories(content):
    """Parse the file as TIFF 6.0 says: a list of (position, tag -> values)."""
    assert content[:4] == b"II*\0"
    sizes = {2: ("c", 1), 3: ("H", 2), 4: ("I", 4), 12: ("d", 8)}
    found, position = [], struct.unpack_from("<I", content, 4)[0]
    while position:
        (number,) = struct.unpack_from("<H", content, position)
        tags = {}
        for k in range(number):
            tag, kind, count, value = struct.unpack_from("<HHII", content, position + 2 + 12 * k)
            letter, size = sizes[kind]
            at = value if size * count > 4 else position + 10 + 12 * k
            tags[tag] = struct.unpack_from(f"<{count}{letter}", content, at)
        assert list(tags) == sorted(tags)
        found.append((position, tags))
        position = struct.unpack_from("<I", content, position + 2 + 12 * number)[0]
    return found


@pytest.mark.parametrize(("height", "width", "overviews"), [(512, 512, []), (513, 60, [2, 4]), (1100, 1500, [2, 4, 8])])
def test_layout_is_cloud_optimised(height, width, overviews):
    """The rules of GDAL's validate_cloud_optimized_geotiff: directories first, then the smallest overview's pixels."""
    content = encode_geotiff(pixels(2, height, width), grid(height, width), bands(2), {})

    found = directories(content)
    positions = [position for position, _ in found]
    offsets = [tags.get(324) or tags[273] for _, tags in found]
    counts = [tags.get(325) or tags[279] for _, tags in found]
    assert positions == sorted(positions)
    assert positions[0] == 8
    assert min(map(min, offsets)) > positions[-1]
    firsts = [values[0] for values in offsets]
    assert firsts == sorted(firsts, reverse=True)
    for places, lengths in zip(offsets, counts, strict=True):
        assert list(places) == sorted(places)
        assert all(a + n == b for a, n, b in zip(places, lengths, places[1:], strict=False))
    assert offsets[0][-1] + counts[0][-1] == len(content)
    assert [tags[254][0] for _, tags in found] == [0] + [1] * len(overviews)
    if max(height, width) > 512:
        assert {tags[322] for _, tags in found} == {(256,)}
        assert max(found[-1][1][256][0], found[-1][1][257][0]) <= 256
    with MemoryFile(content) as memory, memory.open() as source:
        assert source.overviews(1) == overviews


def test_overviews_are_means_of_the_valid_pixels():
    data = np.full((1, 600, 600), RASTER_NODATA, np.int16)
    data[0, :2, :2] = [[10, 20], [31, RASTER_NODATA]]
    data[0, 2:4, :2] = -7

    with (
        MemoryFile(encode_geotiff(data, grid(600, 600), bands(1), {})) as memory,
        memory.open(overview_level=0) as half,
    ):
        read = half.read(1)

    assert read.shape == (300, 300)
    assert read[0, 0] == round((10 + 20 + 31) / 3)
    assert read[1, 0] == -7
    assert (np.delete(read.ravel(), [0, 300]) == RASTER_NODATA).all()


def test_the_same_content_has_the_same_bytes():
    data = pixels(3, 40, 50)

    first = encode_geotiff(data, grid(40, 50), bands(3), {"A": "1"})

    assert encode_geotiff(np.asfortranarray(data), grid(40, 50), bands(3), {"A": "1"}) == first
    assert encode_geotiff(data, grid(40, 50), bands(3), {"A": "2"}) != first


@pytest.mark.parametrize(
    "data",
    [np.zeros((2, 5, 5), np.int16), np.zeros((1, 5, 6), np.int16), np.zeros((1, 5, 5), np.int32)],
)
def test_arrays_that_do_not_fit_are_refused(data):
    with pytest.raises(StoreError, match="does not fit"):
        encode_geotiff(data, grid(5, 5), bands(1), {})


def test_an_unknown_crs_is_refused():
    with pytest.raises(StoreError, match="cannot write the CRS"):
        encode_geotiff(np.zeros((1, 5, 5), np.int16), grid(5, 5, crs="EPSG:999999"), bands(1), {})


def test_rio_tiler_reads_it_as_titiler_would(tmp_path):
    reader = pytest.importorskip("rio_tiler.io").Reader
    data = pixels(2, 700, 900)
    path = tmp_path / "clip.tif"
    path.write_bytes(encode_geotiff(data, grid(700, 900), bands(2), {}))

    with reader(str(path)) as source:
        info = source.info()
        part = source.part(source.bounds, bounds_crs=source.crs, dst_crs=source.crs, max_size=None)
        west, south, _, _ = source.get_geographic_bounds(source.tms.rasterio_geographic_crs)
        corner = source.tms.tile(west + 0.01, south + 0.01, 12)
        tile = source.tile(corner.x, corner.y, corner.z)
        preview = source.preview(max_size=200)

    assert info.overviews == [2, 4]
    assert info.nodata_value == RASTER_NODATA
    assert [name for _, name in info.band_descriptions] == [band.name for band in bands(2)]
    assert np.array_equal(part.data, data)
    assert tile.array.count() > 0
    assert preview.array.count() > 0
