"""The benchmark's data: one Sentinel-2-like tile on sixteen dates, and farms in villages. Made once, never committed.

Pixels: four bands of 10980 x 10980 at 10 m and three of 5490 x 5490 at 20 m, written by GDAL's COG driver as deflate
with horizontal predictor in blocks of 1024, as Sentinel-2 is served. Parcels, clouds and sensor noise are tuned so that
files compress by 1.4 to 1.7, like the real thing; smoother pixels would make every reader look faster than it is.
Two dates are rendered; the others are hard links to them under paths of their own, so that nothing that caches by path
can answer from memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

EPSG = 32636
TILE = "36NXF"
WEST_M, NORTH_M = 600_000, 100_020
EDGE_M = 109_800
EDGE_PX, HALF_PX = 10_980, 5_490
BLOCK_PX = 1024
BANDS_10M = ("blue", "green", "red", "nir")
BANDS_20M = ("nir08", "swir16", "scl")
KEYS = (*BANDS_10M, *BANDS_20M)
CLEAR_CLASSES = (4, 5, 6)
"""Scene classes that count, as in the product row: vegetation, bare soil, water."""
RENDERED = 2
DAYS = tuple(date(2025, 5, 2) + timedelta(days=5 * k) for k in range(16))
FARM_COUNT = 5_000
_CLOUD_SHARE = (0.05, 0.25)
_STRIP_PX = 366

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BenchData:
    """Where the data lies, and how it is described to a reader."""

    folder: Path

    def band(self, day: date, key: str) -> Path:
        """Return a band file."""
        return self.folder / f"{day:%Y%m%d}" / f"{key}.tif"

    @property
    def farm_file(self) -> Path:
        return self.folder / "farms.parquet"

    def items(self, days: int, base: str | None = None) -> list[dict[str, Any]]:
        """Return STAC items of the first days; hrefs are paths, or URLs under `base`."""
        return [_item(day, base or str(self.folder.absolute())) for day in DAYS[:days]]

    def write_catalogue(self, path: Path, days: int, base: str | None = None) -> None:
        """Write the items as one item collection."""
        path.write_text(json.dumps({"type": "FeatureCollection", "features": self.items(days, base)}))

    def compression(self) -> dict[str, float]:
        """Return raw bytes over file bytes per band of the first day; overviews count as file bytes."""
        sizes = {key: self.band(DAYS[0], key).stat().st_size for key in KEYS}
        raw = {key: (EDGE_PX**2 * 2 if key in BANDS_10M else HALF_PX**2 * (1 if key == "scl" else 2)) for key in KEYS}
        # overviews hold a third as many pixels again
        return {key: round(raw[key] * 4 / 3 / sizes[key], 2) for key in KEYS}

    def ensure(self) -> None:
        """Make what is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.farm_file.exists():
            _write_farms(self.farm_file)
        for k in range(RENDERED):
            if not self.band(DAYS[k], "scl").exists():
                print(f"rendering {DAYS[k]} …", flush=True)
                self._render(k)
        for k, day in enumerate(DAYS):
            for key in KEYS:
                path = self.band(day, key)
                path.parent.mkdir(exist_ok=True)
                if not path.exists():
                    os.link(self.band(DAYS[k % RENDERED], key), path)

    def _render(self, k: int) -> None:
        folder = self.band(DAYS[k], "scl").parent
        folder.mkdir(exist_ok=True)
        land = _Land(k)
        for key in BANDS_10M:
            _write_cog(folder / f"{key}.tif", land.fine_band(key), 10)
        for key in ("nir08", "swir16"):
            _write_cog(folder / f"{key}.tif", land.coarse_band(key), 20)
        # last: its presence says that the day is complete
        _write_cog(folder / "scl.tif", land.classes, 20)


@dataclass(frozen=True)
class _Look:
    """How a band looks: DN = base + (1 - vegetation) * bare, noise of the sensor, share of cloud brightness."""

    base: float
    bare: float
    vegetation: float
    noise: float
    cloud: float


_LOOKS = {
    "blue": _Look(420, 260, 0, 27, 0.9),
    "green": _Look(650, 230, 0, 32, 0.92),
    "red": _Look(500, 900, 0, 40, 0.95),
    "nir": _Look(1400, 0, 2900, 80, 1.0),
    "nir08": _Look(1500, 0, 2950, 60, 1.0),
    "swir16": _Look(1300, 2100, 0, 60, 0.62),
}


