"""Rules on the farm as a whole: states and events, silence, weather and overdue work."""

from __future__ import annotations

import pytest

from farm_intel.alerts.reading import WeatherDay
from farm_intel.domain.activities import OccurrenceState
from farm_intel.domain.observations import ObservationStatus
from farm_intel_tests.alerts.evaluations import DAY, Field, on, rule

OBSERVED, CLOUDY = ObservationStatus.OBSERVED, ObservationStatus.CLOUDY
NOTHING, FAILED = ObservationStatus.NO_ACQUISITION, ObservationStatus.PROVIDER_FAILED


DROUGHT = rule("state", events="drought", keeping_facts="moisture_is_dry")


def test_an_event_holds_while_it_is_told_and_stays_between_while_it_lasts():
    field = Field()
    course = [
        ("growth", None, ()),
        ("dry", "drought", ("moisture_is_dry",)),
        ("dry", None, ("moisture_is_dry",)),
        ("growth", None, ("moisture_is_moist",)),
    ]
    for number, (state, event, facts) in enumerate(course):
        field.look(on(5 * number), 0.6).state(on(5 * number), state, event=event, facts=facts)
    found = field.evaluate(DROUGHT, 0, 20)
    assert [one.verdict.value for one in found] == ["clear", "holds", "between", "clear"]
    assert (found[1].value, found[1].evidence["unit"]) == (3.0, "days since the event")
    reasons = found[1].evidence["state"]["reasons"]
    assert {"index": "vigour", "fact": "moisture_is_dry", "value": 0.1, "threshold": 0.2, "source": "test"} in reasons
    assert len(found[1].evidence["cells"]) == 2, "the day's look, and the one before it that it is compared with"


def test_states_and_facts_hold_too():
    field = Field().look(DAY, 0.6).state(DAY, "saturated", facts=("moisture_is_saturated",))
    assert field.verdicts(rule("state", states="water, saturated")) == ["holds"]
    assert field.verdicts(rule("state", facts="moisture_is_saturated")) == ["holds"]
    assert field.verdicts(rule("state", states="water", keeping_states="saturated")) == ["between"]
    assert field.verdicts(rule("state", states="water")) == ["clear"]


def test_a_state_nobody_can_be_sure_of_says_nothing():
    row = rule("state", states="dry", min_confidence=0.5)
    assert Field().look(DAY, 0.6).state(DAY, "dry", confidence=0.4).verdicts(row) == ["unknown"]
    assert Field().look(DAY, 0.6).state(DAY, "growth", confidence=0.4).verdicts(row) == ["unknown"], "not clear either"
    assert Field().look(DAY, 0.6).verdicts(row) == ["unknown"], "no state was told"
    cloudy = Field().look(on(-5), 0.6).look(DAY, None).state(DAY, "growth")
    assert cloudy.verdicts(row) == ["unknown"], "the state rests on an older look"
    assert Field().state(DAY, "dry").verdicts(row) == [], "a day without a look"


def test_a_harvest_nobody_logged_is_told_until_it_is_logged():
    row = rule("state", events="harvest", without_log="canopy_loss")
    field = Field()
    for number in (0, 5, 10):
        field.look(on(number), 0.2).state(on(number), "harvested", event="harvest")
    assert field.verdicts(row, 0, 10) == ["holds", "holds", "holds"]
    field.log(on(-3), "irrigation")
    assert field.verdicts(row, 0, 10) == ["holds", "holds", "holds"], "watering explains no harvest"
    field.log(on(-3), "harvest")
    found = field.evaluate(row, 0, 10)
    assert [one.verdict.value for one in found] == ["clear", "clear", "clear"]
    assert found[0].evidence["logged"] == [f"harvest-{on(-3)}"]


LOOKS = rule("silence", enter=10, leave=4)
PROVIDER = rule("silence", of="provider", enter=10, leave=4)


def calendar(*rows) -> Field:
    field = Field()
    for number, status in rows:
        field.calendar(on(number), status)
    return field


def test_cloud_for_long_is_silence_of_looks_and_not_of_the_provider():
    field = calendar((0, OBSERVED), (5, CLOUDY), (10, CLOUDY), (15, OBSERVED))
    told = field.verdicts(LOOKS, 0, 15)
    assert told[:4] == ["clear"] * 4 + []
    assert told[5:11] == ["between"] * 6
    assert told[11:15] == ["holds"] * 4
    assert told[15] == "clear"
    assert set(field.verdicts(PROVIDER, 0, 15)) <= {"clear", "between"}
    (found,) = field.evaluate(LOOKS, 12, 12)
    assert found.value == 12.0
    assert found.evidence["since_then"] == {"cloudy": 2}


