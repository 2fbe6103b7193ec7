"""The rule engine on made-up tables: hysteresis, persistence, precedence, events; nothing here knows an index."""

import itertools
from datetime import date

import numpy as np
import pytest

from farm_intel.domain.farm_events import detect_events
from farm_intel.domain.farm_state import (
    UNKNOWN,
    AfterCondition,
    Combination,
    Condition,
    EventRule,
    RuleTable,
    StateRule,
    StateText,
    axis_states,
    classify,
    state_on,
)
from farm_intel.domain.state_facts import Axis, AxisIndex, BrightnessPair, build_facts, index_series

FIRST = date(2026, 1, 1).toordinal()
PARAMETERS = {
    "season_days": 150.0,
    "emergence_days": 20.0,
    "ripening_from_days": 80.0,
    "ripening_per_day": 0.02,
    "growing_per_day": 0.004,
    "green_up_cover": 0.16,
    "trend_window_days": 25.0,
    "before_days": 40.0,
    "sigma_floor": 0.01,
}


def _above(fact, enter, leave=None, **changes):
    return Condition(
        fact=fact, above=True, enter=enter, leave=enter if leave is None else leave, source="test", **changes
    )


def _below(fact, enter, leave=None, **changes):
    return Condition(
        fact=fact, above=False, enter=enter, leave=enter if leave is None else leave, source="test", **changes
    )


def _table(rules, combinations=None, events=(), persist=1):
    rows = tuple(StateRule(state=state, conditions=conditions, persist=persist) for state, conditions in rules)
    named = [row.state for row in rows]
    combined = combinations or tuple(
        Combination(state=state, axes={Axis.CANOPY: frozenset({state})}) for state in dict.fromkeys(named)
    )
    states = [*named, *(row.state for row in combined), UNKNOWN]
    return RuleTable(
        name="test/1/generic",
        crop=None,
        axes=(AxisIndex(index="green", axis=Axis.CANOPY, bare=0.0, full=1.0, source="test"),),
        parameters=PARAMETERS,
        rules={Axis.CANOPY: rows},
        combinations=combined,
        events=tuple(events),
        texts={state: StateText(interpretation=f"i.{state}", action=f"a.{state}") for state in states},
        brightness=BrightnessPair(normalised="x", adjusted="y", adjustment=0.5, least=0.04),
        max_age_days=25,
        event_days=15,
    )


def _facts(values, table, *, step=5, days=None, **options):
    days = [FIRST + step * k for k in range(len(values))] if days is None else [FIRST + day for day in days]
    points = [(day, value, 0.01, 0.9) for day, value in zip(days, values, strict=True)]
    return build_facts({"green": index_series("green", points)}, table.axes, table.parameters, **options)


LEVELS = [("dense", (_above("canopy.cover", 0.7, 0.6),)), ("open", (_above("canopy.cover", -9.0),))]


def test_a_state_is_kept_between_its_two_thresholds():
    table = _table(LEVELS)

    course = classify(_facts([0.65, 0.72, 0.65, 0.62, 0.69, 0.58, 0.65, 0.69], table), table)

    assert course.states == ("open", "dense", "dense", "dense", "dense", "open", "open", "open")


def test_a_new_state_must_be_seen_as_often_as_its_rule_says():
    table = _table(LEVELS, persist=2)

    lone = classify(_facts([0.5, 0.8, 0.5, 0.5, 0.8, 0.8, 0.5, 0.8], table), table)
    assert lone.states == ("open", "open", "open", "open", "open", "dense", "dense", "dense")


def test_noise_about_a_threshold_does_not_flap():
    """A field that hovers at the threshold changes at most once; without hysteresis it would all the time."""
    table = _table(LEVELS)
    values = 0.7 + np.random.default_rng(5).normal(0, 0.03, 200)

    states = classify(_facts(values.tolist(), table), table).states

    assert sum(a != b for a, b in itertools.pairwise(states)) <= 1
    plain = values > 0.7
    assert np.sum(plain[1:] != plain[:-1]) > 50


