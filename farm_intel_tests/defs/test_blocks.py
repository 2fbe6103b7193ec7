"""Cells become the fewest blocks that cover exactly them."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from farm_intel.defs.blocks import group_cells, pack_days, plan_runs

DAY = date(2026, 5, 1)
FARMS = tuple(f"f{n:02d}" for n in range(10))


def days(*offsets: int) -> list[date]:
    return [DAY + timedelta(days=n) for n in offsets]


@given(st.sets(st.tuples(st.sampled_from(days(*range(6))), st.sampled_from(FARMS[:5]))))
def test_blocks_cover_every_cell_exactly_once(cells):
    covered = [(day, farm) for block in group_cells(cells) for day in block.days for farm in block.farm_ids]

    assert sorted(covered) == sorted(cells)


def test_days_with_the_same_farms_share_a_block_whatever_the_order():
    cells = [(DAY, "a"), (DAY, "b"), *((day, farm) for day in days(3, 1) for farm in ("b", "a"))]

    (block,) = group_cells(cells)

    assert tuple(days(0, 1, 3)) == block.days
    assert block.farm_ids == ("a", "b")


def test_full_rows_on_consecutive_days_share_a_run_up_to_the_limit():
    due = dict.fromkeys(days(0, 1, 2, 5), FARMS)

    plan = plan_runs(due, FARMS, max_cells=20, rows_allowed=due)

    assert [(DAY, DAY + timedelta(days=1)), *[(d, d) for d in days(2, 5)]] == [(r.start, r.end) for r in plan.rows]
    assert plan.leftovers == ()


def test_a_row_larger_than_the_limit_is_not_split_because_its_scenes_would_be_read_twice():
    plan = plan_runs({DAY: FARMS}, FARMS, max_cells=3, rows_allowed=[DAY])

    assert [(row.start, row.end) for row in plan.rows] == [(DAY, DAY)]


def test_sparse_days_short_cohorts_and_days_without_partitions_go_to_the_cells_job():
    sparse = plan_runs({DAY: FARMS[:4]}, FARMS, max_cells=100, rows_allowed=[DAY])
    short = plan_runs({DAY: FARMS[:3]}, FARMS[:3], max_cells=100, rows_allowed=[DAY])
    outside = plan_runs({DAY: FARMS}, FARMS, max_cells=100, rows_allowed=())

    assert [plan.rows for plan in (sparse, short, outside)] == [(), (), ()]
    assert [len(plan.leftovers[0]) for plan in (sparse, short, outside)] == [4, 3, 10]


@given(st.lists(st.integers(1, 12), max_size=8), st.integers(1, 15))
def test_bins_keep_order_and_limit_and_split_only_days_that_exceed_it(sizes, limit):
    rows = [(DAY + timedelta(days=n), [f"f{i}" for i in range(size)]) for n, size in enumerate(sizes)]

    bins = pack_days(rows, limit)

    assert [(day, farm) for day, farms in rows for farm in farms] == [cell for cells in bins for cell in cells]
    assert all(len(cells) <= limit for cells in bins)
    for day, farms in rows:
        if len(farms) <= limit:
            assert sum(any(cell[0] == day for cell in cells) for cells in bins) == 1
