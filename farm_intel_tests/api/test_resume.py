"""Nothing is missed, out of order or told twice, however often the connection is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm_intel_tests.api.resume import Trial, run_trial

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("events", [3_000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_events_survive_200_disconnects(tmp_path: Path, events: int) -> None:
    outcome = run_trial(Trial(database_url=f"sqlite:///{tmp_path}/store.db", events=events))

    assert (outcome.events, outcome.disconnects, outcome.faults) == (events, 200, 0), str(outcome)
    assert outcome.repeated > 0, "no client ever asked from further back: the dedupe was not tried"
    assert outcome.rolled_back > 0, "no number was ever given back: gaps were not tried"


@pytest.mark.nightly
@pytest.mark.xdist_group("postgresql")
def test_events_survive_disconnects_on_postgresql(fresh_postgres_url: str) -> None:
    outcome = run_trial(Trial(database_url=fresh_postgres_url, events=3000))

    assert (outcome.events, outcome.disconnects, outcome.faults) == (3000, 200, 0), str(outcome)


@pytest.mark.nightly
@pytest.mark.xdist_group("postgresql")
def test_the_trial_sees_a_plain_sequence_on_postgresql(fresh_postgres_url: str) -> None:
    outcome = run_trial(Trial(database_url=fresh_postgres_url, events=800, disconnects=25, users=1, mutant="sequence"))

    assert outcome.missed > 0, str(outcome)


@pytest.mark.nightly
@pytest.mark.parametrize("mutant", ["sequence", "newest", "skips"])
def test_the_trial_sees_each_fault(tmp_path: Path, mutant: str) -> None:
    """A number outside its transaction, the original's replay of the newest 50, and a cursor one too far."""
    outcome = run_trial(
        Trial(database_url=f"sqlite:///{tmp_path}/store.db", events=800, disconnects=25, users=1, mutant=mutant)
    )

    assert outcome.missed > 0, str(outcome)
