"""One spectral index: a row of the catalogue or of a user's file, with everything that follows from it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from farm_intel.domain.bands import SYMBOL_COMMON_NAMES, resolve_symbol
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.publication import RasterEncoding
from farm_intel.indices.formula import Formula, parse_formula
from farm_intel.indices.interpretation import ColourMap, Interpretation, grey_colour_map

SLUG_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Slugs are asset keys, URL segments, file names and metric labels at once."""

_FINE_LIMIT = 3.2
_FINE_SCALE = 1e-4
_STEPS = 65_000
"""int16 steps a valid range may span; leaves a margin on both sides, and -32768 is nodata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralIndex:
    """A formula over surface reflectances, with its constants, reference and valid range."""

    name: str
    """Catalogue key, case kept: `kNDVI`."""
    slug: str
    """Lower case, unique, `[a-z][a-z0-9_]*`."""
    long_name: str
    formula: str
    """Text over band symbols and constants, see indices.formula."""
    reference: str
    """URL or citation of the definition."""
    application: str
    """Domain it was made for: vegetation, water, soil, burn, snow, urban, clouds, kernel or the user's word."""
    symbols: tuple[str, ...]
    """Band symbols of the formula, in order of appearance."""
    valid_range: tuple[float, float]
    """A pixel outside it has no value; unitless unless the formula says otherwise."""
    constants: Mapping[str, float] = field(default_factory=dict, hash=False)
    """This index's own values: EVI's L is 1, SAVI's is 0.5."""
    band_preferences: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Symbol -> common names in order of preference, where they differ from domain.bands."""
    interpretation: Interpretation | None = None
    date_of_addition: str = ""
    """ISO date the catalogue took the index up; empty for a user's own."""
    note: str = ""
    """What a reader should know about the constants or bands chosen here."""

    def __post_init__(self) -> None:
        """Refuse rows that cannot be an asset key or stored as int16."""
        if not SLUG_PATTERN.fullmatch(self.slug):
            raise BadRequestError(
                f"index {self.name!r}: slug {self.slug!r} is not usable.",
                hint="Use 1 to 40 of a-z 0-9 _, beginning with a letter.",
            )
        low, high = self.valid_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise BadRequestError(
                f"index {self.slug}: valid range {self.valid_range} is empty or not finite.",
                hint="Give two numbers, the smaller first.",
            )

    @property
    def expression(self) -> Formula:
        """The parsed formula; parsed on first use, then remembered.

        Raises:
            FormulaRejectedError: the formula is outside the allow-list (never for a catalogue row).

        """
        return parse_formula(self.formula, self.constants)

    @property
    def formula_version(self) -> str:
        """16 hex digits that change whenever the index of a pixel could change; part of every fingerprint."""
        identity = {
            "formula": self.expression.canonical,
            "bands": {symbol: self._preferred(symbol) for symbol in sorted(self.symbols)},
            "valid_range": list(self.valid_range),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def encoding(self) -> RasterEncoding:
        """How rasters of it are stored: 1e-4 steps where the range allows, else the finest 1-2-5 step that fits."""
        return encoding_for(self.valid_range)

    @property
    def colour_map(self) -> ColourMap:
        """The interpretation's colours, or greys over the valid range."""
        return self.interpretation.colour_map if self.interpretation else grey_colour_map(self.valid_range)

    @property
    def display_range(self) -> tuple[float, float]:
        """The range pictures and plots should span."""
        return self.interpretation.display_range if self.interpretation else self.valid_range

    def resolve_bands(self, available: Collection[str]) -> dict[str, str]:
        """Return symbol -> common name for the bands at hand.

        Args:
            available: common names a scene or collection offers.

        Raises:
            UnknownNameError: a band is missing; names what is missing and what is there.

        """
        resolved = {symbol: resolve_symbol(symbol, available, self.band_preferences) for symbol in self.symbols}
        missing = [symbol for symbol, name in resolved.items() if name is None]
        if missing:
            wanted = ", ".join(f"{symbol} ({' or '.join(self._preferred(symbol))})" for symbol in missing)
            raise UnknownNameError(
                f"index {self.slug} needs {wanted}; available bands are {', '.join(sorted(available)) or 'none'}.",
                hint="Choose a collection with these bands, or another index.",
            )
        return {symbol: name for symbol, name in resolved.items() if name is not None}

    def evaluate(self, bands: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
        """Return the index for surface reflectances (0..1) by common name, broadcast together, in float64.

        Nothing is clipped or masked: a zero denominator gives inf or NaN.

        Raises:
            UnknownNameError: a band is missing.

        """
        names = self.resolve_bands(bands.keys())
        return self.expression.evaluate({symbol: bands[name] for symbol, name in names.items()})

    def _preferred(self, symbol: str) -> tuple[str, ...]:
        return tuple(self.band_preferences.get(symbol, SYMBOL_COMMON_NAMES[symbol]))


def encoding_for(valid_range: tuple[float, float]) -> RasterEncoding:
    """Return the int16 encoding (value = data * scale + offset) that holds every valid value and leaves -32768 free."""
    low, high = valid_range
    if max(abs(low), abs(high)) <= _FINE_LIMIT:
        return RasterEncoding(scale=_FINE_SCALE, offset=0.0)
    scale = nice_step((high - low) / _STEPS)
    offset = 0.0 if max(abs(low), abs(high)) <= scale * _STEPS / 2 else round((low + high) / 2 / scale) * scale
    return RasterEncoding(scale=scale, offset=float(f"{offset:.12g}"))


def nice_step(minimum: float) -> float:
    """Return the smallest of 1, 2, 5 x 10^k that is at least `minimum` (> 0)."""
    power = math.floor(math.log10(minimum))
    for exponent in (power, power + 1):
        for digit in (1, 2, 5):
            step = float(f"{digit}e{exponent}")
            if step >= minimum:
                return step
    raise BadRequestError(f"no step of 1, 2, 5 x 10^k reaches {minimum}.")
