"""Pictures show what is stored: colours, holes, order of time."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm_intel.domain.batches import RASTER_NODATA
from farm_intel.domain.errors import StoreError
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.observations import CoverageDay, Flag, Observation, ObservationKey, ObservationStatus
from farm_intel.domain.observations import ZonalStatistics as Statistics
from farm_intel.domain.publication import RasterEncoding
from farm_intel.indices.registry import load_registry
from farm_intel.observing.pictures import sparkline_png, sparkline_text, thumbnail
from farm_intel.observing.season_plot import season_plot
from farm_intel.storage.geotiff import encode_geotiff
from farm_intel.storage.rasters import RasterBand
from farm_intel_tests.support.fakes import make_farm

NDVI = load_registry().get("ndvi")
FIRST = date(2026, 3, 1)


def seen(day: int, mean: float | None, *flags: Flag, status: str = "observed") -> Observation:
    numbers = Statistics(
        mean=mean, median=mean, std=0.05, min=mean - 0.1, max=mean + 0.1, p10=mean - 0.05, p25=mean, p75=mean,
        p90=mean + 0.05,
    ) if mean is not None else None  # fmt: skip
    return Observation(
        key=ObservationKey(
            farm_id="a", index="ndvi", provider="stac", collection="s2", solar_day=FIRST + timedelta(days=day)
        ),
        status=ObservationStatus(status),
        statistics=numbers,
        pixel_count=30,
        valid_pixel_count=25,
        used_pixel_count=25,
        n_effective=25.0,
        standard_error=0.01 if numbers else None,
        valid_pixel_fraction=1.0,
        cloud_fraction=0.0,
        covered_fraction=1.0,
        flags=flags,
        reason="" if numbers else "100% cloud",
        gsd_m=10.0,
    )


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.0, 0.5, 1.0], "▁▅█"), ([0.3, None, 0.3], "▅·▅"), ([], ""), ([None], "·"), ([float("nan"), 1.0], "·▅")],
)
def test_a_sparkline_keeps_order_and_gaps(values: list[float | None], text: str) -> None:
    assert sparkline_text(values) == text


def test_a_sparkline_on_a_given_range_is_clamped() -> None:
    assert sparkline_text([-1.0, 0.0, 2.0], (0.0, 1.0)) == "▁▁█"


def test_a_thumbnail_has_the_indexs_colours_and_transparent_holes(tmp_path: Path) -> None:
    data = np.array([[[0, 9000], [RASTER_NODATA, 9000]]], np.int16)
    grid = PixelGrid(crs="EPSG:32637", width_px=2, height_px=2, pixel_m=10.0, west_m=0.0, north_m=0.0)
    path = tmp_path / "a.tif"
    path.write_bytes(encode_geotiff(data, grid, (RasterBand(name="ndvi", scale=1e-4, offset=0.0),), {}))
    shown = pixels(
        thumbnail(path.read_bytes(), 1, RasterEncoding(scale=1e-4, offset=0.0), NDVI.colour_map, name="a.tif")
    )
    half = shown.shape[0] // 2
    expected = NDVI.colour_map.rgb(np.array([0.0, 0.9]))

    assert shown[half + 1, 1, 3] == 0
    assert np.abs(shown[1, 1, :3].astype(int) - expected[0]).max() <= 12
    assert np.abs(shown[1, -2, :3].astype(int) - expected[1]).max() <= 12


def test_a_damaged_raster_is_a_typed_error() -> None:
    with pytest.raises(StoreError, match=r"a\.tif"):
        thumbnail(b"no raster", 1, RasterEncoding(scale=1.0, offset=0.0), NDVI.colour_map, name="a.tif")


def test_one_number_makes_no_series_picture() -> None:
    assert sparkline_png([seen(0, 0.4)], NDVI) is None
    assert sparkline_png([seen(0, 0.4), seen(5, None, status="cloudy")], NDVI) is None


def test_a_series_picture_is_small_enough_for_an_event() -> None:
    png = sparkline_png([seen(5 * n, 0.3 + 0.02 * n) for n in range(20)], NDVI)

    assert png is not None
    assert len(png) < 4000
    assert pixels(png).std() > 5


def test_the_season_shows_numbers_holes_and_planting() -> None:
    rows = [seen(0, 0.3), seen(5, 0.5, Flag.PARTLY_CLOUDY), seen(10, None, status="cloudy"), seen(15, 0.7)]
    calendar = [
        CoverageDay(
            farm_id="a",
            provider="stac",
            collection="s2",
            solar_day=FIRST + timedelta(days=10),
            status=ObservationStatus.CLOUDY,
            reason="100% cloud",
        ),
    ]
    farm = make_farm("a", crop="maize", planting_date=FIRST - timedelta(days=10))
    full = season_plot(rows, NDVI, farm, calendar)
    svg = season_plot(rows, NDVI, farm, calendar, image_format="svg").decode()
    plain = season_plot(rows, NDVI, replace(farm, crop=None, planting_date=None))

    assert pixels(full).shape[1] > 1000
    assert full != plain
    assert "maize" in svg
    assert "cloudy" in svg
    assert "planted" in svg


def test_a_season_without_a_single_number_is_still_drawn() -> None:
    assert pixels(season_plot([seen(0, None, status="cloudy")], NDVI, make_farm("a"))).size > 0
