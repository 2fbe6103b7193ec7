"""The analyst's cube holds the same pixels as our own rasters."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from farm_intel.bootstrap import Container
from farm_intel.domain.errors import BadRequestError
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.support.installations import SHARED, install, observe


class Silent:
    def advance(self, done: int, total: int, detail: str) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Container:
    home = tmp_path_factory.mktemp("cube")
    options = WorldOptions(days=11, farms=6, tile_px=360, sizes_ha=(1.0, 5.0), cloudiness=0.5)
    files = write_world(FarmWorld(options), home / "world")
    container = install(home, files.catalog, files.farms)
    observe(container, ("ndvi", "ndmi"), date(2026, 1, 4), date(2026, 1, 14))
    return container


def test_the_cube_equals_the_published_rasters(installation: Container, tmp_path: Path) -> None:
    """stackstac on the file's own grid reads what the engine reads, band for band, offset for offset."""
    target = tmp_path / "farm.zarr"
    compared = 0
    for farm in installation.farms.list():
        if farm.farm_id == "S-OUTSIDE":
            continue
        report = installation.write_cube(
            farm.farm_id, ("ndvi", "ndmi"), start=date(2026, 1, 4), end=date(2026, 1, 14), target=target,
            progress=Silent(),
        )  # fmt: skip
        cube = xr.open_zarr(report.path)
        for row in installation.observations.observations(farm_ids=[farm.farm_id], indices=["ndvi", "ndmi"]):
            if row.raster_path is None or row.statistics is None or len(row.scene_ids) > 1:
                continue
            with rasterio.open(installation.settings.resolved_raster_root / row.raster_path) as raster:
                ours = raster.read(row.raster_band, masked=True).astype(float).filled(np.nan) * 1e-4
                bounds, crs = raster.bounds, raster.crs
            if crs != rasterio.CRS.from_wkt(cube["spatial_ref"].attrs["spatial_ref"]):
                continue
            theirs = cube[row.key.index].sel(time=str(row.key.solar_day))
            theirs = theirs.sel(x=slice(bounds.left, bounds.right), y=slice(bounds.top, bounds.bottom)).values
            if theirs.shape != ours.shape:
                continue
            inside = np.isfinite(ours)
            assert np.abs(theirs[inside] - ours[inside]).max() <= 6e-5
            compared += 1

    assert compared >= 20


def test_the_cube_says_what_it_is(installation: Container, tmp_path: Path) -> None:
    farm = installation.farms.list()[0].farm_id
    report = installation.write_cube(
        farm, ("ndvi",), start=date(2026, 1, 4), end=date(2026, 1, 14), target=tmp_path / "a.zarr", progress=Silent()
    )
    cube = xr.open_zarr(report.path)

    assert cube["ndvi"].attrs["units"] == "1"
    assert cube["ndvi"].dims == ("time", "y", "x")
    assert cube["time"].size == report.days == 3
    assert "GeoTransform" in cube["spatial_ref"].attrs
    assert not list(tmp_path.glob(".*partial"))


