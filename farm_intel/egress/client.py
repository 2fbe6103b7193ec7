"""The one client for URLs given by users: checked address, no redirects, no proxies, a limit on bytes and on all time.

A client's usual timeout is per read: a server that sends a byte a second holds it for ever. Here the deadline is that
of the whole exchange, and compressed answers are not asked for: 200 kB of gzip can be 200 MB.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpcore

from farm_intel.domain.errors import TransientError
from farm_intel.egress.guard import PUBLIC_ONLY, Allowance, CheckedUrl, Resolver, check_url, system_resolver

type Connector = Callable[[str, int, float], socket.socket]
"""Connects to an address and port within seconds."""

USER_AGENT = "farm-intel"


@dataclass(frozen=True, slots=True)
class EgressAnswer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """At most the client's limit, as it came over the wire."""


class EgressClient:
    """Asks URLs given by users; safe to share between threads, each request on a connection of its own."""

    def __init__(
        self,
        *,
        allow: Allowance = PUBLIC_ONLY,
        total_s: float = 20.0,
        connect_s: float = 5.0,
        largest_bytes: int = 65536,
        resolver: Resolver = system_resolver,
        connector: Connector | None = None,
    ) -> None:
        """Set the limits.

        Args:
            allow: what may be asked besides public addresses over HTTPS.
            total_s: seconds from the first look at the resolver to the last byte.
            connect_s: seconds for the resolver, and for connecting to one address.
            largest_bytes: bytes of an answer's body that are read.
            resolver: asked once per request.
            connector: makes connections; only tests pass another.

        """
        self._allow = allow
        self._total_s = total_s
        self._connect_s = connect_s
        self._largest_bytes = largest_bytes
        self._resolver = resolver
        self._connector = connector or _connect

    def request(self, method: str, url: str, *, headers: Mapping[str, str], content: bytes = b"") -> EgressAnswer:
        """Return the answer, whatever its status: a redirect is an answer like others and never followed.

        Raises:
            UrlRefusedError: the URL must not be asked.
            TransientError: no answer; its message holds neither URL nor address.

        """
        until_s = time.monotonic() + self._total_s
        checked = check_url(url, resolver=self._in_time, allow=self._allow)
        # one connection per request: a deadline belongs to one exchange, and to one checked address
        with httpcore.ConnectionPool(
            ssl_context=_trust(), max_connections=1, retries=0, network_backend=self._backend(checked, until_s)
        ) as pool:
            sent = [(b"Host", _host_header(checked)), (b"User-Agent", USER_AGENT.encode())]
            sent += [(b"Accept-Encoding", b"identity"), (b"Connection", b"close")]
            sent += [(name.encode(), value.encode()) for name, value in headers.items()]
            if content:
                sent.append((b"Content-Length", str(len(content)).encode()))
            try:
                with pool.stream(method, checked.url, headers=sent, content=content) as response:
                    body = self._body(response)
            except httpcore.TimeoutException:
                raise TransientError(f"no answer within {self._total_s:g} s") from None
            except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
                raise TransientError(f"the connection failed: {type(error).__name__}") from None
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return EgressAnswer(response.status, found, body)

    def _backend(self, checked: CheckedUrl, until_s: float) -> httpcore.NetworkBackend:
        return PinnedBackend(checked, until_s=until_s, connect_s=self._connect_s, connector=self._connector)

    def _in_time(self, host: str, port: int) -> Sequence[str]:
        """Ask the resolver in a thread that is left behind when it takes too long: it knows no time limit."""
        answers: list[Sequence[str]] = []

        def ask() -> None:
            with suppress(OSError, UnicodeError):  # no answer says it all
                answers.append(self._resolver(host, port))

        asking = threading.Thread(target=ask, name="resolve", daemon=True)
        asking.start()
        asking.join(self._connect_s)
        return answers[0] if answers else ()

    def _body(self, response: httpcore.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk[: self._largest_bytes - len(body)]
            if len(body) >= self._largest_bytes:
                break
        return bytes(body)


class PinnedBackend(httpcore.NetworkBackend):
    """Connects to the addresses that were checked, and to nothing else, until the deadline."""

    def __init__(self, checked: CheckedUrl, *, until_s: float, connect_s: float, connector: Connector) -> None:
        """Pin the addresses; `until_s` is an instant of the monotonic clock."""
        self._checked = checked
        self._until_s = until_s
        self._connect_s = connect_s
        self._connector = connector

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - the interface's; a name was resolved and checked already
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the interface's; the deadline is ours
        local_address: str | None = None,  # noqa: ARG002 - the interface's
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - the interface's
    ) -> httpcore.NetworkStream:
        """Return a connection to the first checked address that takes it."""
        last: OSError | None = None
        for address in self.addresses(port):
            try:
                connected = self._connector(address, port, min(self._connect_s, left_s(self._until_s)))
            except OSError as error:
                last = error
            else:
                return _TimedStream(connected, self._until_s)
        if isinstance(last, TimeoutError):
            raise httpcore.ConnectTimeout from last
        raise httpcore.ConnectError from last

    def addresses(self, port: int) -> Iterable[str]:  # noqa: ARG002 - what a second look at the resolver would need
        """Return the checked addresses."""
        return self._checked.addresses


class _TimedStream(httpcore.NetworkStream):
    """A socket on which every step ends with the exchange's deadline."""

    def __init__(self, connected: socket.socket, until_s: float) -> None:
        self._socket = connected
        self._until_s = until_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline is ours
        try:
            self._socket.settimeout(left_s(self._until_s))
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout from error
        except OSError as error:
            raise httpcore.ReadError from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline is ours
        try:
            self._socket.settimeout(left_s(self._until_s))
            self._socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout from error
        except OSError as error:
            raise httpcore.WriteError from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is ours
    ) -> httpcore.NetworkStream:
        try:
            self._socket.settimeout(left_s(self._until_s))
            return _TimedStream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._until_s)
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError from error

    def get_extra_info(self, info: str) -> Any:
        return None if info != "socket" else self._socket


def left_s(until_s: float) -> float:
    """Return the seconds left; never 0, which means "for ever" or "do not block" to sockets."""
    left = until_s - time.monotonic()
    if left <= 0.0:
        raise TimeoutError
    return left


def _connect(address: str, port: int, timeout_s: float) -> socket.socket:
    return socket.create_connection((address, port), timeout=timeout_s)


def _host_header(checked: CheckedUrl) -> bytes:
    host = f"[{checked.host}]" if ":" in checked.host else checked.host
    default = {"http": 80, "https": 443}[checked.scheme]
    return (host if checked.port == default else f"{host}:{checked.port}").encode()


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
