"""The rule tables: what reference surfaces are read as, how tables are refused, and that every number has a source."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import farm_intel.indices.state_rules as loader
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.farm_state import classify
from farm_intel.domain.state_facts import Axis, build_facts, index_series
from farm_intel.indices.ranges import reference_spectra
from farm_intel.indices.registry import load_registry
from farm_intel.indices.state_rules import load_state_rules
from farm_intel_tests.indices.support import by_common_name

REGISTRY = load_registry()
RULES = load_state_rules()
PATH = Path(loader.__file__).parent / "states.toml"
TOGETHER = ("ndvi", "ndmi", "ndwi", "savi")
CANOPY = [row.index for row in RULES.generic.axes if row.axis is Axis.CANOPY]
DAY = 739_000


def _facts(material, indices, table):
    spectrum = by_common_name(reference_spectra()[material])
    values = {slug: float(REGISTRY.get(slug).evaluate(spectrum)) for slug in indices}
    series = {
        slug: index_series(slug, [(DAY + 5 * k, value, 0.01, 0.9) for k in range(3)]) for slug, value in values.items()
    }
    return build_facts(series, table.axes, table.parameters, pair=table.brightness)


def _state(material, indices, crop=None):
    table = RULES.table(crop)
    return classify(_facts(material, indices, table), table).states[-1]


@pytest.mark.parametrize(
    ("material", "state"),
    [
        ("dense_canopy", "full_canopy"),
        ("sparse_canopy", "growth"),
        ("senescent_crop", "establishment"),
        ("bare_dry_soil", "bare"),
        ("bare_wet_soil", "moist"),
        ("burned", "bare"),
        ("water", "water"),
        ("snow", "snow"),
    ],
)
@pytest.mark.parametrize("crop", [None, "maize", "wheat", "beans", "pasture", "a crop nobody knows"])
def test_reference_surfaces_are_read_as_what_they_are(material, state, crop):
    """One surface seen three times, without a past: ripening needs a trend, so straw is thin cover here."""
    assert _state(material, TOGETHER, crop) == state


@pytest.mark.parametrize("index", CANOPY)
@pytest.mark.parametrize(
    ("material", "allowed"),
    [
        ("dense_canopy", {"full_canopy"}),
        ("sparse_canopy", {"growth", "establishment"}),
        ("senescent_crop", {"growth", "establishment", "bare"}),
        ("bare_dry_soil", {"bare"}),
        ("bare_wet_soil", {"bare"}),
        ("burned", {"bare"}),
        ("water", {"bare"}),
        ("snow", {"bare"}),
    ],
)
def test_every_canopy_index_alone_agrees(index, material, allowed):
    assert _state(material, (index,)) in allowed


@pytest.mark.parametrize("material", ["dense_canopy", "sparse_canopy", "bare_dry_soil", "bare_wet_soil"])
def test_the_water_index_says_nothing_of_moisture(material):
    """The original read McFeeters' NDWI as moisture and called every healthy canopy dry."""
    assert _state(material, ("ndwi",)) == "no_water"
    assert _state("water", ("ndwi",)) == "water"

    table = RULES.generic
    with_water, without = (
        _facts(material, indices, table).values for indices in (("ndvi", "ndmi", "ndwi"), ("ndvi", "ndmi"))
    )
    for fact in ("moisture.value", "moisture.offset", "moisture.change"):
        assert with_water[fact].tolist() == without[fact].tolist()
    alone = _facts(material, ("ndwi",), table)
    assert Axis.MOISTURE not in alone.indices


def test_no_index_serves_two_axes():
    names = [row.index for row in RULES.generic.axes]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("material", ["dense_canopy", "sparse_canopy"])
@pytest.mark.parametrize("crop", [None, "maize", "wheat", "beans"])
def test_healthy_canopies_are_never_dry_or_stressed(material, crop):
    assert _state(material, TOGETHER, crop) not in {"dry", "stressed", "water", "saturated"}


def test_a_closed_canopy_that_collapses_is_not_full_any_more():
    """Trend before level: NDVI falls from 0.85 to 0.70 in two weeks, still above the threshold of full canopy."""
    table = RULES.generic
    days = [(0, 0.86), (5, 0.85), (10, 0.86), (15, 0.85), (20, 0.80), (25, 0.75), (30, 0.70)]
    series = {"ndvi": index_series("ndvi", [(DAY + day, value, 0.01, 0.9) for day, value in days])}

    states = classify(build_facts(series, table.axes, table.parameters), table).states

    assert states[3] == "full_canopy"
    assert states[-1] in {"stressed", "senescence"}
    planted = build_facts(series, table.axes, table.parameters, plantings=[DAY - 20])
    assert classify(planted, table).states[-1] == "stressed"
    ripe = build_facts(series, table.axes, table.parameters, plantings=[DAY - 80])
    assert classify(ripe, table).states[-1] == "senescence"


