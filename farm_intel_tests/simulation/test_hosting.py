"""The emulators' server and its faults, as a plain HTTP client sees them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from farm_intel.simulation.emulators.faults import STATUSES, Fault, FaultKind, FaultPlan, http_date_in
from farm_intel.simulation.emulators.hosting import EmulatorServer

BODY = {"numbers": list(range(2000))}


async def numbers(_: Request) -> Response:
    return JSONResponse(BODY)


async def echo(request: Request) -> Response:
    return Response(await request.body())


@pytest.fixture(scope="module")
def running() -> Iterator[EmulatorServer]:
    app = Starlette(routes=[Route("/numbers", numbers), Route("/echo", echo, methods=["POST"])])
    with EmulatorServer(app) as server:
        yield server


@pytest.fixture
def server(running: EmulatorServer) -> EmulatorServer:
    running.reset()
    return running


def get(server: EmulatorServer, path: str = "/numbers", timeout_s: float = 5.0) -> httpx.Response:
    return httpx.get(server.base_url + path, timeout=timeout_s)


@pytest.mark.parametrize(("kind", "status"), list(STATUSES.items()))
def test_a_status_fault_strikes_once_and_is_over(server: EmulatorServer, kind: FaultKind, status: int) -> None:
    server.faults.add(Fault(kind=kind, path="^/num"))
    struck, sound = get(server), get(server)

    assert struck.status_code == status
    assert struck.content != sound.content
    assert sound.json() == BODY


def test_bodies_of_wrong_kinds(server: EmulatorServer) -> None:
    for kind in (FaultKind.HTML_BAD_GATEWAY, FaultKind.HTML, FaultKind.INVALID_JSON, FaultKind.EMPTY):
        server.faults.add(Fault(kind=kind))
    gateway, page, broken, empty = (get(server) for _ in range(4))

    assert gateway.headers["content-type"].startswith("text/html")
    assert b"<html>" in page.content
    assert page.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        broken.json()
    assert broken.headers["content-type"] == "application/json"
    assert empty.content == b""


@pytest.mark.parametrize("value", [None, "2", "1500"])
def test_retry_after_is_sent_as_given(server: EmulatorServer, value: str | None) -> None:
    server.faults.add(Fault(kind=FaultKind.THROTTLED, retry_after=value, body=b'{"error": {"status": 429}}'))
    answer = get(server)

    assert answer.headers.get("retry-after") == value
    assert answer.json()["error"]["status"] == 429


def test_retry_after_as_a_date(server: EmulatorServer) -> None:
    server.faults.add(Fault(kind=FaultKind.UNAVAILABLE, retry_after=http_date_in(5)))
    wait = parsedate_to_datetime(get(server).headers["retry-after"]) - datetime.now(UTC)

    assert 3.5 < wait.total_seconds() <= 6.0


def test_a_reset_comes_in_the_middle_of_the_body(server: EmulatorServer) -> None:
    server.faults.add(Fault(kind=FaultKind.RESET, delay_s=0.05))
    pieces: list[bytes] = []
    with (
        pytest.raises(httpx.ReadError),
        httpx.stream("GET", server.base_url + "/numbers", headers={"accept-encoding": "identity"}) as answer,
    ):
        pieces.extend(answer.iter_raw())

    assert 0 < sum(len(piece) for piece in pieces) < len(json.dumps(BODY, separators=(",", ":")))
    assert get(server).json() == BODY


def test_a_truncated_body_ends_early(server: EmulatorServer) -> None:
    server.faults.add(Fault(kind=FaultKind.TRUNCATED))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        get(server)


def test_a_slow_body_arrives_whole_but_late(server: EmulatorServer) -> None:
    server.faults.add(Fault(kind=FaultKind.SLOW, delay_s=0.03))
    answer = get(server)

    assert answer.json() == BODY
    assert answer.elapsed.total_seconds() >= 0.2


def test_a_timeout_holds_the_client_until_it_gives_up(server: EmulatorServer) -> None:
    server.faults.add(Fault(kind=FaultKind.TIMEOUT))
    with pytest.raises(httpx.ReadTimeout):
        get(server, timeout_s=0.1)

    assert get(server).json() == BODY
    assert [record.status for record in server.log] == [0, 200]


def test_a_timeout_with_an_end_is_a_lost_connection(server: EmulatorServer) -> None:
    server.faults.add(Fault(kind=FaultKind.TIMEOUT, delay_s=0.05))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        get(server)


def test_the_log_tells_what_was_asked(server: EmulatorServer) -> None:
    httpx.post(server.base_url + "/echo?a=1", content=b"hello")
    get(server, "/nowhere")

    assert [(r.method, r.path, r.query, r.status, r.body) for r in server.log] == [
        ("POST", "/echo", "a=1", 200, b"hello"),
        ("GET", "/nowhere", "", 404, b""),
    ]
    assert server.log[0].at_s < server.log[1].at_s


def test_after_and_always() -> None:
    plan = FaultPlan(Fault(kind=FaultKind.NOT_FOUND, path="a$", after=1, times=2))
    plan.add(Fault(kind=FaultKind.CONFLICT, path="b", times=0))
    struck = [plan.strike(path) for path in ("/a", "/c", "/a", "/a", "/a", "/b", "/b", "/b")]

    assert [fault.kind.value if fault else None for fault in struck] == (
        [None, None, "not_found", "not_found", None] + ["conflict"] * 3
    )


def test_many_threads_strike_exactly_as_often_as_said() -> None:
    plan = FaultPlan(Fault(kind=FaultKind.FORBIDDEN, times=50))
    gate = threading.Barrier(8)

    def strike(_: int) -> int:
        gate.wait()
        return sum(plan.strike("/x") is not None for _ in range(100))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(strike, range(8))) == 50


def test_stop_and_start_keep_the_port_even_under_a_held_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), EmulatorServer(Starlette(routes=[Route("/numbers", numbers)])) as server:
        port = server.port
        server.faults.add(Fault(kind=FaultKind.TIMEOUT))
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(get, server)
            while not server.log:
                threading.Event().wait(0.005)
            server.stop()
            assert isinstance(held.exception(timeout=5.0), httpx.HTTPError)
        with pytest.raises(httpx.ConnectError):
            get(server)
        server.start()

        assert server.port == port
        assert get(server).json() == BODY
    assert not [entry for entry in caplog.records if entry.name.startswith("uvicorn")]
