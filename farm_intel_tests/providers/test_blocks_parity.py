"""Both readers return bit for bit what plain rasterio reads, from disk and over HTTP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from farm_intel.engine.blocks import BandHeader, BlockReader
from farm_intel.simulation.range_server import RangeServer
from farm_intel_tests.providers.blocks_support import band, pixels, read_blocks, reference, use_reader, write_cog

KINDS = ("fast", "rasterio")
CASES = {
    "u1-256-pred2": ("uint8", (700, 531), {"blocksize": 256}),
    "u2-256-pred2": ("uint16", (700, 531), {"blocksize": 256}),
    "i2-256-pred2": ("int16", (515, 257), {"blocksize": 256, "nodata": -32768}),
    "u2-512-pred1": ("uint16", (513, 1030), {"blocksize": 512, "predictor": None}),
    "u1-512-pred1": ("uint8", (600, 600), {"blocksize": 512, "predictor": None}),
    "i2-512-raw": ("int16", (600, 700), {"blocksize": 512, "compress": "none", "predictor": None, "nodata": -1}),
    "u2-1024-pred2": ("uint16", (1500, 1100), {"blocksize": 1024}),
    "u2-exact": ("uint16", (512, 512), {"blocksize": 256}),
    "u2-no-nodata": ("uint16", (300, 300), {"blocksize": 256, "nodata": None}),
    "u2-bigtiff": ("uint16", (600, 531), {"blocksize": 256, "bigtiff": "YES"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cogs")
    for name, (dtype, shape, options) in CASES.items():
        write_cog(root / f"{name}.tif", pixels(*shape, dtype), **options)
    return root


@pytest.fixture(scope="module")
def server(folder: Path):
    with RangeServer(folder) as running:
        yield running


def assert_equals_rasterio(path: Path, header: BandHeader, blocks: list[np.ndarray]) -> None:
    shape = (header.block_height_px, header.block_width_px)
    fill = header.nodata if header.nodata is not None else 0
    places = [(r, c) for r in range(header.block_rows) for c in range(header.block_cols)]
    assert len(blocks) == len(places)
    for (row, col), block in zip(places, blocks, strict=True):
        expected = reference(path, row, col, shape, fill)
        assert block.dtype == expected.dtype
        np.testing.assert_array_equal(block, expected)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_from_disk_equal_rasterio(folder: Path, kind: str, case: str) -> None:
    header, blocks, counters = read_blocks(kind, folder / f"{case}.tif")

    assert_equals_rasterio(folder / f"{case}.tif", header, blocks)
    assert counters.blocks_decoded == len(blocks)
    assert counters.bytes_decoded == sum(block.nbytes for block in blocks)


@pytest.mark.parametrize("case", ["u1-256-pred2", "u2-1024-pred2", "i2-512-raw"])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_over_http_equal_rasterio_and_counters_equal_the_servers(
    folder: Path, server: RangeServer, kind: str, case: str
) -> None:
    server.reset()
    header, blocks, counters = read_blocks(kind, server.url(f"{case}.tif"))

    assert_equals_rasterio(folder / f"{case}.tif", header, blocks)
    assert counters.requests == server.counters.requests
    if kind == "fast":
        assert counters.bytes_fetched == server.counters.bytes_sent


@pytest.mark.parametrize("case", CASES)
def test_header_equals_rasterio(folder: Path, case: str) -> None:
    path = folder / f"{case}.tif"
    fast, _, _ = read_blocks("fast", path, [(0, 0)])
    slow, _, _ = read_blocks("rasterio", path, [(0, 0)])
    with rasterio.open(path) as dataset:
        assert fast.grid.transform == dataset.transform[:6]
        assert (fast.grid.height_px, fast.grid.width_px) == dataset.shape
        assert (fast.block_height_px, fast.block_width_px) == dataset.block_shapes[0]
        assert fast.nodata == dataset.nodata
    assert fast == slow
    assert fast.grid.crs == "EPSG:32637"


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_come_in_the_order_asked(folder: Path, kind: str) -> None:
    path = folder / "u2-256-pred2.tif"
    places = [(2, 1), (0, 0), (1, 2), (0, 0)]
    _, blocks, _ = read_blocks(kind, path, places)

    for (row, col), block in zip(places, blocks, strict=True):
        np.testing.assert_array_equal(block, reference(path, row, col, (256, 256), 0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [(-1, 0), (3, 0), (0, 3)])
def test_a_block_outside_the_file_is_refused(folder: Path, kind: str, place: tuple[int, int]) -> None:
    with pytest.raises(IndexError, match="no block"):
        read_blocks(kind, folder / "u2-256-pred2.tif", [place])


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_blocks_are_nodata(tmp_path: Path, kind: str) -> None:
    data = np.full((768, 768), 7, "int16")
    data[256:512, 256:512] = pixels(256, 256, "int16")
    path = tmp_path / "sparse.tif"
    profile = {
        "driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "count": 1, "dtype": "int16",
        "height": 768, "width": 768, "crs": "EPSG:32637", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0),
        "nodata": -9999, "compress": "deflate", "sparse_ok": True,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(data[256:512, 256:512], 1, window=rasterio.windows.Window(256, 256, 256, 256))

    header, blocks, counters = read_blocks(kind, path)

    assert header.nodata == -9999
    np.testing.assert_array_equal(blocks[4], data[256:512, 256:512])
    for empty in (0, 1, 2, 3, 5, 6, 7, 8):
        assert (blocks[empty] == -9999).all()
    assert counters.bytes_fetched < path.stat().st_size + 32768


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("max_edge", "expected_edge"), [(2000, 1500), (1499, 750), (400, 375), (375, 375), (10, 375)])
def test_overview_is_the_largest_that_fits(tmp_path: Path, kind: str, max_edge: int, expected_edge: int) -> None:
    path = write_cog(tmp_path / "a.tif", pixels(1500, 1101, "uint16"), blocksize=512, overview_count=2)

    async def work(reader: BlockReader) -> np.ndarray:
        return await (await reader.open(band(path), scene_id="S")).read_overview(max_edge)

    image = use_reader(kind, work)

    assert max(image.shape) == expected_edge
    level = {1500: None, 750: 0, 375: 1}[expected_edge]
    with rasterio.open(path, **({} if level is None else {"overview_level": level})) as dataset:
        np.testing.assert_array_equal(image, dataset.read(1))


REAL = Path("../shared/data")


@pytest.mark.skipif(not REAL.exists(), reason="the shared folder with recorded scenes is not here")
@pytest.mark.parametrize("kind", ["fast", "rasterio", "auto"])
def test_real_sentinel2_files_equal_rasterio(kind: str) -> None:
    paths = sorted(REAL.glob("sentinel2_field_spain_2019/*/*.tif"))[:12]
    paths += sorted(REAL.glob("sentinel2_33T_120m/*/*.tif"))[:12]
    assert len(paths) == 24

    for path in paths:
        header, blocks, _ = read_blocks(kind, path.absolute())
        assert_equals_rasterio(path, header, blocks)
        with rasterio.open(path) as dataset:
            assert header.grid.crs == f"EPSG:{dataset.crs.to_epsg()}"
