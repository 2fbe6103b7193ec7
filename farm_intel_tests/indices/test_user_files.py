"""A user's own index: a table in a TOML file and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from farm_intel.domain.errors import BadRequestError, FormulaRejectedError
from farm_intel.indices.program import compile_bundle, run_program
from farm_intel.indices.registry import load_registry
from farm_intel_tests.indices.support import SENTINEL2, random_reflectances

PLAIN = """
[[index]]
name = "PaddyWetness"
slug = "paddy_wetness"
long_name = "Made-up wetness of paddies"
formula = "(G - w * S1) / (G + w * S1)"
reference = "nowhere"
constants = { w = 0.8 }
"""
FULL = """
[[index]]
name = "Glow"
slug = "glow"
long_name = "Made-up glow"
formula = '''
  max(N, R) * k
  - min(N, R)
'''
reference = "nowhere"
application = "test"
note = "for a test"
constants.k = 2
band_preferences.N = ["nir08", "nir"]

[index.interpretation]
display_range = [0.0, 1.0]
valid_range = [-2.0, 2.0]
palette = "BrBG"
quality.outlier_step = 0.3
states = [
  { name = "dim", range = [-2.0, 0.5], meaning = "Dim.", source = "test" },
  { name = "bright", range = [0.5, 2.0], meaning = "Bright.", source = "test" },
]
"""


def _file(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_made_up_index_is_like_any_other(tmp_path):
    registry = load_registry([_file(tmp_path, PLAIN)])
    index = registry.get("paddy_wetness")
    bands = random_reflectances(20)
    wanted = (bands["green"] - 0.8 * bands["swir16"]) / (bands["green"] + 0.8 * bands["swir16"])

    together = run_program(compile_bundle(registry.select(["ndvi", "paddy_wetness"]), SENTINEL2), bands)

    np.testing.assert_allclose(index.evaluate(bands), wanted, rtol=1e-12)
    np.testing.assert_allclose(together[1], wanted, rtol=1e-12)
    assert index in registry.servable(SENTINEL2)
    assert index.valid_range == (-1.0, 1.0)
    assert index.colour_map.name == "grey"
    assert len(registry.list()) == len(load_registry().list()) + 1


def test_everything_can_be_declared(tmp_path):
    index = load_registry([_file(tmp_path, FULL)]).get("glow")

    assert index.valid_range == (-2.0, 2.0)
    assert index.resolve_bands(SENTINEL2) == {"N": "nir08", "R": "red"}
    assert float(index.evaluate({"nir": 0.5, "red": 0.25})) == 0.75
    assert index.interpretation is not None
    assert index.interpretation.state(0.75).name == "bright"
    assert index.interpretation.quality.outlier_step == 0.3
    assert index.colour_map.name == "BrBG"


def test_the_catalogue_itself_stays_as_it_is(tmp_path):
    before = load_registry().list()
    load_registry([_file(tmp_path, PLAIN)])

    assert load_registry().list() == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"paddy_wetness"', '"ndvi"', "already in the catalogue as 'ndvi' \\(NDVI\\)"),
        ('"PaddyWetness"', '"NDVI"', "already in the catalogue as 'ndvi' \\(NDVI\\)"),
        ('"paddy_wetness"', '"Paddy"', "slug 'Paddy'"),
        ('slug = "paddy_wetness"', "", "slug is missing"),
        ('reference = "nowhere"', "", "reference is missing"),
        ('reference = "nowhere"', 'reference = ""', "reference = '' is not a text"),
        ("w = 0.8", 'w = "0.8"', "w = '0.8' is not a finite number"),
        ("w = 0.8", "w = nan", "w = nan is not a finite number"),
        ("w = 0.8", "w = true", "w = True"),
        ('reference = "nowhere"', 'reference = "x"\nvalid_range = [1, 0]', "smaller first"),
        ('reference = "nowhere"', 'reference = "x"\nplatform = "x"', "unknown key platform"),
        ('reference = "nowhere"', 'reference = "x"\nband_preferences.N = ["nir"]', "does not fit"),
        ('reference = "nowhere"', 'reference = "x"\nband_preferences.G = ["grun"]', "does not fit"),
        ("[[index]]", "[index]", "list of tables"),
        ("[[index]]", "[[indices]]", "index is missing"),
        ("[[index]]", "extra = 1\n[[index]]", "unknown key extra"),
        ("[[index]]", "[[index", "cannot be read"),
    ],
)
def test_mistakes_are_named_with_their_file(tmp_path, old, new, said):
    path = _file(tmp_path, PLAIN.replace(old, new))

    with pytest.raises(BadRequestError, match=said) as mistake:
        load_registry([path])

    assert "mine.toml" in str(mistake.value) or "slug" in said


def test_a_formula_outside_the_allow_list_is_refused_with_its_place(tmp_path):
    path = _file(tmp_path, PLAIN.replace("(G - w * S1)", "__import__(G - w * S1)"))

    with pytest.raises(FormulaRejectedError, match=r"mine\.toml, index 1.*position 1 .*__import__"):
        load_registry([path])


def test_two_files_may_not_define_the_same_slug(tmp_path):
    first = _file(tmp_path, PLAIN)
    second = _file(tmp_path, PLAIN.replace("PaddyWetness", "Other"), "other.toml")

    with pytest.raises(BadRequestError, match=r"other\.toml.*mine\.toml"):
        load_registry([first, second])


def test_a_range_declared_twice_must_agree(tmp_path):
    path = _file(tmp_path, FULL.replace('note = "for a test"', "valid_range = [-1, 1]"))

    with pytest.raises(BadRequestError, match="one place"):
        load_registry([path])


def test_a_missing_file_is_a_user_mistake(tmp_path):
    with pytest.raises(BadRequestError, match=r"nowhere\.toml cannot be read"):
        load_registry([tmp_path / "nowhere.toml"])
