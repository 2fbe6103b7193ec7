"""What is read from a value: states on reference spectra, colours, and refusals."""

from itertools import pairwise

import numpy as np
import pytest

from farm_intel.domain.errors import BadRequestError
from farm_intel.indices.interpretation import ColourMap, Interpretation, State, grey_colour_map, parse_interpretation
from farm_intel.indices.ranges import reference_spectra
from farm_intel.indices.registry import load_registry
from farm_intel.indices.tables import Table
from farm_intel_tests.indices.support import by_common_name

REGISTRY = load_registry()
INTERPRETED = [index for index in REGISTRY.list() if index.interpretation]

BARE_OR_LESS = {"not_vegetated", "bare"}
GREENNESS = {
    "dense_canopy": {"dense", "chlorophyll_rich"},
    "sparse_canopy": {"sparse", "partly_covered", "developing"},
    "senescent_crop": {"bare", "sparse", "partly_covered", "developing"},
    "bare_dry_soil": {"bare"},
    "bare_wet_soil": {"bare"},
    "burned": {"bare"},
    "water": {"not_vegetated"},
    "snow": BARE_OR_LESS,
    "cloud": BARE_OR_LESS,
}
OPEN_WATER = {
    "dense_canopy": {"no_open_water"},
    "sparse_canopy": {"no_open_water"},
    "senescent_crop": {"no_open_water"},
    "bare_dry_soil": {"no_open_water"},
    "bare_wet_soil": {"no_open_water"},
    "burned": {"no_open_water"},
    "water": {"open_water"},
    "snow": {"no_open_water", "possible_water"},
    "cloud": {"no_open_water", "possible_water"},
}
MOISTURE = {
    "dense_canopy": {"high"},
    "sparse_canopy": {"low"},
    "senescent_crop": {"no_canopy_water"},
    "bare_dry_soil": {"no_canopy_water"},
    "bare_wet_soil": {"no_canopy_water", "low"},
    "burned": {"no_canopy_water"},
}
EXPECTED = dict.fromkeys(("ndvi", "evi", "savi", "ndre", "gndvi", "msavi"), GREENNESS)
EXPECTED |= {"ndwi": OPEN_WATER, "ndmi": MOISTURE}


def _interpretation(slug: str) -> Interpretation:
    interpretation = REGISTRY.get(slug).interpretation
    assert interpretation is not None
    return interpretation


def _state(slug: str, material: str) -> State:
    value = float(REGISTRY.get(slug).evaluate(by_common_name(reference_spectra()[material])))
    return _interpretation(slug).state(value)


@pytest.mark.parametrize(
    ("slug", "material", "allowed"),
    [(slug, material, allowed) for slug, table in EXPECTED.items() for material, allowed in table.items()],
)
def test_reference_surfaces_are_read_as_what_they_are(slug, material, allowed):
    assert _state(slug, material).name in allowed


def test_the_water_index_never_speaks_of_moisture():
    """The original read McFeeters' NDWI as moisture and called every healthy canopy dry."""
    states = _interpretation("ndwi").states
    words = " ".join(f"{state.name} {state.meaning}" for state in states).lower()

    assert all("water" in state.name for state in states)
    assert not any(word in words for word in ("dry", "drought", "stress", "irrigat", "moist,", "wilting"))


def test_a_canopy_of_any_density_has_no_open_water():
    spectra = reference_spectra()
    for share in np.linspace(0, 1, 21):
        for soil in ("bare_dry_soil", "bare_wet_soil"):
            mixed = {s: share * spectra["dense_canopy"][s] + (1 - share) * spectra[soil][s] for s in spectra[soil]}
            value = float(REGISTRY.get("ndwi").evaluate(by_common_name(mixed)))

            assert _interpretation("ndwi").state(value).name == "no_open_water"


@pytest.mark.parametrize("slug", EXPECTED)
def test_interpreted_indices_order_canopies_over_soils(slug):
    """Along a gradient from soil to dense canopy the state never goes back, whichever index is asked."""
    spectra = reference_spectra()
    index, interpretation = REGISTRY.get(slug), _interpretation(slug)
    order = [state.name for state in interpretation.states]
    ranks = []
    for share in np.linspace(0, 1, 41):
        mixed = {
            symbol: share * spectra["dense_canopy"][symbol] + (1 - share) * spectra["bare_dry_soil"][symbol]
            for symbol in spectra["bare_dry_soil"]
        }
        ranks.append(order.index(interpretation.state(float(index.evaluate(by_common_name(mixed)))).name))

    assert ranks == sorted(ranks)


def test_the_asked_for_indices_have_interpretations():
    assert {index.slug for index in INTERPRETED} >= EXPECTED.keys()


