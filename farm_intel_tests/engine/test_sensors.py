"""Landsat and MODIS through the engine, against rasterio, shapely and numpy on the same files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from farm_intel.domain.batches import FarmShape, SceneDay
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.domain.products import CollectionProfile, PixelReason
from farm_intel.domain.scenes import Scene, solar_day
from farm_intel.engine.composites import seen_at
from farm_intel.engine.pipeline import EngineOptions, SceneMajorEngine
from farm_intel.providers.blocks.auto import block_readers
from farm_intel.providers.blocks.options import ReaderOptions
from farm_intel.providers.collections import profile
from farm_intel.providers.stac.parsing import scene_from_item
from farm_intel.simulation.landsat import SATURATED_AT, landsat_scenes
from farm_intel.simulation.sensors import write_sensor
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.engine.support import REGISTRY, Cell, cells, farm, utm_grid
from farm_intel_tests.support.stac_items import SHARED_DATA, needs_shared_data

OPTIONS = WorldOptions(seed=7, start=date(2026, 1, 4), days=41, farms=14, tile_px=360, cloudiness=3.0)
LANDSAT = profile("planetary-computer", "landsat-c2-l2")
MODIS = profile("planetary-computer", "modis-09A1-061")
NDVI = REGISTRY.select(["ndvi"])
MIN_PURE = 10


@pytest.fixture(scope="module")
def world() -> FarmWorld:
    return FarmWorld(OPTIONS)


@pytest.fixture(scope="module")
def folder(world: FarmWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sensors")
    for sensor in ("landsat", "modis"):
        write_sensor(world, home / sensor, sensor)
    return home


def scenes_in(folder: Path, row: CollectionProfile) -> list[Scene]:
    found = []
    for path in sorted(folder.glob("*/*.json")):
        scene = scene_from_item(json.loads(path.read_text()), row, str(path), provider="test")
        assert isinstance(scene, Scene)
        found.append(scene)
    return sorted(found, key=lambda scene: scene.acquired_at)


def observe(
    scenes: list[Scene], farms: list[FarmShape], row: CollectionProfile, **options: Any
) -> dict[tuple[date, str], Cell]:
    engine = SceneMajorEngine(
        block_readers(ReaderOptions(kind=options.pop("reader", "auto"))),
        EngineOptions(threads=2, budget_mib=16, min_pure_pixels=MIN_PURE, **options),
    )
    days: dict[date, list[Scene]] = {}
    for scene in scenes:
        days.setdefault(solar_day(scene.acquired_at, 36.0), []).append(scene)
    work = [SceneDay(solar_day=day, scenes=tuple(found)) for day, found in days.items()]
    return cells(list(engine.run(work, farms, NDVI, row)))


def rounding(world: FarmWorld, farm_id: str, pixel_m: float) -> float:
    """Return what coverage in 8 bits may move: half a step on each of the few pixels a small farm touches."""
    area_px = next((own.area_ha for own in world.farms if own.farm_id == farm_id), 1_000.0) * 1e4 / pixel_m**2
    return 0.001 + 0.004 / area_px


def world_farms(world: FarmWorld) -> list[FarmShape]:
    return [FarmShape(farm_id=own.farm_id, boundary_wkb=own.boundary_wkb) for own in world.farms if own.inside_world]


class Independent:
    """One scene's pixels, masks spelled out in bits, and exact coverage from shapely."""

    def __init__(self, bands: Mapping[str, np.ndarray], clear: np.ndarray, grid: Any, days: np.ndarray | None = None):
        with np.errstate(invalid="ignore", divide="ignore"):
            self.ndvi = (bands["nir08"] - bands["red"]) / (bands["nir08"] + bands["red"])
        measured = (bands["red"] > 0) & (bands["nir08"] > 0) & (bands["red"] <= 1.6) & (bands["nir08"] <= 1.6)
        self.clear = clear & measured
        self.transform, self.crs = grid
        self.days = days

    def farm(self, boundary_wkb: bytes) -> tuple[float, np.ndarray | None, float]:
        """Return the mean by the purity ladder, the valid pixels' days, and the valid share of the area."""
        to_grid = pyproj.Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)
        shape = shapely.transform(
            shapely.from_wkb(boundary_wkb), lambda xy: np.column_stack(to_grid.transform(xy[:, 0], xy[:, 1]))
        )
        west, south, east, north = shape.bounds
        c0, r0 = (int(np.floor(v)) for v in ~self.transform @ (west, north))
        c1, r1 = (int(np.floor(v)) for v in ~self.transform @ (east, south))
        rows, cols = (v.ravel() for v in np.mgrid[r0 : r1 + 1, c0 : c1 + 1])
        x, y = self.transform.c + cols * self.transform.a, self.transform.f + rows * self.transform.e
        boxes = shapely.box(x, y + self.transform.e, x + self.transform.a, y)
        coverage = shapely.area(shapely.intersection(boxes, shape)) / self.transform.a**2
        touched = coverage > 1e-9
        rows, cols, coverage = rows[touched], cols[touched], coverage[touched]
        valid = self.clear[rows, cols]
        days = None if self.days is None else np.sort(self.days[rows, cols][valid])
        share = float(coverage[valid].sum() / coverage.sum())
        if not valid.any():
            return np.nan, days, share
        values = self.ndvi[rows, cols]
        pure = valid & (coverage > 1 - 1e-9)
        if pure.sum() >= MIN_PURE:
            return float(values[pure].mean()), days, share
        return float(np.average(values[valid], weights=coverage[valid])), days, share


