"""What stands between the ground and the sensor on a day: cloud, its shadow, haze, and snow on the ground.

Everything is an ellipse with a hard edge, so that the sky at a point is a bit code and pixel means are plain counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from farm_intel.simulation.spectra import SPECTRA, FloatArray

SNOW, SHADOW, HAZE, FRINGE, CORE = 1, 2, 4, 8, 16
CODES = 32

_TRANSMISSIONS = {SNOW: 0.1, SHADOW: 0.45, HAZE: 0.85, FRINGE: 0.5, CORE: 0.05}
"""Share of the signal below that still arrives: thin cirrus barely covers, a cloud's core hides."""

SCL_BY_BIT = ((CORE, 9), (FRINGE, 8), (HAZE, 10), (SHADOW, 3), (SNOW, 11))
"""Sky bit -> scene classification value, most opaque first (Sen2Cor: 9/8 cloud, 10 cirrus, 3 shadow, 11 snow)."""

_REFERENCE_AREA_M2 = 11_800.0 * 6_600.0
_CLOUD_COUNTS = (0, 4, 10, 25)
_CLOUD_ODDS = (0.3, 0.3, 0.25, 0.15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The part of the world's plane that some scene may show, metres."""

    west_m: float
    south_m: float
    east_m: float
    north_m: float

    @property
    def center(self) -> tuple[float, float]:
        """The middle (x, y), metres."""
        return (self.west_m + self.east_m) / 2, (self.south_m + self.north_m) / 2

    @property
    def area_m2(self) -> float:
        """Area in square metres."""
        return (self.east_m - self.west_m) * (self.north_m - self.south_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkyEvents:
    """Days on which something certain happens, so that every case occurs in every world."""

    overcast: date | None = None
    snow: date | None = None
    haze: date | None = None
    cloudless: frozenset[date] = frozenset()


def sky_effects() -> tuple[FloatArray, FloatArray]:
    """Return gain (32,) and path reflectance (32, bands) per sky code: seen = gain * ground + path."""
    gain = np.ones(CODES)
    path = np.zeros((CODES, SPECTRA["cloud"].size))
    own_light = {SNOW: SPECTRA["snow"], HAZE: SPECTRA["cloud"], FRINGE: SPECTRA["cloud"], CORE: SPECTRA["cloud"]}
    for code in range(CODES):
        for bit, transmission in _TRANSMISSIONS.items():
            if code & bit:
                gain[code] *= transmission
                path[code] *= transmission
                if bit in own_light:
                    path[code] += (1.0 - transmission) * own_light[bit]
    return gain, path


def sky_shapes(*, seed: int, day: date, extent: Extent, events: SkyEvents, cloudiness: float) -> FloatArray:
    """Return the day's ellipses as rows (x, y, px, py, qx, qy, bit).

    (px, py) and (qx, qy) are the half axes as vectors, metres in the world's plane. Clouds come with an opaque core
    inside a thin fringe, and a shadow 350 m to the west and 120 m to the south (morning sun near the equator).

    Args:
        seed: of the world.
        day: solar day.
        extent: where clouds may be centred.
        events: days with a fixed sky.
        cloudiness: factor on the number of clouds; 0 keeps only the events.

    """
    rng = np.random.default_rng([seed, day.toordinal(), 77])
    x, y = extent.center
    if day == events.overcast:
        return np.vstack([_ellipse(x, y, 60_000.0, 60_000.0, 0.0, bit) for bit in (FRINGE, CORE)])
    rows: list[FloatArray] = []
    if day == events.snow:
        rows.append(_ellipse(extent.east_m - 1_500.0, y, 2_500.0, 4_000.0, 0.3, SNOW))
    if day == events.haze:
        rows.append(_ellipse(extent.west_m + 1_000.0, y, 2_800.0, 1_800.0, 0.5, HAZE))
    if day not in events.cloudless:
        rows.extend(_clouds(rng, extent, cloudiness))
    return np.vstack(rows) if rows else np.empty((0, 7))


def _clouds(rng: np.random.Generator, extent: Extent, cloudiness: float) -> list[FloatArray]:
    count = rng.choice(_CLOUD_COUNTS, p=_CLOUD_ODDS) * cloudiness * extent.area_m2 / _REFERENCE_AREA_M2
    rows: list[FloatArray] = []
    for _ in range(int(np.ceil(count))):
        x = rng.uniform(extent.west_m, extent.east_m)
        y = rng.uniform(extent.south_m, extent.north_m)
        long, short = np.sort(rng.uniform(180.0, 900.0, 2))[::-1]
        angle = rng.uniform(0.0, np.pi)
        rows.append(_ellipse(x, y, long, short, angle, FRINGE))
        rows.append(_ellipse(x, y, 0.85 * long, 0.85 * short, angle, CORE))
        rows.append(_ellipse(x - 350.0, y - 120.0, long, short, angle, SHADOW))
    return rows


def _ellipse(x: float, y: float, long: float, short: float, angle: float, bit: int) -> FloatArray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([x, y, long * cos, long * sin, -short * sin, short * cos, bit])


def sky_codes(shapes: FloatArray, x: FloatArray, y: FloatArray) -> npt.NDArray[np.uint8]:
    """Return the bit code of the sky over points of the plane, same shape as `x`."""
    codes = np.zeros(x.shape, np.uint8)
    for cx, cy, px, py, qx, qy, bit in shapes:
        det = px * qy - py * qx
        dx, dy = x - cx, y - cy
        inside = (qy * dx - qx * dy) ** 2 + (px * dy - py * dx) ** 2 <= det * det
        codes[inside] |= int(bit)
    return codes


def sky_classes(codes: npt.NDArray[np.uint8], ground: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return scene classification values: the most opaque thing in the code, else the class of the ground."""
    classes = ground.copy()
    for bit, value in reversed(SCL_BY_BIT):
        classes[(codes & bit) != 0] = value
    return classes
