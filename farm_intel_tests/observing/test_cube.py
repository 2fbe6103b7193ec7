"""The analyst's cube holds the same pixels as our own rasters."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from pyproj import Transformer

from farm_intel.bootstrap import Container, build_container, load_settings
from farm_intel.cli.requests import days_between
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.scenes import Scene
from farm_intel.observing.cube import PIECE_BYTES, CubeReport, CubeSource, write_cube
from farm_intel.observing.model import ObserveRequest
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


def compare(installation: Container, slugs: tuple[str, ...], provider: str, target: Path) -> tuple[int, int]:
    """Hold every farm's cube against its stored rasters; return how many were alike, and how many pixels masked."""
    compared = masked = 0
    for farm in installation.farms.list():
        if farm.farm_id == "S-OUTSIDE":
            continue
        report = installation.write_cube(
            farm.farm_id, slugs, start=date(2026, 1, 4), end=date(2026, 1, 24), target=target, progress=Silent(),
            provider_name=provider,
        )  # fmt: skip
        cube = xr.open_zarr(report.path)
        rows = installation.observations.observations(farm_ids=[farm.farm_id], indices=slugs, provider=provider)
        for row in rows:
            if row.raster_path is None or row.statistics is None or len(row.scene_ids) > 1:
                continue
            with rasterio.open(f"{installation.settings.resolved_raster_root}/{row.raster_path}") as raster:
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
            # the raster ends at the farm's boundary, the cube does not: no pixel that is masked there is open here
            wholly = _inside(farm.boundary_wkb, raster, crs)
            assert not np.isfinite(theirs[wholly & ~inside]).any()
            masked += int((wholly & ~inside).sum())
            compared += 1
    return compared, masked


def _inside(boundary_wkb: bytes, raster: rasterio.DatasetReader, crs: rasterio.CRS) -> np.ndarray:
    """Return the pixels that lie in the farm with both feet: a pixel's width away from its boundary."""
    boundary = shapely.from_wkb(boundary_wkb)
    to_raster = Transformer.from_crs(4326, crs, always_xy=True)
    moved = shapely.transform(boundary, lambda xy: np.column_stack(to_raster.transform(xy[:, 0], xy[:, 1])))
    cols, rows = np.meshgrid(np.arange(raster.width), np.arange(raster.height))
    x = raster.transform.c + (cols + 0.5) * raster.transform.a
    y = raster.transform.f + (rows + 0.5) * raster.transform.e
    return shapely.contains_xy(shapely.buffer(moved, -2 * raster.transform.a), x, y)


def test_the_cube_equals_the_published_rasters(installation: Container, tmp_path: Path) -> None:
    """stackstac on the file's own grid reads what the engine reads, band for band, offset for offset."""
    compared, _ = compare(installation, ("ndvi", "ndmi"), "stac", tmp_path / "farm.zarr")

    assert compared >= 20


def test_landsat_cubes_heed_all_masks_and_the_dilation_of_stored_numbers(tmp_path: Path) -> None:
    """Saturated pixels stand in a second mask; dilation is a setting of the engine."""
    options = WorldOptions(days=21, farms=6, tile_px=360, sizes_ha=(5.0, 20.0), cloudiness=0.4, seed=3)
    files = write_world(FarmWorld(options), tmp_path / "world", sensors=("sentinel-2", "landsat"))
    saturation = list((tmp_path / "world").rglob("*QA_RADSAT.TIF"))
    assert saturation
    for path in saturation:  # some archives declare it, and 0, "not saturated", would be read as nothing
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            file.nodata = 0
    container = install(
        tmp_path / "home", files.catalog, files.farms, providers=("landsat",), landsat_url=str(files.catalog),
        mask_dilation_px=2,
    )  # fmt: skip
    request = ObserveRequest(
        provider="landsat",
        collection="landsat-c2-l2",
        indices=("ndvi", "evi"),
        farm_ids=tuple(farm.farm_id for farm in container.farms.list()),
        days=days_between(date(2026, 1, 4), date(2026, 1, 24)),
    )
    assert list(container.observing.observe(request, run_id="test"))

    compared, masked = compare(container, ("ndvi", "evi"), "landsat", tmp_path / "farm.zarr")

    assert compared >= 6
    assert masked > 20


