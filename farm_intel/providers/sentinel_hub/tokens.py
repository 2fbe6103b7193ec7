"""Access tokens: fetched once, kept until shortly before they end, replaced when the service rejects one.

The library's own fetch has no time-out, caches sessions for the whole process by client id and address (so a changed
secret is not noticed), never replaces a token that was revoked, and refuses plain http even on this machine unless an
environment variable says otherwise. So the form is sent here, and the library gets the finished token through
`SentinelHubSession.from_token`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from farm_intel.domain.errors import FarmIntelError, NotConfiguredError, TransientError
from farm_intel.domain.ports import Clock
from farm_intel.providers.sentinel_hub.failures import error_for_status, words_of
from farm_intel.providers.sentinel_hub.options import SentinelHubOptions
from farm_intel.providers.whole_answers import whole_answer
from farm_intel.resilience.guard import CallGuard, Operation

_REFRESH_BEFORE_S = 120.0
"""As the library does: a token must outlive the request it is sent with."""


class TokenKeeper:
    """Hands out the current token; safe to share between threads."""

    def __init__(self, options: SentinelHubOptions, guard: CallGuard, clock: Clock) -> None:
        """Fetch nothing yet."""
        self._options = options
        self._guard = guard
        self._clock = clock
        self._lock = threading.Lock()
        self._token: dict[str, Any] | None = None
        self._operation = Operation(provider="sentinel_hub", host=urlsplit(options.token_url).netloc, name="token")

    def token(self) -> Mapping[str, Any]:
        """Return a token (`access_token`, `expires_at`) that lasts for a request; concurrent callers share one fetch.

        Raises:
            NotConfiguredError: the client id or secret is refused.
            TransientError: no answer within the retries.

        """
        with self._lock:
            if self._token is None or self._token["expires_at"] - self._now_s() <= _REFRESH_BEFORE_S:
                self._token = self._guard.call(self._operation, self._fetch)
            return self._token

    def forget(self, access_token: str) -> None:
        """Drop a token the service has rejected; a newer one that another thread has fetched stays."""
        with self._lock:
            if self._token is not None and self._token["access_token"] == access_token:
                self._token = None

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

    def _fetch(self) -> dict[str, Any]:
        options = self._options
        asked_at = self._now_s()
        timeout_s = self._guard.remaining_s(options.timeout_s)
        try:
            response = whole_answer(
                lambda: requests.post(
                    options.token_url,
                    data={
                        "grant_type": "client_credentials",
                        "client_id": options.client_id,
                        "client_secret": options.client_secret,
                    },
                    timeout=timeout_s,
                    allow_redirects=False,
                    stream=True,
                ),
                timeout_s,
            )
        except requests.RequestException as error:
            # the library's text may repeat the request; its type says enough
            raise TransientError(
                f"Sentinel Hub's token address did not answer ({type(error).__name__})",
                hint="Check the network and FARM_INTEL_SENTINEL_HUB_TOKEN_URL.",
            ) from error
        if response.status_code != 200:
            raise _refused(response)
        return _parsed(response, asked_at)


def _refused(response: requests.Response) -> FarmIntelError:
    status = response.status_code
    if 400 <= status < 500 and status not in {408, 429}:
        return NotConfiguredError(
            f"Sentinel Hub gives no token ({status}): {words_of(response.content)}",
            hint="Check FARM_INTEL_SENTINEL_HUB_CLIENT_ID, _CLIENT_SECRET and _TOKEN_URL.",
        )
    return error_for_status("the request for a token", status, response.headers, response.content)


def _parsed(response: requests.Response, asked_at: float) -> dict[str, Any]:
    try:
        content = response.json()
        return {
            **content,
            "access_token": "" + content["access_token"],  # a text, or TypeError
            "expires_at": asked_at + float(content["expires_in"]),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise TransientError(
            f"Sentinel Hub's token address sent no token but {words_of(response.content)[:80]!r}",
            hint="A proxy may have answered in its place.",
        ) from error
