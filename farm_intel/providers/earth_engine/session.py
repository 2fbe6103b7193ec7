"""The one door to the Earth Engine client, whose state belongs to the process: initialised once, shared by threads."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import DeadlineExceededError, NotConfiguredError, TransientError
from farm_intel.providers.earth_engine.failures import error_of, raised_by_client
from farm_intel.providers.earth_engine.options import EarthEngineOptions
from farm_intel.providers.earth_engine.transport import Transport
from farm_intel.resilience.guard import CallGuard, Operation


class QuotaState(StrEnum):
    """What Earth Engine said of the project's computing quota (EECU-hours)."""

    UNKNOWN = "unknown"
    """Nothing was asked yet."""
    NORMAL = "normal"
    RESTRICTED = "restricted"
    """The month's quota of a noncommercial project is used up: answers still come, slowly and few at a time."""


class _Process:
    """Which session the client's process-wide state belongs to."""

    lock = threading.RLock()
    key: str | None = None
    transport: Transport | None = None


class EarthEngineSession:
    """Initialises the client on first use and makes its calls, with time limits and in our errors.

    Sessions with equal options share the client's state; one with others takes it over, so a process should have one.
    Building a session asks nobody and imports nothing.
    """

    def __init__(self, options: EarthEngineOptions) -> None:
        self.options = options
        self._key = hashlib.sha256(f"{options.url}|{options.project}|{options.credentials}".encode()).hexdigest()
        self._places = threading.BoundedSemaphore(options.max_concurrent)

    @property
    def ready(self) -> bool:
        """True where the client's state is this session's."""
        return _Process.key == self._key

    @property
    def quota_state(self) -> QuotaState:
        """What the last answer said of the project's quota."""
        transport = _Process.transport
        if transport is None or not self.ready:
            return QuotaState.UNKNOWN
        return QuotaState.RESTRICTED if transport.restricted else QuotaState.NORMAL

    @property
    def requests(self) -> int:
        """HTTP requests of the process so far."""
        return 0 if _Process.transport is None else _Process.transport.requests

    @property
    def bytes_received(self) -> int:
        """Bytes of answers of the process so far."""
        return 0 if _Process.transport is None else _Process.transport.bytes_received

    def initialise(self, timeout_s: float | None = None) -> None:
        """Prepare the client: token, interface description, list of algorithms (four requests, once per process).

        Raises:
            NotConfiguredError: the key cannot be read or is not accepted.
            TransientError: Earth Engine did not answer.

        """
        with _Process.lock:
            if not self.ready:
                self._initialise(self.options.timeout_s if timeout_s is None else timeout_s)

    def _initialise(self, timeout_s: float) -> None:
        try:
            import ee
            import ee.deprecation
        except ImportError as error:
            raise NotConfiguredError(
                "the package earthengine-api is not installed", hint="Install farm-intel with the extra 'earth-engine'."
            ) from error
        key = service_account_key(self.options.credentials)
        reset_earth_engine()
        # the client would fetch a list of deprecated data sets from another host, without any time limit
        ee.deprecation._FetchDataCatalogStac = dict  # noqa: SLF001 - the only switch; Google's own test case does it
        transport = Transport(timeout_s=self.options.timeout_s, connections=self.options.max_concurrent)
        # our guard retries; the client would sleep up to a minute on its own
        ee.data.setMaxRetries(0)
        try:
            credentials = ee.ServiceAccountCredentials(key["client_email"], key_data=json.dumps(key))
        except (KeyError, ValueError) as error:
            raise NotConfiguredError(
                "the Earth Engine credentials are no service account key", hint=_KEY_HINT
            ) from error
        try:
            with transport.within(timeout_s):
                ee.Initialize(
                    credentials=credentials,
                    url=self.options.url.rstrip("/"),
                    project=self.options.project,
                    http_transport=transport,
                )
        except raised_by_client() as error:
            raise error_of(error, "initialising") from error
        _Process.key, _Process.transport = self._key, transport

    def call[T](self, what: str, function: Callable[[], T], *, timeout_s: float) -> T:
        """Return what a call of the client gives, not retried.

        Args:
            what: the call, for messages.
            function: uses the initialised client.
            timeout_s: longest wait for a place among the concurrent requests, and then for the answer.

        Raises:
            FarmIntelError: see failures.error_of.

        """
        transport = _Process.transport
        if transport is None or not self.ready:
            self.initialise(timeout_s)
            transport = _Process.transport
        if transport is None or not self._places.acquire(timeout=timeout_s):
            raise DeadlineExceededError(f"Earth Engine, {what}: no free place among the requests in {timeout_s:.0f} s")
        try:
            with transport.within(timeout_s):
                return function()
        except raised_by_client() as error:
            raise error_of(error, what) from error
        finally:
            self._places.release()

    def tag(self, text: str) -> str:
        """Return a workload tag: at most 63 of a-z, 0-9, - and _, ending in a letter or digit."""
        whole = re.sub(r"[^a-z0-9_-]+", "-", f"{self.options.tag_prefix}-{text}".lower())
        return whole[:63].strip("-_")


