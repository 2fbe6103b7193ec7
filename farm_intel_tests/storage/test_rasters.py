"""Rasters are permanent and whole under their address, or not there at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from farm_intel.domain.batches import RASTER_NODATA
from farm_intel.domain.errors import StoreError
from farm_intel.domain.geo import PixelGrid
from farm_intel.storage.geotiff import encode_geotiff
from farm_intel.storage.rasters import RasterBand, RasterStore, thumbnail


def contents(number, size=500):
    blobs = [os.urandom(size) for _ in range(number)]
    return {RasterStore.address(blob): blob for blob in blobs}


@pytest.mark.parametrize("number", [1, 31, 32, 100])
def test_what_is_put_is_read(rasters, number):
    """From 32 files on they are flushed together, below one by one."""
    stored = contents(number)

    rasters.put_many(stored)

    assert {sha256: rasters.read(sha256) for sha256 in stored} == stored
    assert {name for sha256 in stored for name in rasters.objects(sha256[:2])} == set(stored)
    assert list(rasters.unfinished()) == []
    some = next(iter(stored))
    assert str(rasters.path(some)).endswith(f"/rasters/{some[:2]}/{some}.tif")


def test_putting_again_keeps_the_file_and_marks_it_young(rasters):
    stored = contents(3)
    rasters.put_many(stored)
    path = rasters.path(next(iter(stored)))
    os.utime(path, (1000, 1000))
    inode = path.stat().st_ino

    rasters.put_many(stored)

    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1000


def test_a_missing_raster_is_a_typed_error(rasters):
    with pytest.raises(StoreError, match="cannot read raster"):
        rasters.read("ab" * 32)


def test_a_root_that_is_not_a_folder_is_a_typed_error(tmp_path):
    (tmp_path / "rasters").write_text("in the way")

    with pytest.raises(StoreError, match="cannot store 2 rasters"):
        RasterStore(tmp_path / "rasters").put_many(contents(2))


LIMITED = """
import resource, signal, sys
from pathlib import Path
from farm_intel.domain.errors import StoreError
from farm_intel.storage.rasters import RasterStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
store = RasterStore(Path(sys.argv[1]))
small, large = b"s" * 100, b"l" * 10_000
try:
    store.put_many({store.address(small): small, store.address(large): large})
except StoreError as error:
    print(error)
    sys.exit(7)
"""


def test_a_write_the_system_cuts_short_leaves_nothing_behind(rasters):
    """A limit on file sizes makes the kernel really write less than asked, then refuse: no final name, no rubbish."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(rasters.root)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 7, done.stderr
    assert "cannot store 2 rasters" in done.stdout
    assert "Free some space" in done.stdout
    assert [path for path in rasters.root.rglob("*") if path.is_file()] == []


def picture(content):
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGBA"))


def test_thumbnail_shows_the_colours_and_leaves_holes_transparent(tmp_path):
    data = np.array([[[0, 5000, 10_000, RASTER_NODATA]], [[0, 0, 0, 0]]], np.int16)
    grid = PixelGrid(crs="EPSG:32633", width_px=4, height_px=1, pixel_m=10.0, west_m=0.0, north_m=0.0)
    bands = (RasterBand(name="a", scale=1e-4, offset=0.0), RasterBand(name="b", scale=1e-4, offset=0.0))
    path = tmp_path / "clip.tif"
    path.write_bytes(encode_geotiff(data, grid, bands, {}))

    seen = picture(thumbnail(path, 1, (1e-4, 0.0), [(0.0, (255, 0, 0)), (1.0, (0, 0, 255))]))

    assert seen.shape == (32, 128, 4)
    assert [tuple(seen[0, x]) for x in (0, 32, 64)] == [(255, 0, 0, 255), (128, 0, 128, 255), (0, 0, 255, 255)]
    assert seen[0, 96, 3] == 0


def test_thumbnail_of_a_damaged_file_is_a_typed_error(tmp_path):
    (tmp_path / "clip.tif").write_bytes(b"II*\0 no")

    with pytest.raises(StoreError, match="cannot show"):
        thumbnail(tmp_path / "clip.tif", 1, (1.0, 0.0), [(0.0, (0, 0, 0)), (1.0, (1, 1, 1))])
