"""Geometries of farm files: bad ones are rejected with the reason, good ones mean the same however they are spelt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.storage.farm_drafts import FarmLimits
from farm_intel.storage.farm_files import read_farm_file
from farm_intel_tests.storage.farm_file_support import (
    LIMITS,
    SQUARE,
    feature,
    only,
    read,
    reason,
    write,
)


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


BOWTIE = [[36.0, -1.0], [36.01, -0.99], [36.01, -1.0], [36.0, -0.99], [36.0, -1.0]]
HOLE_OUTSIDE = [[37.0, -1.0], [37.01, -1.0], [37.01, -0.99], [37.0, -1.0]]


@pytest.mark.parametrize(
    ("geometry", "why"),
    [
        (None, "empty"),
        (polygon(), "empty"),
        ({"type": "MultiPolygon", "coordinates": []}, "empty"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "empty"),
        ({"type": "Point", "coordinates": [36.0, -1.0]}, "is a Point"),
        ({"type": "LineString", "coordinates": SQUARE}, "is a LineString"),
        ({"type": "GeometryCollection", "geometries": []}, "is a GeometryCollection"),
        (polygon("nonsense"), "not [longitude, latitude]"),
        ({"type": ["Polygon"]}, "is a ['Polygon']"),
        ({"type": "Polygon"}, "no coordinates"),
        (polygon(BOWTIE), "invalid: Self-intersection[36.005 -0.995]"),
        (polygon(SQUARE, HOLE_OUTSIDE), "invalid: Hole lies outside shell"),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}, "invalid: "),
        (polygon(SQUARE[:-1]), "not closed"),
        (polygon(SQUARE[:3]), "3 positions"),
        (polygon([[36.0], [36.1], [36.1], [36.0]]), "not [longitude, latitude]"),
        (polygon([["a", "b"]] * 4), "not [longitude, latitude]"),
        (polygon([None, 3, {}, []]), "not [longitude, latitude]"),
        (polygon([[36.0, -1.0], [float("nan"), -1.0], [36.01, -0.99], [36.0, -1.0]]), "not a finite number"),
        (polygon([[36.0, -1.0], [float("inf"), -1.0], [36.01, -0.99], [36.0, -1.0]]), "not a finite number"),
        (polygon([[x, y + 120.0] for x, y in SQUARE]), "longitude and latitude look swapped"),
        (polygon([[x + 4e5, y + 4e6] for x, y in SQUARE]), "look like metres"),
        (polygon([[x + 400, y] for x, y in SQUARE]), "longitude 436.01 is outside"),
        (polygon([[36 + (x - 36) * 1000, y] for x, y in SQUARE]), "at most 50,000 ha"),
        (polygon([[36 + (x - 36) / 1e5, -1 + (y + 1) / 1e5] for x, y in SQUARE]), "at least 1 m2"),
        (
            {"type": "MultiPolygon", "coordinates": [[SQUARE], [[[x, y + 5] for x, y in SQUARE]]]},
            "km apart",
        ),
        (polygon([[0, 85.0], [1.0, 85.0], [1.0, 85.1], [0, 85.0]]), "outside the UTM zones"),
        (polygon([[0, 80.0], [120.0, 80.0], [-120.0, 80.0], [0, 80.0]]), "around a pole"),
    ],
)
def test_bad_geometries_are_rejected_with_the_reason(tmp_path: Path, geometry: Any, why: str) -> None:
    result = read(tmp_path, feature(farm_id="good"), feature(geometry, farm_id="bad"))

    assert [draft.farm_id for draft in result.farms] == ["good"]
    assert [(r.number, r.farm_id) for r in result.rejections] == [(2, "bad")]
    assert why in result.rejections[0].reason


def test_hostile_polygons_cost_nothing(tmp_path: Path) -> None:
    """A 400-vertex random ring hangs make_valid for 20 s; 100,000 vertices are not even built."""
    rng = np.random.default_rng(7)
    hostile = rng.uniform(0, 0.01, (400, 2)) + np.array([36.0, -1.0])
    bomb = rng.uniform(0, 0.01, (100_000, 2)) + np.array([36.0, -1.0])
    features = [feature(np.vstack([ring, ring[:1]]).tolist(), farm_id=i) for i, ring in enumerate([hostile, bomb])]
    path = write(tmp_path, *features)

    started = time.process_time()
    result = read_farm_file(path, LIMITS)

    assert time.process_time() - started < 2.0
    assert "Self-intersection" in result.rejections[0].reason
    assert result.rejections[1].reason == "100,001 vertices; at most 10,000 are allowed"


def circle(count: int) -> list[list[float]]:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    ring = np.column_stack([36 + 0.01 * np.cos(angles), -1 + 0.01 * np.sin(angles)])
    return [*ring.tolist(), ring[0].tolist()]


def test_vertex_limit_is_inclusive_in_every_format(tmp_path: Path) -> None:
    limits = FarmLimits(max_vertices=100)
    assert len(only(read(tmp_path, feature(circle(99)), limits=limits)).boundary.wkb) > 0
    assert "101 vertices" in reason(read(tmp_path, feature(circle(100)), limits=limits))

    path = tmp_path / "farms.gpkg"
    gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.Polygon(circle(100))], crs=4326).to_file(path)
    assert "101 vertices" in reason(read_farm_file(path, limits))


def test_heights_are_dropped_with_a_note(tmp_path: Path) -> None:
    draft = only(read(tmp_path, feature([[x, y, 1200.0] for x, y in SQUARE])))

    assert not shapely.from_wkb(draft.boundary.wkb).has_z
    assert draft.notes == ("heights (Z) dropped",)
    assert draft.boundary.sha == only(read(tmp_path, feature())).boundary.sha


def test_holes_count_in_area_and_survive(tmp_path: Path) -> None:
    hole = [[36.002, -0.998], [36.002, -0.992], [36.008, -0.992], [36.008, -0.998], [36.002, -0.998]]
    whole = only(read(tmp_path, feature())).boundary
    holed = only(read(tmp_path, feature(polygon(SQUARE, hole)))).boundary

    assert holed.area_ha == pytest.approx(whole.area_ha * 0.64, rel=1e-3)
    assert len(shapely.from_wkb(holed.wkb).interiors) == 1
    assert holed.sha != whole.sha


def test_ring_order_direction_and_wrapping_do_not_change_the_hash(tmp_path: Path) -> None:
    expected = only(read(tmp_path, feature())).boundary.sha
    rotated = [*SQUARE[2:4], *SQUARE[0:3]]

    assert only(read(tmp_path, feature(rotated))).boundary.sha == expected
    assert only(read(tmp_path, feature(SQUARE[::-1]))).boundary.sha == expected
    multi = {"type": "MultiPolygon", "coordinates": [[SQUARE]]}
    assert only(read(tmp_path, feature(multi))).boundary.sha == expected
    jittered = [[x + 1e-9, y] for x, y in SQUARE]
    assert only(read(tmp_path, feature(jittered))).boundary.sha == expected


def fiji_pieces() -> dict[str, Any]:
    """RFC 7946: one farm of 0.02 by 0.01 degrees, cut at 180."""
    east = [[179.99, -17.0], [180.0, -17.0], [180.0, -16.99], [179.99, -16.99], [179.99, -17.0]]
    west = [[-180.0, -17.0], [-179.99, -17.0], [-179.99, -16.99], [-180.0, -16.99], [-180.0, -17.0]]
    return {"type": "MultiPolygon", "coordinates": [[east], [west]]}


def fiji_ring(shift: float) -> list[list[float]]:
    return [
        [179.99, -17.0],
        [180.01 + shift, -17.0],
        [180.01 + shift, -16.99],
        [179.99, -16.99],
        [179.99, -17.0],
    ]


@pytest.mark.parametrize("geometry", [fiji_pieces(), polygon(fiji_ring(0.0)), polygon(fiji_ring(-360.0))])
def test_every_spelling_of_a_farm_on_the_antimeridian_is_one_farm(tmp_path: Path, geometry: Any) -> None:
    boundary = only(read(tmp_path, feature(geometry))).boundary

    assert (boundary.bbox.west, boundary.bbox.east) == pytest.approx((179.99, -179.99))
    assert boundary.bbox.crosses_antimeridian
    assert boundary.area_ha == pytest.approx(0.02 * 111.32 * np.cos(np.radians(17)) * 0.01 * 110.66 * 100, rel=2e-3)
    assert boundary.home_tile[:2] in {"01", "60"}
    stored = shapely.from_wkb(boundary.wkb)
    assert len(stored.geoms) == 2
    assert np.abs(shapely.get_coordinates(stored)[:, 0]).max() == 180.0
    assert boundary.sha == only(read(tmp_path, feature(fiji_pieces()))).boundary.sha


def test_a_farm_on_the_antimeridian_in_a_projected_crs(tmp_path: Path) -> None:
    """In UTM 60S the polygon is one piece; its longitudes jump from 180 to -180 only when reprojected."""
    path = tmp_path / "farms.gpkg"
    ring = shapely.box(818_500, 8_116_000, 820_500, 8_117_000)
    gpd.GeoDataFrame({"id": ["a"]}, geometry=[ring], crs=32760).to_file(path)

    boundary = only(read_farm_file(path, LIMITS)).boundary

    assert boundary.bbox.crosses_antimeridian
    assert boundary.bbox.east - boundary.bbox.west + 360 < 0.03
    assert boundary.area_ha == pytest.approx(200.0, rel=3e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-180, 180),
    st.floats(-79, 83),
    st.floats(1e-4, 0.2),
    st.integers(3, 40),
    st.sampled_from([-360.0, 0.0, 360.0]),
)
def test_round_farms_anywhere_are_whole_and_contain_their_point(
    tmp_path_factory: pytest.TempPathFactory, lon: float, lat: float, radius: float, count: int, turn: float
) -> None:
    """Position, box, area and hash do not depend on which turn of the globe the longitudes are written in."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    ring = np.column_stack([lon + radius * np.cos(angles), lat + radius * np.sin(angles)])
    if (np.abs(ring[:, 0] + turn) > 360).any():
        turn = 0.0
    folder = tmp_path_factory.mktemp("round")
    limits = FarmLimits(min_area_ha=0, max_area_ha=1e6)
    plain = np.vstack([ring, ring[:1]])
    expected = only(read(folder, feature(plain.tolist()), limits=limits)).boundary
    boundary = only(read(folder, feature((plain + np.array([turn, 0.0])).tolist()), limits=limits)).boundary

    assert boundary.area_ha == pytest.approx(expected.area_ha, rel=1e-6)
    assert boundary.home_tile == expected.home_tile
    assert shapely.from_wkb(boundary.wkb).covers(shapely.Point(boundary.longitude_deg, boundary.latitude_deg))
    width = (boundary.bbox.east - boundary.bbox.west) % 360
    assert width == pytest.approx(np.ptp(ring[:, 0]), abs=1e-9)
