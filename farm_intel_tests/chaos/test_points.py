"""There is no system call after which a crash, or in which an error, leaves anything half done."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm_intel_tests.chaos.points import LANES, can_trace, run_points

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not trace here"),
]


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_every_crash_point_of_an_occurrence_and_a_delivery_is_recovered_from(tmp_path: Path) -> None:
    found = run_points(tmp_path, errors=())

    assert found.violations == []
    struck = {(lane, call) for lane, call, _ in found.points}
    assert {lane for lane, _ in struck} == set(LANES)
    assert {("occurrence", "pwrite64"), ("delivery", "write"), ("voice", "fsync"), ("voice", "rename")} <= struck
    assert found.struck == sum(found.points.values()) > 100
    assert found.repeated > 0, "no kill fell between a delivery and its record: this test has lost its aim"


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_an_error_at_any_call_is_typed_and_healed(tmp_path: Path) -> None:
    found = run_points(tmp_path, lanes=("voice",))

    assert found.violations == []
    assert found.count("EIO") == found.count("ENOSPC") > 20
    assert found.typed > 30


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mutant", "lane", "what"),
    [
        ("mark", "occurrence", "the mark is past the date and there are 0 rows"),
        ("outbox", "occurrence", "has 0 messages"),
        ("sent", "delivery", "nothing arrived"),
    ],
)
def test_without_its_protection_some_point_shows_it(tmp_path: Path, mutant: str, lane: str, what: str) -> None:
    found = run_points(tmp_path, mutant=mutant, lanes=(lane,), errors=())

    assert what in "; ".join(found.violations)
