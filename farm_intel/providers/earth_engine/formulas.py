"""Prints our formulas as Earth Engine's expressions, with the conditions under which the result is a number.

Earth Engine divides by zero to 0, where our engine gets no number; and it knows no scientific notation. So each
expression comes with its conditions: no zero under a fraction, nothing negative under a root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from farm_intel.domain.errors import FormulaRejectedError
from farm_intel.indices.formula import Node, Number, Operation, Symbol, constant_value
from farm_intel.indices.index import SpectralIndex

_BINARY = frozenset({"+", "-", "*", "/", "**"})
_FUNCTIONS = frozenset({"sqrt", "exp", "log", "abs", "min", "max"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexText:
    """One index as expressions over bands `b("red")` of surface reflectance."""

    value: str
    finite: str
    """True (1) where the value is a number; empty where it always is."""
    bands: tuple[str, ...]
    """Common names it reads."""


def index_text(index: SpectralIndex, available: Iterable[str]) -> IndexText:
    """Return an index as text.

    Raises:
        UnknownNameError: a band is missing.

    """
    bands = index.resolve_bands(frozenset(available))
    root = index.expression.root
    conditions = dict.fromkeys(_conditions(root, bands))
    return IndexText(
        value=_print(root, bands),
        finite=all_of(conditions),
        bands=tuple(dict.fromkeys(bands[symbol] for symbol in index.symbols)),
    )


def all_of(conditions: Iterable[str]) -> str:
    """Return the conjunction of conditions; empty for none."""
    return " && ".join(f"({condition})" for condition in conditions)


def between(names: Sequence[str], low: float, high: float, *, above: str = ">") -> str:
    """Return the condition that every band lies above `low` and not above `high`."""
    return all_of(
        part
        for name in names
        for part in (f'b("{name}") {above} {number_text(low)}', f'b("{name}") <= {number_text(high)}')
    )


def number_text(value: float) -> str:
    """Return a number without an exponent, in brackets if negative."""
    text = format(Decimal(repr(float(value))), "f")
    return f"({text})" if value < 0 else text


def _print(node: Node, bands: Mapping[str, str]) -> str:
    match node:
        case Number(value=value):
            return number_text(value)
        case Symbol(name=name):
            return f'b("{bands[name]}")'
        case Operation(operator="neg", operands=(operand,)):
            return f"(0 - {_print(operand, bands)})"
        case Operation(operator=operator, operands=(left, right)) if operator in _BINARY:
            return f"({_print(left, bands)} {operator} {_print(right, bands)})"
        case Operation(operator=operator, operands=operands) if operator in _FUNCTIONS:
            return f"{operator}({', '.join(_print(operand, bands) for operand in operands)})"
    raise FormulaRejectedError(
        f"{node} has no counterpart in Earth Engine's expressions.", hint="Use the pixels capability for this index."
    )


def _conditions(node: Node, bands: Mapping[str, str]) -> list[str]:
    """Return what must hold for every operation of a tree to give a number."""
    if not isinstance(node, Operation):
        return []
    found = [condition for operand in node.operands for condition in _conditions(operand, bands)]
    first = _print(node.operands[0], bands)
    if node.operator == "/" and constant_value(node.operands[1]) is None:
        found.append(f"{_print(node.operands[1], bands)} != 0")
    elif node.operator == "sqrt":
        found.append(f"{first} >= 0")
    elif node.operator == "log":
        found.append(f"{first} > 0")
    elif node.operator == "**":
        found.extend(_of_power(first, constant_value(node.operands[1])))
    return found


def _of_power(base: str, exponent: float | None) -> list[str]:
    if exponent is None or (exponent >= 0 and float(exponent).is_integer()):
        return []
    if float(exponent).is_integer():
        return [f"{base} != 0"]
    return [f"{base} {'>' if exponent < 0 else '>='} 0"]
