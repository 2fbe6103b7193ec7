"""What async-tiff says about a file, turned into plain arrays, or a refusal that sends the file to rasterio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from async_tiff import TIFF, GeoKeyDirectory, ImageFileDirectory
from async_tiff.enums import Endianness, PlanarConfiguration, SampleFormat

from farm_intel.engine.blocks import BandHeader
from farm_intel.providers.blocks.decode import DEFLATE_CODES
from farm_intel.providers.blocks.headers import Affine, checked_grid
from farm_intel.providers.blocks.source import RangeSource

PREFETCH_BYTES = 32768
"""One request covers the header of a 10980 x 10980 COG with 512 blocks and overviews."""

_DTYPES: dict[tuple[SampleFormat, int], np.dtype[Any]] = {
    (SampleFormat.Uint, 8): np.dtype("u1"),
    (SampleFormat.Uint, 16): np.dtype("<u2"),
    (SampleFormat.Int, 16): np.dtype("<i2"),
}
_REDUCED, _MASK = 1, 4
_PROJECTED, _GEOGRAPHIC, _PIXEL_IS_POINT, _METRE = 1, 2, 2, 9001
_EPSG_CODES = range(1024, 32767)
"""GeoTIFF 1.1: 32767 is user-defined, lower codes are reserved."""


class UnsupportedFileError(Exception):
    """The fast path does not know this kind of file; rasterio may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One image of the file: full resolution or an overview."""

    width_px: int
    height_px: int
    block_width_px: int
    block_height_px: int
    dtype: np.dtype[Any]
    compression: int
    predictor: int
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
    try:
        tiff = await TIFF.open(source.location.path, store=source, prefetch=PREFETCH_BYTES)
    except Exception as error:
        # async-tiff 0.7 exports no name for its one exception; whatever else comes is not ours to judge.
        if type(error).__name__ != "AsyncTiffException":
            raise
        if source.failure is not None:
            raise source.failure from error
        raise UnsupportedFileError(f"async-tiff cannot read the header ({error})") from error
    if tiff.endianness != Endianness.LittleEndian:
        raise UnsupportedFileError("big-endian")
    main, *others = tiff.ifds
    kinds = [image.new_subfile_type or 0 for image in others]
    if any(kind & _MASK for kind in kinds):
        raise UnsupportedFileError("a mask band")
    levels = [_level(main)] + [_level(image) for image, kind in zip(others, kinds, strict=True) if kind & _REDUCED]
    full = levels[0]
    grid = checked_grid(source.ref, _crs(main), _transform(main), width_px=full.width_px, height_px=full.height_px)
    band = BandHeader(
        grid=grid,
        block_height_px=full.block_height_px,
        block_width_px=full.block_width_px,
        dtype=full.dtype,
        nodata=_nodata(main),
    )
    return TiffHeader(band=band, levels=tuple(levels))


def _level(image: ImageFileDirectory) -> Level:
    width, height = image.tile_width, image.tile_height
    if not width or not height or image.tile_offsets is None or image.tile_byte_counts is None:
        raise UnsupportedFileError("strips instead of tiles")
    if image.samples_per_pixel != 1 or image.planar_configuration not in tuple(PlanarConfiguration):
        raise UnsupportedFileError(f"{image.samples_per_pixel} samples per pixel")
    compression = int(image.compression)
    predictor = int(image.predictor or 1)
    if compression not in DEFLATE_CODES | {1} or predictor not in {1, 2}:
        raise UnsupportedFileError(f"compression {compression} with predictor {predictor}")
    bits = image.bits_per_sample[0]
    dtype = _DTYPES.get((image.sample_format[0], bits))
    if dtype is None:
        raise UnsupportedFileError(f"{bits}-bit samples of format {image.sample_format[0]}")
    shape = (-(-image.image_height // height), -(-image.image_width // width))
    if len(image.tile_offsets) != shape[0] * shape[1]:
        raise UnsupportedFileError("a block table of unexpected length")
    return Level(
        width_px=image.image_width,
        height_px=image.image_height,
        block_width_px=width,
        block_height_px=height,
        dtype=dtype,
        compression=compression,
        # A predictor tag has no meaning without compression (TIFF 6.0, section 14; GDAL ignores it too).
        predictor=predictor if compression != 1 else 1,
        offsets=np.array(image.tile_offsets, np.int64).reshape(shape),
        sizes=np.array(image.tile_byte_counts, np.int64).reshape(shape),
    )


def _crs(image: ImageFileDirectory) -> str | None:
    """Return `EPSG:n`, None without any georeference; anything that needs PROJ to name it goes to rasterio."""
    keys = image.geo_key_directory
    if keys is None:
        return None
    code = _epsg(keys)
    if code is None or keys.raster_type == _PIXEL_IS_POINT or keys.vertical is not None:
        raise UnsupportedFileError("a CRS without a plain EPSG code")
    return f"EPSG:{code}"


def _epsg(keys: GeoKeyDirectory) -> int | None:
    if keys.model_type == _PROJECTED and keys.proj_linear_units in {None, _METRE}:
        code = keys.projected_type
    elif keys.model_type == _GEOGRAPHIC:
        code = keys.geographic_type
    else:
        code = None
    return code if code in _EPSG_CODES else None


def _transform(image: ImageFileDirectory) -> Affine:
    scale, tie = image.model_pixel_scale, image.model_tiepoint
    if image.model_transformation is not None or scale is None or tie is None or len(tie) != 6:
        raise UnsupportedFileError("a georeference other than one tie point and a pixel size")
    col, row, _, x, y, _ = tie
    return (scale[0], 0.0, x - col * scale[0], 0.0, -scale[1], y + row * scale[1])


def _nodata(image: ImageFileDirectory) -> float | None:
    text = image.gdal_nodata
    if text is None or not text.strip("\x00 "):
        return None
    try:
        return float(text.strip("\x00 "))
    except ValueError as error:
        raise UnsupportedFileError(f"nodata {text!r}") from error
