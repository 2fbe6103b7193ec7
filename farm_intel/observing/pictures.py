"""Small pictures of what was observed: sparklines as PNG and as text, thumbnails of rasters; and the season plot.

Events and terminals carry these by the hundred, so they are drawn by Pillow in about a millisecond and kept to a few
kilobytes; only the season plot pays for matplotlib.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import StoreError
from farm_intel.domain.observations import Observation, ObservationKey, ObservationStatus
from farm_intel.domain.ports import ObservationStore
from farm_intel.domain.publication import RasterEncoding
from farm_intel.observing.model import CellOutcome
from farm_intel.observing.season_plot import CAUTION_FLAGS, season_plot

if TYPE_CHECKING:
    from PIL import Image

    from farm_intel.indices.index import SpectralIndex
    from farm_intel.indices.interpretation import ColourMap
    from farm_intel.indices.registry import IndexRegistry

__all__ = ["CellPictures", "season_plot", "sparkline_png", "sparkline_text", "thumbnail"]

BLOCKS = "▁▂▃▄▅▆▇█"
GAP = "·"
FEWEST_POINTS = 2
"""A sparkline of one point says nothing."""

_SUPERSAMPLING = 2
_COLOUR_STEPS = 31
"""Colours of a thumbnail; with the transparent one they fit 5 bits, and nobody sees the difference."""
_THUMBNAIL_EDGES_PX = (160, 128, 96, 64, 48, 32)
_SMALLEST_SHOWN_PX = 96
"""Smaller rasters are enlarged by whole numbers, so that pixels stay squares."""
_INK, _QUIET = (34, 48, 60), (150, 160, 170)


def sparkline_text(values: Sequence[float | None], display_range: tuple[float, float] | None = None) -> str:
    """Return one block character per value, `·` where there is none.

    Args:
        values: in the order of time; None or NaN is a gap.
        display_range: value of the lowest and the highest block; default the smallest and largest value.

    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return GAP * len(values)
    low, high = display_range or (min(known), max(known))
    top = len(BLOCKS) - 1

    def block(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return GAP
        share = (value - low) / (high - low) if high > low else 0.5
        return BLOCKS[round(min(max(share, 0.0), 1.0) * top)]

    return "".join(block(value) for value in values)


def sparkline_png(
    observations: Sequence[Observation], index: SpectralIndex, *, width_px: int = 280, height_px: int = 64
) -> bytes | None:
    """Return the series as a small PNG in the index's colours, the last value written beside it.

    Days are spaced as on a calendar; hollow dots carry a flag. None while fewer than two days have a number.
    """
    from PIL import Image, ImageDraw, ImageFont

    seen = sorted(
        (o for o in observations if o.status is ObservationStatus.OBSERVED and o.statistics is not None),
        key=lambda o: o.key.solar_day,
    )
    if len(seen) < FEWEST_POINTS:
        return None
    means = np.array([o.statistics.mean for o in seen if o.statistics is not None])
    days = np.array([o.key.solar_day.toordinal() for o in seen], np.float64)
    scale, pad, words_px = _SUPERSAMPLING, 5, 46
    low, high = _sparkline_range(means, index.display_range)
    x = (pad + (days - days[0]) / max(days[-1] - days[0], 1.0) * (width_px - 2 * pad - words_px)) * scale
    y = (height_px - pad - (means - low) / (high - low) * (height_px - 2 * pad)) * scale
    colours = index.colour_map.rgb(means)
    image = Image.new("RGB", (width_px * scale, height_px * scale), "white")
    draw = ImageDraw.Draw(image)
    draw.line(
        [(pad * scale, y0 := (height_px - pad) * scale), ((width_px - words_px) * scale, y0)], (228, 232, 236), scale
    )
    points = [(float(px), float(py)) for px, py in zip(x, y, strict=True)]
    draw.line(points, (120, 135, 150), scale, joint="curve")
    for k, (px, py) in enumerate(points):
        hollow = any(flag in CAUTION_FLAGS for flag in seen[k].flags)
        radius = (3.4 if k == len(points) - 1 else 2.3) * scale
        fill = (255, 255, 255) if hollow else tuple(int(channel) for channel in colours[k])
        draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill, _INK, int(0.7 * scale))
    small = image.reduce(scale)
    words = ImageDraw.Draw(small)
    font = ImageFont.load_default(size=14)
    words.text((width_px - words_px + 4, height_px / 2), f"{means[-1]:.2f}", _INK, font, anchor="lm")
    return _png(small.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))


