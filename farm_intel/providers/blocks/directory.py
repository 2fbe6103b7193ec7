"""Reads the directories of a TIFF or BigTIFF file with bounds on everything a file can claim.

async-tiff was the first choice; a single flipped byte in a header made it reserve 96 GB and abort the whole process.
Here every count, offset and length is checked before it is used, and what does not fit is refused.

Sources: TIFF 6.0 (Adobe, 1992), BigTIFF design (AWare Systems), GDAL's GDAL_NODATA tag 42113.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum

import numpy as np

from farm_intel.providers.blocks.source import RangeSource

PREFETCH_BYTES = 32768
"""One request covers the header of a 10980 x 10980 COG with 512 blocks and overviews."""
_MAX_DIRECTORIES = 64
_MAX_ENTRIES = 1024
_MAX_TAG_BYTES = 16 << 20
"""A million blocks in BigTIFF need 8 MiB; whatever claims more is not a band of a scene."""

_FORMATS = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 11: "f4", 12: "f8", 16: "u8", 17: "i8"}
"""TIFF field type -> numpy type; rationals and opaque bytes are of no use to us."""

Tags = Mapping[int, np.ndarray | bytes]
"""Tag number -> values, or the text of an ASCII tag."""


class Tag(IntEnum):
    """The tags we read; all others are passed over unread."""

    NEW_SUBFILE_TYPE = 254
    IMAGE_WIDTH = 256
    IMAGE_LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    SAMPLES_PER_PIXEL = 277
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    SAMPLE_FORMAT = 339
    MODEL_PIXEL_SCALE = 33550
    MODEL_TIEPOINT = 33922
    MODEL_TRANSFORMATION = 34264
    GEO_KEYS = 34735
    GDAL_NODATA = 42113


_WANTED = frozenset(int(tag) for tag in Tag)


class UnsupportedFileError(Exception):
    """The fast path does not know this kind of file; rasterio may."""


class _HeaderBytes:
    """The first bytes of a file, extended by further requests where a directory reaches behind them."""

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self._pieces: list[tuple[int, memoryview]] = []

    async def take(self, start: int, length: int) -> memoryview:
        """Return bytes [start, start + length).

        Raises:
            UnsupportedFileError: the file ends before.

        """
        for offset, piece in self._pieces:
            if offset <= start and start + length <= offset + len(piece):
                return piece[start - offset : start - offset + length]
        data = memoryview(await self._source.fetch(start, start + max(length, PREFETCH_BYTES), may_end_early=True))
        if len(data) < length:
            raise UnsupportedFileError("the header is truncated or corrupt")
        self._pieces.append((start, data))
        return data[:length]


async def read_directories(source: RangeSource) -> list[Tags]:
    """Return the tags of every image of a little-endian TIFF file, in file order.

    Raises:
        UnsupportedFileError: not such a file, or a header that makes impossible claims.
        SceneProblemError: the file is not there or not ours to read.
        TransientError: no good answer within the retries.

    """
    header = _HeaderBytes(source)
    start = await header.take(0, 8)
    magic = bytes(start[:4])
    if magic == b"II*\x00":
        big, offset = False, struct.unpack("<I", start[4:8])[0]
    elif magic == b"II+\x00" and bytes(start[4:8]) == b"\x08\x00\x00\x00":
        big, offset = True, struct.unpack("<Q", await header.take(8, 8))[0]
    else:
        raise UnsupportedFileError("not a little-endian TIFF file")
    directories: list[Tags] = []
    seen: set[int] = set()
    while offset:
        if offset in seen or len(directories) >= _MAX_DIRECTORIES:
            raise UnsupportedFileError("the directories of the header go in a circle")
        seen.add(offset)
        tags, offset = await _read_directory(header, offset, big=big)
        directories.append(tags)
    if not directories:
        raise UnsupportedFileError("the file holds no image")
    return directories


async def _read_directory(header: _HeaderBytes, offset: int, *, big: bool) -> tuple[Tags, int]:
    """Return the wanted tags of one directory and the offset of the next (0 for none)."""
    count_format, entry_size, next_format = ("<Q", 20, "<Q") if big else ("<H", 12, "<I")
    count_size, next_size = struct.calcsize(count_format), struct.calcsize(next_format)
    count = struct.unpack(count_format, await header.take(offset, count_size))[0]
    if count > _MAX_ENTRIES:
        raise UnsupportedFileError(f"a directory of {count} entries")
    entries = await header.take(offset + count_size, count * entry_size + next_size)
    tags: dict[int, np.ndarray | bytes] = {}
    for start in range(0, count * entry_size, entry_size):
        entry = entries[start : start + entry_size]
        tag = struct.unpack("<H", entry[:2])[0]
        if tag in _WANTED:
            tags[tag] = await _read_value(header, entry, big=big)
    return tags, struct.unpack(next_format, entries[count * entry_size :])[0]


async def _read_value(header: _HeaderBytes, entry: memoryview, *, big: bool) -> np.ndarray | bytes:
    tag, kind = struct.unpack("<HH", entry[:4])
    count = struct.unpack("<Q" if big else "<I", entry[4 : 12 if big else 8])[0]
    slot = entry[12:] if big else entry[8:]
    if kind not in _FORMATS:
        raise UnsupportedFileError(f"tag {tag} of type {kind}")
    dtype = np.dtype(_FORMATS[kind]).newbyteorder("<")
    length = count * dtype.itemsize
    if not 0 < length <= _MAX_TAG_BYTES:
        raise UnsupportedFileError(f"tag {tag} claims {length} bytes")
    if length > len(slot):
        slot = await header.take(struct.unpack("<Q" if big else "<I", slot)[0], length)
    if dtype.kind == "S":
        return bytes(slot[:length])
    return np.frombuffer(slot[:length], dtype)
