"""Byte ranges of one file through obstore: counted, bounded, retried, every failure named."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import obstore
import stamina
from obstore.exceptions import BaseError
from obstore.store import AzureStore, HTTPStore, LocalStore, S3Store

from farm_intel.domain.errors import FarmIntelError, SceneProblemError, SceneProblemKind, ThrottledError
from farm_intel.domain.scenes import BandFile
from farm_intel.providers.blocks.failures import TransferError, ask_status, error_for_status, error_for_store
from farm_intel.providers.blocks.local import LocalRange
from farm_intel.providers.blocks.locations import (
    BandRef,
    Location,
    Scheme,
    display_href,
    parse_location,
    strip_signature,
)
from farm_intel.providers.blocks.meter import ReadMeter
from farm_intel.providers.blocks.options import ReaderOptions, S3Options
from farm_intel.resilience.guard import Operation

if TYPE_CHECKING:
    from obstore import Bytes
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

_NO_RETRIES: RetryConfig = {"max_retries": 0}
"""obstore's own retries would be neither counted nor told apart from ours."""


class ReadContext:
    """What all files of one reader share: options, decoding pool, counters, connections, the limit in flight."""

    def __init__(self, options: ReaderOptions, pool: Executor) -> None:
        """Keep the options; stores are made when a file needs them."""
        self.options = options
        self.pool = pool
        self.meter = ReadMeter()
        self.in_flight = asyncio.Semaphore(options.concurrency)
        self._stores: dict[tuple[str, ...], ObjectStore] = {}

    async def locate(self, file: BandFile, scene_id: str) -> tuple[BandRef, Location]:
        """Return the name and the (freshly signed) place of a band file.

        Raises:
            SceneProblemError: an href of a kind we do not read.

        """
        ref = BandRef(scene_id=scene_id, band=file.common_name, display=display_href(file.href))
        href = file.href
        if self.options.sign is not None:
            href = await asyncio.to_thread(self.options.sign, href)
        return ref, parse_location(href, ref)

    async def sign_again(self, location: Location, ref: BandRef) -> Location | None:
        """Return the location with a new signature, or None where nothing signs."""
        if self.options.sign is None or location.scheme is Scheme.FILE:
            return None
        return parse_location(await asyncio.to_thread(self.options.sign, strip_signature(location.url)), ref)

    def attempts(self) -> AsyncIterator[stamina.Attempt]:
        """Return the attempts of one request; each is a context that swallows what may be tried again."""
        options = self.options

        def wait(error: Exception) -> bool | float:
            if isinstance(error, ThrottledError) and error.retry_after_s is not None:
                return error.retry_after_s if error.retry_after_s <= options.wait_max_s else False
            return isinstance(error, TransferError | ThrottledError)

        return aiter(
            stamina.retry_context(
                on=wait,
                attempts=options.retries + 1,
                timeout=None,
                wait_initial=options.wait_initial_s,
                wait_max=options.wait_max_s,
                wait_jitter=options.wait_initial_s,
            )
        )

    def left_s(self) -> float:
        """Return how long one request may take now: the store's own limit does not know the caller's deadline."""
        guard = self.options.guard
        return self.options.timeout_s if guard is None else guard.remaining_s(self.options.timeout_s)

    def store(self, location: Location) -> ObjectStore:
        """Return the store of a location; one per origin, container and signature, so that connections are shared."""
        container = location.path.partition("/")[0] if location.scheme is Scheme.AZURE else ""
        key = (location.scheme.value, location.base, container, location.query)
        known = self._stores.get(key)
        if known is None:
            known = self._stores[key] = self._make_store(location, container)
        return known

    def _client(self) -> ClientConfig:
        config: ClientConfig = {
            "timeout": timedelta(seconds=self.options.timeout_s),
            "connect_timeout": timedelta(seconds=self.options.timeout_s / 4),
            "allow_http": True,
        }
        if self.options.proxy_url:
            config["proxy_url"] = self.options.proxy_url
        return config

    def _make_store(self, location: Location, container: str) -> ObjectStore:
        if location.scheme is Scheme.FILE:
            return LocalStore()
        client = self._client()
        if location.scheme is Scheme.S3:
            config = s3_config(self.options.s3)
            return S3Store(location.base, config=config, client_options=client, retry_config=_NO_RETRIES)
        if location.scheme is Scheme.AZURE:
            return AzureStore(
                container,
                config={
                    "account_name": location.base.partition("://")[2].partition(".")[0],
                    "endpoint": location.base,
                    "sas_key": location.query,
                },
                client_options=client,
                retry_config=_NO_RETRIES,
            )
        return HTTPStore(location.base, client_options=client, retry_config=_NO_RETRIES)


def s3_config(options: S3Options) -> S3Config:
    """Return obstore's configuration; only what is set, so that the rest comes from the AWS environment."""
    config: S3Config = {}
    if options.endpoint_url:
        config["endpoint"] = options.endpoint_url
        config["virtual_hosted_style_request"] = False
    if options.region:
        config["region"] = options.region
    if options.access_key_id:
        config["access_key_id"] = options.access_key_id
        config["secret_access_key"] = options.secret_access_key
    if options.session_token:
        config["session_token"] = options.session_token
    if options.requester_pays:
        config["request_payer"] = True
    if options.anonymous:
        config["skip_signature"] = True
    return config


class Pieces(Protocol):
    """Bytes of a file that are here, or will be when they are asked for."""

    def piece(self, start: int, size: int) -> memoryview:
        """Return `size` bytes of the file from `start`; good until the same thread asks again.

        Raises:
            EOFError: a local file ends before them; the number of missing bytes is its argument.
            OSError: a local disk failed.

        """
        ...


