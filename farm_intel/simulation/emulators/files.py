"""The object stores behind the catalogues: public files, Azure blobs behind signatures, S3 behind keys."""

from __future__ import annotations

import hashlib
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from farm_intel.simulation.emulators.data_faults import BLANK, GONE

_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class WorldFileStore:
    """Serves the files of a world with byte ranges, some of them made up: blank copies and JPEG 2000 versions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._made: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def answer(self, path: str, request: Request) -> Response:
        """Return the file at a path below the world's folder; 404 in S3's words where there is none."""
        if path.startswith(GONE):
            return _not_found(path)
        blank = path.startswith(BLANK)
        plain = path.removeprefix(BLANK)
        full = (self._folder / plain).resolve()
        jpeg = full.suffix == ".jp2"
        source = full.with_suffix(".tif") if jpeg else full
        if not source.is_relative_to(self._folder) or not source.is_file():
            return _not_found(path)
        if not (blank or jpeg):
            return FileResponse(source, media_type="image/tiff")
        with self._lock:
            if path not in self._made:
                self._made[path] = _made(source, blank=blank, driver="JP2OpenJPEG" if jpeg else "GTiff")
        return _ranged(self._made[path], request.headers.get("range"), "image/jp2" if jpeg else "image/tiff")


def _made(source: Path, *, blank: bool, driver: str) -> bytes:
    """Return another version of a file; a file that cannot be read (a truncated one) stays as broken as it is."""
    try:
        with rasterio.open(source) as original:
            values = original.read(1)
            profile = {key: original.profile[key] for key in ("dtype", "width", "height", "count", "crs", "transform")}
            nodata = original.nodata if original.nodata is not None else 0
    except RasterioError:
        return source.read_bytes()
    if blank:
        values = np.full_like(values, nodata)
    options: dict[str, object] = {"QUALITY": 100, "REVERSIBLE": "YES", "CODEC": "JP2"}
    if driver == "GTiff":
        options = {"compress": "DEFLATE", "tiled": True, "blockxsize": 256, "blockysize": 256}
        profile["nodata"] = nodata
    with MemoryFile() as memory:
        with memory.open(driver=driver, **profile, **options) as target:
            target.write(values, 1)
        return bytes(memory.read())


def _ranged(content: bytes, header: str | None, media_type: str) -> Response:
    match = _RANGE.match(header or "")
    size = len(content)
    headers = {
        "accept-ranges": "bytes",
        "etag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"',
        # clients of blob storage take an answer without it for a broken one
        "last-modified": "Sun, 04 Jan 2026 00:00:00 GMT",
    }
    if match is None:
        return Response(content, media_type=media_type, headers=headers)
    first, last = match[1], match[2]
    start = int(first) if first else max(0, size - int(last or 0))
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
    headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(content[start:stop], 206, headers=headers, media_type=media_type)


def _not_found(path: str) -> Response:
    return _xml(404, "NoSuchKey", f"The specified key does not exist: {path}")


def _xml(status: int, code: str, message: str) -> Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(body, status, media_type="application/xml")


class BlobStore:
    """Azure blob storage as the Planetary Computer uses it: containers that open with a signed query only."""

    def __init__(self, files: WorldFileStore, sas_ttl_s: float) -> None:
        self._files = files
        self.sas_ttl_s = sas_ttl_s
        """Life of the tokens handed out from now on, seconds."""

    def token(self, account: str, container: str) -> Response:
        """Return what the token endpoint answers."""
        expiry = (datetime.now(UTC) + timedelta(seconds=self.sas_ttl_s)).strftime(_TIME)
        signature = _signature(account, container, expiry)
        token = f"st=2026-01-01T00%3A00%3A00Z&se={quote(expiry, safe='')}&sp=rl&sv=2024-05-04&sr=c&sig={signature}"
        return JSONResponse({"msft:expiry": expiry, "token": token})

    def blob(self, account: str, path: str, request: Request) -> Response:
        """Return a blob, or what Azure says without, with a wrong and with an expired signature."""
        query = parse_qs(request.url.query)
        container, _, name = path.partition("/")
        if "sig" not in query or "se" not in query:
            return _xml(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
        expiry = query["se"][0]
        if query["sig"][0] != _signature(account, container, expiry):
            return _xml(403, "AuthenticationFailed", "Signature did not match.")
        if datetime.strptime(expiry, _TIME).replace(tzinfo=UTC) < datetime.now(UTC):
            return _xml(403, "AuthenticationFailed", "Signature not valid in the specified time frame.")
        return self._files.answer(name, request)


def _signature(account: str, container: str, expiry: str) -> str:
    return hashlib.sha256(f"{account}|{container}|{expiry}".encode()).hexdigest()[:32]


def s3_answer(bucket: str, key: str, request: Request, files: WorldFileStore) -> Response:
    """Return an object of a bucket that wants signed requests, and payment by the requester for Landsat.

    Signatures are not checked, only that there is one: that is what configuration gets wrong.
    """
    signed = "authorization" in request.headers or "X-Amz-Signature" in request.url.query
    paid = request.headers.get("x-amz-request-payer") == "requester"
    if not signed or (bucket == "usgs-landsat" and not paid):
        return _xml(403, "AccessDenied", "Access Denied")
    return files.answer(key, request)
