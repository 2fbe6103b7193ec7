"""What Google Earth Engine serves: one row per product, and which image collections make it up.

Facts: google/earthengine-catalog (COPERNICUS_S2_SR_HARMONIZED, LANDSAT/LC08_C02_T1_L2 and siblings, MODIS/MOD09GA) and
USGS "Landsat 8-9 Collection 2 Level 2 Science Product Guide" for QA_PIXEL and QA_RADSAT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from farm_intel.domain.products import (
    AccessKind,
    CollectionProfile,
    OffsetRule,
    RadiometryRule,
)
from farm_intel.providers.collections.landsat import PIXEL_QUALITY, SATURATION
from farm_intel.providers.collections.modis import STATE_500M
from farm_intel.providers.collections.sentinel2 import SCENE_CLASSIFICATION

DIALECT = "earth-engine"

MODIS_TILES_ACROSS = 36
"""MODIS images are global mosaics of 36 x 18 sinusoidal tiles; each tile becomes a scene of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCollection:
    """One Earth Engine image collection that is part of a product row."""

    asset_id: str
    assets: Mapping[str, str]
    """Common name -> band id."""
    platform_property: str = ""
    """Image property that names the platform; empty where all images have `platform`."""
    platform: str = ""
    tile_properties: tuple[str, ...] = ()
    """Properties that make up the tile name, joined, each padded to three digits if a number."""
    baseline_property: str = ""
    overpass_solar_hour: float | None = None
    """Of images that carry only a day: mean local solar time of the overpass."""
    tiled: bool = False
    """The image is a global mosaic that is to be cut into MODIS tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandFill:
    """How a masked pixel of a band is written, and the type the band has."""

    dtype: str
    fill: int


_S2_ASSETS = MappingProxyType(
    {
        "coastal": "B1",
        "blue": "B2",
        "green": "B3",
        "red": "B4",
        "rededge071": "B5",
        "rededge075": "B6",
        "rededge078": "B7",
        "nir": "B8",
        "nir08": "B8A",
        "nir09": "B9",
        "swir16": "B11",
        "swir22": "B12",
        "scl": "SCL",
    }
)
_OLI_ASSETS = MappingProxyType(
    {
        "coastal": "SR_B1",
        "blue": "SR_B2",
        "green": "SR_B3",
        "red": "SR_B4",
        "nir08": "SR_B5",
        "swir16": "SR_B6",
        "swir22": "SR_B7",
        "qa_pixel": "QA_PIXEL",
        "qa_radsat": "QA_RADSAT",
    }
)
_TM_ASSETS = MappingProxyType(
    {
        "blue": "SR_B1",
        "green": "SR_B2",
        "red": "SR_B3",
        "nir08": "SR_B4",
        "swir16": "SR_B5",
        "swir22": "SR_B7",
        "qa_pixel": "QA_PIXEL",
        "qa_radsat": "QA_RADSAT",
    }
)
_MODIS_ASSETS = MappingProxyType(
    {
        "red": "sur_refl_b01",
        "nir08": "sur_refl_b02",
        "blue": "sur_refl_b03",
        "green": "sur_refl_b04",
        "swir16": "sur_refl_b06",
        "swir22": "sur_refl_b07",
        "state": "state_1km",
    }
)

_LANDSAT_TILE = ("WRS_PATH", "WRS_ROW")


def _landsat(number: int, sensor_code: str, assets: Mapping[str, str]) -> ImageCollection:
    return ImageCollection(
        asset_id=f"LANDSAT/{sensor_code}/C02/T1_L2",
        assets=assets,
        platform_property="SPACECRAFT_ID",
        platform=f"landsat-{number}",
        tile_properties=_LANDSAT_TILE,
    )


IMAGE_COLLECTIONS: Mapping[str, tuple[ImageCollection, ...]] = MappingProxyType(
    {
        "COPERNICUS/S2_SR_HARMONIZED": (
            ImageCollection(
                asset_id="COPERNICUS/S2_SR_HARMONIZED",
                assets=_S2_ASSETS,
                platform_property="SPACECRAFT_NAME",
                tile_properties=("MGRS_TILE",),
                baseline_property="PROCESSING_BASELINE",
            ),
        ),
        "landsat-c2-l2": (
            _landsat(9, "LC09", _OLI_ASSETS),
            _landsat(8, "LC08", _OLI_ASSETS),
            _landsat(7, "LE07", _TM_ASSETS),
            _landsat(5, "LT05", _TM_ASSETS),
        ),
        "MODIS/061/MOD09GA": (
            ImageCollection(
                asset_id="MODIS/061/MOD09GA",
                assets=_MODIS_ASSETS,
                platform="terra",
                overpass_solar_hour=10.5,
                tiled=True,
            ),
        ),
    }
)
"""Collection of a row -> the image collections searched for it."""

BAND_FILLS: Mapping[str, Mapping[str, BandFill]] = MappingProxyType(
    {
        "COPERNICUS/S2_SR_HARMONIZED": MappingProxyType(
            {"": BandFill(dtype="uint16", fill=0), "scl": BandFill(dtype="uint8", fill=0)}
        ),
        "landsat-c2-l2": MappingProxyType(
            {
                "": BandFill(dtype="uint16", fill=0),
                "qa_pixel": BandFill(dtype="uint16", fill=1),
                "qa_radsat": BandFill(dtype="uint16", fill=0),
            }
        ),
        "MODIS/061/MOD09GA": MappingProxyType(
            {"": BandFill(dtype="int16", fill=-28672), "state": BandFill(dtype="uint16", fill=0xFFFF)}
        ),
    }
)
"""Collection -> common name -> fill; the empty name stands for every reflectance band.

