"""Start, peak and end of seasons against closed forms."""

import itertools
from datetime import date, timedelta

import numpy as np
import pytest

from farm_intel.domain.assessment import DailySeries
from farm_intel.domain.phenology import PhenologyRule, find_seasons, turning_points

START = date(2023, 1, 1)
RULE = PhenologyRule(min_amplitude=0.2)


def _series(values, *, sigma=0.01, every=1):
    values = np.asarray(values, float)
    observed = np.zeros(values.size, bool)
    observed[::every] = True
    return DailySeries(
        farm_id="a",
        index="made_up",
        start=START,
        values=values,
        sigma=np.full(values.size, sigma),
        observed=observed,
        method="test",
    )


def _triangle(before, rise, fall, after, *, low=0.2, high=0.8):
    return np.concatenate(
        [
            np.full(before, low),
            np.linspace(low, high, rise + 1),
            np.linspace(high, low, fall + 1)[1:],
            np.full(after, low),
        ]
    )


def _day(number):
    return START + timedelta(days=number)


def test_start_and_end_are_where_a_fifth_of_the_amplitude_is_crossed():
    """Rising 50 days and falling 100, a fifth of the way up is day 10 and a fifth above the end is day 80 after it."""
    (season,) = find_seasons(_series(_triangle(40, 50, 100, 60)), RULE)

    assert season.start == _day(40 + 10)
    assert season.peak == _day(90)
    assert season.end == _day(90 + 80)
    assert season.complete
    assert season.note == ""
    assert season.amplitude == pytest.approx(0.6)
    assert season.peak_value == pytest.approx(0.8)


def test_half_of_the_amplitude_gives_the_rule_of_white():
    (season,) = find_seasons(_series(_triangle(40, 50, 100, 60)), PhenologyRule(min_amplitude=0.2, fraction=0.5))

    assert (season.start, season.end) == (_day(65), _day(140))


def test_left_and_right_amplitudes_are_their_own():
    """A season that ends on a higher level, with the next one begun, ends at a fifth above that level."""
    values = np.concatenate(
        [
            np.full(30, 0.2),
            np.linspace(0.2, 0.8, 61),
            np.linspace(0.8, 0.5, 31)[1:],
            np.full(60, 0.5),
            np.linspace(0.5, 0.9, 20),
        ]
    )

    season, _ = find_seasons(_series(values), PhenologyRule(min_amplitude=0.2))

    assert season.start == _day(30 + 12)
    assert season.end == _day(90 + 24)


def test_several_seasons_a_year_are_told_apart_and_small_bumps_are_none():
    values = np.concatenate([_triangle(20, 40, 40, 20), _triangle(10, 15, 15, 20, high=0.3), _triangle(5, 40, 40, 40)])

    seasons = find_seasons(_series(values), RULE)

    assert [season.peak for season in seasons] == [_day(60), _day(121 + 61 + 45)]
    assert all(season.complete for season in seasons)


def test_a_season_that_is_under_way_has_no_end():
    (season,) = find_seasons(_series(_triangle(40, 50, 100, 60)[:140]), RULE)

    assert season.start is not None
    assert season.peak == _day(90)
    assert not season.complete

    (growing,) = find_seasons(_series(_triangle(40, 50, 100, 60)[:75]), RULE)

    assert (growing.peak, growing.end, growing.amplitude) == (None, None, None)
    assert "growing" in growing.note


def test_a_season_that_began_before_the_data_has_no_start():
    seasons = find_seasons(_series(_triangle(40, 50, 100, 60)[90:]), RULE)

    (season,) = seasons
    assert season.start is None
    assert season.end == _day(80)
    assert "before the first observation" in season.note
    assert not season.complete


def test_no_season_is_found_in_a_flat_series():
    assert find_seasons(_series(np.full(300, 0.4)), RULE) == ()
    assert find_seasons(_series([0.4]), RULE) == ()


def test_dates_are_less_sure_where_data_are_sparse_noisy_or_the_course_is_flat():
    steep = _triangle(40, 50, 100, 60)
    (dense,) = find_seasons(_series(steep), RULE)
    (sparse,) = find_seasons(_series(steep, every=20), RULE)
    (noisy,) = find_seasons(_series(steep, every=20, sigma=0.05), RULE)

    assert dense.start_sigma_days < sparse.start_sigma_days < noisy.start_sigma_days
    assert sparse.start_sigma_days == pytest.approx(np.hypot(0.01 / (0.6 / 50), 20 / np.sqrt(12)), rel=0.01)
    assert sparse.end_sigma_days > sparse.start_sigma_days


@pytest.mark.parametrize("seed", range(20))
def test_turning_points_alternate_and_swing_enough(seed):
    values = np.cumsum(np.random.default_rng(seed).normal(0, 0.05, 400))

    turns = turning_points(values, 0.2)

    assert all(a.is_peak != b.is_peak and a.at < b.at for a, b in itertools.pairwise(turns))
    swings = [abs(values[a.at] - values[b.at]) for a, b in itertools.pairwise(turns)]
    assert all(swing >= 0.2 for swing in swings[:-1])