def test_where_nothing_came_it_is_the_provider_that_is_silent():
    field = calendar((0, OBSERVED), (5, NOTHING), (10, FAILED))
    assert field.verdicts(LOOKS, 12, 12) == ["unknown"]
    assert field.verdicts(PROVIDER, 12, 12) == ["holds"]


def test_silence_counts_from_the_first_day_that_was_asked_for():
    assert calendar((0, CLOUDY), (5, CLOUDY)).verdicts(LOOKS, 11, 11) == ["holds"]
    assert Field().verdicts(LOOKS) == ["unknown"]


def test_one_provider_can_be_watched():
    field = calendar((0, OBSERVED), (8, OBSERVED))
    assert field.verdicts(rule("silence", of="provider", provider="stac", enter=10, leave=4), 9, 9) == ["clear"]
    assert field.verdicts(rule("silence", of="provider", provider="other", enter=10, leave=4), 9, 9) == ["unknown"]


FROST = rule("weather", variable="temperature_min_c", direction="below", enter=1.0, leave=3.0)


def weathered(variable, *values) -> Field:
    field = Field()
    field.weather.days = [
        WeatherDay(day=on(number), values={variable: value}, source="station")
        for number, value in enumerate(values)
        if value is not None
    ]
    return field


def test_weather_is_told_where_it_is_known_and_only_there():
    field = weathered("temperature_min_c", 0.5, 1.5, 3.0, None)
    assert field.verdicts(FROST, 0, 4) == ["holds", "between", "clear", "unknown", "unknown"]
    assert field.verdicts(FROST, 90, 90) == ["unknown"], "a source that went silent long ago"
    assert Field().verdicts(FROST) == [], "an installation without weather"
    (found,) = field.evaluate(FROST)
    assert (found.value, found.threshold, found.evidence["weather_source"]) == (0.5, 1.0, "station")


@pytest.mark.parametrize(
    ("statistic", "value"), [("sum", 60.0), ("mean", 20.0), ("maximum", 30.0), ("minimum", 10.0), ("last", 30.0)]
)
def test_weather_over_days(statistic, value):
    row = rule(
        "weather", variable="rain_mm", direction="above", statistic=statistic, window_days=3, enter=5.0, leave=1.0
    )
    field = weathered("rain_mm", 10.0, 20.0, 30.0, None, 40.0)
    assert [one.value for one in field.evaluate(row, 2, 2)] == [value]
    assert field.verdicts(row, 1, 1) == ["unknown"], "the day before the first is not known"
    assert field.verdicts(row, 4, 4) == ["unknown"], "a day between is missing"


OVERDUE = rule("overdue", enter=2, leave=1, forget_days=20)
DUE, WAITING, DONE = OccurrenceState.DUE, OccurrenceState.WAITING, OccurrenceState.DONE
SKIPPED, EXPIRED = OccurrenceState.SKIPPED, OccurrenceState.EXPIRED


def test_late_work_is_told_until_it_is_done():
    field = Field().occurrence(on(0), DONE, changed=on(6))
    assert field.verdicts(OVERDUE, 0, 7) == ["clear", "clear", "between", "holds", "holds", "holds", "clear", "clear"]


@pytest.mark.parametrize(
    ("state", "verdict"),
    [(DUE, "holds"), (WAITING, "holds"), (EXPIRED, "holds"), (DONE, "clear"), (SKIPPED, "clear")],
)
def test_expired_work_was_not_done_either(state, verdict):
    assert Field().occurrence(on(0), state, changed=on(1)).verdicts(OVERDUE, 5, 5) == [verdict]


def test_work_is_forgotten_in_the_end_and_types_can_be_chosen():
    field = Field().occurrence(on(0), EXPIRED).occurrence(on(2), DUE, kind="spraying")
    (found,) = field.evaluate(OVERDUE, 6, 6)
    assert (found.value, found.evidence["activity_id"], found.evidence["late"]) == (6.0, f"scouting-{on(0)}", 2)
    (found,) = field.evaluate(rule("overdue", enter=2, leave=1, types="spraying"), 6, 6)
    assert (found.value, found.evidence["type"]) == (4.0, "spraying")
    assert field.verdicts(OVERDUE, 23, 23) == ["clear"]


def test_a_farm_that_is_not_there_is_left_out():
    assert list(Field().evaluating().evaluate(["nobody"], (DAY, DAY), [OVERDUE])) == []
