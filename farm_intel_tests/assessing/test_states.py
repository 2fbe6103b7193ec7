"""Season and state through a real store: simulated observations in, stored seasons and states out."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta

import pytest

from farm_intel.assessing.season import SeasonService
from farm_intel.assessing.service import AssessingService
from farm_intel.assessing.states import StatesService
from farm_intel.assessing.texts import languages, state_texts
from farm_intel.domain.assessment import FarmState
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.farm_state import axis_states
from farm_intel.domain.state_facts import FACTS
from farm_intel.indices.registry import load_registry
from farm_intel.indices.state_rules import load_state_rules
from farm_intel.simulation.seasons import SeasonOptions, simulate_seasons
from farm_intel.simulation.state_accuracy import TOLERANCE_DAYS, observations_of
from farm_intel.storage.assessments import SqlAssessmentStore
from farm_intel.storage.database import migrate, open_database
from farm_intel_tests.support.clock import FakeClock
from farm_intel_tests.support.fakes import FakeFarmStore, make_farm
from farm_intel_tests.support.looks import FixedObservations

SLUGS = ("ndvi", "ndmi", "ndwi", "savi")
REGISTRY, RULES = load_registry(), load_state_rules()
FARMS = simulate_seasons(SeasonOptions(seed=31, farms=4), REGISTRY.select(SLUGS))
IDS = [farm.farm_id for farm in FARMS]
FIRST, LAST = min(farm.start for farm in FARMS), max(farm.end for farm in FARMS)


class CountingStore:
    """A store that remembers what was saved."""

    def __init__(self, store):
        self._store = store
        self.saved = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def save_states(self, states, **options):
        self.saved += states
        self._store.save_states(states, **options)

    def save_seasons(self, seasons, **options):
        self.saved += seasons
        self._store.save_seasons(seasons, **options)


@pytest.fixture(scope="module")
def farm_store():
    return FakeFarmStore(
        [make_farm(farm.farm_id, crop=farm.crop, planting_date=farm.seasons[-1].planted) for farm in FARMS]
        + [make_farm("never-seen")]
    )


@pytest.fixture(scope="module")
def assessed(tmp_path_factory, farm_store):
    """Return a store with everything assessed, and what was told."""
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('states')}/store.db")
    migrate(engine)
    store = CountingStore(SqlAssessmentStore(engine))
    rows = [row for farm in FARMS for slug in SLUGS for row in observations_of(farm, slug)]
    clock = FakeClock()
    fusing = AssessingService(observations=FixedObservations(rows), assessments=store, registry=REGISTRY, clock=clock)
    for _ in fusing.fuse(IDS, SLUGS, start=FIRST, end=LAST):
        pass
    for _ in fusing.build_series(IDS, SLUGS):
        pass
    seasons = SeasonService(farms=farm_store, assessments=store, registry=REGISTRY, rules=RULES, clock=clock)
    states = StatesService(farms=farm_store, assessments=store, rules=RULES, clock=clock)
    made = list(seasons.build_seasons(IDS, SLUGS))
    told = list(states.build_states([*IDS, "never-seen"], start=FIRST, end=LAST))
    yield store, seasons, states, made, told
    engine.dispose()


def test_every_farm_has_a_state_on_every_day_and_it_is_stored(assessed):
    store, *_, told = assessed

    days = (LAST - FIRST).days + 1
    assert len(told) == (len(IDS) + 1) * days
    stored = list(store.states(farm_ids=[IDS[0]]))
    assert [(state.day, state.state, state.fingerprint) for state in stored] == [
        (state.day, state.state, state.fingerprint) for state in told if state.farm_id == IDS[0]
    ]
    assert {state.state for state in told} >= {"bare", "growth", "full_canopy", "harvested", "unknown"}


def test_a_farm_nobody_has_seen_is_unknown_and_says_why(assessed):
    told = [state for state in assessed[4] if state.farm_id == "never-seen"]

    assert {state.state for state in told} == {"unknown"}
    assert {state.confidence for state in told} == {0.0}
    assert {reason.fact for state in told for reason in state.reasons} == {"never_observed"}


def test_true_harvests_show_as_events_and_as_states(assessed):
    """Most seen harvests of field crops are told, and where one is, the ground is called harvested soon after."""
    _, _, states, _, told = assessed
    events = list(states.events(IDS, until=LAST))
    seen = [
        (farm.farm_id, true)
        for farm in FARMS
        for true in farm.events
        if true.kind == "harvest" and true.seen and farm.crop != "pasture"
    ]
    found = [
        (farm_id, true)
        for farm_id, true in seen
        if any(
            one == farm_id
            and event.name == "harvest"
            and abs(event.day - true.day.toordinal()) <= TOLERANCE_DAYS["harvest"]
            for one, event in events
        )
    ]

    assert len(seen) >= 4
    assert len(found) >= 0.75 * len(seen)
    for farm_id, true in found:
        after = {
            state.state
            for state in told
            if state.farm_id == farm_id and true.day < state.day <= true.day + timedelta(days=50)
        }
        assert "harvested" in after


def test_an_event_is_told_from_when_it_was_known_for_some_days_with_its_age(assessed):
    _, _, states, _, told = assessed
    farm_id, event = next(pair for pair in states.events(IDS, until=LAST))
    table = RULES.table(None)
    with_event = [
        state
        for state in told
        if state.farm_id == farm_id and event.known <= state.day.toordinal() <= event.known + table.event_days
    ]

    assert [state.event for state in with_event] == [event.name] * (table.event_days + 1)
    ages = [reason.value for state in with_event for reason in state.reasons if reason.fact == "event_days_ago"]
    assert ages == [state.day.toordinal() - event.day for state in with_event]
    assert not any(state.event for state in told if state.farm_id == farm_id and state.day.toordinal() < event.known)


def test_telling_again_changes_nothing_and_new_rules_change_everything(assessed, farm_store):
    store, seasons, states, made, told = assessed
    store.saved.clear()

    assert [season.fingerprint for season in seasons.build_seasons(IDS, SLUGS)] == [one.fingerprint for one in made]
    again = list(states.build_states(IDS, start=FIRST, end=LAST))

    assert store.saved == []
    assert [state.state for state in again] == [state.state for state in told if state.farm_id in IDS]

    stricter = replace(RULES, by_crop={crop: replace(table, max_age_days=3) for crop, table in RULES.by_crop.items()})
    other = StatesService(farms=farm_store, assessments=store, rules=stricter, clock=FakeClock())
    changed = list(other.build_states(IDS[:1], start=FIRST, end=FIRST + timedelta(days=30)))
    assert len(store.saved) == len(changed) == 31
    list(states.build_states(IDS[:1], start=FIRST, end=FIRST + timedelta(days=30)))


def test_a_day_told_alone_says_what_the_whole_history_says(assessed):
    _, _, states, _, told = assessed
    day = date(2024, 5, 20)

    alone = {state.farm_id: state for state in states.build_states(IDS, start=day, end=day)}

    whole = {state.farm_id: state for state in told if state.day == day}
    assert all(alone[farm_id].state == whole[farm_id].state for farm_id in IDS)


def test_seasons_are_stored_with_phenology_baseline_and_trend(assessed):
    store, _, _, made, _ = assessed
    (season,) = store.seasons(farm_ids=[IDS[0]], indices=["ndvi"])

    assert len(made) == len(IDS) * len(SLUGS)
    assert 2 <= len([phase for phase in season.seasons if phase.start]) <= 4
    truth = FARMS[0].seasons
    for phase in season.seasons:
        if phase.start is not None:
            assert min(abs((phase.start - one.planted).days - 25) for one in truth) <= 25
    later = [day for day in season.days if day.day.year >= 2024 and day.baseline is not None]
    assert later
    assert all(day.trend_per_day is not None or day.trend_sigma is None for day in season.days)
    assert season.note


def test_a_farm_that_lost_its_series_loses_its_season(assessed):
    store, seasons, *_ = assessed
    (kept,) = store.seasons(farm_ids=[IDS[3]], indices=["savi"])
    (series,) = store.series(farm_ids=[IDS[3]], indices=["savi"])
    clock = FakeClock()
    store.save_series([], recorded_at=clock.now(), gone=[(IDS[3], "savi")])

    assert list(seasons.build_seasons([IDS[3]], ["savi"])) == []
    assert list(store.seasons(farm_ids=[IDS[3]], indices=["savi"])) == []

    store.save_series([series], recorded_at=clock.now())
    assert next(seasons.build_seasons([IDS[3]], ["savi"])).fingerprint == kept.fingerprint


def test_reasons_carry_numbers_thresholds_and_sources(assessed):
    told = next(state for state in assessed[4] if state.state == "full_canopy")

    assert axis_states(told)["canopy"] == "full_canopy"
    bound = next(reason for reason in told.reasons if reason.fact == "canopy_cover")
    assert bound.threshold is not None
    assert bound.value > bound.threshold
    assert bound.source
    assert 0.0 < told.confidence <= 1.0


@pytest.mark.parametrize("language", languages())
def test_every_state_event_and_reason_has_a_text_in_every_language(language, assessed):
    """Swahili and French are complete of their own, not through the English they would fall back to."""
    english, texts = state_texts("en").texts, state_texts(language).texts

    assert set(languages()) == {"en", "fr", "sw"}
    wanted = {f"interpretation.{state}" for state in RULES.states} | {f"action.{state}" for state in RULES.states}
    wanted |= {f"event.{event}" for event in RULES.events} | {f"event_action.{event}" for event in RULES.events}
    wanted |= {f"reason.{fact.replace('.', '_')}" for fact in FACTS}
    for table in (RULES.generic, *RULES.by_crop.values()):
        wanted |= {f"reason.{axis.value}_is_{rule.state}" for axis, rules in table.rules.items() for rule in rules}
    assert wanted <= set(english)
    assert set(texts) == set(english)
    for key, text in texts.items():
        assert re.findall(r"\{[^}]*\}", text) == re.findall(r"\{[^}]*\}", english[key]) or sorted(
            re.findall(r"\{[^}]*\}", text)
        ) == sorted(re.findall(r"\{[^}]*\}", english[key]))
    if language != "en":
        same = [key for key in texts if texts[key] == english[key]]
        assert same == []
    for state in assessed[4][::37]:
        assert state_texts(language).interpretation(state)
        assert state_texts(language).action(state)
        assert all(state_texts(language).reason(reason) for reason in state.reasons)


def test_texts_are_read_with_their_numbers():
    state = FarmState(
        farm_id="a",
        day=FIRST,
        state="dry",
        since=FIRST,
        confidence=0.5,
        reasons=(),
        interpretation="interpretation.dry",
        action="action.dry",
        event="hail",
    )
    texts = state_texts("en")

    assert "short of water" in texts.interpretation(state)
    assert "insurance" in texts.action(state)
    assert texts.event(state) == "Sudden damage, as by hail"
    with pytest.raises(UnknownNameError, match="xx"):
        state_texts("xx")
