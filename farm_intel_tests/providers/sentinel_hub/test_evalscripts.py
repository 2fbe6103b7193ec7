"""Scripts computed in a real JavaScript engine against the registry's own formulas in numpy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import quickjs

from farm_intel.domain.bands import SYMBOL_COMMON_NAMES
from farm_intel.domain.products import PixelReason
from farm_intel.indices.formula import FUNCTIONS, parse_formula
from farm_intel.indices.registry import load_registry
from farm_intel.providers.sentinel_hub.evalscripts import (
    REASONS_OUTPUT,
    pixels_script,
    statistics_script,
    to_javascript,
)
from farm_intel_tests.providers.sentinel_hub.conftest import PROFILE

REGISTRY = load_registry()


def javascript(expression: str, values: dict[str, float]) -> float:
    arguments = ",".join(repr(value) for value in values.values())
    result = quickjs.Context().eval(f"(function({','.join(values)}) {{ return String({expression}) }})({arguments})")
    return float(result)


def test_every_formula_of_the_registry_means_the_same_in_javascript() -> None:
    """All catalogue formulas, at five random reflectances each, to twelve digits."""
    rng = np.random.default_rng(5)
    checked = 0
    for index in REGISTRY.list():
        formula = index.expression
        names = {symbol: symbol for symbol in formula.symbols}
        expression = to_javascript(formula.root, names)
        for _ in range(5):
            values = {symbol: float(rng.uniform(0.01, 0.9)) for symbol in formula.symbols}
            expected = float(formula.evaluate(values))
            assert javascript(expression, values) == pytest.approx(expected, rel=1e-12, nan_ok=True), index.slug
            checked += 1

    assert checked > 500


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("-N ** 2", {"N": 0.3}),
        ("(-N) ** 2", {"N": 0.3}),
        ("N ** -0.5 - -1.5", {"N": 0.25}),
        ("N / R ** 3 * 2 - R", {"N": 0.3, "R": 0.2}),
        ("min(N, R, 0.1) / max(N, -R)", {"N": 0.3, "R": 0.2}),
        ("sqrt(N) + exp(R) - log(N) * abs(R - N)", {"N": 0.3, "R": 0.2}),
        ("(N - R) / (N - N)", {"N": 0.3, "R": 0.2}),
        ("log(R - N)", {"N": 0.3, "R": 0.2}),
        ("1e-12 * N + 1e12 * R", {"N": 0.3, "R": 0.2}),
    ],
)
def test_operators_bind_as_in_python(text: str, values: dict[str, float]) -> None:
    formula = parse_formula(text)
    expected = float(formula.evaluate(values))
    expression = to_javascript(formula.root, {symbol: symbol for symbol in values})

    assert javascript(expression, values) == pytest.approx(expected, rel=1e-14, nan_ok=True)


def test_every_function_of_the_language_is_printed() -> None:
    """A new function in the formula language must not reach a script unprinted."""
    for name, count in FUNCTIONS.items():
        formula = parse_formula(f"{name}({', '.join(['N', 'R', 'G'][:count])})")
        assert "Math." in to_javascript(formula.root, {symbol: symbol for symbol in SYMBOL_COMMON_NAMES})


def run_statistics(samples: list[dict[str, float]], *slugs: str) -> tuple[list[dict[str, list[float]]], list[str]]:
    script = statistics_script(REGISTRY.select(slugs), PROFILE, reflectance_max=1.6)
    context = quickjs.Context()
    context.eval(script.text + ";function __all(t) { return JSON.stringify(JSON.parse(t).map(s => evaluatePixel(s))) }")
    setup = json.loads(context.eval("JSON.stringify(setup())"))
    assert [output["id"] for output in setup["output"]] == [*slugs, REASONS_OUTPUT, "dataMask"]
    return json.loads(context.get("__all")(json.dumps(samples))), [name for name, _, _ in script.reasons]


def test_a_pixel_counts_by_the_engines_rule() -> None:
    """Just below, at and above each limit: mask class, data, reflectance above 0 and up to 1.6, valid range."""
    good = {"B04": 0.1, "B08": 0.5, "SCL": 4, "dataMask": 1}
    cases = [
        (good, 1, None),
        ({**good, "dataMask": 0}, 0, None),
        ({**good, "SCL": 6}, 1, None),
        ({**good, "SCL": 0}, 0, "nodata"),
        ({**good, "SCL": 3}, 0, "shadow"),
        ({**good, "SCL": 9}, 0, "cloud"),
        ({**good, "SCL": 11}, 0, "snow"),
        ({**good, "SCL": 99}, 0, "nodata"),
        ({**good, "B04": 0.0}, 0, "ndvi_input"),
        ({**good, "B04": -0.001}, 0, "ndvi_input"),
        ({**good, "B04": 1e-6}, 1, None),
        ({**good, "B08": 1.6}, 1, None),
        ({**good, "B08": 1.6000001}, 0, "ndvi_input"),
    ]
    results, names = run_statistics([case[0] for case in cases], "ndvi")
    for (sample, counts, reason), result in zip(cases, results, strict=True):
        assert result["dataMask"] == [counts, sample["dataMask"]], sample
        told = [name for name, share in zip(names, result[REASONS_OUTPUT], strict=True) if share]
        assert told == ([] if reason is None else [reason]), sample
    assert results[0]["ndvi"] == [pytest.approx(0.4 / 0.6)]


def test_a_value_outside_the_valid_range_is_its_own_reason() -> None:
    low, high = REGISTRY.get("evi").valid_range
    sample = {"B02": 0.6, "B04": 0.1, "B08": 1.2, "SCL": 4, "dataMask": 1}
    value = 2.5 * (1.2 - 0.1) / (1.2 + 6 * 0.1 - 7.5 * 0.6 + 1)
    assert not low <= value <= high
    results, names = run_statistics([sample], "evi")

    assert results[0]["dataMask"] == [0, 1]
    assert [n for n, share in zip(names, results[0][REASONS_OUTPUT], strict=True) if share] == ["evi_value"]


def test_reasons_cover_everything_the_mask_can_say() -> None:
    script = statistics_script(REGISTRY.select(["ndvi", "evi"]), PROFILE, reflectance_max=1.6)
    said = {reason for _, reason, _ in script.reasons}

    assert said >= {*PROFILE.mask.reasons.values(), PROFILE.mask.otherwise} - {PixelReason.VALID}
    assert set(script.bands) == {"B02", "B04", "B08", "SCL"}
    assert script.bands[-1] == "SCL"


def test_pixels_are_handed_over_as_numbers_of_one_scale_whatever_the_scenes_own() -> None:
    context = quickjs.Context()
    context.eval(pixels_script(["B04", "SCL"], "SCL"))
    setup = json.loads(context.eval("JSON.stringify(setup())"))

    assert setup == {
        "input": [{"bands": ["B04", "SCL", "dataMask"], "units": ["REFLECTANCE", "DN", "DN"]}],
        "output": {"id": "default", "bands": 3, "sampleType": "UINT16"},
        "mosaicking": "SIMPLE",
    }
    evaluated = "JSON.stringify([0.0234, -0.0003, -0.2].map(rho => evaluatePixel({B04: rho, SCL: 4, dataMask: 1})))"
    assert json.loads(context.eval(evaluated)) == [[1234, 4, 1], [997, 4, 1], [1, 4, 1]]
