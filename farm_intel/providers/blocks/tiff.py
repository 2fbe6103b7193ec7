"""From TIFF tags to a band header and block tables, or a refusal that sends the file to rasterio.

Sources: TIFF 6.0, OGC GeoTIFF 1.1 (19-008r4) for keys and codes, GDAL's COG layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.engine.blocks import BandHeader
from farm_intel.providers.blocks.decode import DEFLATE_CODES, BlockFormat
from farm_intel.providers.blocks.directory import Tag, Tags, UnsupportedFileError, read_directories
from farm_intel.providers.blocks.headers import Affine, checked_grid
from farm_intel.providers.blocks.source import RangeSource

_UINT, _INT = 1, 2
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    (_UINT, 8): np.dtype("u1"),
    (_UINT, 16): np.dtype("<u2"),
    (_INT, 16): np.dtype("<i2"),
}
_REDUCED, _MASK = 1, 4
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC_CODE, _PROJECTED_CODE, _LINEAR_UNITS = 1024, 1025, 2048, 3072, 3076
_VERTICAL_KEYS = range(4096, 5120)
_PROJECTED, _GEOGRAPHIC, _PIXEL_IS_POINT, _METRE = 1, 2, 2, 9001
_EPSG_CODES = range(1024, 32767)
"""GeoTIFF 1.1: 32767 is user-defined, lower codes are reserved."""
_MAX_BLOCK_BYTES = 64 << 20
"""A decompressed block larger than this is an attack or a mistake; 4096 x 4096 x 2 bytes is half of it."""
_MAX_EDGE_PX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One image of the file: full resolution or an overview."""

    width_px: int
    height_px: int
    form: BlockFormat
    """Of its blocks."""
    offsets: npt.NDArray[np.int64]
    """(block rows, block cols) first byte."""
    sizes: npt.NDArray[np.int64]
    """(block rows, block cols) bytes; 0 where the block was never written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffHeader:
    """Header and images of one file; the first level is full resolution, overviews follow as stored."""

    band: BandHeader
    levels: tuple[Level, ...]


async def read_header(source: RangeSource) -> TiffHeader:
    """Return the header of a tiled GeoTIFF.

    Raises:
        UnsupportedFileError: anything but little-endian, tiled, one sample, deflate or none, u1/u2/i2, no mask.
        SceneProblemError: not there, not readable, no CRS, no usable grid.
        TransientError: no good answer within the retries.

    """
    main, *others = await read_directories(source)
    kinds = [_number(tags, Tag.NEW_SUBFILE_TYPE, 0) for tags in others]
    if any(kind & _MASK for kind in kinds):
        raise UnsupportedFileError("a mask band")
    levels = [_level(main)] + [_level(tags) for tags, kind in zip(others, kinds, strict=True) if kind & _REDUCED]
    full = levels[0]
    crs, transform = _crs(main), _transform(main)
    band = BandHeader(
        grid=checked_grid(source.ref, crs, transform, width_px=full.width_px, height_px=full.height_px),
        block_height_px=full.form.shape[0],
        block_width_px=full.form.shape[1],
        dtype=full.form.dtype,
        nodata=_nodata(main),
    )
    return TiffHeader(band=band, levels=tuple(levels))


def _numbers(tags: Tags, tag: Tag) -> npt.NDArray[Any]:
    value = tags.get(tag)
    if not isinstance(value, np.ndarray):
        raise UnsupportedFileError(f"no usable tag {tag.name}")
    return value


def _number(tags: Tags, tag: Tag, default: int) -> int:
    return int(_numbers(tags, tag)[0]) if tag in tags else default


def _level(tags: Tags) -> Level:
    if Tag.TILE_OFFSETS not in tags:
        raise UnsupportedFileError("strips instead of tiles")
    if (samples := _number(tags, Tag.SAMPLES_PER_PIXEL, 1)) != 1:
        raise UnsupportedFileError(f"{samples} samples per pixel")
    compression, predictor = _number(tags, Tag.COMPRESSION, 1), _number(tags, Tag.PREDICTOR, 1)
    if compression not in DEFLATE_CODES | {1} or predictor not in {1, 2}:
        raise UnsupportedFileError(f"compression {compression} with predictor {predictor}")
    bits, sample_format = _number(tags, Tag.BITS_PER_SAMPLE, 1), _number(tags, Tag.SAMPLE_FORMAT, _UINT)
    dtype = _DTYPES.get((sample_format, bits))
    if dtype is None:
        raise UnsupportedFileError(f"{bits}-bit samples of format {sample_format}")
    width, height = _number(tags, Tag.IMAGE_WIDTH, 0), _number(tags, Tag.IMAGE_LENGTH, 0)
    block_width, block_height = _number(tags, Tag.TILE_WIDTH, 0), _number(tags, Tag.TILE_LENGTH, 0)
    block_bytes = block_width * block_height * dtype.itemsize
    if not (0 < width <= _MAX_EDGE_PX and 0 < height <= _MAX_EDGE_PX and 0 < block_bytes <= _MAX_BLOCK_BYTES):
        raise UnsupportedFileError(f"an image of {width} x {height} in blocks of {block_width} x {block_height}")
    offsets, sizes = _block_tables(tags, (-(-height // block_height), -(-width // block_width)), block_bytes)
    return Level(
        width_px=width,
        height_px=height,
        form=BlockFormat(
            shape=(block_height, block_width),
            dtype=dtype,
            compression=compression,
            # A predictor tag has no meaning without compression (TIFF 6.0, section 14; GDAL ignores it too).
            predictor=predictor if compression != 1 else 1,
        ),
        offsets=offsets,
        sizes=sizes,
    )


def _block_tables(
    tags: Tags, shape: tuple[int, int], block_bytes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where each block stands and how long it is, both (block rows, block cols)."""
    offsets, sizes = _numbers(tags, Tag.TILE_OFFSETS), _numbers(tags, Tag.TILE_BYTE_COUNTS)
    if len(offsets) != shape[0] * shape[1] or len(sizes) != len(offsets):
        raise UnsupportedFileError("a block table of unexpected length")
    # Incompressible data grows by a few bytes when deflated, never to twice its size.
    if int(sizes.max()) > 2 * block_bytes + 1024 or int(offsets.max()) >= 1 << 60:
        raise UnsupportedFileError("a block table with impossible entries")
    return offsets.astype(np.int64).reshape(shape), sizes.astype(np.int64).reshape(shape)


