"""GDAL held on a short lead: configuration, credentials and network statistics for the rasterio reader."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import rasterio
import rasterio._base
from rasterio.session import Session

from farm_intel.providers.blocks.locations import Location, Scheme
from farm_intel.providers.blocks.options import ReaderOptions, S3Options

_CACHE_BYTES = 64 << 20
"""GDAL's block cache; each block is asked for once, so it only serves strips and JPEG 2000 precincts.
An int given to rasterio means bytes (`GDAL_CACHEMAX=512` would be 512 bytes)."""


class S3Session(Session):  # type: ignore[misc] # rasterio ships no types
    """Hands our S3 options to GDAL; rasterio's own AWSSession needs boto3 and forbids the plain options."""

    def __init__(self, options: S3Options) -> None:
        """Keep the options."""
        self._options = options

    @classmethod
    def hascreds(cls, config: Mapping[str, str]) -> bool:
        """Always ask for the credential options."""
        del config
        return False

    def get_credential_options(self) -> dict[str, str]:
        """Return GDAL's configuration; only what is set, so that the rest comes from the AWS environment."""
        options = self._options
        values = {
            "AWS_REGION": options.region,
            "AWS_ACCESS_KEY_ID": options.access_key_id,
            "AWS_SECRET_ACCESS_KEY": options.secret_access_key,
            "AWS_SESSION_TOKEN": options.session_token,
            "AWS_REQUEST_PAYER": "requester" if options.requester_pays else "",
            "AWS_NO_SIGN_REQUEST": "YES" if options.anonymous else "",
        }
        if options.endpoint_url:
            protocol, _, host = options.endpoint_url.rpartition("://")
            values["AWS_S3_ENDPOINT"] = host.rstrip("/")
            values["AWS_HTTPS"] = "NO" if protocol == "http" else "YES"
            values["AWS_VIRTUAL_HOSTING"] = "FALSE"
        return {key: value for key, value in values.items() if value}


def environment(options: ReaderOptions, *, fresh: bool = False) -> rasterio.Env:
    """Return the environment every GDAL call runs in; see `environment_arguments`."""
    return rasterio.Env(**environment_arguments(options, fresh=fresh))


def environment_arguments(options: ReaderOptions, *, fresh: bool = False) -> dict[str, Any]:
    """Return the arguments of `rasterio.Env` for every GDAL call, also by libraries that make the Env themselves.

    GDAL remembers a failed open of a URL for the life of the process and answers the next one without a request.
    `fresh` makes it ask again: nothing remembered of any URL is believed. It costs a second read of the header,
    so only retries use it.

    Args:
        options: time-outs, proxy and S3 access.
        fresh: forget what is known of the URL.

    """
    config: dict[str, Any] = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
        "GDAL_CACHEMAX": _CACHE_BYTES,
        "GDAL_HTTP_TIMEOUT": f"{max(1, round(options.timeout_s))}",
        "GDAL_HTTP_CONNECTTIMEOUT": f"{max(1, round(options.timeout_s / 4))}",
        "GDAL_HTTP_MAX_RETRY": "0",
        "GDAL_HTTP_RETRY_DELAY": "0",
        "CPL_VSIL_NETWORK_STATS_ENABLED": "YES",
        "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
        "GDAL_VRT_ENABLE_PYTHON": "NO",
        "GDAL_NUM_THREADS": "1",
    }
    if fresh:
        config["CPL_VSIL_CURL_NON_CACHED"] = "/vsicurl/"
    if options.proxy_url:
        config["GDAL_HTTP_PROXY"] = options.proxy_url.partition("://")[2]
    return {"session": S3Session(options.s3), **config}


def gdal_path(location: Location) -> str:
    """Return the name under which GDAL opens a location."""
    if location.scheme is Scheme.FILE:
        return location.path
    if location.scheme is Scheme.S3:
        return f"/vsis3/{location.base}/{location.path}"
    return f"/vsicurl/{location.url}"


def gdal_driver(location: Location) -> str:
    """Return the one driver allowed to open a location, by its suffix.

    Never left to GDAL: a VRT named `.tif` would read any other file or URL the process can reach.
    GTiff reads cloud-optimised GeoTIFFs too.
    """
    return "JP2OpenJPEG" if location.path.lower().endswith((".jp2", ".j2k")) else "GTiff"


class NetworkStatistics:
    """Requests and bytes GDAL spent on given files, from its own books; rasterio does not show them."""

    def __init__(self) -> None:
        """Have GDAL keep books from now on."""
        self._gdal = _library()
        self._lock = threading.Lock()
        self._before: dict[str, tuple[int, int]] = {}

    def watch(self, path: str) -> None:
        """Count a file from here on; what others spent on it before is not ours."""
        with self._lock:
            if path not in self._before:
                self._before[path] = self._spent({path})

    def spent(self) -> tuple[int, int]:
        """Return (requests, bytes) spent on the watched files since each was first watched."""
        with self._lock:
            requests, received = self._spent(self._before)
            return (
                requests - sum(count for count, _ in self._before.values()),
                received - sum(count for _, count in self._before.values()),
            )

    def _spent(self, paths: Iterable[str]) -> tuple[int, int]:
        wanted = set(paths)
        if not wanted:
            return 0, 0
        pointer = self._gdal.VSINetworkStatsGetAsSerializedJSON(None)
        try:
            books = json.loads(ctypes.string_at(pointer)) if pointer else {}
        finally:
            self._gdal.VSIFree(pointer)
        requests = received = 0
        for handler in books.get("handlers", {}).values():
            for group in (handler, *handler.get("actions", {}).values()):
                for path in wanted & group.get("files", {}).keys():
                    for method in group["files"][path].get("methods", {}).values():
                        requests += method.get("count", 0)
                        received += method.get("downloaded_bytes", 0)
        return requests, received


@cache
def _library() -> Any:
    """Return GDAL as rasterio has loaded it, with its network books open.

    Symbols are looked up through rasterio's own extension module, so it is that very library, bundled or not.
    GDAL decides once per process whether it keeps books; the reset makes it decide again.
    """
    gdal = ctypes.CDLL(rasterio._base.__file__)  # noqa: SLF001 - any extension linked to GDAL serves
    gdal.VSINetworkStatsGetAsSerializedJSON.restype = ctypes.c_void_p
    gdal.VSINetworkStatsGetAsSerializedJSON.argtypes = [ctypes.c_void_p]
    gdal.VSIFree.argtypes = [ctypes.c_void_p]
    gdal.CPLSetConfigOption(b"CPL_VSIL_NETWORK_STATS_ENABLED", b"YES")
    gdal.VSINetworkStatsReset()
    return gdal
