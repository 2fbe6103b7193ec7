"""MGRS squares against the tiles of recorded Sentinel-2 items, published positions and pyproj."""

from __future__ import annotations

import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm_intel.domain import mgrs
from farm_intel.domain.errors import BadRequestError


@pytest.mark.parametrize(
    ("square", "epsg", "easting_m", "northing_m"),
    [
        ("33TWM", 32633, 550_000, 5_150_000),
        ("30TUM", 32630, 344_400, 4_626_300),
        ("37MBV", 32737, 250_000, 9_950_000),
        ("01WCR", 32601, 392_000, 7_550_000),
        ("36NYH", 32636, 750_000, 250_000),
        ("12RWT", 32612, 549_980, 3_250_000),
        ("06VVN", 32606, 449_980, 6_750_000),
    ],
)
def test_sentinel_2_tiles_get_their_own_name(square: str, epsg: int, easting_m: float, northing_m: float) -> None:
    """Positions well inside tiles that the recorded catalogues (or the mission's tile list) name."""
    to_lonlat = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)

    assert mgrs.mgrs_square(*to_lonlat.transform(easting_m, northing_m)) == square


@pytest.mark.parametrize(
    ("place", "longitude_deg", "latitude_deg", "square"),
    [
        ("White House", -77.0365, 38.8977, "18SUJ"),
        ("Sydney Opera House", 151.2153, -33.8568, "56HLH"),
        ("Oslo, zone 32 as usual", 10.75, 59.91, "32VNM"),
        ("Longyearbyen, zone 33 as usual", 15.63, 78.22, "33XWG"),
    ],
)
def test_published_positions(place: str, longitude_deg: float, latitude_deg: float, square: str) -> None:
    assert mgrs.mgrs_square(longitude_deg, latitude_deg) == square, place


@pytest.mark.parametrize(
    ("longitude_deg", "latitude_deg", "zone"),
    [
        (5.0, 60.0, 32),
        (2.99, 60.0, 31),
        (3.0, 64.0, 31),
        (3.0, 55.99, 31),
        (8.99, 73.0, 31),
        (9.0, 73.0, 33),
        (20.99, 73.0, 33),
        (21.0, 73.0, 35),
        (33.0, 73.0, 37),
        (42.0, 73.0, 38),
        (180.0, 0.0, 1),
        (-180.0, 0.0, 1),
        (179.99, 0.0, 60),
        (190.0, 0.0, 2),
    ],
)
def test_zone_exceptions_hold_exactly_at_their_edges(longitude_deg: float, latitude_deg: float, zone: int) -> None:
    assert mgrs.utm_zone(longitude_deg, latitude_deg) == zone


@given(st.floats(-180, 180), st.floats(-80, 84))
def test_projection_agrees_with_pyproj_to_a_millimetre(longitude_deg: float, latitude_deg: float) -> None:
    zone = mgrs.utm_zone(longitude_deg, latitude_deg)
    epsg = (32600 if latitude_deg >= 0 else 32700) + zone
    expected = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(longitude_deg, latitude_deg)

    assert mgrs._utm(longitude_deg, latitude_deg, zone) == pytest.approx(expected, abs=1e-3)


def test_poles_have_no_square() -> None:
    with pytest.raises(BadRequestError, match="outside the UTM zones"):
        mgrs.mgrs_square(0.0, 85.0)
