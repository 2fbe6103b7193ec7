"""The daily series against dense linear algebra, and what its uncertainty does far from data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.domain.daily_series import Points, SmoothingRule, smooth

RULE = SmoothingRule()
PLAIN = SmoothingRule(step=float("inf"))


def _points(rng, count, longest=12):
    days = 738_000 + np.cumsum(rng.integers(1, longest, count))
    values = 0.5 + 0.2 * np.sin(days / 40.0) + rng.normal(0, 0.02, count)
    return Points(days=days.tolist(), values=values.tolist(), errors=rng.uniform(0.01, 0.05, count).tolist())


def _dense(points, rule):
    """Solve the same problem with full matrices."""
    n = points.days[-1] - points.days[0] + 1
    at = np.array(points.days) - points.days[0]
    weights, data = np.zeros(n), np.zeros(n)
    weights[at] = np.maximum(points.errors, rule.least_sigma) ** -2.0
    data[at] = points.values
    bends = np.diff(np.eye(n), n=2, axis=0)
    system = np.diag(weights) + rule.bend_per_day**-2.0 * bends.T @ bends
    inverse = np.linalg.inv(system)
    return inverse @ (weights * data), np.sqrt(np.diag(inverse))


@given(seed=st.integers(0, 2**32 - 1), counts=st.lists(st.integers(1, 25), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_it_is_the_whittaker_smoother_with_its_posterior(seed, counts):
    rng = np.random.default_rng(seed)
    farms = [_points(rng, count) for count in counts]

    smoothed = smooth(farms, PLAIN)

    for s, points in enumerate(farms):
        values, sigma = _dense(points, PLAIN)
        length = smoothed.lengths[s]
        assert length == len(values)
        np.testing.assert_allclose(smoothed.values[s, :length], values, atol=1e-7)
        np.testing.assert_allclose(smoothed.sigma[s, :length], sigma, rtol=1e-5)
        assert np.isnan(smoothed.values[s, length:]).all()
        assert np.flatnonzero(smoothed.observed[s]).tolist() == [day - points.days[0] for day in points.days]


def test_a_straight_line_stays_straight():
    days = [738_000 + 5 * k for k in range(9)]
    values = [0.1 + 0.01 * (day - days[0]) for day in days]

    smoothed = smooth([Points(days=days, values=values, errors=[0.02] * 9)], RULE)

    np.testing.assert_allclose(smoothed.values[0], 0.1 + 0.01 * np.arange(41), atol=1e-9)


def test_uncertainty_widens_with_the_distance_from_data():
    gap = [0, 5, 10, 15, 75, 80, 85]
    points = Points(days=[738_000 + day for day in gap], values=[0.5] * 7, errors=[0.02] * 7)

    sigma = smooth([points], RULE).sigma[0]

    assert (np.diff(sigma[15:46]) > 0).all()
    assert (np.diff(sigma[46:76]) < 0).all()
    assert sigma[45] > 3 * sigma[10]


def test_nothing_lies_beyond_the_first_and_last_observation():
    points = Points(days=[738_010, 738_020], values=[0.2, 0.6], errors=[0.01, 0.01])

    smoothed = smooth([points], RULE)

    assert smoothed.values.shape == (1, 11)
    assert smoothed.values[0, [0, -1]] == pytest.approx([0.2, 0.6], abs=1e-6)


def test_one_observation_is_a_series_of_one_day():
    smoothed = smooth([Points(days=[738_000], values=[0.3], errors=[0.02])], RULE)

    assert smoothed.values.tolist() == [[0.3]]
    assert smoothed.sigma[0, 0] == pytest.approx(0.02)


def test_a_harvest_stays_between_its_two_observations_and_its_day_is_uncertain():
    days = [738_000 + 5 * k for k in range(16)]
    values = [0.8] * 8 + [0.2] * 8
    points = Points(days=days, values=values, errors=[0.01] * 16)

    stepped, plain = smooth([points], RULE), smooth([points], PLAIN)

    before, gap = stepped.values[0, :36], stepped.sigma[0, 36:40]
    assert np.abs(before - 0.8).max() < 0.02
    assert np.abs(before - 0.8).max() < 0.6 * np.abs(plain.values[0, :36] - 0.8).max()
    assert np.abs(stepped.values[0, 41:] - 0.2).max() < 0.02
    assert gap.max() > 3 * plain.sigma[0, 36:40].max()


def test_the_true_curve_is_within_two_sigma_about_as_often_as_it_should():
    rng = np.random.default_rng(11)
    inside = []
    for _ in range(40):
        days = np.cumsum(rng.choice([3, 5, 5, 10, 15], 30))
        days -= days[0]
        axis = np.arange(days[-1] + 1)
        truth = 0.15 + 0.65 * (1 / (1 + np.exp(-0.15 * (axis - 50))) - 1 / (1 + np.exp(-0.12 * (axis - 130))))
        seen = truth[days] + rng.normal(0, 0.02, 30)
        smoothed = smooth([Points(days=(738_000 + days).tolist(), values=seen.tolist(), errors=[0.02] * 30)], PLAIN)
        inside.append(np.abs(smoothed.values[0] - truth) <= 2 * smoothed.sigma[0])

    assert 0.9 <= np.concatenate(inside).mean() <= 0.995
