"""The library's client behind the guard: one try per call, every status judged while its headers are still there.

`sentinelhub` retries by itself, without end for 429, and drops the Retry-After header and the body of what it gives up
on. Here it makes one try; the guard decides about further ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from sentinelhub.config import SHConfig
from sentinelhub.data_collections import DataCollection
from sentinelhub.download.models import DownloadRequest
from sentinelhub.download.sentinelhub_client import SentinelHubDownloadClient
from sentinelhub.download.session import SentinelHubSession
from sentinelhub.exceptions import DownloadFailedException

from farm_intel.domain.errors import BadRequestError, TransientError
from farm_intel.domain.products import CollectionProfile
from farm_intel.providers.sentinel_hub.failures import TokenRejectedError, error_for_status
from farm_intel.providers.sentinel_hub.options import SentinelHubOptions
from farm_intel.providers.sentinel_hub.tokens import TokenKeeper
from farm_intel.providers.sentinel_hub.units import UNITS_HEADER
from farm_intel.providers.whole_answers import read_pieces
from farm_intel.resilience.clock import Sleeper, SystemClock
from farm_intel.resilience.guard import CallGuard, Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a successful call gave."""

    content: bytes
    headers: Mapping[str, str]
    """Names in lower case."""


class SentinelHubGateway:
    """Sends requests built by the library; safe to share between threads."""

    def __init__(self, options: SentinelHubOptions, guard: CallGuard, clock: Sleeper | None = None) -> None:
        """Open nothing; the first call fetches a token.

        Args:
            options: account and deployment.
            guard: every call goes through it.
            clock: for the life of tokens and of answers.

        """
        self.options = options
        self._guard = guard
        self._clock = clock if clock is not None else SystemClock()
        self._tokens = TokenKeeper(options, guard, self._clock)
        self._local = threading.local()
        self.config = _config(options)
        """For building requests with the library; holds the secret, so it is not to be printed unmasked."""

    def collection(self, profile: CollectionProfile) -> DataCollection:
        """Return the library's collection for a profile, served from this deployment."""
        return deployed_collection(profile.collection, self.options.base_url)

    def send[T](
        self, name: str, request: DownloadRequest, *, units: float, what: str, decode: Callable[[Answer], T]
    ) -> T:
        """Return the decoded answer of a request.

        Args:
            name: of the operation: `search`, `process`, `statistics`.
            request: built by the library.
            units: expected price in processing units; corrected by what the service says it was.
            what: the call in words, for messages.
            decode: raises TransientError where the answer is incomplete, so that it is asked for again.

        Raises:
            NotConfiguredError: credentials or addresses are wrong; also after a fresh token.
            BudgetExceededError: the account's quota or the month's budget is used up.
            BadRequestError: the service does not understand the request.
            TransientError: no good answer within the guard's retries.

        """
        token = self._tokens.token()
        try:
            return self._guarded(name, request, token, units=units, what=what, decode=decode)
        except TokenRejectedError:
            self._tokens.forget(token["access_token"])
        return self._guarded(name, request, self._tokens.token(), units=units, what=what, decode=decode)

    def _guarded[T](
        self,
        name: str,
        request: DownloadRequest,
        token: Mapping[str, Any],
        *,
        units: float,
        what: str,
        decode: Callable[[Answer], T],
    ) -> T:
        operation = Operation(provider="sentinel_hub", host=self.options.host, name=name)
        # per try, for the guard takes care of those that fail: what is corrected is the one that went well
        spent: list[float] = []

        def attempt() -> T:
            answer = self._try(request, token, what)
            spent.append(_spent(answer, units))
            return decode(answer)

        result = self._guard.call(operation, attempt, units=units)
        if units:
            self._guard.settle(operation, reserved=units, actual=spent[-1])
        return result

    def _try(self, request: DownloadRequest, token: Mapping[str, Any], what: str) -> Answer:
        timeout_s = self._guard.remaining_s(self.options.timeout_s)
        client = _OneTryClient(
            session=SentinelHubSession.from_token(dict(token)),
            config=self.config,
            http=self._http(),
            until=_Until(clock=self._clock, end_s=self._clock.monotonic_s() + timeout_s, what=what),
        )
        try:
            response = client.download([request], max_threads=1, decode_data=False)[0]
        except DownloadFailedException as error:
            cause = type(error.request_exception or error).__name__
            raise TransientError(
                f"no whole answer from Sentinel Hub to {what} ({cause})",
                hint="The network or the service is in trouble; the same call may succeed later.",
            ) from error
        return Answer(
            content=response.content, headers={name.lower(): value for name, value in response.headers.items()}
        )

    def _http(self) -> requests.Session:
        """Return this thread's connections: opening one per request costs a TLS handshake each time."""
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
        session: requests.Session = self._local.http
        return session


