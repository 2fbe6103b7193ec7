"""The HTTP below the client: a time limit per call, and what the client loses of an answer's headers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters

from farm_intel.providers.whole_answers import whole_answer

if TYPE_CHECKING:
    import httplib2  # type: ignore[import-untyped]  # comes with the client, without types

CONNECT_TIMEOUT_S = 10.0
QUOTA_HEADER = "x-earth-engine-quota-status"
_RESTRICTED = "parallelism_restricted=true"


class Transport:
    """What googleapiclient needs of `httplib2.Http`, over one pool of connections; safe to share between threads.

    The client's own transport has one time limit for the whole process; here the caller of each request sets his.

    Args:
        timeout_s: longest wait where the caller sets none.
        connections: kept open.

    """

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        self._timeout_s = timeout_s
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._local = threading.local()
        self._lock = threading.Lock()
        self.requests = 0
        """Answers asked for, retries and tokens included."""
        self.bytes_received = 0
        self.restricted = False
        """True once Earth Engine said that the project's computing quota is used up."""

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[None]:
        """Limit the requests of this thread."""
        before = getattr(self._local, "timeout_s", None)
        self._local.timeout_s = timeout_s
        try:
            yield
        finally:
            self._local.timeout_s = before

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: dict[str, str] | None = None,
        **ignored: object,
    ) -> tuple[httplib2.Response, bytes]:
        """Return head and body of one answer.

        Raises:
            ConnectionError: no answer, or one that broke off.
            TimeoutError: no answer in time.

        """
        import httplib2

        del ignored
        limit = getattr(self._local, "timeout_s", None) or self._timeout_s
        with self._lock:
            self.requests += 1
        try:
            answer = whole_answer(
                lambda: self._session.request(
                    method,
                    uri,
                    data=body,
                    headers=headers,
                    timeout=(min(CONNECT_TIMEOUT_S, limit), limit),
                    stream=True,
                ),
                limit,
            )
        except requests.exceptions.Timeout as error:
            raise TimeoutError(f"no answer within {limit:.0f} s") from error
        except requests.exceptions.RequestException as error:
            raise ConnectionError(str(error)) from error
        self._note(answer)
        head: dict[str, Any] = {name.lower(): value for name, value in answer.headers.items()}
        head["status"] = answer.status_code
        return httplib2.Response(head), answer.content

    def close(self) -> None:
        """Drop the connections."""
        self._session.close()

    def _note(self, answer: requests.Response) -> None:
        status = answer.headers.get(QUOTA_HEADER)
        with self._lock:
            self.bytes_received += len(answer.content)
            if status is not None:
                self.restricted = _RESTRICTED in status
