"""A small STAC API on 127.0.0.1 with the paging styles and the failures of the real ones.

One server also answers for a folder of static files (`/static/…`) and for Planetary Computer's token service
(`/sas/…`). What it does not know, it answers with 404 and keeps in `log`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, unquote

from shapely import box
from shapely.geometry import shape

Item = Mapping[str, Any]


@dataclass
class Fault:
    """What goes wrong, how often, and on which requests."""

    path: str
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    delay_s: float = 0.0
    above_limit: int = 0
    """Only for searches with a larger limit than this; such a fault is never used up."""


@dataclass(frozen=True)
class Request:
    """A request as it came in."""

    method: str
    path: str
    body: Mapping[str, Any]
    at: float


class StacServer:
    """Serves items; a context manager that listens while it is entered."""

    def __init__(
        self,
        items: Sequence[Item] = (),
        *,
        style: Literal["earth-search", "planetary-computer", "page-number"] = "earth-search",
        static_root: Path | None = None,
    ) -> None:
        self.items = list(items)
        self.style = style
        self.static_root = static_root
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.token_ttl_s = 2700.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def searches(self) -> list[Mapping[str, Any]]:
        """Return the bodies of the searches so far."""
        return [request.body for request in self.log if request.path == "/search"]

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body for a request."""
        self.log.append(Request(method, path, body, time.monotonic()))
        fault = self._fault(path, body)
        if fault is not None:
            time.sleep(fault.delay_s)
            if fault.status != 200 or fault.body:
                return fault.status, fault.headers, fault.body.encode()
        if path.startswith("/static/") and self.static_root is not None:
            file = self.static_root / unquote(path.removeprefix("/static/"))
            return (200, {}, file.read_bytes()) if file.is_file() else (404, {}, b"{}")
        if path.startswith("/sas/"):
            return 200, {}, self._token()
        known: dict[tuple[str, str], Any] = {
            ("GET", "/"): self._landing(),
            ("GET", "/conformance"): {"conformsTo": self._landing()["conformsTo"]},
            ("GET", "/collections"): {"collections": self._collections(), "links": []},
        }
        if (method, path) == ("POST", "/search"):
            return 200, {}, json.dumps(self._search(body)).encode()
        document = known.get((method, path))
        return (404, {}, b'{"code":"NotFound"}') if document is None else (200, {}, json.dumps(document).encode())

    def _fault(self, path: str, body: Mapping[str, Any]) -> Fault | None:
        for fault in self.faults:
            if fault.path != path or fault.times <= 0:
                continue
            if fault.above_limit:
                if int(body.get("limit", 10)) > fault.above_limit:
                    return fault
                continue
            fault.times -= 1
            return fault
        return None

    def _landing(self) -> dict[str, Any]:
        core = ["core", "collections", "item-search"]
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": self.style,
            "description": "test catalogue",
            "conformsTo": [f"https://api.stacspec.org/v1.0.0/{name}" for name in core],
            "links": [
                {"rel": "self", "href": self.url},
                {"rel": "data", "href": f"{self.url}/collections"},
                {"rel": "search", "type": "application/geo+json", "href": f"{self.url}/search", "method": "GET"},
                {"rel": "search", "type": "application/geo+json", "href": f"{self.url}/search", "method": "POST"},
            ],
        }

    def _collections(self) -> list[dict[str, Any]]:
        names = sorted({str(item["collection"]) for item in self.items})
        return [{"type": "Collection", "stac_version": "1.0.0", "id": name, "links": []} for name in names]

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        first, last = (datetime.fromisoformat(text) for text in body["datetime"].split("/"))
        area = box(*body["bbox"])
        hits = [
            item
            for item in self.items
            if item["collection"] in body["collections"]
            and first <= datetime.fromisoformat(item["properties"]["datetime"]) <= last
            and shape(item["geometry"]).intersects(area)
        ]
        hits.sort(key=lambda item: str(item["properties"]["datetime"]), reverse=True)
        limit = int(body.get("limit", 10))
        start = self._start(body, limit)
        links = []
        if start + limit < len(hits):
            following = self._next(body, start + limit)
            links.append({"rel": "next", "method": "POST", "href": f"{self.url}/search", **following})
        return {"type": "FeatureCollection", "features": hits[start : start + limit], "links": links}

    def _start(self, body: Mapping[str, Any], limit: int) -> int:
        if self.style == "page-number":
            return (int(body.get("page", 1)) - 1) * limit
        return int(str(body.get("next") or body.get("token") or "0").rpartition(":")[2])

    def _next(self, body: Mapping[str, Any], position: int) -> dict[str, Any]:
        if self.style == "planetary-computer":
            return {"body": {**body, "token": f"next:{position}"}}
        if self.style == "page-number":
            return {"merge": True, "body": {"page": position // int(body["limit"]) + 1}}
        return {"merge": False, "body": {**body, "next": str(position)}}

    def _token(self) -> bytes:
        expiry = f"{datetime.now(UTC) + timedelta(seconds=self.token_ttl_s):%Y-%m-%dT%H:%M:%SZ}"
        signature = hashlib.sha256(f"{expiry}{len(self.log)}".encode()).hexdigest()[:16]
        token = f"st=2026-01-01T00%3A00%3A00Z&se={quote(expiry, safe='')}&sp=rl&sig={signature}"
        return json.dumps({"msft:expiry": expiry, "token": token}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # headers and body in one packet, or every answer waits 40 ms for an acknowledgement

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                status, headers, content = server.answer(self.command, self.path.partition("?")[0], body)
                try:
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client's time was up: that is what the test is about

            do_GET = do_POST = _serve  # noqa: N815 - names the standard library calls

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Keep test output clean; `StacServer.log` has everything."""

        return Handler
