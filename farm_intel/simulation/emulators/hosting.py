"""Serves an emulator's ASGI app on 127.0.0.1 from a thread of its own, with a request log and faults."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from farm_intel.simulation.emulators.faults import STATUSES, Fault, FaultKind, FaultPlan

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_START_TIMEOUT_S = 20.0
_SLOW_PIECES = 8
_SLOW_PAUSE_S = 0.05
_HTML = b"<!DOCTYPE html><html><head><title>%d</title></head><body><h1>%d</h1></body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as it came in, and the status it was answered with."""

    method: str
    path: str
    query: str
    status: int
    """0 where no answer was begun (timeout) or none is finished yet."""
    at_s: float
    """Monotonic clock when the request arrived, seconds."""
    body: bytes = b""


class EmulatorServer:
    """One emulator on a port of its own; `with EmulatorServer(app) as server: get(server.base_url + "/…")`."""

    def __init__(self, app: AsgiApp, *, faults: FaultPlan | None = None, port: int = 0) -> None:
        """Remember what to serve; nothing listens before `start`.

        Args:
            app: any ASGI 3 application.
            faults: what goes wrong; changes while the server runs take effect with the next request.
            port: 0 lets the system choose; the choice is kept over stop and start.

        """
        self.faults = faults if faults is not None else FaultPlan()
        self.log: list[RequestRecord] = []
        """Every request in the order of arrival."""
        self._app = _FaultyApp(app, self)
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.transports: dict[tuple[str, int], asyncio.Transport] = {}
        """Open connections by client address, for faults below HTTP."""

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._port

    @property
    def base_url(self) -> str:
        """The server's root without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; returns when requests are answered.

        Raises:
            OSError: the port is taken.
            RuntimeError: the server did not come up.

        """
        if self._server is not None:
            return
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        # log_config=None: uvicorn would otherwise reconfigure the logging of the process that hosts it.
        config = uvicorn.Config(
            self._app,
            http=_protocol_with_registry(self.transports),
            ws="none",
            lifespan="auto",
            loop="asyncio",
            log_config=None,
            log_level=100,
            access_log=False,
            backlog=1024,
            server_header=False,
        )
        self._server = server = uvicorn.Server(config)

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await server.serve(sockets=[listener])

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True, name=f"emulator-{self._port}")
        self._thread.start()
        self._await_start(server)

    def stop(self) -> None:
        """Stop listening and drop open connections; `start` begins again on the same port."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        if self._loop is not None and self._thread.is_alive():
            # Requests held open by a timeout fault must not hold up the end, nor their clients.
            self._loop.call_soon_threadsafe(self._drop_connections)
        self._thread.join(timeout=_START_TIMEOUT_S)
        self._server = None
        self.transports.clear()

    def reset(self) -> None:
        """Forget the log and all faults."""
        self.log.clear()
        self.faults.clear()

    def _drop_connections(self) -> None:
        for transport in list(self.transports.values()):
            transport.abort()

    def _await_start(self, server: uvicorn.Server) -> None:
        until = time.monotonic() + _START_TIMEOUT_S
        pause = threading.Event()
        while not server.started:
            if time.monotonic() > until or (self._thread is not None and not self._thread.is_alive()):
                self._server = None
                raise RuntimeError(f"the emulator did not start on port {self._port}")
            pause.wait(0.005)


def _protocol_with_registry(transports: dict[tuple[str, int], asyncio.Transport]) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol that also notes each connection's transport by client address.

    ASGI offers no way to reset a connection, and a reset in the middle of a body is one of the commonest faults.
    """

    class RegisteringProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
            super().connection_made(transport)
            if self.client is not None:
                transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.client is not None:
                transports.pop(self.client, None)

    return RegisteringProtocol


@dataclass(slots=True)
class _Buffered:
    """An app's whole answer."""

    start: Message
    body: bytes


class _FaultyApp:
    """The middleware: logs each request, asks the plan, answers with the fault or the app."""

    def __init__(self, app: AsgiApp, server: EmulatorServer) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = time.monotonic()
        body = await _read_body(receive)
        record = RequestRecord(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            status=0,
            at_s=arrived,
            body=body,
        )
        log = self._server.log
        log.append(record)

        async def logged_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                _replace_in(log, record, replace(record, status=message["status"]))
            await send(message)

        fault = self._server.faults.strike(scope["path"])
        given = _replay(body, receive)
        if fault is None:
            await self._app(scope, given, logged_send)
        elif fault.kind is FaultKind.TIMEOUT:
            await self._hang(scope, fault, receive)
        elif fault.kind in STATUSES:
            await asyncio.sleep(fault.delay_s)
            await _answer(fault, logged_send)
        else:
            await self._harm(scope, fault, await _run_buffered(self._app, scope, given), logged_send)

    async def _hang(self, scope: Scope, fault: Fault, receive: Receive) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        try:
            await asyncio.wait_for(gone(), fault.delay_s or None)
        except TimeoutError:
            self._abort(scope)

    async def _harm(self, scope: Scope, fault: Fault, answer: _Buffered, send: Send) -> None:
        headers = list(answer.start["headers"])
        if scope["method"] != "HEAD":  # its length is that of the body it does not have
            headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({**answer.start, "headers": headers})
        if fault.kind is FaultKind.SLOW:
            step = max(1, -(-len(answer.body) // _SLOW_PIECES))
            for at in range(0, len(answer.body), step):
                await asyncio.sleep(fault.delay_s or _SLOW_PAUSE_S)
                piece = answer.body[at : at + step]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        half = answer.body[: len(answer.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.kind is FaultKind.RESET:
            self._abort(scope)
        elif (transport := self._server.transports.get(tuple(scope["client"]))) is not None:
            transport.close()

    def _abort(self, scope: Scope) -> None:
        """Reset the request's connection: with a linger time of zero, closing sends RST instead of FIN."""
        transport = self._server.transports.get(tuple(scope["client"]))
        if transport is None:
            return
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def _replace_in(log: list[RequestRecord], old: RequestRecord, new: RequestRecord) -> None:
    """Swap a record for its finished form; by identity, since equal requests may be many, and the log may be reset."""
    for at in range(len(log) - 1, -1, -1):
        if log[at] is old:
            log[at] = new
            return


async def _read_body(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(pieces)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the body already read, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _run_buffered(app: AsgiApp, scope: Scope, receive: Receive) -> _Buffered:
    answer = _Buffered(start={}, body=b"")

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.start = message
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, collect)
    return answer


async def _answer(fault: Fault, send: Send) -> None:
    """Send the answer of a fault that is one by itself."""
    status = STATUSES[fault.kind]
    kind, body = "application/json", b'{"code": %d, "description": "injected %s"}' % (status, fault.kind.encode())
    if fault.kind in {FaultKind.HTML_BAD_GATEWAY, FaultKind.HTML}:
        kind, body = "text/html; charset=utf-8", _HTML % (status, status)
    elif fault.kind is FaultKind.INVALID_JSON:
        body = b'{"type": "FeatureCollection", "features": [{"id": "S2'
    elif fault.kind is FaultKind.EMPTY:
        body = b""
    if fault.body is not None:
        body = fault.body
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    if fault.retry_after is not None:
        headers.append((b"retry-after", fault.retry_after.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
