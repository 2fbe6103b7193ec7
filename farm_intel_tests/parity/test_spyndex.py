"""Every catalogue formula against spyndex, which evaluates the original text with Python itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import spyndex

from farm_intel.indices.registry import load_registry
from farm_intel_tests.indices.support import BAND_OF, random_reflectances

ENTRIES = json.loads((Path(spyndex.__file__).parent / "data" / "spectral-indices-dict.json").read_text())[
    "SpectralIndices"
]
CATALOGUE = {index.name: index for index in load_registry().list()}
SHARED = sorted(CATALOGUE.keys() & ENTRIES.keys())
BANDS = random_reflectances(500)
SYMBOLS = {symbol: BANDS[name] for symbol, name in BAND_OF.items()}

NOT_OPTICAL = {"T", "T1", "T2", "VV", "VH", "HH", "HV"}
NOT_FROM_SCENES = {"PAR"}


def _kernels(sigma: np.ndarray | float) -> dict[str, np.ndarray | float]:
    """Return every kernel a formula may ask for, by spyndex's own radial basis function."""
    pairs = {"kNN": "NN", "kNR": "NR", "kNB": "NB", "kGG": "GG", "kGR": "GR", "kGB": "GB"}
    kernels = {
        name: spyndex.computeKernel("RBF", {"a": SYMBOLS[a], "b": SYMBOLS[b], "sigma": sigma})
        for name, (a, b) in pairs.items()
    }
    return kernels | {"kNL": spyndex.computeKernel("RBF", {"a": SYMBOLS["N"], "b": 1.0, "sigma": sigma})}


@pytest.mark.parametrize("name", SHARED)
def test_formula_equals_the_source(name):
    index = CATALOGUE[name]
    everything = {**SYMBOLS, **index.constants}
    if ENTRIES[name]["application_domain"] == "kernel":
        sigma = index.constants.get("sigma", (SYMBOLS["N"] + SYMBOLS["R"]) / 2)
        everything |= _kernels(sigma)
    # Where a row prefers another band, give spyndex the band we would read.
    everything |= {symbol: BANDS[band] for symbol, band in index.resolve_bands(BANDS.keys()).items()}
    params = {symbol: everything[symbol] for symbol in ENTRIES[name]["bands"]}

    with np.errstate(all="ignore"):
        wanted = spyndex.computeIndex(name, params)

    np.testing.assert_allclose(index.evaluate(BANDS), wanted, rtol=1e-9, atol=1e-9)


def test_only_what_optical_scenes_cannot_serve_is_left_out():
    left_out = {name for name in ENTRIES if name not in CATALOGUE}

    assert len(SHARED) >= 240
    for name in left_out:
        assert set(ENTRIES[name]["bands"]) & (NOT_OPTICAL | NOT_FROM_SCENES), name


def test_rows_quote_the_source():
    for name in SHARED:
        index, entry = CATALOGUE[name], ENTRIES[name]

        assert (index.long_name, index.reference) == (entry["long_name"], entry["reference"])
        assert (index.application, index.date_of_addition) == (entry["application_domain"], entry["date_of_addition"])


def test_the_committed_catalogue_is_what_the_generator_writes():
    import subprocess
    import sys

    script = Path(__file__).parents[2] / "tools" / "make_index_catalogue.py"
    run = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
