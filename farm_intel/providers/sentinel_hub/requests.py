"""Request bodies, built by the library from our values; nothing is sent from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sentinelhub.api.process import SentinelHubRequest
from sentinelhub.api.statistical import SentinelHubStatistical
from sentinelhub.config import SHConfig
from sentinelhub.constants import CRS, MimeType, MosaickingOrder, ResamplingType
from sentinelhub.data_collections import DataCollection
from sentinelhub.download.models import DownloadRequest
from sentinelhub.geometry import BBox, Geometry
from shapely.geometry import MultiPolygon, Polygon

from farm_intel.domain.geo import PixelGrid
from farm_intel.providers.sentinel_hub.evalscripts import StatisticsScript, pixels_script

PERCENTILES = (10, 25, 50, 75, 90)

_AS_DELIVERED = {"processing": {"harmonizeValues": False}}
"""By default negative reflectance is cut off at 0, which other providers do not do."""

type Period = tuple[datetime, datetime]
"""[from, to) in UTC, whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What every request needs."""

    config: SHConfig
    collection: DataCollection
    mask: str
    """The service's name of the band that holds classes."""


def pixels_request(service: Service, bands: Sequence[str], grid: PixelGrid, period: Period) -> DownloadRequest:
    """Return the request for bands of one scene on a grid: a 16-bit TIFF with one band each, `dataMask` last."""
    request = SentinelHubRequest(
        evalscript=pixels_script(bands, service.mask),
        input_data=[
            SentinelHubRequest.input_data(
                service.collection,
                time_interval=period,
                mosaicking_order=MosaickingOrder.MOST_RECENT,
                upsampling=ResamplingType.NEAREST,
                downsampling=ResamplingType.NEAREST,
                other_args=_AS_DELIVERED,
            )
        ],
        responses=[SentinelHubRequest.output_response("default", MimeType.TIFF)],
        bbox=BBox(grid.bounds, CRS(grid.crs.removeprefix("EPSG:"))),
        size=(grid.width_px, grid.height_px),
        config=service.config,
    )
    return request.download_list[0]


def statistics_request(
    service: Service, script: StatisticsScript, area: Polygon | MultiPolygon, grid: PixelGrid, period: Period
) -> DownloadRequest:
    """Return the request for statistics of every day of a period over an area.

    Args:
        service: account and collection.
        script: from `statistics_script`.
        area: polygons in the grid's CRS.
        grid: gives CRS and resolution.
        period: whole days from any hour; each 24 hours are one interval.

    """
    request = SentinelHubStatistical(
        aggregation=SentinelHubStatistical.aggregation(
            evalscript=script.text,
            time_interval=period,
            aggregation_interval="P1D",
            resolution=(grid.pixel_m, grid.pixel_m),
        ),
        input_data=[
            SentinelHubStatistical.input_data(
                service.collection,
                mosaicking_order=MosaickingOrder.MOST_RECENT,
                upsampling=ResamplingType.NEAREST,
                downsampling=ResamplingType.NEAREST,
                other_args=_AS_DELIVERED,
            )
        ],
        geometry=Geometry(area, CRS(grid.crs.removeprefix("EPSG:"))),
        calculations={"default": {"statistics": {"default": {"percentiles": {"k": list(PERCENTILES)}}}}},
        config=service.config,
    )
    return request.download_list[0]
