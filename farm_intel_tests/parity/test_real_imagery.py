"""Real Sentinel-2 imagery through our whole path, against odc-stac + exactextract."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import odc.stac
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from odc.geo.geobox import GeoBox

from farm_intel.bootstrap import Container
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.observing.model import CellOutcome
from farm_intel_tests.support.installations import SHARED, install, observe

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="the shared real imagery is not beside the repository")

SPAIN = SHARED / "sentinel2_field_spain_2019"
SLOVENIA = SHARED / "sentinel2_33T_120m"
CLEAR_CLASSES = (4, 5, 6)
TOLERANCE = 0.005


@dataclass(frozen=True)
class Second:
    """What the second opinion says of one farm and day."""

    pure_mean: float
    pure_pixels: int
    covered: float


def native_grid(item: pystac.Item, bounds: np.ndarray, *, epsg: int, pixel_m: float) -> GeoBox:
    """Return the file's own grid around bounds: odc's snapping to multiples of 120 m would shift it by half a pixel."""
    with rasterio.open(item.assets["red"].get_absolute_href()) as file:
        west, north = file.transform.c, file.transform.f
    left = west + np.floor((bounds[0] - west) / pixel_m) * pixel_m
    top = north - np.floor((north - bounds[3]) / pixel_m) * pixel_m
    shape = (int(np.ceil((top - bounds[1]) / pixel_m)), int(np.ceil((bounds[2] - left) / pixel_m)))
    return GeoBox(shape, Affine(pixel_m, 0, left, 0, -pixel_m, top), f"EPSG:{epsg}")


def second_opinion(
    items: list[pystac.Item], boundary: gpd.GeoDataFrame, *, epsg: int, pixel_m: float
) -> dict[date, Second]:
    """Return day -> mean over clear pixels wholly inside, by odc-stac and exactextract; no offset is in the pixels."""
    projected = boundary.to_crs(epsg)
    grid = native_grid(items[0], projected.buffer(3 * pixel_m).total_bounds, epsg=epsg, pixel_m=pixel_m)
    cube = odc.stac.load(items, bands=["red", "nir", "scl"], geobox=grid, groupby="solar_day", resampling="nearest")
    left, bottom, right, top = grid.boundingbox
    ones = NumPyRasterSource(np.ones(grid.shape), xmin=left, ymin=bottom, xmax=right, ymax=top)
    cells = exact_extract(ones, projected, ["cell_id", "coverage"], output="pandas").iloc[0]
    coverage = np.zeros(grid.shape).ravel()
    coverage[np.asarray(cells["cell_id"], int)] = cells["coverage"]
    coverage = coverage.reshape(grid.shape)
    answers = {}
    for step in range(cube.sizes["time"]):
        red, nir, scl = (cube[name].values[step].astype(float) for name in ("red", "nir", "scl"))
        with np.errstate(invalid="ignore", divide="ignore"):
            ndvi = (nir - red) / (nir + red)
        clear = np.isin(scl, CLEAR_CLASSES) & (red > 0) & (nir > 0)
        pure = clear & (coverage > 1 - 1 / 510)
        day = cube.time.values[step].astype("datetime64[D]").item()
        answers[day] = Second(
            pure_mean=float(ndvi[pure].mean()) if pure.any() else float("nan"),
            pure_pixels=int(pure.sum()),
            covered=float((coverage * (red > 0)).sum() / coverage.sum()),
        )
    return answers


@pytest.fixture(scope="module")
def spain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Container, dict[date, CellOutcome]]:
    """The Spanish field's 2019, observed through a static catalogue."""
    home = tmp_path_factory.mktemp("spain")
    container = install(home, SPAIN / "catalog.json", SPAIN / "field.geojson")
    outcomes = observe(container, ("ndvi",), date(2019, 1, 1), date(2019, 12, 31))
    return container, {outcome.key.solar_day: outcome for outcome in outcomes}


def test_every_acquisition_has_a_number_or_a_reason(
    spain: tuple[Container, dict[date, CellOutcome]],
) -> None:
    container, outcomes = spain
    calendar = container.observations.calendar(farm_id="field")

    assert len(outcomes) == 33
    assert all((o.statistics is not None) != bool(o.reason) for o in outcomes.values())
    assert len(calendar) == 365
    assert sum(day.status is ObservationStatus.NO_ACQUISITION for day in calendar) == 332
    assert all(day.reason for day in calendar if day.status is not ObservationStatus.OBSERVED)


