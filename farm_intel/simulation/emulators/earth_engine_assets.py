"""The image collections the emulator offers: the world's scenes as Earth Engine would hold them."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
import shapely.geometry

from farm_intel.simulation.emulators.earth_engine_values import (
    LONLAT,
    Band,
    EmulatorRefusalError,
    Image,
    Projection,
    Raster,
    transformer,
)
from farm_intel.simulation.render import DN_OFFSET, TileGround
from farm_intel.simulation.scenes import WorldScene, plan_scenes
from farm_intel.simulation.spectra import BANDS
from farm_intel.simulation.world import FarmWorld

S2 = "COPERNICUS/S2_SR_HARMONIZED"
_KEPT_SCENES = 6
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


def world_assets(world: FarmWorld) -> AssetStore:
    """Return the world's scenes as Earth Engine's collections."""
    return AssetStore(
        sentinel2_images(world),
        empty=(
            S2,
            "LANDSAT/LC09/C02/T1_L2",
            "LANDSAT/LC08/C02/T1_L2",
            "LANDSAT/LE07/C02/T1_L2",
            "LANDSAT/LT05/C02/T1_L2",
            "MODIS/061/MOD09GA",
        ),
    )


class Sentinel2Pixels:
    """Renders scenes when their first pixel is asked for; keeps the last few."""

    def __init__(self, world: FarmWorld) -> None:
        self._grounds = {tile.name: TileGround(world, tile) for tile in world.tiles}
        self._known: OrderedDict[str, dict[str, npt.NDArray[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def band(self, scene: WorldScene, band: str) -> npt.NDArray[Any]:
        """Return one band's harmonised digital numbers (the offset removed, clamped at 0)."""
        with self._lock:
            if scene.scene_id not in self._known:
                self._known[scene.scene_id] = self._render(scene)
                while len(self._known) > _KEPT_SCENES:
                    self._known.popitem(last=False)
            self._known.move_to_end(scene.scene_id)
            return self._known[scene.scene_id][band]

    def _render(self, scene: WorldScene) -> dict[str, npt.NDArray[Any]]:
        rendered = self._grounds[scene.tile.name].render(scene)
        found: dict[str, npt.NDArray[Any]] = {"SCL": rendered.classes}
        offset = DN_OFFSET if scene.dialect.offset_in_pixels else 0
        for band, numbers in rendered.bands():
            found[_band_id(band.number)] = np.where(numbers > offset, numbers - offset, 0).astype(np.uint16)
        return found


def _band_id(number: str) -> str:
    """Return `B4` for `B04`."""
    return f"B{number[1:].lstrip('0')}"


def sentinel2_images(world: FarmWorld) -> list[StoredImage]:
    """Return the newest processing of every acquisition."""
    newest: dict[tuple[str, object], WorldScene] = {}
    for scene in plan_scenes(world):
        key = (scene.tile.name, scene.day)
        if key not in newest or newest[key].sequence < scene.sequence:
            newest[key] = scene
    pixels = Sentinel2Pixels(world)
    return [_sentinel2_image(scene, pixels) for scene in newest.values()]


def _sentinel2_image(scene: WorldScene, pixels: Sentinel2Pixels) -> StoredImage:
    grid = scene.tile.grid
    stamp = f"{scene.acquired_at:%Y%m%dT%H%M%S}"
    tile = f"{scene.tile.name:0>5}"
    index = f"{stamp}_{stamp}_T{tile}"

    def raster(band: str, gsd_m: int, dtype: str) -> Raster:
        size = grid.width_px * 10 // gsd_m
        return Raster(
            projection=Projection(
                crs=f"EPSG:{scene.tile.epsg}", pixel_m=float(gsd_m), west_m=grid.west_m, north_m=grid.north_m
            ),
            width=size,
            height=size,
            dtype=dtype,
            load=lambda: pixels.band(scene, band),
            fill=0,
        )

    rasters = {_band_id(band.number): raster(_band_id(band.number), band.gsd_m, "uint16") for band in BANDS}
    rasters["SCL"] = raster("SCL", 20, "uint8")
    west, south, east, north = grid.bounds
    return StoredImage(
        image_id=f"{S2}/{index}",
        start=scene.acquired_at,
        end=scene.acquired_at,
        footprint=lonlat_footprint(f"EPSG:{scene.tile.epsg}", (west, south, east, north)),
        rasters=rasters,
        properties={
            "MGRS_TILE": tile,
            "SPACECRAFT_NAME": scene.platform.upper().replace("SENTINEL", "Sentinel"),
            "PROCESSING_BASELINE": scene.baseline,
            "GENERATION_TIME": int(scene.generated_at.timestamp() * 1000),
        },
    )


def lonlat_footprint(crs: str, bounds: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return a box of a projection as GeoJSON."""
    west, south, east, north = bounds
    x, y = [west, east, east, west, west], [south, south, north, north, south]
    longitudes, latitudes = transformer(crs, LONLAT).transform(x, y)
    ring = [[float(a), float(b)] for a, b in zip(longitudes, latitudes, strict=True)]
    return {"type": "Polygon", "coordinates": [ring]}
