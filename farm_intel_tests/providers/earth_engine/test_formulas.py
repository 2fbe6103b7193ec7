"""Our formulas as Earth Engine's expressions: same numbers, same pixels without a number."""

from __future__ import annotations

import numpy as np
import pytest

from farm_intel.indices.formula import parse_formula
from farm_intel.indices.index import SpectralIndex
from farm_intel.providers.collections import profile
from farm_intel.providers.earth_engine.formulas import index_text, number_text
from farm_intel.simulation.emulators.earth_engine_expressions import Expression
from farm_intel.simulation.emulators.earth_engine_functions import Functions
from farm_intel.simulation.emulators.earth_engine_values import Band, EmulatorRefusalError, Grid, Image
from farm_intel_tests.providers.earth_engine.support import REGISTRY, S2

BANDS = sorted(profile("earth-engine", S2).bands)
GRID = Grid(crs="EPSG:32737", pixel_m=10.0, west_m=0.0, north_m=0.0, width=40, height=10)
RNG = np.random.default_rng(4)
# digital numbers with many ties, so that differences under fractions are exactly zero now and then
VALUES = {name: RNG.integers(1, 40, (10, 40)) / 40.0 for name in BANDS}
IMAGE = Image(
    bands={name: Band(lambda _, v=values: (v, np.ones(v.shape, np.bool_))) for name, values in VALUES.items()}
)


def unknown_image(_: str) -> Image:
    raise EmulatorRefusalError("no images here")


FUNCTIONS = Functions(unknown_image, lambda: None)


def evaluate(text: str) -> np.ndarray:
    """What the service makes of an expression over the bands."""
    return Expression(text, "DEFAULT", FUNCTIONS.table)(DEFAULT=IMAGE).bands.popitem()[1].read(GRID)[0]


@pytest.mark.parametrize("index", REGISTRY.servable(BANDS), ids=lambda index: index.slug)
def test_every_index_means_the_same_to_earth_engine(index: SpectralIndex) -> None:
    text = index_text(index, BANDS)
    expected = np.broadcast_to(index.evaluate(VALUES), GRID.shape)
    number = np.ones(GRID.shape, np.bool_) if not text.finite else evaluate(text.finite) != 0

    value = np.broadcast_to(evaluate(text.value), GRID.shape)

    # conditions may bar a pixel whose infinity cancels, never let one without a number pass
    assert np.isfinite(expected[number]).all()
    np.testing.assert_allclose(value[number], expected[number], rtol=1e-9, atol=1e-12)
    assert number.sum() >= 0.9 * np.isfinite(expected).sum()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (-1.0, "(-1.0)"), (1e-05, "0.00001"), (2.5e7, "25000000.0"), (1e12, "1000000000000.0")],
)
def test_numbers_carry_no_exponent(value: float, text: str) -> None:
    assert number_text(value) == text
    assert "e" not in number_text(value)


@pytest.mark.parametrize(
    ("formula", "conditions"),
    [
        ("N + R", ""),
        ("N / 2", ""),
        ("N / R", '(b("red") != 0)'),
        ("sqrt(N - R)", '((b("nir") - b("red")) >= 0)'),
        ("log(N)", '(b("nir") > 0)'),
        ("(N - R) ** 0.5", '((b("nir") - b("red")) >= 0)'),
        ("N ** -1", '(b("nir") != 0)'),
        ("N ** -0.5", '(b("nir") > 0)'),
        ("N ** 2", ""),
    ],
)
def test_conditions_name_what_would_give_no_number(formula: str, conditions: str) -> None:
    parsed = parse_formula(formula)
    index = SpectralIndex(
        name="Test",
        slug="test",
        long_name="test",
        formula=formula,
        reference="none",
        application="test",
        symbols=parsed.symbols,
        valid_range=(-10.0, 10.0),
    )

    assert index_text(index, BANDS).finite == conditions