def test_a_long_series_is_written_in_pieces_and_a_bad_scene_is_told(tmp_path: Path) -> None:
    options = WorldOptions(days=31, farms=2, tile_px=360, sizes_ha=(2.0,), cloudiness=0.2)
    files = write_world(FarmWorld(options), tmp_path / "world")
    container = install(tmp_path / "home", files.catalog, files.farms)
    farm = container.farms.list()[0]
    scenes = container.observing.scenes_over(
        farm.farm_id, start=date(2026, 1, 1), end=date(2026, 1, 31), provider="stac"
    )
    source = CubeSource(
        profile=container.providers["stac"].profile, refresh=lambda scene: scene, options=container.engine_options
    )

    def write(name: str, piece_bytes: int) -> tuple[CubeReport, xr.Dataset]:
        report = write_cube(
            tmp_path / name, farm=farm, scenes=scenes, indices=container.registry.select(["ndvi"]), source=source,
            progress=Silent(), piece_bytes=piece_bytes,
        )  # fmt: skip
        return report, xr.open_zarr(report.path)

    whole, at_once = write("whole.zarr", PIECE_BYTES)
    _, in_pieces = write("pieces.zarr", 2 * 4 * math.prod(whole.shape))
    assert whole.days >= 5
    assert in_pieces.ndvi.chunks[0] == (*[2] * (whole.days // 2), *[1] * (whole.days % 2))
    xr.testing.assert_identical(at_once.load(), in_pieces.load())

    bare = replace(
        scenes[2], bands={name: band for name, band in scenes[2].bands.items() if not name.startswith("nir")}
    )
    report = write_cube(
        tmp_path / "bare.zarr", farm=farm, scenes=[*scenes[:2], bare], indices=container.registry.select(["ndvi"]),
        source=source, progress=Silent(),
    )  # fmt: skip
    assert any(bare.scene_id in reason and "missing_asset" in reason for reason in report.left_out)
    gone = scenes[1]
    Path(gone.bands["red"].href).unlink()
    report, rest = write("rest.zarr", PIECE_BYTES)
    (reason,) = set(report.left_out) - set(whole.left_out)
    assert f"{gone.scene_id}: unreadable_file: band red cannot be read" in reason
    assert reason in str(report)
    xr.testing.assert_identical(at_once.sel(time=rest.time).load(), rest.load())
    assert rest.time.size == whole.days - 1


def test_no_signature_is_told(installation: Container, tmp_path: Path) -> None:
    farm = installation.farms.list()[0]
    days = {"start": date(2026, 1, 4), "end": date(2026, 1, 14)}
    scenes = installation.observing.scenes_over(farm.farm_id, **days, provider="stac")

    def sign(scene: Scene) -> Scene:
        bands = {
            name: replace(band, href=f"http://127.0.0.1:9/{name}.tif?sig=SECRET") for name, band in scene.bands.items()
        }
        return replace(scene, bands=bands)

    source = CubeSource(
        profile=installation.providers["stac"].profile, refresh=sign, options=installation.engine_options
    )
    with pytest.raises(BadRequestError, match="no usable scene") as refused:
        write_cube(
            tmp_path / "a.zarr", farm=farm, scenes=scenes, indices=installation.registry.select(["ndvi"]),
            source=source, progress=Silent(),
        )  # fmt: skip
    assert "cannot be read" in str(refused.value)
    assert "SECRET" not in str(refused.value)


def test_an_index_the_product_cannot_serve_is_refused_by_name(installation: Container, tmp_path: Path) -> None:
    profile = installation.providers["stac"].profile
    without = {name: key for name, key in profile.assets.items() if not name.startswith("nir")}
    source = CubeSource(
        profile=replace(profile, assets=without), refresh=lambda scene: scene, options=installation.engine_options
    )

    with pytest.raises(UnknownNameError, match="index ndvi needs"):
        write_cube(
            tmp_path / "a.zarr", farm=installation.farms.list()[0], scenes=[], source=source, progress=Silent(),
            indices=installation.registry.select(["ndvi"]),
        )  # fmt: skip


def test_providers_without_files_are_refused_by_name(tmp_path: Path) -> None:
    container = build_container(
        load_settings(
            home=tmp_path,
            providers=("sentinel_hub", "stac"),
            sentinel_hub_client_id="a",
            sentinel_hub_client_secret="b",  # noqa: S106 - nobody is asked
        )
    )
    days = {"start": date(2026, 1, 4), "end": date(2026, 1, 14)}

    for name, words in [
        ("landsat", "is not in use"),
        ("nobody", "nobody"),
        ("sentinel_hub", "not with files"),
    ]:
        with pytest.raises((UnknownNameError, BadRequestError), match=words):
            container.write_cube(
                "a", ("ndvi",), **days, target=tmp_path / "a.zarr", progress=Silent(), provider_name=name
            )


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
