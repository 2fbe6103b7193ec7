"""Which farms a scene's box touches: for thousands at once the same answer as one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from farm_intel.domain.geo import BBox
from farm_intel.observing.planning import boxes_touching

_longitude = st.one_of(st.sampled_from([-180.0, -179.0, 0.0, 179.0, 180.0]), st.floats(-180, 180))
_latitude = st.one_of(st.sampled_from([-90.0, 0.0, 90.0]), st.floats(-90, 90))


@st.composite
def boxes(draw: st.DrawFn) -> BBox:
    """Any box, also one without width and one over the antimeridian."""
    south, north = sorted([draw(_latitude), draw(_latitude)])
    return BBox(west=draw(_longitude), south=south, east=draw(_longitude), north=north)


@given(boxes(), st.lists(boxes(), min_size=1, max_size=20))
def test_boxes_touch_as_they_do_one_by_one(scene: BBox, farms: list[BBox]) -> None:
    array = np.array([(farm.west, farm.south, farm.east, farm.north) for farm in farms])
    assert boxes_touching(scene, array).tolist() == [scene.intersects(farm) for farm in farms]
