"""Formulas from outside: what is refused, and that what is accepted means what Python says it means."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from farm_intel.domain.errors import BadRequestError, FormulaRejectedError
from farm_intel.indices.formula import MAX_DEPTH, MAX_LENGTH, parse_formula
from farm_intel.indices.program import compile_bundle, run_program
from farm_intel_tests.indices.support import BAND_OF, made_up_index

REJECTED = {
    "attribute": "N.real",
    "method call": "N.__class__()",
    "import call": "__import__(os)",
    "import with a string": "__import__('os').system('true')",
    "evaluation": "eval(N)",
    "function without a bracket": "sqrt",
    "unknown function": "tanh(N)",
    "call of a call": "sqrt(N)(R)",
    "too many arguments": "sqrt(N, R)",
    "too few arguments": "max(N)",
    "no arguments": "exp()",
    "keyword argument": "sqrt(x=N)",
    "starred argument": "max(*N, R)",
    "lambda": "lambda: N",
    "comprehension": "[N for N in R]",
    "generator": "max(N for N in R)",
    "list": "[N, R]",
    "tuple": "N, R",
    "empty tuple": "N * ()",
    "dictionary": "{N: R}",
    "subscript": "N[0]",
    "string": "'N'",
    "formatted string": "f'{N}'",
    "bytes": "b'N'",
    "comparison": "N > R",
    "chained comparison": "N == R",
    "boolean operator": "N and R",
    "negation by word": "not N",
    "truth value": "True * N",
    "none": "None",
    "ellipsis": "...",
    "conditional": "N if R else G",
    "assignment expression": "(N := R)",
    "statement": "import os",
    "two statements": "N; R",
    "integer division": "N // R",
    "remainder": "N % R",
    "matrix product": "N @ R",
    "shift": "N << 2",
    "bitwise": "N | R",
    "inversion": "~N",
    "complex number": "N * 2j",
    "hexadecimal overflow": "N * 0x" + "f" * 300,
    "number too large": "N * 1e13",
    "infinite number": "N * 1e999",
    "huge power": "N ** 1000",
    "tower of powers": "9 ** 9 ** 9 ** 9 * N",
    "power with a band": "N ** R",
    "constant part divides by zero": "N * (1 / 0)",
    "constant part is not a number": "N * log(0 - 1)",
    "unknown name": "N - RED",
    "thermal band": "N - T1",
    "dunder": "__builtins__",
    "no band": "1 + 2",
    "empty": "",
    "blanks": "   ",
    "unbalanced": "(N - R",
    "trailing": "N - R)",
    "missing operand": "N -",
    "adjacent": "N R",
    "digit before name": "2N",
    "comment": "N # R",
    "line continuation": "N \\\n - R",
    "null byte": "N\x00",
    "not ascii": "N \u2212 R",
    "look-alike letter": "\uff2e - R",
    "await": "await N",
    "yield": "(yield N)",
}


@pytest.mark.parametrize("text", REJECTED.values(), ids=REJECTED.keys())
def test_syntax_outside_the_allow_list_is_refused(text):
    with pytest.raises(FormulaRejectedError):
        parse_formula(text)


@pytest.mark.parametrize(
    "text",
    [
        "N" + " + N" * (MAX_LENGTH // 4),
        "(" * 150 + "N" + ")" * 150 + " + " + "-" * 200 + "N",
        "-" * (MAX_LENGTH - 1) + "N",
        "+".join(["N"] * (MAX_DEPTH + 2)),
        "max(" + ",".join(["N"] * (MAX_DEPTH + 3)) + ")",
        "(" * 400 + "N" + ")" * 400,
    ],
    ids=["long", "unary tower", "longest unary tower", "long sum", "many arguments", "brackets"],
)
def test_length_and_depth_are_limited(text):
    with pytest.raises(FormulaRejectedError):
        parse_formula(text)


def test_a_refusal_says_where_and_what_is_allowed():
    with pytest.raises(FormulaRejectedError, match=r"position 12 \(near 'RED \+ N'\): unknown name 'RED'") as refusal:
        parse_formula(" (N - R) / RED + N")

    assert "RE1" in refusal.value.hint


def test_a_position_counts_leading_blanks_and_line_breaks():
    with pytest.raises(FormulaRejectedError, match=r"position 9 \(near 'XY'\)"):
        parse_formula("\n  N\n + XY")


@pytest.mark.parametrize(
    ("constants", "said"),
    [
        ({"N": 1.0}, "'N'"),
        ({"T1": 1.0}, "'T1'"),
        ({"sqrt": 1.0}, "'sqrt'"),
        ({"a b": 1.0}, "'a b'"),
        ({"L": math.nan}, "nan"),
        ({"L": math.inf}, "inf"),
        ({"L": 1e13}, "1e13|10000000000000"),
        ({"L": True}, "True"),
        ({"L": "1"}, "'1'"),
        ({"L": 0.5, "M": 0.5}, "never uses its constant M"),
    ],
)
def test_constants_are_checked(constants, said):
    with pytest.raises(FormulaRejectedError, match=said):
        parse_formula("N * L", constants)


def test_symbols_come_in_order_of_appearance_once():
    assert parse_formula("(R - N) / (R + N + S1)").symbols == ("R", "N", "S1")


def test_the_digest_ignores_layout_but_not_meaning():
    plain = parse_formula("(1 + L) * (N - R) / (N + R + L)", {"L": 0.5})

    assert plain.digest == parse_formula("(1.0+L)*(N-R)\n/ ((N+R)+L)", {"L": 0.5}).digest
    assert plain.digest != parse_formula("(1 + L) * (N - R) / (N + R + L)", {"L": 1.0}).digest
    assert plain.digest != parse_formula("(1 + L) * (R - N) / (N + R + L)", {"L": 0.5}).digest


def test_the_canonical_text_parses_to_the_same_tree():
    formula = parse_formula("-N ** 2 + max(R, G, 0.1) / sqrt(abs(B - 3e-2)) - exp(-R) * log(G)")

    assert parse_formula(formula.canonical).root == formula.root


def test_a_hole_stays_a_hole():
    result = parse_formula("N / R").evaluate({"N": np.array([0.0, 1.0, np.nan]), "R": np.zeros(3)})

    assert np.isnan(result[0])
    assert np.isposinf(result[1])
    assert np.isnan(result[2])


def test_integers_do_not_wrap_or_truncate():
    result = parse_formula("(N - R) / R").evaluate({"N": np.array([1], np.uint16), "R": np.array([4], np.uint16)})

    assert result.tolist() == [-0.75]


Expression = tuple[str, Callable[[Mapping[str, float]], float]]
REFLECTANCE = st.floats(0.001, 1.6)


def _number(value: float) -> Expression:
    return repr(value), lambda _: value


def _band(name: str) -> Expression:
    return name, lambda bands: bands[name]


def _grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """Pair every text with what Python's own arithmetic makes of it."""

    def binary(operator: str, function: Callable[[float, float], float]) -> st.SearchStrategy[Expression]:
        return st.tuples(inner, inner).map(
            lambda pair: (
                f"({pair[0][0]} {operator} {pair[1][0]})",
                lambda bands: function(pair[0][1](bands), pair[1][1](bands)),
            )
        )

    def call(name: str, function: Callable[[float], float]) -> st.SearchStrategy[Expression]:
        return inner.map(lambda one: (f"{name}({one[0]})", lambda bands: function(one[1](bands))))

    def power(pair: tuple[Expression, float]) -> Expression:
        (text, function), exponent = pair
        return f"({text} ** {exponent!r})", lambda bands: float(function(bands) ** exponent)

    return st.one_of(
        binary("+", lambda a, b: a + b),
        binary("-", lambda a, b: a - b),
        binary("*", lambda a, b: a * b),
        binary("/", lambda a, b: a / b),
        st.tuples(inner, st.sampled_from([0.5, 1.0, 2.0, 3.0, -1.0, 1 / 3])).map(power),
        st.tuples(inner, inner).map(
            lambda pair: (
                f"min({pair[0][0]}, {pair[1][0]})",
                lambda bands: min(pair[0][1](bands), pair[1][1](bands)),
            )
        ),
        call("-", lambda a: -a),
        call("abs", abs),
        call("sqrt", math.sqrt),
        call("exp", math.exp),
        call("log", math.log),
    )


EXPRESSIONS = st.recursive(
    st.one_of(
        st.sampled_from(["N", "R", "G", "B", "S1"]).map(_band), st.sampled_from([0.5, 1.0, 2.0, 7.5]).map(_number)
    ),
    _grow,
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(expression=EXPRESSIONS, values=st.tuples(*[REFLECTANCE] * 5))
def test_tree_and_program_agree_with_python_arithmetic(expression, values):
    """Python raises where IEEE 754 gives inf or NaN; such cases have tests of their own."""
    text, function = expression
    bands = dict(zip(["N", "R", "G", "B", "S1"], values, strict=True))
    try:
        wanted = function(bands)
        formula = parse_formula(text)
    except (ArithmeticError, ValueError, TypeError, BadRequestError):
        assume(False)
    assume(isinstance(wanted, float) and math.isfinite(wanted) and abs(wanted) < 1e100)

    by_tree = float(formula.evaluate(bands))
    program = compile_bundle([made_up_index(text)], BAND_OF.values())
    by_program = float(run_program(program, {BAND_OF[symbol]: bands[symbol] for symbol in formula.symbols})[0])

    assert by_tree == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert by_program == pytest.approx(by_tree, rel=1e-9, abs=1e-12)
