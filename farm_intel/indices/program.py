"""Many formulas, one register program: what the engine's kernel runs for every pixel.

All indices asked for are compiled together; equal subexpressions are computed once (`N - R` serves a dozen indices),
and registers are reused once their last reader is done, so that the working set stays in cache.

Layout of the registers: the inputs, then the constants (both preloaded, never written), then temporaries.
Every operation is element-wise, so `dst` may be the register of one of its own operands.
An interpreter must follow IEEE 754 (numba: `error_model="numpy"`): a division by zero is inf or NaN, never a number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import BadRequestError
from farm_intel.indices.formula import Node, Number, Symbol
from farm_intel.indices.index import SpectralIndex


class Opcode(IntEnum):
    """What an operation does; the numbers are stable because a compiled kernel branches on them."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    POW = 4
    """a ** b; NaN for a negative base and a fractional exponent."""
    MIN = 5
    """NaN if either operand is NaN."""
    MAX = 6
    """NaN if either operand is NaN."""
    NEG = 7
    SQRT = 8
    EXP = 9
    LOG = 10
    ABS = 11


_OPCODES: Mapping[str, Opcode] = {
    "+": Opcode.ADD,
    "-": Opcode.SUB,
    "*": Opcode.MUL,
    "/": Opcode.DIV,
    "**": Opcode.POW,
    "min": Opcode.MIN,
    "max": Opcode.MAX,
    "neg": Opcode.NEG,
    "sqrt": Opcode.SQRT,
    "exp": Opcode.EXP,
    "log": Opcode.LOG,
    "abs": Opcode.ABS,
}
_COMMUTATIVE = frozenset({Opcode.ADD, Opcode.MUL, Opcode.MIN, Opcode.MAX})
_UFUNCS: Mapping[Opcode, np.ufunc] = {
    Opcode.ADD: np.add,
    Opcode.SUB: np.subtract,
    Opcode.MUL: np.multiply,
    Opcode.DIV: np.divide,
    Opcode.POW: np.power,
    Opcode.MIN: np.minimum,
    Opcode.MAX: np.maximum,
    Opcode.NEG: np.negative,
    Opcode.SQRT: np.sqrt,
    Opcode.EXP: np.exp,
    Opcode.LOG: np.log,
    Opcode.ABS: np.absolute,
}
UNARY = frozenset({Opcode.NEG, Opcode.SQRT, Opcode.EXP, Opcode.LOG, Opcode.ABS})
"""Operations that read only `a`; their `b` repeats `a`, so that it is always a readable register."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BundleProgram:
    """A compiled bundle of I indices over K inputs."""

    inputs: tuple[str, ...]
    """Common names; input k stands in register k."""
    ops: npt.NDArray[np.int32]
    """(n, 4) rows of (opcode, dst, a, b), to be run in order."""
    constants: npt.NDArray[np.float64]
    """Constant c stands in register K + c."""
    n_registers: int
    """Inputs + constants + temporaries."""
    outputs: npt.NDArray[np.int32]
    """(I,) register of each index after the last operation; two equal indices share one."""
    used_inputs: npt.NDArray[np.bool_]
    """(I, K) True where the index reads the input."""


_Key = tuple[str, str] | tuple[str, float] | tuple[Opcode, int, int]


class _Values:
    """Value numbering: equal computations get equal numbers."""

    def __init__(self) -> None:
        self.keys: list[_Key] = []
        self._numbers: dict[_Key, int] = {}

    def number(self, key: _Key) -> int:
        """Return the number of a value, a new one if it was never asked for."""
        if key not in self._numbers:
            self._numbers[key] = len(self.keys)
            self.keys.append(key)
        return self._numbers[key]

    def constant(self, number: int) -> float | None:
        """Return the value if it is a constant."""
        key = self.keys[number]
        return key[1] if key[0] == "const" and isinstance(key[1], float) else None

    def add(self, node: Node, bands: Mapping[str, str]) -> int:
        """Return the number of a subtree's value."""
        if isinstance(node, Number):
            return self.number(("const", node.value))
        if isinstance(node, Symbol):
            return self.number(("input", bands[node.name]))
        operands = [self.add(operand, bands) for operand in node.operands]
        return self._operation(_OPCODES[node.operator], operands[0], operands[-1])

    def _operation(self, opcode: Opcode, a: int, b: int) -> int:
        left, right = self.constant(a), self.constant(b)
        if left is not None and right is not None:
            return self.number(("const", _apply_scalar(opcode, left, right)))
        if opcode is Opcode.POW and right == 1.0:
            return a
        if opcode is Opcode.POW and right == 2.0:
            opcode, b = Opcode.MUL, a  # a multiplication costs a fraction of pow, and numpy does the same
        elif opcode is Opcode.POW and right == 0.5:
            opcode, b = Opcode.SQRT, a
        elif right == 1.0 and opcode in {Opcode.MUL, Opcode.DIV}:
            return a
        elif left == 1.0 and opcode is Opcode.MUL:
            return b
        if opcode in _COMMUTATIVE and b < a:
            a, b = b, a
        return self.number((opcode, a, b))


