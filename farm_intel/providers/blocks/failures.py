"""What a failed request means: one table from status codes to our errors, for every reader and protocol."""

from __future__ import annotations

import http.client
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from farm_intel.domain.errors import FarmIntelError, SceneProblemKind, ThrottledError, TransientError
from farm_intel.providers.blocks.locations import BandRef, Location, Scheme

_STATUS = re.compile(r"status code: (\d{3})")
_DENIED = frozenset({401, 403, 409})
"""409 is how Azure refuses an unsigned request (PublicAccessNotPermitted)."""
_GONE = frozenset({404, 410})
_PASSING = frozenset({408, 425, 500, 502, 503, 504})


class TransferError(TransientError):
    """One attempt failed in a way that another may not: 5xx, time-out, reset, short body."""


def error_for_status(ref: BandRef, status: int, retry_after_s: float | None = None) -> FarmIntelError:
    """Return the error for an HTTP status that is not a success.

    Args:
        ref: the band file, for the message.
        status: the HTTP status code.
        retry_after_s: what the server asked for, seconds.

    """
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        wait = f", asks to wait {retry_after_s:g} s" if retry_after_s is not None else ""
        return ThrottledError(
            f"{ref}: the server throttles us (HTTP 429{wait})",
            retry_after_s=retry_after_s,
            hint="Wait, or lower FARM_INTEL_READ_CONCURRENCY.",
        )
    if status in _DENIED:
        return ref.problem(
            SceneProblemKind.ACCESS_DENIED,
            f"the server refuses access (HTTP {status})",
            hint="Check credentials, signing and requester-pays for this catalogue.",
        )
    if status in _GONE:
        return ref.problem(
            SceneProblemKind.NOT_FOUND,
            f"the server has no such file (HTTP {status})",
            hint="The catalogue is ahead of or behind its files; search it again later.",
        )
    if status in _PASSING or status >= 500:
        return TransferError(f"{ref}: the server answered HTTP {status}", hint="Try again later.")
    return ref.problem(SceneProblemKind.UNREADABLE_FILE, f"the server answered HTTP {status}")


def error_for_store(ref: BandRef, location: Location, error: Exception) -> FarmIntelError:
    """Return our error for one raised by obstore.

    Its messages carry the status code in one fixed form for HTTP, S3 and Azure alike (held by a test);
    the exception types only say not found, denied or generic.
    """
    match = _STATUS.search(str(error))
    if match is not None:
        return error_for_status(ref, int(match[1]))
    if isinstance(error, FileNotFoundError):
        return ref.problem(SceneProblemKind.NOT_FOUND, "there is no such file")
    if isinstance(error, PermissionError) or "Permission denied" in str(error):
        return ref.problem(SceneProblemKind.ACCESS_DENIED, "the file may not be read")
    if location.scheme is Scheme.FILE and isinstance(error, OSError) and error.errno is not None:
        return ref.problem(
            SceneProblemKind.UNREADABLE_FILE,
            f"the file cannot be read ({error.strerror})",
            hint="Check the disk or the network share it lies on.",
        )
    if location.scheme is Scheme.FILE:
        return ref.problem(SceneProblemKind.UNREADABLE_FILE, "the file ends before the bytes its header promises")
    return TransferError(f"{ref}: the transfer broke off or timed out", hint="Try again later.")


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110: seconds or an HTTP date), or None."""
    if value is None:
        return None
    text = value.strip()
    if text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def ask_status(url: str, timeout_s: float, proxy_url: str = "") -> tuple[int, float | None]:
    """Ask a web server for the first byte of `url`; return (status, Retry-After in seconds).

    obstore and GDAL keep response headers to themselves; this one small request shows them. Blocks.

    Raises:
        OSError: no answer within the time.

    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connect_to, connect_port = host, port
    if proxy_url:
        proxy = urlsplit(proxy_url)
        connect_to, connect_port = proxy.hostname or "", proxy.port
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(connect_to, connect_port, timeout=timeout_s)
    if proxy_url and parts.scheme == "https":
        connection.set_tunnel(host, port)
    elif proxy_url:
        target = url
    try:
        connection.request("GET", target or "/", headers={"Range": "bytes=0-0", "Host": parts.netloc})
        response = connection.getresponse()
        return response.status, parse_retry_after(response.getheader("Retry-After"))
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
