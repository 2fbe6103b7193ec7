"""After a day without a pump every date is done or says why not; and alerts speak while their best voice is dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm_intel_tests.chaos.outage import PLANS, LatestOnly, run_outages
from farm_intel_tests.chaos.voices import NoBreaker, run_voices


def test_a_day_later_every_date_is_there_under_every_policy(tmp_path: Path) -> None:
    found = run_outages(tmp_path)

    assert [outage for outage in found if outage.wrong] == []
    done = {(outage.plan, outage.policy): outage.states.get("done", 0) for outage in found}
    for plan, dates in PLANS.items():
        assert done[plan, "all"] == dates
        assert done[plan, "latest"] == 1
        assert done[plan, "none"] == 0


def test_a_generator_that_looks_no_further_back_is_found(tmp_path: Path) -> None:
    assert [outage for outage in run_outages(tmp_path, LatestOnly) if outage.wrong]


@pytest.mark.timeout(120)
def test_alerts_carry_audio_while_the_neural_voice_is_killed(tmp_path: Path) -> None:
    found = run_voices(tmp_path, alerts=40)

    assert found.faults == 0, found
    assert found.calls == found.periods == 4  # after 0, 5, 15 and 35 of 40 s


@pytest.mark.timeout(120)
def test_without_a_breaker_the_dead_voice_is_asked_for_every_alert(tmp_path: Path) -> None:
    assert run_voices(tmp_path, alerts=10, breaker=NoBreaker).calls == 10
