"""The page tells the design from its mutants, and a number that is missed from one that is reached."""

from __future__ import annotations

from farm_intel_tests.chaos.page import page
from farm_intel_tests.chaos.trials import Line
from tools import chaos


def test_designs_and_mutants_stand_apart_and_failures_stand_out() -> None:
    good = Line(trial="kills", what="the design", wanted="0 lost", measured="0 lost", right=True)
    bad = Line(trial="kills", what="no fence", wanted="losses are found", measured="none", right=False)

    design, mutants = page([good, bad], quick=True, seconds=60).split("## Mutants")

    assert "| kills | the design | 0 lost | 0 lost | pass |" in design
    assert "| kills | no fence | losses are found | none | **FAIL** |" in mutants
    assert "1 results of the design and 1 of mutants" in design
    assert "1 not as wanted" in design


def test_the_command_ends_with_the_verdict(capsys) -> None:
    assert chaos.main(["--trials", "outage", "--json"]) == 0

    told = capsys.readouterr()
    assert '"measured": "144 rows: 144 done; 0 without a reason; 144 told"' in told.out
    assert "all is right" in told.err
