"""Harmonized Landsat Sentinel-2 (HLS) version 2.0, its Landsat and its Sentinel-2 part, in the Planetary Computer.

Facts: HLS Product User Guide 2.0 (bands, scale, Fmask bits). The same key is another band in the two parts: B05 is the
near infrared of L30 and a red edge of S30, whose harmonised near infrared is B8A. Hence one row each.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from farm_intel.domain.products import (
    AccessKind,
    CollectionProfile,
    MaskRule,
    OffsetRule,
    PixelReason,
    RadiometryRule,
)

FMASK = MaskRule(
    band="fmask",
    bits=8,
    fields=(
        (0xFF, 0xFF, PixelReason.NODATA),
        (1 << 1, 1 << 1, PixelReason.CLOUD),
        (1 << 3, 1 << 3, PixelReason.SHADOW),
        (1 << 2, 1 << 2, PixelReason.NEAR_CLOUD),
        (1 << 4, 1 << 4, PixelReason.SNOW),
    ),
)
"""Fmask: bits 1 cloud, 2 next to cloud or shadow, 3 cloud shadow, 4 snow, 5 water (valid), 6-7 aerosol; 255 fill."""


def _row(collection: str, title: str, assets: Mapping[str, str]) -> CollectionProfile:
    return CollectionProfile(
        dialect="planetary-computer",
        collection=collection,
        version="1",
        title=f"Harmonized Landsat Sentinel-2, {title}, Planetary Computer",
        assets=MappingProxyType({**assets, "fmask": "Fmask"}),
        radiometry=RadiometryRule(scale=1e-4, offset=0.0, offset_rule=OffsetRule.FIXED, nodata=-9999),
        mask=FMASK,
        gsd_m=30.0,
        # Both parts are on the scale of Landsat's imager: S30 is bandpass-adjusted to it by the producer.
        sensor="oli",
        access=AccessKind.PLANETARY_COMPUTER,
        newest_by=("updated", "created"),
        tile_properties=("grid:code",),
        source=f"https://planetarycomputer.microsoft.com/dataset/{collection}",
    )


_VISIBLE = {"coastal": "B01", "blue": "B02", "green": "B03", "red": "B04"}

ROWS: tuple[CollectionProfile, ...] = (
    _row("hls2-l30", "Landsat part", {**_VISIBLE, "nir08": "B05", "swir16": "B06", "swir22": "B07"}),
    _row(
        "hls2-s30",
        "Sentinel-2 part",
        # The broad B08 is left out: it has no counterpart in L30 and is not harmonised.
        {
            **_VISIBLE,
            "rededge071": "B05",
            "rededge075": "B06",
            "rededge078": "B07",
            "nir08": "B8A",
            "swir16": "B11",
            "swir22": "B12",
        },
    ),
)
