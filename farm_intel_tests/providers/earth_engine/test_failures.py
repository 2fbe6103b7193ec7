"""Every fault ends in a right answer or the right typed error, in time, through the real client."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Any

import pytest

from farm_intel.domain.errors import (
    BadRequestError,
    FarmIntelError,
    NotConfiguredError,
    ThrottledError,
    TransientError,
)
from farm_intel.domain.observations import ObservationStatus
from farm_intel.providers.earth_engine.failures import NoSuchAssetError, TooLargeError, error_of
from farm_intel.providers.earth_engine.options import EarthEngineOptions
from farm_intel.providers.earth_engine.session import EarthEngineSession, decode_npy, service_account_key
from farm_intel.resilience.guard import PlainGuard
from farm_intel.resilience.retry import RetryPolicy
from farm_intel.simulation.emulators.earth_engine import error_body
from farm_intel.simulation.emulators.faults import Fault, FaultKind
from farm_intel_tests.providers.earth_engine.support import Rig

pytestmark = pytest.mark.xdist_group("earth-engine")
PASSING = (
    FaultKind.THROTTLED,
    FaultKind.SERVER_ERROR,
    FaultKind.HTML_BAD_GATEWAY,
    FaultKind.UNAVAILABLE,
    FaultKind.GATEWAY_TIMEOUT,
    FaultKind.RESET,
    FaultKind.TRUNCATED,
    FaultKind.EMPTY,
    FaultKind.HTML,
    FaultKind.INVALID_JSON,
    FaultKind.UNAUTHORIZED,
    FaultKind.SLOW,
)
"""Faults after which the same call works."""


class HurriedGuard(PlainGuard):
    """A caller whose deadline is near."""

    def __init__(self, remaining_s: float) -> None:
        super().__init__(RetryPolicy(retries=1, wait_initial_s=0.01, wait_max_s=0.02, wait_jitter_s=0.01))
        self._remaining_s = remaining_s

    def remaining_s(self, default_s: float) -> float:
        return min(default_s, self._remaining_s)


@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize("path", ["listAssets", "computeFeatures", "computePixels"])
def test_a_fault_that_passes_leaves_no_trace(rig: Rig, kind: FaultKind, path: str) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    runner = {"computeFeatures": rig.statistics, "computePixels": rig.engine}.get(path)
    rig.server.reset()
    rig.server.faults.add(Fault(kind=kind, path=path, times=2 if kind is not FaultKind.UNAUTHORIZED else 1))

    if runner is None:
        assert rig.days(days[0].solar_day, days[0].solar_day) == days
    else:
        found = rig.run(runner(), days, ("ndvi",))
        assert len(found.observed()) == sum(farm.inside_world for farm in rig.farms)
    struck = [record for record in rig.server.log if path in record.path]
    assert len(struck) >= (1 if kind is FaultKind.SLOW else 2)


def test_an_expired_token_is_renewed(rig: Rig) -> None:
    rig.emulator.expire_tokens()

    found = rig.search(rig.world.acquisition_days[0], rig.world.acquisition_days[0])

    assert len(found.scenes) == 2
    assert [record.path for record in rig.server.log].count("/token") == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FaultKind.THROTTLED, ThrottledError),
        (FaultKind.SERVER_ERROR, TransientError),
        (FaultKind.HTML_BAD_GATEWAY, TransientError),
        (FaultKind.UNAVAILABLE, TransientError),
        (FaultKind.GATEWAY_TIMEOUT, TransientError),
        (FaultKind.HTML, TransientError),
        (FaultKind.INVALID_JSON, TransientError),
        (FaultKind.TRUNCATED, TransientError),
        (FaultKind.FORBIDDEN, NotConfiguredError),
        (FaultKind.UNAUTHORIZED, NotConfiguredError),
        (FaultKind.NOT_FOUND, NotConfiguredError),
    ],
)
def test_a_lasting_fault_is_the_right_typed_error(rig: Rig, kind: FaultKind, expected: type[FarmIntelError]) -> None:
    rig.server.faults.add(Fault(kind=kind, path="listAssets", times=0))

    with pytest.raises(expected) as caught:
        rig.search(rig.world.acquisition_days[0], rig.world.acquisition_days[0])

    assert type(caught.value) is expected
    assert "list_images" in str(caught.value)


def test_forbidden_is_asked_once_and_throttling_is_bounded(rig: Rig) -> None:
    rig.server.faults.add(Fault(kind=FaultKind.FORBIDDEN, path="listAssets", times=0))
    with pytest.raises(NotConfiguredError):
        rig.search(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    assert len([r for r in rig.server.log if "listAssets" in r.path]) == 1

    rig.server.reset()
    rig.server.faults.add(Fault(kind=FaultKind.THROTTLED, path="listAssets", times=0))
    with pytest.raises(ThrottledError):
        rig.search(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    # three retries of ours, none of the library's
    assert len([r for r in rig.server.log if "listAssets" in r.path]) == 4


def test_retry_after_reaches_the_caller(rig: Rig) -> None:
    rig.server.faults.add(
        Fault(
            kind=FaultKind.THROTTLED,
            path="listAssets",
            times=0,
            retry_after="600",
            body=error_body(429, "Too many concurrent aggregations.", "RESOURCE_EXHAUSTED"),
        )
    )

    with pytest.raises(ThrottledError, match="Too many concurrent aggregations") as caught:
        rig.search(rig.world.acquisition_days[0], rig.world.acquisition_days[0])

    assert caught.value.retry_after_s == 600.0
    assert len([r for r in rig.server.log if "listAssets" in r.path]) == 1, (
        "a longer pause than we wait is told at once"
    )


def test_silence_ends_with_the_callers_time(rig: Rig) -> None:
    hurried = replace(rig, guard=HurriedGuard(0.4))
    rig.server.faults.add(Fault(kind=FaultKind.TIMEOUT, path="listAssets", times=0))

    began = time.monotonic()
    with pytest.raises(TransientError, match="no answer within"):
        hurried.search(rig.world.acquisition_days[0], rig.world.acquisition_days[0])

    assert time.monotonic() - began < 2.0


def test_a_stopped_service_is_transient_and_comes_back(rig: Rig) -> None:
    rig.server.stop()
    try:
        with pytest.raises(TransientError):
            rig.search(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    finally:
        rig.server.start()

    assert len(rig.search(rig.world.acquisition_days[0], rig.world.acquisition_days[0]).scenes) == 2


def test_statistics_that_cannot_be_had_now_are_failures_not_answers(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    rig.server.faults.add(Fault(kind=FaultKind.UNAVAILABLE, path="computeFeatures", times=0))

    found = rig.run(rig.statistics(), days, ("ndvi",))

    verdicts = [found.of(cell, "verdicts") for cell in found.places if cell[1] != "S-OUTSIDE"]
    assert {verdict.status for verdict in verdicts} == {ObservationStatus.PROVIDER_FAILED}
    assert all(verdict.transient for verdict in verdicts)
    assert not found.observed()


def test_pixels_that_cannot_be_had_now_are_failures_not_answers(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[0])
    rig.server.faults.add(Fault(kind=FaultKind.HTML_BAD_GATEWAY, path="computePixels", times=0))

    found = rig.run(rig.engine(), days, ("ndvi",))

    verdicts = [found.of(cell, "verdicts") for cell in found.places if cell[1] != "S-OUTSIDE"]
    assert {verdict.status for verdict in verdicts} == {ObservationStatus.PROVIDER_FAILED}
    assert all(verdict.transient for verdict in verdicts)


class _Answer(dict[str, str]):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(headers)
        self.status = status


def _client_error(message: str, status: int | None) -> Exception:
    """The error as the client leaves it: the message alone, the answer in the context."""
    import ee

    error = ee.EEException(message)
    if status is not None:
        context = RuntimeError(message)
        context.resp = _Answer(status)  # type: ignore[attr-defined]  # as googleapiclient's HttpError carries it
        error.__context__ = context
    return error


@pytest.mark.parametrize(
    ("message", "status", "expected"),
    [
        ("User memory limit exceeded.", 400, TooLargeError),
        ("Computation timed out.", 400, TooLargeError),
        (
            "Image.reduceRegion: Too many pixels in the region. Found 1e10, but maxPixels allows 1e7.",
            400,
            TooLargeError,
        ),
        ("Total request size (6e7 bytes) must be less than or equal to 50331648 bytes.", 400, TooLargeError),
        ("Collection query aborted after accumulating over 5000 elements.", 400, TooLargeError),
        ("Request payload size exceeds the limit: 10485760 bytes.", 400, TooLargeError),
        ("Too many concurrent aggregations.", 429, ThrottledError),
        ("Too many concurrent aggregations.", 400, ThrottledError),
        ("Quota exceeded for quota metric 'Read requests'", 429, ThrottledError),
        ("Quota exceeded for quota metric 'Read requests'", 403, ThrottledError),
        (
            "Image.load: Image asset 'X' not found (does not exist or caller does not have access).",
            400,
            NoSuchAssetError,
        ),
        ("Image.select: Band pattern 'X' did not match any bands.", 400, BadRequestError),
        ("Earth Engine API has not been used in project 1 before or it is disabled.", 403, NotConfiguredError),
        ("The service is currently unavailable.", 503, TransientError),
        ("Ok", 502, TransientError),
        ("Ok", None, TransientError),
    ],
)
def test_status_and_words_decide_the_error(message: str, status: int | None, expected: type[FarmIntelError]) -> None:
    error = error_of(_client_error(message, status), "compute_features")

    assert type(error) is expected
    assert "compute_features" in str(error)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00{'descr': '<u2'"])
def test_what_is_no_whole_array_is_a_broken_answer(data: bytes) -> None:
    with pytest.raises(TransientError, match="no whole array"):
        decode_npy(data)


@pytest.mark.parametrize("credentials", ["", "{}", '{"type": "authorized_user"}', "no/such/file.json", "{broken"])
def test_credentials_that_are_none_are_refused_without_being_repeated(credentials: str) -> None:
    with pytest.raises(NotConfiguredError) as caught:
        service_account_key(credentials)

    assert not credentials or credentials not in caught.value.message


def test_a_key_is_read_from_its_file(tmp_path: Any) -> None:
    path = tmp_path / "key.json"
    path.write_text('{"type": "service_account", "client_email": "a@b"}')

    assert service_account_key(str(path))["client_email"] == "a@b"


def test_the_key_is_never_shown() -> None:
    options = EarthEngineOptions(project="p", credentials='{"private_key": "secret"}')

    assert "secret" not in repr(options)


def test_a_refused_key_is_a_question_of_configuration(rig: Rig) -> None:
    key = rig.options.credentials.replace("/token", "/no-such-token")
    session = EarthEngineSession(replace(rig.options, credentials=key))
    rig.server.faults.add(
        Fault(kind=FaultKind.UNAUTHORIZED, path="no-such-token", times=0, body=b'{"error": "invalid_grant"}')
    )

    with pytest.raises(NotConfiguredError, match="does not accept"):
        session.initialise()
    assert not session.ready


def test_equal_sessions_share_one_initialisation(rig: Rig) -> None:
    EarthEngineSession(rig.options).initialise()

    assert rig.server.log == []


def test_initialising_asks_only_the_endpoint(rig: Rig) -> None:
    other = EarthEngineSession(replace(rig.options, project="other-project"))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.initialise()

    assert [record.path for record in rig.server.log] == [
        "/token",
        "/$discovery/rest",
        "/$discovery/rest",
        "/v1/projects/other-project/algorithms",
    ]
