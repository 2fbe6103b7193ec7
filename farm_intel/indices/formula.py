"""Formulas are text from outside: parsed once against an allow-list into an immutable tree, never executed.

Python's own grammar does the parsing (`ast.parse`, no `eval`, no `compile`); every node that is not named here is
refused with its position. Division by zero is not special: it gives inf or NaN, which the engine counts as invalid.
"""

from __future__ import annotations

import ast
import hashlib
import string
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from farm_intel.domain.bands import SYMBOL_COMMON_NAMES
from farm_intel.domain.errors import FormulaRejectedError

FloatArray = npt.NDArray[np.float64]

BAND_SYMBOLS: frozenset[str] = frozenset(SYMBOL_COMMON_NAMES) - {"T", "T1", "T2"}
"""Symbols a formula may use; the thermal ones are kelvin, and the engine delivers reflectance only."""

FUNCTIONS: Mapping[str, int] = {"sqrt": 1, "exp": 1, "log": 1, "abs": 1, "min": 2, "max": 2}
"""Callable names and how many arguments they take at least; `min` and `max` take more, left to right."""

MAX_LENGTH = 1000
"""Characters; the longest formula of the catalogue has 225."""
MAX_DEPTH = 60
"""Nested operations, so that no walk over a tree can exhaust the stack."""
MAX_EXPONENT = 16.0
"""Absolute value of a power's constant exponent; beyond it reflectances underflow to nothing."""
MAX_NUMBER = 1e12
"""Absolute value of a literal or constant."""

_ALLOWED_CHARACTERS = frozenset(string.ascii_letters + string.digits + "_+-*/()., \t\r\n")
_BINARY: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_ALLOWED = "Allowed are numbers, names, + - * / **, unary minus, parentheses and " + ", ".join(
    f"{name}()" for name in FUNCTIONS
)


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, or a named constant with its value filled in."""

    value: float


@dataclass(frozen=True, slots=True)
class Symbol:
    """A band symbol such as `N`."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or function over one or two operands."""

    operator: str
    """One of + - * / ** neg sqrt exp log abs min max."""
    operands: tuple[Node, ...]