def _sparkline_range(means: npt.NDArray[np.float64], display_range: tuple[float, float]) -> tuple[float, float]:
    """Return the values' own range, at least a third of the display range, so that noise stays small."""
    low, high = float(means.min()), float(means.max())
    lacking = max(0.0, (display_range[1] - display_range[0]) / 3 - (high - low))
    return low - lacking / 2, high + lacking / 2


def thumbnail(
    content: bytes, band: int, encoding: RasterEncoding, colour_map: ColourMap, *, name: str, max_bytes: int = 3_000
) -> bytes:
    """Return a raster band in colours as PNG; what has no value is transparent.

    Args:
        content: of a raster we published.
        band: 1-based.
        encoding: value = data * scale + offset.
        colour_map: the index's colours.
        name: the raster's, for the error.
        max_bytes: large farms are drawn smaller until the PNG fits; the smallest is returned even if it does not.

    Raises:
        StoreError: the raster cannot be read.

    """
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    png = b""
    try:
        with MemoryFile(content) as file, file.open(driver="GTiff") as dataset:
            longest = max(dataset.height, dataset.width)
            for edge in _THUMBNAIL_EDGES_PX:
                shrink = max(1.0, longest / edge)
                if png and shrink == 1.0:
                    continue
                shape = (max(1, round(dataset.height / shrink)), max(1, round(dataset.width / shrink)))
                data = dataset.read(band, out_shape=shape, masked=True, resampling=Resampling.average)
                values = np.ma.filled(data.astype(np.float64) * encoding.scale + encoding.offset, np.nan)
                png = _paint(values, colour_map)
                if len(png) <= max_bytes:
                    break
    except (RasterioError, OSError, IndexError) as error:
        raise StoreError(f"raster {name}, band {band}, cannot be drawn: {error}") from error
    return png


def _paint(values: npt.NDArray[np.float64], colour_map: ColourMap) -> bytes:
    """Return (h, w) values as a palette PNG, NaN transparent, small ones enlarged."""
    from PIL import Image

    low, high = colour_map.stops[0][0], colour_map.stops[-1][0]
    levels = np.linspace(low, high, _COLOUR_STEPS)
    empty = np.isnan(values)
    steps = np.clip(
        np.rint((np.where(empty, low, values) - low) / (high - low) * (_COLOUR_STEPS - 1)), 0, _COLOUR_STEPS - 1
    )
    codes = np.where(empty, _COLOUR_STEPS, steps).astype(np.uint8)
    image = Image.fromarray(codes)
    palette = np.vstack([colour_map.rgb(levels), [[255, 255, 255]]]).astype(np.uint8)
    image.putpalette(palette.ravel().tolist())
    factor = -(-_SMALLEST_SHOWN_PX // max(values.shape))
    if factor > 1:
        image = image.resize((values.shape[1] * factor, values.shape[0] * factor), Image.Resampling.NEAREST)
    return _png(image, transparency=_COLOUR_STEPS)


def _png(image: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6, bits=8, **options)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class CellPictures:
    """Draws what a cell's event shows."""

    registry: IndexRegistry
    store: ObservationStore
    raster: Callable[[str], bytes]
    """Returns a stored raster's content from its path relative to the raster root."""

    def thumbnail(self, outcome: CellOutcome) -> bytes | None:
        """Return the cell's raster in the index's colours, or None where there is nothing to show."""
        if outcome.raster_path is None or outcome.raster_band is None or outcome.statistics is None:
            return None
        index = self.registry.get(outcome.key.index)
        content = self.raster(outcome.raster_path)
        return thumbnail(content, outcome.raster_band, index.encoding, index.colour_map, name=outcome.raster_path)

    def sparkline(self, key: ObservationKey) -> bytes | None:
        """Return the stored series of the cell's farm and index up to its day, or None while it is too short."""
        series = self.store.observations(
            farm_ids=[key.farm_id],
            indices=[key.index],
            provider=key.provider,
            collection=key.collection,
            end=key.solar_day,
            statuses=[ObservationStatus.OBSERVED],
        )
        return sparkline_png(list(series), self.registry.get(key.index))
