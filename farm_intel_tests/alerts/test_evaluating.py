"""Rules on an index: verdicts, evidence down to the pixels, explanations, and never a look ahead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm_intel.alerts.evaluating import evaluate_rule
from farm_intel.alerts.facts import DayFacts, FarmFacts, cell_text, parse_cell
from farm_intel.alerts.index_evaluators import share_bounds
from farm_intel.alerts.judging import judge
from farm_intel.alerts.reading import Nothing, WeatherDay
from farm_intel.domain.activities import OccurrenceState
from farm_intel.domain.alerts import RuleVerdict
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.observations import CoverageDay, ObservationKey, ObservationStatus, ZonalStatistics
from farm_intel_tests.alerts.evaluations import DAY, EXPLAINS, FARM, INDEX, STAGES, Field, on, rule

LOW = {"enter": 0.4, "leave": 0.5}


@pytest.mark.parametrize(
    ("value", "direction", "verdict"),
    [
        (0.39, "below", "holds"),
        (0.40, "below", "between"),
        (0.49, "below", "between"),
        (0.50, "below", "clear"),
        (0.41, "above", "holds"),
        (0.40, "above", "between"),
        (0.30, "above", "clear"),
    ],
)
def test_two_thresholds_make_three_verdicts(value, direction, verdict):
    leave = 0.5 if direction == "below" else 0.3
    assert Field().look(DAY, value).verdicts(rule("threshold", enter=0.4, leave=leave, direction=direction)) == [
        verdict
    ]


@pytest.mark.parametrize(("value", "confidence"), [(None, 0.0), (0.1, 0.49), (0.9, 0.49), (None, 0.9)])
def test_a_look_nobody_can_be_sure_of_says_nothing(value, confidence):
    found = Field().look(DAY, value, confidence=confidence).evaluate(rule("threshold", **LOW))
    assert [one.verdict for one in found] == [RuleVerdict.UNKNOWN]
    assert found[0].evidence["note"]


def test_days_without_a_look_are_not_evaluated():
    field = Field().look(on(0), 0.3).look(on(5), 0.6)
    assert [one.day for one in field.evaluate(rule("threshold", **LOW), 0, 9)] == [on(0), on(5)]


def test_crops_and_stages_limit_a_rule():
    field = Field(planted=on(-50)).look(on(0), 0.3).look(on(40), 0.3).look(on(-45), 0.3)
    assert field.verdicts(rule("threshold", crops=("wheat",), **LOW)) == []
    assert field.verdicts(rule("threshold", crops=("maize",), stages=("mid",), **LOW)) == ["holds"]
    assert field.verdicts(rule("threshold", stages=("early",), **LOW)) == ["clear"]
    assert field.verdicts(rule("threshold", stages=("mid",), **LOW), 40, 40) == ["clear"], "the season is over"
    assert Field().look(DAY, 0.3).verdicts(rule("threshold", stages=("mid",), **LOW)) == ["unknown"], "not planted"
    assert field.verdicts(rule("threshold", stages=("mid",), **LOW), -45, -45) == ["clear"]


def test_a_fall_is_counted_from_the_second_highest_look_of_the_window():
    row = rule("drop", days=20, enter=0.2, leave=0.1, from_at_least=0.5)
    field = Field().look(on(-25), 0.99).look(on(-15), 0.95).look(on(-10), 0.70).look(on(-5), 0.69).look(DAY, 0.45)
    (found,) = field.evaluate(row)
    assert (found.verdict, found.value, found.threshold) == (RuleVerdict.HOLDS, pytest.approx(0.25), 0.2)
    assert [one["day"] for one in found.evidence["looks"]] == [str(on(-10)), str(DAY)]
    assert Field().look(on(-5), 0.45).look(DAY, 0.1).verdicts(row) == ["clear"], "it was low before"
    assert Field().look(on(-25), 0.9).look(DAY, 0.1).verdicts(row) == ["unknown"], "nothing within the window"
    unsure = Field().look(on(-6), 0.9, confidence=0.2).look(on(-5), 0.9, confidence=0.2).look(DAY, 0.1)
    assert unsure.verdicts(row) == ["unknown"]


def test_against_its_own_seasons():
    field = Field().look(DAY, 0.5).season(DAY, 0.5, 0.7, spread=0.05, seasons=2, percentile=3.0)
    assert field.verdicts(rule("anomaly", enter=-0.15, leave=-0.05)) == ["holds"]
    (spreads,) = field.evaluate(rule("anomaly", measure="spreads", enter=-5, leave=-2))
    assert (spreads.verdict, spreads.value) == (RuleVerdict.BETWEEN, pytest.approx(-4.0))
    assert field.verdicts(rule("anomaly", measure="percentile", enter=5, leave=20)) == ["holds"]
    assert field.verdicts(rule("anomaly", min_seasons=3, enter=-0.15, leave=0)) == ["unknown"]
    assert field.verdicts(rule("anomaly", baseline_at_least=0.8, enter=-0.15, leave=0)) == ["clear"]
    one = Field().look(DAY, 0.5).season(DAY, 0.5, 0.7)
    assert one.verdicts(rule("anomaly", measure="percentile", enter=5, leave=20)) == ["unknown"]
    assert Field().look(DAY, 0.5).verdicts(rule("anomaly", enter=-0.15, leave=0)) == ["unknown"]


@given(
    st.lists(st.floats(0.0, 1.0).map(lambda v: round(v, 3)), min_size=30, max_size=80),
    st.floats(0.0, 1.0).map(lambda v: round(v, 3)),
    st.sampled_from(["below", "above"]),
)
def test_the_bounds_of_a_share_hold_for_the_pixels_counted(values, beyond, direction):
    pixels = np.array(values)
    # percentiles that are pixels: what they say of a share is then exact, whatever the number of pixels
    p10, p25, median, p75, p90 = np.percentile(pixels, [10, 25, 50, 75, 90], method="inverted_cdf")
    statistics = ZonalStatistics(
        mean=pixels.mean(),
        median=median,
        std=pixels.std(),
        min=pixels.min(),
        max=pixels.max(),
        p10=p10,
        p25=p25,
        p75=p75,
        p90=p90,
    )
    low, high = share_bounds(statistics, beyond, direction)
    counted = np.mean(pixels < beyond if direction == "below" else pixels > beyond)
    slack = 1.0 / len(values)
    assert low - slack <= counted <= high + slack


SPLIT = {"min": 0.1, "p10": 0.15, "p25": 0.3, "median": 0.6, "p75": 0.7, "p90": 0.8, "max": 0.9}


def test_percentiles_decide_where_they_can_and_pixels_where_they_cannot():
    field = Field().look(DAY, 0.5, statistics=SPLIT, sha="abc")
    sure = rule("area_share", beyond=0.35, enter=0.2, leave=0.1)
    (found,) = field.evaluate(sure)
    assert (found.verdict, found.value) == (RuleVerdict.HOLDS, 0.25)
    assert found.evidence["from"] == "percentiles"
    assert field.pixels.read == [], "nothing had to be read"

    close = rule("area_share", beyond=0.35, enter=0.4, leave=0.3)
    assert field.verdicts(close) == ["unknown"], "25 % to 50 %: the raster is not there"
    for share, verdict in ((0.45, "holds"), (0.35, "between"), (0.28, "clear")):
        bad = round(share * 100)
        field.pixels.rasters["abc", 1] = np.array([0.2] * bad + [0.7] * (100 - bad) + [np.nan] * 7)
        (found,) = field.evaluate(close)
        assert (found.verdict.value, found.value) == (verdict, pytest.approx(share))
        assert found.evidence["from"] == "pixels"


def test_half_a_field_under_cloud_says_nothing_of_its_area():
    field = Field().look(DAY, 0.5, statistics=SPLIT, valid=0.5)
    assert field.verdicts(rule("area_share", beyond=0.35, enter=0.2, leave=0.1)) == ["unknown"]


def test_evidence_leads_to_cells_scenes_and_pixels():
    (found,) = Field().look(DAY, 0.3, sha="abc").evaluate(rule("threshold", **LOW))
    key = ObservationKey(farm_id=FARM, index=INDEX, provider="stac", collection="s2", solar_day=DAY)
    assert [parse_cell(text) for text in found.evidence["cells"]] == [key]
    assert found.evidence["scenes"] == [f"scene-{DAY}"]
    assert found.evidence["rasters"] == [{"cell": cell_text(key), "sha256": "abc", "band": 1}]
    assert found.evidence["index"] == INDEX
    assert found.evidence["confidence"] == 0.9


def test_a_text_that_is_no_cell_is_refused():
    with pytest.raises(BadRequestError, match="farm"):
        parse_cell("a|b|c")


DROP = rule("drop", days=20, enter=0.2, leave=0.1, explained_by="canopy_loss")


def fallen() -> Field:
    return Field().look(on(-10), 0.8).look(on(-5), 0.8).look(DAY, 0.3)


def explained_verdicts(explains) -> dict[str, str]:
    """Return what a fall is after several entries of the logbook."""
    cases = {
        "harvested": fallen().log(on(-2), "harvest"),
        "watered": fallen().log(on(-2), "irrigation"),
        "not done": fallen().log(on(-2), "harvest", done=False),
        "long ago": fallen().log(on(-31), "harvest"),
        "afterwards": fallen().log(on(1), "harvest"),
    }
    return {
        name: next(iter(case.evaluating(explains=explains(case)).evaluate([FARM], (DAY, DAY), [DROP]))).verdict.value
        for name, case in cases.items()
    }


def test_logged_work_explains_a_fall_and_only_what_it_can():
    told = explained_verdicts(lambda _: None)
    assert told == {
        "harvested": "explained",
        "watered": "holds",
        "not done": "holds",
        "long ago": "holds",
        "afterwards": "holds",
    }
    (found,) = fallen().log(on(-2), "harvest").evaluate(DROP)
    assert [one["entry_id"] for one in found.evidence["log_entries"]] == [f"harvest-{on(-2)}"]


def test_without_the_types_rows_nothing_is_explained():
    assert explained_verdicts(lambda _: {})["harvested"] == "holds"


def test_states_and_events_explain_too():
    row = rule("drop", days=20, enter=0.2, leave=0.1, explaining_states="senescence", explaining_events="harvest")
    assert fallen().state(DAY, "senescence").verdicts(row) == ["explained"]
    assert fallen().state(DAY, "bare", event="harvest").verdicts(row) == ["explained"]
    assert fallen().state(DAY, "bare", event="hail").verdicts(row) == ["holds"]


def test_what_was_logged_later_was_not_known():
    field = fallen().log(on(-2), "harvest", recorded=on(3))
    at_the_time = datetime(2026, 3, 2, tzinfo=UTC)
    assert [one.verdict.value for one in field.evaluate(DROP, as_of=at_the_time)] == ["holds"]
    assert [one.verdict.value for one in field.evaluate(DROP)] == ["explained"]


def test_the_fingerprint_follows_the_inputs():
    first = Field().look(DAY, 0.3).evaluate(rule("threshold", **LOW))[0]
    again = Field().look(DAY, 0.3).evaluate(rule("threshold", **LOW))[0]
    other = Field().look(DAY, 0.301).evaluate(rule("threshold", **LOW))[0]
    edited = Field().look(DAY, 0.3).evaluate(replace(rule("threshold", **LOW), version="2"))[0]
    assert first == again
    assert len({first.fingerprint, other.fingerprint, edited.fingerprint}) == 3


@given(st.lists(st.floats(0.1, 0.9), min_size=16, max_size=16))
def test_later_looks_change_nothing(values):
    whole, known = Field(), Field()
    for number, value in enumerate(values):
        whole.look(on(-20 + 3 * number), value)
        if -20 + 3 * number <= 10:
            known.look(on(-20 + 3 * number), value)
    row = rule("drop", days=30, enter=0.2, leave=0.1)
    assert whole.evaluate(row, 0, 10) == known.evaluate(row, 0, 10)


def facts(days_facts) -> FarmFacts:
    """Return a farm on which more happens after the day, seen through a class of day facts."""

    @dataclass(frozen=True, slots=True, kw_only=True, eq=False)
    class Farm(FarmFacts):
        def on(self, day):
            return days_facts(farm=self, day=day)

    field = fallen().look(on(4), 0.9).log(on(1), "harvest")
    stored = field.assessments.fused_rows.items()
    came = [
        CoverageDay(farm_id=FARM, provider="stac", collection="s2", solar_day=on(number), status=status, reason="")
        for number, status in ((-20, ObservationStatus.OBSERVED), (-9, ObservationStatus.CLOUDY), (4, _SEEN))
    ]
    return Farm(
        farm_id=FARM,
        crop=None,
        planted=None,
        looks={INDEX: [look for _, look in sorted(stored)]},
        observations={},
        seasons={},
        states=(),
        calendar=came,
        log=lambda: field.logbook.entries,
        has_weather=lambda: True,
        weather=[WeatherDay(day=on(number), values={"rain_mm": number}, source="test") for number in (0, 1)],
        occurrences=Field().occurrence(on(-9), OccurrenceState.DUE).occurrence(on(1), _DUE).occurrences.rows,
        pixels=Nothing(),
        explains=EXPLAINS,
        stages=STAGES,
    )


_SEEN, _DUE = ObservationStatus.OBSERVED, OccurrenceState.DUE


class LeakyLog(DayFacts):
    def log(self, days):
        return self.farm.log()


class LeakyCalendar(DayFacts):
    def calendar(self):
        return self.farm.calendar


class LeakyWeather(DayFacts):
    def weather(self, days):
        return self.farm.weather[-1:]


class LeakyOccurrences(DayFacts):
    def occurrences(self, days):
        return self.farm.occurrences


def told_on_the_day(days_facts) -> list[tuple[str, object]]:
    """Return what four rules say of the day."""
    rows = (
        DROP,
        rule("silence", enter=15, leave=5),
        rule("weather", variable="rain_mm", direction="below", enter=0.5, leave=2),
        rule("overdue", enter=2, leave=1),
    )
    found = [one for row in rows for one in evaluate_rule(row, facts(days_facts), (DAY, DAY))]
    return [(one.verdict.value, one.evidence.get("late")) for one in found]


def test_nothing_of_tomorrow_is_used():
    assert told_on_the_day(DayFacts) == [("holds", None), ("holds", None), ("holds", None), ("holds", 1)]


@pytest.mark.parametrize("mutant", [LeakyLog, LeakyCalendar, LeakyWeather, LeakyOccurrences])
def test_facts_that_look_ahead_are_seen(mutant):
    assert told_on_the_day(mutant) != told_on_the_day(DayFacts)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_the_verdict_is_monotone_in_the_value(one, other, gap):
    order = [RuleVerdict.HOLDS, RuleVerdict.BETWEEN, RuleVerdict.CLEAR]
    low, high = sorted((one, other))
    assert order.index(judge(low, 0.0, gap, "below")) <= order.index(judge(high, 0.0, gap, "below"))
    assert judge(low, 0.0, gap, "below") is judge(-low, 0.0, -gap, "above")