class _Land:
    """One date of the tile on the 20 m grid: parcels of about 1.5 ha in a season, clouds with shadows, water."""

    def __init__(self, k: int) -> None:
        ground = np.random.default_rng(20250502)
        self.rng = np.random.default_rng(100 + k)
        n = HALF_PX
        parcels = _parcels(ground, n)
        relief = _smooth(ground, 24, n)
        self.soil = _smooth(ground, 60, n)
        season = 0.5 + 0.35 * np.sin(2 * np.pi * (k / 12 + parcels))
        self.vegetation = np.clip(
            0.25 + 0.5 * parcels * season + 0.08 * relief + 0.04 * _smooth(self.rng, 80, n), 0.02, 0.98
        ).astype(np.float32)
        field = _smooth(self.rng, 14, n) + 0.5 * _smooth(self.rng, 50, n) + 0.3 * _smooth(self.rng, 200, n)
        edge = np.quantile(field[::9, ::9], 1 - _CLOUD_SHARE[k])
        self.cloud = np.clip((field - edge) * 3, 0, 1).astype(np.float32)
        self.shadow = np.roll(self.cloud, (18, -22), (0, 1)) * (self.cloud <= 0)
        self.water = relief < -2.1
        self.classes = self._classes()

    def _classes(self) -> npt.NDArray[np.uint8]:
        classes = np.full((HALF_PX, HALF_PX), 4, np.uint8)
        classes[self.vegetation < 0.3] = 5
        classes[self.water] = 6
        classes[self.shadow > 0.2] = 3
        classes[self.cloud > 0] = 8
        classes[self.cloud > 0.6] = 9
        classes[self.rng.random(classes.shape, dtype=np.float32) < 0.002] = 7
        return classes

    def fine_band(self, key: str) -> npt.NDArray[np.uint16]:
        """Return a 10 m band; strips keep the peak memory low."""
        look = _LOOKS[key]
        out = np.empty((EDGE_PX, EDGE_PX), np.uint16)
        for row in range(0, HALF_PX, _STRIP_PX):
            strip = slice(row, row + _STRIP_PX)
            vegetation, cloud = _double(self.vegetation[strip]), _double(self.cloud[strip])
            value = look.base + (1 - vegetation) * look.bare + vegetation * look.vegetation
            value += _double(self.soil[strip]) * 40
            value[_double(self.water[strip])] = 250
            value *= 1 - 0.55 * _double(self.shadow[strip])
            value += cloud * 5200 * look.cloud
            value += self.rng.standard_normal(value.shape, dtype=np.float32) * (look.noise + cloud * 160)
            out[2 * row : 2 * row + value.shape[0]] = np.rint(np.clip(value, 1, 16_000))
        return out

    def coarse_band(self, key: str) -> npt.NDArray[np.uint16]:
        """Return a 20 m band."""
        look = _LOOKS[key]
        value = look.base + (1 - self.vegetation) * look.bare + self.vegetation * look.vegetation + self.soil * 60
        value[self.water] = 120
        value = value * (1 - 0.5 * self.shadow) + self.cloud * 5200 * look.cloud
        value += self.rng.standard_normal(value.shape, dtype=np.float32) * look.noise
        return np.rint(np.clip(value, 1, 16_000)).astype(np.uint16)


def _smooth(rng: np.random.Generator, knots: int, size: int) -> Floats:
    """Return (size, size) standard normal values on a coarse grid of knots, with straight lines between them."""
    coarse = rng.standard_normal((knots, knots), dtype=np.float32)
    place = np.linspace(0, knots - 1, size, dtype=np.float32)
    low = np.minimum(place.astype(np.intp), knots - 2)
    share = place - low
    rows = coarse[low] * (1 - share)[:, None] + coarse[low + 1] * share[:, None]
    return np.asarray(rows[:, low] * (1 - share) + rows[:, low + 1] * share, np.float32)


def _parcels(rng: np.random.Generator, size: int, cell_m: float = 140.0) -> Floats:
    """Return a piecewise constant field of parcels with crooked borders, 0 to 1."""
    place = (np.arange(size, dtype=np.float32) + 0.5) * 20
    col = ((place[None, :] + _smooth(rng, 160, size) * 90) / cell_m).astype(np.int32).astype(np.uint32)
    row = ((place[:, None] + _smooth(rng, 160, size) * 90) / (cell_m * 0.8)).astype(np.int32).astype(np.uint32)
    mixed = (col * np.uint32(2654435761)) ^ (row * np.uint32(40503) + np.uint32(977))
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(2246822519)
    mixed ^= mixed >> np.uint32(13)
    return np.asarray((mixed & np.uint32(0xFFFF)) / np.float32(65535), np.float32)


