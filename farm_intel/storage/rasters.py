"""Rasters as immutable files named by their content, written so that no crash leaves a half one under a final name."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from farm_intel.domain.errors import StoreError
from farm_intel.domain.geo import PixelGrid
from farm_intel.storage.raster_store import SUFFIX, RasterStore, StoredFile

_INCOMING = "incoming"
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


class FolderRasters(RasterStore):
    """Content-addressed files under a folder: `ab/<sha256>.tif`."""

    def __init__(self, root: Path) -> None:
        """Keep the folder; it is made when the first raster is put."""
        self.root = root

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    def href(self, sha256: str) -> str:
        """Return the file's URL."""
        return self.path(sha256).absolute().as_uri()

    def path(self, sha256: str) -> Path:
        """Return the file of this address, whether it exists or not."""
        return self.root / self.relative_path(sha256)

    def exists(self, sha256: str) -> bool:
        """Return True where the raster is stored."""
        return os.access(f"{self.root}/{sha256[:2]}/{sha256}{SUFFIX}", os.F_OK)  # asked for every file: Path is slow

    def lost(self, addresses: Collection[str]) -> set[str]:
        """Return the addresses without a file."""
        return {sha256 for sha256 in addresses if not self.exists(sha256)}

    def read(self, sha256: str) -> bytes:
        """Return the content."""
        try:
            return self.path(sha256).read_bytes()
        except OSError as error:
            raise StoreError(
                f"cannot read raster {sha256}: {error.strerror}", hint="`farm-intel fsck` lists what is missing."
            ) from error

    def put_many(self, contents: Mapping[str, bytes]) -> None:
        """Write all to temporary names and flush them, then rename, then flush their folders.

        After this returns, neither a crash nor a power cut can lose one; before, none is visible under its final name
        half-written.
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

    def objects(self, prefix: str) -> dict[str, StoredFile]:
        """Return the files under two hex digits."""
        found = (_state(path, path.stem) for path in (self.root / prefix).glob(f"*{SUFFIX}"))
        return {state.name: state for state in found if state is not None}

    def state(self, sha256: str) -> StoredFile | None:
        """Return size and time of a file, None where it is not there."""
        return _state(self.path(sha256), sha256)

    def unfinished(self) -> Iterator[StoredFile]:
        """Yield temporary files."""
        for path in self.root.glob(f"{_INCOMING}/*"):
            state = _state(path, path.name)
            if state is not None:  # else its writer has just renamed it
                yield state

    def remove_unfinished(self, name: str) -> None:
        """Delete a temporary file."""
        (self.root / _INCOMING / name).unlink(missing_ok=True)

    def remove(self, sha256: str) -> None:
        """Delete a file."""
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
            final = f"{root}/{sha256[:2]}/{sha256}{SUFFIX}"
            try:
                os.rename(name, final)  # noqa: PTH104 - as above
            except FileNotFoundError:  # the first of its folder
                Path(final).parent.mkdir(exist_ok=True)
                os.rename(name, final)  # noqa: PTH104 - as above
        if together:
            _sync_filesystem(self.root)
        else:
            _in_threads(_flush_folder, [*{f"{root}/{sha256[:2]}" for sha256 in temporary}, root])


def _state(path: Path, name: str) -> StoredFile | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return StoredFile(name=name, size_bytes=state.st_size, modified_at=state.st_mtime)


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
