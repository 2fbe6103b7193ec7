"""The register program: same numbers as the trees, each subexpression once, few registers."""

import numpy as np
import pytest

from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.indices.program import UNARY, BundleProgram, Opcode, compile_bundle, run_program
from farm_intel.indices.registry import load_registry
from farm_intel_tests.indices.support import BAND_OF, LANDSAT8, SENTINEL2, made_up_index, random_reflectances


def _check_layout(program: BundleProgram) -> None:
    """Every operation reads only what was written before, and writes no input or constant."""
    fixed = len(program.inputs) + len(program.constants)
    written = set(range(fixed))
    for opcode, dst, a, b in program.ops.tolist():
        assert {a, b} <= written
        assert fixed <= dst < program.n_registers
        assert a == b or Opcode(opcode) not in UNARY
        written.add(dst)
    assert set(program.outputs.tolist()) <= written


def test_all_catalogue_indices_in_one_program_equal_their_trees():
    indices = load_registry().list()
    bands = random_reflectances(200)
    program = compile_bundle(indices, bands.keys())

    together = run_program(program, bands)

    _check_layout(program)
    assert together.shape == (len(indices), 200)
    for index, row in zip(indices, together, strict=True):
        np.testing.assert_allclose(row, index.evaluate(bands), rtol=1e-12, atol=1e-12, err_msg=index.slug)


def test_equal_parts_are_computed_once():
    first = made_up_index("(N - R) / (N + R)", "first")
    second = made_up_index("2.5 * (N - R) / (R + N)", "second")

    alone, both = (compile_bundle(chosen, SENTINEL2) for chosen in ([first], [first, second]))

    assert [Opcode(op) for op in alone.ops[:, 0]] == [Opcode.SUB, Opcode.ADD, Opcode.DIV]
    assert len(both.ops) == 5


def test_equal_indices_share_their_output():
    program = compile_bundle([made_up_index("N - R", "first"), made_up_index("(N) - R", "second")], SENTINEL2)

    assert len(program.ops) == 1
    assert program.outputs[0] == program.outputs[1]


def test_registers_are_reused_when_nobody_reads_them_any_more():
    chain = made_up_index("(((((N - R) * (N + G) - B) * R + G) * B - N) * G + R) * B")
    program = compile_bundle([chain], SENTINEL2)

    assert len(program.ops) == 11
    assert program.n_registers - len(program.inputs) <= 2


def test_an_early_output_is_not_overwritten_by_later_indices():
    indices = [made_up_index("N - R", "early"), *(made_up_index(f"(N - R) * {k}.5 / G", f"late{k}") for k in range(6))]
    bands = random_reflectances(50)

    result = run_program(compile_bundle(indices, bands.keys()), bands)

    np.testing.assert_array_equal(result[0], bands["nir"] - bands["red"])


def test_an_index_that_is_a_band_or_a_whole_number_power_needs_no_power_function():
    program = compile_bundle(
        [made_up_index("N", "band"), made_up_index("N ** 2 + R ** 0.5 + G ** 1", "powers")], SENTINEL2
    )

    assert program.outputs[0] == program.inputs.index("nir")
    assert int(Opcode.POW) not in program.ops[:, 0]


def test_inputs_and_their_users_are_told():
    asked = load_registry().select(["ndwi", "ndmi", "ndvi"])

    program = compile_bundle(asked, SENTINEL2)

    assert program.inputs == ("green", "nir", "nir08", "swir16", "red")
    assert program.used_inputs.tolist() == [
        [True, True, False, False, False],
        [False, False, True, True, False],
        [False, True, False, False, True],
    ]


def test_the_same_index_reads_what_the_collection_has():
    asked = load_registry().select(["ndvi"])

    assert compile_bundle(asked, SENTINEL2).inputs == ("nir", "red")
    assert compile_bundle(asked, LANDSAT8).inputs == ("nir08", "red")


def test_zero_denominators_give_no_number():
    program = compile_bundle(
        [made_up_index("(N - R) / (N + R)", "share"), made_up_index("1 / R", "inverse")], SENTINEL2
    )

    result = run_program(program, {"nir": np.zeros(2), "red": np.array([0.0, -0.0])})

    assert np.isnan(result[0]).all()
    assert np.isinf(result[1]).all()


def test_arrays_of_any_shape_and_scalars_mix():
    program = compile_bundle([made_up_index("N - R")], SENTINEL2)

    result = run_program(program, {"nir": np.full((2, 3), 0.5, np.float32), "red": 0.25})

    assert result.shape == (1, 2, 3)
    assert (result == 0.25).all()


def test_missing_bands_and_empty_bundles_are_refused():
    index = made_up_index("N - R")

    with pytest.raises(BadRequestError, match="no indices"):
        compile_bundle([], SENTINEL2)
    with pytest.raises(UnknownNameError, match=r"made_up needs R \(red\).*nir"):
        compile_bundle([index], ["nir"])
    with pytest.raises(BadRequestError, match="red"):
        run_program(compile_bundle([index], SENTINEL2), {"nir": 0.5})


def test_a_program_has_as_many_inputs_as_its_indices_use_bands():
    indices = load_registry().list()
    program = compile_bundle(indices, BAND_OF.values())

    assert program.used_inputs.sum(axis=1).tolist() == [len(set(index.symbols)) for index in indices]
    assert program.used_inputs.any(axis=0).all()