def test_rules_above_come_first_so_trend_is_read_before_level():
    """A dense field that collapses is declining, however dense it still is."""
    falling = ("falling", (_below("canopy.trend", -0.006, 0.0), _below("canopy.trend_z", -3.0, 0.0)))
    table = _table([falling, *LEVELS])

    states = classify(_facts([0.95, 0.96, 0.95, 0.95, 0.9, 0.84, 0.78], table), table).states

    assert states[3] == "dense"
    assert states[-1] == "falling"


def test_a_slope_within_its_error_is_no_decline():
    """The original called every negative slope a decline, and raised an alert for it."""
    falling = ("falling", (_below("canopy.trend", -0.006, 0.0), _below("canopy.trend_z", -3.0, 0.0)))
    table = _table([falling, *LEVELS])

    states = classify(_facts([0.300, 0.301, 0.2995, 0.299, 0.2985, 0.298], table), table).states

    assert set(states) == {"open"}


def test_a_told_state_stays_told_when_later_observations_come():
    falling = ("falling", (_below("canopy.trend", -0.006, 0.0), _above("canopy.lost", 0.1)))
    table = _table([falling, *LEVELS], persist=2)
    values = (0.5 + 0.45 * np.sin(np.arange(60) / 6) + np.random.default_rng(1).normal(0, 0.02, 60)).tolist()
    whole = classify(_facts(values, table), table).states

    for count in range(3, 60, 7):
        assert classify(_facts(values[:count], table), table).states == whole[:count]


def test_the_state_of_a_day_is_that_of_the_last_observation_and_unknown_when_it_is_old():
    table = _table(LEVELS)
    course = classify(_facts([0.8, 0.8, 0.3], table), table)

    def on(day):
        return state_on(course, table, farm_id="a", day=date.fromordinal(FIRST + day))

    assert on(-1).state == UNKNOWN
    assert [reason.fact for reason in on(-1).reasons] == ["never_observed"]
    assert (on(7).state, on(7).since) == ("dense", date.fromordinal(FIRST))
    assert (on(10).state, on(10).since) == ("open", date.fromordinal(FIRST + 10))
    assert on(35).state == "open"
    assert on(35).confidence < on(10).confidence
    late = on(36)
    assert (late.state, late.confidence, late.interpretation) == (UNKNOWN, 0.0, "i.unknown")
    assert (late.reasons[0].fact, late.reasons[0].value, late.reasons[0].threshold) == ("observation_age_days", 26, 25)


def test_reasons_name_index_value_threshold_and_source():
    table = _table(LEVELS)
    state = state_on(classify(_facts([0.8], table), table), table, farm_id="a", day=date.fromordinal(FIRST))

    named, bound = state.reasons
    assert (named.index, named.fact, named.value) == ("green", "canopy_is_dense", 0.8)
    assert (bound.fact, bound.value, bound.threshold, bound.source) == ("canopy_cover", pytest.approx(0.8), 0.6, "test")
    assert axis_states(state) == {Axis.CANOPY: "dense"}
    assert state.rule_table == "test/1/generic"


def test_confidence_falls_towards_a_threshold():
    table = _table(LEVELS)

    far, near = (
        state_on(classify(_facts([value], table), table), table, farm_id="a", day=date.fromordinal(FIRST))
        for value in (0.9, 0.705)
    )

    assert 0.8 < far.confidence <= 0.9
    kept = classify(_facts([0.8, 0.601], table), table)
    assert state_on(kept, table, farm_id="a", day=date.fromordinal(FIRST + 5)).confidence < near.confidence


def test_facts_that_are_unknown_fulfil_only_conditions_that_allow_it():
    never = _table([("odd", (_above("moisture.value", 0.0),)), *LEVELS])
    assert classify(_facts([0.8], never), never).states == ("dense",)

    allowed = _table([("odd", (_above("moisture.value", 0.0, optional=True),)), *LEVELS])
    assert classify(_facts([0.8], allowed), allowed).states == ("odd",)