def test_the_spanish_season_agrees_with_odc_stac_and_exactextract(
    spain: tuple[Container, dict[date, CellOutcome]],
) -> None:
    _, outcomes = spain
    items = list(pystac.Catalog.from_file(str(SPAIN / "catalog.json")).get_items(recursive=True))
    for item in items:
        item.make_asset_hrefs_absolute()
    field = gpd.GeoDataFrame(
        geometry=[shapely.geometry.shape(json.loads((SPAIN / "field.geojson").read_text()))], crs=4326
    )
    theirs = second_opinion(items, field, epsg=32630, pixel_m=10)

    compared = {
        day: abs(outcome.statistics.mean - theirs[day].pure_mean)
        for day, outcome in outcomes.items()
        if outcome.statistics is not None and Flag.MIXED_PIXELS not in outcome.flags
    }

    assert len(compared) >= 30
    assert max(compared.values()) <= TOLERANCE
    for day, outcome in outcomes.items():
        assert outcome.covered_fraction == pytest.approx(theirs[day].covered, abs=0.005)


def test_partly_covered_days_are_flagged(spain: tuple[Container, dict[date, CellOutcome]]) -> None:
    """On four days the swath ends inside the field."""
    _, outcomes = spain
    partial = {day for day, o in outcomes.items() if Flag.PARTIAL_COVERAGE in o.flags}

    assert partial == {date(2019, 2, 6), date(2019, 3, 3), date(2019, 7, 26), date(2019, 11, 23)}
    corner = outcomes[date(2019, 7, 26)]
    assert (corner.status, corner.statistics) == (ObservationStatus.OUTSIDE_FOOTPRINT, None)
    assert "8%" in corner.reason


def test_the_season_has_its_shape(spain: tuple[Container, dict[date, CellOutcome]]) -> None:
    """A winter cereal: green in April and May, straw in July, bare in August."""
    _, outcomes = spain
    means = {day: o.statistics.mean for day, o in outcomes.items() if o.statistics}

    assert max(means, key=means.__getitem__).month in {4, 5}
    assert means[date(2019, 8, 15)] < 0.25


@pytest.fixture(scope="module")
def slovenian_farms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real parcels of 0.3 to 9 ha dissolved with their neighbours into blocks of at least 25 ha."""
    parcels = gpd.read_file(f"zip://{SHARED / 'fields' / 'SI_2021.zip'}").to_crs(3794)
    block = parcels.copy()
    block["geometry"] = block.geometry.centroid.buffer(400).envelope
    merged = block.dissolve().explode(index_parts=False)
    merged = merged[merged.area >= 250_000][["geometry"]].reset_index(drop=True)
    merged["farm_id"] = [f"block_{n}" for n in range(len(merged))]
    path = tmp_path_factory.mktemp("farms") / "blocks.gpkg"
    merged.to_file(path, driver="GPKG")
    return path


def test_slovenian_blocks_agree_and_their_offset_is_not_applied_twice(slovenian_farms: Path, tmp_path: Path) -> None:
    """Earth Search declares -0.1 and says it was removed already; applied again, NDVI would pass 1."""
    container = install(tmp_path, SLOVENIA / "items", slovenian_farms)
    outcomes = observe(container, ("ndvi",), date(2023, 8, 8), date(2023, 8, 22))
    boundaries = gpd.read_file(slovenian_farms)
    items = [pystac.Item.from_file(str(path)) for path in sorted((SLOVENIA / "items").glob("*.json"))]
    for item in items:
        item.make_asset_hrefs_absolute()
    differences = []
    for outcome in outcomes:
        if outcome.statistics is None or {Flag.MIXED_PIXELS, Flag.MERGED_TILES} & set(outcome.flags):
            continue
        # Both tiles show the overlap, from two runs of the processor: compare with the tile that was used.
        used = [item for item in items if item.id in outcome.scene_ids]
        boundary = boundaries[boundaries["farm_id"] == outcome.key.farm_id]
        theirs = second_opinion(used, boundary, epsg=32633, pixel_m=120)[outcome.key.solar_day]
        differences.append(abs(outcome.statistics.mean - theirs.pure_mean))
    observed = [outcome for outcome in outcomes if outcome.statistics]

    assert {outcome.key.solar_day for outcome in outcomes} == {date(2023, 8, d) for d in (10, 13, 15, 18, 20)}
    assert len(differences) >= 10
    assert max(differences) <= TOLERANCE
    assert all(0.0 < outcome.statistics.mean < 1.0 for outcome in observed if outcome.statistics)
    assert np.median([outcome.statistics.mean for outcome in observed if outcome.statistics]) > 0.5
    assert all("flag" in outcome.radiometry for outcome in observed)


def test_small_parcels_at_120_m_have_too_few_pixels_and_say_so(tmp_path: Path) -> None:
    container = install(tmp_path, SLOVENIA / "items", SHARED / "fields" / "SI_2021.zip", min_valid_fraction=0.1)
    outcomes = observe(container, ("ndvi",), date(2023, 8, 15), date(2023, 8, 15))
    small = [o for o in outcomes if o.status is ObservationStatus.TOO_FEW_PIXELS]

    assert len(small) > 50
    assert all(o.statistics is None and o.reason for o in small)