def test_no_scene_is_a_clear_answer(installation: Container, tmp_path: Path) -> None:
    farm = installation.farms.list()[0].farm_id

    with pytest.raises(BadRequestError, match="no usable scene"):
        installation.write_cube(
            farm, ("ndvi",), start=date(2026, 1, 5), end=date(2026, 1, 6), target=tmp_path / "a.zarr", progress=Silent()
        )
    with pytest.raises(BadRequestError, match="before the first"):
        installation.write_cube(
            farm, ("ndvi",), start=date(2026, 1, 6), end=date(2026, 1, 5), target=tmp_path / "a.zarr", progress=Silent()
        )


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real imagery is not beside the repository")
def test_a_grid_off_the_multiples_of_its_resolution_is_kept(tmp_path: Path) -> None:
    """At 120 m the real tile starts at 529,980: snapping to multiples would shift every pixel by half."""
    parcels = SHARED / "fields" / "SI_2021.zip"
    container = install(tmp_path, SHARED / "sentinel2_33T_120m" / "items", parcels)
    farm = max(container.farms.list(), key=lambda f: f.area_ha)
    report = container.write_cube(
        farm.farm_id, ("ndvi",), start=date(2023, 8, 15), end=date(2023, 8, 15), target=tmp_path / "a.zarr",
        progress=Silent(),
    )  # fmt: skip
    cube = xr.open_zarr(report.path)
    with rasterio.open(next((SHARED / "sentinel2_33T_120m").glob("*TWM_20230815*/B04.tif"))) as file:
        red = next(file.sample([(float(cube.x[1]), float(cube.y[1]))]))[0]
    with rasterio.open(next((SHARED / "sentinel2_33T_120m").glob("*TWM_20230815*/B08.tif"))) as file:
        nir = next(file.sample([(float(cube.x[1]), float(cube.y[1]))]))[0]

    assert (float(cube.x[0]) - 529_980 - 60) % 120 == 0
    assert float(cube["ndvi"][0, 1, 1]) == pytest.approx((float(nir) - red) / (float(nir) + red), abs=1e-6)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real imagery is not beside the repository")
def test_a_second_tile_fills_gaps_and_not_clouds(tmp_path: Path) -> None:
    """Where the home tile 33TWM has a masked pixel, 33TWL, which shows the same ground, must not answer for it."""
    farm_file = tmp_path / "overlap.geojson"
    corner = [(16.0, 46.0), (16.3, 46.0), (16.3, 46.04), (16.0, 46.04), (16.0, 46.0)]
    farm_file.write_text(json.dumps({"type": "Polygon", "coordinates": [corner]}), "utf-8")
    container = install(tmp_path, SHARED / "sentinel2_33T_120m" / "items", farm_file)
    report = container.write_cube(
        "overlap", ("ndvi",), start=date(2023, 8, 10), end=date(2023, 8, 20), target=tmp_path / "a.zarr",
        progress=Silent(),
    )  # fmt: skip
    cube = xr.open_zarr(report.path)
    masked_at_home = answered = 0
    for day in cube.time.values:
        stamp = str(day)[:10].replace("-", "")
        names = ("SCL", "B04", "B08")
        paths = [next((SHARED / "sentinel2_33T_120m").glob(f"*{tile}_{stamp}*")) for tile in ("33TWM", "33TWL")]
        home, other = ([_sampled(path / f"{name}.tif", cube) for name in names] for path in paths)
        clear_elsewhere = np.isin(other[0], (4, 5, 6)) & (other[1] > 0) & (other[2] > 0)
        masked = np.isin(home[0], (3, 8, 9, 10)) & clear_elsewhere
        values = cube["ndvi"].sel(time=day).values
        masked_at_home += int(masked.sum())
        answered += int(np.isfinite(values[masked]).sum())

    assert masked_at_home > 50
    assert answered == 0


def test_only_a_zarr_is_replaced(installation: Container, tmp_path: Path) -> None:
    farm = installation.farms.list()[0].farm_id
    days = {"start": date(2026, 1, 4), "end": date(2026, 1, 14)}
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "thesis.txt").write_text("all I have", "utf-8")

    with pytest.raises(BadRequestError, match="is no Zarr"):
        installation.write_cube(farm, ("ndvi",), **days, target=tmp_path / "mine.zarr", progress=Silent())
    assert (tmp_path / "mine.zarr" / "thesis.txt").is_file()
    for _ in range(2):
        installation.write_cube(farm, ("ndvi",), **days, target=tmp_path / "a.zarr", progress=Silent())
    assert xr.open_zarr(tmp_path / "a.zarr").time.size == 3


def _sampled(path: Path, cube: xr.Dataset) -> np.ndarray:
    """Return the file's pixels at the cube's pixel centres, 0 outside the file."""
    with rasterio.open(path) as file:
        points = [(x, y) for y in cube.y.values for x in cube.x.values]
        values = np.array([value[0] for value in file.sample(points)])
    return values.reshape(cube.y.size, cube.x.size)
