"""Bodies of HTTP answers within one time for all of it: the limit of `requests` holds for each piece anew.

A server that drips would otherwise outlast every deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import requests
import urllib3

_PIECE_BYTES = 1 << 16


def read_pieces(response: requests.Response, left_s: Callable[[], float]) -> bytes:
    """Return the body of a streamed answer, read piece by piece as it comes.

    Args:
        response: asked for with `stream=True`; its body is untouched.
        left_s: seconds that are left, above 0; raises where there are none.

    Raises:
        urllib3.exceptions.HTTPError: the body breaks off, or a piece takes longer than is left.
        OSError: as above.

    """
    pieces: list[bytes] = []
    raw = response.raw
    while True:
        connection = raw.connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(left_s())
        piece = raw.read1(_PIECE_BYTES, decode_content=True)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def whole_answer(ask: Callable[[], requests.Response], timeout_s: float) -> requests.Response:
    """Return an answer with its body read, head and body together within `timeout_s`.

    Args:
        ask: sends the request with `stream=True`.
        timeout_s: seconds.

    Raises:
        requests.exceptions.ReadTimeout: the body did not end in time.
        requests.exceptions.ChunkedEncodingError: the body broke off.
        requests.exceptions.RequestException: what `ask` raises.

    """
    until_s = time.monotonic() + timeout_s

    def left_s() -> float:
        left = until_s - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("the answer did not end in time")
        return left

    response = ask()
    with response:
        try:
            content = read_pieces(response, left_s)
        except (TimeoutError, urllib3.exceptions.TimeoutError) as error:
            raise requests.exceptions.ReadTimeout(f"the answer did not end within {timeout_s:.1f} s") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise requests.exceptions.ChunkedEncodingError(f"the answer broke off: {error}") from error
    # what `response.content` gives once it was read; requests has no public way to hand a streamed body on
    response._content = content  # noqa: SLF001 - requests has no public way to put a body in
    return response
