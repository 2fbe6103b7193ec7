"""Builders for index tests."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from farm_intel.domain.bands import SYMBOL_COMMON_NAMES
from farm_intel.indices.formula import BAND_SYMBOLS, parse_formula
from farm_intel.indices.index import SpectralIndex

BAND_OF: dict[str, str] = {symbol: SYMBOL_COMMON_NAMES[symbol][0] for symbol in sorted(BAND_SYMBOLS)}
"""Symbol -> the common name it takes when every band is there."""

SENTINEL2 = frozenset(
    ("coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09")
) | {"swir16", "swir22"}
LANDSAT8 = frozenset(["coastal", "blue", "green", "red", "nir08", "swir16", "swir22"])


def by_common_name(spectrum: Mapping[str, npt.ArrayLike]) -> dict[str, npt.ArrayLike]:
    """Return a spectrum by symbol as one by common name."""
    return {BAND_OF[symbol]: value for symbol, value in spectrum.items()}


def random_reflectances(count: int, seed: int = 20) -> dict[str, npt.NDArray[np.float64]]:
    """Return common name -> (count,) reflectances in 0.001..0.9."""
    generator = np.random.default_rng(seed)
    return {name: generator.uniform(0.001, 0.9, count) for name in BAND_OF.values()}


def made_up_index(formula: str, slug: str = "made_up", constants: Mapping[str, float] | None = None) -> SpectralIndex:
    """Return an index nobody knows."""
    return SpectralIndex(
        name=slug.upper(),
        slug=slug,
        long_name="Made up",
        formula=formula,
        reference="test",
        application="test",
        symbols=parse_formula(formula, constants).symbols,
        valid_range=(-1.0, 1.0),
        constants=constants or {},
    )
