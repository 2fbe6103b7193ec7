"""A small HTTP/1.1 range server for 127.0.0.1, with latency, counters and faults; shared by tests and benchmarks.

In a thread: `with RangeServer(folder, latency_s=0.03) as server: server.url("a.tif")`.
As a process: `python -m farm_intel.simulation.range_server FOLDER --port 8810 --latency-ms 30`; then `GET /__counters`
answers with the counters as JSON and `GET /__reset` sets them to zero.
Bodies are sent in pieces with back-pressure, so that an aborted download stops costing and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from farm_intel.simulation.range_faults import Fault, FaultKind, FaultPlan

_PIECE_BYTES = 1 << 18
_KERNEL_PIECE_BYTES = 1 << 20
_REQUEST = re.compile(rb"^(GET|HEAD) (\S+) HTTP/1\.[01]\r\n", re.IGNORECASE)
_RANGE = re.compile(rb"\r\nrange:\s*bytes=(\d*)-(\d*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request for a file, as it came in."""

    method: str
    path: str
    query: str
    start: int
    """First byte asked for."""
    stop: int
    """One behind the last byte asked for."""
    headers: str


@dataclass(slots=True)
class ServerCounters:
    """What was asked of the server and sent by it since the last reset."""

    requests: int = 0
    bytes_sent: int = 0
    connections: int = 0
    aborted: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    per_path: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, object]:
        """Return the counters as plain values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class RangeServer:
    """Serves the files under one folder."""

    def __init__(
        self,
        root: Path,
        *,
        latency_s: float = 0.0,
        bytes_per_s: float | None = None,
        port: int = 0,
        log_requests: bool = True,
    ) -> None:
        """Remember what to serve; nothing listens before the context is entered.

        Args:
            root: folder whose files are served.
            latency_s: pause before each answer, seconds.
            bytes_per_s: bandwidth of one request; None for no limit.
            port: 0 lets the system choose.
            log_requests: keep a record of every request (tests); off for long benchmarks.

        """
        self._root = root.resolve()
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self._port = port
        self.log: list[RequestRecord] | None = [] if log_requests else None
        self.counters = ServerCounters()
        self.faults = FaultPlan()
        self._files: dict[str, tuple[int, int]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        """Listen in a thread of our own."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True, name="range-server")
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and close every file."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    @property
    def base_url(self) -> str:
        """The server's root without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    def url(self, path: str) -> str:
        """Return the address of a file given by its path under the root."""
        return f"{self.base_url}/{quote(path)}"

    def fail(self, fault: Fault) -> None:
        """Put a fault in force."""
        self.faults.add(fault)

    def reset(self) -> None:
        """Set counters and log to zero; requests under way still count down."""
        self.counters = ServerCounters()
        if self.log is not None:
            self.log.clear()

    async def serve(self) -> None:
        """Listen until the context is left, or for ever in a process of its own."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            for descriptor, _ in self._files.values():
                os.close(descriptor)

    def open_file(self, path: str) -> tuple[int, int] | None:
        """Return (file descriptor, size) of a file under the root, or None; descriptors stay open."""
        known = self._files.get(path)
        if known is None:
            full = (self._root / path).resolve()
            if not full.is_relative_to(self._root) or not full.is_file():
                return None
            descriptor = os.open(full, os.O_RDONLY)
            known = self._files[path] = (descriptor, os.fstat(descriptor).st_size)
        return known


@dataclass(frozen=True, slots=True)
class _Answer:
    """One planned answer: head and where the body comes from."""

    head: bytes
    descriptor: int | None = None
    start: int = 0
    length: int = 0
    body: bytes = b""
    fault: Fault | None = None


