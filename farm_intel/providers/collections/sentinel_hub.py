"""Sentinel-2 Level 2A as Sentinel Hub serves it: bands by their own names, reflectance as 10000 rho + 1000."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from farm_intel.domain.products import AccessKind, CollectionProfile, OffsetRule, RadiometryRule
from farm_intel.providers.collections.sentinel2 import SCENE_CLASSIFICATION

DIALECT = "sentinel-hub"

_BANDS = {
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

BAND_GSD_M: Mapping[tuple[str, str], Mapping[str, int]] = MappingProxyType(
    {
        (DIALECT, "sentinel-2-l2a"): MappingProxyType(
            {
                "B01": 60,
                "B02": 10,
                "B03": 10,
                "B04": 10,
                "B05": 20,
                "B06": 20,
                "B07": 20,
                "B08": 10,
                "B8A": 20,
                "B09": 60,
                "B11": 20,
                "B12": 20,
                "SCL": 20,
            }
        )
    }
)
"""(dialect, collection) -> band -> ground sample distance in metres: what a file's header says elsewhere."""

ROWS: tuple[CollectionProfile, ...] = (
    CollectionProfile(
        dialect=DIALECT,
        collection="sentinel-2-l2a",
        version="2",
        title="Sentinel-2 Level 2A, Sentinel Hub (main and Copernicus Data Space deployments)",
        assets=MappingProxyType(_BANDS),
        # Our script asks for reflectance, which the service makes by each pixel's own scene, and writes it down so.
        radiometry=RadiometryRule(scale=1e-4, offset=-0.1, offset_rule=OffsetRule.FIXED, nodata=0, probe=False),
        mask=SCENE_CLASSIFICATION,
        gsd_m=10.0,
        sensor="msi",
        access=AccessKind.SENTINEL_HUB,
        newest_by=("s2:processing_baseline", "s2:generation_time"),
        tile_properties=("s2:mgrs_tile",),
        source="eu-cdse/documentation APIs/SentinelHub/Data/S2L2A.qmd (bands, units, Harmonize Values)",
    ),
)
