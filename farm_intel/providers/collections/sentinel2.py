"""Sentinel-2 Level 2A as each catalogue serves it: one row per catalogue and collection.

Facts: recorded items of Earth Search v1, Planetary Computer and CDSE; ESA "Sentinel-2 Products Specification" for the
scene classification and for the additive offset of -1000 digital numbers from processing baseline 04.00 on.
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

SCENE_CLASSIFICATION = MaskRule(
    band="scl",
    bits=8,
    reasons=MappingProxyType(
        {
            0: PixelReason.NODATA,
            1: PixelReason.SATURATED,
            2: PixelReason.DARK,
            3: PixelReason.SHADOW,
            4: PixelReason.VALID,
            5: PixelReason.VALID,
            # Water is an observation, not a hole: water indices are about nothing else, and a flooded field is news.
            6: PixelReason.VALID,
            # "Unclassified" is where the classifier found neither land nor cloud to be likely: in practice cloud edges,
            # haze and bright roofs. We leave it out: a lost pixel costs precision and is reported, a hazy one biases.
            7: PixelReason.UNCLASSIFIED,
            8: PixelReason.CLOUD,
            9: PixelReason.CLOUD,
            10: PixelReason.CLOUD,
            11: PixelReason.SNOW,
        },
    ),
)
"""Scene classification layer (SCL) -> reason; 8 and 9 are clouds of medium and high probability, 10 is thin cirrus."""

_EARTH_SEARCH_ASSETS = {
    "coastal": "coastal",
    "blue": "blue",
    "green": "green",
    "red": "red",
    "rededge071": "rededge1",
    "rededge075": "rededge2",
    "rededge078": "rededge3",
    "nir": "nir",
    "nir08": "nir08",
    "nir09": "nir09",
    "swir16": "swir16",
    "swir22": "swir22",
    "scl": "scl",
}
_BAND_NUMBERS = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "swir16": "B11",
    "swir22": "B12",
    "scl": "SCL",
}
_NATIVE_M = {
    "coastal": 60,
    "blue": 10,
    "green": 10,
    "red": 10,
    "rededge071": 20,
    "rededge075": 20,
    "rededge078": 20,
    "nir": 10,
    "nir08": 20,
    "nir09": 60,
    "swir16": 20,
    "swir22": 20,
    "scl": 20,
}
"""Ground sample distance each band is measured at; CDSE also offers resampled copies, which say nothing new."""


def _radiometry(rule: OffsetRule) -> RadiometryRule:
    return RadiometryRule(scale=1e-4, offset=-0.1, offset_rule=rule, nodata=0, probe=True)


_EARTH_SEARCH_ORDER = ("s2:processing_baseline", "s2:generation_time", "s2:sequence", "updated")

ROWS: tuple[CollectionProfile, ...] = (
    CollectionProfile(
        dialect="earth-search",
        collection="sentinel-2-l2a",
        version="1",
        title="Sentinel-2 Level 2A, Earth Search v1 (offset removed from most scenes, metadata or not)",
        assets=MappingProxyType(_EARTH_SEARCH_ASSETS),
        radiometry=_radiometry(OffsetRule.FLAG),
        mask=SCENE_CLASSIFICATION,
        gsd_m=10.0,
        newest_by=_EARTH_SEARCH_ORDER,
        source="https://earth-search.aws.element84.com/v1; Element84/earth-search README, issues 66 and 71",
    ),
    CollectionProfile(
        dialect="earth-search",
        collection="sentinel-2-c1-l2a",
        version="1",
        title="Sentinel-2 Collection 1 Level 2A, Earth Search v1 (offset left in the pixels and declared)",
        assets=MappingProxyType(_EARTH_SEARCH_ASSETS),
        radiometry=_radiometry(OffsetRule.DECLARED),
        mask=SCENE_CLASSIFICATION,
        gsd_m=10.0,
        newest_by=_EARTH_SEARCH_ORDER,
        source="https://earth-search.aws.element84.com/v1; Element84/earth-search README",
    ),
    CollectionProfile(
        dialect="earth-search",
        collection="sentinel-2-pre-c1-l2a",
        version="1",
        title="Sentinel-2 Level 2A before Collection 1, Earth Search v1",
        assets=MappingProxyType(_EARTH_SEARCH_ASSETS),
        radiometry=_radiometry(OffsetRule.DECLARED),
        mask=SCENE_CLASSIFICATION,
        gsd_m=10.0,
        newest_by=_EARTH_SEARCH_ORDER,
        source="https://earth-search.aws.element84.com/v1/collections/sentinel-2-pre-c1-l2a",
    ),
    CollectionProfile(
        dialect="planetary-computer",
        collection="sentinel-2-l2a",
        version="1",
        title="Sentinel-2 Level 2A, Planetary Computer (nothing declared: the processing baseline decides)",
        assets=MappingProxyType(_BAND_NUMBERS),
        radiometry=_radiometry(OffsetRule.BASELINE),
        mask=SCENE_CLASSIFICATION,
        gsd_m=10.0,
        access=AccessKind.PLANETARY_COMPUTER,
        newest_by=("s2:processing_baseline", "s2:generation_time", "updated"),
        tile_properties=("s2:mgrs_tile", "grid:code"),
        source="https://planetarycomputer.microsoft.com/dataset/sentinel-2-l2a; recorded items carry no raster:bands",
    ),
    CollectionProfile(
        dialect="cdse",
        collection="sentinel-2-l2a",
        version="1",
        title="Sentinel-2 Level 2A, Copernicus Data Space (JPEG 2000 on S3; scale and offset declared, STAC 1.1)",
        assets=MappingProxyType({name: f"{number}_{_NATIVE_M[name]}m" for name, number in _BAND_NUMBERS.items()}),
        radiometry=_radiometry(OffsetRule.DECLARED),
        mask=SCENE_CLASSIFICATION,
        gsd_m=10.0,
        access=AccessKind.S3,
        newest_by=("processing:version", "processing:datetime", "updated"),
        source="https://stac.dataspace.copernicus.eu/v1; eu-cdse/documentation newSTACcatalogue",
    ),
)
