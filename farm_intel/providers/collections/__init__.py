"""Collection profiles: every product we can read, as each catalogue serves it. A new product is a new row."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from farm_intel.domain.errors import NotConfiguredError
from farm_intel.domain.products import CollectionProfile
from farm_intel.providers.collections import earth_engine, hls, landsat, modis, sentinel2, sentinel_hub

_ROWS: tuple[CollectionProfile, ...] = (
    *sentinel2.ROWS,
    *landsat.ROWS,
    *modis.ROWS,
    *hls.ROWS,
    *sentinel_hub.ROWS,
    *earth_engine.ROWS,
)

S3_ENDPOINTS: Mapping[str, str] = MappingProxyType({"cdse": "https://eodata.dataspace.copernicus.eu"})
"""Dialect -> S3 service its `s3://` hrefs live on, where that is not Amazon's; keys come from the AWS environment.

The bucket stands in the path there (no virtual hosting). Source: eu-cdse/documentation, APIs/S3.
"""

REQUESTER_PAYS: frozenset[str] = frozenset({"earth-search", "usgs"})
"""Dialects whose `s3://` hrefs lie in buckets that charge the reader's account (`usgs-landsat`, us-west-2)."""

_BY_NAME = {(row.dialect, row.collection): row for row in _ROWS}


def all_profiles() -> tuple[CollectionProfile, ...]:
    """Return every row, grouped by product."""
    return _ROWS


def profile(dialect: str, collection: str) -> CollectionProfile:
    """Return the row of a collection as a catalogue dialect serves it.

    Raises:
        NotConfiguredError: there is no such row; the message lists what there is.

    """
    row = _BY_NAME.get((dialect, collection))
    if row is None:
        known = ", ".join(f"{row.dialect}/{row.collection}" for row in _ROWS)
        raise NotConfiguredError(
            f"no profile for collection {collection!r} in dialect {dialect!r}",
            hint=f"There are: {known}. Set FARM_INTEL_STAC_DIALECT and FARM_INTEL_STAC_COLLECTION to one of them.",
        )
    return row