Node = Number | Symbol | Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A parsed formula: the tree with its constants filled in."""

    text: str
    """As written."""
    root: Node
    symbols: tuple[str, ...]
    """Band symbols it uses, in order of appearance."""

    @property
    def canonical(self) -> str:
        """The fully bracketed text with the constants' values: equal for equal trees."""
        return to_text(self.root)

    @property
    def digest(self) -> str:
        """First 16 hex digits of SHA-256 over the canonical text; white space does not change it."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]

    def evaluate(self, values: Mapping[str, npt.ArrayLike]) -> FloatArray:
        """Return the index for reflectances by band symbol, broadcast together, in float64.

        Non-finite results are left as they are: they mean that the pixel has no value.

        """
        arrays = {name: np.asarray(values[name], np.float64) for name in self.symbols}
        with np.errstate(all="ignore"):
            return _evaluate(self.root, arrays)


def parse_formula(text: str, constants: Mapping[str, float] | None = None) -> Formula:
    """Return the tree of a formula over band symbols and named constants.

    Args:
        text: e.g. `(1 + L) * (N - R) / (N + R + L)`; line breaks count as blanks.
        constants: name -> value; every one must be used, none may carry the name of a band or function.

    Raises:
        FormulaRejectedError: anything outside the allow-list or its limits, with the position and what is allowed.

    """
    values = dict(constants or {})
    for name, value in values.items():
        if name in BAND_SYMBOLS or name in SYMBOL_COMMON_NAMES or name in FUNCTIONS or not name.isidentifier():
            raise FormulaRejectedError(
                f"constant {name!r} cannot have this name.", hint="Bands and functions keep theirs; choose another."
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_NUMBER:
            raise FormulaRejectedError(
                f"constant {name} is {value!r}.", hint=f"Give a number of at most {MAX_NUMBER:g} in size."
            )
    return _parse(text, tuple(sorted((name, float(value)) for name, value in values.items())))


@lru_cache(maxsize=2048)
def _parse(text: str, constants: tuple[tuple[str, float], ...]) -> Formula:
    builder = _Builder(text, dict(constants))
    root = builder.root()
    unused = sorted(builder.constants.keys() - builder.constants_used)
    if unused:
        raise FormulaRejectedError(
            f"formula {text!r} never uses its constant {', '.join(unused)}.",
            hint="Remove it, or spell it in the formula as in the table.",
        )
    symbols = tuple(dict.fromkeys(node.name for node in _walk(root) if isinstance(node, Symbol)))
    if not symbols:
        raise FormulaRejectedError(f"formula {text!r} uses no band.", hint=f"Bands are {_names(BAND_SYMBOLS)}.")
    return Formula(text=text, root=root, symbols=symbols)


class _Builder:
    """Turns Python's syntax tree into ours, refusing every node that is not listed."""

    def __init__(self, text: str, constants: dict[str, float]) -> None:
        self.text = text
        self.constants = constants
        self.constants_used: set[str] = set()
        # Leading blanks would be an indentation error, and line breaks end a statement.
        self._flat = "".join(" " if character.isspace() else character for character in text).rstrip()
        self._start = len(self._flat) - len(self._flat.lstrip())

    def root(self) -> Node:
        if len(self.text) > MAX_LENGTH:
            raise FormulaRejectedError(
                f"formula of {len(self.text)} characters is too long.", hint=f"At most {MAX_LENGTH} are allowed."
            )
        for position, character in enumerate(self.text):
            if character not in _ALLOWED_CHARACTERS:
                raise self._rejected(position, f"character {character!r}")
        try:
            tree = ast.parse(self._flat[self._start :], mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            position = self._start + (getattr(error, "offset", None) or 1) - 1
            reason = getattr(error, "msg", None) or "too deeply nested"
            raise self._rejected(min(position, len(self.text)), f"syntax ({reason})") from error
        return self._node(tree.body, 0)

    def _node(self, node: ast.expr, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._refuse(node, f"nesting deeper than {MAX_DEPTH}")
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return self._name(node)
            case ast.BinOp() if type(node.op) in _BINARY:
                operator = _BINARY[type(node.op)]
                operands = (self._node(node.left, depth + 1), self._node(node.right, depth + 1))
                return self._operation(node, operator, operands)
            case ast.UnaryOp(op=ast.USub()):
                return self._operation(node, "neg", (self._node(node.operand, depth + 1),))
            case ast.UnaryOp(op=ast.UAdd()):
                return self._node(node.operand, depth + 1)
            case ast.Call():
                return self._call(node, depth)
        raise self._refuse(node, f"{type(getattr(node, 'op', node)).__name__}")

    def _number(self, node: ast.Constant) -> Number:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refuse(node, f"{type(value).__name__} {value!r}")
        if not abs(value) <= MAX_NUMBER:
            raise self._refuse(node, f"a number beyond {MAX_NUMBER:g}")
        return Number(float(value))

    def _name(self, node: ast.Name) -> Node:
        if node.id in self.constants:
            self.constants_used.add(node.id)
            return Number(self.constants[node.id])
        if node.id in BAND_SYMBOLS:
            return Symbol(node.id)
        known = f"Bands are {_names(BAND_SYMBOLS)}; constants of this index are {_names(self.constants) or 'none'}."
        raise self._refuse(node, f"unknown name {node.id!r}", hint=known)

    def _call(self, node: ast.Call, depth: int) -> Node:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            raise self._refuse(node, f"call of {name or type(node.func).__name__}")
        wanted = FUNCTIONS[name]
        enough = len(node.args) == wanted if wanted == 1 else len(node.args) >= wanted
        if node.keywords or not enough:
            raise self._refuse(node, f"{name}() with {len(node.args) + len(node.keywords)} arguments")
        result = self._node(node.args[0], depth + 1)
        if wanted == 1:
            return self._operation(node, name, (result,))
        for nested, argument in enumerate(node.args[1:]):
            # Each further argument wraps the ones before it, so it counts as a level.
            result = self._operation(node, name, (result, self._node(argument, depth + 1 + nested)))
        return result

    def _operation(self, node: ast.expr, operator: str, operands: tuple[Node, ...]) -> Node:
        if operator == "**":
            exponent = constant_value(operands[1])
            if exponent is None or not abs(exponent) <= MAX_EXPONENT:
                raise self._refuse(node, f"a power with an exponent that is no constant within ±{MAX_EXPONENT:g}")
        operation = Operation(operator, operands)
        value = constant_value(operation)
        if value is not None and not np.isfinite(value):
            raise self._refuse(node, f"a constant part that is {value}")
        return operation

    def _refuse(self, node: ast.expr, what: str, *, hint: str = _ALLOWED) -> FormulaRejectedError:
        return self._rejected(self._start + node.col_offset, what, hint=hint)

    def _rejected(self, position: int, what: str, *, hint: str = _ALLOWED) -> FormulaRejectedError:
        near = self.text[position : position + 20]
        return FormulaRejectedError(
            f"formula refused at position {position + 1} (near {near!r}): {what} is not allowed.", hint=hint
        )


def constant_value(node: Node) -> float | None:
    """Return the value of a subtree without bands, or None; may be inf or NaN."""
    if any(isinstance(part, Symbol) for part in _walk(node)):
        return None
    with np.errstate(all="ignore"):
        return float(_evaluate(node, {}))


def to_text(node: Node) -> str:
    """Return the tree as fully bracketed text that parses to the same tree."""
    match node:
        case Number(value=value):
            return repr(value)
        case Symbol(name=name):
            return name
        case Operation(operator="neg", operands=(operand,)):
            return f"(-{to_text(operand)})"
        case Operation(operator=operator, operands=(left, right)) if operator not in FUNCTIONS:
            return f"({to_text(left)} {operator} {to_text(right)})"
        case Operation(operator=operator, operands=operands):
            return f"{operator}({', '.join(map(to_text, operands))})"


_UFUNCS: Mapping[str, np.ufunc] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "neg": np.negative,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "abs": np.absolute,
    "min": np.minimum,
    "max": np.maximum,
}


def _evaluate(node: Node, arrays: Mapping[str, FloatArray]) -> FloatArray:
    match node:
        case Number(value=value):
            return np.asarray(value, np.float64)
        case Symbol(name=name):
            return arrays[name]
        case Operation(operator=operator, operands=operands):
            ufunc = _UFUNCS[operator]
            return np.asarray(ufunc(*(_evaluate(operand, arrays) for operand in operands)), np.float64)


def _walk(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Operation):
        for operand in node.operands:
            yield from _walk(operand)


def _names(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
