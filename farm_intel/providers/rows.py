"""The providers, one row each: adapter, collections, capabilities, credentials, quotas; see `docs/providers.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from farm_intel.domain.errors import UnknownNameError


class Adapter(StrEnum):
    """Which code talks to a provider."""

    STAC = "stac"
    SENTINEL_HUB = "sentinel_hub"
    EARTH_ENGINE = "earth_engine"


class Capability(StrEnum):
    """What a provider can be asked for."""

    SEARCH = "search"
    PIXELS = "pixels"
    """Blocks of digital numbers: our own masks and statistics, and a raster of every farm."""
    STATISTICS = "statistics"
    """Tables the provider computes on its side: little to transfer, no raster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """One provider as an operator chooses it."""

    name: str
    title: str
    adapter: Adapter
    collections: Mapping[str, str]
    """Catalogue dialect -> collection; empty where settings name both."""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Catalogue dialect -> public address, used where the setting is empty."""
    capabilities: tuple[Capability, ...] = (Capability.SEARCH, Capability.PIXELS)
    settings: tuple[str, ...] = ()
    """Settings that must have a value before the live service can be asked."""
    unit: str = "request"
    """What its budget is counted in, in the singular."""
    monthly_units: float | None = None
    """Free budget of a calendar month; None where the provider sets none."""
    requests_per_minute: float | None = None
    concurrency: int = 32
    """Calls at once; files behind a STAC catalogue have the reader's own setting."""
    limits_source: str = ""
    note: str = ""


_PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/stac/v1"
_EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
_USGS = "https://landsatlook.usgs.gov/stac-server"


def _planetary(name: str, title: str, collection: str, note: str) -> ProviderRow:
    return ProviderRow(
        name=name,
        title=title,
        adapter=Adapter.STAC,
        collections=MappingProxyType({"planetary-computer": collection}),
        endpoints=MappingProxyType({"planetary-computer": _PLANETARY_COMPUTER}),
        limits_source="none published; SAS tokens last about 45 minutes (microsoft/PlanetaryComputer issue 418)",
        note=note,
    )


PROVIDERS: tuple[ProviderRow, ...] = (
    ProviderRow(
        name="stac",
        title="Sentinel-2 (or any collection row) from a STAC catalogue",
        adapter=Adapter.STAC,
        collections=MappingProxyType({}),
        settings=("stac_url",),
        limits_source="CDSE: 2000 requests a minute, 4 connections, 12 TB in 30 days (eu-cdse/documentation Quotas)",
        note="Dialects: Earth Search, Planetary Computer, Copernicus Data Space (CDSE); static catalogues and folders.",
    ),
    ProviderRow(
        name="landsat",
        title="Landsat Collection 2 Level 2 (Landsat 5, 7, 8, 9)",
        adapter=Adapter.STAC,
        collections=MappingProxyType(
            {"planetary-computer": "landsat-c2-l2", "earth-search": "landsat-c2-l2", "usgs": "landsat-c2l2-sr"}
        ),
        endpoints=MappingProxyType(
            {"planetary-computer": _PLANETARY_COMPUTER, "earth-search": _EARTH_SEARCH, "usgs": _USGS}
        ),
        limits_source="Earth Search and USGS files lie in requester-pays buckets: reading costs the AWS account",
        note="30 m: fields from about 1 ha have whole pixels.",
    ),
    _planetary(
        "modis",
        "MODIS surface reflectance, 8-day composite, 500 m",
        "modis-09A1-061",
        "Fields from about 50 ha; context.",
    ),
    _planetary(
        "modis_vi", "MODIS vegetation indices, 16-day composite, 250 m", "modis-13Q1-061", "Fields from about 25 ha."
    ),
    _planetary(
        "hls_l30", "Harmonised Landsat Sentinel-2, Landsat part, 30 m", "hls2-l30", "Sensors harmonised by NASA."
    ),
    _planetary(
        "hls_s30", "Harmonised Landsat Sentinel-2, Sentinel part, 30 m", "hls2-s30", "Sensors harmonised by NASA."
    ),
    ProviderRow(
        name="sentinel_hub",
        title="Sentinel-2 Level 2A from Sentinel Hub",
        adapter=Adapter.SENTINEL_HUB,
        collections=MappingProxyType({"sentinel-hub": "sentinel-2-l2a"}),
        capabilities=(Capability.SEARCH, Capability.PIXELS, Capability.STATISTICS),
        settings=("sentinel_hub_client_id", "sentinel_hub_client_secret"),
        unit="processing unit",
        monthly_units=10_000.0,
        requests_per_minute=300.0,
        concurrency=4,
        limits_source="Copernicus Data Space free account: 10,000 requests and 10,000 processing units a month, 300 a "
        "minute each (eu-cdse/documentation Quotas)",
        note="Main and Copernicus Data Space deployments: two addresses in the settings.",
    ),
    ProviderRow(
        name="earth_engine",
        title="Sentinel-2 Level 2A (harmonised) from Google Earth Engine",
        adapter=Adapter.EARTH_ENGINE,
        collections=MappingProxyType({"earth-engine": "COPERNICUS/S2_SR_HARMONIZED"}),
        capabilities=(Capability.SEARCH, Capability.PIXELS, Capability.STATISTICS),
        settings=("earth_engine_project", "earth_engine_credentials"),
        requests_per_minute=6_000.0,
        concurrency=40,
        limits_source="40 concurrent requests, 100 a second; noncommercial projects 150, 1,000 or 100,000 EECU-hours a "
        "month (developers.google.com/earth-engine/guides/usage, noncommercial_tiers)",
        note="EECU-hours are not told per request: Earth Engine's own restricted mode is shown, requests are budgeted.",
    ),
    ProviderRow(
        name="earth_engine_landsat",
        title="Landsat Collection 2 Level 2 from Google Earth Engine",
        adapter=Adapter.EARTH_ENGINE,
        collections=MappingProxyType({"earth-engine": "landsat-c2-l2"}),
        capabilities=(Capability.SEARCH, Capability.PIXELS, Capability.STATISTICS),
        settings=("earth_engine_project", "earth_engine_credentials"),
        requests_per_minute=6_000.0,
        concurrency=40,
        limits_source="as earth_engine",
    ),
    ProviderRow(
        name="earth_engine_modis",
        title="MODIS daily surface reflectance (MOD09GA), 500 m, from Google Earth Engine",
        adapter=Adapter.EARTH_ENGINE,
        collections=MappingProxyType({"earth-engine": "MODIS/061/MOD09GA"}),
        capabilities=(Capability.SEARCH, Capability.PIXELS, Capability.STATISTICS),
        settings=("earth_engine_project", "earth_engine_credentials"),
        requests_per_minute=6_000.0,
        concurrency=40,
        limits_source="as earth_engine",
        note="Fields from about 50 ha; context.",
    ),
)

_BY_NAME = {row.name: row for row in PROVIDERS}


def provider_row(name: str) -> ProviderRow:
    """Return one provider's row.

    Raises:
        UnknownNameError: there is no such provider; the message lists what there is.

    """
    row = _BY_NAME.get(name)
    if row is None:
        raise UnknownNameError(f"there is no provider {name!r}", hint=f"There are: {', '.join(_BY_NAME)}.")
    return row