@pytest.mark.parametrize("index", INTERPRETED, ids=lambda index: index.slug)
def test_every_threshold_has_a_source(index):
    for state in index.interpretation.states:
        assert len(state.source) > 8
        assert state.meaning.endswith(".")
    assert index.interpretation.quality.source
    assert 0 < index.interpretation.quality.min_valid_fraction <= 1


@pytest.mark.parametrize("index", INTERPRETED, ids=lambda index: index.slug)
def test_states_change_exactly_at_their_edges(index):
    states = index.interpretation.states
    for below, above in pairwise(states):
        assert index.interpretation.state(np.nextafter(above.lower, -np.inf)) is below
        assert index.interpretation.state(above.lower) is above
    low, high = index.valid_range
    assert index.interpretation.state(low) is states[0]
    assert index.interpretation.state(high) is states[-1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.01, 1.6])
def test_values_without_a_state_are_refused(value):
    with pytest.raises(BadRequestError, match="no state"):
        _interpretation("evi").state(value)


def test_valid_ranges_are_the_declared_ones():
    ranges = {slug: REGISTRY.get(slug).valid_range for slug in EXPECTED}

    assert ranges.pop("evi") == (-1.0, 1.5)
    assert ranges.pop("savi") == (-1.5, 1.5)
    assert set(ranges.values()) == {(-1.0, 1.0)}


def test_colours_are_interpolated_between_stops_and_constant_outside():
    colours = ColourMap(name="test", stops=((0.0, (0, 0, 0)), (1.0, (100, 200, 50)), (2.0, (255, 255, 255))))

    result = colours.rgb(np.array([[-5.0, 0.5], [1.0, 99.0]]))

    assert result.shape == (2, 2, 3)
    assert result.dtype == np.uint8
    assert result.tolist() == [[[0, 0, 0], [50, 100, 25]], [[100, 200, 50], [255, 255, 255]]]


def test_missing_values_are_black_for_the_caller_to_hide():
    assert _interpretation("ndvi").rgb([np.nan]).tolist() == [[0, 0, 0]]


def test_display_ends_have_the_palette_ends():
    interpretation = _interpretation("ndvi")

    assert interpretation.rgb(interpretation.display_range).tolist() == [[165, 0, 38], [0, 104, 55]]


def test_an_index_without_interpretation_is_grey():
    index = next(index for index in REGISTRY.list() if index.interpretation is None)

    assert index.colour_map == grey_colour_map(index.valid_range)
    assert index.colour_map.rgb(index.valid_range).tolist() == [[0, 0, 0], [255, 255, 255]]


def _row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "display_range": [0.0, 1.0],
        "valid_range": [-1.0, 1.0],
        "palette": "two",
        "states": [
            {"name": "low", "range": [-1.0, 0.0], "meaning": "Low.", "source": "test"},
            {"name": "high", "range": [0.0, 1.0], "meaning": "High.", "source": "test"},
        ],
    }
    return row | changes


PALETTES = {"two": ((0, 0, 0), (255, 255, 255))}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"valid_range": [-1.0, 2.0]}, "gaps"),
        ({"valid_range": [1.0, -1.0]}, "smaller first"),
        ({"display_range": [0.0]}, "two numbers"),
        ({"palette": "three"}, "no palette 'three'"),
        ({"palete": "two"}, "unknown key palete"),
        ({"states": []}, "list of tables"),
        ({"states": [{"name": "all", "range": [-1.0, 1.0], "meaning": "All."}]}, "source is missing"),
        ({"states": [{"name": "all", "range": [-1.0, 1.0], "meaning": " ", "source": "test"}]}, "meaning"),
        ({"stops": [{"value": 0, "colour": "#000000"}]}, "two or more stops"),
        ({"stops": [{"value": 0, "colour": "#00000"}]}, "#00000"),
        ({"stops": [{"value": 0, "colour": "#00000000"}]}, "#00000000"),
        ({"quality": {"outlier_step": "big"}}, "outlier_step"),
        ({"quality": {"outlier": 0.1}}, "unknown key outlier"),
    ],
)
def test_mistakes_in_a_row_are_named(changes, said):
    with pytest.raises(BadRequestError, match=said):
        parse_interpretation(Table(_row(**changes), "test.toml"), PALETTES)


def test_stops_may_be_given_one_by_one():
    stops = [{"value": -1, "colour": "#102030"}, {"value": 0.5, "colour": "ffffff"}]

    interpretation = parse_interpretation(Table(_row(stops=stops), "test.toml"), PALETTES)

    assert interpretation.colour_map.stops == ((-1.0, (16, 32, 48)), (0.5, (255, 255, 255)))