def compile_bundle(indices: Sequence[SpectralIndex], available: Collection[str]) -> BundleProgram:
    """Return one program for all indices; inputs are the bands they need, in order of first use.

    Args:
        indices: in the order of the output axis.
        available: common names the collection or scene offers.

    Raises:
        BadRequestError: no indices.
        UnknownNameError: an index needs a band that is not available.
        FormulaRejectedError: a formula is outside the allow-list.

    """
    if not indices:
        raise BadRequestError("no indices to compile.", hint="Ask for at least one.")
    values = _Values()
    resolved = [index.resolve_bands(available) for index in indices]
    inputs = tuple(dict.fromkeys(name for bands in resolved for name in bands.values()))
    for name in inputs:
        values.number(("input", name))
    results = [values.add(index.expression.root, bands) for index, bands in zip(indices, resolved, strict=True)]
    used = np.array([[name in bands.values() for name in inputs] for bands in resolved], np.bool_)
    needed = _needed(values.keys, results)
    constants = [number for number in needed if values.constant(number) is not None]
    registers = {number: register for register, number in enumerate([*range(len(inputs)), *constants])}
    ops, n_registers = _allocate(values.keys, needed, results, registers)
    return BundleProgram(
        inputs=inputs,
        ops=np.array(ops, np.int32).reshape(-1, 4),
        constants=np.array([values.constant(number) for number in constants], np.float64),
        n_registers=n_registers,
        outputs=np.array([registers[number] for number in results], np.int32),
        used_inputs=used,
    )


def _needed(keys: Sequence[_Key], results: Sequence[int]) -> list[int]:
    """Return the value numbers the results depend on, operands before their readers."""
    wanted: set[int] = set()
    stack = list(results)
    while stack:
        number = stack.pop()
        if number not in wanted:
            wanted.add(number)
            stack.extend(_operands(keys[number]))
    return sorted(wanted)


def _operands(key: _Key) -> tuple[int, ...]:
    return (key[1], key[2]) if len(key) == 3 else ()


def _allocate(
    keys: Sequence[_Key], needed: Sequence[int], results: Sequence[int], registers: dict[int, int]
) -> tuple[list[tuple[int, int, int, int]], int]:
    """Give every operation a register, reusing those whose value nobody reads any more; fills `registers`."""
    fixed = len(registers)
    last_reader = {operand: number for number in needed for operand in _operands(keys[number])}
    kept = set(results)
    free: list[int] = []
    total = fixed
    ops: list[tuple[int, int, int, int]] = []
    for number in needed:
        key = keys[number]
        if len(key) != 3:
            continue
        opcode, a, b = key
        left, right = registers[a], registers[b]
        dead = (x for x in {a, b} if last_reader[x] == number and x not in kept and registers[x] >= fixed)
        free.extend(registers[x] for x in dead)
        if free:
            register = free.pop()
        else:
            register, total = total, total + 1
        registers[number] = register
        ops.append((int(opcode), register, left, right))
    return ops, total


def run_program(program: BundleProgram, bands: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
    """Return (I, ...) float64: the reference interpreter, for tests and the simulation.

    Args:
        program: a compiled bundle.
        bands: surface reflectance by common name, broadcast together; must hold every input of the program.

    Raises:
        BadRequestError: an input is missing.

    """
    missing = [name for name in program.inputs if name not in bands]
    if missing:
        raise BadRequestError(f"bands {', '.join(missing)} are missing.", hint="Pass every input of the program.")
    arrays = np.broadcast_arrays(*(np.asarray(bands[name], np.float64) for name in program.inputs))
    registers: list[npt.NDArray[np.float64]] = [*arrays, *map(np.asarray, program.constants)]
    registers += [arrays[0]] * (program.n_registers - len(registers))
    with np.errstate(all="ignore"):
        for opcode, dst, a, b in program.ops.tolist():
            code = Opcode(opcode)
            operands = (registers[a],) if code in UNARY else (registers[a], registers[b])
            registers[dst] = np.asarray(_UFUNCS[code](*operands), np.float64)
    return np.stack([np.broadcast_to(registers[register], arrays[0].shape) for register in program.outputs])


def _apply_scalar(opcode: Opcode, left: float, right: float) -> float:
    operands = (left,) if opcode in UNARY else (left, right)
    with np.errstate(all="ignore"):
        return float(_UFUNCS[opcode](*operands))
