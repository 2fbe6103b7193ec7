"""MODIS Collection 6.1 composites as the Planetary Computer serves them: 8-day surface reflectance, 16-day VI product.

Facts: MOD09 User's Guide 1.4 (bands, valid range, state bits), MOD13 User's Guide (pixel reliability, composite day),
the collections' item assets in microsoft/planetary-computer-tasks. Items declare scale but no nodata; their projection
is WKT only (sinusoidal, sphere of 6371007.181 m), their `datetime` is null.
"""

from __future__ import annotations

from types import MappingProxyType

from farm_intel.domain.products import (
    AccessKind,
    CollectionProfile,
    MaskRule,
    OffsetRule,
    PixelReason,
    RadiometryRule,
)

STATE_500M = MaskRule(
    band="state",
    bits=16,
    fields=(
        (0xFFFF, 0xFFFF, PixelReason.NODATA),
        (0b11, 1, PixelReason.CLOUD),
        (0b11, 2, PixelReason.CLOUD),
        (1 << 10, 1 << 10, PixelReason.CLOUD),
        # Cirrus 1 is "small", which the guide calls usable; 2 and 3 are average and high.
        (0b11 << 8, 2 << 8, PixelReason.CLOUD),
        (0b11 << 8, 3 << 8, PixelReason.CLOUD),
        (1 << 2, 1 << 2, PixelReason.SHADOW),
        (1 << 13, 1 << 13, PixelReason.NEAR_CLOUD),
        (1 << 12, 1 << 12, PixelReason.SNOW),
        (1 << 15, 1 << 15, PixelReason.SNOW),
    ),
)
"""State flags: bits 0-1 cloud (0 clear, 1 cloudy, 2 mixed, 3 not set and taken for clear), 2 shadow, 8-9 cirrus,
10 internal cloud, 12 and 15 snow, 13 next to cloud."""

PIXEL_RELIABILITY = MaskRule(
    band="pixel_reliability",
    bits=8,
    # -1 is fill and reads 255 in unsigned files; either way it is "otherwise", nodata.
    reasons=MappingProxyType(
        {0: PixelReason.VALID, 1: PixelReason.VALID, 2: PixelReason.SNOW, 3: PixelReason.CLOUD},
    ),
)
"""0 good, 1 marginal (usable), 2 snow or ice, 3 cloudy."""

ROWS: tuple[CollectionProfile, ...] = (
    CollectionProfile(
        dialect="planetary-computer",
        collection="modis-09A1-061",
        version="1",
        title="MODIS surface reflectance, best pixels of 8 days, 500 m, Planetary Computer",
        assets=MappingProxyType(
            {
                "red": "sur_refl_b01",
                # 841-876 nm: the narrow near infrared, as nir08 of Sentinel-2 and Landsat.
                "nir08": "sur_refl_b02",
                "blue": "sur_refl_b03",
                "green": "sur_refl_b04",
                "swir16": "sur_refl_b06",
                "swir22": "sur_refl_b07",
                "state": "sur_refl_state_500m",
                "day_of_year": "sur_refl_day_of_year",
            }
        ),
        radiometry=RadiometryRule(scale=1e-4, offset=0.0, offset_rule=OffsetRule.FIXED, nodata=-28672),
        mask=STATE_500M,
        valid_dn=(-100, 16000),
        gsd_m=463.312717,
        composite_days=8,
        day_band="day_of_year",
        sensor="modis",
        access=AccessKind.PLANETARY_COMPUTER,
        newest_by=("updated", "created"),
        tile_properties=("modis:horizontal-tile",),
        source="https://planetarycomputer.microsoft.com/dataset/modis-09A1-061",
    ),
    CollectionProfile(
        dialect="planetary-computer",
        collection="modis-13Q1-061",
        version="1",
        title="MODIS vegetation index product's reflectances, best pixels of 16 days, 250 m, Planetary Computer",
        # The product's own NDVI and EVI are not read: an index is computed by one formula everywhere.
        assets=MappingProxyType(
            {
                "red": "250m_16_days_red_reflectance",
                "nir08": "250m_16_days_NIR_reflectance",
                "blue": "250m_16_days_blue_reflectance",
                "swir22": "250m_16_days_MIR_reflectance",
                "pixel_reliability": "250m_16_days_pixel_reliability",
                "day_of_year": "250m_16_days_composite_day_of_the_year",
            }
        ),
        radiometry=RadiometryRule(scale=1e-4, offset=0.0, offset_rule=OffsetRule.FIXED, nodata=-1000),
        mask=PIXEL_RELIABILITY,
        valid_dn=(0, 10000),
        gsd_m=231.656358,
        composite_days=16,
        day_band="day_of_year",
        sensor="modis",
        access=AccessKind.PLANETARY_COMPUTER,
        newest_by=("updated", "created"),
        tile_properties=("modis:horizontal-tile",),
        source="https://planetarycomputer.microsoft.com/dataset/modis-13Q1-061",
    ),
)
