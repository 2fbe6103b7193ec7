"""Kernels for the statistics of one farm and index: moments in float64, percentiles by buckets of 16-bit values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.engine.jit import kernel, reduction

_PERCENTILES = (0.5, 0.1, 0.25, 0.75, 0.9)
"""In the order in which observations.STATISTICS names them after mean: median, then p10, p25, p75, p90."""
_SLOTS = (1, 5, 6, 7, 8)
_ASCENDING = (1, 2, 0, 3, 4)
"""The percentiles from the lowest to the highest, by their places above."""
_KEY_BIAS = 32768
_FEW = 48
"""Below this insertion sort beats clearing two histograms."""
_BUCKETS = 256
_EFFORT = 48
"""Mean square of keys per bucket, over keys, from which on radix sort is cheaper than sorting within buckets."""


@kernel
def _insert(keys: npt.NDArray[np.uint32], first: int, end: int) -> None:
    """Sort a short stretch of keys in place."""
    for i in range(first + 1, end):
        key = keys[i]
        j = i - 1
        while j >= first and keys[j] > key:
            keys[j + 1] = keys[j]
            j -= 1
        keys[j + 1] = key


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
        _insert(keys, 0, n)
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
def _bucket(keys: npt.NDArray[np.uint32], spare: npt.NDArray[np.uint32], n: int, ends: npt.NDArray[np.int64]) -> int:
    """Move keys into `spare`, coarsely sorted into buckets of equal width; return the number of buckets, 0 if in vain.

    In vain means that most keys fell into few buckets, so that sorting within them would cost more than a radix sort.

    Args:
        keys: value << 8 | weight.
        spare: receives the keys; equal values share a bucket.
        n: how many.
        ends: (256,) receives where each bucket ends.

    """
    low = keys[0]
    high = keys[0]
    for i in range(n):
        low = min(low, keys[i])
        high = max(high, keys[i])
    low >>= np.uint32(8)
    width = np.int64(high >> np.uint32(8)) - np.int64(low)
    shift = 0
    while width >> shift > _BUCKETS - 1:
        shift += 1
    right = np.uint32(shift)
    buckets = (width >> shift) + 1
    ends[:buckets] = 0
    for i in range(n):
        ends[((keys[i] >> np.uint32(8)) - low) >> right] += 1
    effort = 0
    total = 0
    for j in range(buckets):
        count = ends[j]
        effort += count * count
        ends[j] = total
        total += count
    if effort > _EFFORT * n:
        return 0
    for i in range(n):
        j = ((keys[i] >> np.uint32(8)) - low) >> right
        spare[ends[j]] = keys[i]
        ends[j] += 1
    return int(buckets)


@kernel
def _plain_percentiles(
    keys: npt.NDArray[np.uint32], spare: npt.NDArray[np.uint32], n: int, out: npt.NDArray[np.float64]
) -> None:
    """Write the percentiles in key units, linear between order statistics as numpy's default.

    Only the buckets that hold a wanted order statistic are sorted.
    """
    ends = np.empty(_BUCKETS, np.int64)
    buckets = 0 if n <= _FEW else _bucket(keys, spare, n, ends)
    if not buckets:
        sort_keys(keys, spare, n, 1)
        for j in range(len(_PERCENTILES)):
            place = _PERCENTILES[j] * (n - 1)
            low = int(place)
            a = float(keys[low] >> np.uint32(8))
            b = float(keys[min(low + 1, n - 1)] >> np.uint32(8))
            out[j] = a + (b - a) * (place - low)
        return
    current = 0
    done = -1
    for j in range(len(_ASCENDING)):
        slot = _ASCENDING[j]
        place = _PERCENTILES[slot] * (n - 1)
        low = int(place)
        a = 0.0
        b = 0.0
        for rank in (low, min(low + 1, n - 1)):
            while ends[current] <= rank:
                current += 1
            if current != done:
                _insert(spare, 0 if current == 0 else ends[current - 1], ends[current])
                done = current
            a = b
            b = float(spare[rank] >> np.uint32(8))
        out[slot] = a + (b - a) * (place - low)


@kernel
def _sorted_with_weights(keys: npt.NDArray[np.uint32], spare: npt.NDArray[np.uint32], n: int) -> npt.NDArray[np.uint32]:
    """Return the keys, in one of the two arrays, sorted by value and weight: ties must not depend on pixel order."""
    ends = np.empty(_BUCKETS, np.int64)
    buckets = 0 if n <= _FEW else _bucket(keys, spare, n, ends)
    if not buckets:
        sort_keys(keys, spare, n, 0)
        return keys
    first = 0
    for j in range(buckets):
        _insert(spare, first, ends[j])
        first = ends[j]
    return spare


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


@reduction
def _plain_moments(values: npt.NDArray[np.float32], n: int) -> Any:
    """Return (mean, sum of squared differences from it, least, largest) of n values."""
    total = 0.0
    low = values[0]
    high = values[0]
    for k in range(n):
        total += np.float64(values[k])
        low = min(low, values[k])
        high = max(high, values[k])
    mean = total / n
    spread = 0.0
    for k in range(n):
        difference = np.float64(values[k]) - mean
        spread += difference * difference
    return mean, spread, np.float64(low), np.float64(high)


@reduction
def _weighted_moments(values: npt.NDArray[np.float32], keys: npt.NDArray[np.uint32], n: int) -> Any:
    """Return (mean, weighted sum of squares, least, largest, sum of weights, sum of squared weights)."""
    total = 0.0
    squares = 0.0
    mean = 0.0
    low = values[0]
    high = values[0]
    for k in range(n):
        weight = float(keys[k] & np.uint32(255))
        total += weight
        squares += weight * weight
        mean += weight * np.float64(values[k])
        low = min(low, values[k])
        high = max(high, values[k])
    mean /= total
    spread = 0.0
    for k in range(n):
        difference = np.float64(values[k]) - mean
        spread += float(keys[k] & np.uint32(255)) * difference * difference
    return mean, spread, np.float64(low), np.float64(high), total, squares


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
        keys: (quantised value + 32768) << 8 | weight, of the same pixels; in no particular order afterwards.
        spare: scratch as long as keys.
        n: number of values, at least 1.
        weighted: False counts every value once and ignores the weights.
        step: value of one quantisation step; percentiles are exact to half of it.
        origin: value of quantised 0.
        out: (9,) in the order of observations.STATISTICS.

    """
    places = np.empty(len(_PERCENTILES))
    total = float(n)
    squares = float(n)
    if weighted:
        mean, spread, low, high, total, squares = _weighted_moments(values, keys, n)
        ordered = _sorted_with_weights(keys, spare, n)
        for j in range(len(_PERCENTILES)):
            places[j] = _weighted_percentile(ordered, n, _PERCENTILES[j], total)
    else:
        mean, spread, low, high = _plain_moments(values, n)
        _plain_percentiles(keys, spare, n, places)
    out[0] = mean
    out[2] = np.sqrt(spread / total)
    out[3] = low
    out[4] = high
    for j in range(len(_SLOTS)):
        # quantisation must not push a percentile beyond the extremes
        out[_SLOTS[j]] = min(high, max(low, (places[j] - _KEY_BIAS) * step + origin))
    return total, squares
