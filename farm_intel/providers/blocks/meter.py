"""Counts what reading costs, from any thread, while it runs."""

from __future__ import annotations

import threading

from farm_intel.domain.batches import ReadCounters


class ReadMeter:
    """Adds up requests, bytes and decoded blocks of one reader."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes_fetched = 0
        self._blocks_decoded = 0
        self._bytes_decoded = 0

    def asked(self) -> None:
        """Count one request, whatever becomes of it."""
        with self._lock:
            self._requests += 1

    def received(self, count: int) -> None:
        """Count bytes that arrived, bytes."""
        with self._lock:
            self._bytes_fetched += count

    def decoded(self, count: int) -> None:
        """Count one decoded block of `count` bytes."""
        with self._lock:
            self._blocks_decoded += 1
            self._bytes_decoded += count

    def snapshot(self) -> ReadCounters:
        """Return the sums so far."""
        with self._lock:
            return ReadCounters(
                requests=self._requests,
                bytes_fetched=self._bytes_fetched,
                blocks_decoded=self._blocks_decoded,
                bytes_decoded=self._bytes_decoded,
            )