def _double(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.repeat(np.repeat(values, 2, 0), 2, 1)


def _write_cog(path: Path, values: npt.NDArray[Any], pixel_m: int) -> None:
    import rasterio
    from rasterio.transform import from_origin

    classes = values.dtype == np.uint8
    part = path.with_suffix(".part")
    with rasterio.open(
        part,
        "w",
        driver="COG",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs=f"EPSG:{EPSG}",
        transform=from_origin(WEST_M, NORTH_M, pixel_m, pixel_m),
        nodata=0,
        compress="DEFLATE",
        predictor="NO" if classes else "YES",
        blocksize=BLOCK_PX,
        overviews="AUTO",
        overview_resampling="nearest" if classes else "average",
        num_threads="ALL_CPUS",
        bigtiff="NO",
    ) as dataset:
        dataset.write(values, 1)
    part.rename(path)


def _item(day: date, base: str) -> dict[str, Any]:
    """Return a STAC item as Earth Search v1 writes it: the offset is removed, flagged so, and declared all the same."""
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(EPSG, 4326, always_xy=True)
    left, bottom, right, top = WEST_M, NORTH_M - EDGE_M, WEST_M + EDGE_M, NORTH_M
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    ring = [list(to_degrees.transform(*corner)) for corner in corners]
    lons, lats = [p[0] for p in ring], [p[1] for p in ring]
    stamp = f"{day.isoformat()}T08:01:11.024Z"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [
            f"https://stac-extensions.github.io/{name}/schema.json"
            for name in ("projection/v1.1.0", "raster/v1.1.0", "eo/v1.1.0")
        ],
        "id": f"S2A_{TILE}_{day:%Y%m%d}_0_L2A",
        "collection": "sentinel-2-l2a",
        "bbox": [min(lons), min(lats), max(lons), max(lats)],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "datetime": stamp,
            "created": stamp,
            "updated": stamp,
            "platform": "sentinel-2a",
            "proj:epsg": EPSG,
            "grid:code": f"MGRS-{TILE}",
            "s2:processing_baseline": "05.11",
            "s2:generation_time": stamp,
            "s2:sequence": "0",
            "earthsearch:boa_offset_applied": True,
        },
        "links": [],
        "assets": {key: _asset(key, f"{base}/{day:%Y%m%d}/{key}.tif") for key in KEYS},
    }


def _asset(key: str, href: str) -> dict[str, Any]:
    pixel_m = 10 if key in BANDS_10M else 20
    band = {"nodata": 0, "data_type": "uint8" if key == "scl" else "uint16", "spatial_resolution": pixel_m}
    if key != "scl":
        band |= {"scale": 0.0001, "offset": -0.1}
    return {
        "href": href,
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "proj:shape": [EDGE_M // pixel_m, EDGE_M // pixel_m],
        "proj:transform": [pixel_m, 0, WEST_M, 0, -pixel_m, NORTH_M],
        "raster:bands": [band],
        "roles": ["data"],
    }


def _write_farms(path: Path) -> None:
    """Write fields of 1 to 50 ha (log-normal, median 5 ha) around forty villages.

    The first 100, 1,000 and 5,000 lie in 6, 18 and 40 villages, as an operation grows.
    """
    import geopandas as gpd

    rng = np.random.default_rng(7)
    villages = 40
    weight = rng.dirichlet(np.full(villages, 1.5))
    centre = np.c_[
        rng.uniform(WEST_M + 6000, WEST_M + 103_800, villages),
        rng.uniform(NORTH_M - 103_800, NORTH_M - 6000, villages),
    ]
    spread = rng.uniform(1200, 4200, villages)
    order: list[int] = []
    for size, count in ((100, 6), (1000, 18), (FARM_COUNT, villages)):
        share = weight[:count] / weight[:count].sum()
        order.extend(rng.choice(count, p=share, size=size - len(order)).tolist())
    fields = list(_fields(rng, centre, spread, order))
    frame = gpd.GeoDataFrame(
        {"farm_id": [f"farm-{k:05d}" for k in range(FARM_COUNT)], "village": order}, geometry=fields, crs=EPSG
    )
    frame.to_crs(4326).to_parquet(path)


def _fields(
    rng: np.random.Generator, centre: npt.NDArray[np.float64], spread: npt.NDArray[np.float64], order: list[int]
) -> Iterator[Any]:
    from shapely.affinity import rotate, scale, translate
    from shapely.geometry import Polygon

    low = np.array([WEST_M + 400, NORTH_M - EDGE_M + 400])
    high = low + EDGE_M - 800
    for village in order:
        area_m2 = float(np.clip(np.exp(rng.normal(np.log(5), 0.9)), 1, 50)) * 1e4
        while True:
            place = centre[village] + rng.normal(size=2) * spread[village]
            corners = int(rng.integers(4, 9))
            angle = np.sort((np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners)
            ring = np.c_[np.cos(angle) * rng.uniform(1, 2.5), np.sin(angle)] * rng.uniform(0.85, 1.15, (corners, 1))
            field = Polygon(ring)
            if field.is_valid and (place > low).all() and (place < high).all():
                break
        size = np.sqrt(area_m2 / field.area)
        field = rotate(scale(field, size, size, origin=(0, 0)), float(rng.uniform(0, 180)), origin=(0, 0))
        yield translate(field, *place)
