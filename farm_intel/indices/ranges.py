"""Valid ranges where nobody declared one: what an index can be on real surfaces.

Two rules. A fraction whose numerator is made of terms of its denominator (normalised differences, chromatic
coordinates) is within [-1, 1] by algebra. Everything else is evaluated over mixtures of the reference spectra of this
package in light and shade, and the range is widened until no field can fall outside it.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import BadRequestError
from farm_intel.indices.formula import Formula, Node, Number, Operation, constant_value, to_text
from farm_intel.indices.index import nice_step

_MIXTURES = np.linspace(0.0, 1.0, 11)
_BRIGHTNESS = (0.5, 0.75, 1.0, 1.25)
_QUANTILES = (0.01, 0.99)
"""Ratios have poles; the last percent on each side would let one pole decide the range."""
_MARGIN = 2.0
"""Widening on each side, in spans between the quantiles."""


@cache
def reference_spectra() -> dict[str, dict[str, float]]:
    """Return material -> band symbol -> surface reflectance (0..1), see reference_spectra.json for what they are."""
    data = json.loads((Path(__file__).parent / "reference_spectra.json").read_text(encoding="utf-8"))
    return {name: dict(zip(data["symbols"], values, strict=True)) for name, values in data["materials"].items()}


def default_range(formula: Formula) -> tuple[float, float]:
    """Return a range no valid pixel of the index should leave.

    Raises:
        BadRequestError: the index is finite on none or one value of the mixtures, so that no range can be derived.

    """
    if _is_share(formula.root):
        return (-1.0, 1.0)
    values = formula.evaluate(_mixtures())
    finite = np.broadcast_to(values, values.shape)[np.isfinite(values)]
    if finite.size == 0 or np.ptp(finite) == 0:
        raise BadRequestError(
            f"no valid range can be derived for {formula.text!r}.", hint="Declare valid_range = [low, high]."
        )
    low, high = np.quantile(finite, _QUANTILES)
    span = max(high - low, abs(high) * 1e-3)
    return _outwards(float(low - _MARGIN * span), float(high + _MARGIN * span))


@cache
def _mixtures() -> dict[str, npt.NDArray[np.float64]]:
    """Return band symbol -> reflectances of all pairwise mixtures at several brightnesses."""
    spectra = reference_spectra()
    symbols = list(next(iter(spectra.values())))
    rows = np.array([[spectrum[symbol] for symbol in symbols] for spectrum in spectra.values()])
    mixed = [
        (share * rows[a] + (1 - share) * rows[b]) * brightness
        for a, b in combinations_with_replacement(range(len(rows)), 2)
        for share in _MIXTURES
        for brightness in _BRIGHTNESS
    ]
    return dict(zip(symbols, np.array(mixed).T, strict=True))


def _outwards(low: float, high: float) -> tuple[float, float]:
    """Round to a 1-2-5 step of about a tenth of the span, away from the middle, so that noise cannot move it."""
    step = nice_step((high - low) / 10)
    return float(f"{np.floor(low / step) * step:.12g}"), float(f"{np.ceil(high / step) * step:.12g}")


def _is_share(root: Node) -> bool:
    """True for (sum of some terms, any signs) / (sum of all of them, all plus), each term positive for reflectances."""
    if not isinstance(root, Operation) or root.operator != "/":
        return False
    numerator, denominator = (_terms(operand, 1) for operand in root.operands)
    whole = {text for text, sign in denominator if sign > 0}
    if len(whole) != len(denominator) or len({text for text, _ in numerator}) != len(numerator):
        return False
    return {text for text, _ in numerator} <= whole and _all_positive(root.operands[1])


def _terms(node: Node, sign: int) -> list[tuple[str, int]]:
    """Flatten a sum into (term, sign)."""
    if isinstance(node, Operation) and node.operator in {"+", "-"}:
        left, right = node.operands
        return _terms(left, sign) + _terms(right, sign if node.operator == "+" else -sign)
    if isinstance(node, Operation) and node.operator == "neg":
        return _terms(node.operands[0], -sign)
    return [(to_text(node), sign)]


def _all_positive(node: Node) -> bool:
    """True where the subtree cannot be negative for reflectances that are not: sums, products, powers of such."""
    if isinstance(node, Number):
        return node.value >= 0
    if isinstance(node, Operation):
        if node.operator == "**":
            return _all_positive(node.operands[0]) and constant_value(node.operands[1]) is not None
        return node.operator in {"+", "*", "/", "sqrt", "exp", "abs"} and all(map(_all_positive, node.operands))
    return True
