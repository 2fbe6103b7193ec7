"""What a caller may tune of the engine."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Limits of one engine; none changes a number except the mask and purity ones."""

    threads: int = 0
    """Threads that decode and compute; 0 means one per core."""
    budget_mib: int = 128
    """Decoded pixels held at once, MiB; blocks kept for farms that cross an edge may come on top.

    With a quarter less, 30 ms of latency no longer hide behind the work: a fifth more time at 1,000 farms.
    """
    units_ahead: int = 8
    """Groups of blocks in flight; bounds memory together with the budget."""
    mask_first: bool = False
    """Read the mask band first and skip blocks whose farms are all obscured."""
    mask_dilation_px: int = 0
    """Grow cloud and shadow by this many pixels of the mask band (square neighbourhood)."""
    min_pure_pixels: int = 10
    """Pixels wholly inside the farm from which on only they count (purity ladder)."""
    reflectance_max: float = 1.6
    """Larger surface reflectance is no measurement of land; a saturated or bright cloud pixel."""
    batch_farms: int = 256
    """Farms per batch handed on, where there are as many."""

    @property
    def thread_count(self) -> int:
        """Threads to start."""
        return self.threads or os.cpu_count() or 1

    @property
    def budget_bytes(self) -> int:
        """The budget in bytes."""
        return self.budget_mib << 20
