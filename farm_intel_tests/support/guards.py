"""Guards for adapters under test."""

from __future__ import annotations

from farm_intel.resilience.guard import PlainGuard
from farm_intel.resilience.retry import RetryPolicy


def plain_guard(retries: int) -> PlainGuard:
    """Return a guard that retries and does nothing else."""
    return PlainGuard(RetryPolicy(retries=retries))
