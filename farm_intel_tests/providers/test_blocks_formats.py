"""Which files go to which reader, which are refused, and how many requests the fast path makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.engine.blocks import BlockReader
from farm_intel.providers.blocks.auto import S3Options
from farm_intel.providers.blocks.rasterio_reader import RasterioBand
from farm_intel.simulation.range_server import RangeServer
from farm_intel_tests.providers.blocks_support import band, pixels, read_blocks, reference, use_reader, write_cog

KINDS = ("fast", "rasterio", "auto")
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
FALLBACKS = {
    "lzw": {"compress": "lzw"},
    "zstd": {"compress": "zstd"},
    "strips": {"driver": "GTiff", "blocksize": None, "compress": "deflate"},
    "sinusoidal": {"crs": SINUSOIDAL},
    "pixel-is-point": {"driver": "GTiff", "blocksize": None, "tiled": True, "tags": {"AREA_OR_POINT": "Point"}},
    "big-endian": {"driver": "GTiff", "blocksize": None, "tiled": True, "ENDIANNESS": "BIG"},
}


def problem_of(kind: str, href: object) -> SceneProblemError:
    with pytest.raises(SceneProblemError) as caught:
        read_blocks(kind, href)
    return caught.value


def who_reads(href: object) -> bool:
    async def work(reader: BlockReader) -> bool:
        return isinstance(await reader.open(band(href), scene_id="S"), RasterioBand)

    return use_reader("auto", work)


@pytest.mark.parametrize("case", FALLBACKS)
@pytest.mark.parametrize("remote", [False, True])
def test_other_formats_fall_back_to_rasterio(tmp_path: Path, case: str, *, remote: bool) -> None:
    path = write_cog(tmp_path / "a.tif", pixels(600, 531, "uint16"), **FALLBACKS[case])
    with RangeServer(tmp_path) as server:
        href = server.url("a.tif") if remote else path
        header, blocks, counters = read_blocks("auto", href)
        assert who_reads(href)

    shape = (header.block_height_px, header.block_width_px)
    with rasterio.open(path) as dataset:
        assert header.grid.transform == pytest.approx(dataset.transform[:6])
    places = [(r, c) for r in range(header.block_rows) for c in range(header.block_cols)]
    for (row, col), block in zip(places, blocks, strict=True):
        np.testing.assert_array_equal(block, reference(path, row, col, shape, 0))
    assert counters.blocks_decoded == len(places)


def test_a_plain_cog_is_read_fast(tmp_path: Path) -> None:
    assert not who_reads(write_cog(tmp_path / "a.tif", pixels(300, 300, "uint16")))


def test_the_fast_reader_alone_says_what_it_does_not_read(tmp_path: Path) -> None:
    error = problem_of("fast", write_cog(tmp_path / "a.tif", pixels(300, 300, "uint16"), compress="lzw"))

    assert error.kind is SceneProblemKind.UNREADABLE_FILE
    assert "compression 5" in str(error)
    assert "FARM_INTEL_READER" in str(error)


@pytest.mark.parametrize("remote", [False, True])
def test_jpeg2000_falls_back_with_blocks_of_1024(tmp_path: Path, *, remote: bool) -> None:
    data = pixels(1500, 1200, "uint16")
    profile = {"count": 1, "height": 1500, "width": 1200, "dtype": "uint16", "crs": "EPSG:32637"}
    path = tmp_path / "B04.jp2"
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", transform=from_origin(3e5, 1e6, 10, 10), QUALITY="100", REVERSIBLE="YES",
        **profile,
    ) as dataset:  # fmt: skip
        dataset.write(data, 1)
    with RangeServer(tmp_path) as server:
        header, blocks, _ = read_blocks("auto", server.url("B04.jp2") if remote else path)

    assert (header.block_height_px, header.block_width_px) == (1024, 1024)
    np.testing.assert_array_equal(blocks[0], data[:1024, :1024])
    np.testing.assert_array_equal(blocks[3][:476, :176], data[1024:, 1024:])
    assert (blocks[3][476:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_vrt_named_tif_is_refused(tmp_path: Path, kind: str) -> None:
    """Opened by GDAL's own choice of driver it would show the other file's pixels."""
    secret = write_cog(tmp_path / "neighbour.tif", pixels(300, 300, "uint16"))
    vrt = tmp_path / "mine.tif"
    with rasterio.open(secret) as dataset:
        rasterio.shutil.copy(dataset, vrt, driver="VRT")
    with rasterio.open(vrt) as dataset:
        assert dataset.driver == "VRT"

    assert problem_of(kind, vrt).kind is SceneProblemKind.UNREADABLE_FILE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "href",
    ["/vsicurl/http://127.0.0.1:9/a.tif", "/vsizip//a.zip/a.tif", "<VRTDataset/>", "ftp://host/a.tif", "relative.tif"],
)
def test_hrefs_that_choose_their_own_protocol_are_refused(kind: str, href: str) -> None:
    assert problem_of(kind, href).kind is SceneProblemKind.UNREADABLE_FILE


@pytest.mark.parametrize("kind", KINDS)
def test_an_equal_area_crs_without_code_is_wkt(tmp_path: Path, kind: str) -> None:
    if kind == "fast":
        kind = "auto"
    path = write_cog(tmp_path / "a.tif", pixels(300, 300, "int16"), crs=SINUSOIDAL)

    header, _, _ = read_blocks(kind, path, [(0, 0)])

    assert "Sinusoidal" in header.grid.crs
    assert rasterio.crs.CRS.from_wkt(header.grid.crs).is_projected


@pytest.mark.parametrize("kind", ["rasterio", "auto"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_without_crs_is_a_missing_projection(tmp_path: Path, kind: str) -> None:
    path = write_cog(tmp_path / "a.tif", pixels(300, 300, "uint16"), crs=None)

    assert problem_of(kind, path).kind is SceneProblemKind.MISSING_PROJECTION


@pytest.mark.parametrize("kind", ["rasterio", "auto"])
@pytest.mark.parametrize(
    "transform",
    [
        rasterio.Affine(10, 0, 3e5, 0, -20, 1e6),
        rasterio.Affine(10, 0, 3e5, 0, 10, 1e6),
        rasterio.Affine(7, 7, 3e5, 7, -7, 1e6),
    ],
    ids=["oblong", "south-up", "rotated"],
)
def test_grids_that_are_not_north_up_and_square_are_refused(
    tmp_path: Path, kind: str, transform: rasterio.Affine
) -> None:
    path = write_cog(
        tmp_path / "a.tif", pixels(300, 300, "uint16"), driver="GTiff", blocksize=None, tiled=True, transform=transform
    )

    assert problem_of(kind, path).kind is SceneProblemKind.UNKNOWN_GRID


@pytest.mark.parametrize("kind", ["rasterio", "auto"])
def test_a_file_of_three_bands_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rgb.tif"
    profile = {"driver": "GTiff", "tiled": True, "count": 3, "height": 300, "width": 300, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32637", transform=from_origin(3e5, 1e6, 10, 10), **profile) as dataset:
        dataset.write(np.zeros((3, 300, 300), "uint8"))

    error = problem_of(kind, path)

    assert error.kind is SceneProblemKind.UNREADABLE_FILE
    assert "3 bands" in str(error)


@pytest.mark.parametrize("kind", ["rasterio", "auto"])
@pytest.mark.parametrize("nodata", [0, None])
def test_pixels_under_an_internal_mask_become_nodata(tmp_path: Path, kind: str, nodata: int | None) -> None:
    path = tmp_path / "masked.tif"
    profile = {
        "driver": "GTiff", "tiled": True, "count": 1, "height": 300, "width": 300, "dtype": "uint16",
        "crs": "EPSG:32637", "transform": from_origin(3e5, 1e6, 10, 10),
    }  # fmt: skip
    mask = np.full((300, 300), 255, "uint8")
    mask[100:200] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
        dataset.write(np.full((300, 300), 9, "uint16"), 1)
        dataset.write_mask(mask)
    if nodata is None:
        assert problem_of(kind, path).kind is SceneProblemKind.MISSING_NODATA
        return
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.nodata = nodata
    with rasterio.open(path) as dataset:
        flags = dataset.mask_flag_enums[0]

    header, blocks, _ = read_blocks(kind, path)
    image = np.block([blocks[i : i + header.block_cols] for i in range(0, len(blocks), header.block_cols)])

    if rasterio.enums.MaskFlags.per_dataset in flags:
        assert (image[100:200, :300] == nodata).all()
    assert (image[:100, :300] == 9).all()


def test_neighbouring_blocks_are_fetched_with_one_request(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", pixels(2000, 2000, "uint16"))
    with RangeServer(tmp_path) as server:
        row = [(3, col) for col in range(8)]
        _, blocks, counters = read_blocks("fast", server.url("a.tif"), row)

        assert len(blocks) == 8
        assert counters.requests == server.counters.requests == 2
        assert counters.blocks_decoded == 8


def test_blocks_far_apart_are_not_fetched_together(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", pixels(2000, 2000, "uint16"))
    with RangeServer(tmp_path) as server:
        _, _, few = read_blocks("fast", server.url("a.tif"), [(0, 0), (7, 7)])
        assert few.requests == 3
        assert few.bytes_fetched == server.counters.bytes_sent < 32768 + 2 * 150_000


def test_no_more_requests_are_in_flight_than_allowed(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", pixels(2000, 2000, "uint16"))
    with RangeServer(tmp_path, latency_s=0.02) as server:
        diagonal = [(i, (3 * i) % 8) for i in range(8)]
        read_blocks("fast", server.url("a.tif"), diagonal, concurrency=3)

        assert server.counters.max_in_flight == 3


@pytest.mark.parametrize("kind", KINDS)
def test_names_with_spaces_and_percent_signs_are_read(tmp_path: Path, kind: str) -> None:
    path = write_cog(tmp_path / "a b%20c.tif", pixels(300, 300, "uint16"))
    with RangeServer(tmp_path) as server:
        _, remote, _ = read_blocks(kind, server.url(path.name))
        _, local, _ = read_blocks(kind, path)
        _, as_uri, _ = read_blocks(kind, path.as_uri())

    np.testing.assert_array_equal(remote[0], local[0])
    np.testing.assert_array_equal(as_uri[0], local[0])


@pytest.mark.parametrize("kind", KINDS)
def test_s3_is_read_with_keys_and_requester_pays(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bucket").mkdir()
    path = write_cog(tmp_path / "bucket" / "B04.tif", pixels(300, 300, "uint16"))
    with RangeServer(tmp_path) as server:
        s3 = S3Options(
            endpoint_url=server.base_url, region="us-west-2", access_key_id="key", secret_access_key="hush",  # noqa: S106 - a made-up key
            requester_pays=True,
        )  # fmt: skip
        _, blocks, counters = read_blocks(kind, "s3://bucket/B04.tif", s3=s3)

        assert counters.requests == server.counters.requests
        for record in server.log or []:
            assert "authorization: aws4-hmac-sha256" in record.headers
            assert "x-amz-request-payer: requester" in record.headers
        assert "hush" not in repr(s3)
    np.testing.assert_array_equal(blocks[0], reference(path, 0, 0, (256, 256), 0))
