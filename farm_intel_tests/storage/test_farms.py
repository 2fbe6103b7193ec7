"""Farms in the store: versions, edits, removal and cohorts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.storage.database import migrate, open_database
from farm_intel.storage.farm_boundaries import BoundaryChecker
from farm_intel.storage.farm_drafts import FarmDraft, FarmLimits, ImportReport
from farm_intel.storage.farm_files import read_farm_file, zone_at
from farm_intel.storage.farms import SqlFarmStore, deal_cohorts

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
CHECKER = BoundaryChecker(pyproj.CRS.from_epsg(4326), FarmLimits())
SI_2021 = Path("../shared/data/fields/SI_2021.zip")


def draft(farm_id: str, *, lon: float = 37.0, lat: float = -0.5, size: float = 0.01, **changes: Any) -> FarmDraft:
    boundary = CHECKER.check(shapely.box(lon, lat, lon + size, lat + size))
    zone = zone_at(boundary.longitude_deg, boundary.latitude_deg)
    return replace(FarmDraft(farm_id=farm_id, boundary=boundary, time_zone=zone), **changes)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    migrate(database)
    yield database
    database.dispose()


@pytest.fixture
def store(engine: Engine) -> SqlFarmStore:
    return SqlFarmStore(engine)


def test_a_new_farm_reads_back_whole(store: SqlFarmStore) -> None:
    wanted = draft("a", name="North", crop="maize", planting_date=date(2026, 3, 1))

    assert store.import_drafts([wanted], now=NOW) == ImportReport(added=("a",))

    farm, boundary = store.get("a"), wanted.boundary
    assert (farm.name, farm.crop, farm.planting_date) == ("North", "maize", date(2026, 3, 1))
    assert (farm.boundary_wkb, farm.boundary_hash, farm.boundary_version) == (boundary.wkb, boundary.sha, 1)
    assert (farm.bbox, farm.area_ha) == (boundary.bbox, boundary.area_ha)
    assert (farm.longitude_deg, farm.latitude_deg) == (boundary.longitude_deg, boundary.latitude_deg)
    assert (farm.time_zone, farm.home_tile, farm.cohort) == ("Africa/Nairobi", "37MBV", "main")
    assert farm.active
    assert farm.created_at == NOW


def test_a_farm_without_a_name_is_called_by_its_id(store: SqlFarmStore) -> None:
    store.import_drafts([draft("a")], now=NOW)

    assert store.get("a").name == "a"


def test_the_same_import_twice_changes_nothing(store: SqlFarmStore) -> None:
    drafts = [draft("a", crop="maize"), draft("b", lon=37.1)]
    store.import_drafts(drafts, now=NOW)
    before = store.list()

    assert store.import_drafts(drafts, now=LATER) == ImportReport(unchanged=("a", "b"))
    assert store.list() == before


def test_a_boundary_edit_is_a_version_and_the_old_one_stays(store: SqlFarmStore) -> None:
    first, second = draft("a"), draft("a", size=0.02)
    store.import_drafts([first], now=NOW)

    assert store.import_drafts([second], now=LATER) == ImportReport(updated=("a",))
    farm = store.get("a")
    assert (farm.boundary_version, farm.boundary_hash, farm.created_at) == (2, second.boundary.sha, NOW)
    versions = store.versions("a")
    assert [(v.version, v.boundary_hash, v.created_at) for v in versions] == [
        (1, first.boundary.sha, NOW),
        (2, second.boundary.sha, LATER),
    ]
    assert versions[0].boundary_wkb == first.boundary.wkb


def test_going_back_to_an_old_boundary_is_a_version_too(store: SqlFarmStore) -> None:
    for size in (0.01, 0.02, 0.01):
        store.import_drafts([draft("a", size=size)], now=NOW)

    versions = store.versions("a")
    assert [v.version for v in versions] == [1, 2, 3]
    assert versions[0].boundary_hash == versions[2].boundary_hash == store.get("a").boundary_hash


@pytest.mark.parametrize(
    "change",
    [
        {"name": "South"},
        {"crop": "beans"},
        {"planting_date": date(2026, 4, 1)},
        {"time_zone": "Africa/Kampala", "time_zone_given": True},
    ],
)
def test_an_attribute_edit_is_no_version(store: SqlFarmStore, change: dict[str, Any]) -> None:
    store.import_drafts([draft("a", name="North", crop="maize")], now=NOW)

    assert store.import_drafts([draft("a", **change)], now=LATER) == ImportReport(edited=("a",))
    farm = store.get("a")
    assert farm.boundary_version == 1
    for name, value in change.items():
        if name != "time_zone_given":
            assert getattr(farm, name) == value


def test_what_a_file_does_not_say_stays(store: SqlFarmStore) -> None:
    full = draft("a", name="North", crop="maize", planting_date=date(2026, 3, 1), time_zone="UTC", time_zone_given=True)
    store.import_drafts([full], now=NOW)

    assert store.import_drafts([draft("a")], now=LATER).unchanged == ("a",)
    farm = store.get("a")
    assert (farm.name, farm.crop, farm.planting_date, farm.time_zone) == ("North", "maize", date(2026, 3, 1), "UTC")


def test_a_derived_zone_follows_the_boundary_and_a_given_one_stays(store: SqlFarmStore) -> None:
    given = draft("given", time_zone="UTC", time_zone_given=True)
    store.import_drafts([draft("derived"), given], now=NOW)
    store.import_drafts([draft("derived", lon=-4.87, lat=41.7), draft("given", lon=-4.87, lat=41.7)], now=LATER)

    assert store.get("derived").time_zone == "Europe/Madrid"
    assert store.get("derived").home_tile == "30TUM"
    assert store.get("given").time_zone == "UTC"


def test_removed_farms_are_hidden_kept_and_come_back_with_their_history(store: SqlFarmStore) -> None:
    store.import_drafts([draft("a"), draft("b", lon=37.1)], now=NOW)
    store.remove("a")
    store.remove("a")

    assert [farm.farm_id for farm in store.list()] == ["b"]
    assert [farm.farm_id for farm in store.list(include_inactive=True)] == ["a", "b"]
    assert not store.get("a").active
    assert len(store.versions("a")) == 1

    assert store.import_drafts([draft("a")], now=LATER) == ImportReport(reactivated=("a",))
    assert store.get("a").active
    store.remove("a")
    changed = store.import_drafts([draft("a", size=0.02)], now=LATER)
    assert changed == ImportReport(updated=("a",), reactivated=("a",))
    assert store.get("a").boundary_version == 2


def test_unknown_farms_are_named(store: SqlFarmStore) -> None:
    for call in (store.get, store.versions, store.remove):
        with pytest.raises(UnknownNameError, match="'nope'"):
            call("nope")


def test_an_import_is_all_or_nothing(store: SqlFarmStore) -> None:
    with pytest.raises(BadRequestError, match="more than once"):
        store.import_drafts([draft("a"), draft("b"), draft("a")], now=NOW)

    assert store.list() == []


def test_lists_keep_the_farms_of_a_tile_together(store: SqlFarmStore) -> None:
    store.import_drafts([draft("z"), draft("m", lon=-4.87, lat=41.7), draft("a", lon=37.1)], now=NOW)

    assert [(farm.home_tile, farm.farm_id) for farm in store.list()] == [
        ("30TUM", "m"),
        ("37MBV", "a"),
        ("37MBV", "z"),
    ]


@pytest.mark.skipif(not SI_2021.is_file(), reason="the shared data folder is not here")
def test_a_real_file_imports_in_one_go_and_again_as_unchanged(store: SqlFarmStore) -> None:
    drafts = read_farm_file(SI_2021, FarmLimits()).farms

    assert len(store.import_drafts(drafts, now=NOW).added) == 100
    assert len(store.import_drafts(drafts, now=LATER).unchanged) == 100
    assert len(store.list()) == 100


# --- cohorts -----------------------------------------------------------------------------------------------------


def cohorts(store: SqlFarmStore) -> dict[str, str]:
    return {farm.farm_id: farm.cohort for farm in store.list(include_inactive=True)}


def test_one_cohort_while_all_fit_then_new_farms_by_tile_and_nobody_moves(store: SqlFarmStore) -> None:
    store.import_drafts([draft("a"), draft("b", lon=37.1)], now=NOW)
    assert store.assign_cohorts(3) == {"main": 2}

    store.import_drafts([draft("c"), draft("d"), draft("e"), draft("f"), draft("m", lon=-4.87, lat=41.7)], now=NOW)
    assert store.assign_cohorts(3) == {"main": 2, "37MBV": 3, "37MBV_2": 1, "30TUM": 1}
    before = cohorts(store)
    assert [before[name] for name in "abcdefm"] == ["main", "main", "37MBV", "37MBV", "37MBV", "37MBV_2", "30TUM"]
    assert [farm.farm_id for farm in store.list(cohort="37MBV")] == ["c", "d", "e"]

    store.remove("c")
    store.import_drafts([draft("g")], now=LATER)
    store.assign_cohorts(3)
    assert cohorts(store) == before | {"g": "37MBV_2"}


def test_farms_without_a_cohort_yet_read_as_main(store: SqlFarmStore) -> None:
    store.import_drafts([draft("a")], now=NOW)

    assert [farm.cohort for farm in store.list(cohort="main")] == ["main"]


def test_only_a_reshuffle_moves_farms(store: SqlFarmStore) -> None:
    store.import_drafts([draft(name) for name in "abcd"], now=NOW)
    store.assign_cohorts(4)
    assert store.assign_cohorts(2) == {"main": 4}

    assert store.assign_cohorts(2, reshuffle=True) == {"37MBV": 2, "37MBV_2": 2}
    assert store.assign_cohorts(9, reshuffle=True) == {"main": 4}
    with pytest.raises(BadRequestError, match="0 farms"):
        store.assign_cohorts(0)


@given(
    st.lists(st.lists(st.tuples(st.uuids().map(str), st.sampled_from("ABC")), max_size=12), max_size=6),
    st.integers(1, 5),
)
def test_cohorts_are_stable_full_at_most_and_of_one_tile(imports: list[list[tuple[str, str]]], max_size: int) -> None:
    assigned: dict[str, str] = {}
    tiles: dict[str, str] = {}
    for farms in imports:
        sizes: dict[str, int] = {}
        for cohort in assigned.values():
            sizes[cohort] = sizes.get(cohort, 0) + 1
        dealt = deal_cohorts(sizes, sorted(farms, key=lambda farm: (farm[1], farm[0])), max_size)
        assert not set(dealt) & set(assigned)
        assigned |= dealt
        tiles |= dict(farms)

    members: dict[str, set[str]] = {}
    for farm_id, cohort in assigned.items():
        members.setdefault(cohort, set()).add(farm_id)
    assert set(assigned) == set(tiles)
    for cohort, farm_ids in members.items():
        assert len(farm_ids) <= max_size
        if cohort != "main":
            assert {tiles[farm_id] for farm_id in farm_ids} == {cohort.split("_")[0]}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.01, 0.02, None])), max_size=8))
def test_versions_count_exactly_the_boundary_changes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float | None]]
) -> None:
    """Any order of imports and removals; a model of three lines knows the version."""
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('model') / 'store.db'}")
    migrate(database)
    store = SqlFarmStore(database)
    history: dict[str, list[float]] = {}
    active: dict[str, bool] = {}
    for farm_id, size in steps:
        if size is None:
            if farm_id in history:
                store.remove(farm_id)
                active[farm_id] = False
            continue
        store.import_drafts([draft(farm_id, size=size)], now=NOW)
        active[farm_id] = True
        if history.setdefault(farm_id, [])[-1:] != [size]:
            history[farm_id].append(size)
    seen = {farm.farm_id: (farm.boundary_version, farm.active) for farm in store.list(include_inactive=True)}
    database.dispose()

    assert seen == {farm_id: (len(sizes), active[farm_id]) for farm_id, sizes in history.items()}
