"""Coverage against shapely's exact intersections and against exactextract."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource

from farm_intel.engine.coverage import WHOLE, coverage_window, purity, quantise
from farm_intel.engine.grid import cut_cells, load_geometries, project
from farm_intel_tests.engine.support import farm, utm_grid


def random_polygon(rng: np.random.Generator, size: float) -> shapely.Polygon:
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 25)))
    radius = rng.uniform(0.3, 1, len(angles)) * size
    centre = rng.uniform(25, 35, 2)
    ring = np.c_[centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)]
    return shapely.Polygon(ring)


def shapes() -> dict[str, shapely.Geometry]:
    rng = np.random.default_rng(5)
    found: dict[str, shapely.Geometry] = {}
    while len(found) < 60:
        polygon = random_polygon(rng, float(rng.uniform(0.2, 18)))
        if polygon.is_valid and polygon.area > 0:
            found[f"random{len(found)}"] = polygon
    big = shapely.box(20.3, 20.7, 44.1, 41.2)
    found["hole"] = big.difference(shapely.Point(30, 30).buffer(4.4))
    found["hole over cell edge"] = big.difference(shapely.box(25, 25, 27, 26.5))
    found["two parts in one cell"] = shapely.MultiPolygon(
        [shapely.box(30.1, 30.1, 30.3, 30.9), shapely.box(30.6, 30.1, 30.7, 30.4)]
    )
    found["sliver"] = shapely.Polygon([(22, 22.01), (40, 33.7), (22.02, 22)])
    found["within one pixel"] = shapely.box(30.2, 30.4, 30.5, 30.6)
    found["on pixel edges"] = shapely.box(24, 24, 30, 33)
    found["touching parts"] = shapely.MultiPolygon([shapely.box(24.5, 24, 30.2, 33), shapely.box(30.2, 33, 34, 36)])
    return found


SHAPES = shapes()


def test_coverage_equals_the_exact_intersection_whatever_the_ring_orientation() -> None:
    boxes = np.array([[shapely.box(c, r, c + 1, r + 1) for c in range(60)] for r in range(60)])
    for name, shape in SHAPES.items():
        for turned in (False, True):
            polygons = list(shapely.get_parts(shape))
            rings = [ring for polygon in polygons for ring in shapely.get_rings(polygon)]
            holes = [k > 0 for polygon in polygons for k in range(1 + len(polygon.interiors))]
            coordinates = [shapely.get_coordinates(ring)[:: -1 if turned else 1] for ring in rings]
            starts = np.cumsum([0, *map(len, coordinates)])
            share = coverage_window(np.concatenate(coordinates), starts, np.array(holes), (60, 60))

            expected = shapely.area(shapely.intersection(boxes, shape))
            assert np.abs(share - expected).max() < 1e-9, name


def test_eight_bit_coverage_agrees_with_exactextract_to_one_step() -> None:
    grid = utm_grid(n=60)
    farms = [farm(name, shape, grid) for name, shape in SHAPES.items()]
    geometries = load_geometries(farms)
    cells = cut_cells(geometries, grid, [1, 2], project(geometries, grid.crs))
    assert list(cells.farm_index) == list(range(len(farms)))

    frame = gpd.GeoDataFrame(geometry=shapely.from_wkb([f.boundary_wkb for f in farms]), crs="EPSG:4326").to_crs(
        grid.crs
    )
    left, bottom, right, top = grid.bounds
    raster = NumPyRasterSource(np.zeros((60, 60)), left, bottom, right, top, srs_wkt=frame.crs.to_wkt())
    found = exact_extract(raster, frame, ["cell_id", "coverage"], output="pandas")
    for k, row in enumerate(found.itertuples()):
        theirs = np.zeros(3600)
        theirs[np.asarray(row.cell_id, int)] = row.coverage
        ours = np.zeros((60, 60))
        span = slice(cells.ptr[k], cells.ptr[k + 1])
        top_row, left_col = cells.windows[k, :2]
        ours[top_row + cells.rows[span], left_col + cells.cols[span]] = cells.coverage[span] / 255
        assert np.abs(ours.ravel() - theirs).max() <= 1 / 255 + 1e-6, farms[k].farm_id
        whole = np.zeros((60, 60), bool)
        whole[top_row + cells.rows[span], left_col + cells.cols[span]] = cells.coverage[span] == WHOLE
        assert (theirs[whole.ravel()] > 0.999).all()


def test_only_whole_pixels_reach_the_top_of_eight_bits_and_only_empty_ones_the_bottom() -> None:
    share = np.array([[0.0, 1e-9, 0.0005, 0.5, 0.9995, 1 - 1e-9, 1.0]])

    assert quantise(share).tolist() == [[0, 0, 1, 128, 254, 255, 255]]


def test_a_coarse_pixel_is_pure_only_where_all_its_base_pixels_are_whole() -> None:
    cover = np.full((6, 6), WHOLE, np.uint8)
    cover[0, 3] = 254

    bits = purity(cover, np.array([1, 2, 3, 6]))

    assert bits[0, 3] == 0
    assert bits[1, 2] == 0b0101
    assert bits[4, 4] == 0b0111
    assert bits[0, 0] == 0b0111
    assert not (bits & 0b1000).any()


def test_windows_are_snapped_to_the_coarsest_pixel() -> None:
    grid = utm_grid(n=120)
    geometries = load_geometries([farm("a", shapely.box(13.2, 25.1, 14.9, 26.8), grid)])
    cells = cut_cells(geometries, grid, [1, 2, 6], project(geometries, grid.crs))

    assert cells.windows[0].tolist() == [24, 12, 6, 6]
    assert cells.clip_grids[0].west_m == grid.west_m + 120
    assert cells.clip_grids[0].north_m == grid.north_m - 240


@pytest.mark.parametrize("form", ["cut", "beyond 180", "ring across"])
@pytest.mark.parametrize("epsg", [32660, 32601])
def test_a_farm_on_the_antimeridian_keeps_its_area_in_both_zones(form: str, epsg: int) -> None:
    from farm_intel.domain.batches import FarmShape

    west, east = (179.995, 180.004)
    lat = (-16.505, -16.495)
    shape = {
        "cut": shapely.MultiPolygon(
            [shapely.box(west, lat[0], 180, lat[1]), shapely.box(-180, lat[0], east - 360, lat[1])]
        ),
        "beyond 180": shapely.box(west, lat[0], east, lat[1]),
        "ring across": shapely.Polygon([(west, lat[0]), (east - 360, lat[0]), (east - 360, lat[1]), (west, lat[1])]),
    }[form]
    geometries = load_geometries([FarmShape(farm_id="a", boundary_wkb=shapely.to_wkb(shape))])
    assert geometries.bounds[0, 2] - geometries.bounds[0, 0] < 0.1 or form == "cut"

    from pyproj import Transformer

    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(180.0, -16.5)
    grid = utm_grid(epsg=epsg, west=round(x, -1) - 2560, north=round(y, -1) + 2560, n=512)
    cells = cut_cells(geometries, grid, [1], project(geometries, grid.crs))

    area_ha = cells.coverage.sum() / 255 / 100
    true_ha = 0.009 * 111_320 * np.cos(np.deg2rad(16.5)) * 0.01 * 110_650 / 1e4
    assert area_ha == pytest.approx(true_ha, rel=0.01)
