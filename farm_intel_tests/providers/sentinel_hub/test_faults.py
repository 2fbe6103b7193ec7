"""Everything that can go wrong on the way, at the level of HTTP, for each kind of call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from farm_intel.domain.errors import (
    BudgetExceededError,
    FarmIntelError,
    NotConfiguredError,
    ThrottledError,
    TransientError,
)
from farm_intel.domain.observations import ObservationStatus
from farm_intel.engine.options import EngineOptions
from farm_intel.indices.registry import load_registry
from farm_intel.providers.sentinel_hub.blocks import sentinel_hub_block_readers
from farm_intel.providers.sentinel_hub.catalog import SentinelHubCatalog
from farm_intel.providers.sentinel_hub.client import SentinelHubGateway, deployed_collection
from farm_intel.providers.sentinel_hub.failures import error_for_status, retry_after_s, words_of
from farm_intel.providers.sentinel_hub.statistics import SentinelHubStatistics
from farm_intel.resilience.guard import CallGuard, Operation, PlainGuard
from farm_intel.resilience.retry import GiveUp
from farm_intel.simulation.emulators.faults import Fault, FaultKind, http_date_in
from farm_intel_tests.providers.sentinel_hub.conftest import PROFILE, Hub, guard

QUOTA = b'{"error":{"status":403,"reason":"Forbidden","message":"Insufficient processing units or requests available \
in your account.","code":"ACCESS_INSUFFICIENT_PROCESSING_UNITS"}}'
RATE = b'{"error":{"status":429,"reason":"Too Many Requests","message":"You have exceeded your rate limit",\
"code":"RATE_LIMIT_EXCEEDED"}}'

Call = Callable[[Hub, CallGuard, dict[str, object]], None]


def search(hub: Hub, calls: CallGuard, options: dict[str, object]) -> None:
    SentinelHubCatalog(hub.options(**options), PROFILE, calls, provider="sentinel_hub").search(hub.query())


def pixels(hub: Hub, calls: CallGuard, options: dict[str, object]) -> None:
    scene = KNOWN[0]

    async def run() -> None:
        with ThreadPoolExecutor(1) as pool:
            readers = sentinel_hub_block_readers(hub.options(block_px=64, **options), PROFILE, calls)
            async with readers(pool) as reader:
                band = await reader.open(scene.bands["red"], scene_id=scene.scene_id)
                await band.read([(0, 0)])

    asyncio.run(run())


def statistics(hub: Hub, calls: CallGuard, options: dict[str, object]) -> None:
    """Raise what the verdict says, so that one test serves all calls."""
    engine = SentinelHubStatistics(hub.options(**options), calls, EngineOptions())
    (batch,) = engine.run(DAYS[:1], hub.farms("F001"), load_registry().select(["ndvi"]), PROFILE)
    verdict = batch.verdicts[0]
    if verdict is not None:
        assert verdict.status is ObservationStatus.PROVIDER_FAILED
        assert verdict.transient
        raise TransientError(verdict.reason)


KNOWN: list = []
DAYS: list = []


@pytest.fixture(autouse=True)
def known(hub: Hub) -> None:
    """Remember scenes, so that the faults meet the call under test and no other."""
    if not KNOWN:
        KNOWN.extend(hub.scenes())
        DAYS.extend(hub.days())
        pixels(hub, guard(), {})  # rendered once, so that no time-out below measures that
        statistics(hub, guard(), {})
    hub.server.log.clear()


CALLS = [(search, "search"), (pixels, "process"), (statistics, "statistics")]
TRANSIENT = [
    Fault(kind=FaultKind.CONFLICT),
    Fault(kind=FaultKind.SERVER_ERROR),
    Fault(kind=FaultKind.HTML_BAD_GATEWAY),
    Fault(kind=FaultKind.UNAVAILABLE),
    Fault(kind=FaultKind.GATEWAY_TIMEOUT),
    Fault(kind=FaultKind.RESET),
    Fault(kind=FaultKind.TRUNCATED),
    Fault(kind=FaultKind.EMPTY),
    Fault(kind=FaultKind.HTML),
    Fault(kind=FaultKind.INVALID_JSON),
    Fault(kind=FaultKind.TIMEOUT, delay_s=2.0),
    Fault(kind=FaultKind.SLOW, delay_s=0.4),
    Fault(kind=FaultKind.THROTTLED, body=RATE),
    Fault(kind=FaultKind.THROTTLED, retry_after="50", body=RATE),
    Fault(kind=FaultKind.THROTTLED, retry_after="soon", body=RATE),
]


@pytest.mark.parametrize(("call", "path"), CALLS, ids=[path for _, path in CALLS])
@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda fault: f"{fault.kind.value}-{fault.retry_after}")
def test_passing_trouble_is_transient_and_passes(hub: Hub, fault: Fault, call: Call, path: str) -> None:
    """Without retries each is a TransientError after one request and within the time-out; with one, the answer."""
    bounded = fault.kind in {FaultKind.TIMEOUT, FaultKind.SLOW}
    options: dict[str, object] = {"timeout_s": 1.0 if bounded else 30.0}
    struck = Fault(
        kind=fault.kind, path=path, delay_s=fault.delay_s, retry_after=fault.retry_after, body=fault.body, times=1
    )
    hub.server.faults.add(struck)
    began = time.monotonic()
    with pytest.raises(TransientError):
        call(hub, guard(), options)

    if bounded:
        assert time.monotonic() - began < 2.0
    assert hub.count(path) == 1
    hub.server.reset()
    hub.server.faults.add(struck)
    call(hub, guard(retries=1), options)
    assert hub.count(path) == 2


@pytest.mark.parametrize(("call", "path"), CALLS, ids=[path for _, path in CALLS])
def test_a_revoked_token_is_replaced_once(hub: Hub, call: Call, path: str) -> None:
    """The library never asks for a new token; here a rejected one costs one more request."""
    hub.server.faults.add(Fault(kind=FaultKind.UNAUTHORIZED, path=path, times=1))
    call(hub, guard(), {})

    assert hub.count(path) == 2
    assert hub.count("/token") == 2


def test_tokens_are_shared_until_they_are_revoked(hub: Hub) -> None:
    """Two searches, one token; after a revocation the next search fetches the second, and only that one."""
    catalog = hub.catalog()
    catalog.search(hub.query())
    catalog.search(hub.query())
    assert hub.count("/token") == 1
    hub.state.revoke_tokens()
    catalog.search(hub.query())

    assert hub.count("/token") == 2


def test_a_token_about_to_end_is_renewed_before(hub: Hub) -> None:
    """Tokens of 100 seconds are inside the two minutes that a request may take."""
    hub.state.token_lifetime_s = 100.0
    catalog = hub.catalog()
    catalog.search(hub.query())
    catalog.search(hub.query())

    assert hub.count("/token") == 2


@pytest.mark.parametrize(("call", "path"), CALLS, ids=[path for _, path in CALLS])
def test_a_second_rejection_is_about_credentials(hub: Hub, call: Call, path: str) -> None:
    hub.server.faults.add(Fault(kind=FaultKind.UNAUTHORIZED, path=path, times=0))
    with pytest.raises(NotConfiguredError, match="401"):
        call(hub, guard(retries=3), {})

    assert hub.count(path) == 2


@pytest.mark.parametrize(("call", "path"), CALLS, ids=[path for _, path in CALLS])
def test_a_used_up_quota_is_the_budget(hub: Hub, call: Call, path: str) -> None:
    """403 with the service's words about units is a spent budget; without them it is a missing right."""
    hub.server.faults.add(Fault(kind=FaultKind.FORBIDDEN, path=path, times=0, body=QUOTA))
    with pytest.raises(BudgetExceededError, match="Insufficient processing units"):
        call(hub, guard(retries=3), {})
    assert hub.count(path) == 1
    hub.server.reset()
    hub.server.faults.add(Fault(kind=FaultKind.FORBIDDEN, path=path, times=0))
    with pytest.raises(NotConfiguredError, match="403"):
        call(hub, guard(retries=3), {})


