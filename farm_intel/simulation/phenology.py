"""How much of a field is green canopy and how much dry residue, as a function of the day."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np

from farm_intel.simulation.spectra import SPECTRA, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A crop's season: a double logistic (Beck et al. 2006, Remote Sensing of Environment 100:321-334)."""

    name: str
    """Key of its canopy spectrum."""
    green_min: float
    """Green cover outside the season, 0..1."""
    green_max: float
    """Green cover at full canopy; at most 0.8, so that a field's gradient of +-20 % stays below 1."""
    green_up_days: float
    """Days from planting to the inflection of growth."""
    green_up_rate: float
    """Per day."""
    senescence_days: float
    """Days from planting to the inflection of decline."""
    senescence_rate: float
    """Per day."""
    residue_max: float
    """Share of the ground under straw after the season, 0..1."""


CROPS: tuple[Crop, ...] = (
    Crop(
        name="maize",
        green_min=0.03,
        green_max=0.80,
        green_up_days=38,
        green_up_rate=0.13,
        senescence_days=112,
        senescence_rate=0.11,
        residue_max=0.45,
    ),
    Crop(
        name="wheat",
        green_min=0.03,
        green_max=0.78,
        green_up_days=32,
        green_up_rate=0.15,
        senescence_days=96,
        senescence_rate=0.16,
        residue_max=0.55,
    ),
    Crop(
        name="beans",
        green_min=0.02,
        green_max=0.76,
        green_up_days=27,
        green_up_rate=0.19,
        senescence_days=72,
        senescence_rate=0.20,
        residue_max=0.20,
    ),
    Crop(
        name="pasture",
        green_min=0.35,
        green_max=0.72,
        green_up_days=20,
        green_up_rate=0.08,
        senescence_days=150,
        senescence_rate=0.04,
        residue_max=0.15,
    ),
)


DRY_CANOPY_GAIN = np.array((1.0, 1.05, 1.05, 1.3, 1.15, 0.98, 0.94, 0.92, 0.92, 1.5, 1.8))
"""A canopy that has lost much of its leaf water over a turgid one, by `BAND_NAMES` (short-wave infrared rises with the
loss: Gao 1996, https://doi.org/10.1016/S0034-4257(96)00067-3; the strengths are conventions of this package)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrySpell:
    """A time without rain on one field, and how it ends."""

    first_day: date
    days: int
    """Until it rains."""
    strength: float = 1.0
    """0..1"""

    def leaf_water_lost(self, day: date) -> float:
        """Return 0..1: it builds up over 15 days and is made good within 12 days of rain."""
        age = (day - self.first_day).days
        return self.strength * ramp(age, 15.0) * (1.0 - ramp(age - self.days, 12.0))

    def canopy_lost(self, day: date) -> float:
        """Return the share of green cover lost, 0..1: leaves roll and die after the water is gone; some grow back."""
        age = (day - self.first_day).days
        return 0.35 * self.strength * ramp(age - 5.0, 25.0) * (1.0 - 0.4 * ramp(age - self.days, 25.0))


def ramp(days: float, length: float) -> float:
    """Return 0 before day 0, 1 after `length` days, a straight line between."""
    return min(max(days / length, 0.0), 1.0)


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def green_cover(crop: Crop, days_after_planting: int) -> float:
    """Return the share of the ground under green canopy, 0..1."""
    up = _logistic(crop.green_up_rate * (days_after_planting - crop.green_up_days))
    down = _logistic(crop.senescence_rate * (days_after_planting - crop.senescence_days))
    return crop.green_min + (crop.green_max - crop.green_min) * max(up - down, 0.0)


def residue_cover(crop: Crop, days_after_planting: int) -> float:
    """Return the share of the ground under dry residue, 0..1."""
    return crop.residue_max * _logistic(crop.senescence_rate * (days_after_planting - crop.senescence_days))


def field_reflectance(
    crop: Crop, planted: date, day: date, unevenness: float, dry: DrySpell | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return mean reflectance of a field, and its change per unit of the field's gradient coordinate.

    Linear mixing of soil, canopy and straw: rho(s) = mean + slope * s for s in -1..1, where green cover is
    green * (1 + unevenness * s) at the cost of bare soil.
    """
    age = (day - planted).days
    green, residue = green_cover(crop, age), residue_cover(crop, age)
    canopy, soil = SPECTRA[crop.name], SPECTRA["soil"]
    if dry is not None:
        green *= 1.0 - dry.canopy_lost(day)
        canopy = canopy * (1.0 + dry.leaf_water_lost(day) * (DRY_CANOPY_GAIN - 1.0))
    mean = green * canopy + residue * SPECTRA["straw"] + (1.0 - green - residue) * soil
    return mean, np.asarray(green * unevenness * (canopy - soil))
