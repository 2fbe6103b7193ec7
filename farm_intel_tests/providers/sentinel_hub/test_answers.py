"""Answers of the Statistical API in the shapes that were recorded (sentinelhub-py tests/TestInputs, CDSE examples)."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest

from farm_intel.domain.errors import BadRequestError, TransientError
from farm_intel.providers.sentinel_hub.answers import parse_statistics, require

PARTIAL = {
    "data": [
        {"interval": {"from": "2020-06-07T00:00:00Z", "to": "2020-06-08T00:00:00Z"}, "error": "EXECUTION_ERROR"},
        {
            "interval": {"from": "2020-06-12T00:00:00Z", "to": "2020-06-13T00:00:00Z"},
            "outputs": {
                "rgb": {
                    "bands": {
                        "R": {
                            "stats": {
                                "min": 0.004600000102072954,
                                "max": 0.7160000205039978,
                                "mean": 0.11546704480268109,
                                "stDev": 0.06332157724593372,
                                "sampleCount": 660657,
                                "noDataCount": 0,
                            }
                        }
                    }
                }
            },
        },
    ],
    "status": "PARTIAL",
}
"""sentinelhub-py tests/TestInputs/normal_stat_partial_result.json, one band of three."""

ALL_MASKED = {
    "data": [
        {
            "interval": {"from": "2020-07-04T00:00:00Z", "to": "2020-07-05T00:00:00Z"},
            "outputs": {
                "ndvi": {
                    "bands": {
                        "B0": {
                            "stats": {
                                "min": "NaN",
                                "max": "NaN",
                                "mean": "NaN",
                                "stDev": "NaN",
                                "sampleCount": 3036,
                                "noDataCount": 3036,
                                "percentiles": {"50.0": "NaN"},
                            },
                            "histogram": {"bins": [], "overflowCount": 0, "underflowCount": 0},
                        }
                    }
                }
            },
        }
    ],
    "status": "OK",
}


def body(content: object) -> bytes:
    return json.dumps(content).encode()


def test_recorded_partial_answer() -> None:
    failed, good = parse_statistics(body(PARTIAL), "a test")

    assert failed.error == "EXECUTION_ERROR"
    assert failed.transient
    assert good.start == datetime(2020, 6, 12, tzinfo=UTC)
    assert good.outputs["rgb"]["R"].counted == 660657
    assert good.outputs["rgb"]["R"].mean == 0.11546704480268109
    assert not good.error


def test_the_clients_own_fixtures_are_lists_of_answers() -> None:
    assert len(parse_statistics(body([PARTIAL]), "a test")) == 2
    with pytest.raises(BadRequestError, match="COMMON_BAD_PAYLOAD"):
        parse_statistics(body([{"error": "COMMON_BAD_PAYLOAD"}]), "a test")


def test_masked_interval_has_texts_for_numbers() -> None:
    (interval,) = parse_statistics(body(ALL_MASKED), "a test")
    band = interval.outputs["ndvi"]["B0"]

    assert band.counted == 0
    assert math.isnan(band.mean)
    assert math.isnan(band.percentiles[50.0])


@pytest.mark.parametrize(
    ("error", "transient"),
    [("TIMEOUT", True), ({"type": "EXECUTION_ERROR"}, True), ({"type": "BAD_REQUEST"}, False), ({}, True)],
)
def test_errors_of_intervals_are_texts_or_objects(error: object, transient: bool) -> None:
    content = {"data": [{**PARTIAL["data"][0], "error": error}], "status": "PARTIAL"}  # type: ignore[dict-item]  # parsed JSON
    (interval,) = parse_statistics(body(content), "a test")

    assert interval.transient is transient
    assert interval.error


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"data": [{"interval": {"from"',
        b"<html>login</html>",
        b"null",
        b"[]",
        b'{"status": "OK"}',
        body({"data": [], "status": "FAILED"}),
        body({"data": [{"interval": {"from": "yesterday"}}], "status": "OK"}),
        body({"data": [{"interval": {"from": "2020-07-04T00:00:00Z"}, "outputs": {"x": {}}}], "status": "OK"}),
    ],
)
def test_what_is_no_answer_is_asked_for_again(content: bytes) -> None:
    with pytest.raises(TransientError):
        parse_statistics(content, "a test")


def test_an_impossible_mean_is_refused() -> None:
    """A number of pixels without a mean would be stored as an observation without a value."""
    text = json.dumps(ALL_MASKED).replace('"noDataCount": 3036', '"noDataCount": 10')
    with pytest.raises(TransientError):
        parse_statistics(text.encode(), "a test")


def test_missing_outputs_are_noticed_where_the_interval_is_good() -> None:
    intervals = parse_statistics(body(PARTIAL), "a test")
    require(intervals, {"rgb": ["R"]}, "a test")
    with pytest.raises(TransientError, match="lacks rgb G"):
        require(intervals, {"rgb": ["R", "G"]}, "a test")
    with pytest.raises(TransientError, match="lacks ndvi"):
        require(intervals, {"ndvi": ["B0"]}, "a test")
