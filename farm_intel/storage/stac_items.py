"""The STAC item of a farm's raster, made from rows when it is asked for; nothing is stored twice.

STAC 1.1 with the projection, raster and file extensions: bands, data type, nodata and statistics are common
metadata in 1.1, so a reader of anybody's items reads ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any

from farm_intel.domain.batches import RASTER_NODATA
from farm_intel.domain.errors import StoreError
from farm_intel.domain.farms import Farm
from farm_intel.domain.observations import CoverageDay, Observation
from farm_intel.storage.rasters import RasterRecord

STAC_VERSION = "1.1.0"
MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)


def stac_item(
    *, farm: Farm, day: CoverageDay, raster: RasterRecord, observations: Sequence[Observation], href: str
) -> dict[str, Any]:
    """Return the item of one farm, day, provider and collection as plain JSON values.

    Args:
        farm: gives the item's footprint.
        day: the calendar day; its raster must be `raster`.
        raster: what is known of the file.
        observations: the day's cells; those whose raster this is describe their band.
        href: where the raster can be fetched.

    Raises:
        StoreError: the day has another raster, or none.

    """
    if day.raster_sha256 != raster.sha256 or day.farm_id != farm.farm_id:
        raise StoreError(f"raster {raster.sha256} is not that of farm {farm.farm_id} on {day.solar_day}")
    cells = {cell.raster_band: cell for cell in observations if cell.raster_sha256 == raster.sha256}
    box = farm.bbox
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": f"{farm.farm_id}_{day.solar_day:%Y%m%d}_{day.provider}_{day.collection}",
        "collection": day.collection,
        "geometry": _geometry(farm.boundary_wkb),
        "bbox": [box.west, box.south, box.east, box.north],
        "properties": _properties(day, list(cells.values()), raster),
        "assets": {
            "indices": {
                "href": href,
                "type": MEDIA_TYPE,
                "title": f"Spectral indices of farm {farm.farm_id} on {day.solar_day}",
                "roles": ["data"],
                "data_type": "int16",
                "nodata": RASTER_NODATA,
                "bands": [
                    _band(band.name, band.scale, band.offset, cells.get(number))
                    for number, band in enumerate(raster.bands, start=1)
                ],
                "file:size": raster.size_bytes,
                "file:checksum": f"1220{raster.sha256}",  # multihash: SHA-256, 32 bytes
                **_projection(raster),
            },
        },
        # A link to the collection is the API's to add: only it knows its own address.
        "links": [],
    }


def _properties(day: CoverageDay, cells: Sequence[Observation], raster: RasterRecord) -> dict[str, Any]:
    acquired = min((cell.acquired_at for cell in cells if cell.acquired_at is not None), default=None)
    properties: dict[str, Any] = {"datetime": None if acquired is None else _instant(acquired)}
    if acquired is None:  # the specification then wants the range the day spans
        properties["start_datetime"] = _instant(datetime.combine(day.solar_day, time.min, UTC))
        properties["end_datetime"] = _instant(datetime.combine(day.solar_day, time.max, UTC))
    if day.recorded_at is not None:
        properties["updated"] = _instant(day.recorded_at)
    if cells:
        properties["gsd"] = min(cell.gsd_m for cell in cells)
    return properties | {
        "created": _instant(raster.created_at),
        "farm_intel:farm_id": day.farm_id,
        "farm_intel:provider": day.provider,
        "farm_intel:solar_day": day.solar_day.isoformat(),
        "farm_intel:status": day.status.value,
        "farm_intel:scene_ids": list(day.scene_ids),
        "farm_intel:valid_pixel_fraction": day.valid_pixel_fraction,
        "farm_intel:cloud_fraction": day.cloud_fraction,
        "farm_intel:covered_fraction": day.covered_fraction,
    }


def _band(name: str, scale: float, offset: float, cell: Observation | None) -> dict[str, Any]:
    band: dict[str, Any] = {"name": name, "raster:scale": scale, "raster:offset": offset, "unit": "1"}
    if cell is None:
        return band
    if cell.statistics is not None:
        # Over the farm's counted pixels, in units of the index: what the observation says.
        band["statistics"] = {
            "minimum": cell.statistics.min,
            "maximum": cell.statistics.max,
            "mean": cell.statistics.mean,
            "stddev": cell.statistics.std,
            "count": cell.used_pixel_count,
            "valid_percent": 100.0 * cell.valid_pixel_fraction,
        }
    return band | {"farm_intel:status": cell.status.value, "farm_intel:flags": [flag.value for flag in cell.flags]}


def _projection(raster: RasterRecord) -> Mapping[str, Any]:
    grid = raster.grid
    known: dict[str, Any] = {
        "proj:shape": [grid.height_px, grid.width_px],
        "proj:transform": list(grid.transform),
        "proj:bbox": list(grid.bounds),
    }
    if grid.crs.startswith("EPSG:"):
        return known | {"proj:code": grid.crs}
    return known | {"proj:code": None, "proj:wkt2": grid.crs}


def _geometry(wkb: bytes) -> dict[str, Any]:
    import shapely
    from shapely.geometry import mapping

    return dict(mapping(shapely.from_wkb(wkb)))


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
