"""Bringing an index seen by one sensor to the scale of another: band coefficients, carried over to the index.

Published bandpass adjustments are linear per band, rho_to = slope * rho_from + offset. A stored observation is a mean
of an index, so the adjustment is carried over: the index is evaluated on reference spectra as they are and with every
band adjusted, and a straight line is fitted between the two. The residual of that fit is kept as uncertainty. Linear is
enough: the adjustments move bands by a few percent, and a mean over a field commutes with a straight line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BandLine:
    """rho_to = slope * rho_from + offset, in reflectance."""

    slope: float
    offset: float

    def inverted(self) -> BandLine:
        """Return the line the other way round."""
        return BandLine(slope=1.0 / self.slope, offset=-self.offset / self.slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandpassStep:
    """One published adjustment between two bandpasses."""

    start: str
    """Bandpass the values are in: `oli`."""
    target: str
    """Bandpass they are brought to: `msi`."""
    bands: Mapping[str, BandLine]
    """By common name; a band that is not listed stays as it is."""
    source: str
    published: Mapping[str, BandLine] = field(default_factory=dict)
    """Index slug -> line the source itself publishes for the index; taken instead of the fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLine:
    """An index on the common scale: value * slope + offset."""

    slope: float = 1.0
    offset: float = 0.0
    sigma: float = 0.0
    """Standard deviation of what the line leaves, index units."""
    text: str = ""
    """For provenance; empty where nothing is done."""


IDENTITY = IndexLine()

Evaluate = Callable[[Mapping[str, Floats]], Floats]
"""An index over reflectances by common name."""


def path_to(steps: Sequence[BandpassStep], start: str, target: str) -> tuple[BandpassStep, ...]:
    """Return the steps that lead from one bandpass to another, shortest first; empty where none is published."""
    routes: list[tuple[BandpassStep, ...]] = [()]
    seen = {start}
    while routes:
        longer = []
        for route in routes:
            here = route[-1].target if route else start
            for step in steps:
                if step.start == here and step.target == target:
                    return (*route, step)
                if step.start == here and step.target not in seen:
                    seen.add(step.target)
                    longer.append((*route, step))
        routes = longer
    return ()


def adjust_bands(bands: Mapping[str, Floats], lines: Mapping[str, BandLine]) -> dict[str, Floats]:
    """Return reflectances after a step; bands without a line stay as they are."""
    return {
        name: values * lines[name].slope + lines[name].offset if name in lines else values
        for name, values in bands.items()
    }


def carry_over(
    slug: str, evaluate: Evaluate, spectra: Mapping[str, Floats], route: Sequence[BandpassStep]
) -> IndexLine:
    """Return the line that brings an index along a route of steps; IDENTITY where the route does not touch it.

    Args:
        slug: of the index, for lines that are published for it.
        evaluate: the index.
        spectra: reference reflectances by common name, as the first sensor of the route sees them.
        route: from `path_to`.

    """
    line = IDENTITY
    for step in route:
        line = _chain(line, _of_step(slug, evaluate, spectra, step))
        spectra = adjust_bands(spectra, step.bands)
    return line


def _of_step(slug: str, evaluate: Evaluate, spectra: Mapping[str, Floats], step: BandpassStep) -> IndexLine:
    before = np.asarray(evaluate(spectra), np.float64)
    after = np.asarray(evaluate(adjust_bands(spectra, step.bands)), np.float64)
    usable = np.isfinite(before) & np.isfinite(after)
    before, after = before[usable], after[usable]
    published = step.published.get(slug)
    if published is not None:
        slope, offset, how = published.slope, published.offset, "published for the index"
    elif before.size < 2 or np.array_equal(before, after) or np.ptp(before) == 0.0:
        return IDENTITY
    else:
        slope, offset = (float(number) for number in np.polyfit(before, after, 1))
        how = "from band coefficients over reference spectra"
    sigma = float(np.sqrt(np.mean((after - slope * before - offset) ** 2))) if before.size else 0.0
    text = f"{step.start} to {step.target}: x {slope:.4f} {offset:+.4f}, {how} ({step.source})"
    return IndexLine(slope=slope, offset=offset, sigma=sigma, text=text)


def _chain(first: IndexLine, second: IndexLine) -> IndexLine:
    return IndexLine(
        slope=first.slope * second.slope,
        offset=first.offset * second.slope + second.offset,
        sigma=float(np.hypot(first.sigma * second.slope, second.sigma)),
        text="; then ".join(text for text in (first.text, second.text) if text),
    )
