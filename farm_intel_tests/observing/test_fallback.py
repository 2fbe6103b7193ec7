"""Who is asked when a provider cannot answer, for what, and how it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from farm_intel.domain.batches import FarmDayBatch, Verdict
from farm_intel.domain.errors import (
    BadRequestError,
    BudgetExceededError,
    CellsFailedError,
    DeadlineExceededError,
    FarmIntelError,
    NotConfiguredError,
    ProviderDownError,
    TransientError,
    UnknownNameError,
)
from farm_intel.domain.geo import BBox
from farm_intel.domain.observations import Flag, Observation, ObservationStatus
from farm_intel.domain.quality import QualityRule
from farm_intel.domain.scenes import SceneQuery, SceneSearch
from farm_intel.indices.registry import load_registry
from farm_intel.observing.fallback import Switch, observe_in_order
from farm_intel.observing.model import CellOutcome, ObserveRequest
from farm_intel.observing.service import ImageryProvider, ObservingService
from farm_intel.resilience import deadlines
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
DAYS = tuple(date(2026, 6, 1) + timedelta(days=n) for n in range(10))
RED_EDGE_OF = {"one": {"rededge071": "rededge1"}}
ONE, TWO, THREE = ("one", "s2"), ("two", "s2-mirror"), ("three", "landsat")


@dataclass
class Catalog(FakeCatalog):
    """Breaks where it is told to; takes its time where it is told to."""

    error: FarmIntelError | None = None
    takes_s: float = 0.0
    hangs: bool = False
    """Comes back when the caller's time is up, as a guarded call does."""
    left_s: list[float | None] = field(default_factory=list)

    def search(self, query: SceneQuery) -> SceneSearch:
        self.left_s.append(deadlines.remaining_s())
        if self.hangs:
            time.sleep(deadlines.remaining_s() or 0.0)
            raise DeadlineExceededError("no time is left for the search")
        time.sleep(self.takes_s)
        found = FakeCatalog.search(self, query)
        if self.error is not None:
            raise self.error
        return found


@dataclass
class Engine(FakeEngine):
    """Breaks off before a day."""

    breaks: tuple[date, FarmIntelError] | None = None

    def run(self, *args: Any, **options: Any) -> Iterator[FarmDayBatch]:
        for batch in FakeEngine.run(self, *args, **options):
            if self.breaks is not None and batch.solar_day == self.breaks[0]:
                raise self.breaks[1]
            yield batch


class Store(FakeObservationStore):
    """Keeps providers apart."""

    def observations(self, **query: Any) -> Iterator[Observation]:
        rows = FakeObservationStore.observations(self, **query)
        return (row for row in rows if row.key.provider == query["provider"])


class World:
    """Three providers over fakes; the third sees other days, and only the first has a red edge."""

    def __init__(self) -> None:
        self.catalogs = {
            "one": self._catalog("one", (0, 5)),
            "two": self._catalog("two", (0, 5)),
            "three": self._catalog("three", (5, 7)),
        }
        self.engines = {name: Engine() for name in self.catalogs}
        self.store = Store()
        self.switches: list[Switch] = []
        self.service = ObservingService(
            providers={name: self._provider(name, collection) for name, collection in (ONE, TWO, THREE)},
            farms=FakeFarmStore([make_farm("a"), make_farm("b", west=36.1)]),
            store=self.store,
            registry=load_registry(),
            clock=FixedClock(),
            rule=QualityRule(),
            rules_text="rules",
        )

    def observe(self, *order: tuple[str, str], deadline_s: float | None = None, **changes: Any) -> list[CellOutcome]:
        told: list[CellOutcome] = []
        self.told = told
        request = ObserveRequest(provider="", collection="", indices=("ndvi", "savi"), farm_ids=("a", "b"), days=DAYS)
        outcomes = observe_in_order(
            self.service,
            replace(request, **changes),
            order or (ONE, TWO),
            run_id="run",
            deadline_s=deadline_s,
            on_switch=self.switches.append,
        )
        for outcome in outcomes:
            assert deadlines.remaining_s() is None, "the deadline leaked into the consumer"
            told.append(outcome)
        return told

    def cells(self, provider: str) -> set[tuple[str, date, str]]:
        return {(o.key.farm_id, o.key.solar_day, o.key.index) for o in self.told if o.key.provider == provider}

    def _catalog(self, provider: str, places: tuple[int, ...]) -> Catalog:
        scenes = []
        for place in places:
            day = DAYS[place]
            moment = datetime(day.year, day.month, day.day, 7, 41, tzinfo=UTC)
            scenes.append(make_scene(f"{provider}-{day}", moment, TILE, provider=provider))
        return Catalog(scenes, provider=provider)

    def _provider(self, name: str, collection: str) -> ImageryProvider:
        return ImageryProvider(
            name=name,
            catalog=self.catalogs[name],
            profile=replace(PROFILE, collection=collection, assets={**PROFILE.assets, **RED_EDGE_OF.get(name, {})}),
            engine=lambda: self.engines[name],
        )