def test_the_emulated_account_can_run_dry(hub: Hub) -> None:
    hub.state.units_quota = hub.state.units_spent
    with pytest.raises(BudgetExceededError):
        pixels(hub, guard(), {})


@pytest.mark.parametrize(("call", "path"), CALLS, ids=[path for _, path in CALLS])
def test_a_wrong_address_is_a_setting(hub: Hub, call: Call, path: str) -> None:
    hub.server.faults.add(Fault(kind=FaultKind.NOT_FOUND, path=path, times=0))
    with pytest.raises(NotConfiguredError, match="404"):
        call(hub, guard(retries=3), {})
    assert hub.count(path) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind=FaultKind.SERVER_ERROR, path="token", times=0), TransientError),
        (Fault(kind=FaultKind.THROTTLED, path="token", times=0, retry_after="10"), ThrottledError),
        (Fault(kind=FaultKind.HTML, path="token", times=0), TransientError),
        (Fault(kind=FaultKind.EMPTY, path="token", times=0), TransientError),
        (Fault(kind=FaultKind.TIMEOUT, path="token", times=0, delay_s=3.0), TransientError),
        (Fault(kind=FaultKind.FORBIDDEN, path="token", times=0), NotConfiguredError),
        (Fault(kind=FaultKind.NOT_FOUND, path="token", times=0), NotConfiguredError),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Fault) else "",
)
def test_trouble_with_tokens(hub: Hub, fault: Fault, error: type[FarmIntelError]) -> None:
    hub.server.faults.add(fault)
    with pytest.raises(error):
        search(hub, guard(), {"timeout_s": 0.5})
    assert hub.count("/search") == 0


def test_a_wrong_secret_is_told_without_the_secret(hub: Hub) -> None:
    with pytest.raises(NotConfiguredError, match="invalid_client") as caught:
        search(hub, guard(), {"client_secret": "my-secret-42"})

    assert "my-secret-42" not in str(caught.value)


