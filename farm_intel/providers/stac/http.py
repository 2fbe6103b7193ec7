"""Asking a STAC server: pystac-client's transport with our errors, our retries and a time limit on every answer.

pystac-client retries nothing but connection errors and never a POST, and loses the `Retry-After` header on the way;
so one attempt is made here by hand and repeated by the one retry policy.
"""

from __future__ import annotations

import json
import threading
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pystac.link
import requests
from pystac_client.stac_api_io import StacApiIO

from farm_intel.domain.errors import (
    BadRequestError,
    NotConfiguredError,
    PermanentError,
    ThrottledError,
    TransientError,
)
from farm_intel.domain.ports import Clock
from farm_intel.providers.whole_answers import whole_answer
from farm_intel.resilience.guard import CallGuard, Operation
from farm_intel.resilience.retry import GiveUp

CONNECT_TIMEOUT_S = 5.0
"""A server that does not even accept the connection within this time will not answer either."""

_TRANSIENT_STATUSES = frozenset({408, 500, 502, 503, 504})
_SHOWN_CHARACTERS = 200


class ServerFailedError(TransientError):
    """The server answered with a status that may pass; `status` tells which."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class BrokenAnswerError(TransientError):
    """The server answered with success, but what came is cut off or no JSON object."""


class LimitRefusedError(BadRequestError):
    """The server refuses the number of items asked for in one page."""


class StacHttp(StacApiIO):
    """pystac-client's transport, one instance per catalogue; safe to share between threads.

    Args:
        timeout_s: longest wait for an answer.
        guard: lets requests through, and retries what may be retried.
        provider: whose requests they are.
        clock: tells how far away an HTTP-date in `Retry-After` is.
        forbidden_means_throttled: Earth Search answers 403 `{"message":"Forbidden"}` when it wants us to slow down
            (Element84/earth-search issue 19).

    """

    def __init__(
        self,
        *,
        timeout_s: float,
        guard: CallGuard,
        provider: str,
        clock: Clock,
        forbidden_means_throttled: bool = False,
    ) -> None:
        super().__init__(timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s), max_retries=None)
        self._guard = guard
        self._provider = provider
        self._timeout_s = timeout_s
        self._clock = clock
        self._forbidden_means_throttled = forbidden_means_throttled
        self._lock = threading.Lock()
        self._requests = 0

    @property
    def request_count(self) -> int:
        """Requests made so far, retries included."""
        return self._requests

    def ask(
        self,
        source: str | pystac.link.Link,
        *,
        method: str = "GET",
        parameters: dict[str, Any] | None = None,
        give_up: GiveUp | None = None,
    ) -> dict[str, Any]:
        """Return the JSON object a server answers, after retries.

        Args:
            source: a URL, or a paging link with its own method and body.
            method: for URLs.
            parameters: body of a POST, query of a GET.
            give_up: transient failures not worth repeating as they are.

        Raises:
            TransientError: no usable answer within the retries, also where the answer was cut or no JSON.
            ThrottledError: the server asks to slow down.
            PermanentError: the server refuses the request; NotConfiguredError where access or address are wrong.

        """

        def attempt() -> dict[str, Any]:
            if isinstance(source, str):
                return self.read_json(source, method=method, parameters=parameters)
            return self.read_json(source, parameters=parameters)

        url = source if isinstance(source, str) else str(source.href)
        operation = Operation(provider=self._provider, host=urlsplit(url).netloc, name="search")
        return self._guard.call(operation, attempt, give_up=give_up)

    def _limits(self) -> tuple[float, float]:
        """Return how long connecting and answering may take now."""
        left_s = self._guard.remaining_s(self._timeout_s)
        return (min(CONNECT_TIMEOUT_S, left_s), left_s)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Return the text of one answer; replaces the inherited method, which hides status and headers."""
        verb = (method or "GET").upper()
        payload = {"json": parameters} if verb == "POST" else {"params": parameters}
        with self._lock:
            self._requests += 1
        try:
            limits = self._limits()
            answer = whole_answer(
                lambda: self.session.request(verb, href, headers=headers, timeout=limits, stream=True, **payload),  # type: ignore[arg-type]  # json or params
                limits[1],
            )
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise TransientError(
                f"{href} did not answer: {error}",
                hint="Check FARM_INTEL_STAC_URL and the network, or try again later.",
            ) from error
        except requests.RequestException as error:
            raise NotConfiguredError(f"{href} cannot be asked: {error}", hint="Check FARM_INTEL_STAC_URL.") from error
        if not answer.ok:
            raise self._failure(answer)
        return answer.content.decode("utf-8", errors="replace")

    def json_loads(self, txt: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Return the parsed object; an answer that is none is a failure of the moment, not of ours.

        The standard library's parser also takes the NaN that some catalogues write for nodata.
        """
        try:
            value = json.loads(txt)
        except ValueError as error:
            shown = txt[:_SHOWN_CHARACTERS].replace("\n", " ")
            raise BrokenAnswerError(f"the catalogue's answer is cut off or no JSON ({error}): {shown!r}") from error
        if not isinstance(value, dict):
            raise BrokenAnswerError(f"the catalogue's answer is no JSON object but {type(value).__name__}")
        return value

    def _failure(self, answer: requests.Response) -> PermanentError | TransientError:
        status, text = answer.status_code, answer.text[:_SHOWN_CHARACTERS].replace("\n", " ")
        message = f"{answer.request.method} {answer.url} answered {status}: {text}"
        retry_after_s = _seconds(answer.headers.get("Retry-After"), self._clock.now())
        forbidden = self._forbidden_means_throttled and status == 403 and '"Forbidden"' in text
        if status == 429 or forbidden or (status == 503 and retry_after_s is not None):
            return ThrottledError(message, retry_after_s=retry_after_s, hint="Ask for fewer days or farms at a time.")
        if status in _TRANSIENT_STATUSES:
            return ServerFailedError(message, status=status)
        return _refusal(status, message, text)


def _refusal(status: int, message: str, text: str) -> PermanentError:
    """Return what a final refusal means for the one who set the catalogue up."""
    if status in (400, 413, 422):
        if "limit" in text.lower():
            return LimitRefusedError(message, hint="Lower FARM_INTEL_STAC_PAGE_SIZE.")
        return BadRequestError(message, hint="Check FARM_INTEL_STAC_COLLECTION.")
    if status in (401, 403):
        return NotConfiguredError(message, hint="The catalogue wants credentials or refuses this address.")
    if status in (404, 405):
        return NotConfiguredError(message, hint="Check FARM_INTEL_STAC_URL and FARM_INTEL_STAC_COLLECTION.")
    return PermanentError(message)


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Return how long a `Retry-After` header asks to wait: it is a number of seconds or an HTTP date."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - now).total_seconds())
    except (TypeError, ValueError):
        return None