def every_cell(*days: date) -> set[tuple[str, date, str]]:
    return {(farm, day, slug) for farm in "ab" for day in days for slug in ("ndvi", "savi")}


def test_a_provider_that_answers_is_the_only_one_asked() -> None:
    world = World()

    told = world.observe()

    assert len(told) == 8
    assert world.cells("one") == every_cell(DAYS[0], DAYS[5])
    assert world.switches == []
    assert world.catalogs["two"].queries == []
    assert all(Flag.FALLBACK_PROVIDER not in outcome.flags for outcome in told)


@pytest.mark.parametrize(
    "error",
    [
        ProviderDownError("the breaker is open"),
        TransientError("503"),
        BudgetExceededError("nothing left"),
        NotConfiguredError("no token"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_provider_whose_catalogue_is_down_is_replaced_for_everything(error: FarmIntelError) -> None:
    world = World()
    world.catalogs["one"].error = error

    told = world.observe()

    assert world.cells("two") == every_cell(DAYS[0], DAYS[5])
    assert len(told) == 8
    assert world.switches == [Switch(source="one", target="two", reason=f"one: {error.message}", cells=40)]


def test_what_a_later_provider_answers_says_so_where_it_is_stored() -> None:
    world = World()
    world.catalogs["one"].error = TransientError("503")

    told = world.observe()

    assert all(Flag.FALLBACK_PROVIDER in outcome.flags for outcome in told)
    assert all(Flag.FALLBACK_PROVIDER in row.flags for row in world.store.rows.values())
    assert len(world.store.rows) == 8


def test_only_the_cells_that_failed_are_asked_of_the_next() -> None:
    world = World()
    world.engines["one"].verdicts[DAYS[5], "b"] = Verdict(
        status=ObservationStatus.PROVIDER_FAILED, reason="timed out", transient=True
    )

    world.observe()

    missing = {("b", DAYS[5], "ndvi"), ("b", DAYS[5], "savi")}
    assert world.cells("two") == missing
    assert world.cells("one") == every_cell(DAYS[0], DAYS[5]) - missing
    assert world.engines["two"].calls == [(("ndvi", "savi"), (DAYS[5],), ("b",))]
    assert world.switches == [Switch(source="one", target="two", reason="one: timed out", cells=2)]


def test_a_provider_that_breaks_off_is_replaced_for_the_rest() -> None:
    world = World()
    world.engines["one"].breaks = (DAYS[5], BudgetExceededError("nothing left"))

    world.observe()

    assert world.cells("one") == every_cell(DAYS[0])
    assert world.cells("two") == every_cell(DAYS[5])
    assert [(switch.reason, switch.cells) for switch in world.switches] == [("one: nothing left", 4)]


def test_a_scene_nobody_can_read_there_is_asked_of_the_next() -> None:
    world = World()
    broken = Verdict(status=ObservationStatus.PROVIDER_FAILED, reason="the file is damaged")
    world.engines["one"].verdicts[DAYS[0], "a"] = broken

    told = world.observe()

    assert world.cells("two") == {("a", DAYS[0], "ndvi"), ("a", DAYS[0], "savi")}
    assert all(outcome.status is ObservationStatus.OBSERVED for outcome in told)


def test_a_record_of_an_unreadable_scene_is_told_where_nobody_has_better() -> None:
    world = World()
    broken = Verdict(status=ObservationStatus.PROVIDER_FAILED, reason="the file is damaged")
    world.engines["one"].verdicts[DAYS[0], "a"] = broken

    told = world.observe(ONE, THREE)  # three has no scene that day

    assert [(o.key.provider, o.reason) for o in told if o.status is ObservationStatus.PROVIDER_FAILED] == [
        ("one", "the file is damaged")
    ] * 2
    assert len(told) == 8


def test_silence_is_an_answer_only_where_no_scene_is_known() -> None:
    """The third provider has no scene of the first day: after a failed read that leaves the cell without an answer."""
    world = World()
    for farm in "ab":
        world.engines["one"].verdicts[DAYS[0], farm] = Verdict(
            status=ObservationStatus.PROVIDER_FAILED, reason="timed out", transient=True
        )

    with pytest.raises(CellsFailedError) as caught:
        world.observe(ONE, THREE)

    said = "one: timed out; three: no scene over the farm that day"
    assert caught.value.failures == {f"{DAYS[0]}|{farm}|{slug}": said for farm in "ab" for slug in ("ndvi", "savi")}
    world.catalogs["one"].error = TransientError("503")
    assert {outcome.key.solar_day for outcome in world.observe(ONE, THREE)} == {DAYS[5], DAYS[7]}


def test_cells_without_an_answer_carry_the_reason_of_every_provider() -> None:
    world = World()
    for name in ("one", "two", "three"):
        world.catalogs[name].error = TransientError(f"{name} is down")

    with pytest.raises(CellsFailedError) as caught:
        world.observe(ONE, TWO, THREE)

    assert set(caught.value.failures.values()) == {"one: one is down; two: two is down; three: three is down"}
    assert len(caught.value.failures) == 40
    assert [(switch.source, switch.target) for switch in world.switches] == [("one", "two"), ("two", "three")]


def test_the_third_is_asked_for_what_the_second_could_not_answer_either() -> None:
    world = World()
    verdict = Verdict(status=ObservationStatus.PROVIDER_FAILED, reason="timed out", transient=True)
    world.engines["one"].verdicts[DAYS[5], "a"] = verdict
    world.engines["one"].verdicts[DAYS[5], "b"] = verdict
    world.engines["two"].verdicts[DAYS[5], "b"] = verdict

    world.observe(ONE, TWO, THREE)

    assert world.cells("two") == {("a", DAYS[5], "ndvi"), ("a", DAYS[5], "savi")}
    assert world.cells("three") == {("b", DAYS[5], "ndvi"), ("b", DAYS[5], "savi")}


def test_a_later_provider_is_asked_only_for_indices_it_has_the_bands_of() -> None:
    world = World()
    world.catalogs["one"].error = TransientError("503")

    with pytest.raises(CellsFailedError, match="needs") as caught:
        world.observe(ONE, TWO, indices=("ndvi", "ndre"), days=(DAYS[0],))

    assert world.cells("two") == {("a", DAYS[0], "ndvi"), ("b", DAYS[0], "ndvi")}
    assert set(caught.value.failures) == {f"{DAYS[0]}|a|ndre", f"{DAYS[0]}|b|ndre"}


def test_a_later_provider_that_is_not_configured_is_passed_over_and_told() -> None:
    world = World()
    world.catalogs["one"].error = TransientError("503")

    told = world.observe(ONE, ("elsewhere", "s2"), TWO)

    assert len(told) == 8
    assert [switch.reason for switch in world.switches] == ["one: 503", "elsewhere: is not configured"]


def test_a_request_that_is_wrong_is_not_carried_from_one_to_the_next() -> None:
    world = World()

    with pytest.raises(UnknownNameError, match="no farm nope"):
        world.observe(farm_ids=("nope",))
    with pytest.raises(BadRequestError, match="no provider to ask"):
        list(
            observe_in_order(
                world.service,
                ObserveRequest(provider="", collection="", indices=("ndvi",), farm_ids=("a",), days=DAYS),
                (),
                run_id="run",
                deadline_s=None,
                on_switch=world.switches.append,
            )
        )
    assert world.switches == []


def test_the_deadline_is_shared_and_what_one_leaves_is_the_next_ones() -> None:
    world = World()
    world.catalogs["one"].error = TransientError("503")
    world.catalogs["one"].takes_s = 0.2
    world.catalogs["two"].error = TransientError("504")

    with pytest.raises(CellsFailedError):
        world.observe(ONE, TWO, deadline_s=10.0)

    (first,), (second,) = world.catalogs["one"].left_s[:1], world.catalogs["two"].left_s[:1]
    assert first is not None
    assert second is not None
    assert 4.0 < first <= 5.0
    assert 8.0 < second <= 9.8


def test_a_provider_that_hangs_leaves_time_for_the_next() -> None:
    world = World()
    world.catalogs["one"].hangs = True

    told = world.observe(ONE, TWO, deadline_s=1.0)

    assert {outcome.key.provider for outcome in told} == {"two"}
    assert all(Flag.FALLBACK_PROVIDER in outcome.flags for outcome in told)
    assert world.cells("two") == every_cell(DAYS[0], DAYS[5])


def test_nobody_is_asked_after_the_deadline() -> None:
    world = World()
    world.catalogs["one"].error = TransientError("503")
    world.catalogs["one"].takes_s = 0.1

    with pytest.raises(CellsFailedError, match="one: 503; two: the time for asking it is up"):
        world.observe(ONE, TWO, deadline_s=0.05)

    assert world.catalogs["two"].queries == []
    assert world.switches == []


@pytest.mark.parametrize("where", ["read", "search"])
def test_a_record_of_an_unreadable_scene_is_no_last_word_while_another_may_still_have_better(where: str) -> None:
    world = World()
    broken = Verdict(status=ObservationStatus.PROVIDER_FAILED, reason="the file is damaged")
    world.engines["one"].verdicts[DAYS[0], "a"] = broken
    if where == "search":
        world.catalogs["two"].error = TransientError("503")
    else:
        world.engines["two"].verdicts[DAYS[0], "a"] = Verdict(
            status=ObservationStatus.PROVIDER_FAILED, reason="503", transient=True
        )

    with pytest.raises(CellsFailedError) as caught:
        world.observe()

    said = "one: the file is damaged; two: 503"
    assert caught.value.failures == {f"{DAYS[0]}|a|ndvi": said, f"{DAYS[0]}|a|savi": said}
    assert [o.status for o in world.told].count(ObservationStatus.PROVIDER_FAILED) == 2
