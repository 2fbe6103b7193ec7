"""Processes that die at random moments lose nothing and do nothing twice; without each protection they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm_intel_tests.chaos.kills import KillTrial, Verdict, run_trial

pytestmark = pytest.mark.slow


def killed(tmp_path: Path, *, mutant: str = "", url: str = "", slow: float = 0.02) -> Verdict:
    trial = KillTrial(
        url=url or f"sqlite:///{tmp_path}/store.db",
        folder=str(tmp_path),
        mutant=mutant,
        kills=30,
        activities=8,
        each=10,
        slow=slow,
    )
    return run_trial(trial)


@pytest.mark.timeout(120)
def test_thirty_kills_lose_nothing_and_double_nothing(database_url: str, tmp_path: Path) -> None:
    found = killed(tmp_path, url=database_url)

    assert found.faults == 0, found
    assert (found.executed, found.states) == (80, {"done": 80})
    assert found.kills == 30
    assert found.retaken + found.resent > 0, "no kill met anybody at work: this test has lost its aim"


@pytest.mark.nightly
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("mutant", "fault"),
    [
        ("fence", "doubled"),
        ("mark", "lost"),
        ("outbox", "untold"),
        ("lease", "lost"),
        ("sent", "undelivered"),
    ],
)
def test_without_its_protection_it_shows(tmp_path: Path, mutant: str, fault: str) -> None:
    found = killed(tmp_path, mutant=mutant, slow=0.15 if mutant == "fence" else 0.02)

    assert getattr(found, fault) > 0, found
