"""A real HTTP server on the loopback that answers as it is told and keeps what it got."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


type Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Receiver:
    url: str
    port: int
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Answer | None] = lambda _: (204, {}, b"")
    """None drops the connection without a word."""


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            receiver.requests.append(request)
            answer = receiver.answer(request)
            if answer is None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                self.connection.close()
                return
            status, extra, content = answer
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *args: object) -> None:
            """Stay quiet."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away is part of the tests."""

    server = Quiet(("127.0.0.1", 0), Handler)
    port = server.server_address[1]
    receiver = Receiver(f"http://127.0.0.1:{port}/hook", port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Canary:
    """Counts connections; whoever connects has been led where nobody may go."""

    port: int
    connections: int = 0


@contextmanager
def canary(serve: Callable[[socket.socket], None] | None = None) -> Iterator[Canary]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    sung = Canary(listener.getsockname()[1])
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            try:
                connected, _ = listener.accept()
            except TimeoutError:
                continue
            sung.connections += 1
            if serve is not None:
                serve(connected)
            connected.close()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield sung
    finally:
        stop.set()
        thread.join()
        listener.close()
