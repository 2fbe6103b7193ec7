"""Observations with a number, as columns: what confidence, despiking and fusion compute on.

A look is one provider's observation. Thousands of farms of one index are judged in a few array operations; only the
result becomes objects again. Everything is sorted by farm, day and key, so that no answer depends on the order in which
the looks arrive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from farm_intel.domain.observations import Flag, Observation, ObservationStatus
from farm_intel.domain.products import PixelReason

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

_SHADOW = PixelReason.SHADOW.name.lower()
_SNOW = PixelReason.SNOW.name.lower()
_MINUTE_S = 60.0
_DATE = re.compile(r"\d{5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A family of sensors that see alike, and how its observations are recognised."""

    family: str
    """Who flew over: `msi`, `oli`, `etm`, `tm`, `modis`; looks of one family at one time are one acquisition."""
    bandpass: str
    """Whose bandpasses the values are in; differs from `family` where a product was adjusted already (HLS S30)."""
    trust: float
    """Source component of the confidence, 0..1."""
    pattern: str
    """Regular expression searched in `collection scene-id`, case ignored; the first sensor that matches is taken."""
    source: str = ""
    """Where the trust comes from."""


UNKNOWN_SENSOR = Sensor(
    family="unknown",
    bandpass="unknown",
    trust=0.5,
    pattern="",
    source="convention: half of what a known sensor is trusted",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorTable:
    """The sensors this installation knows, most specific first."""

    rows: tuple[Sensor, ...] = ()
    _numbers: dict[tuple[str, str], int] = field(default_factory=dict, repr=False, compare=False)

    def number(self, collection: str, scene_id: str) -> int:
        """Return the row that describes a scene of a collection; -1 for none."""
        stem = _DATE.split(scene_id, 1)[0]  # what is before the date tells the platform, and makes few keys
        known = self._numbers.get((collection, stem))
        if known is None:
            text = f"{collection} {scene_id}"
            matches = (k for k, row in enumerate(self.rows) if re.search(row.pattern, text, re.IGNORECASE))
            known = self._numbers[collection, stem] = next(matches, -1)
        return known

    def __getitem__(self, number: int) -> Sensor:
        """Return a row; -1 is the unknown sensor."""
        return self.rows[number] if number >= 0 else UNKNOWN_SENSOR


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks:
    """N looks of one index, sorted by (farm, observed day, key); every array is (N,)."""

    observations: tuple[Observation, ...]
    farm: Integers
    """Number of the farm, ascending."""
    day: Integers
    """Proleptic ordinal of the observed day."""
    minute: Floats
    """Acquisition, minutes since 1970 UTC; NaN where nobody said, or only the day."""
    value: Floats
    standard_error: Floats
    """NaN where the observation has none."""
    n_effective: Floats
    valid_fraction: Floats
    obscured_fraction: Floats
    """Cloud, its halo, shadow and snow."""
    gsd_m: Floats
    mixed: Booleans
    sensor: Integers
    """Row of the sensor table, -1 for none."""
    family: Integers
    """Number of the sensor's family: looks of one family at one time are one acquisition."""
    flags: Integers
    """Number of the look's set of flags in `flag_sets`."""
    flag_sets: tuple[tuple[Flag, ...], ...]

    def __len__(self) -> int:
        """Return how many looks there are."""
        return len(self.observations)


def observed_ordinal(observation: Observation) -> int:
    """Return the day the pixels were seen: of a composite its median pixel's day, else the solar day."""
    if Flag.COMPOSITE in observation.flags and observation.acquired_at is not None:
        return observation.acquired_at.toordinal()
    return observation.key.solar_day.toordinal()


def collect_looks(observations: Iterable[Observation], sensors: SensorTable) -> Looks:
    """Return the observed cells among `observations` (all of one index) as columns."""
    seen = {row.key: row for row in observations if row.status is ObservationStatus.OBSERVED and row.statistics}
    numbered = sorted((key.farm_id, observed_ordinal(row), key, row) for key, row in seen.items()) if seen else []
    rows = tuple(entry[3] for entry in numbered)
    farms = {farm_id: number for number, farm_id in enumerate(dict.fromkeys(entry[0] for entry in numbered))}
    flag_sets: dict[tuple[Flag, ...], int] = {}
    numbers = [sensors.number(row.key.collection, row.scene_ids[0] if row.scene_ids else "") for row in rows]
    names = sorted({sensors[number].family for number in numbers})
    return Looks(
        observations=rows,
        farm=np.array([farms[entry[0]] for entry in numbered], np.int64),
        day=np.array([entry[1] for entry in numbered], np.int64),
        minute=_floats([_minute(row) for row in rows]),
        value=_floats([row.statistics.mean if row.statistics else None for row in rows]),
        standard_error=_floats([row.standard_error for row in rows]),
        n_effective=_floats([row.n_effective for row in rows]),
        valid_fraction=_floats([row.valid_pixel_fraction for row in rows]),
        obscured_fraction=_floats([_obscured(row) for row in rows]),
        gsd_m=_floats([row.gsd_m for row in rows]),
        mixed=np.array([Flag.MIXED_PIXELS in row.flags for row in rows], np.bool_),
        sensor=np.array(numbers, np.int64),
        family=np.array([names.index(sensors[number].family) for number in numbers], np.int64),
        flags=np.array([flag_sets.setdefault(row.flags, len(flag_sets)) for row in rows], np.int64),
        flag_sets=tuple(flag_sets),
    )


@lru_cache(maxsize=65536)
def day_text(ordinal: int) -> str:
    """Return an ordinal as ISO text."""
    return date.fromordinal(ordinal).isoformat()


def _minute(row: Observation) -> float | None:
    """Return when it was acquired; midnight to the second is a day that somebody wrote as a time."""
    at = row.acquired_at
    if at is None or at.time() == time(0):
        return None
    return at.timestamp() / _MINUTE_S


def _obscured(row: Observation) -> float:
    shares = row.masked_fractions
    return min(row.cloud_fraction + shares.get(_SHADOW, 0.0) + shares.get(_SNOW, 0.0), 1.0)


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array(values, np.float64)
