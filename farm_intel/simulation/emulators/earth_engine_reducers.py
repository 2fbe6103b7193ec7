"""Reducers, and what they make of an image's pixels inside regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from farm_intel.simulation.emulators.earth_engine_values import (
    BoolArray,
    Collection,
    EmulatorRefusalError,
    Feature,
    FloatArray,
    Grid,
    Image,
    Projection,
    centres_inside,
    coverage,
)

_SMALLEST_WEIGHT = 1 / 256
_MOST_PIXELS = 50_000_000

Statistic = Callable[[FloatArray, FloatArray], float]
"""Values and weights, at least one, to a number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Output:
    """One output of a reducer."""

    name: str
    statistic: Statistic
    weighted: bool
    """False: pixels count by their centre, wholly or not at all."""
    empty: float | None = None
    """What it gives without pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reducer:
    """Some outputs over one input."""

    outputs: tuple[Output, ...]


def _spread(values: FloatArray, weights: FloatArray) -> float:
    mean = np.average(values, weights=weights)
    return float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))


def simple(name: str) -> Reducer:
    """Return one of the plain reducers."""
    kinds: dict[str, tuple[Statistic, bool]] = {
        "mean": (lambda v, w: float(np.average(v, weights=w)), True),
        "sum": (lambda v, w: float((v * w).sum()), True),
        "stdDev": (_spread, True),
        "count": (lambda v, _: float(v.size), False),
        "min": (lambda v, _: float(v.min()), False),
        "max": (lambda v, _: float(v.max()), False),
    }
    statistic, weighted = kinds[name]
    return Reducer(outputs=(Output(name=name, statistic=statistic, weighted=weighted, empty=_empty(name)),))


def _empty(name: str) -> float | None:
    return 0.0 if name == "count" else None


def percentile(percentiles: Sequence[float], outputNames: Sequence[str] | None = None, **_: object) -> Reducer:  # noqa: N803 - theirs
    """Return Reducer.percentile: exact for few pixels, linear between order statistics.

    How Earth Engine interpolates is not published; between neighbouring pixels of one field it makes no difference.
    """
    names = outputNames or [f"p{share:g}" for share in percentiles]

    def at(share: float) -> Statistic:
        return lambda values, _: float(np.percentile(values, share))

    return Reducer(
        outputs=tuple(
            Output(name=name, statistic=at(share), weighted=False)
            for name, share in zip(names, percentiles, strict=True)
        )
    )


def combine(reducer1: Reducer, reducer2: Reducer, outputPrefix: str = "", sharedInputs: bool = False) -> Reducer:  # noqa: N803, FBT001, FBT002 - theirs
    """Return Reducer.combine over the same input."""
    if not sharedInputs:
        raise EmulatorRefusalError("emulator: Reducer.combine only with sharedInputs")
    prefixed = (
        Output(name=outputPrefix + o.name, statistic=o.statistic, weighted=o.weighted, empty=o.empty)
        for o in reducer2.outputs
    )
    return Reducer(outputs=(*reducer1.outputs, *prefixed))


def unweighted(reducer: Reducer) -> Reducer:
    """Return Reducer.unweighted: pixels count by their centre."""
    return Reducer(
        outputs=tuple(
            Output(name=o.name, statistic=o.statistic, weighted=False, empty=o.empty) for o in reducer.outputs
        )
    )


class RegionReducer:
    """Reduces one image over many features on one projection; computes the pixels of all of them once."""

    def __init__(self, image: Image, reducer: Reducer, projection: Projection, limit_pixels: int | None) -> None:
        self._image = image
        self._reducer = reducer
        self._projection = projection
        self._limit = limit_pixels

    def features(self, collection: Collection) -> Collection:
        """Return the features with the reducer's outputs as further properties."""
        shapes = [
            None if feature.region is None else feature.region.to(self._projection.crs) for feature in collection.items
        ]
        grids = [None if shape is None else self._projection.grid(shape.bounds) for shape in shapes]
        self._refuse_too_much([grid for grid in grids if grid is not None])
        known = [grid for grid in grids if grid is not None]
        whole = None if not known else self._union(known)
        results = []
        for feature, shape, grid in zip(collection.items, shapes, grids, strict=True):
            found: dict[str, float | None] = {}
            if shape is not None and grid is not None and whole is not None:
                found = self._reduce(coverage(shape, grid), centres_inside(shape, grid), (whole, grid))
            results.append(
                Feature(
                    region=feature.region,
                    properties={**feature.properties, **found},
                    feature_id=feature.feature_id,
                )
            )
        return Collection(items=results)

    def _refuse_too_much(self, grids: Sequence[Grid]) -> None:
        pixels = sum(grid.width * grid.height for grid in grids)
        if self._limit is not None and pixels > self._limit:
            raise EmulatorRefusalError("User memory limit exceeded.")

    def _union(self, grids: Sequence[Grid]) -> Grid:
        pixel = self._projection.pixel_m
        whole = self._projection.grid(
            (
                min(grid.west_m for grid in grids) + pixel / 2,
                min(grid.north_m - grid.height * pixel for grid in grids) + pixel / 2,
                max(grid.west_m + grid.width * pixel for grid in grids) - pixel / 2,
                max(grid.north_m for grid in grids) - pixel / 2,
            )
        )
        if whole.width * whole.height > _MOST_PIXELS:
            raise EmulatorRefusalError("Computation timed out.")
        return whole

    def _reduce(self, weights: FloatArray, centred: BoolArray, grids: tuple[Grid, Grid]) -> dict[str, float | None]:
        whole, grid = grids
        rows, cols = whole.window(grid)
        found: dict[str, float | None] = {}
        for name, band in self._image.bands.items():
            everywhere, open_pixels = band.read(whole)
            values, mask = everywhere[rows, cols], open_pixels[rows, cols]
            for output in self._reducer.outputs:
                weight = (np.where(weights > _SMALLEST_WEIGHT, weights, 0.0) if output.weighted else centred).astype(
                    np.float64
                )
                used = mask & (weight > 0)
                result = output.statistic(values[used], weight[used]) if used.any() else output.empty
                found[self._property(name, output.name)] = result
        return found

    def _property(self, band: str, output: str) -> str:
        """Return the property's name: one band is not named, nor is one output of several bands."""
        if len(self._image.bands) == 1:
            return output
        return band if len(self._reducer.outputs) == 1 else f"{band}_{output}"
