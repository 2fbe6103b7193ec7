"""One measurement as a value, and what every contender is given: farms, items, and one rule for pixels that count."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.data import BANDS_10M, CLEAR_CLASSES, DAYS, EPSG, FARM_COUNT, BenchData

INDICES = ("ndvi", "ndwi", "ndmi", "evi", "savi")
"""The default indices, in the order of every result array."""
PERCENTILES = (10, 25, 75, 90)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured."""

    contender: str
    farms: int
    dates: int = 1
    via: str = "local"
    """`local`, or `http`: through the range server with latency."""
    sample: int = 0
    """Farms really computed, spread evenly over `farms`; 0 means all."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, int, str]:
        return self.contender, self.farms, self.dates, self.via

    @property
    def farm_dates(self) -> int:
        """Farm-dates really computed."""
        return (self.sample or self.farms) * self.dates

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Job:
    """A case with the data it runs on."""

    case: Case
    data: BenchData
    base: str | None
    """URL of the data on the range server, or None for local paths."""
    scratch: Path
    """A folder for what the contender writes; removed afterwards."""

    @property
    def days(self) -> tuple[Any, ...]:
        return DAYS[: self.case.dates]

    @cached_property
    def numbers(self) -> npt.NDArray[np.intp]:
        """Positions of the farms to compute in the farm file."""
        if not self.case.sample:
            return np.arange(self.case.farms)
        return np.linspace(0, self.case.farms - 1, self.case.sample).astype(np.intp)

    @cached_property
    def lonlat(self) -> Any:
        """Farms as a GeoDataFrame in degrees."""
        import geopandas as gpd

        if self.case.farms > FARM_COUNT:
            raise ValueError(f"there are {FARM_COUNT} farms, not {self.case.farms}")
        return gpd.read_parquet(self.data.farm_file).iloc[self.numbers].reset_index(drop=True)

    @cached_property
    def fields(self) -> Any:
        """Farms as a GeoDataFrame in the tile's CRS."""
        return self.lonlat.to_crs(EPSG)

    def items(self) -> list[dict[str, Any]]:
        return self.data.items(self.case.dates, self.base)

    def empty(self) -> Floats:
        """Return room for means: (farms, dates, indices)."""
        return np.full((len(self.numbers), self.case.dates, len(INDICES)), np.nan)


def masked_indices(bands: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the five indices with NaN where a pixel does not count: class not clear, or no data in a band it needs.

    Args:
        bands: digital numbers, every band on its own grid (10 or 20 m) over one window; keys as in `data.KEYS`.

    Returns:
        NDMI at 20 m, because the product row takes the narrow near infrared band for it; the others at 10 m.

    """
    clear = np.isin(bands["scl"], CLEAR_CLASSES)
    swir, narrow = (_reflectance(bands[key], clear) for key in ("swir16", "nir08"))
    clear = np.repeat(np.repeat(clear, 2, 0), 2, 1)
    blue, green, red, nir = (_reflectance(bands[key], clear) for key in BANDS_10M)
    return {
        "ndvi": (nir - red) / (nir + red),
        "ndwi": (green - nir) / (green + nir),
        "ndmi": (narrow - swir) / (narrow + swir),
        "evi": np.float32(2.5) * (nir - red) / (nir + np.float32(6) * red - np.float32(7.5) * blue + np.float32(1)),
        "savi": np.float32(1.5) * (nir - red) / (nir + red + np.float32(0.5)),
    }


def _reflectance(numbers: npt.NDArray[Any], clear: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    return np.where(clear & (numbers != 0), numbers * np.float32(1e-4), np.float32(np.nan))
