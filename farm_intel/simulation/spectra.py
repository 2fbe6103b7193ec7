"""Surface reflectance of what the simulated world is made of, and the Sentinel-2 bands it is seen in.

Spectra are round numbers shaped after the ECOSTRESS/USGS spectral libraries as seen by the MSI bands: dry bare soil
rises to the short-wave infrared, canopies absorb in red and blue and plateau in the near infrared, water is dark beyond
red, snow collapses beyond 1.4 um, clouds do not. They are truth by definition here; tests hold the indices they give to
the ranges known from the field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedBand:
    """One MSI band as Earth Search v1 names it."""

    common_name: str
    """Our name: STAC EO v2 common name."""
    asset_key: str
    """Key of the item's asset; also `eo:bands[].name`."""
    declared_common_name: str
    """What the item itself says: all three red-edge bands are plain `rededge` there."""
    number: str
    """`B04`; the file is `B04.tif`."""
    gsd_m: int
    center_um: float
    width_um: float


BANDS: tuple[SimulatedBand, ...] = tuple(
    SimulatedBand(
        common_name=name,
        asset_key=key,
        declared_common_name="rededge" if key.startswith("rededge") else name,
        number=number,
        gsd_m=gsd,
        center_um=center,
        width_um=width,
    )
    for name, key, number, gsd, center, width in (
        ("coastal", "coastal", "B01", 60, 0.443, 0.027),
        ("blue", "blue", "B02", 10, 0.49, 0.098),
        ("green", "green", "B03", 10, 0.56, 0.045),
        ("red", "red", "B04", 10, 0.665, 0.038),
        ("rededge071", "rededge1", "B05", 20, 0.704, 0.019),
        ("rededge075", "rededge2", "B06", 20, 0.74, 0.018),
        ("rededge078", "rededge3", "B07", 20, 0.783, 0.028),
        ("nir", "nir", "B08", 10, 0.842, 0.145),
        ("nir08", "nir08", "B8A", 20, 0.865, 0.033),
        ("swir16", "swir16", "B11", 20, 1.61, 0.143),
        ("swir22", "swir22", "B12", 20, 2.19, 0.242),
    )
)
"""In the order of every spectrum in this package. Centres and widths: the `eo:bands` of recorded Earth Search items."""

BAND_NAMES: tuple[str, ...] = tuple(band.common_name for band in BANDS)

SPECTRA: dict[str, FloatArray] = {
    name: np.array(values)
    for name, values in {
        "soil": (0.065, 0.080, 0.110, 0.150, 0.170, 0.185, 0.200, 0.220, 0.235, 0.310, 0.270),
        "road": (0.075, 0.090, 0.130, 0.190, 0.210, 0.220, 0.230, 0.240, 0.250, 0.330, 0.300),
        "straw": (0.070, 0.090, 0.140, 0.200, 0.230, 0.250, 0.270, 0.290, 0.310, 0.380, 0.300),
        "water": (0.055, 0.055, 0.060, 0.035, 0.030, 0.022, 0.020, 0.014, 0.012, 0.006, 0.004),
        "snow": (0.880, 0.890, 0.880, 0.870, 0.850, 0.830, 0.810, 0.790, 0.770, 0.100, 0.080),
        "cloud": (0.600, 0.600, 0.610, 0.620, 0.630, 0.640, 0.640, 0.640, 0.640, 0.480, 0.380),
        "maize": (0.020, 0.030, 0.075, 0.030, 0.105, 0.320, 0.410, 0.450, 0.470, 0.200, 0.090),
        "wheat": (0.020, 0.028, 0.068, 0.028, 0.095, 0.290, 0.370, 0.410, 0.425, 0.190, 0.085),
        "beans": (0.022, 0.032, 0.085, 0.035, 0.120, 0.360, 0.470, 0.510, 0.530, 0.230, 0.110),
        "pasture": (0.025, 0.036, 0.080, 0.045, 0.110, 0.260, 0.325, 0.360, 0.375, 0.210, 0.115),
    }.items()
}
"""Name -> reflectance (unitless, 0..1) in the order of BANDS.

Clear land stays under 0.1 in blue: that is what lets a reader tell from the pixels whether the +1000 offset is in them.
"""
