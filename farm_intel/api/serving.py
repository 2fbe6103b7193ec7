"""Serving the app on this machine only."""

from __future__ import annotations

import ipaddress
import socket

import uvicorn
from fastapi import FastAPI

from farm_intel.domain.errors import NotConfiguredError

PING_S = 20.0
"""Protocol pings keep proxies from closing a quiet WebSocket, and find peers that are gone."""
MAX_MESSAGE_BYTES = 16 * 1024
"""Largest WebSocket message a client may send."""
DEAD_PEER_MS = 60_000
"""The kernel drops a peer that has taken nothing for so long: closing politely would wait for ever."""


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until interrupted.

    Raises:
        NotConfiguredError: the host is not a loopback address, or the port is taken.

    """
    listening = listen(host, port)
    try:
        uvicorn.Server(server_config(app)).run(sockets=[listening])
    finally:
        listening.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 takes a free one.

    Raises:
        NotConfiguredError: the host is not a loopback address, or the port is taken.

    """
    if not _is_loopback(host):
        raise NotConfiguredError(
            f"the API may not listen on {host}: users have only tokens yet, and nothing encrypts them",
            hint="Set FARM_INTEL_API_HOST=127.0.0.1 and put a proxy with TLS in front.",
        )
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise NotConfiguredError(
            f"the API cannot listen on {host}:{port}: {error.strerror}", hint="Set FARM_INTEL_API_PORT to a free port."
        ) from error
    return listening


def server_config(app: FastAPI) -> uvicorn.Config:
    """Return how uvicorn serves the app; no access log, for addresses hold tickets."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_max_size=MAX_MESSAGE_BYTES,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
