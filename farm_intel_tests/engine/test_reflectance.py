"""The offset: what metadata say in every dialect, what pixels say, and who wins."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import shapely

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.domain.products import OffsetRule
from farm_intel.engine.reflectance import (
    MetadataState,
    ProbeResult,
    ProbeVerdict,
    decide_radiometry,
    probe_offset,
    resolve_radiometry,
)
from farm_intel_tests.engine.support import FakeStore, add_scene, farm, only, profile, run

FLAG, DECLARED, BASELINE, FIXED = OffsetRule.FLAG, OffsetRule.DECLARED, OffsetRule.BASELINE, OffsetRule.FIXED


@pytest.mark.parametrize(
    ("rule", "flag", "declared", "baseline", "offset", "state", "probed"),
    [
        # Earth Search's normal, wrong metadata: removed, yet -0.1 is declared
        (FLAG, True, -0.1, "05.10", 0.0, MetadataState.CONSISTENT, True),
        (FLAG, True, 0.0, "05.10", 0.0, MetadataState.CONSISTENT, False),
        (FLAG, False, -0.1, "05.10", -0.1, MetadataState.CONSISTENT, True),
        (FLAG, False, 0.0, "05.10", -0.1, MetadataState.INCONSISTENT, True),
        (FLAG, None, -0.1, "05.10", -0.1, MetadataState.SILENT, True),
        (FLAG, None, None, None, -0.1, MetadataState.SILENT, True),
        (FLAG, None, 0.0, "05.10", 0.0, MetadataState.CONSISTENT, True),
        (FLAG, False, -0.1, "02.11", -0.1, MetadataState.INCONSISTENT, True),
        (FLAG, True, -0.1, "02.11", 0.0, MetadataState.CONSISTENT, True),
        (DECLARED, None, -0.1, "05.10", -0.1, MetadataState.CONSISTENT, False),
        (DECLARED, None, 0.0, "05.10", 0.0, MetadataState.CONSISTENT, False),
        (DECLARED, None, None, "04.00", -0.1, MetadataState.SILENT, True),
        (DECLARED, True, -0.1, "05.10", -0.1, MetadataState.INCONSISTENT, True),
        (BASELINE, None, None, "04.00", -0.1, MetadataState.CONSISTENT, True),
        (BASELINE, None, None, "N0400", -0.1, MetadataState.CONSISTENT, True),
        (BASELINE, None, None, "03.01", 0.0, MetadataState.CONSISTENT, True),
        (BASELINE, None, None, None, -0.1, MetadataState.SILENT, True),
        (FIXED, None, 5.0, None, -0.1, MetadataState.CONSISTENT, False),
    ],
)
def test_metadata_decide_by_rule(rule, flag, declared, baseline, offset, state, probed) -> None:
    scene = add_scene(
        FakeStore(),
        "A",
        {"red": 1000, "scl": 4},
        offset_applied=flag,
        declared_offset=declared,
        processing_baseline=baseline,
    )
    found = resolve_radiometry(profile(rule, probe=True), scene, scene.bands["red"])

    assert (found.offset, found.state, found.needs_probe) == (offset, state, probed)
    assert not resolve_radiometry(profile(rule), scene, scene.bands["red"]).needs_probe


@pytest.mark.parametrize("rule", [FLAG, BASELINE])
def test_an_old_baseline_is_believed_of_an_old_scene_only(rule) -> None:
    """A catalogue that tells a baseline from before the offset of a scene from after it is asked for its pixels."""
    doubted = -0.1 if rule is FLAG else 0.0  # the flag says that the offset is there
    for day, offset, probed in (
        (datetime(2021, 6, 1, tzinfo=UTC), 0.0, False),
        (datetime(2023, 6, 1, tzinfo=UTC), doubted, True),
    ):
        scene = add_scene(
            FakeStore(),
            "A",
            {"red": 1000, "scl": 4},
            offset_applied=False,
            processing_baseline="02.11",
            acquired_at=day,
        )

        found = resolve_radiometry(profile(rule, probe=True), scene, scene.bands["red"])

        assert (found.offset, found.needs_probe) == (offset, probed)


def blue(reflectance: np.ndarray, offset_in: bool) -> np.ndarray:
    return np.rint(reflectance * 1e4 + (1000 if offset_in else 0)).clip(1).astype(np.uint16)


LANDS = {
    "crops": (0.02, 0.07),
    "dry season soil": (0.04, 0.14),
    "hazy": (0.03, 0.12),
}


@pytest.mark.parametrize("land", LANDS)
@pytest.mark.parametrize("offset_in", [True, False])
def test_the_probe_tells_offset_pixels_from_corrected_ones(land: str, offset_in: bool) -> None:
    rng = np.random.default_rng(1)
    dark = blue(rng.uniform(*LANDS[land], (80, 80)), offset_in)
    found = probe_offset(dark, rng.random((80, 80)) < 0.7)

    verdict = {True: ProbeVerdict.IN_PIXELS, False: ProbeVerdict.REMOVED}[offset_in]
    if land == "dry season soil" and offset_in:
        verdict = found.verdict  # a dark hundredth of 0.041 is too bright to prove it
        assert verdict in {ProbeVerdict.IN_PIXELS, ProbeVerdict.UNDECIDED}
    assert found.verdict is verdict


def test_a_few_overcorrected_pixels_do_not_prove_the_offset_gone() -> None:
    rng = np.random.default_rng(1)
    dark = blue(rng.uniform(0.02, 0.07, (80, 80)), True)
    dark[:2, :80] = 960

    assert probe_offset(dark, np.ones((80, 80), bool)).verdict is ProbeVerdict.UNDECIDED


def test_the_probe_ignores_nodata_and_clouded_pixels() -> None:
    dark = np.full((40, 40), 1200, np.uint16)
    dark[:20] = 0
    clear = np.ones((40, 40), bool)
    clear[25:] = False
    dark[25:] = 500

    found = probe_offset(dark, clear)

    assert found.clear_pixels == 200
    assert found.below_fraction == 0
    assert probe_offset(dark, np.zeros((40, 40), bool)).verdict is ProbeVerdict.NO_CLEAR_PIXELS


def test_undecided_pixels_refuse_doubtful_metadata_and_leave_consistent_ones_alone() -> None:
    undecided = ProbeResult(
        verdict=ProbeVerdict.UNDECIDED, clear_pixels=900, below_fraction=0.02, darkest_percent=990.0
    )
    store = FakeStore()
    doubtful = add_scene(store, "A", {"red": 1, "scl": 4}, offset_applied=None)
    clean = add_scene(store, "B", {"red": 1, "scl": 4}, offset_applied=False)
    rules = {s.scene_id: {"red": resolve_radiometry(profile(probe=True), s, s.bands["red"])} for s in (doubtful, clean)}

    with pytest.raises(SceneProblemError) as caught:
        decide_radiometry("A", rules["A"], undecided)
    assert caught.value.kind is SceneProblemKind.RADIOMETRY_UNDECIDED
    assert decide_radiometry("B", rules["B"], undecided).bands["red"].offset == -0.1
    assert decide_radiometry("A", rules["A"], None).flags == {Flag.RADIOMETRY_UNVERIFIED}
    assert decide_radiometry("B", rules["B"], None).flags == frozenset()


def scene_of(
    store: FakeStore,
    *,
    offset_in: bool,
    flag: bool | None,
    declared: float | None = -0.1,
    baseline: str | None = "05.10",
):
    """True reflectance: red 0.05, nir 0.35 (index 0.75), blue 0.02 to 0.07."""
    shift = 1000 if offset_in else 0
    dark = lambda x, y: 200 + shift + np.abs(x * 7 + y * 13) % 500  # noqa: E731
    return add_scene(
        store,
        "A",
        {"red": 500 + shift, "nir": 3500 + shift, "blue": dark, "scl": 4},
        offset_applied=flag,
        declared_offset=declared,
        processing_baseline=baseline,
    )


@pytest.mark.parametrize(
    ("offset_in", "flag", "declared", "baseline", "flags"),
    [
        (False, True, -0.1, "05.10", set()),
        (True, False, -0.1, "05.10", set()),
        (False, False, -0.1, "05.10", {Flag.RADIOMETRY_PROBED}),  # Earth Search issues 66 and 71
        (True, True, -0.1, "05.10", {Flag.RADIOMETRY_PROBED}),
        (False, None, -0.1, "05.10", {Flag.RADIOMETRY_PROBED}),
        (True, None, -0.1, "05.10", {Flag.RADIOMETRY_PROBED}),
        (True, False, 0.0, "05.10", {Flag.RADIOMETRY_PROBED}),
        (False, None, None, "02.11", set()),
    ],
)
def test_every_dialect_gives_the_true_index(offset_in, flag, declared, baseline, flags) -> None:
    store = FakeStore()
    scene = scene_of(store, offset_in=offset_in, flag=flag, declared=declared, baseline=baseline)
    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 40, 40))], product=profile(probe=True)))

    assert cell.mean() == pytest.approx(0.75, abs=1e-5)
    assert cell.flags == flags
    assert len(store.overviews) in {0, 2}


def test_a_mislabelled_scene_without_a_dark_band_is_flagged_unverified_only_where_metadata_are_doubtful() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", {"red": 1500, "nir": 4500, "scl": 4}, offset_applied=None)
    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 40, 40))], product=profile(probe=True)))

    assert cell.flags == {Flag.RADIOMETRY_UNVERIFIED}
    assert "no flag" in cell.radiometry


def test_a_scene_whose_radiometry_nobody_can_decide_is_rejected() -> None:
    store = FakeStore()
    scene = scene_of(store, offset_in=False, flag=None)
    store.files["A/blue"].data[:] = 1600
    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 40, 40))], product=profile(probe=True)))

    assert cell.verdicts.status is ObservationStatus.REJECTED
    assert "radiometry_undecided" in cell.verdicts.reason


def test_the_probe_costs_two_overviews_and_no_full_block() -> None:
    store = FakeStore()
    scene = scene_of(store, offset_in=True, flag=False)
    counters: list = []
    run(store, [scene], [farm("a", shapely.box(20, 20, 40, 40))], product=profile(probe=True), counters=counters)

    assert sorted(store.overviews) == ["A/blue", "A/scl"]
    assert counters[0].blocks_decoded == counters[0].blocks_touched == 3