def test_nobody_there_is_transient(hub: Hub) -> None:
    """A port where nothing listens: for the token, and for the service itself."""
    dead = "http://127.0.0.1:9"
    with pytest.raises(TransientError):
        search(hub, guard(), {"token_url": f"{dead}/token"})
    with pytest.raises(TransientError):
        search(hub, guard(), {"base_url": dead})


def test_retry_after_in_every_form() -> None:
    """Milliseconds are the service's form, dates the proxies'; what cannot be read is no wait at all."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    assert retry_after_s("3398") == 3.398
    assert retry_after_s("-5") == 0.0
    assert retry_after_s(None) is None
    assert retry_after_s("soon") is None
    assert retry_after_s("Wed, 21 Oct 2026 07:28:30 GMT", date) == 30.0
    assert retry_after_s("Wed, 21 Oct 2026 07:27:00 GMT", date) == 0.0
    assert 15.0 <= (retry_after_s(http_date_in(20)) or 0.0) <= 21.0


class Noting(PlainGuard):
    """A guard that remembers what it was told, and gives a deadline."""

    def __init__(self, left_s: float = 1000.0) -> None:
        super().__init__(guard()._policy)
        self.units: list[tuple[Operation, float]] = []
        self.settled: list[tuple[str, float, float]] = []
        self.left_s = left_s

    def call[T](
        self, operation: Operation, attempt: Callable[[], T], *, units: float = 0.0, give_up: GiveUp | None = None
    ) -> T:
        self.units.append((operation, units))
        return super().call(operation, attempt, give_up=give_up)

    def settle(self, operation: Operation, *, reserved: float, actual: float) -> None:
        self.settled.append((operation.name, reserved, actual))

    def remaining_s(self, default_s: float) -> float:
        return min(default_s, self.left_s)


def test_throttling_carries_the_wait_to_the_guard(hub: Hub) -> None:
    for header, seconds in (("250", 0.25), (http_date_in(10), 10.0), (None, None)):
        hub.server.reset()
        hub.server.faults.add(Fault(kind=FaultKind.THROTTLED, path="search", retry_after=header, body=RATE))
        with pytest.raises(ThrottledError, match="RATE_LIMIT_EXCEEDED") as caught:
            search(hub, guard(), {})
        assert caught.value.retry_after_s == (
            None if seconds is None else pytest.approx(seconds, abs=4.0 if header != "250" else 0.01)
        )


def test_units_are_estimated_before_and_settled_after(hub: Hub) -> None:
    """Both are the documented price here, and every call names its operation and host."""
    notes = Noting()
    spent = hub.state.units_spent
    pixels(hub, notes, {})
    statistics(hub, notes, {})
    host = hub.options().host
    names = [(operation.name, operation.host) for operation, _ in notes.units]

    assert set(names) == {("token", host), ("process", host), ("statistics", host)}
    assert [name for name, _, _ in notes.settled] == ["process", "statistics"]
    assert sum(actual for _, _, actual in notes.settled) == pytest.approx(hub.state.units_spent - spent)
    for _, reserved, actual in notes.settled:
        assert reserved == pytest.approx(actual, rel=0.05)


def test_the_deadline_bounds_a_try(hub: Hub) -> None:
    """Two minutes are allowed, a third of a second is left: the try ends with the deadline, dripping or silent."""
    search(hub, guard(), {})
    for fault in (Fault(kind=FaultKind.SLOW, path="search", delay_s=0.2), Fault(kind=FaultKind.TIMEOUT, path="search")):
        hub.server.faults.add(fault)
        began = time.monotonic()
        with pytest.raises(TransientError):
            search(hub, Noting(left_s=0.35), {"timeout_s": 120.0})
        assert time.monotonic() - began < 0.9
        hub.server.reset()


def test_messages_of_the_service_are_read_in_every_form() -> None:
    assert words_of(QUOTA).startswith("ACCESS_INSUFFICIENT_PROCESSING_UNITS Insufficient")
    assert words_of(b"<html><h1>502</h1>\n bad gateway</html>") == "502 bad gateway"
    assert words_of(b'{"error":"invalid_client","error_description":"no"}') == "invalid_client no"
    assert words_of(b"") == ""
    assert words_of(b'{"code":400,"description":"limit"}') == "400 limit"
    error = error_for_status("a test", 400, {}, b'{"error":{"code":"COMMON_BAD_PAYLOAD","message":"no"}}')
    assert "COMMON_BAD_PAYLOAD" in str(error)
    assert not isinstance(error, TransientError)


def test_collections_are_defined_once_per_address(hub: Hub) -> None:
    """The library's enumeration is shared by the process: the same address gives the same member, another another."""
    one = deployed_collection("sentinel-2-l2a", "http://127.0.0.1:1")

    assert deployed_collection("sentinel-2-l2a", "http://127.0.0.1:1") is one
    assert deployed_collection("sentinel-2-l2a", "http://127.0.0.1:2") is not one
    assert deployed_collection("sentinel-2-l2a", "https://services.sentinel-hub.com").name == "SENTINEL2_L2A"
    assert one.service_url == "http://127.0.0.1:1"
    assert SentinelHubGateway(hub.options(), guard()).collection(PROFILE).service_url == hub.server.base_url
