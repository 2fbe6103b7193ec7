"""From counts to status: only an observed cell carries a number, and every other says why."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from farm_intel.domain.batches import Verdict
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.domain.products import PixelReason
from farm_intel.domain.quality import QualityRule, judge
from farm_intel_tests.support.fakes import make_batch

DAY = date(2026, 4, 1)
R = PixelReason


def judged(**changes: object) -> tuple[ObservationStatus, str, tuple[Flag, ...]]:
    batch = make_batch(DAY, ("a",), ("x",), **changes)  # type: ignore[arg-type]  # fields by name
    judgement = judge(batch, QualityRule())
    return judgement.statuses[0][0], judgement.reasons[0][0], judgement.flags[0][0]


def test_a_clear_farm_has_a_number_and_no_flag() -> None:
    assert judged() == (ObservationStatus.OBSERVED, "", ())


@pytest.mark.parametrize("share", [R.CLOUD, R.NEAR_CLOUD, R.SHADOW, R.SNOW])
def test_a_farm_under_anything_opaque_is_cloudy(share: PixelReason) -> None:
    status, reason, _ = judged(reasons={share: 0.95, R.VALID: 0.05})

    assert status is ObservationStatus.CLOUDY
    assert "95%" in reason


def test_no_data_at_all_is_outside_and_not_cloudy() -> None:
    status, _, flags = judged(reasons={R.NODATA: 1.0}, used_area_px=0.0, mean=np.nan)

    assert status is ObservationStatus.OUTSIDE_FOOTPRINT
    assert Flag.PARTIAL_COVERAGE in flags


def test_a_corner_is_not_averaged_as_if_it_were_the_farm() -> None:
    status, reason, _ = judged(reasons={R.NODATA: 0.95, R.VALID: 0.05})

    assert status is ObservationStatus.OUTSIDE_FOOTPRINT
    assert "5%" in reason


def test_half_a_farm_is_observed_and_flagged() -> None:
    status, _, flags = judged(reasons={R.NODATA: 0.4, R.VALID: 0.5, R.CLOUD: 0.1})

    assert status is ObservationStatus.OBSERVED
    assert flags == (Flag.PARTIAL_COVERAGE, Flag.PARTLY_CLOUDY)


@pytest.mark.parametrize(("valid", "status"), [(0.0999, "cloudy"), (0.1, "observed"), (0.1001, "observed")])
def test_the_least_valid_share_is_inclusive(valid: float, status: str) -> None:
    assert judged(reasons={R.VALID: valid, R.CLOUD: 1 - valid})[0] == status


@pytest.mark.parametrize(("used_area_px", "status"), [(0.99, "too_few_pixels"), (1.0, "observed")])
def test_less_than_one_pixel_of_farm_is_no_measurement(used_area_px: float, status: str) -> None:
    """A farm of half a pixel touches four of them: what they show is mostly its neighbours."""
    got, reason, _ = judged(used_area_px=used_area_px)

    assert got == status
    assert ("one whole pixel" in reason) == (status == "too_few_pixels")


def test_valid_pixels_without_a_finite_mean_are_not_observed() -> None:
    assert judged(mean=np.nan)[0] is ObservationStatus.TOO_FEW_PIXELS


def test_a_verdict_of_the_engine_stands_and_zeroes_the_shares() -> None:
    verdict = Verdict(status=ObservationStatus.PROVIDER_FAILED, reason="no answer")
    batch = make_batch(DAY, ("a", "b"), ("x",), verdicts=(verdict, None))
    judgement = judge(batch, QualityRule())

    assert judgement.statuses == [[ObservationStatus.PROVIDER_FAILED], [ObservationStatus.OBSERVED]]
    assert judgement.reasons[0] == ["no answer"]
    assert judgement.valid_fraction[:, 0].tolist() == [0.0, 1.0]
    assert batch.reason_fractions[0, 0, R.VALID] == 1.0


def test_an_index_whose_band_is_not_offered_is_rejected_and_not_called_outside() -> None:
    batch = make_batch(DAY, ("a",), ("x", "y"))
    batch.reason_fractions[0, 1] = 0.0
    batch.reason_fractions[0, 1, R.NODATA] = 1.0
    judgement = judge(batch, QualityRule())

    assert judgement.statuses == [[ObservationStatus.OBSERVED, ObservationStatus.REJECTED]]
    assert "band" in judgement.reasons[0][1]