@dataclass(frozen=True, slots=True)
class FetchedRange:
    """Bytes from `first` on."""

    first: int
    data: Bytes

    def piece(self, start: int, size: int) -> memoryview:
        """Return `size` bytes of the file from `start`."""
        return memoryview(self.data)[start - self.first : start - self.first + size]


class RangeSource:
    """One file as byte ranges."""

    def __init__(self, context: ReadContext, ref: BandRef, location: Location) -> None:
        """Nothing is requested yet."""
        self._context = context
        self.ref = ref
        self.location = location

    @property
    def _object_path(self) -> str:
        if self.location.scheme is Scheme.AZURE:
            return self.location.path.partition("/")[2]
        return self.location.path

    async def fetch(self, start: int, stop: int, *, may_end_early: bool = False) -> Bytes:
        """Return bytes [start, stop) of the file.

        Args:
            start: first byte.
            stop: one behind the last byte.
            may_end_early: a shorter answer is right (a header read of a small file).

        Raises:
            SceneProblemError: the file is not there, not ours to read, or shorter than `stop`.
            TransientError: no good answer within the retries.

        """
        try:
            return await self._fetch(start, stop, may_end_early=may_end_early)
        except SceneProblemError as error:
            fresh = None
            if error.kind is SceneProblemKind.ACCESS_DENIED:
                fresh = await self._context.sign_again(self.location, self.ref)
            if fresh is None:
                raise
            self.location = fresh
        return await self._fetch(start, stop, may_end_early=may_end_early)

    async def hold(self, start: int, stop: int) -> Pieces:
        """Return bytes [start, stop) to be taken piece by piece: fetched if remote, announced if local.

        Raises:
            SceneProblemError: the file is not there, not ours to read, or shorter than `stop`.
            TransientError: no good answer within the retries.

        """
        if self.location.scheme is not Scheme.FILE:
            return FetchedRange(start, await self.fetch(start, stop))
        self._context.meter.asked()
        try:
            # only opened here: its bytes are waited for where they are decoded
            held = LocalRange(self.location.path, start, stop)
        except (EOFError, OSError) as error:
            raise self.unreadable(error) from error
        self._context.meter.received(stop - start)
        return held

    def unreadable(self, error: OSError | EOFError) -> FarmIntelError:
        """Return our error for one that a local file raised."""
        if isinstance(error, EOFError):
            return self._cut_off(error.args[0])
        return error_for_store(self.ref, self.location, error)

    def _cut_off(self, missing: int) -> SceneProblemError:
        return self.ref.problem(
            SceneProblemKind.UNREADABLE_FILE,
            f"the file ends {missing} bytes before the block that its header promises",
            hint="The file is truncated; have it delivered again.",
        )

    async def probe(self) -> None:
        """Ask for the first byte once, without retries; raises what is wrong with the file or its server."""
        await self._attempt(0, 1, may_end_early=True)

    async def _fetch(self, start: int, stop: int, *, may_end_early: bool) -> Bytes:
        async def attempt() -> Bytes:
            return await self._attempt(start, stop, may_end_early=may_end_early)

        guard = self._context.options.guard
        if guard is None or self.location.scheme is Scheme.FILE:
            return await retrying(self._context, attempt)
        return await guard.acall(self._operation(), attempt)

    def _operation(self) -> Operation:
        host = self.location.base.partition("://")[2] or self.location.base
        return Operation(provider=self._context.options.provider, host=host, name="read")

    async def _attempt(self, start: int, stop: int, *, may_end_early: bool) -> Bytes:
        context = self._context
        async with context.in_flight:
            context.meter.asked()
            try:
                async with asyncio.timeout(context.left_s()):
                    data = await obstore.get_range_async(
                        context.store(self.location), self._object_path, start=start, end=stop
                    )
            except (BaseError, OSError, ValueError) as error:
                named = error_for_store(self.ref, self.location, error)
                if isinstance(named, ThrottledError):
                    named = await throttled(context, self.ref, self.location)
                raise named from error
        context.meter.received(len(data))
        if len(data) != stop - start and not may_end_early:
            raise self._cut_off(stop - start - len(data))
        return data


async def retrying[T](context: ReadContext, attempt: Callable[[], Awaitable[T]]) -> T:
    """Return the first good result of `attempt` within the context's retries; the last failure is raised."""
    first: Exception | None = None
    try:
        return await attempt()
    except (TransferError, ThrottledError) as error:
        # almost every request succeeds at once; setting up a retry costs more than the request's other Python code
        first = error

    async def next_attempt() -> T:
        nonlocal first
        if first is not None:
            error, first = first, None
            raise error
        return await attempt()

    async for trial in context.attempts():
        with trial:
            result = await next_attempt()
    return result


async def throttled(context: ReadContext, ref: BandRef, location: Location) -> FarmIntelError:
    """Return the ThrottledError with the wait the server asks for, which obstore's error does not carry.

    One more small request, and only where the protocol shows headers (S3 throttles by 503 without them).
    """
    retry_after_s = None
    if location.scheme in {Scheme.HTTP, Scheme.AZURE}:
        context.meter.asked()
        with contextlib.suppress(OSError):
            _, retry_after_s = await asyncio.to_thread(
                ask_status, location.url, context.left_s(), context.options.proxy_url
            )
    return error_for_status(ref, 429, retry_after_s)
