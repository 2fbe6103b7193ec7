"""Rasters as immutable files named by their content, written so that no crash leaves a half one under a final name."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from farm_intel.domain.errors import StoreError
from farm_intel.domain.geo import PixelGrid

_INCOMING = "incoming"
_SUFFIX = ".tif"
_WRITERS = 8
"""Threads where each file is flushed by itself; waiting for the disk is all they do."""
_SYNC_ALL_FROM = 32
"""Files from which on one `syncfs` is cheaper than an `fsync` each (measured: 10 us a file against 90)."""

ColourStop = tuple[float, tuple[int, int, int]]
"""A value and the red, green and blue (0..255) shown there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterBand:
    """What a band's integers mean: value = pixel * scale + offset."""

    name: str
    """Slug of the index; GDAL shows it as the band's description."""
    scale: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterRecord:
    """One raster as its row tells, without opening the file."""

    sha256: str
    path: str
    """Relative to the raster root."""
    size_bytes: int
    grid: PixelGrid
    bands: tuple[RasterBand, ...]
    created_at: datetime


class RasterStore:
    """Content-addressed files under a folder: `ab/<sha256>.tif`."""

    def __init__(self, root: Path) -> None:
        """Keep the folder; it is made when the first raster is put."""
        self.root = root

    @staticmethod
    def address(content: bytes) -> str:
        """Return the SHA-256 of the content in hex: the name it is stored and found under."""
        return hashlib.sha256(content).hexdigest()

    @staticmethod
    def relative_path(sha256: str) -> str:
        """Return where the raster of this address lies, relative to the root."""
        return f"{sha256[:2]}/{sha256}{_SUFFIX}"

    def path(self, sha256: str) -> Path:
        """Return the file of this address, whether it exists or not."""
        return self.root / self.relative_path(sha256)

    def exists(self, sha256: str) -> bool:
        """Return True where the raster is stored."""
        return os.access(f"{self.root}/{sha256[:2]}/{sha256}{_SUFFIX}", os.F_OK)  # asked for every file: Path is slow

    def read(self, sha256: str) -> bytes:
        """Return the content.

        Raises:
            StoreError: it is not there or cannot be read.

        """
        try:
            return self.path(sha256).read_bytes()
        except OSError as error:
            raise StoreError(
                f"cannot read raster {sha256}: {error.strerror}", hint="`farm-intel fsck` lists what is missing."
            ) from error

    def put_many(self, contents: Mapping[str, bytes]) -> None:
        """Make rasters permanent: address -> content.

        One that is there already is replaced by itself: that costs less than asking for every file first, marks it as
        young, so that the reaper leaves it until its row is committed, and mends one whose content is no longer what
        its name promises (a disk error, an editor).

        All are written to temporary names and flushed, then renamed, then their folders flushed: after this returns,
        neither a crash nor a power cut can lose one; before, none is visible under its final name half-written.

        Raises:
            StoreError: the disk is full or failed; no final name was given to an incomplete file.

        """
        try:
            if contents:
                self._write_and_rename(contents)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            raise StoreError(
                f"cannot store {len(contents)} rasters under {self.root}: {error.strerror}",
                hint="Free some space and run it again." if full else "Check the disk and the folder's permissions.",
            ) from error

    def objects(self, prefix: str) -> dict[str, os.stat_result]:
        """Return address and state of every stored raster whose address begins with these two hex digits."""
        found: dict[str, os.stat_result] = {}
        for path in (self.root / prefix).glob(f"*{_SUFFIX}"):
            try:
                found[path.stem] = path.stat()
            except FileNotFoundError:  # the reaper has just removed it
                continue
        return found

    def unfinished(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield temporary files: of a writer that is at work now, or of one that was killed."""
        for path in self.root.glob(f"{_INCOMING}/*"):
            try:
                yield path, path.stat()
            except FileNotFoundError:  # its writer has just renamed it
                continue

    def remove(self, sha256: str) -> None:
        """Delete a raster; one that is gone already is no error."""
        self.path(sha256).unlink(missing_ok=True)

    def _write_and_rename(self, contents: Mapping[str, bytes]) -> None:
        folder = self.root / _INCOMING
        folder.mkdir(parents=True, exist_ok=True)
        token = f"{os.getpid()}-{secrets.token_hex(4)}"
        temporary = {sha256: f"{folder}/{token}-{sha256}" for sha256 in contents}
        together = len(contents) >= _SYNC_ALL_FROM and _SYNCFS is not None
        try:
            if together:
                for sha256, content in contents.items():  # threads only fight for the interpreter without a disk
                    _write(temporary[sha256], content, flush=False)
                _sync_filesystem(folder)
            else:
                _in_threads(lambda sha256: _write(temporary[sha256], contents[sha256], flush=True), contents)
            self._rename(temporary, together=together)
        except BaseException:  # re-raised: whatever stopped us, leave no rubbish behind
            for name in temporary.values():
                Path(name).unlink(missing_ok=True)
            raise

    def _rename(self, temporary: Mapping[str, str], *, together: bool) -> None:
        root = str(self.root)
        for sha256, name in temporary.items():  # thousands of them; Path costs four times as much as the call
            final = f"{root}/{sha256[:2]}/{sha256}{_SUFFIX}"
            try:
                os.rename(name, final)  # noqa: PTH104 - as above
            except FileNotFoundError:  # the first of its folder
                Path(final).parent.mkdir(exist_ok=True)
                os.rename(name, final)  # noqa: PTH104 - as above
        if together:
            _sync_filesystem(self.root)
        else:
            _in_threads(_flush_folder, [*{f"{root}/{sha256[:2]}" for sha256 in temporary}, root])


def _write(name: str, content: bytes, *, flush: bool) -> None:
    descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if os.lseek(descriptor, 0, os.SEEK_CUR) != len(content):  # a write that claims more than it did has been seen
            raise OSError(errno.EIO, "the file is shorter than what was written")
        if flush:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _find_syncfs() -> Callable[[int], int] | None:
    try:
        function: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError, TypeError):  # not Linux
        return None
    return function


_SYNCFS = _find_syncfs()


def _sync_filesystem(folder: Path) -> None:
    """Flush the whole file system that holds the folder: all of a batch in one call, errors reported (Linux >= 5.8)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _SYNCFS is None or _SYNCFS(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _in_threads(action: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_WRITERS) as pool:
        for _ in pool.map(action, names):
            pass