def read(scene: Scene, names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], tuple[Affine, str]]:
    arrays = {}
    for name in names:
        with rasterio.open(scene.bands[name].href) as source:
            arrays[name] = source.read(1)
            grid = source.transform, source.crs.to_wkt()
    return arrays, grid


def landsat_pixels(scene: Scene) -> Independent:
    arrays, grid = read(scene, ("red", "nir08", "qa_pixel", "qa_radsat"))
    clear = (arrays["qa_pixel"] & 0b111111) == 0
    clear &= (arrays["qa_radsat"] & 0b1010_0111_1111) == 0
    bands = {}
    for name in ("red", "nir08"):
        bands[name] = np.where(arrays[name] == 0, np.nan, arrays[name] * 2.75e-05 - 0.2)
    return Independent(bands, clear, grid)


def modis_pixels(scene: Scene) -> Independent:
    arrays, grid = read(scene, ("red", "nir08", "state", "day_of_year"))
    state = arrays["state"].astype(int)
    clear = np.isin(state & 3, (0, 3)) & ((state >> 2) & 1 == 0) & ((state >> 8) & 3 <= 1)
    for bit in (10, 12, 13, 15):
        clear &= (state >> bit) & 1 == 0
    bands = {name: np.where(arrays[name] == -28672, np.nan, arrays[name] * 1e-4) for name in ("red", "nir08")}
    return Independent(bands, clear, grid, arrays["day_of_year"])


@pytest.mark.parametrize("options", [{}, {"mask_first": True}, {"reader": "rasterio"}], ids=["plain", "first", "gdal"])
def test_landsat_means_and_shares_are_those_of_an_independent_computation(
    world: FarmWorld, folder: Path, options: dict[str, Any]
) -> None:
    scenes, farms = scenes_in(folder / "landsat", LANDSAT), world_farms(world)
    found = observe(scenes, farms, LANDSAT, **options)
    compared = cloudy = 0
    for scene in scenes:
        independent = landsat_pixels(scene)
        for own in farms:
            cell = found[solar_day(scene.acquired_at, 36.0), own.farm_id]
            mean, _, share = independent.farm(own.boundary_wkb)
            rough = rounding(world, own.farm_id, LANDSAT.gsd_m)
            assert cell.share(PixelReason.VALID) == pytest.approx(share, abs=rough)
            assert np.isnan(cell.mean()) == np.isnan(mean)
            assert Flag.COMPOSITE not in cell.flags
            assert cell.acquired_at == scene.acquired_at
            if np.isfinite(mean):
                assert cell.mean() == pytest.approx(mean, abs=rough if cell.mixed[0] else 2e-6)
                compared += 1
            cloudy += share < 0.99
    assert compared > 60
    assert cloudy > 5


def test_a_pixel_that_only_the_second_mask_condemns_does_not_count(tmp_path: Path) -> None:
    world = FarmWorld(replace(OPTIONS, cloudiness=0.0))
    write_sensor(world, tmp_path / "landsat", "landsat")
    scene = scenes_in(tmp_path / "landsat", LANDSAT)[SATURATED_AT]
    assert landsat_scenes(world)[SATURATED_AT].saturated
    farms = world_farms(world)
    told = observe([scene], farms, LANDSAT)
    blind = observe([scene], farms, replace(LANDSAT, more_masks=()))
    struck = [key for key, cell in told.items() if cell.share(PixelReason.SATURATED) > 0]

    assert struck
    for key, cell in told.items():
        if key in struck:
            assert blind[key].share(PixelReason.SATURATED) == 0
            assert cell.share(PixelReason.VALID) < blind[key].share(PixelReason.VALID) or np.isnan(blind[key].mean())
        else:
            assert cell.mean() == blind[key].mean() or np.isnan(cell.mean())


