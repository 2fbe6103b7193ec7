"""The sweep over changed farms loses nothing and asks for nothing twice, however it is cut into runs."""

from __future__ import annotations

import random
from datetime import date, timedelta

import pytest

from farm_intel.defs.changes import Sweep, next_share, parse_sweep
from farm_intel.domain.errors import BadRequestError

FIRST = date(2026, 5, 1)


def days(first: int, last: int) -> tuple[date, date]:
    return FIRST + timedelta(days=first), FIRST + timedelta(days=last)


def everything(changed):
    return {
        (date.fromordinal(number), farm)
        for farm, (first, last) in changed.items()
        for number in range(first.toordinal(), last.toordinal() + 1)
    }


@pytest.mark.parametrize("seed", range(20))
def test_any_cut_asks_for_every_cell_once(seed):
    chance = random.Random(seed)
    farms = [f"f{n}" for n in range(8)]
    changed = {farm: days(a := chance.randrange(20), a + chance.randrange(15)) for farm in chance.sample(farms, 5)}
    limit = chance.randrange(1, 30)
    asked, sweep = [], Sweep(since="old")
    while sweep.since != "new":
        share = next_share(parse_sweep(sweep.cursor()), changed, farms, upto="new", busy=(), max_cells=limit)
        assert len(share.cells) <= limit
        asked += share.cells
        sweep = share.sweep

    assert len(asked) == len(set(asked))
    assert set(asked) == everything(changed)
    assert sweep == Sweep(since="new")


def test_a_farm_whose_days_are_being_worked_on_is_waited_for_and_those_before_it_are_not():
    changed = {"a": days(0, 1), "b": days(2, 4), "c": days(0, 0)}

    share = next_share(Sweep(), changed, ["a", "b", "c"], upto="9", busy=[FIRST + timedelta(days=3)], max_cells=99)
    later = next_share(share.sweep, changed, ["a", "b", "c"], upto="12", busy=(), max_cells=99)

    assert set(share.cells) == everything({"a": changed["a"]})
    assert share.waiting
    assert set(later.cells) == everything({"b": changed["b"], "c": changed["c"]})
    assert later.sweep == Sweep(since="9"), "what changed after the sweep began is the next sweep's"


def test_a_farm_that_disappears_in_the_middle_of_a_sweep_loses_nobody_else():
    changed = {"a": days(0, 3), "b": days(0, 3)}
    half = next_share(Sweep(), changed, ["a", "b"], upto="9", busy=(), max_cells=2)

    rest = next_share(half.sweep, changed, ["b"], upto="9", busy=(), max_cells=99)

    assert {farm for _, farm in half.cells} == {"a"}
    assert set(rest.cells) == everything({"b": changed["b"]})


@pytest.mark.parametrize("cursor", ["nonsense", "[1]", '{"colour": 1}'])
def test_a_foreign_cursor_is_refused(cursor):
    with pytest.raises(BadRequestError, match="no cursor"):
        parse_sweep(cursor)
