"""Fusion: what is independent, what wins, what is averaged, what disagrees; the order of arrival never matters."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.domain.assessment import CandidateVerdict
from farm_intel.domain.fused_days import assemble
from farm_intel.domain.fusion import decide
from farm_intel.domain.looks import collect_looks
from farm_intel.domain.observations import Flag
from farm_intel.indices.quality import assessment_rules
from farm_intel.indices.registry import load_registry
from farm_intel_tests.support.looks import look

RULES = assessment_rules(load_registry().get("ndvi"), harmonise=False)
DAY = date(2026, 3, 1)
LANDSAT = {"provider": "landsat", "collection": "landsat-c2-l2", "scene": "LC09_L2SP_168061", "gsd_m": 30.0}
LANDSAT_TIME = datetime(2026, 3, 1, 7, 40, tzinfo=UTC)


def _fuse(*rows, rules=RULES):
    return list(assemble(decide(collect_looks(rows, rules.sensors), rules), rules))


def _verdicts(fused):
    return {item.key.provider: item.verdict for item in fused.candidates}


def test_the_same_scene_through_two_providers_counts_once():
    minutes_later = datetime(2026, 3, 1, 8, 9, tzinfo=UTC)
    (one,) = _fuse(look("a", DAY, 0.6))
    (both,) = _fuse(look("a", DAY, 0.6), look("a", DAY, 0.602, provider="sentinel_hub", acquired_at=minutes_later))

    assert both.method == "single"
    assert both.standard_error == one.standard_error
    assert sorted(_verdicts(both).values()) == [CandidateVerdict.CHOSEN, CandidateVerdict.OUTRANKED]
    loser = next(item for item in both.candidates if item.verdict is CandidateVerdict.OUTRANKED)
    assert "is taken instead" in loser.reason


def test_a_provider_that_knows_only_the_day_saw_the_same_acquisition():
    midnight = datetime(2026, 3, 1, tzinfo=UTC)

    (fused,) = _fuse(look("a", DAY, 0.6), look("a", DAY, 0.602, provider="sentinel_hub", acquired_at=midnight))

    assert fused.method == "single"


def test_two_passes_of_one_family_on_one_day_are_two_looks():
    later = datetime(2026, 3, 1, 8, 52, tzinfo=UTC)

    (fused,) = _fuse(look("a", DAY, 0.6), look("a", DAY, 0.602, provider="sentinel_hub", acquired_at=later))

    assert fused.method == "weighted"


def test_independent_looks_are_averaged_by_inverse_variance():
    msi = look("a", DAY, 0.60, standard_error=0.01)
    oli = look("a", DAY, 0.62, standard_error=0.03, acquired_at=LANDSAT_TIME, **LANDSAT)

    (fused,) = _fuse(msi, oli)

    radiometry = RULES.fusion.radiometry_error
    weights = np.array([1 / (0.01**2 + radiometry**2), 1 / (0.03**2 + radiometry**2)])
    assert fused.method == "weighted"
    assert fused.value == pytest.approx(weights @ [0.60, 0.62] / weights.sum(), abs=1e-5)
    assert fused.standard_error == pytest.approx(weights.sum() ** -0.5, abs=1e-5)
    assert set(_verdicts(fused).values()) == {CandidateVerdict.COMBINED}


def test_looks_that_scatter_more_than_their_errors_widen_the_error():
    exact = {"standard_error": 0.001}
    (near,) = _fuse(look("a", DAY, 0.60, **exact), look("a", DAY, 0.60, **exact, **LANDSAT))
    (apart,) = _fuse(look("a", DAY, 0.60, **exact), look("a", DAY, 0.68, **exact, **LANDSAT))

    assert apart.method == "weighted"
    assert apart.standard_error == pytest.approx(0.04, abs=0.001)  # half the difference: what two looks can know
    assert near.standard_error < 0.01


def test_a_clear_winner_is_not_diluted():
    (fused,) = _fuse(look("a", DAY, 0.60), look("a", DAY, 0.66, cloud=0.4, **LANDSAT))

    assert (fused.value, fused.method) == (0.60, "single")
    assert _verdicts(fused)["landsat"] is CandidateVerdict.OUTRANKED


def test_disagreement_is_flagged_with_the_pair_and_never_averaged():
    (fused,) = _fuse(look("a", DAY, 0.60), look("a", DAY, 0.45, **LANDSAT))
    (agreeing,) = _fuse(look("a", DAY, 0.60), look("a", DAY, 0.55, **LANDSAT))

    assert fused.value == 0.60
    assert "provider_disagreement" in fused.flags
    assert "landsat/landsat-c2-l2 and stac/sentinel-2-l2a differ by 0.150" in fused.reason
    assert fused.confidence < agreeing.confidence
    assert "provider_disagreement" not in agreeing.flags


def test_two_providers_of_one_scene_that_disagree_are_told_apart_too():
    (fused,) = _fuse(look("a", DAY, 0.60), look("a", DAY, 0.75, provider="sentinel_hub"))

    assert "provider_disagreement" in fused.flags
    assert fused.method == "single"


@pytest.mark.parametrize(("apart", "flagged"), [(0.0999, False), (0.1, False), (0.1001, True)])
def test_the_tolerance_is_the_indexs_own(apart, flagged):
    (fused,) = _fuse(look("a", DAY, 0.5), look("a", DAY, 0.5 + apart, **LANDSAT))

    assert RULES.fusion.tolerance == 0.10
    assert ("provider_disagreement" in fused.flags) is flagged


def test_a_coarse_product_over_a_small_field_is_context():
    modis = look(
        "a",
        DAY,
        0.4,
        provider="modis",
        collection="modis-09A1-061",
        scene="MOD09A1.A",
        gsd_m=500.0,
        flags=(Flag.MIXED_PIXELS,),
    )

    (alone,) = _fuse(modis)
    (beside,) = _fuse(modis, look("a", DAY, 0.6))

    assert (alone.value, alone.standard_error, alone.method) == (None, None, "none")
    assert _verdicts(alone) == {"modis": CandidateVerdict.CONTEXT_ONLY}
    assert "500 m" in alone.candidates[0].reason
    assert "provider_disagreement" not in beside.flags


def test_an_unsure_look_is_named_with_what_is_wrong_with_it():
    (fused,) = _fuse(look("a", DAY, 0.6, cloud=0.9))

    assert fused.value is None
    assert fused.candidates[0].verdict is CandidateVerdict.LOW_CONFIDENCE
    assert "below 0.500" in fused.candidates[0].reason
    assert "low_confidence" in fused.reason


def test_a_cloudy_look_does_not_take_a_clear_one_of_the_same_day_with_it():
    season = [look("a", DAY + timedelta(days=5 * k), 0.8) for k in (-2, -1, 1, 2)]
    (*_, fused, _after, _last) = _fuse(*season, look("a", DAY, 0.1), look("a", DAY, 0.79, **LANDSAT))

    assert fused.solar_day == DAY
    assert fused.value == 0.79
    assert _verdicts(fused) == {"stac": CandidateVerdict.DESPIKED, "landsat": CandidateVerdict.CHOSEN}
    assert "like unmasked cloud" in next(c.reason for c in fused.candidates if c.key.provider == "stac")


def test_a_fallback_provider_shows_in_the_fused_value():
    (fused,) = _fuse(look("a", DAY, 0.6, provider="earth_engine", flags=(Flag.FALLBACK_PROVIDER,)))

    assert "fallback_provider" in fused.flags


@pytest.mark.parametrize("first", ["stac", "earth_engine", "sentinel_hub"])
def test_of_equally_sure_looks_the_operators_first_provider_is_taken(first):
    order = (first, *({"stac", "earth_engine", "sentinel_hub"} - {first}))
    rules = assessment_rules(load_registry().get("ndvi"), harmonise=False, preference=order)
    rows = [look("a", DAY, 0.6, provider=name) for name in ("sentinel_hub", "earth_engine", "stac")]

    (fused,) = _fuse(*rows, rules=rules)

    assert [name for name, verdict in _verdicts(fused).items() if verdict is CandidateVerdict.CHOSEN] == [first]
    assert rules.version != RULES.version


def test_a_surer_look_beats_the_operators_order():
    rules = assessment_rules(load_registry().get("ndvi"), harmonise=False, preference=("stac", "earth_engine"))

    (fused,) = _fuse(look("a", DAY, 0.6, cloud=0.3), look("a", DAY, 0.62, provider="earth_engine"), rules=rules)

    assert _verdicts(fused)["earth_engine"] is CandidateVerdict.CHOSEN


def test_ties_go_to_the_finer_look():
    rows = [look("a", DAY, 0.6, provider="a_coarse", gsd_m=20.0), look("a", DAY, 0.61, provider="z_fine", gsd_m=10.0)]

    assert _verdicts(_fuse(*rows)[0])["z_fine"] is CandidateVerdict.CHOSEN


@st.composite
def _estates(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for farm in ("a", "b", "c"):
        for k in range(draw(st.integers(1, 12))):
            day = DAY + timedelta(days=4 * k)
            for provider in rng.permutation(["stac", "sentinel_hub", "landsat"])[: rng.integers(1, 4)]:
                extra = LANDSAT if provider == "landsat" else {"provider": str(provider)}
                value = float(rng.choice([0.1, 0.45, 0.8])) + float(rng.integers(0, 3)) / 100
                rows.append(look(farm, day, value, cloud=float(rng.choice([0.0, 0.3, 0.9])), **extra))
    return rows


@given(rows=_estates(), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_order_of_arrival_and_the_company_of_other_farms_change_nothing(rows, seed):
    wanted = _fuse(*rows)
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)

    assert _fuse(*shuffled) == wanted
    alone = [item for farm in ("a", "b", "c") for item in _fuse(*(row for row in rows if row.key.farm_id == farm))]
    assert alone == wanted


@given(rows=_estates())
@settings(max_examples=60, deadline=None)
def test_every_look_is_kept_and_the_value_lies_within_those_used(rows):
    fused = _fuse(*rows)

    assert sorted(c.key for item in fused for c in item.candidates) == sorted({row.key for row in rows})
    for item in fused:
        used = [c for c in item.candidates if c.verdict in {CandidateVerdict.CHOSEN, CandidateVerdict.COMBINED}]
        assert (item.value is None) == (not used)
        assert 0.0 <= item.confidence <= 1.0
        if item.value is not None:
            assert min(c.harmonised for c in used) - 1e-6 <= item.value <= max(c.harmonised for c in used) + 1e-6


def test_of_nothing_nothing_is_made() -> None:
    rules = assessment_rules(load_registry().get("ndvi"))

    assert list(assemble(decide(collect_looks([], rules.sensors), rules), rules)) == []