def test_modis_composites_are_read_on_their_own_grid_and_dated_by_their_pixels(world: FarmWorld, folder: Path) -> None:
    scenes, farms = scenes_in(folder / "modis", MODIS), world_farms(world)
    # The world's own farms are smaller than a pixel; this one has pixels wholly inside.
    corner = pyproj.Transformer.from_crs("EPSG:32737", "EPSG:4326", always_xy=True)
    middle = world.extent.center
    plot = shapely.box(middle[0] - 2_600, middle[1] - 1_400, middle[0] + 2_600, middle[1] + 1_400)
    large = shapely.transform(plot, lambda xy: np.column_stack(corner.transform(xy[:, 0], xy[:, 1])))
    farms.append(FarmShape(farm_id="LARGE", boundary_wkb=shapely.to_wkb(large)))
    found = observe(scenes, farms, MODIS)
    compared = 0
    for scene in scenes:
        independent = modis_pixels(scene)
        first = date.fromisoformat(str(scene.properties["start_datetime"])[:10])
        for own in farms:
            cell = found[first, own.farm_id]
            mean, days, share = independent.farm(own.boundary_wkb)
            rough = rounding(world, own.farm_id, MODIS.gsd_m)
            assert cell.share(PixelReason.VALID) == pytest.approx(share, abs=rough)
            assert Flag.COMPOSITE in cell.flags
            if np.isnan(mean):
                assert np.isnan(cell.mean())
                continue
            assert cell.mean() == pytest.approx(mean, abs=rough if cell.mixed[0] else 2e-6)
            assert days is not None
            median = int(days[(len(days) - 1) // 2])
            assert cell.acquired_at is not None
            assert cell.acquired_at.timetuple().tm_yday == median
            assert timedelta(0) <= cell.acquired_at.date() - first < timedelta(days=8)
            compared += 1
    assert compared > 40
    pure = [found[date.fromisoformat(str(s.properties["start_datetime"])[:10]), "LARGE"] for s in scenes]
    assert any(not cell.mixed[0] for cell in pure)


def test_rasters_lie_on_the_sensors_grid(world: FarmWorld, folder: Path) -> None:
    own = next(f for f in world_farms(world) if world.farm(f.farm_id).size_class_ha == 20.0)
    landsat = next(iter(observe(scenes_in(folder / "landsat", LANDSAT)[:1], [own], LANDSAT).values()))
    modis = next(iter(observe(scenes_in(folder / "modis", MODIS)[:1], [own], MODIS).values()))

    assert landsat.clips.grid.crs == "EPSG:32637"
    assert landsat.clips.grid.west_m % 30 == 15
    assert modis.clips.grid.pixel_m == pytest.approx(463.3127165)
    assert pyproj.CRS(modis.clips.grid.crs).to_epsg() is None


@pytest.mark.parametrize(
    ("first", "day", "expected"),
    [
        ("2026-01-09", 9, date(2026, 1, 9)),
        ("2026-01-09", 16, date(2026, 1, 16)),
        ("2025-12-19", 2, date(2026, 1, 2)),
        ("2024-12-18", 1, date(2025, 1, 1)),
    ],
)
def test_a_day_of_the_year_is_a_date_in_or_after_the_window(first: str, day: int, expected: date) -> None:
    item = {
        "id": "MOD13Q1",
        "bbox": [30.0, -10.0, 40.0, 0.0],
        "properties": {"datetime": None, "start_datetime": f"{first}T00:00:00Z"},
        "assets": {key: {"href": f"./{key}.tif"} for key in MODIS.assets.values()},
    }
    scene = scene_from_item(item, MODIS, "https://example.test/i.json", provider="test")
    assert isinstance(scene, Scene)

    assert seen_at(scene, day).date() == expected


def test_digital_numbers_outside_the_products_range_are_no_measurement(tmp_path: Path) -> None:
    row = replace(profile("planetary-computer", "modis-13Q1-061"), composite_days=1, day_band=None)
    grid = utm_grid(n=64)
    red = np.full((64, 64), 1000, np.int16)
    nir = np.full((64, 64), 3000, np.int16)
    red[8:12, 8:16] = 10_001
    nir[12:16, 8:16] = -1000
    nir[16:18, 8:16] = 10_000
    good = np.zeros((64, 64), np.int8)
    good[18:20, 8:16] = -1
    good[20:22, 8:16] = 3
    files = {"red": red, "nir08": nir, "pixel_reliability": good}
    assets = {}
    for name, values in files.items():
        write(tmp_path / f"{name}.tif", values, grid)
        assets[row.assets[name]] = {"href": str(tmp_path / f"{name}.tif")}
    item = {"id": "X", "bbox": [-180, -90, 180, 90], "properties": {"datetime": "2024-06-01T08:00:00Z"}}
    scene = scene_from_item({**item, "assets": assets}, row, str(tmp_path / "item.json"), provider="test")
    assert isinstance(scene, Scene)
    ((_, cell),) = observe([scene], [farm("A", shapely.box(8, 8, 16, 24), grid)], row).items()

    assert cell.share(PixelReason.REFLECTANCE_OUT_OF_RANGE) == pytest.approx(4 / 16)
    assert cell.share(PixelReason.NODATA) == pytest.approx(4 / 16 + 2 / 16)
    assert cell.share(PixelReason.CLOUD) == pytest.approx(2 / 16)
    expected = (2 * (1.0 - 0.1) / 1.1 + 2 * (0.3 - 0.1) / 0.4) / 4
    assert cell.mean() == pytest.approx(expected, abs=1e-6)


def write(path: Path, values: np.ndarray, grid: PixelGrid) -> None:
    height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=values.dtype,
        count=1,
        height=height,
        width=width,
        crs=grid.crs,
        transform=Affine(*grid.transform),
        tiled=True,
        blockxsize=64,
        blockysize=64,
        compress="DEFLATE",
    ) as target:
        target.write(values, 1)


@needs_shared_data
@pytest.mark.parametrize(("folder_name", "clear_at_least"), [("008059", 0.02), ("017036", 0.0)])
def test_real_landsat_files_give_what_numpy_gives(folder_name: str, clear_at_least: float, tmp_path: Path) -> None:
    """Real digital numbers and quality bits; the samples are given the square pixels that the originals have."""
    source = SHARED_DATA / "landsat_c2_l2" / folder_name
    item = json.loads(next(source.glob("*_SR_stac.json")).read_text())
    grid = utm_grid(epsg=32618, west=378_285.0, north=275_715.0, px=30.0, n=512)
    for asset in item["assets"].values():
        name = Path(asset["href"]).name
        if not (source / name).is_file() or not name.endswith("TIF"):
            continue
        with rasterio.open(source / name) as original:
            write(tmp_path / name, original.read(1), grid)
        asset["href"] = f"./{name}"
    to_lonlat = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    left, bottom, right, top = grid.bounds
    west, south = to_lonlat.transform(left, bottom)
    east, north = to_lonlat.transform(right, top)
    item |= {"bbox": [west, south, east, north], "geometry": None}
    scene = scene_from_item(item, LANDSAT, str(tmp_path / "item.json"), provider="test")
    assert isinstance(scene, Scene)
    independent = landsat_pixels(scene)
    farms = [
        farm(f"F{row}-{col}", shapely.box(col + 0.3, row + 0.4, col + 60.2, row + 44.7), grid)
        for row in range(60, 440, 60)
        for col in range(60, 420, 70)
    ]
    found = observe([scene], farms, LANDSAT)
    shares = []
    for own in farms:
        ((_, cell),) = ((key, c) for key, c in found.items() if key[1] == own.farm_id)
        mean, _, share = independent.farm(own.boundary_wkb)
        shares.append(share)
        if cell.verdicts is not None:
            assert cell.verdicts.status is ObservationStatus.OUTSIDE_FOOTPRINT
            assert np.isnan(mean)
            continue
        assert cell.share(PixelReason.VALID) <= share + 0.005
        if np.isfinite(mean):
            assert cell.mean() == pytest.approx(mean, abs=2e-3 if cell.mixed[0] else 1e-5)
        if folder_name == "017036":
            # The scene is wholly cloudy; what is no cloud is the fill around its slanted outline.
            assert cell.share(PixelReason.CLOUD) + cell.share(PixelReason.NODATA) > 0.95
    assert max(shares) >= clear_at_least
