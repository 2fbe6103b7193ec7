"""What an agronomist reads from an index: states, colours and quality parameters, as data with sources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import BadRequestError
from farm_intel.indices.tables import Table

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourMap:
    """Colours at values, linear in between, constant outside."""

    name: str
    stops: tuple[tuple[float, RGB], ...]
    """(value, (red, green, blue) 0..255), values ascending."""

    def __post_init__(self) -> None:
        """Refuse maps that cannot be interpolated."""
        values = [value for value, _ in self.stops]
        if len(values) < 2 or any(not a < b for a, b in pairwise(values)):
            raise BadRequestError(f"colour map {self.name}: give two or more stops with ascending values.")
        if any(not 0 <= channel <= 255 for _, colour in self.stops for channel in colour):
            raise BadRequestError(f"colour map {self.name}: colours are red, green, blue from 0 to 255.")

    def rgb(self, values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return (..., 3) colours; NaN gives black, the caller makes it transparent."""
        data = np.asarray(values, np.float64)
        where = np.array([value for value, _ in self.stops])
        colours = np.array([colour for _, colour in self.stops], np.float64)
        channels = [np.interp(data, where, colours[:, channel]) for channel in range(3)]
        return np.rint(np.nan_to_num(np.stack(channels, axis=-1), nan=0.0)).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A range of values and what it means on a field."""

    name: str
    """Stable word for rows and APIs."""
    lower: float
    """Inclusive."""
    upper: float
    """Exclusive, except for the uppermost state."""
    meaning: str
    """For an agronomist, one sentence."""
    source: str
    """Literature, or `convention` with its origin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityParameters:
    """How much an observation of this index may be doubted."""

    outlier_step: float = 0.20
    """A jump of at least this much from the median of the clear observations around it asks for a second look."""
    outlier_window_days: int = 30
    """How far around an observation that median looks, days."""
    min_valid_fraction: float = 0.10
    """Share of the farm that must be valid for a number, 0..1."""
    source: str = "convention: defaults of this package"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpretation:
    """The second, optional row of an index."""

    display_range: tuple[float, float]
    """What pictures and plots span."""
    valid_range: tuple[float, float]
    """Pixels outside have no value."""
    colour_map: ColourMap
    states: tuple[State, ...]
    """Ascending, without gaps, from the lower to the upper end of the valid range."""
    quality: QualityParameters = field(default_factory=QualityParameters)

    def __post_init__(self) -> None:
        """Refuse states with gaps, overlaps or without a source."""
        if not self.states:
            raise BadRequestError("an interpretation needs at least one state.")
        edges = [self.valid_range[0], *(state.upper for state in self.states)]
        if edges[-1] != self.valid_range[1] or any(
            state.lower != lower or not state.lower < state.upper
            for lower, state in zip(edges, self.states, strict=False)
        ):
            raise BadRequestError(
                f"states {[(state.name, state.lower, state.upper) for state in self.states]} "
                f"do not cover the valid range {self.valid_range} without gaps or overlaps.",
                hint="Let each state begin where the one before ends.",
            )
        for state in self.states:
            if not (state.meaning and state.source):
                raise BadRequestError(f"state {state.name!r} has no meaning or no source.", hint="Give both.")

    def state(self, value: float) -> State:
        """Return the state a value is in; the upper end belongs to the next state, at the very top to the last.

        Raises:
            BadRequestError: NaN or a value outside the valid range has no state.

        """
        low, high = self.valid_range
        if math.isnan(value) or not low <= value <= high:
            raise BadRequestError(
                f"{value} has no state: valid values run from {low:g} to {high:g}.", hint="Treat it as missing."
            )
        return next((state for state in self.states if value < state.upper), self.states[-1])

    def rgb(self, values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return (..., 3) colours; NaN gives black, the caller makes it transparent."""
        return self.colour_map.rgb(values)


def grey_colour_map(display_range: tuple[float, float]) -> ColourMap:
    """Return black to white over a range: the colours of an index nobody has interpreted."""
    return ColourMap(name="grey", stops=((display_range[0], (0, 0, 0)), (display_range[1], (255, 255, 255))))


def parse_palettes(table: Table) -> dict[str, tuple[RGB, ...]]:
    """Return name -> evenly spaced colours of a `[palettes]` table of `#rrggbb` lists.

    Raises:
        BadRequestError: a colour is not `#rrggbb`.

    """
    return {name: tuple(_hex_colour(text, name) for text in table.texts(name)) for name in table.keys_left()}


def parse_interpretation(table: Table, palettes: Mapping[str, tuple[RGB, ...]]) -> Interpretation:
    """Return the interpretation a TOML table describes.

    Args:
        table: display_range, valid_range, states and palette (or stops), optionally quality.
        palettes: the palettes a row may name.

    Raises:
        BadRequestError: a key is missing, unknown or of the wrong kind, or the states do not fit the range.

    """
    display_range, valid_range = table.pair("display_range"), table.pair("valid_range")
    states = tuple(_state(row) for row in table.tables("states"))
    colour_map = _colour_map(table, palettes, display_range)
    quality = _quality(table.table("quality")) if table.has("quality") else QualityParameters()
    table.finish()
    try:
        return Interpretation(
            display_range=display_range, valid_range=valid_range, colour_map=colour_map, states=states, quality=quality
        )
    except BadRequestError as error:
        raise BadRequestError(f"{table.where}: {error}") from error


def _state(table: Table) -> State:
    lower, upper = table.pair("range")
    state = State(
        name=table.text("name"), lower=lower, upper=upper, meaning=table.text("meaning"), source=table.text("source")
    )
    table.finish()
    return state


def _quality(table: Table) -> QualityParameters:
    defaults = QualityParameters()
    quality = QualityParameters(
        outlier_step=table.number("outlier_step", defaults.outlier_step),
        outlier_window_days=int(table.number("outlier_window_days", defaults.outlier_window_days)),
        min_valid_fraction=table.number("min_valid_fraction", defaults.min_valid_fraction),
        source=table.text("source", defaults.source),
    )
    table.finish()
    return quality


def _colour_map(table: Table, palettes: Mapping[str, tuple[RGB, ...]], display_range: tuple[float, float]) -> ColourMap:
    if table.has("stops"):
        rows = [(row.number("value"), _hex_colour(row.text("colour"), row.where)) for row in table.tables("stops")]
        return ColourMap(name=table.text("palette", "custom"), stops=tuple(rows))
    name = table.text("palette")
    if name not in palettes:
        raise BadRequestError(
            f"{table.where}: no palette {name!r}.", hint=f"Choose one of {', '.join(sorted(palettes))}, or give stops."
        )
    colours = palettes[name]
    low, high = display_range
    step = (high - low) / (len(colours) - 1)
    return ColourMap(name=name, stops=tuple((low + step * k, colour) for k, colour in enumerate(colours)))


def _hex_colour(text: str, where: str) -> RGB:
    digits = text.removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError as error:
        raise BadRequestError(f"{where}: {text!r} is not a colour.", hint="Write #rrggbb.") from error
    return red, green, blue
