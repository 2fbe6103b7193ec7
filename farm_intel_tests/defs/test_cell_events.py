"""What an event and a check say about a cell."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import dagster as dg
import pytest

from farm_intel.defs.cell_metadata import MAX_PICTURE_BYTES, CellDescriber
from farm_intel.defs.cell_quality import judge_cell, verdict_metadata
from farm_intel.domain.observations import Flag, ObservationKey, ObservationStatus, ZonalStatistics
from farm_intel.indices.registry import load_registry
from farm_intel.observing.model import CellOutcome
from farm_intel_tests.support.fake_observing import FakePictures

INDEX = load_registry().get("ndvi")
GOOD = CellOutcome(
    key=ObservationKey(
        farm_id="f1", index="ndvi", provider="stac", collection="sentinel-2-l2a", solar_day=date(2026, 5, 1)
    ),
    status=ObservationStatus.OBSERVED,
    reason="",
    statistics=ZonalStatistics(mean=0.6, median=0.6, std=0.1, min=0.2, max=0.8, p10=0.4, p25=0.5, p75=0.7, p90=0.75),
    valid_pixel_fraction=0.9,
    cloud_fraction=0.1,
    covered_fraction=1.0,
    used_pixel_count=40,
    n_effective=40.0,
    standard_error=0.0158,
    flags=(),
    scene_ids=("S2A",),
    radiometry="scale 0.0001 offset -0.1",
    fingerprint="abc",
    raster_path="f1/2026-05-01.tif",
    raster_band=1,
    recomputed=True,
)
CLOUDY = replace(GOOD, status=ObservationStatus.CLOUDY, reason="cloud", statistics=None, valid_pixel_fraction=0.0)


def test_a_good_cell_passes():
    assert judge_cell(GOOD, INDEX).passed


@pytest.mark.parametrize(
    ("outcome", "part"),
    [
        (CLOUDY, "has_number"),
        (replace(GOOD, valid_pixel_fraction=0.49), "valid_fraction_good"),
        (replace(GOOD, statistics=replace(GOOD.statistics, mean=1.4, max=1.5)), "value_in_range"),
        (replace(GOOD, flags=(Flag.RADIOMETRY_PROBED,)), "radiometry_agrees"),
        (replace(GOOD, flags=(Flag.RADIOMETRY_UNVERIFIED,)), "radiometry_agrees"),
    ],
)
def test_nature_and_catalogues_make_a_warning_and_name_the_part(outcome, part):
    verdict = judge_cell(outcome, INDEX)

    assert not getattr(verdict, part)
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.WARN


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (CLOUDY, "no number, cloudy: cloud"),
        (replace(GOOD, valid_pixel_fraction=0.31), "only 31% of the farm's area is clear"),
        (replace(GOOD, flags=(Flag.RADIOMETRY_PROBED,)), "do not agree on the reflectance offset"),
        (replace(GOOD, scene_ids=()), "breaks its contract: a number without a scene"),
    ],
)
def test_a_check_that_does_not_pass_says_why_in_words(outcome, words):
    metadata = verdict_metadata(judge_cell(outcome, INDEX), outcome)

    assert words in metadata["because"]


def test_a_check_that_passes_needs_no_words():
    assert "because" not in verdict_metadata(judge_cell(GOOD, INDEX), GOOD)


def test_a_small_field_is_told_and_does_not_fail():
    verdict = judge_cell(replace(GOOD, flags=(Flag.MIXED_PIXELS,)), INDEX)

    assert verdict.small_field
    assert verdict.passed


@pytest.mark.parametrize(
    "outcome",
    [
        replace(GOOD, statistics=None),
        replace(CLOUDY, statistics=GOOD.statistics),
        replace(CLOUDY, reason=""),
        replace(GOOD, statistics=replace(GOOD.statistics, mean=float("nan"))),
        replace(GOOD, statistics=replace(GOOD.statistics, mean=0.1)),
        replace(GOOD, scene_ids=()),
        replace(GOOD, cloud_fraction=1.5),
    ],
)
def test_a_record_that_breaks_its_contract_is_an_error(outcome):
    verdict = judge_cell(outcome, INDEX)

    assert verdict.violations
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.ERROR


def test_the_valid_fraction_limit_itself_passes():
    assert judge_cell(replace(GOOD, valid_pixel_fraction=0.5), INDEX).passed


def test_an_event_carries_numbers_provenance_and_pictures_and_stays_small():
    metadata = CellDescriber(pictures=FakePictures()).describe(GOOD)

    assert metadata["mean"] == 0.6
    assert metadata["scenes"] == "S2A"
    assert metadata["raster"] == "f1/2026-05-01.tif (band 1)"
    assert metadata["thumbnail"].value.startswith("![thumbnail](data:image/png;base64,")
    assert metadata["series"].value.startswith("![series](data:image/png;base64,")
    assert len(str(metadata)) < 6_000


def test_a_picture_that_would_bloat_the_event_log_is_left_out():
    class Huge(FakePictures):
        def thumbnail(self, outcome):
            return b"x" * (MAX_PICTURE_BYTES + 1)

    metadata = CellDescriber(pictures=Huge()).describe(GOOD)

    assert "thumbnail" not in metadata
    assert "series" in metadata


def test_without_pictures_nothing_is_drawn():
    assert "thumbnail" not in CellDescriber(pictures=None).describe(GOOD)


def test_many_scenes_are_counted_not_listed():
    metadata = CellDescriber(pictures=None).describe(replace(GOOD, scene_ids=tuple(f"S{n}" for n in range(9))))

    assert metadata["scenes"] == "S0, S1, S2, S3, S4, S5 and 3 more"
