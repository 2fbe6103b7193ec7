"""Delivering the outbox: every due message to its channel, at least once, each with its own fate.

Messages are sent by a few threads and recorded by the caller's. A host that is down costs one probe per open period of
its breaker and none of the attempts of the messages that wait for it. What a process that is killed had in hand is
tried again, with the same message id, as soon as its lease is over: the receiver drops what it has seen.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta

from farm_intel.domain.errors import FarmIntelError, PermanentError, ProviderDownError, ThrottledError, TransientError
from farm_intel.domain.messages import SPEECH, STREAM, Audio, Message, Voice
from farm_intel.notifying.backoff import BackOff
from farm_intel.notifying.ports import HostedChannel, Outbox
from farm_intel.notifying.sending import Sending, Sent, without_secrets
from farm_intel.resilience.breaker import CircuitBreaker, Permit
from farm_intel.resilience.clock import Sleeper
from farm_intel.resilience.guard import Operation

_LOG = logging.getLogger("farm_intel.delivering")
_BATCH = 100
_SHORTEST_S = 1.0
"""Least time a message waits that was not tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLimits:
    """How much is done at once."""

    workers: int = 4
    """Threads that send."""
    per_host: int = 2
    """Messages on their way to one host at a time: one that hangs cannot take all threads."""
    longest_send_s: float = 60.0
    """Longer than any channel's own time limit: a claim lapses after this and the deadline of the run."""
    audio_wait_s: float = 10.0
    """How long a run may be held up by messages that wait for their audio; after that they go without."""
    largest_audio_bytes: int = 4_000_000
    """Larger audio is not attached; mail servers refuse it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """What became of the messages of one run."""

    claimed: int = 0
    sent: int = 0
    retrying: int = 0
    """Failed, to be tried again."""
    postponed: int = 0
    """Not tried: their host is down or asked for a pause, or the run's time was up."""
    dead: int = 0
    """Given up in this run."""
    superseded: int = 0
    """Claimed by somebody else meanwhile, who reports them."""


@dataclass(slots=True)
class _Queue:
    """Messages of one run to one host."""

    operation: Operation
    waiting: deque[Message] = field(default_factory=deque)
    under_way: int = 0


@dataclass(slots=True)
class _Run:
    """One run: its books, and what is on its way."""

    until_s: float
    sending: Sending
    tally: dict[str, int] = field(default_factory=dict)
    under_way: dict[Future[Sent], tuple[Message, _Queue, Permit]] = field(default_factory=dict)

    def count(self, fate: str, *, held: bool = True) -> None:
        """Count a message's fate; one whose claim was lost is somebody else's."""
        fate = fate if held else "superseded"
        self.tally[fate] = self.tally.get(fate, 0) + 1