def _spent(answer: Answer, expected: float) -> float:
    try:
        return float(answer.headers[UNITS_HEADER])
    except (KeyError, ValueError):
        return expected


@dataclass(frozen=True, slots=True, kw_only=True)
class _Until:
    """When one try must be over, headers and body together."""

    clock: Sleeper
    end_s: float
    what: str

    def left_s(self) -> float:
        left = self.end_s - self.clock.monotonic_s()
        if left <= 0:
            raise TransientError(f"Sentinel Hub did not finish its answer to {self.what} in time")
        return left


class _OneTryClient(SentinelHubDownloadClient):
    """The library's client with its one hook for sending replaced: connections kept, whole time bounded, status judged.

    One object serves one call: the library's rate limiter and lock are per object and not made for sharing.
    """

    def __init__(self, *, session: SentinelHubSession, config: SHConfig, http: requests.Session, until: _Until) -> None:
        super().__init__(session=session, config=config)
        self._http = http
        self._until = until

    def _do_download(self, request: DownloadRequest) -> requests.Response:
        response = self._http.request(
            request.request_type.value,
            url=request.url or "",
            json=request.post_values,
            headers=self._prepare_headers(request),
            timeout=self._until.left_s(),
            allow_redirects=False,
            stream=True,
        )
        with response:
            content = self._body(response)
        # what `response.content` gives once it was read: the library reads it from there
        response._content = content  # noqa: SLF001 - requests has no public way to hand a streamed body on
        if response.status_code >= 300:
            raise error_for_status(self._until.what, response.status_code, response.headers, content)
        return response

    def _body(self, response: requests.Response) -> bytes:
        """Return the body, read piece by piece as it comes, so that a server that drips cannot outlast the time-out."""
        try:
            return read_pieces(response, self._until.left_s)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(
                f"Sentinel Hub's answer to {self._until.what} broke off ({type(error).__name__})",
                hint="The network or the service is in trouble; the same call may succeed later.",
            ) from error


def _config(options: SentinelHubOptions) -> SHConfig:
    """Return a configuration that neither reads nor creates a file, with every retry of the library spelt out."""
    return SHConfig(
        use_defaults=True,
        sh_client_id=options.client_id,
        sh_client_secret=options.client_secret,
        sh_base_url=options.base_url,
        sh_token_url=options.token_url,
        max_download_attempts=options.max_attempts,
        max_retries=options.max_attempts,
        download_timeout_seconds=options.timeout_s,
    )


_DEFINING = threading.Lock()


def deployed_collection(collection_id: str, base_url: str) -> DataCollection:
    """Return the library's collection with the deployment's address, which would otherwise be its own.

    Definitions live in one enumeration of the process and cannot be changed, so the name is made from the address.

    Raises:
        BadRequestError: the library knows no such collection.

    """
    with _DEFINING:
        known = [item for item in DataCollection if item.value.api_id == collection_id]
        if not known:
            raise BadRequestError(f"Sentinel Hub has no collection {collection_id!r}")
        for item in known:
            if item.service_url == base_url:
                return item
        original = known[0]
        return original.define_from(f"{original.name}@{base_url}", service_url=base_url)
