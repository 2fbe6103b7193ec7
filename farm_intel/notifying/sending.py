"""Sending one message in a worker's thread, with its audio if there is any in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTimeError
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from farm_intel.domain.errors import FarmIntelError, NotConfiguredError
from farm_intel.domain.messages import SPEECH, Audio, Message, Voice
from farm_intel.notifying.ports import HostedChannel

_LOG = logging.getLogger("farm_intel.delivering")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that arrived."""

    receipt: str
    audio: Audio | None = None


class Sending:
    """Sends messages; safe to be used by many threads, of which one renders audio."""

    def __init__(
        self, channels: Mapping[str, HostedChannel], voice: Voice | None, *, audio_wait_s: float, largest_bytes: int
    ) -> None:
        """Send by `channels`.

        Args:
            channels: by name.
            voice: renders audio.
            audio_wait_s: seconds for which the run may be held up by waiting for audio.
            largest_bytes: larger audio is left out.

        """
        self._channels = channels
        self._voice = voice
        self._left_s = audio_wait_s
        self._waiters = 0
        self._since_s = 0.0
        self._largest_bytes = largest_bytes
        self._lock = threading.Lock()
        self._speaker = ThreadPoolExecutor(1, thread_name_prefix="speak")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._speaker.shutdown(wait=True, cancel_futures=True)

    def send(self, message: Message) -> Sent:
        """Deliver a message and return its receipt.

        Raises:
            PermanentError: it will never arrive.
            TransientError: it may arrive later.

        """
        try:
            return self._send(message)
        except FarmIntelError as error:
            # breakers and logs quote errors too, so a careless one is cleaned where it comes from
            error.args = (without_secrets(error.message, message),)
            error.hint = without_secrets(error.hint, message)
            raise

    def _send(self, message: Message) -> Sent:
        if message.new.channel == SPEECH:
            spoken = self._rendering(message).result()
            return Sent(receipt=spoken.engine, audio=spoken)
        channel = self._channels[message.new.channel]
        speaks = channel.attaches_audio and message.new.speak
        audio, content = self._audio(message) if speaks else (None, None)
        return Sent(receipt=channel.send(message, audio, content), audio=audio)

    def _audio(self, message: Message) -> tuple[Audio | None, bytes | None]:
        """Return a message's audio, or nothing: the text is never held up, whatever the voice does."""
        try:
            if self._voice is None:
                return None, None
            with self._waiting() as left_s:
                audio = self._rendering(message).result(timeout=left_s)
            if audio.size_bytes > self._largest_bytes:
                return None, None
            return audio, self._voice.read(audio)
        except NotInTimeError:
            _LOG.info("message %s goes without audio, which is not there yet", message.message_id)
        except (FarmIntelError, OSError) as error:
            _LOG.warning("message %s goes without audio: %s", message.message_id, type(error).__name__)
        return None, None

    @contextmanager
    def _waiting(self) -> Iterator[float]:
        """Yield for how many seconds a message may wait; time in which several wait holds the run up only once."""
        with self._lock:
            if not self._waiters:
                self._since_s = time.monotonic()
            self._waiters += 1
            left_s = self._left_s - (time.monotonic() - self._since_s)
        try:
            yield max(0.0, left_s)
        finally:
            with self._lock:
                self._waiters -= 1
                if not self._waiters:
                    self._left_s -= time.monotonic() - self._since_s

    def _rendering(self, message: Message) -> Future[Audio]:
        if self._voice is None:
            raise NotConfiguredError("no voice is configured", hint="Configure one, then replay the message.")
        text = message.new.text
        return self._speaker.submit(self._voice.say, text.spoken, text.language, severity=message.new.severity)


def without_secrets(text: str, message: Message) -> str:
    """Return a text without the message's address and secret, should a library have quoted them."""
    for secret in (message.new.address, message.new.secret):
        if secret:
            text = text.replace(secret, "…")
    return text
