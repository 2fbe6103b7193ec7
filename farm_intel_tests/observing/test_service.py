"""The use case: what is computed, what is left alone, what is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from shapely import to_wkb
from shapely.geometry import box

from farm_intel.domain.batches import FarmDayBatch, Verdict
from farm_intel.domain.errors import BadRequestError, CellsFailedError, SceneProblemKind, UnknownNameError
from farm_intel.domain.geo import BBox
from farm_intel.domain.observations import CoverageDay, ObservationStatus
from farm_intel.domain.quality import QualityRule
from farm_intel.domain.scenes import Scene, SceneProblem
from farm_intel.indices.registry import load_registry
from farm_intel.observing.model import ObserveRequest
from farm_intel.observing.service import CALENDAR_ROWS, ImageryProvider, ObservingService
from farm_intel_tests.support.fakes import (
    PROFILE,
    FakeCatalog,
    FakeEngine,
    FakeFarmStore,
    FakeObservationStore,
    FixedClock,
    make_farm,
    make_scene,
)

TILE = BBox(west=35.9, south=-1.1, east=36.9, north=-0.1)
FIRST = date(2026, 6, 1)
DAYS = tuple(FIRST + timedelta(days=n) for n in range(10))


def scene_on(day: date, scene_id: str = "", **changes: object) -> Scene:
    moment = datetime(day.year, day.month, day.day, 7, 41, tzinfo=UTC)
    return make_scene(scene_id or f"S2_{day:%Y%m%d}", moment, TILE, **changes)


class World:
    """A service over fakes, and the things to turn."""

    def __init__(self, scenes: list[Scene] | None = None) -> None:
        self.farm_store = FakeFarmStore([make_farm("a"), make_farm("b", west=36.1), make_farm("far", west=50.0)])
        self.catalog = FakeCatalog(scenes if scenes is not None else [scene_on(DAYS[0]), scene_on(DAYS[5])])
        self.store = FakeObservationStore()
        self.engine = FakeEngine()
        self.service = ObservingService(
            providers={
                "stac": ImageryProvider(name="stac", catalog=self.catalog, profile=PROFILE, engine=lambda: self.engine)
            },
            farms=self.farm_store,
            store=self.store,
            registry=load_registry(),
            clock=FixedClock(),
            rule=QualityRule(),
            rules_text="rules",
        )

    def request(self, **changes: object) -> ObserveRequest:
        request = ObserveRequest(
            provider="stac",
            collection="sentinel-2-l2a",
            indices=("ndvi", "savi"),
            farm_ids=("a", "b"),
            days=DAYS,
        )
        return replace(request, **changes)  # type: ignore[arg-type]  # fields by name

    def observe(self, **changes: object) -> list[tuple[str, str, date, bool]]:
        outcomes = self.service.observe(self.request(**changes), run_id="run")
        return [(o.key.farm_id, o.key.index, o.key.solar_day, o.recomputed) for o in outcomes]


def test_every_cell_with_a_scene_is_told_once() -> None:
    world = World()

    told = world.observe()

    assert sorted(told) == sorted(
        (farm, slug, day, True) for farm in "ab" for slug in ("ndvi", "savi") for day in (DAYS[0], DAYS[5])
    )
    assert world.engine.calls == [(("ndvi", "savi"), (DAYS[0], DAYS[5]), ("a", "b"))]


def test_the_same_request_again_reads_nothing_and_changes_nothing() -> None:
    world = World()
    world.observe()
    rows = dict(world.store.rows)

    told = world.observe()

    assert all(not recomputed for *_, recomputed in told)
    assert len(told) == 8
    assert len(world.engine.calls) == 1
    assert world.store.rows == rows


def test_a_reprocessed_scene_makes_exactly_its_cells_stale() -> None:
    world = World()
    world.observe()
    world.catalog.scenes[0] = replace(world.catalog.scenes[0], updated="2026-02-02")

    told = world.observe()

    assert {day for *_, day, recomputed in told if recomputed} == {DAYS[0]}


def test_a_boundary_edit_makes_exactly_that_farm_stale() -> None:
    world = World()
    world.observe()
    world.farm_store.farms[0] = replace(world.farm_store.farms[0], boundary_hash="edited", boundary_version=2)

    told = world.observe()

    assert {farm for farm, _, _, recomputed in told if recomputed} == {"a"}


def test_one_more_index_is_computed_alone() -> None:
    world = World()
    world.observe()

    world.observe(indices=("ndvi", "savi", "evi2"))

    assert world.engine.calls[1][0] == ("evi2",)


def test_force_computes_everything_again() -> None:
    world = World()
    world.observe()

    assert all(recomputed for *_, recomputed in world.observe(force=True))


def test_days_without_a_scene_go_to_the_calendar_and_are_not_told() -> None:
    world = World()
    world.observe()

    day = world.store.days["a", DAYS[1]]

    assert day.status is ObservationStatus.NO_ACQUISITION
    assert ("a", DAYS[0]) not in world.store.days


def test_today_is_not_written_off() -> None:
    world = World([])

    world.observe(days=(date(2026, 6, 29), date(2026, 6, 30), date(2026, 7, 1)))

    assert set(world.store.days) == {("a", date(2026, 6, 29)), ("b", date(2026, 6, 29))}


def test_a_farm_beside_the_swath_is_outside_and_not_read() -> None:
    swath = to_wkb(box(36.05, -1.1, 36.9, -0.1))
    world = World([scene_on(DAYS[0], footprint_wkb=swath)])

    told = world.observe()

    assert {farm for farm, *_ in told} == {"b"}
    assert world.store.days["a", DAYS[0]].status is ObservationStatus.OUTSIDE_FOOTPRINT


def test_a_farm_no_scene_covers_costs_no_read() -> None:
    world = World()

    assert world.observe(farm_ids=("far",)) == []
    assert world.engine.calls == []


def test_a_read_that_may_succeed_later_fails_its_cell_only_and_is_due_again() -> None:
    world = World()
    verdict = Verdict(status=ObservationStatus.PROVIDER_FAILED, reason="503", transient=True)
    world.engine.verdicts[DAYS[5], "b"] = verdict
    told = []

    with pytest.raises(CellsFailedError, match="2 of 8 cells") as caught:
        told.extend(world.service.observe(world.request(), run_id="run"))

    assert len(told) == 6
    assert set(caught.value.failures) == {f"{DAYS[5]}|b|ndvi", f"{DAYS[5]}|b|savi"}
    world.engine.verdicts.clear()
    assert {(farm, day) for farm, _, day, recomputed in world.observe() if recomputed} == {("b", DAYS[5])}


class HastyEngine(FakeEngine):
    """Some numbers of this engine lack a scene that could not be read for now."""

    lacking: frozenset[str] = frozenset()

    def run(self, *args: Any, **options: Any) -> Iterator[FarmDayBatch]:
        for batch in super().run(*args, **options):
            reasons = tuple("503" if farm_id in self.lacking else "" for farm_id in batch.farm_ids)
            yield replace(batch, retry_reasons=reasons)


def test_a_number_that_lacks_a_scene_is_kept_and_due_until_the_scene_was_read() -> None:
    world = World()
    world.engine = engine = HastyEngine()
    engine.lacking = frozenset({"b"})

    assert len(world.observe()) == 8
    stored = {key.farm_id: row.statistics for key, row in world.store.rows.items()}
    assert stored["b"] is not None
    for _ in range(2):
        assert {farm for farm, *_, recomputed in world.observe() if recomputed} == {"b"}
    engine.lacking = frozenset()
    assert {farm for farm, *_, recomputed in world.observe() if recomputed} == {"b"}
    assert not [farm for farm, *_, recomputed in world.observe() if recomputed]


class CountingStore(FakeObservationStore):
    """Tells how many calendar days were written at once."""

    def record_days(self, days: Sequence[CoverageDay]) -> None:
        self.sizes = [*getattr(self, "sizes", []), len(days)]
        super().record_days(days)


def test_the_calendar_of_many_years_is_written_in_pieces() -> None:
    world = World([scene_on(DAYS[0])])
    world.service.store = store = CountingStore()
    past = tuple(FIRST - timedelta(days=n) for n in range(11_000, 0, -1))

    world.observe(days=past)

    assert sum(store.sizes) == len(store.days) == 22_000
    assert max(store.sizes) <= CALENDAR_ROWS


def test_an_unusable_scene_is_an_answer_and_not_a_failure() -> None:
    world = World()
    world.engine.verdicts[DAYS[5], "b"] = Verdict(status=ObservationStatus.REJECTED, reason="radiometry undecided")

    outcomes = list(world.service.observe(world.request(), run_id="run"))

    assert [o.reason for o in outcomes if o.status is ObservationStatus.REJECTED] == ["radiometry undecided"] * 2


def test_due_names_the_farms_of_each_day_that_lack_a_cell() -> None:
    world = World()
    world.observe(farm_ids=("a",))

    due = world.service.due(
        provider="stac",
        collection="sentinel-2-l2a",
        farm_ids=("a", "b"),
        indices=("ndvi",),
        days=DAYS,
    )

    assert due.by_day == {DAYS[0]: ("b",), DAYS[5]: ("b",)}
    assert world.store.days["b", DAYS[1]].status is ObservationStatus.NO_ACQUISITION
    assert len(set(due.scene_set_hash.values())) == 2


def test_explain_reads_no_pixels() -> None:
    world = World()

    explanation = world.service.explain(world.request())

    assert (explanation.scenes, explanation.cells, explanation.cells_to_compute) == (2, 8, 8)
    assert explanation.per_day == ((DAYS[0], 1, 4), (DAYS[5], 1, 4))
    assert world.engine.calls == []


def test_unknown_names_are_told_with_what_there_is() -> None:
    world = World()
    with pytest.raises(UnknownNameError, match="no farm nope"):
        world.observe(farm_ids=("nope",))
    with pytest.raises(UnknownNameError, match="Configured: stac"):
        world.observe(provider="other")
    with pytest.raises(BadRequestError):
        world.observe(days=())


def test_items_that_cannot_be_read_are_not_called_no_acquisition() -> None:
    """A dead link hides what was taken and when: the day stays open, with its reason."""
    world = World()
    dead = SceneProblem(scene_id="lost", kind=SceneProblemKind.NOT_FOUND, detail="the item file is not there")
    world.catalog.problems = (dead,)

    world.observe()
    day = world.store.days["a", DAYS[1]]

    assert day.status is ObservationStatus.PROVIDER_FAILED
    assert "lost" in day.reason
    assert world.service.problems == (str(dead),)
