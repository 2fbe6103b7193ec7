"""Kernels for the statistics of one farm and index: moments in float64, percentiles by radix sort of 16-bit values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farm_intel.engine.jit import kernel

_PERCENTILES = (0.5, 0.1, 0.25, 0.75, 0.9)
"""In the order in which observations.STATISTICS names them after mean: median, then p10, p25, p75, p90."""
_SLOTS = (1, 5, 6, 7, 8)
_KEY_BIAS = 32768
_FEW = 48
"""Below this insertion sort beats clearing two histograms."""


@kernel
def sort_keys(keys: npt.NDArray[np.uint32], spare: npt.NDArray[np.uint32], n: int, first_byte: int) -> None:
    """Sort the first n 24-bit keys in place.

    Args:
        keys: value << 8 | weight.
        spare: scratch as long as keys.
        n: how many.
        first_byte: 0 to sort equal values by weight too (weighted percentiles must not depend on the order of pixels),
            1 to leave them as they come.

    """
    if n <= _FEW:
        for i in range(1, n):
            key = keys[i]
            j = i - 1
            while j >= 0 and keys[j] > key:
                keys[j + 1] = keys[j]
                j -= 1
            keys[j + 1] = key
        return
    counts = np.empty(256, np.int64)
    for byte in range(first_byte, 3):
        shift = np.uint32(8 * byte)
        counts[:] = 0
        for i in range(n):
            counts[(keys[i] >> shift) & np.uint32(255)] += 1
        total = 0
        for value in range(256):
            count = counts[value]
            counts[value] = total
            total += count
        for i in range(n):
            value = (keys[i] >> shift) & np.uint32(255)
            spare[counts[value]] = keys[i]
            counts[value] += 1
        for i in range(n):
            keys[i] = spare[i]


@kernel
def _plain_percentile(keys: npt.NDArray[np.uint32], n: int, share: float) -> float:
    """Return the percentile in key units, linear between order statistics as numpy's default."""
    place = share * (n - 1)
    low = int(place)
    high = min(low + 1, n - 1)
    a = float(keys[low] >> np.uint32(8))
    b = float(keys[high] >> np.uint32(8))
    return a + (b - a) * (place - low)


@kernel
def _weighted_percentile(keys: npt.NDArray[np.uint32], n: int, share: float, total: float) -> float:
    """Return the weighted percentile in key units.

    Order statistic k (from 0) stands at S_k = k w_k + (n - 1) sum_{i<k} w_i, with linear interpolation between; with
    equal weights this is numpy's default (the rule of exactextract and of Wikipedia, Percentile, weighted variant).
    """
    target = share * (n - 1) * total
    before = 0.0
    place = 0.0
    value = float(keys[0] >> np.uint32(8))
    for k in range(n):
        weight = float(keys[k] & np.uint32(255))
        here = (n - 1) * total if k == n - 1 else k * weight + (n - 1) * before
        current = float(keys[k] >> np.uint32(8))
        if here >= target:
            return current if here <= place else value + (current - value) * (target - place) / (here - place)
        before += weight
        place = here
        value = current
    return value


@kernel
def summarise(  # noqa: PLR0913, PLR0917 - a kernel's scratch is passed in, not allocated
    values: npt.NDArray[np.float32],
    keys: npt.NDArray[np.uint32],
    spare: npt.NDArray[np.uint32],
    n: int,
    weighted: bool,  # noqa: FBT001 - kernels take positional arguments
    step: float,
    origin: float,
    out: npt.NDArray[np.float64],
) -> tuple[float, float]:
    """Write the nine statistics of n values and return (sum of weights, sum of squared weights).

    Args:
        values: float32 index values.
        keys: (quantised value + 32768) << 8 | weight, of the same pixels; sorted afterwards.
        spare: scratch as long as keys.
        n: number of values, at least 1.
        weighted: False counts every value once and ignores the weights.
        step: value of one quantisation step; percentiles are exact to half of it.
        origin: value of quantised 0.
        out: (9,) in the order of observations.STATISTICS.

    """
    total = 0.0
    squares = 0.0
    mean = 0.0
    low = np.float64(values[0])
    high = low
    for k in range(n):
        weight = float(keys[k] & np.uint32(255)) if weighted else 1.0
        value = np.float64(values[k])
        total += weight
        squares += weight * weight
        mean += weight * value
        low = min(low, value)
        high = max(high, value)
    mean /= total
    variance = 0.0
    for k in range(n):
        weight = float(keys[k] & np.uint32(255)) if weighted else 1.0
        difference = np.float64(values[k]) - mean
        variance += weight * difference * difference
    out[0] = mean
    out[2] = np.sqrt(variance / total)
    out[3] = low
    out[4] = high
    sort_keys(keys, spare, n, 0 if weighted else 1)
    for j in range(len(_SLOTS)):
        if weighted:
            key = _weighted_percentile(keys, n, _PERCENTILES[j], total)
        else:
            key = _plain_percentile(keys, n, _PERCENTILES[j])
        # quantisation must not push a percentile beyond the extremes
        out[_SLOTS[j]] = min(high, max(low, (key - _KEY_BIAS) * step + origin))
    return total, squares
