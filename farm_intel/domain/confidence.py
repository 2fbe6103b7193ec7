"""How sure an observation is: components between 0 and 1, joined by a weighted geometric mean.

A geometric mean, because each component is a condition and not a merit: an observation through cloud is not redeemed by
a good sensor. With a sum (as the platform this package replaces had it) four good components carry a fifth that is zero
to 0.8; here a zero gives zero, and a component of one changes nothing.

There is no bootstrap deadlock: an observation without neighbours in time is not "unknown, therefore refused" but
uncorroborated, which costs a fixed, small share. The first clear observation of a farm is usable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from farm_intel.domain.looks import Floats, Looks, SensorTable

COMPONENTS = ("source", "radiometry", "clear", "valid", "purity", "temporal")
"""In the order of the components axis."""
TEMPORAL = COMPONENTS.index("temporal")

_LEAST = 1e-6
"""Stands for zero in the logarithm: one component of zero gives a confidence of practically zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceRule:
    """Parameters of the confidence of one index."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType(
            {"source": 1.0, "radiometry": 1.0, "clear": 2.0, "valid": 0.5, "purity": 1.0, "temporal": 1.5}
        )
    )
    """Exponent of each component. `clear` counts most: what the mask missed is beside what it found. `valid` is mostly
    said by `clear` already."""
    flag_factors: Mapping[str, float] = field(default_factory=dict)
    """Flag -> factor of the radiometry component."""
    full_n_effective: float = 10.0
    """Effective pixels from which a mean is as sure as it gets; below, the square root of the share."""
    mixed_purity: float = 0.7
    """Purity of a mean over mixed pixels."""
    uncorroborated: float = 0.8
    """Temporal component where there is no neighbour in time."""
    minimum: float = 0.5
    """Confidence from which an observation may be used."""
    source: str = ""


def static_components(looks: Looks, sensors: SensorTable, rule: ConfidenceRule) -> Floats:
    """Return (N, C) components, the temporal one NaN: what an observation says by itself."""
    components = np.full((len(looks), len(COMPONENTS)), np.nan)
    trusts = np.array([*(row.trust for row in sensors.rows), sensors[-1].trust])  # sensor -1 reads the last
    factors = [np.prod([rule.flag_factors.get(flag, 1.0) for flag in flags]) for flags in looks.flag_sets]
    enough = np.sqrt(np.clip(looks.n_effective / rule.full_n_effective, 0.0, 1.0))
    columns = {
        "source": trusts[looks.sensor],
        "radiometry": np.array(factors, np.float64)[looks.flags] if factors else np.empty(0),
        "clear": 1.0 - looks.obscured_fraction,
        "valid": looks.valid_fraction,
        "purity": enough * np.where(looks.mixed, rule.mixed_purity, 1.0),
    }
    for name, values in columns.items():
        components[:, COMPONENTS.index(name)] = np.clip(values, 0.0, 1.0)
    return components


def join_components(components: Floats, rule: ConfidenceRule) -> Floats:
    """Return (N,) confidence 0..1: exp(sum(w ln c) / sum(w)); a NaN component is left out.

    Args:
        components: (N, C) in the order of COMPONENTS.
        rule: the weights.

    """
    weights = np.array([rule.weights.get(name, 0.0) for name in COMPONENTS])
    known = np.isfinite(components)
    logs = np.log(np.maximum(np.where(known, components, 1.0), _LEAST))
    joined = np.exp((logs * weights).sum(axis=1) / np.maximum((known * weights).sum(axis=1), _LEAST))
    return np.asarray(joined, np.float64)


def with_temporal(components: Floats, temporal: Floats, rule: ConfidenceRule) -> Floats:
    """Return the components with their temporal column filled; NaN becomes `uncorroborated`."""
    filled = components.copy()
    filled[:, TEMPORAL] = np.where(np.isfinite(temporal), temporal, rule.uncorroborated)
    return filled