def test_a_farm_without_observations_has_facts_and_an_unknown_state():
    table = _table(LEVELS)
    course = classify(build_facts({}, table.axes, table.parameters), table)

    assert course.states == ()
    assert state_on(course, table, farm_id="a", day=date.fromordinal(FIRST)).state == UNKNOWN


def test_the_age_of_a_season_counts_from_planting_else_from_green_up():
    table = _table(LEVELS)
    values = [0.05, 0.05, 0.1, 0.3, 0.6]

    seen = _facts(values, table).values["season.age_days"]
    assert seen[4] == 10 + 20  # last bare on day 10, green-up plus 20 days to emergence

    planted = _facts(values, table, plantings=[FIRST - 3]).values["season.age_days"]
    assert planted.tolist() == [3, 8, 13, 18, 23]

    long_ago = _facts(values, table, plantings=[FIRST - 900]).values["season.age_days"]
    assert long_ago[4] == 30


def test_brightness_is_near_infrared_plus_red():
    table = _table(LEVELS)
    nir, red = 0.45, 0.05
    series = {
        "green": index_series("green", [(FIRST, 0.8, 0.01, 1.0)]),
        "x": index_series("x", [(FIRST, (nir - red) / (nir + red), 0.01, 1.0)]),
        "y": index_series("y", [(FIRST, 1.5 * (nir - red) / (nir + red + 0.5), 0.01, 1.0)]),
    }

    facts = build_facts(series, table.axes, table.parameters, pair=table.brightness)

    assert facts.values["canopy.brightness"][0] == pytest.approx(0.5)


CUT = EventRule(
    name="cut",
    onset=(_above("canopy.step", 0.3), _below("canopy.cover", 0.2)),
    after=(AfterCondition(condition=_below("canopy.cover", 0.3), statistic="median"),),
    after_days=(0, 30),
    after_count=1,
    between=True,
    quiet_days=40,
)
STORM = EventRule(
    name="storm",
    onset=(_above("canopy.step", 0.2),),
    after=(
        AfterCondition(condition=_above("canopy.cover", -0.1), statistic="maximum", change=True),
        AfterCondition(condition=_below("canopy.cover", 0.3), statistic="maximum", change=True),
    ),
    after_days=(0, 30),
    after_count=1,
    between=True,
    quiet_days=40,
)


def test_an_event_is_dated_between_two_observations_and_known_with_the_next():
    table = _table(LEVELS, events=(CUT,))
    facts = _facts([0.8, 0.8, 0.1, 0.1, 0.1], table, days=[0, 5, 15, 20, 25])

    (event,) = detect_events(facts, table.events)

    assert (event.name, event.day - FIRST, event.sigma_days, event.onset - FIRST, event.known - FIRST) == (
        "cut",
        10,
        5,
        15,
        20,
    )
    assert event.strength == pytest.approx(0.7)


def test_an_event_needs_its_confirmation():
    table = _table(LEVELS, events=(CUT, STORM))

    assert detect_events(_facts([0.8, 0.8, 0.1], table), table.events) == ()
    assert detect_events(_facts([0.8, 0.8, 0.1, 0.8, 0.8], table), table.events) == ()


def test_what_is_explained_by_the_first_rule_is_not_told_again_by_another():
    table = _table(LEVELS, events=(CUT, STORM))
    muting = EventRule(**{name: getattr(CUT, name) for name in CUT.__slots__} | {"mutes": {"storm": 10.0}})
    facts = _facts([0.8, 0.8, 0.1, 0.1, 0.1], table)

    assert [event.name for event in detect_events(facts, (CUT, STORM))] == ["cut", "storm"]
    assert [event.name for event in detect_events(facts, (muting, STORM))] == ["cut"]


def test_the_same_event_is_told_once_within_its_quiet_days():
    table = _table(LEVELS, events=(STORM,))
    facts = _facts([0.9, 0.9, 0.6, 0.6, 0.3, 0.3, 0.3], table)

    assert [event.onset - FIRST for event in detect_events(facts, table.events)] == [10]
