"""Following users' streams live: pages from a cursor, then whatever comes, each event checked before it is told.

The database is the queue. A follower holds one page and nothing else; what comes meanwhile waits in the store, so
memory per connection is bounded whatever the client does, and nothing that was committed can be lost here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farm_intel.domain.errors import FarmIntelError
from farm_intel.domain.streams import StreamEvent, StreamPage
from farm_intel.notifying.stream_ports import FarmAccess, StreamStore
from farm_intel.resilience.clock import Sleeper

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How streams are followed."""

    poll_s: float = 0.5
    """How often the counters are read, seconds; one query for all connections of the process."""
    heartbeat_s: float = 20.0
    """A sign of life is due after so many quiet seconds; the stream is also read then, should the poller be stuck."""
    page_size: int = 100
    """Events read at a time: all that a connection ever holds."""
    recheck_s: float = 1.0
    """Access that was checked longer ago than this is checked again before the event goes out, seconds."""
    send_within_s: float = 10.0
    """A client that does not take one message for so long is closed as too slow, seconds."""
    connections_per_user: int = 10
    """Streams one user may follow at once in this process."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event the user may see."""

    event: StreamEvent


@dataclass(frozen=True, slots=True)
class Withheld:
    """In place of an event of a farm the user may not see: the number alone, so that cursors have no gap."""

    seq: int
    live: bool
    """Whether the follower had caught up: then access was lost under way, not before."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything up to `seq` has been told; what follows is live. Told once."""

    seq: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing came for a heartbeat."""

    seq: int


@dataclass(frozen=True, slots=True)
class ResyncRequired:
    """The cursor cannot be served without a gap; nothing follows."""

    last_seq: int
    oldest_seq: int


type StreamItem = Told | Withheld | CaughtUp | Quiet | ResyncRequired


class _Follower:
    def __init__(self, user_id: str, cursor: int) -> None:
        self.user_id = user_id
        self.cursor = cursor
        self.news = asyncio.Event()


class StreamHub:
    """All followers of this process, and the one poller that wakes them."""

    def __init__(
        self, store: StreamStore, may_see: FarmAccess, clock: Sleeper, options: StreamOptions | None = None
    ) -> None:
        """Keep the parts; nothing runs until `run`."""
        self.options = options or StreamOptions()
        self._store = store
        self._may_see = may_see
        self._clock = clock
        self._followers: dict[str, set[_Follower]] = {}
        self._seats: Counter[str] = Counter()

    async def run(self) -> None:
        """Poll the counters until cancelled; a refusing store is logged and asked again."""
        while True:
            try:
                await self._poll()
            except FarmIntelError as error:
                logger.warning("the streams could not be polled: %s", error)
            await self._clock.asleep(self.options.poll_s)

    def is_full(self, user_id: str) -> bool:
        """Tell whether all of the user's connections are taken."""
        return self._seats[user_id] >= self.options.connections_per_user

    @contextmanager
    def seat(self, user_id: str) -> Iterator[bool]:
        """Take one of the user's connections for the time of the body; yields False where all are taken."""
        if self.is_full(user_id):
            yield False
            return
        self._seats[user_id] += 1
        try:
            yield True
        finally:
            self._seats[user_id] -= 1
            if not self._seats[user_id]:
                del self._seats[user_id]

    async def follow(self, user_id: str, after: int) -> AsyncGenerator[StreamItem]:
        """Yield everything that follows number `after`, in order, for as long as the caller wants.

        Raises:
            StoreError: the store could not be read; the caller's cursor is as good as before.

        """
        follower = _Follower(user_id, after)
        live = False
        with self._registered(follower):
            while True:
                follower.news.clear()  # before the read: what is committed after it sets it again
                page = await asyncio.to_thread(
                    self._store.events_after, user_id, follower.cursor, self.options.page_size
                )
                if page.cannot_resume(follower.cursor):
                    yield ResyncRequired(page.last_seq, page.oldest_seq)
                    return
                async for item in self._checked(follower, page, live=live):
                    yield item
                if page.events and follower.cursor < page.last_seq:
                    continue
                if not live:
                    live = True
                    yield CaughtUp(follower.cursor)
                if not await self._news(follower):
                    yield Quiet(follower.cursor)

    async def _checked(self, follower: _Follower, page: StreamPage, *, live: bool) -> AsyncIterator[StreamItem]:
        visible: frozenset[str] = frozenset()
        checked_s: float | None = None
        for event in page.events:
            if checked_s is None or self._clock.monotonic_s() - checked_s > self.options.recheck_s:
                visible = await asyncio.to_thread(self._visible, follower.user_id, page)
                checked_s = self._clock.monotonic_s()
            follower.cursor = event.seq
            seen = not event.farm_id or event.farm_id in visible
            yield Told(event) if seen else Withheld(event.seq, live)

    def _visible(self, user_id: str, page: StreamPage) -> frozenset[str]:
        farms = {event.farm_id for event in page.events if event.farm_id}
        return frozenset(farm for farm in farms if self._may_see(user_id, farm))

    async def _news(self, follower: _Follower) -> bool:
        try:
            async with asyncio.timeout(self.options.heartbeat_s):
                await follower.news.wait()
        except TimeoutError:
            return False
        return True

    async def _poll(self) -> None:
        users = tuple(self._followers)
        if not users:
            return
        heads = await asyncio.to_thread(self._store.heads, users)
        for user_id in users:
            for follower in self._followers.get(user_id, ()):
                if heads.get(user_id, 0) != follower.cursor:  # also backwards: a restored database must be told
                    follower.news.set()

    @contextmanager
    def _registered(self, follower: _Follower) -> Iterator[None]:
        self._followers.setdefault(follower.user_id, set()).add(follower)
        try:
            yield
        finally:
            self._followers[follower.user_id].discard(follower)
            if not self._followers[follower.user_id]:
                del self._followers[follower.user_id]
