"""Landsat Collection 2 Level 2 surface reflectance (Landsat 5, 7, 8, 9) as each catalogue serves it.

Facts: USGS "Landsat 8-9 Collection 2 (C2) Level 2 Science Product Guide" (LSDS-1619) and "Landsat 4-7 C2 L2 Science
Product Guide" (LSDS-1618) for scale, fill and quality bits; recorded items of the Planetary Computer, Earth Search and
USGS landsatlook for keys and hrefs. The common names hide that the sensors number their bands differently.
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

PIXEL_QUALITY = MaskRule(
    band="qa_pixel",
    bits=16,
    # First match wins: fill says that nothing was measured, the clouds come before what lies under them. Bit 7, water,
    # stays valid as in the Sentinel-2 rule. Bit 5 meant cloud in Collection 1 and means snow here.
    flags=(
        (1 << 0, PixelReason.NODATA),
        (1 << 3, PixelReason.CLOUD),
        (1 << 2, PixelReason.CLOUD),
        (1 << 4, PixelReason.SHADOW),
        (1 << 1, PixelReason.NEAR_CLOUD),
        (1 << 5, PixelReason.SNOW),
    ),
)
"""QA_PIXEL: bits 0 fill, 1 dilated cloud, 2 cirrus (Landsat 8 and 9), 3 cloud, 4 cloud shadow, 5 snow."""

SATURATION = MaskRule(
    band="qa_radsat",
    bits=16,
    # Bits 0-6 are bands 1-7 of any of the sensors. One saturated band makes the pixel suspect for every index: over
    # fields it means cloud or glint that the other rule missed.
    flags=((1 << 9, PixelReason.NODATA), (0b111_1111, PixelReason.SATURATED), (1 << 11, PixelReason.SHADOW)),
)
"""QA_RADSAT: bits 0-6 saturation, 9 dropped pixel (Landsat 5 and 7), 11 terrain occlusion (Landsat 8 and 9)."""

_KEYS = ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22", "qa_pixel", "qa_radsat")
_RADIOMETRY = RadiometryRule(scale=2.75e-05, offset=-0.2, offset_rule=OffsetRule.FIXED, nodata=0)
_VALID_DN = (1, 65455)
"""LSDS-1619, table of surface reflectance specifications."""


def _row(dialect: str, collection: str, title: str, access: AccessKind, source: str) -> CollectionProfile:
    return CollectionProfile(
        dialect=dialect,
        collection=collection,
        version="1",
        title=f"Landsat Collection 2 Level 2, {title}",
        assets=MappingProxyType({key: key for key in _KEYS}),
        radiometry=_RADIOMETRY,
        mask=PIXEL_QUALITY,
        more_masks=(SATURATION,),
        valid_dn=_VALID_DN,
        gsd_m=30.0,
        access=access,
        href_path=("alternate", "s3", "href") if dialect == "usgs" else ("href",),
        # Real time (RT) items are replaced by tier 1 or 2; after that the later update is the better calibration.
        newest_by=("landsat:collection_category", "updated", "created"),
        tile_properties=("landsat:wrs_path", "grid:code"),
        source=source,
    )


ROWS: tuple[CollectionProfile, ...] = (
    _row(
        "planetary-computer",
        "landsat-c2-l2",
        "Planetary Computer",
        AccessKind.PLANETARY_COMPUTER,
        "https://planetarycomputer.microsoft.com/dataset/landsat-c2-l2",
    ),
    _row(
        "earth-search",
        "landsat-c2-l2",
        "Earth Search v1 (requester pays)",
        AccessKind.S3,
        "https://earth-search.aws.element84.com/v1/collections/landsat-c2-l2",
    ),
    _row(
        "usgs",
        "landsat-c2l2-sr",
        "USGS landsatlook (requester pays; https hrefs there need a login, so the s3 alternates are used)",
        AccessKind.S3,
        "https://landsatlook.usgs.gov/stac-server/collections/landsat-c2l2-sr",
    ),
)
