"""Rasters are permanent and whole under their address, or not there at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from farm_intel.domain.errors import StoreError
from farm_intel.storage.rasters import FolderRasters


def contents(number, size=500):
    blobs = [os.urandom(size) for _ in range(number)]
    return {FolderRasters.address(blob): blob for blob in blobs}


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


def test_putting_again_keeps_the_content_and_marks_it_young(rasters):
    """The reaper takes old files without a row; a reader that is at work keeps what it has opened."""
    stored = contents(3)
    rasters.put_many(stored)
    sha256, content = next(iter(stored.items()))
    path = rasters.path(sha256)
    os.utime(path, (1000, 1000))

    with path.open("rb") as reader:
        rasters.put_many(stored)
        assert reader.read() == content

    assert rasters.read(sha256) == content
    assert path.stat().st_mtime > 1000
    assert set(rasters.objects(sha256[:2])) == {name for name in stored if name[:2] == sha256[:2]}
    assert list(rasters.unfinished()) == []


@pytest.mark.parametrize("damage", [lambda blob: blob + b"x", lambda blob: blob[:100], lambda blob: blob[::-1]])
def test_putting_again_mends_a_damaged_file(rasters, damage):
    stored = contents(2)
    rasters.put_many(stored)
    sha256, content = next(iter(stored.items()))
    rasters.path(sha256).write_bytes(damage(content))

    rasters.put_many(stored)

    assert rasters.read(sha256) == content
    assert list(rasters.unfinished()) == []


def test_a_missing_raster_is_a_typed_error(rasters):
    with pytest.raises(StoreError, match="cannot read raster"):
        rasters.read("ab" * 32)


def test_a_root_that_is_not_a_folder_is_a_typed_error(tmp_path):
    (tmp_path / "rasters").write_text("in the way")

    with pytest.raises(StoreError, match="cannot store 2 rasters"):
        FolderRasters(tmp_path / "rasters").put_many(contents(2))


LIMITED = """
import resource, signal, sys
from pathlib import Path
from farm_intel.domain.errors import StoreError
from farm_intel.storage.rasters import FolderRasters
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
store = FolderRasters(Path(sys.argv[1]))
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
