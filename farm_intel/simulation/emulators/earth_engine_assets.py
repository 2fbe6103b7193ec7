"""Image collections as Earth Engine keeps and lists them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import shapely
import shapely.geometry

from farm_intel.simulation.emulators.earth_engine_values import (
    LONLAT,
    Band,
    EmulatorRefusalError,
    Image,
    Raster,
    transformer,
)

_PUBLIC = "projects/earthengine-public/assets/"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredImage:
    """One image of a collection."""

    image_id: str
    start: datetime
    end: datetime
    footprint: Mapping[str, Any]
    """GeoJSON, longitude and latitude."""
    rasters: Mapping[str, Raster]
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def collection(self) -> str:
        """Asset id of the collection it is in."""
        return self.image_id.rpartition("/")[0]

    def image(self) -> Image:
        """Return it as a value of an expression."""
        first = next(iter(self.rasters.values()))
        bands = {name: Band(raster.read, raster.dtype) for name, raster in self.rasters.items()}
        return Image(bands=bands, properties=self.properties, projection=first.projection)

    def listing(self) -> dict[str, Any]:
        """Return the asset as `listAssets` shows it in full."""
        return {
            "type": "IMAGE",
            "name": _PUBLIC + self.image_id,
            "id": self.image_id,
            "updateTime": _text(self.end),
            "startTime": _text(self.start),
            "endTime": _text(self.end),
            "geometry": dict(self.footprint),
            "properties": dict(self.properties),
            "bands": [_listed_band(name, raster) for name, raster in self.rasters.items()],
        }


def _listed_band(name: str, raster: Raster) -> dict[str, Any]:
    home = raster.projection
    return {
        "id": name,
        "dataType": {"precision": "INT", "range": {"max": int(np.iinfo(raster.dtype).max)}},
        "grid": {
            "crsCode": home.crs,
            "dimensions": {"width": raster.width, "height": raster.height},
            "affineTransform": {
                "scaleX": home.pixel_m,
                "scaleY": -home.pixel_m,
                "translateX": home.west_m,
                "translateY": home.north_m,
            },
        },
        "pyramidingPolicy": "MEAN",
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


class AssetStore:
    """All images by collection and id."""

    def __init__(self, images: Iterable[StoredImage], empty: Sequence[str] = ()) -> None:
        self._images = {image.image_id: image for image in images}
        self._collections: dict[str, list[StoredImage]] = {name: [] for name in empty}
        for image in self._images.values():
            self._collections.setdefault(image.collection, []).append(image)

    def load(self, image_id: str) -> Image:
        """Return an image; refuses ids there are not."""
        if image_id not in self._images:
            raise EmulatorRefusalError(
                f"Image.load: Image asset '{image_id}' not found (does not exist or caller does not have access)."
            )
        return self._images[image_id].image()

    def search(self, collection: str, clauses: str) -> list[StoredImage]:
        """Return the images of a collection that a filter text lets through, by time."""
        if collection not in self._collections:
            raise EmulatorRefusalError(f"Asset '{collection}' not found.", code=404, status="NOT_FOUND")
        tests = [_test(clause) for clause in clauses.split(" AND ") if clause.strip()]
        found = [image for image in self._collections[collection] if all(test(image) for test in tests)]
        return sorted(found, key=lambda image: (image.start, image.image_id))


def _test(clause: str) -> Callable[[StoredImage], bool]:
    """Return what one clause of a listing's filter asks; unknown ones are refused."""
    if match := re.fullmatch(r'startTime >= "([^"]+)"', clause.strip()):
        start = datetime.fromisoformat(match[1])
        return lambda image: image.start >= start
    if match := re.fullmatch(r'endTime < "([^"]+)"', clause.strip()):
        end = datetime.fromisoformat(match[1])
        return lambda image: image.end < end
    if match := re.fullmatch(r'intersects\("(.+)"\)', clause.strip()):
        region = shapely.from_geojson(match[1].replace("'", '"'))
        return lambda image: bool(shapely.intersects(shapely.geometry.shape(dict(image.footprint)), region))
    raise EmulatorRefusalError(f"emulator does not know the filter {clause!r}")


def lonlat_footprint(crs: str, bounds: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return a box of a projection as GeoJSON."""
    west, south, east, north = bounds
    x, y = [west, east, east, west, west], [south, south, north, north, south]
    longitudes, latitudes = transformer(crs, LONLAT).transform(x, y)
    ring = [[float(a), float(b)] for a, b in zip(longitudes, latitudes, strict=True)]
    return {"type": "Polygon", "coordinates": [ring]}
