"""Replay: the same verdict from the same stores, and every change told down to the pixels of a real raster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from farm_intel.alerts.replaying import AlertReplaying
from farm_intel.alerts.rules import rule_as_dict
from farm_intel.domain.alerts import Alert, AlertState, RuleVerdict
from farm_intel.domain.batches import RASTER_NODATA
from farm_intel.domain.errors import BadRequestError, StoreError
from farm_intel.domain.geo import PixelGrid
from farm_intel.storage.geotiff import encode_geotiff
from farm_intel.storage.pixels import StoredPixels
from farm_intel.storage.rasters import FolderRasters, RasterBand
from farm_intel_tests.alerts.evaluations import DAY, FARM, INDEX, Field, on, rule

DROP = rule("drop", days=20, enter=0.2, leave=0.1, explained_by="canopy_loss")
OPENED = datetime(2026, 3, 2, tzinfo=UTC)


def raster(mean: float) -> bytes:
    """Return a raster of 8 x 10 pixels about a mean, a corner without data, scaled as stored ones are."""
    values = mean + np.linspace(-0.02, 0.02, 80).reshape(8, 10)
    data = np.round((values - 0.1) / 1e-4).astype(np.int16)
    data[0, 0] = RASTER_NODATA
    grid = PixelGrid(crs="EPSG:32737", width_px=10, height_px=8, pixel_m=10.0, west_m=5e5, north_m=9.9e6)
    return encode_geotiff(data[None], grid, (RasterBand(name=INDEX, scale=1e-4, offset=0.1),), {})


@pytest.fixture
def rasters(tmp_path):
    return FolderRasters(tmp_path)


@pytest.fixture
def field(rasters):
    contents = {rasters.address(content): content for content in (raster(0.8), raster(0.3))}
    rasters.put_many(contents)
    before, after = contents
    stored = Field().look(on(-10), 0.8, sha=before).look(on(-5), 0.8, sha=before).look(DAY, 0.3, sha=after)
    stored.pixels = StoredPixels(rasters)
    return stored


def alert(field: Field, row=DROP) -> Alert:
    """Return the alert that the day's evaluation opens, as the life cycle makes it."""
    (found,) = field.evaluate(row)
    assert found.verdict is RuleVerdict.HOLDS
    return Alert(
        alert_id="a1",
        farm_id=FARM,
        rule=row.slug,
        rule_class=row.rule_class,
        event_key=str(DAY),
        severity=row.severity,
        state=AlertState.OPEN,
        opened_day=DAY,
        last_day=DAY,
        evidence={
            **found.evidence,
            "rule": rule_as_dict(row),
            "day": str(DAY),
            "value": found.value,
            "threshold": found.threshold,
        },
        rule_version=row.version,
        steps=(),
        opened_at=OPENED,
        changed_at=OPENED,
    )


def replay(field: Field, one: Alert):
    replaying = AlertReplaying(evaluating=field.evaluating(), observations=field.observations, pixels=field.pixels)
    return replaying.replay(one)


def test_the_same_stores_give_the_same_verdict(field):
    report = replay(field, alert(field))
    assert report.same, report.differences
    assert (report.verdict_now, report.value_now, report.value_then) == (RuleVerdict.HOLDS, 0.5, 0.5)
    assert [cell.pixels for cell in report.cells] == [79, 79]
    assert [cell.pixel_mean for cell in report.cells] == pytest.approx([0.8, 0.3], abs=0.001)


def test_a_value_that_is_another_one_now_is_told(field):
    one = alert(field)
    field.look(DAY, 0.65, sha=field.evaluate(DROP)[0].evidence["rasters"][1]["sha256"])
    report = replay(field, one)
    text = "\n".join(report.differences)
    assert "holds and is between" in text
    assert "the value was 0.5 and is 0.15" in text
    assert "looks: vigour 2026-03-01 was" in text
    assert "stored mean 0.6500, its pixels' 0.3" in text


def test_work_logged_after_the_alert_does_not_rewrite_it_and_work_known_then_does(field):
    one = alert(field)
    field.log(on(-2), "harvest", recorded=on(9))
    assert replay(field, one).same
    field.log(on(-3), "harvest", recorded=on(-3))
    report = replay(field, one)
    assert not report.same
    assert "explained" in report.differences[0]


def test_what_vanished_is_told(field, rasters):
    one = alert(field)
    rasters.remove(one.evidence["rasters"][1]["sha256"])
    assert any("is not there" in line for line in replay(field, one).differences)

    key = next(key for key in field.observations.rows if key.solar_day == DAY)
    del field.observations.rows[key]
    report = replay(field, one)
    assert any("no number any more" in line for line in report.differences)
    assert report.cells[1].stored_mean is None

    del field.assessments.fused_rows[FARM, INDEX, DAY]
    report = replay(field, one)
    assert report.verdict_now is None
    assert "no look" in report.differences[0]


def test_the_rule_of_then_is_replayed_whatever_the_table_says_now(field):
    one = alert(field)
    report = replay(field, replace(one, evidence={**one.evidence, "rule": rule_as_dict(DROP) | {"looks_to_open": 9}}))
    assert report.same
    lenient = rule_as_dict(DROP)
    lenient["parameters"] = {**DROP.parameters, "enter": 0.6}
    report = replay(field, replace(one, evidence={**one.evidence, "rule": lenient}))
    assert any("threshold was 0.2 and is 0.6" in line for line in report.differences)


def test_an_alert_without_its_rule_is_refused(field):
    one = alert(field)
    bare = {name: value for name, value in one.evidence.items() if name != "rule"}
    with pytest.raises(BadRequestError, match="a1 of farm plot-1"):
        replay(field, replace(one, evidence=bare))


def test_pixels_are_read_in_index_units_and_damage_is_told(rasters):
    content = raster(0.5)
    rasters.put_many({rasters.address(content): content, "0" * 64: b"no raster"})
    values = StoredPixels(rasters).values(rasters.address(content), 1)
    assert values.shape == (79,)
    assert values.mean() == pytest.approx(0.5 + 0.02 / 79, abs=1e-4)
    assert StoredPixels(rasters).values("f" * 64, 1) is None
    for sha, band in (("0" * 64, 1), (rasters.address(content), 2)):
        with pytest.raises(StoreError, match="fsck"):
            StoredPixels(rasters).values(sha, band)