def _crs(tags: Tags) -> str | None:
    """Return `EPSG:n`, None without any georeference; anything that needs PROJ to name it goes to rasterio."""
    if Tag.GEO_KEYS not in tags:
        return None
    table = _numbers(tags, Tag.GEO_KEYS)
    if len(table) < 4 or len(table) < 4 * (1 + int(table[3])):
        raise UnsupportedFileError("a cut table of GeoTIFF keys")
    rows = table[4 : 4 * (1 + int(table[3]))].reshape(-1, 4)
    # Rows are (key, where the value stands, count, value); 0 means the value stands in the row itself.
    keys = {int(key): int(value) for key, place, _, value in rows if place == 0}
    code = _epsg(keys)
    vertical = any(int(key) in _VERTICAL_KEYS for key in rows[:, 0])
    if code is None or vertical or keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:
        raise UnsupportedFileError("a CRS without a plain EPSG code")
    return f"EPSG:{code}"


def _epsg(keys: dict[int, int]) -> int | None:
    if keys.get(_MODEL_TYPE) == _PROJECTED and keys.get(_LINEAR_UNITS, _METRE) == _METRE:
        code = keys.get(_PROJECTED_CODE)
    elif keys.get(_MODEL_TYPE) == _GEOGRAPHIC:
        code = keys.get(_GEOGRAPHIC_CODE)
    else:
        code = None
    return code if code in _EPSG_CODES else None


def _transform(tags: Tags) -> Affine:
    if Tag.MODEL_TRANSFORMATION in tags or Tag.MODEL_TIEPOINT not in tags or Tag.MODEL_PIXEL_SCALE not in tags:
        raise UnsupportedFileError("a georeference other than one tie point and a pixel size")
    scale = [float(value) for value in _numbers(tags, Tag.MODEL_PIXEL_SCALE)]
    tie = [float(value) for value in _numbers(tags, Tag.MODEL_TIEPOINT)]
    if len(scale) < 2 or len(tie) != 6:
        raise UnsupportedFileError("a georeference other than one tie point and a pixel size")
    col, row, _, x, y, _ = tie
    return (scale[0], 0.0, x - col * scale[0], 0.0, -scale[1], y + row * scale[1])


def _nodata(tags: Tags) -> float | None:
    value = tags.get(Tag.GDAL_NODATA)
    if not isinstance(value, bytes):
        return None
    text = value.decode("latin-1").strip("\x00 ")
    try:
        return float(text) if text else None
    except ValueError as error:
        raise UnsupportedFileError(f"nodata {text!r}") from error
