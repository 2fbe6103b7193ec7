"""The cloud model behind the mask rule: the simulated world's spectra, brought to the top of the atmosphere."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.products import PixelReason
from farm_intel.providers.cloud_masks import (
    BANDS,
    DEFAULT_THRESHOLD_PERCENT,
    NODATA,
    CloudProbability,
    probability_rule,
)
from farm_intel.simulation.spectra import BAND_NAMES, SPECTRA

RAYLEIGH = {"coastal": 0.11, "blue": 0.08, "red": 0.03, "rededge071": 0.02, "nir": 0.01, "nir08": 0.01}
"""Path reflectance of a clear sky, roughly; the other bands have next to none."""
GROUND = ("soil", "road", "straw", "water", "maize", "wheat", "beans", "pasture")

needs_model = pytest.mark.skipif(
    importlib.util.find_spec("s2cloudless") is None, reason="the extra cloud-masks is not installed"
)


def _top_of_atmosphere(*names):
    """Return (1, n) reflectances: water vapour takes 60 % at 945 nm, and nothing comes back at 1375 nm."""
    surface = {band: np.array([[SPECTRA[name][k] for name in names]]) for k, band in enumerate(BAND_NAMES)}
    surface["nir09"] = 0.4 * surface["nir08"]
    seen = {band: values + RAYLEIGH.get(band, 0.0) * (1.0 - values) for band, values in surface.items()}
    return {**seen, "cirrus": np.full((1, len(names)), 0.001)}


@needs_model
def test_clouds_are_told_from_everything_on_the_ground():
    percent = CloudProbability().percent(_top_of_atmosphere(*GROUND, "cloud"))

    reasons = probability_rule(DEFAULT_THRESHOLD_PERCENT).lookup()[percent]
    assert reasons.tolist() == [[PixelReason.VALID] * len(GROUND) + [PixelReason.CLOUD]]


@needs_model
def test_a_pixel_without_one_band_has_no_answer():
    bands = _top_of_atmosphere("maize", "cloud")
    bands["swir16"] = np.array([[np.nan, 0.48]])

    percent = CloudProbability().percent(bands)

    assert percent[0, 0] == NODATA
    assert probability_rule(DEFAULT_THRESHOLD_PERCENT).lookup()[percent].tolist() == [
        [PixelReason.NODATA, PixelReason.CLOUD]
    ]


def test_level_2a_without_the_cirrus_band_is_refused_by_name():
    bands = {name: np.zeros((2, 2)) for name in BANDS if name != "cirrus"}

    with pytest.raises(UnknownNameError, match="cirrus"):
        CloudProbability().percent(bands)


@pytest.mark.parametrize(
    ("percent", "reason"), [(0, "VALID"), (39, "VALID"), (40, "CLOUD"), (100, "CLOUD"), (101, "NODATA")]
)
def test_the_rule_is_exact_at_its_threshold(percent, reason):
    assert probability_rule(40).lookup()[percent] == PixelReason[reason]


def test_a_threshold_that_masks_everything_is_refused():
    with pytest.raises(BadRequestError):
        probability_rule(0)
