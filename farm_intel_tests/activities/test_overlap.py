"""The overlap policies against a small simulation of what Temporal's documentation says, and against mutants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.activities import overlap
from farm_intel.activities.overlap import Ruling, Unsettled, rule_on
from farm_intel.domain.activities import OccurrenceState, Overlap
from farm_intel_tests.activities.kit import START

type Rule = Callable[[Overlap, Sequence[Unsettled]], Ruling]

_STATES = [OccurrenceState.DUE, OccurrenceState.RUNNING, OccurrenceState.WAITING]


def by_the_book(policy: Overlap, unsettled: Sequence[Unsettled], ruling: Ruling) -> None:
    """Hold a ruling against each policy's sentence in Temporal's documentation."""
    others = {other.due_at for other in unsettled}
    running = {other.due_at for other in unsettled if other.state is OccurrenceState.RUNNING}
    touched = {*ruling.skipped, *ruling.told_to_stop, *ruling.terminated}
    match policy:
        case Overlap.SKIP:  # "nothing happens; the action is not started"
            assert bool(ruling.reason) == bool(unsettled)
            assert not touched
        case Overlap.BUFFER_ONE:  # "starts as soon as the current one completes; the buffer holds one"
            assert bool(ruling.reason) == (len(unsettled) > 1)
            assert not touched
        case Overlap.BUFFER_ALL | Overlap.ALLOW_ALL:
            assert ruling == Ruling()
        case Overlap.CANCEL_OTHER:  # "cancels the running one, then starts the new one"
            assert not ruling.reason
            assert set(ruling.told_to_stop) == running
            assert set(ruling.skipped) == others - running
            assert not ruling.terminated
        case Overlap.TERMINATE_OTHER:  # "terminates the running one and starts the new one immediately"
            assert not ruling.reason
            assert set(ruling.terminated) == running
            assert set(ruling.skipped) == others - running
            assert not ruling.told_to_stop


def check(rule: Rule) -> None:
    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(policy=st.sampled_from(Overlap), states=st.lists(st.sampled_from(_STATES), max_size=4))
    def holds(policy: Overlap, states: list[OccurrenceState]) -> None:
        unsettled = [
            Unsettled(due_at=START + timedelta(hours=number), state=state) for number, state in enumerate(states)
        ]
        by_the_book(policy, unsettled, rule(policy, unsettled))

    holds()


def test_the_policies_are_those_of_temporal() -> None:
    check(rule_on)


def _never_skips(policy: Overlap, unsettled: Sequence[Unsettled]) -> Ruling:
    return Ruling() if policy is Overlap.SKIP else rule_on(policy, unsettled)


def _buffers_two(policy: Overlap, unsettled: Sequence[Unsettled]) -> Ruling:
    return rule_on(policy, unsettled[1:] if policy is Overlap.BUFFER_ONE else unsettled)


def _cancels_only_running(policy: Overlap, unsettled: Sequence[Unsettled]) -> Ruling:
    ruling = rule_on(policy, unsettled)
    return Ruling(reason=ruling.reason, told_to_stop=ruling.told_to_stop, terminated=ruling.terminated)


def _terminates_for_cancel(policy: Overlap, unsettled: Sequence[Unsettled]) -> Ruling:
    return rule_on(Overlap.TERMINATE_OTHER if policy is Overlap.CANCEL_OTHER else policy, unsettled)


@pytest.mark.parametrize("mutant", [_never_skips, _buffers_two, _cancels_only_running, _terminates_for_cancel])
def test_a_wrong_policy_is_noticed(mutant: Rule) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_reasons_are_stable_words() -> None:
    waiting = [Unsettled(due_at=START, state=OccurrenceState.WAITING)] * 2
    assert overlap.rule_on(Overlap.SKIP, waiting).reason == "overlap: skip"
    assert overlap.rule_on(Overlap.BUFFER_ONE, waiting).reason == "overlap: buffer_one"
