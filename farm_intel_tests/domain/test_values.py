"""Values that cannot be misread."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.stac.model import _convert_to_solar_time

from farm_intel.domain.bands import resolve_symbol
from farm_intel.domain.errors import BadRequestError, FarmRejectedError
from farm_intel.domain.farms import Farm
from farm_intel.domain.geo import BBox, union_bbox
from farm_intel.domain.products import MaskRule, PixelReason
from farm_intel.domain.scenes import solar_day

longitudes = st.floats(min_value=-180, max_value=180, allow_nan=False)
instants = st.datetimes(min_value=datetime(2015, 1, 1), max_value=datetime(2035, 1, 1))  # noqa: DTZ001


@given(instants, longitudes)
def test_solar_day_agrees_with_odc_stac(instant: datetime, longitude: float) -> None:
    """A second library's solar time is the same day, everywhere and always."""
    theirs = _convert_to_solar_time(instant, longitude).date()

    assert solar_day(instant.replace(tzinfo=UTC), longitude) == theirs


def test_one_acquisition_falls_on_two_solar_days_across_the_antimeridian() -> None:
    instant = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)

    assert solar_day(instant, 179.9) == date(2026, 3, 2)
    assert solar_day(instant, -179.9) == date(2026, 3, 1)


def test_a_box_over_the_antimeridian_meets_both_sides() -> None:
    box = BBox(west=179.0, south=-17.0, east=-179.0, north=-16.0)

    assert box.intersects(BBox(west=-179.5, south=-16.5, east=-179.2, north=-16.2))
    assert box.intersects(BBox(west=179.5, south=-16.5, east=179.7, north=-16.2))
    assert not box.intersects(BBox(west=0.0, south=-16.5, east=1.0, north=-16.2))


def test_uniting_boxes_keeps_the_short_way_round() -> None:
    united = union_bbox(
        [
            BBox(west=179.0, south=-17.0, east=-179.5, north=-16.0),
            BBox(west=-179.2, south=-16.0, east=-179.0, north=-15.0),
        ],
    )

    assert united == BBox(west=179.0, south=-17.0, east=-179.0, north=-15.0)


def test_uniting_plain_boxes() -> None:
    united = union_bbox([BBox(west=1, south=2, east=3, north=4), BBox(west=-1, south=3, east=2, north=6)])

    assert united == BBox(west=-1, south=2, east=3, north=6)


@pytest.mark.parametrize("sides", [(0, 91, 1, 92), (0, 2, 1, 1), (-181, 0, 1, 1)])
def test_impossible_boxes_are_refused(sides: tuple[float, float, float, float]) -> None:
    west, south, east, north = sides
    with pytest.raises(BadRequestError):
        BBox(west=west, south=south, east=east, north=north)


@pytest.mark.parametrize("farm_id", ["", "a|b", "a,b", "x" * 65, "ü", "a b", "[a]"])
def test_ids_that_cannot_be_partition_keys_are_refused(farm_id: str) -> None:
    with pytest.raises(FarmRejectedError, match="farm id"):
        Farm(
            farm_id=farm_id,
            name="",
            boundary_wkb=b"",
            boundary_version=1,
            boundary_hash="",
            bbox=BBox(west=0, south=0, east=1, north=1),
            longitude_deg=0,
            latitude_deg=0,
            area_ha=1,
            time_zone="UTC",
            home_tile="31NAA",
        )


def test_broad_near_infrared_gives_way_to_the_narrow_one_where_it_is_all_there_is() -> None:
    assert resolve_symbol("N", {"nir", "nir08"}) == "nir"
    assert resolve_symbol("N", {"nir08"}) == "nir08"
    assert resolve_symbol("N", {"red"}) is None


def test_a_bit_rule_gives_the_first_matching_reason() -> None:
    """Landsat QA_PIXEL values with published meanings: clear, water, cloud, shadow, fill."""
    rule = MaskRule(
        band="qa_pixel",
        bits=16,
        flags=(
            (0b1, PixelReason.NODATA),
            (0b1000, PixelReason.CLOUD),
            (0b10000, PixelReason.SHADOW),
            (0b10, PixelReason.NEAR_CLOUD),
        ),
    )
    table = rule.lookup()

    assert [PixelReason(table[value]) for value in (21824, 21952, 22280, 23888, 1)] == [
        PixelReason.VALID,
        PixelReason.VALID,
        PixelReason.CLOUD,
        PixelReason.SHADOW,
        PixelReason.NODATA,
    ]


def test_a_class_that_is_not_listed_is_never_valid() -> None:
    rule = MaskRule(band="scl", bits=8, reasons={4: PixelReason.VALID})

    assert set(np.flatnonzero(rule.lookup() == PixelReason.VALID)) == {4}
