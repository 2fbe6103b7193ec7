"""The scoreboard: counts, grouping and verdicts; and that the targets can be met by plain means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import rasterio
import shapely
from exactextract import exact_extract

from farm_intel.domain.observations import (
    Flag,
    Observation,
    ObservationKey,
    ObservationStatus,
    ZonalStatistics,
)
from farm_intel.indices.registry import load_registry
from farm_intel.simulation.accuracy import AccuracyReport, AccuracyRow, AccuracyTarget, score
from farm_intel.simulation.catalogue import WorldFiles
from farm_intel.simulation.scenes import plan_scenes
from farm_intel.simulation.world import FarmWorld
from farm_intel_tests.simulation.conftest import Contrast, Lookup, scene_folder

STRICT = (
    AccuracyTarget(name="bias", measure="bias", limit=0.01, purity="all", min_size_ha=0.25),
    AccuracyTarget(name="p95", measure="p95", limit=0.005, purity="pure", min_cells=3),
)


def cell(
    farm_id: str,
    day: date,
    mean: float | None,
    *scenes: str,
    slug: str = "contrast",
    flags: tuple[Flag, ...] = (),
    valid: float = 1.0,
    status: ObservationStatus = ObservationStatus.OBSERVED,
) -> Observation:
    return Observation(
        key=ObservationKey(farm_id=farm_id, index=slug, provider="p", collection="c", solar_day=day),
        status=status,
        statistics=None
        if mean is None
        else ZonalStatistics(mean=mean, median=mean, std=0, min=mean, max=mean, p10=mean, p25=mean, p75=mean, p90=mean),
        pixel_count=20,
        valid_pixel_count=20,
        used_pixel_count=20,
        n_effective=20.0,
        standard_error=0.0,
        valid_pixel_fraction=valid,
        cloud_fraction=0.0,
        covered_fraction=1.0,
        flags=flags,
        scene_ids=scenes,
    )


def cells_with_error(world: FarmWorld, error: float, farms: tuple[str, ...] = ("F002", "F003")) -> list[Observation]:
    return [
        cell(farm, scene.day, world.true_index(farm, scene.day, Contrast()) + error, scene.scene_id)
        for scene in plan_scenes(world)
        for farm in farms
    ]


def row(report: AccuracyReport, **wanted: object) -> AccuracyRow:
    (found,) = [r for r in report.rows if all(getattr(r, key) == value for key, value in wanted.items())]
    return found


def test_perfect_observations_score_zero_and_meet_every_target(world: FarmWorld) -> None:
    report = score(world, cells_with_error(world, 0.0), Lookup(), targets=STRICT)

    assert report.scored == 2 * len(plan_scenes(world))
    assert all((r.bias, r.mae, r.p95) == (0.0, 0.0, 0.0) for r in report.rows)
    assert report.failed_targets == ()


def test_a_bias_is_found_where_it_is_and_named(world: FarmWorld) -> None:
    """0.25 ha is shifted by 0.02, 0.5 ha is right: only the first fails, in every dialect and in the sum."""
    observations = cells_with_error(world, 0.02, ("F002",)) + cells_with_error(world, 0.0, ("F003",))
    report = score(world, observations, Lookup(), targets=STRICT)
    shifted = row(report, size_class_ha=0.25, dialect="all", purity="all")

    assert shifted.bias == pytest.approx(0.02)
    assert shifted.mae == pytest.approx(0.02)
    assert shifted.failed == ("bias",)
    assert row(report, size_class_ha=0.5, dialect="all", purity="all").failed == ()
    assert {r.dialect for r in report.rows} == {
        "all",
        "offset_removed",
        "offset_present",
        "mislabelled",
        "before_0400",
    }
    assert any("0.25 ha" in line and "+0.0200" in line for line in report.failed_targets)
    assert not any("0.5 ha" in line for line in report.failed_targets)


def test_measures_are_those_of_numpy(world: FarmWorld) -> None:
    errors = np.random.default_rng(3).normal(-0.002, 0.002, len(plan_scenes(world)))
    observations = [
        replace(seen, statistics=replace(seen.statistics, mean=seen.statistics.mean + error))
        for seen, error in zip(cells_with_error(world, 0.0, ("F004",)), errors, strict=True)
    ]
    found = row(score(world, observations, Lookup()), size_class_ha=1.0, dialect="all", purity="all")

    assert found.n == len(errors)
    assert found.bias == pytest.approx(errors.mean())
    assert found.mae == pytest.approx(np.abs(errors).mean())
    assert found.p95 == pytest.approx(np.percentile(np.abs(errors), 95))


def test_cells_without_a_number_are_counted_not_scored(world: FarmWorld) -> None:
    day = world.acquisition_days[0]
    truth = world.true_index("F002", day, Contrast())
    report = score(
        world,
        [
            cell("F002", day, truth),
            cell("F003", day, None, status=ObservationStatus.CLOUDY),
            cell("F004", day, None, status=ObservationStatus.CLOUDY),
            cell("S-OUTSIDE", day, None, status=ObservationStatus.OUTSIDE_FOOTPRINT),
            cell("my-own-farm", day, 0.5),
        ],
        Lookup(),
    )

    assert report.scored == 1
    assert report.not_scored == {"cloudy": 2, "outside_footprint": 1, "unknown_farm": 1}


def test_mixed_pixels_merged_dialects_and_parts_of_uneven_fields_are_kept_apart(world: FarmWorld) -> None:
    day = world.acquisition_days[0]
    west, east = (scene.scene_id for scene in plan_scenes(world)[:2])
    uneven = next(farm.farm_id for farm in world.farms if not farm.even)
    truth = {farm: world.true_index(farm, day, Contrast()) for farm in ("F002", uneven)}
    report = score(
        world,
        [
            cell("F002", day, truth["F002"] + 0.1, west, flags=(Flag.MIXED_PIXELS,)),
            cell("F002", day, truth["F002"], west, east),
            cell(uneven, day, truth[uneven] + 0.3, west, valid=0.5),
            cell(uneven, day, truth[uneven] + 0.006, west),
        ],
        Lookup(),
        targets=STRICT,
    )

    assert row(report, size_class_ha=0.25, dialect="all", purity="mixed").bias == pytest.approx(0.1)
    assert row(report, size_class_ha=0.25, dialect="mixed", purity="pure").bias == pytest.approx(0.0)
    size = world.farm(uneven).size_class_ha
    part = row(report, size_class_ha=size, dialect="all", purity="uneven_part")
    assert (part.n, part.judged_by) == (1, ())
    whole = row(report, size_class_ha=size, dialect="all", purity="uneven")
    assert (whole.n, whole.judged_by) == (1, ())
    both = row(report, size_class_ha=size, dialect="all", purity="all")
    assert (both.n, both.judged_by, both.failed) == (1, ("bias",), ())


def test_a_target_that_judged_nothing_is_missed(world: FarmWorld) -> None:
    """An empty store must not pass."""
    report = score(world, [], Lookup())

    assert report.rows == ()
    assert len(report.failed_targets) == len(report.targets)


def test_the_report_is_json_and_a_table(world: FarmWorld) -> None:
    report = score(world, cells_with_error(world, 0.02), Lookup(), targets=STRICT)
    parsed = json.loads(json.dumps(report.as_dict()))

    assert parsed["scored"] == report.scored
    assert len(parsed["rows"]) == len(report.table()) == len(report.rows)
    assert parsed["failed_targets"] == list(report.failed_targets) != []
    verdicts = {line["verdict"] for line in report.table()}
    assert "missed" in verdicts
    assert all(line["verdict"] == "-" or line["target"] != "-" for line in report.table())


def measured(world: FarmWorld, files: WorldFiles, slugs: tuple[str, ...]) -> Iterator[Observation]:
    """Measure the written world by plain means: rasterio, exactextract, the known offset, pixels wholly inside."""
    registry = load_registry()
    for scene in plan_scenes(world):
        if scene.artefact or scene.truncated_band:
            continue
        folder = scene_folder(files, scene.scene_id)
        with rasterio.open(folder / "SCL.tif") as source:
            clear = np.repeat(np.repeat(np.isin(source.read(1), (4, 5)), 2, 0), 2, 1)
        offset = 1000 if scene.dialect.offset_in_pixels else 0
        bands = {}
        for name, number in (("blue", "B02"), ("green", "B03"), ("red", "B04"), ("nir", "B08")):
            with rasterio.open(folder / f"{number}.tif") as source:
                bands[name] = (source.read(1).astype(float) - offset) / 10_000
                profile = source.profile
        farms = [f for f in world.farms if f.size_class_ha >= 0.25 and f.inside_world and f.farm_id != "S-STRIP"]
        shapes = [to_crs(f.boundary_wkb, scene.tile.epsg) for f in farms]
        features = [{"type": "Feature", "geometry": json.loads(shapely.to_geojson(shape))} for shape in shapes]
        for slug in slugs:
            values = np.where(clear, registry.get(slug).evaluate(bands), -9999.0)
            with rasterio.MemoryFile() as memory:
                plain = {"driver": "GTiff", "count": 1, "dtype": "float64", "nodata": -9999.0}
                size = {key: profile[key] for key in ("width", "height", "transform", "crs")}
                with memory.open(**plain, **size) as target:
                    target.write(values, 1)
                with memory.open() as source:
                    found = exact_extract(source, features, ["values", "coverage"])
            for farm, shape, result in zip(farms, shapes, found, strict=True):
                properties = result["properties"]
                inside = np.asarray(properties["coverage"]) > 0.9999
                seen = np.ma.masked_equal(properties["values"], -9999.0)[inside].compressed()
                covered = np.asarray(properties["coverage"]).sum() * 100.0 > 0.99 * shape.area
                if covered and seen.size >= 10:
                    share = float((np.ma.masked_equal(properties["values"], -9999.0).count()) / inside.size)
                    yield cell(farm.farm_id, scene.day, float(seen.mean()), scene.scene_id, slug=slug, valid=share)


def to_crs(wkb: bytes, epsg: int) -> shapely.Geometry:
    from pyproj import Transformer

    to_tile = Transformer.from_crs(4326, epsg, always_xy=True)
    return shapely.transform(shapely.from_wkb(wkb), lambda xy: np.column_stack(to_tile.transform(xy[:, 0], xy[:, 1])))


def test_the_targets_can_be_met_by_plain_means(world: FarmWorld, files: WorldFiles) -> None:
    """A second opinion that shares nothing with our engine measures the written files and meets every target."""
    report = score(world, measured(world, files, ("ndvi", "ndwi", "evi", "savi")), load_registry())

    assert report.scored > 300
    assert report.failed_targets == ()
    assert row(report, index="ndvi", size_class_ha=0.25, dialect="all", purity="all").n > 5