def test_crops_have_thresholds_of_their_own():
    table, sward = RULES.generic, RULES.table("pasture")
    series = {"ndvi": index_series("ndvi", [(DAY + 5 * k, 0.60, 0.01, 0.9) for k in range(3)])}

    assert classify(build_facts(series, table.axes, table.parameters), table).states[-1] == "growth"
    assert classify(build_facts(series, sward.axes, sward.parameters), sward).states[-1] == "full_canopy"
    assert "hail" in {event.name for event in table.events}
    assert "hail" not in {event.name for event in sward.events}
    assert RULES.table("Maize ").name.endswith("/maize")
    assert RULES.table("teff") is RULES.generic


def test_every_index_of_the_tables_exists_and_every_threshold_has_a_source():
    assert all(REGISTRY.get(slug).slug == slug for slug in RULES.indices)
    for table in (RULES.generic, *RULES.by_crop.values()):
        conditions = [c for rules in table.rules.values() for rule in rules for c in rule.conditions]
        conditions += [c for event in table.events for c in (*event.onset, *(after.condition for after in event.after))]
        assert all(len(condition.source) > 3 for condition in conditions)
        assert all(len(row.source) > 10 for row in table.axes)
        assert all(condition.leave <= condition.enter for condition in conditions if condition.above)
        assert all(condition.leave >= condition.enter for condition in conditions if not condition.above)


def test_endpoints_lie_where_the_reference_spectra_do():
    """Endpoints of canopy indices are within a tenth of the span of bare soil and of dense canopy."""
    for row in RULES.generic.axes:
        if row.axis is not Axis.CANOPY:
            continue
        bare, dense = (
            float(REGISTRY.get(row.index).evaluate(by_common_name(reference_spectra()[name])))
            for name in ("bare_dry_soil", "dense_canopy")
        )
        assert abs(row.bare - bare) <= 0.1 * (dense - bare)
        assert abs(row.full - dense) <= 0.1 * (dense - bare)


def test_season_parameters_follow_the_span_of_the_index():
    ndvi, other = REGISTRY.get("ndvi"), REGISTRY.get("mcari")

    assert RULES.phenology_rule(ndvi).min_amplitude == pytest.approx(0.3 * (0.85 - 0.17))
    low, high = other.display_range
    assert RULES.phenology_rule(other).min_amplitude == pytest.approx(0.3 * (high - low))
    assert RULES.season_rule(ndvi).least_spread > 0.0


BROKEN = {
    'fact = "canopy.trend", below = -0.003, leave = 0.004': (
        'fact = "canopy.mood", below = -0.003, leave = 0.004',
        "mood",
    ),
    'fact = "canopy.lost", above = 0.12, leave = 0.08': (
        'fact = "canopy.lost", above = 0.12, leave = 0.20',
        "harder to keep",
    ),
    'below_parameter = "cut_cover"': ('below_parameter = "cut_clover"', "cut_clover"),
    'statistic = "minimum"': ('statistic = "least"', "least"),
    'canopy = ["stressed"]': ('canopy = ["distressed"]', "distressed"),
    'axis = "moisture"\nbare': ('axis = "mood"\nbare', "mood"),
    'name = "emergence_days"\nvalue = 20': ('name = "emergence_daze"\nvalue = 20', "emergence_days"),
    "max_age_days = 25": ("max_age_days = 25\nmax_rage_days = 3", "max_rage_days"),
    'name = "season_days", value = 365': ('name = "seesaw_days", value = 365', "seesaw_days"),
}


@pytest.mark.parametrize("wanted", BROKEN)
def test_mistakes_in_a_table_are_refused_by_name(wanted, tmp_path):
    text = PATH.read_text(encoding="utf-8")
    assert wanted in text
    path = tmp_path / "states.toml"
    path.write_text(text.replace(wanted, BROKEN[wanted][0], 1), encoding="utf-8")

    with pytest.raises(BadRequestError, match=BROKEN[wanted][1]):
        load_state_rules(path)


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "states.toml"
    path.write_text("= 3")

    with pytest.raises(BadRequestError, match="cannot be read"):
        load_state_rules(path)


def test_the_file_speaks_of_every_state_and_event_it_tells():
    document = tomllib.loads(PATH.read_text(encoding="utf-8"))

    assert set(RULES.states) == {row["state"] for row in document["combination"]} | {"unknown"}
    assert set(RULES.events) == {"harvest", "drought", "flood", "hail"}
