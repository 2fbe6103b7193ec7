"""Hysteresis of alerts: the reducer against a reading of its rules over the whole row, and against itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm_intel.alerts import spans
from farm_intel.alerts.spans import SpanChange, SpanEvent, SpanState, advance, open_spans
from farm_intel.domain.alerts import AlertRule, Evaluation, RuleVerdict, Severity
from farm_intel.domain.errors import BadRequestError

START = date(2026, 3, 1)
LETTERS = {
    "H": RuleVerdict.HOLDS,
    "B": RuleVerdict.BETWEEN,
    "C": RuleVerdict.CLEAR,
    "E": RuleVerdict.EXPLAINED,
    "U": RuleVerdict.UNKNOWN,
}


def rule(to_open: int, to_resolve: int) -> AlertRule:
    return AlertRule(
        slug="r",
        rule_class="stress",
        kind="threshold",
        severity=Severity.INFO,
        parameters={},
        looks_to_open=to_open,
        looks_to_resolve=to_resolve,
        source="test",
    )


def row(letters: str) -> list[Evaluation]:
    return [
        Evaluation(
            farm_id="f", rule="r", day=START + timedelta(days=k), verdict=LETTERS[one], value=None, threshold=None
        )
        for k, one in enumerate(letters)
    ]


def expected(letters: str, to_open: int, to_resolve: int) -> list[tuple[int, int | None]]:
    """Read the rules over the row without unknown looks, searching for runs as text."""
    known = [(k, "C" if one == "E" else one) for k, one in enumerate(letters) if one != "U"]
    text = "".join(one for _, one in known)
    found: list[tuple[int, int | None]] = []
    place = 0
    while (start := text.find("H" * to_open, place)) >= 0:
        opened = start + to_open - 1
        cleared = text.find("C" * to_resolve, opened + 1)
        if cleared < 0:
            found.append((known[opened][0], None))
            break
        resolved = cleared + to_resolve - 1
        found.append((known[opened][0], known[resolved][0]))
        place = resolved + 1
    return found


@given(st.text("HBCEU", max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_spans_are_the_runs_of_the_row(letters, to_open, to_resolve):
    told = open_spans(row(letters), rule(to_open, to_resolve))
    numbers = [((a - START).days, None if b is None else (b - START).days) for a, b in told]
    assert numbers == expected(letters, to_open, to_resolve)


@given(st.text("HBCEU", max_size=25), st.integers(1, 3), st.integers(1, 3), st.data())
def test_a_state_survives_storage_and_the_same_looks_again_change_nothing(letters, to_open, to_resolve, data):
    evaluations, wanted = row(letters), rule(to_open, to_resolve)
    state, changes = SpanState(), []
    for number, one in enumerate(evaluations):
        state, change = advance(state, one, wanted)
        changes += [change] if change else []
        state = SpanState.from_dict(json.loads(json.dumps(state.as_dict())))
        if state.last_day is not None:
            again = evaluations[data.draw(st.integers(0, number))]
            if again.day <= state.last_day:
                assert advance(state, again, wanted) == (state, None)
    opened = [change.day for change in changes if change.event is SpanEvent.OPENED]
    assert opened == [a for a, _ in open_spans(evaluations, wanted)]


def test_the_event_is_named_by_the_first_day_that_held():
    state, changes = SpanState(), []
    for one in row("CHUHHCC"):
        state, change = advance(state, one, rule(3, 2))
        changes += [change] if change else []
    first = START + timedelta(days=1)
    assert changes == [
        SpanChange(event=SpanEvent.OPENED, day=START + timedelta(days=4), first_day=first),
        SpanChange(event=SpanEvent.RESOLVED, day=START + timedelta(days=6), first_day=first),
    ]


def test_a_damaged_state_is_refused_with_advice():
    with pytest.raises(BadRequestError, match="Fold"):
        SpanState.from_dict({"is_open": True, "holding": "many"})


def _unknown_counts_as_clear(state, evaluation, wanted):
    if evaluation.verdict is RuleVerdict.UNKNOWN:
        evaluation = replace(evaluation, verdict=RuleVerdict.CLEAR)
    return advance(state, evaluation, wanted)


def _between_counts_as_clear(state, evaluation, wanted):
    if evaluation.verdict is RuleVerdict.BETWEEN:
        evaluation = replace(evaluation, verdict=RuleVerdict.CLEAR)
    return advance(state, evaluation, wanted)


def _forgets_the_days(state, evaluation, wanted):
    return advance(replace(state, last_day=None), evaluation, wanted)


def survives_cloud_and_repeats(reducer) -> bool:
    """Return whether a cloudy look, one between and a look that comes twice leave an open alert and a closed one be."""
    wanted, state = rule(2, 2), SpanState()
    evaluations = row("HUHBUCC")
    opened = []
    for one in [evaluations[0], evaluations[0], *evaluations[1:4], evaluations[5]]:
        state, change = reducer(state, one, wanted)
        opened += [(change.event, change.day)] if change else []
    return opened == [(SpanEvent.OPENED, evaluations[2].day)]


def test_cloud_the_band_between_and_repeats_change_nothing():
    assert survives_cloud_and_repeats(advance)


@pytest.mark.parametrize("mutant", [_unknown_counts_as_clear, _between_counts_as_clear, _forgets_the_days])
def test_without_a_protection_the_check_fails(mutant):
    assert not survives_cloud_and_repeats(mutant)


def test_everything_public_is_named():
    assert set(spans.__all__) == {"SpanChange", "SpanEvent", "SpanState", "advance", "open_spans"}