class _Connection(asyncio.Protocol):
    """One client connection; requests on it are answered one after the other."""

    def __init__(self, server: RangeServer) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.set_write_buffer_limits(high=_PIECE_BYTES)
            self._transport = transport
        self._server.counters.connections += 1

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - signature is asyncio's
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[: end + 2], self._buffer[end + 4 :]
            task = asyncio.get_running_loop().create_task(self._handle(head))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle(self, head: bytes) -> None:
        match = _REQUEST.match(head)
        if match is None or self._transport is None:
            self._write(_head(400, 0))
            return
        target = urlsplit(match[2].decode("ascii", "replace"))
        path = unquote(target.path).lstrip("/")
        if path.startswith("__"):
            self._control(path)
            return
        counters = self._server.counters
        counters.requests += 1
        counters.per_path[path] += 1
        counters.in_flight += 1
        counters.max_in_flight = max(counters.max_in_flight, counters.in_flight)
        try:
            answer = self._plan(match[1].decode().upper(), path, target.query, head)
            if (pause := self._pause(answer)) > 0:
                await asyncio.sleep(pause)
            await self._send(answer)
        finally:
            counters.in_flight -= 1

    def _control(self, path: str) -> None:
        if path == "__reset":
            self._server.reset()
        body = json.dumps(self._server.counters.as_json()).encode()
        self._write(_head(200, len(body), "application/json") + body)

    def _pause(self, answer: _Answer) -> float:
        rate = self._server.bytes_per_s
        return self._server.latency_s + (answer.length / rate if rate else 0.0)

    def _plan(self, method: str, path: str, query: str, head: bytes) -> _Answer:
        file = self._server.open_file(path)
        size = file[1] if file else 0
        start, stop, partial = _byte_range(head, size)
        if self._server.log is not None:
            record = RequestRecord(
                method=method, path=path, query=query, start=start, stop=stop, headers=head.decode("latin-1").lower()
            )
            self._server.log.append(record)
        fault = self._server.faults.strike(path, query, start)
        if fault is not None and fault.kind is FaultKind.STATUS:
            extra = f"retry-after: {fault.retry_after}\r\n" if fault.retry_after is not None else ""
            body = b"" if method == "HEAD" else fault.body
            return _Answer(_head(fault.status, len(fault.body), fault.content_type, extra), body=body)
        if file is None:
            return _Answer(_head(404, 0))
        if start >= stop:
            return _Answer(_head(416, 0, extra=f"content-range: bytes */{size}\r\n"))
        if fault is not None and fault.kind is FaultKind.SHORT:
            stop = start + max(1, (stop - start) // 2)
        extra = f'accept-ranges: bytes\r\netag: "{size}"\r\nlast-modified: Thu, 01 May 2025 00:00:00 GMT\r\n'
        if partial:
            extra += f"content-range: bytes {start}-{stop - 1}/{size}\r\n"
        answer_head = _head(206 if partial else 200, stop - start, "image/tiff", extra)
        if method == "HEAD":
            return _Answer(answer_head)
        return _Answer(answer_head, descriptor=file[0], start=start, length=stop - start, fault=fault)

    async def _send(self, answer: _Answer) -> None:
        if self._transport is None:
            return
        kind = answer.fault.kind if answer.fault else None
        if kind is FaultKind.RESET:
            self._transport.abort()
            return
        self._write(answer.head + answer.body)
        if answer.descriptor is None:
            return
        if answer.fault is None:
            await self._send_file(answer.descriptor, answer.start, answer.length)
            return
        position, end = answer.start, answer.start + answer.length
        if kind is FaultKind.TRUNCATED:
            end = answer.start + answer.length // 2
        piece_bytes = max(1, answer.length // 8) if kind is FaultKind.SLOW else _PIECE_BYTES
        while position < end and not self._transport.is_closing():
            piece = os.pread(answer.descriptor, min(piece_bytes, end - position), position)
            # Counted first: a client may look at the counters as soon as it has the bytes.
            self._server.counters.bytes_sent += len(piece)
            self._write(bytes(~byte & 0xFF for byte in piece) if kind is FaultKind.CORRUPT else piece)
            position += len(piece)
            if answer.fault is not None and answer.fault.delay_s:
                await asyncio.sleep(answer.fault.delay_s)
            await self._writable.wait()
        if position < end:
            self._server.counters.aborted += 1
        if kind is FaultKind.TRUNCATED:
            self._transport.close()

    async def _send_file(self, descriptor: int, position: int, length: int) -> None:
        """Let the kernel copy the bytes: the server must not take the processor from the clients it serves."""
        counters = self._server.counters
        left = length
        with os.fdopen(os.dup(descriptor), "rb") as file:
            while left and self._transport is not None and not self._transport.is_closing():
                piece = min(_KERNEL_PIECE_BYTES, left)
                # Counted first: a client may look at the counters as soon as it has the bytes.
                counters.bytes_sent += piece
                try:
                    sent = await asyncio.get_running_loop().sendfile(self._transport, file, position, piece)
                except (
                    ConnectionError,
                    RuntimeError,
                ):  # asyncio tells a client that has gone by either
                    counters.bytes_sent -= piece
                    break
                position += sent
                left -= sent
        if left:
            counters.aborted += 1

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _byte_range(head: bytes, size: int) -> tuple[int, int, bool]:
    """Return (start, stop, whether a range was asked for); start >= stop where it lies outside the file."""
    match = _RANGE.search(head)
    if match is None:
        return 0, size, False
    if not match[1]:
        return max(0, size - int(match[2] or 0)), size, True
    return int(match[1]), min(int(match[2]) + 1, size) if match[2] else size, True


def _head(status: int, length: int, content_type: str = "text/plain", extra: str = "") -> bytes:
    phrase = HTTPStatus(status).phrase
    lines = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{extra}\r\n"
    return lines.encode("latin-1")


def main(arguments: Sequence[str] | None = None, announce: Callable[[str], object] | None = None) -> None:
    """Serve a folder until the process is stopped."""
    parser = argparse.ArgumentParser(prog="python -m farm_intel.simulation.range_server", description=__doc__)
    parser.add_argument("root", type=Path, help="folder to serve")
    parser.add_argument("--port", type=int, default=8810)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="pause before each answer")
    parser.add_argument("--megabytes-per-s", type=float, default=0.0, help="bandwidth of one request, 0 for no limit")
    options = parser.parse_args(arguments)
    server = RangeServer(
        options.root,
        latency_s=options.latency_ms / 1e3,
        bytes_per_s=options.megabytes_per_s * 1e6 or None,
        port=options.port,
        log_requests=False,
    )
    if announce is not None:
        announce(f"serving {options.root} on port {options.port}")
    asyncio.run(server.serve())


if __name__ == "__main__":
    main(announce=print)
