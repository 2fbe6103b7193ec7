"""Baseline, anomaly, percentile and trend against numpy and against what was put in."""

from datetime import date

import numpy as np
import pytest

from farm_intel.domain.assessment import DailySeries
from farm_intel.domain.phenology import PhenologyRule, find_seasons
from farm_intel.domain.season import ObservedDays, SeasonRule, assess_season, trailing_trend

FIRST = date(2020, 1, 1).toordinal()
RULE = SeasonRule()


def _course(day, start, height=0.6):
    age = day - start
    up, down = 1 / (1 + np.exp(-0.12 * (age - 35))), 1 / (1 + np.exp(-0.12 * (age - 110)))
    return 0.2 + height * (up - down)


def _farm(starts, heights, *, days=None, every=5):
    days = np.arange(FIRST, FIRST + (days or 366 * len(starts)))
    values = np.maximum.reduce([_course(days, start, height) for start, height in zip(starts, heights, strict=True)])
    daily = DailySeries(
        farm_id="a",
        index="made_up",
        start=date.fromordinal(FIRST),
        values=values,
        sigma=np.full(days.size, 0.01),
        observed=np.arange(days.size) % every == 0,
        method="test",
    )
    observed = ObservedDays(days=days[::every], values=values[::every], sigma=np.full(values[::every].size, 0.01))
    return observed, daily


def _assess(observed, daily, **options):
    phenology = find_seasons(daily, PhenologyRule(min_amplitude=0.2))
    return assess_season(observed, daily, phenology, options.pop("rule", RULE), **options)


def test_one_season_has_no_baseline_and_says_so():
    season = _assess(*_farm([FIRST + 60], [0.6]))

    assert all(day.baseline is None and day.anomaly is None and day.percentile is None for day in season.days)
    assert all(day.baseline_seasons == 0 for day in season.days)
    assert "no earlier season" in season.note.lower()
    assert any(day.trend_per_day is not None for day in season.days)


def test_two_seasons_give_an_anomaly_without_percentile():
    season = _assess(*_farm([FIRST + 60, FIRST + 426], [0.6, 0.4]))

    peak = max(season.days[80:], key=lambda day: day.value)
    assert peak.baseline_seasons == 1
    assert peak.anomaly == pytest.approx(-0.2, abs=0.03)
    assert peak.percentile is None
    assert peak.baseline_spread is None
    assert "One earlier season" in season.note


def test_seasons_are_compared_by_days_since_their_start():
    """The third season is the same as the others but began four weeks late: by day of season nothing is unusual."""
    starts = [FIRST + 60, FIRST + 426, FIRST + 791 + 28]
    season = _assess(*_farm(starts, [0.6, 0.6, 0.6]))
    third = [day for day in season.days if 20 < day.day.toordinal() - starts[2] < 150]

    assert max(abs(day.anomaly) for day in third) < 0.06

    observed, daily = _farm(starts, [0.6, 0.6, 0.6])
    by_calendar = assess_season(observed, daily, (), RULE)
    same_days = [day for day in by_calendar.days if 20 < day.day.toordinal() - starts[2] < 150]

    assert max(abs(day.anomaly) for day in same_days) > 0.3
    assert "day of the year" in by_calendar.note


def test_planting_days_serve_where_no_start_was_seen():
    starts = [FIRST + 60, FIRST + 426, FIRST + 791 + 28]
    observed, daily = _farm(starts, [0.6, 0.6, 0.6])

    season = assess_season(observed, daily, (), RULE, plantings=starts)

    third = [day for day in season.days if 20 < day.day.toordinal() - starts[2] < 150]
    assert max(abs(day.anomaly) for day in third) < 0.06


def test_the_baseline_is_robust_and_the_percentile_tells_how_far_out_a_season_is():
    """Four good years and a failed one: the median does not care, the sixth year at the median is near 50 %."""
    starts = [FIRST + 60 + round(365.25 * k) for k in range(6)]
    season = _assess(*_farm(starts, [0.6, 0.58, 0.1, 0.62, 0.6, 0.6]))
    day = min(season.days, key=lambda day: abs(day.day.toordinal() - starts[5] - 75))

    assert day.baseline_seasons == 5
    assert day.baseline == pytest.approx(_course(75, 0, 0.6), abs=0.02)
    assert 30 < day.percentile < 70

    low = _assess(*_farm(starts, [0.6, 0.58, 0.56, 0.62, 0.6, 0.35]))
    day = min(low.days, key=lambda day: abs(day.day.toordinal() - starts[5] - 75))
    assert day.anomaly == pytest.approx(-0.25, abs=0.03)
    assert day.percentile < 2


def test_days_far_from_data_lend_no_baseline():
    observed, daily = _farm([FIRST + 60, FIRST + 426], [0.6, 0.6])
    daily.sigma[60:200] = 0.5

    season = assess_season(observed, daily, (), RULE)

    inside = [day for day in season.days if 70 < day.day.toordinal() - FIRST - 366 < 190]
    assert inside
    assert all(day.baseline is None and day.baseline_seasons == 0 for day in inside)


def test_the_trend_is_the_weighted_least_squares_line_of_the_window():
    rng = np.random.default_rng(3)
    days = np.array([0, 3, 9, 11, 20, 26, 41], np.int64) + FIRST
    values, sigma = rng.uniform(0.2, 0.6, 7), rng.uniform(0.01, 0.05, 7)

    slope, error = trailing_trend(days, values, sigma, 30.0)

    inside = slice(0, 6)  # 26 days back from day 26 reaches day 0
    line, covariance = np.polyfit(days[inside] - FIRST, values[inside], 1, w=1 / sigma[inside], cov="unscaled")
    residual = (values[inside] - np.polyval(line, days[inside] - FIRST)) / sigma[inside]
    scale = max(np.sum(residual**2) / 4, 1.0)
    assert slope[5] == pytest.approx(line[0])
    assert error[5] == pytest.approx(np.sqrt(covariance[0, 0] * scale))
    assert np.isnan(slope[:2]).all()


def test_the_trend_is_per_day_and_not_per_row():
    """The original's trend of two indices counted rows: the same field looked twice as steep in clear months."""
    dense, sparse = np.arange(0, 30, 3) + FIRST, np.arange(0, 30, 9) + FIRST

    for days in (dense, sparse):
        slope, _ = trailing_trend(days, 0.01 * (days - FIRST), np.full(days.size, 0.01), 40.0)
        assert slope[-1] == pytest.approx(0.01)


def test_the_trend_error_covers_the_truth():
    """About 95 % of the slopes of noisy lines are within two standard errors."""
    rng = np.random.default_rng(11)
    days = np.arange(0, 40, 5) + FIRST
    hits = 0
    for _ in range(400):
        slope, error = trailing_trend(days, 0.004 * (days - FIRST) + rng.normal(0, 0.02, 8), np.full(8, 0.02), 60.0)
        hits += abs(slope[-1] - 0.004) <= 2 * error[-1]

    assert 0.93 <= hits / 400 <= 1.0
