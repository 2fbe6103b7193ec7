"""The kernel against plain numpy, farm by farm."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.domain.observations import STATISTICS
from farm_intel.domain.products import PixelReason
from farm_intel.engine.pipeline import EngineOptions
from farm_intel.engine.statistics import sort_keys, summarise
from farm_intel_tests.engine.support import FakeStore, add_scene, cells, farm, only, run, utm_grid


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=400), st.integers(0, 2**32 - 1))
def test_unweighted_statistics_are_numpys(values: list[float], seed: int) -> None:
    array = np.array(values, np.float32)
    weights = np.random.default_rng(seed).integers(1, 256, len(values))
    quantised = np.rint(array.astype(np.float64) / 1e-4).astype(np.int64)
    keys = (((quantised + 32768) << 8) | weights).astype(np.uint32)
    out = np.empty(9)
    total, squares = summarise(array, keys, np.empty_like(keys), len(array), False, 1e-4, 0.0, out)

    exact = array.astype(np.float64)
    q = np.percentile(exact, [50, 10, 25, 75, 90])
    expected = [exact.mean(), q[0], exact.std(), exact.min(), exact.max(), *q[1:]]
    assert (total, squares) == (len(array), len(array))
    np.testing.assert_allclose(out[[0, 2, 3, 4]], [expected[k] for k in (0, 2, 3, 4)], atol=1e-12)
    np.testing.assert_allclose(out, expected, atol=0.51e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_weighted_statistics_follow_the_stated_rule(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    quantised = np.sort(rng.integers(-9000, 9000, n))
    weights = rng.integers(1, 256, n)
    values = (quantised * 1e-4).astype(np.float32)
    shuffle = rng.permutation(n)
    keys = (((quantised + 32768) << 8) | weights).astype(np.uint32)[shuffle]
    out = np.empty(9)
    summarise(values[shuffle], keys, np.empty_like(keys), n, True, 1e-4, 0.0, out)

    w = weights.astype(np.float64)
    order = np.lexsort((weights, quantised))
    v, sorted_w = quantised[order] * 1e-4, w[order]
    place = np.arange(n) * sorted_w + (n - 1) * (np.cumsum(sorted_w) - sorted_w)
    expected = np.interp(np.array([0.5, 0.1, 0.25, 0.75, 0.9]) * (n - 1) * w.sum(), place, v)
    mean = np.average(quantised * 1e-4, weights=w)
    np.testing.assert_allclose(out[[1, 5, 6, 7, 8]], expected, atol=1e-6)
    np.testing.assert_allclose(out[0], mean, atol=1e-6)
    np.testing.assert_allclose(out[2], np.sqrt(np.average((quantised * 1e-4 - mean) ** 2, weights=w)), atol=1e-6)


@pytest.mark.parametrize("spread", ["even", "narrow", "outlier", "equal"])
@pytest.mark.parametrize("n", [1, 48, 49, 300, 20_000])
def test_percentiles_are_right_however_the_values_crowd(n: int, spread: str) -> None:
    rng = np.random.default_rng(n)
    quantised = {
        "even": rng.integers(-10_000, 10_001, n),
        "narrow": np.rint(rng.normal(6000, 40, n)).astype(np.int64),
        "outlier": np.where(np.arange(n) == n // 2, -10_000, rng.integers(6000, 6010, n)),
        "equal": np.full(n, 1234),
    }[spread]
    weights = rng.integers(1, 256, n)
    keys = (((quantised + 32768) << 8) | weights).astype(np.uint32)
    values = (quantised * 1e-4).astype(np.float32)
    plain, weighted = np.empty(9), np.empty(9)
    summarise(values, keys.copy(), np.empty_like(keys), n, False, 1e-4, 0.0, plain)
    summarise(values, keys.copy(), np.empty_like(keys), n, True, 1e-4, 0.0, weighted)

    shares = np.array([0.5, 0.1, 0.25, 0.75, 0.9])
    np.testing.assert_allclose(plain[[1, 5, 6, 7, 8]], np.quantile(quantised * 1e-4, shares), atol=1e-6)
    order = np.lexsort((weights, quantised))
    w = weights[order].astype(np.float64)
    place = np.arange(n) * w + (n - 1) * (np.cumsum(w) - w)
    expected = np.interp(shares * (n - 1) * w.sum(), place, quantised[order] * 1e-4)
    np.testing.assert_allclose(weighted[[1, 5, 6, 7, 8]], expected, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 47, 48, 49, 500, 5000])
def test_keys_are_sorted_by_value_and_for_weighted_percentiles_by_weight_too(n: int) -> None:
    keys = np.random.default_rng(n).integers(0, 1 << 24, n).astype(np.uint32)
    keys[: n // 2] = (keys[0] & 0xFFFF00) | (keys[: n // 2] & 0xFF)
    by_value, by_both = keys.copy(), keys.copy()
    sort_keys(by_value, np.empty_like(keys), n, 1)
    sort_keys(by_both, np.empty_like(keys), n, 0)

    assert by_both.tolist() == sorted(keys.tolist())
    assert (by_value >> 8).tolist() == sorted((keys >> 8).tolist())
    assert sorted(by_value.tolist()) == sorted(keys.tolist())


def test_every_statistic_of_every_index_equals_a_plain_reference_with_noise_clouds_and_gaps() -> None:
    rng = np.random.default_rng(3)
    store = FakeStore()
    noise = {name: rng.integers(200, 4500, (256, 256)) for name in ("blue", "green", "red", "nir")}
    noise["swir16"] = rng.integers(200, 4500, (128, 128))
    noise["scl"] = rng.choice([4, 5, 6, 8, 3, 0], (128, 128), p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    noise["red"][rng.random((256, 256)) < 0.02] = 0
    noise["nir"][rng.random((256, 256)) < 0.02] = 20_000
    scene = add_scene(store, "A", {name: (lambda x, y, a=a: a) for name, a in noise.items()})
    polygons = {f"f{k}": shapely.Point(rng.uniform(20, 236, 2)).buffer(rng.uniform(4, 19), 5) for k in range(30)}
    slugs = ("ndvi", "ndwi", "ndmi", "evi", "savi")
    found = cells(run(store, [scene], [farm(k, p) for k, p in polygons.items()], slugs))

    up = {k: np.kron(a, np.ones((2, 2), int)) if a.shape[0] == 128 else a for k, a in noise.items()}
    rho = {k: a * 1e-4 for k, a in up.items() if k != "scl"}
    b, g, r, n, s = (rho[k] for k in ("blue", "green", "red", "nir", "swir16"))
    with np.errstate(all="ignore"):
        values = [
            (n - r) / (n + r),
            (g - n) / (g + n),
            (n - s) / (n + s),
            2.5 * (n - r) / (n + 6 * r - 7.5 * b + 1),
            1.5 * (n - r) / (n + r + 0.5),
        ]
    inputs = [("nir", "red"), ("green", "nir"), ("nir", "swir16"), ("blue", "nir", "red"), ("nir", "red")]
    from farm_intel_tests.engine.support import REGISTRY

    boxes = [[shapely.box(c, q, c + 1, q + 1) for c in range(256)] for q in range(256)]
    for (_, name), cell in found.items():
        polygon = polygons[name]
        c0, r0, c1, r1 = (int(v) for v in polygon.bounds)
        inside = np.zeros((256, 256))
        for q in range(r0, r1 + 1):
            for c in range(c0, c1 + 1):
                inside[q, c] = polygon.intersection(boxes[q][c]).area
        for i, slug in enumerate(slugs):
            index = REGISTRY.get(slug)
            valid = np.isin(up["scl"], [4, 5])
            reasons = np.full((256, 256), int(PixelReason.VALID))
            for code, reason in (
                (0, PixelReason.NODATA),
                (6, PixelReason.WATER),
                (8, PixelReason.CLOUD),
                (3, PixelReason.SHADOW),
            ):
                reasons[up["scl"] == code] = reason
            gap = valid & np.any([up[k] == 0 for k in inputs[i]], axis=0)
            bad = valid & ~gap & np.any([(rho[k] <= 0) | (rho[k] > 1.6) for k in inputs[i]], axis=0)
            out = valid & ~gap & ~bad & ~((values[i] >= index.valid_range[0]) & (values[i] <= index.valid_range[1]))
            reasons[gap], reasons[bad], reasons[out] = (
                PixelReason.NODATA,
                PixelReason.REFLECTANCE_OUT_OF_RANGE,
                PixelReason.INDEX_OUT_OF_RANGE,
            )
            shares = np.bincount(reasons.ravel(), weights=inside.ravel(), minlength=12) / inside.sum()
            np.testing.assert_allclose(cell.reason_fractions[i], shares, atol=2e-3)
            whole = inside > 1 - 1e-9
            ratio = 2 if "swir16" in inputs[i] else 1
            if ratio == 2:
                whole = np.kron(whole.reshape(128, 2, 128, 2).all(axis=(1, 3)), np.ones((2, 2), bool))
            use = whole & (reasons == PixelReason.VALID)
            if use.sum() < 10 * ratio**2:
                assert cell.mixed[i]
                continue
            v = values[i][use]
            q = np.percentile(v, [50, 10, 25, 75, 90])
            expected = dict(zip(STATISTICS, [v.mean(), q[0], v.std(), v.min(), v.max(), *q[1:]], strict=True))
            np.testing.assert_allclose(
                cell.statistics[i], list(expected.values()), atol=1.0e-4, err_msg=f"{name} {slug}"
            )
            np.testing.assert_allclose(cell.statistics[i, [0, 2]], [v.mean(), v.std()], atol=2e-6)
            assert cell.n_effective[i] == pytest.approx(use.sum() / ratio**2)


@pytest.mark.parametrize(("columns", "pure", "mixed"), [(9, 9, True), (10, 10, False), (11, 11, False)])
def test_the_purity_ladder_turns_at_ten_pixels(columns: int, pure: int, mixed: bool) -> None:
    """A row of whole pixels with most of a row of other land below: edges count only while there are fewer than ten."""
    store = FakeStore()
    grid = utm_grid()
    inner = lambda x, y: np.where(y > grid.north_m - 210, 3000, 1000) + 0 * x  # noqa: E731
    scene = add_scene(store, "A", {"red": 1000, "nir": inner, "scl": 4})
    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 20 + columns, 21.6))]))

    assert bool(cell.mixed[0]) is mixed
    assert cell.pixel_count[0] == 2 * columns
    assert cell.valid_pixel_count[0] == 2 * columns
    if mixed:
        w = 0.6
        assert cell.mean() == pytest.approx(0.5 / (1 + w), abs=1e-6)
        assert cell.used_pixel_count[0] == 2 * columns
        assert cell.n_effective[0] == pytest.approx(columns * (1 + w) ** 2 / (1 + w * w), rel=1e-6)
    else:
        assert cell.mean() == pytest.approx(0.5, abs=1e-6)
        assert cell.used_pixel_count[0] == pure
        assert cell.n_effective[0] == pure


def test_the_ladder_counts_pixels_of_the_coarsest_band() -> None:
    """A field of 4 x 4 base pixels has 16 pure ones of 10 m but only 4 of 20 m."""
    store = FakeStore()
    scene = add_scene(store, "A", {"red": 1000, "nir": 3000, "swir16": 2000, "scl": 4})
    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 24.5, 24.5))], ("ndvi", "ndmi")))

    assert cell.mixed.tolist() == [False, True]
    assert cell.used_pixel_count.tolist() == [16, 7]
    assert cell.batch.gsd_m.tolist() == [10.0, 20.0]


def test_a_farm_smaller_than_a_pixel_is_measured_as_mixed_with_one_effective_pixel() -> None:
    store = FakeStore()
    scene = add_scene(store, "A", {"red": 1000, "nir": 3000, "scl": 4})
    cell = only(run(store, [scene], [farm("a", shapely.box(20.2, 20.3, 20.7, 20.8))]))

    assert cell.mean() == pytest.approx(0.5, abs=1e-6)
    assert cell.n_effective[0] == pytest.approx(1.0)
    assert cell.pixel_count[0] == 1


def test_digital_numbers_below_the_offset_do_not_wrap() -> None:
    """450 - 1000 in uint16 is 64,986; here it is negative reflectance and out of range."""
    store = FakeStore()
    left = lambda x, y: np.where(x < 600_000 + 250, 450, 3000) + 0 * y  # noqa: E731
    scene = add_scene(store, "A", {"red": left, "nir": 5000, "scl": 4}, offset_applied=False)
    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 30, 30))]))

    assert cell.share(PixelReason.REFLECTANCE_OUT_OF_RANGE) == pytest.approx(0.5)
    assert cell.mean() == pytest.approx((0.4 - 0.2) / 0.6, abs=1e-6)
    assert cell.statistics[0, STATISTICS.index("std")] < 1e-6


def test_nodata_in_one_band_masks_only_the_indices_that_read_it() -> None:
    store = FakeStore()
    gap = lambda x, y: np.where(x < 600_000 + 250, 0, 2000) + 0 * y  # noqa: E731
    scene = add_scene(store, "A", {"red": 1000, "nir": 3000, "swir16": gap, "scl": 4}, ratios={"swir16": 1})
    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 30, 30))], ("ndvi", "ndmi")))

    assert cell.share(PixelReason.NODATA, 0) == 0
    assert cell.share(PixelReason.NODATA, 1) == pytest.approx(0.5)
    assert cell.mean(1) == pytest.approx(0.2, abs=1e-6)


def test_the_clip_holds_every_valid_pixel_at_its_place_and_nodata_elsewhere() -> None:
    store = FakeStore()
    grid = utm_grid()
    ramp = lambda x, y: 1000 + (x - grid.west_m) + 0 * y  # noqa: E731
    cloud = lambda x, y: np.where(y > grid.north_m - 220, 8, 4) + 0 * x  # noqa: E731
    scene = add_scene(store, "A", {"red": 1000, "nir": ramp, "scl": cloud})
    cell = only(run(store, [scene], [farm("a", shapely.box(20, 20, 26, 26))]))

    clip = cell.clips
    assert (clip.grid.west_m, clip.grid.north_m) == (grid.west_m + 200, grid.north_m - 200)
    nir = 1000 + 205 + 10 * np.arange(6)
    expected = np.rint((nir - 1000) / (nir + 1000) / 1e-4).astype(int)
    assert (clip.data[0, :2] == -32768).all()
    np.testing.assert_allclose(clip.data[0, 2:], np.tile(expected, (4, 1)), atol=1)


def test_results_do_not_depend_on_threads_budget_or_block_size() -> None:
    rng = np.random.default_rng(8)
    data = {name: rng.integers(300, 4000, (256, 256)) for name in ("red", "nir")}
    farms = [farm(f"f{k}", shapely.Point(rng.uniform(20, 236, 2)).buffer(rng.uniform(3, 30))) for k in range(25)]
    results = []
    for block, options in (
        (64, EngineOptions(threads=1, budget_mib=1)),
        (256, EngineOptions(threads=4, budget_mib=64)),
        (16, EngineOptions(threads=3, budget_mib=1, mask_first=True)),
    ):
        store = FakeStore()
        painted = {name: (lambda x, y, a=a: a) for name, a in data.items()}
        scene = add_scene(store, "A", painted | {"scl": 4}, block=block)
        found = cells(run(store, [scene], farms, options=options))
        results.append(np.array([found[key].statistics for key in sorted(found)]))

    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