_KEY_HINT = (
    "Give the JSON text of a service account key, or the path of its file, as FARM_INTEL_EARTH_ENGINE_CREDENTIALS."
)


def service_account_key(credentials: str) -> dict[str, Any]:
    """Return a service account key from its JSON text or the path of its file.

    Raises:
        NotConfiguredError: it cannot be read; the message does not repeat it.

    """
    text = credentials.strip()
    if not text:
        raise NotConfiguredError("there are no Earth Engine credentials", hint=_KEY_HINT)
    try:
        if not text.startswith("{"):
            text = Path(text).expanduser().read_text(encoding="utf-8")
        key = json.loads(text)
    except (OSError, ValueError) as error:
        raise NotConfiguredError("the Earth Engine credentials cannot be read", hint=_KEY_HINT) from error
    if not isinstance(key, dict) or key.get("type") != "service_account":
        raise NotConfiguredError("the Earth Engine credentials are no service account key", hint=_KEY_HINT)
    return key


def reset_earth_engine() -> None:
    """Forget the client's state: for tests, and before another project is used."""
    import ee

    with _Process.lock:
        if _Process.transport is not None:
            _Process.transport.close()
        _Process.key = _Process.transport = None
        ee.Reset()


class EarthEngineCalls:
    """A session behind the guard of one provider: what the adapter's parts call."""

    def __init__(self, session: EarthEngineSession, guard: CallGuard, provider: str) -> None:
        self.session = session
        self.provider = provider
        self._guard = guard

    def client(self) -> Any:
        """Return the `ee` module, initialised; expressions can be built with it.

        Raises:
            NotConfiguredError: the package or the credentials are missing.
            TransientError: Earth Engine did not answer within the retries.

        """
        if not self.session.ready:
            self._guard.call(self._operation("initialise"), lambda: self.session.initialise(self._limit()))
        import ee

        return ee

    def list_images(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return one page of the images of a collection: `images` and, where there are more, `nextPageToken`."""
        ee = self.client()
        return self._call("list_images", lambda: ee.data.listImages(dict(parameters)))

    def compute_features(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return one page of computed features: `features` and, where there are more, `nextPageToken`.

        Pages are followed by the caller: the client's own way of following repeats all pages for a fault of one.
        """
        ee = self.client()
        return self._call("compute_features", lambda: ee.data.computeFeatures(dict(parameters)))

    async def compute_pixels(
        self,
        parameters: Callable[[], Mapping[str, Any]],
        run: Callable[[Callable[[], npt.NDArray[Any]]], Awaitable[npt.NDArray[Any]]],
    ) -> npt.NDArray[Any]:
        """Return a structured array (height, width), one field per band.

        Args:
            parameters: builds the request with the initialised client.
            run: runs a blocking function outside the event loop.

        """

        def attempt() -> npt.NDArray[Any]:
            import ee

            self.session.initialise(self._limit())
            request = {**parameters(), "fileFormat": "NPY"}
            data = self.session.call("compute_pixels", lambda: ee.data.computePixels(request), timeout_s=self._limit())
            return decode_npy(data)

        return await self._guard.acall(self._operation("compute_pixels"), lambda: run(attempt))

    def _call(self, name: str, function: Callable[[], Any]) -> Mapping[str, Any]:
        def attempt() -> Mapping[str, Any]:
            found = self.session.call(name, function, timeout_s=self._limit())
            if not isinstance(found, Mapping):
                raise TransientError(f"Earth Engine, {name}: an answer that is no JSON object")
            return found

        return self._guard.call(self._operation(name), attempt)

    def _operation(self, name: str) -> Operation:
        return Operation(provider=self.provider, host=self.session.options.host, name=name)

    def _limit(self) -> float:
        return max(0.001, self._guard.remaining_s(self.session.options.timeout_s))


def decode_npy(data: bytes) -> npt.NDArray[Any]:
    """Return the array of a NPY file.

    Raises:
        TransientError: it is cut off, or something else.

    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise TransientError(f"Earth Engine, compute_pixels: {len(data)} bytes that are no whole array") from error
    if not isinstance(array, np.ndarray):
        raise TransientError("Earth Engine, compute_pixels: an answer that is no array")
    return array
