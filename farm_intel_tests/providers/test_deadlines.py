"""A server that hangs or drips does not outlast the caller's deadline, whatever a single call may take."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farm_intel.providers.whole_answers import whole_answer
from farm_intel.simulation.emulators.faults import Fault, FaultKind
from farm_intel.simulation.emulators.hosting import EmulatorServer

BODY = b"0123456789abcdef" * 4


async def _body(_: Request) -> Response:
    return Response(BODY)


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(Starlette(routes=[Route("/body", _body)])) as running:
        yield running


def ask(server: EmulatorServer, timeout_s: float) -> requests.Response:
    return whole_answer(
        lambda: requests.get(f"{server.base_url}/body", timeout=timeout_s, stream=True), timeout_s=timeout_s
    )


def test_a_whole_answer_is_what_was_sent(server: EmulatorServer) -> None:
    server.faults.add(Fault(kind=FaultKind.SLOW, delay_s=0.01))

    assert ask(server, 5.0).content == BODY
    assert ask(server, 5.0).text == BODY.decode()


def test_a_body_that_drips_ends_with_the_time(server: EmulatorServer) -> None:
    """Each of the eight pieces comes within the limit, all of them together do not."""
    server.faults.add(Fault(kind=FaultKind.SLOW, delay_s=0.3))
    began = time.monotonic()

    with pytest.raises(requests.exceptions.ReadTimeout):
        ask(server, 0.7)

    assert time.monotonic() - began < 1.2


@pytest.mark.parametrize("kind", [FaultKind.TRUNCATED, FaultKind.RESET])
def test_a_body_that_breaks_off_is_no_answer(server: EmulatorServer, kind: FaultKind) -> None:
    server.faults.add(Fault(kind=kind))

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(server, 5.0)
