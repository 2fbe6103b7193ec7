"""The whole trial, and trials that have to fail: without a drought, and with an alert that nobody acknowledges."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from farm_intel.domain.alerts import AlertState, Severity
from farm_intel.speech.pcm import to_wav
from farm_intel.speech.tone import melody
from tools.trial import ACKNOWLEDGE, Trial, run_trial
from tools.trial_people import as_said, hear
from tools.trial_record import Record
from tools.trial_season import DROUGHT

SHORT = 62
"""Days: the alert opens on the 56th."""


def failed(record: Record) -> set[str]:
    return {check.name for check in record.checks if not check.held}


@pytest.mark.slow
def test_a_drought_is_told_heard_answered_and_over_after_the_rain(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"

    record = run_trial(tmp_path / "home", picture=picture)

    assert failed(record) == set(), record.verdicts()
    assert len(record.checks) >= 30
    marks = {line.mark: line.at.date() for line in record.lines if line.mark}
    rain = DROUGHT.start + timedelta(days=DROUGHT.dry_from_day + DROUGHT.dry_days)
    assert list(marks) == ["opened", "reminder", "agronomist called in", "acknowledged", "watered, 25 mm", "resolved"]
    assert date(2026, 2, 18) < marks["opened"] <= marks["acknowledged"] < rain < marks["resolved"]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
@pytest.mark.slow
def test_without_a_drought_nobody_is_told_and_the_trial_fails(tmp_path: Path) -> None:
    record = run_trial(tmp_path, Trial(options=replace(DROUGHT, dry_farm="", days=SHORT)))

    assert failed(record) == {"the drought opens an alert"}


@pytest.mark.nightly
@pytest.mark.slow
def test_an_alert_nobody_acknowledges_takes_its_next_step_and_the_trial_fails(tmp_path: Path) -> None:
    trial = Trial(options=replace(DROUGHT, days=SHORT), left_out=frozenset({ACKNOWLEDGE}))

    record = run_trial(tmp_path, trial)

    assert failed(record) == {"acknowledged: no further step", "the alert resolves after the rain"}
    found = next(check for check in record.checks if check.name == "acknowledged: no further step")
    assert found.detail.startswith(AlertState.ESCALATED.value)


def test_what_is_not_speech_is_not_understood() -> None:
    tone = to_wav(melody(Severity.CRITICAL))

    assert hear(tone, "Frost tonight. Cover the beans.", {}).word_error_rate >= 0.8


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("on 28 February 2026", "on the twenty eighth of February 2026"),
        ("on 1 May", "on the first of May"),
        ("on 20 March and 31 March", "on the twentieth of March and the thirty first of March"),
        ("30 June, 19 June", "the thirtieth of June, the nineteenth of June"),
        ("farm F003", "farm F zero zero three"),
        ("28 days, 25 mm", "28 days, 25 mm"),
    ],
)
def test_dates_and_names_are_written_as_voices_say_them(written: str, said: str) -> None:
    assert as_said(written) == said
