"""The MGRS 100 km square of a position: how Sentinel-2 names its tiles, and how we group neighbouring farms."""

from __future__ import annotations

import math

from farm_intel.domain.errors import BadRequestError

LATITUDE_BANDS = "CDEFGHJKLMNPQRSTUVWX"
"""8 degrees each from 80 S; the last one, X, has 12. I and O are left out everywhere in MGRS."""
COLUMN_LETTERS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
"""By (zone - 1) % 3; one letter per 100 km of easting, from 100 km."""
ROW_LETTERS = "ABCDEFGHJKLMNPQRSTUV"
"""One letter per 100 km of northing, starting again every 2,000 km; even zones start five letters later."""

_EQUATORIAL_RADIUS_M = 6_378_137.0
_FLATTENING = 1 / 298.257223563
_SCALE_ON_MERIDIAN = 0.9996
_FALSE_EASTING_M = 500_000.0
_FALSE_NORTHING_SOUTH_M = 10_000_000.0


def utm_zone(longitude_deg: float, latitude_deg: float) -> int:
    """Return the UTM zone, 1 to 60, with the exceptions for south-west Norway and Svalbard.

    Source: DMA TM 8358.1, chapter 3.
    """
    longitude = (longitude_deg + 180.0) % 360.0 - 180.0
    if 56.0 <= latitude_deg < 64.0 and 3.0 <= longitude < 12.0:
        return 32
    if latitude_deg >= 72.0 and 0.0 <= longitude < 42.0:
        return 31 + 2 * int((longitude + 3.0) // 12.0)
    return int((longitude + 180.0) // 6.0) + 1


def mgrs_square(longitude_deg: float, latitude_deg: float) -> str:
    """Return the MGRS 100 km square of a position on WGS 84, e.g. `37MBV`.

    Raises:
        BadRequestError: beyond 84 N or 80 S, where MGRS uses another grid.

    """
    if not (-80.0 <= latitude_deg <= 84.0 and -360.0 <= longitude_deg <= 360.0):
        raise BadRequestError(
            f"latitude {latitude_deg:.4f}, longitude {longitude_deg:.4f} is outside the UTM zones (80 S to 84 N)"
        )
    zone = utm_zone(longitude_deg, latitude_deg)
    easting_m, northing_m = _utm(longitude_deg, latitude_deg, zone)
    band = LATITUDE_BANDS[min(int((latitude_deg + 80.0) // 8.0), 19)]
    column = COLUMN_LETTERS[(zone - 1) % 3][int(easting_m // 100_000.0) - 1]
    row = ROW_LETTERS[(int(northing_m // 100_000.0) + (5 if zone % 2 == 0 else 0)) % 20]
    return f"{zone:02d}{band}{column}{row}"


def _utm(longitude_deg: float, latitude_deg: float, zone: int) -> tuple[float, float]:
    """Return easting and northing in metres by Krueger's series to n^3: below a millimetre inside a zone.

    Source: Karney (2011), Transverse Mercator with an accuracy of a few nanometers, equations 7 to 11 and 35.
    """
    n = _FLATTENING / (2.0 - _FLATTENING)
    rectifying_m = _EQUATORIAL_RADIUS_M / (1.0 + n) * (1.0 + n**2 / 4.0 + n**4 / 64.0)
    series = (
        n / 2.0 - 2.0 / 3.0 * n**2 + 5.0 / 16.0 * n**3,
        13.0 / 48.0 * n**2 - 3.0 / 5.0 * n**3,
        61.0 / 240.0 * n**3,
    )
    central_deg = zone * 6.0 - 183.0
    offset_deg = (longitude_deg - central_deg + 180.0) % 360.0 - 180.0
    latitude, offset = math.radians(latitude_deg), math.radians(offset_deg)
    eccentricity = math.sqrt(_FLATTENING * (2.0 - _FLATTENING))
    tangent = math.sinh(
        math.atanh(math.sin(latitude)) - eccentricity * math.atanh(eccentricity * math.sin(latitude)),
    )
    xi = math.atan2(tangent, math.cos(offset))
    eta = math.asinh(math.sin(offset) / math.hypot(tangent, math.cos(offset)))
    terms = tuple(enumerate(series, start=1))
    north = xi + sum(a * math.sin(2 * j * xi) * math.cosh(2 * j * eta) for j, a in terms)
    east = eta + sum(a * math.cos(2 * j * xi) * math.sinh(2 * j * eta) for j, a in terms)
    northing_m = _SCALE_ON_MERIDIAN * rectifying_m * north
    if latitude_deg < 0.0:
        northing_m += _FALSE_NORTHING_SOUTH_M
    return _FALSE_EASTING_M + _SCALE_ON_MERIDIAN * rectifying_m * east, northing_m