class Delivering:
    """Sends what is due."""

    def __init__(
        self,
        outbox: Outbox,
        channels: Iterable[HostedChannel],
        voice: Voice | None,
        *,
        breaker: CircuitBreaker,
        clock: Sleeper,
        backoff: BackOff | None = None,
        limits: DeliveryLimits | None = None,
    ) -> None:
        """Put delivery together; asks nothing.

        Args:
            outbox: where messages wait.
            channels: the ways to reach people, each with its own name; `stream` and `speech` are built in.
            voice: renders audio; None where nothing is spoken.
            breaker: knows which hosts are down; shared by all processes through its store.
            clock: of due times, leases and deadlines.
            backoff: when failures are tried again.
            limits: how much is done at once.

        """
        self._outbox = outbox
        self._channels: Mapping[str, HostedChannel] = {channel.name: channel for channel in channels}
        self._voice = voice
        self._breaker = breaker
        self._clock = clock
        self._backoff = backoff or BackOff()
        self._limits = limits or DeliveryLimits()

    def run(self, limit: int = 1000, deadline_s: float = 60.0) -> DeliveryReport:
        """Deliver up to `limit` due messages and return what became of them.

        After `deadline_s` nothing more is begun; what has begun is waited for, each within its channel's time limit.

        Raises:
            StoreError: the outbox cannot be read or written; what was sent and not recorded will be sent again.

        """
        limits = self._limits
        with (
            ThreadPoolExecutor(limits.workers, thread_name_prefix="deliver") as pool,
            Sending(
                self._channels, self._voice, audio_wait_s=limits.audio_wait_s, largest_bytes=limits.largest_audio_bytes
            ) as sending,
        ):
            run = _Run(self._clock.monotonic_s() + deadline_s, sending)
            lease = timedelta(seconds=deadline_s + limits.longest_send_s)
            while (left := limit - run.tally.get("claimed", 0)) > 0 and self._in_time(run):
                batch = self._outbox.claim(min(left, _BATCH), now=self._clock.now(), lease=lease)
                if not batch:
                    break
                run.tally["claimed"] = run.tally.get("claimed", 0) + len(batch)
                self._deliver(batch, run, pool)
        return DeliveryReport(**run.tally)

    # --- one batch ------------------------------------------------------------------------------------------------

    def _deliver(self, batch: list[Message], run: _Run, pool: ThreadPoolExecutor) -> None:
        queues = self._queued(batch, run)
        while queues or run.under_way:
            for queue in queues:
                self._begin(queue, run, pool)
            queues = [queue for queue in queues if queue.waiting]
            if run.under_way:
                finished, _ = wait(run.under_way, return_when=FIRST_COMPLETED)
                for future in finished:
                    self._finish(future, run)

    def _queued(self, batch: list[Message], run: _Run) -> list[_Queue]:
        """Return the messages by host; those nobody can send are given up here, those to the stream are there now."""
        queues: dict[Operation, _Queue] = {}
        for message in batch:
            if message.attempt > self._backoff.attempts:
                self._give_up(message, "every attempt ended without a word: the process died with it", run)
            elif message.new.channel == STREAM:
                run.count("sent", held=self._outbox.streamed(message, now=self._clock.now()))
            elif (operation := self._operation(message, run)) is not None:
                queues.setdefault(operation, _Queue(operation)).waiting.append(message)
        return list(queues.values())

    def _operation(self, message: Message, run: _Run) -> Operation | None:
        """Return what is called for a message; one without a channel or with an impossible address is given up."""
        name = message.new.channel
        if name == SPEECH and self._voice is not None:
            return Operation(provider=SPEECH, host="voice", name="say")
        channel = self._channels.get(name)
        if channel is None:
            known = ", ".join(sorted(self._channels)) or "none"
            self._give_up(
                message,
                f"channel {name!r} is not configured here (there are: {known}). Configure it, then replay the message.",
                run,
            )
            return None
        try:
            return Operation(provider=name, host=channel.host(message), name="send")
        except PermanentError as error:
            self._give_up(message, str(error), run)
            return None

    def _begin(self, queue: _Queue, run: _Run, pool: ThreadPoolExecutor) -> None:
        """Send as much of a queue as may be on its way at once, or let all of it wait."""
        single = queue.operation.provider == SPEECH
        at_once = 1 if single else self._limits.per_host
        while queue.waiting and queue.under_way < at_once:
            if len(run.under_way) >= 2 * self._limits.workers:
                return
            if not self._in_time(run):
                self._postpone(queue, "the deliverer's time was up", _SHORTEST_S, run)
                return
            try:
                permit = self._breaker.admit(queue.operation)
            except ProviderDownError as error:
                if not queue.under_way:  # else one of them is the probe, and its answer is near
                    self._postpone(queue, error.message, error.retry_after_s or _SHORTEST_S, run)
                return
            message = queue.waiting.popleft()
            queue.under_way += 1
            run.under_way[pool.submit(run.sending.send, message)] = (message, queue, permit)

    def _finish(self, future: Future[Sent], run: _Run) -> None:
        """Record what became of a message."""
        message, queue, permit = run.under_way.pop(future)
        queue.under_way -= 1
        error = future.exception()
        if error is None:
            self._breaker.succeeded(permit)
            self._sent(message, future.result(), run)
            return
        self._breaker.failed(permit, error)
        if not isinstance(error, FarmIntelError):
            _LOG.error(
                "message %s: %s of channel %s is a fault of ours",
                message.message_id,
                type(error).__name__,
                message.new.channel,
            )
        if isinstance(error, PermanentError):
            self._give_up(message, str(error), run)
            return
        self._try_later(message, error, run)
        if isinstance(error, ThrottledError) and error.retry_after_s:
            self._postpone(queue, error.message, error.retry_after_s, run)

    # --- fates ----------------------------------------------------------------------------------------------------

    def _sent(self, message: Message, sent: Sent, run: _Run) -> None:
        now = self._clock.now()
        if message.new.channel == SPEECH and sent.audio is not None:
            run.count("sent", held=self._outbox.spoken(message, sent.audio, now=now))
            return
        digest = _digest(sent.audio)
        run.count("sent", held=self._outbox.sent(message, sent.receipt, now=now, audio_sha256=digest))

    def _try_later(self, message: Message, error: BaseException, run: _Run) -> None:
        reason = without_secrets(str(error), message) if isinstance(error, FarmIntelError) else type(error).__name__
        wait_for = self._backoff.wait(message.attempt, error if isinstance(error, TransientError) else None)
        if wait_for is None:
            self._give_up(message, f"{reason} (attempt {message.attempt}, the last)", run)
            return
        held = self._outbox.failed(message, reason, next_at=self._clock.now() + wait_for)
        run.count("retrying", held=held)
        _LOG.info("message %s is tried again in %s: %s", message.message_id, wait_for, reason)

    def _postpone(self, queue: _Queue, why: str, wait_s: float, run: _Run) -> None:
        """Let what waits for a host wait on, without it costing attempts; what is too old is given up."""
        now = self._clock.now()
        next_at = now + min(timedelta(seconds=max(wait_s, _SHORTEST_S)), self._backoff.longest_retry_after)
        while queue.waiting:
            message = queue.waiting.popleft()
            if now - message.created_at > self._backoff.give_up_after:
                self._give_up(message, f"waited for {self._backoff.give_up_after.days} days; {why}", run)
                continue
            held = self._outbox.postponed(message, without_secrets(why, message), next_at=next_at)
            run.count("postponed", held=held)

    def _give_up(self, message: Message, why: str, run: _Run) -> None:
        reason = without_secrets(why, message)
        run.count("dead", held=self._outbox.dead(message, reason))
        _LOG.warning(
            "message %s to user %s by %s is given up: %s",
            message.message_id,
            message.new.user_id,
            message.new.channel,
            reason,
        )

    def _in_time(self, run: _Run) -> bool:
        return self._clock.monotonic_s() < run.until_s


def _digest(audio: Audio | None) -> str:
    return "" if audio is None else audio.sha256