Earth Engine hands out masked pixels as zero, which for most bands is a measurement: each band's mask is written as a
value its product never holds, or that its mask rule calls nodata.
"""

ROWS: tuple[CollectionProfile, ...] = (
    CollectionProfile(
        dialect=DIALECT,
        collection="COPERNICUS/S2_SR_HARMONIZED",
        version="1",
        title="Sentinel-2 Level 2A, harmonised, Google Earth Engine (offset removed from every scene)",
        assets=_S2_ASSETS,
        radiometry=RadiometryRule(scale=1e-4, offset=0.0, offset_rule=OffsetRule.FIXED, nodata=0),
        mask=SCENE_CLASSIFICATION,
        gsd_m=10.0,
        sensor="msi",
        access=AccessKind.EARTH_ENGINE,
        newest_by=("PROCESSING_BASELINE", "GENERATION_TIME"),
        source="https://developers.google.com/earth-engine/datasets/catalog/COPERNICUS_S2_SR_HARMONIZED",
    ),
    CollectionProfile(
        dialect=DIALECT,
        collection="landsat-c2-l2",
        version="1",
        title="Landsat 5, 7, 8, 9 Collection 2 Level 2 surface reflectance (tier 1), Google Earth Engine",
        assets=_OLI_ASSETS,
        radiometry=RadiometryRule(scale=2.75e-5, offset=-0.2, offset_rule=OffsetRule.FIXED, nodata=0),
        mask=PIXEL_QUALITY,
        more_masks=(SATURATION,),
        valid_dn=(1, 65455),
        gsd_m=30.0,
        access=AccessKind.EARTH_ENGINE,
        newest_by=("PROCESSING_SOFTWARE_VERSION", "L1_DATE_PRODUCT_GENERATED"),
        tile_properties=_LANDSAT_TILE,
        source="https://developers.google.com/earth-engine/datasets/catalog/LANDSAT_LC08_C02_T1_L2",
    ),
    CollectionProfile(
        dialect=DIALECT,
        collection="MODIS/061/MOD09GA",
        version="1",
        title="MODIS Terra daily surface reflectance 500 m (MOD09GA 6.1), Google Earth Engine",
        assets=_MODIS_ASSETS,
        radiometry=RadiometryRule(scale=1e-4, offset=0.0, offset_rule=OffsetRule.FIXED, nodata=-28672),
        mask=STATE_500M,
        gsd_m=463.3127165,
        valid_dn=(-100, 16000),
        sensor="modis",
        access=AccessKind.EARTH_ENGINE,
        source="https://developers.google.com/earth-engine/datasets/catalog/MODIS_061_MOD09GA",
    ),
)
