"""Band coefficients and how they reach an index, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from farm_intel.domain.harmonisation import IDENTITY, BandLine, BandpassStep, adjust_bands, carry_over, path_to
from farm_intel.indices.quality import assessment_rules, land_mixtures, quality_table
from farm_intel.indices.registry import load_registry


def _step(start, target, **bands):
    lines = {name: BandLine(slope=slope, offset=offset) for name, (slope, offset) in bands.items()}
    return BandpassStep(start=start, target=target, bands=lines, source="test")


def _ratio(bands):
    return (bands["nir08"] - bands["red"]) / (bands["nir08"] + bands["red"])


def test_published_coefficients_are_the_published_ones_and_inverted_right():
    step = next(step for step in quality_table().steps if step.start == "oli")
    msi = {name: np.array([0.05, 0.3]) for name in ("blue", "red", "nir08", "swir22")}
    hls_2a = {
        "blue": (0.9778, -0.0040),
        "red": (0.9765, 0.0009),
        "nir08": (0.9983, -0.0001),
        "swir22": (1.0030, -0.0012),
    }
    hls_2b = {"blue": (0.9778, -0.0040), "red": (0.9761, 0.0010), "nir08": (0.9966, 0.0000), "swir22": (0.9867, 0.0004)}
    for published in (hls_2a, hls_2b):
        oli = {name: values * published[name][0] + published[name][1] for name, values in msi.items()}

        back = adjust_bands(oli, step.bands)

        for name, values in msi.items():  # the mean of 2A and 2B is within 1 % of either
            np.testing.assert_allclose(back[name], values, atol=0.0035)


def test_a_line_and_its_inverse_undo_each_other():
    line = BandLine(slope=0.8474, offset=0.0003)

    assert line.inverted().inverted().slope == pytest.approx(line.slope)
    assert 0.2 * line.slope * line.inverted().slope + line.offset * line.inverted().slope + line.inverted().offset == (
        pytest.approx(0.2)
    )


def test_a_common_factor_on_all_bands_leaves_a_normalised_difference_alone():
    line = carry_over("x", _ratio, land_mixtures(), [_step("a", "b", red=(0.9, 0.0), nir08=(0.9, 0.0))])

    assert (line.slope, line.offset, line.sigma) == pytest.approx((1.0, 0.0, 0.0), abs=1e-12)


def test_an_index_that_is_linear_in_its_bands_is_carried_over_exactly():
    def sum_of_two(bands):
        return bands["red"] + bands["nir08"]

    line = carry_over("x", sum_of_two, land_mixtures(), [_step("a", "b", red=(0.9, 0.01), nir08=(0.9, -0.03))])

    assert (line.slope, line.offset) == pytest.approx((0.9, -0.02))
    assert line.sigma == pytest.approx(0.0, abs=1e-12)


def test_the_carried_over_line_is_as_good_as_its_sigma_on_spectra_it_was_not_fitted_on():
    rng = np.random.default_rng(5)
    route = path_to(quality_table().steps, "oli", "msi")
    line = carry_over("x", _ratio, land_mixtures(), route)
    spectra = land_mixtures()
    picks = rng.dirichlet(np.ones(len(spectra["red"])) * 0.05, 300)
    bands = {name: picks @ values for name, values in spectra.items()}

    wanted = _ratio(adjust_bands(bands, route[0].bands))
    error = _ratio(bands) * line.slope + line.offset - wanted

    assert np.abs(error).max() < 0.005
    assert np.sqrt(np.mean(error**2)) < 2 * line.sigma + 1e-4
    assert np.abs(_ratio(bands) - wanted).max() > 2 * np.abs(error).max()


def test_steps_are_chained_and_the_index_line_a_source_publishes_is_preferred():
    table = quality_table()
    route = path_to(table.steps, "etm", "msi")
    assert [(step.start, step.target) for step in route] == [("etm", "oli"), ("oli", "msi")]
    to_oli = carry_over("ndvi", _ratio, land_mixtures(), route[:1])
    assert (to_oli.slope, to_oli.offset) == (0.9723, 0.0235)  # Roy et al. 2016, table 2

    whole = carry_over("ndvi", _ratio, land_mixtures(), route)
    after = carry_over("ndvi", _ratio, adjust_bands(land_mixtures(), route[0].bands), route[1:])

    assert 0.6 * whole.slope + whole.offset == pytest.approx((0.6 * 0.9723 + 0.0235) * after.slope + after.offset)
    assert "Roy" in whole.text
    assert "HLS" in whole.text


def test_no_published_route_means_no_adjustment():
    assert path_to(quality_table().steps, "modis", "msi") == ()
    assert path_to(quality_table().steps, "msi", "msi") == ()
    assert carry_over("x", _ratio, land_mixtures(), ()) == IDENTITY


def test_every_index_of_the_catalogue_has_rules_and_only_other_sensors_are_adjusted():
    for index in load_registry().list():
        rules = assessment_rules(index)
        for sensor, line in zip(rules.sensors.rows, rules.lines, strict=True):
            assert np.isfinite([line.slope, line.offset, line.sigma]).all(), index.slug
            if sensor.bandpass in {"msi", "modis"}:
                assert line == IDENTITY
        assert rules.spikes.step > 0
        assert rules.fusion.tolerance > 0
