"""The kernel: all indices of all farms of a group of blocks in one call, from reflectance to statistics and rasters.

Pixels are worked on as vectors, chunk by chunk and operation by operation, so that the cost of interpreting the
register program is shared by a thousand pixels and the scratch stays in the cache of one core.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import RASTER_NODATA
from farm_intel.domain.products import PixelReason
from farm_intel.engine.jit import kernel
from farm_intel.engine.statistics import summarise
from farm_intel.indices.program import Opcode

_VALID = int(PixelReason.VALID)
_NODATA = int(PixelReason.NODATA)
_BAD_INPUT = int(PixelReason.REFLECTANCE_OUT_OF_RANGE)
_BAD_VALUE = int(PixelReason.INDEX_OUT_OF_RANGE)
_RASTER_NODATA = int(RASTER_NODATA)
_RASTER_LIMIT = 32767
_CHUNK = 1024
_ADD, _SUB, _MUL, _DIV = int(Opcode.ADD), int(Opcode.SUB), int(Opcode.MUL), int(Opcode.DIV)
_POW, _MIN, _MAX = int(Opcode.POW), int(Opcode.MIN), int(Opcode.MAX)
_NEG, _SQRT, _EXP, _LOG, _ABS = int(Opcode.NEG), int(Opcode.SQRT), int(Opcode.EXP), int(Opcode.LOG), int(Opcode.ABS)


class BundleArrays(NamedTuple):
    """I indices over K inputs as the kernel takes them."""

    ops: npt.NDArray[np.int32]
    """(n, 4) opcode, dst, a, b."""
    constants: npt.NDArray[np.float32]
    n_registers: int
    outputs: npt.NDArray[np.int32]
    """(I,) registers."""
    used: npt.NDArray[np.int64]
    """(I,) bit k: the index reads input k."""
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    """(I,) valid range."""
    step: npt.NDArray[np.float64]
    origin: npt.NDArray[np.float64]
    """(I,) raster encoding: value = data * step + origin."""
    ratio2: npt.NDArray[np.float64]
    """(I,) base pixels in one pixel of the coarsest input."""
    pure_bit: npt.NDArray[np.uint8]
    """(I,) the purity bit of that pixel size."""
    min_pure: float
    """Pure pixels of the coarsest input from which on only they count."""
    reflectance_max: float


class AreaArrays(NamedTuple):
    """The farms' pixels: where they are, how much of each is inside."""

    windows: npt.NDArray[np.int32]
    ptr: npt.NDArray[np.int64]
    rows: npt.NDArray[np.uint16]
    cols: npt.NDArray[np.uint16]
    coverage: npt.NDArray[np.uint8]
    purity: npt.NDArray[np.uint8]


class PixelData(NamedTuple):
    """What was gathered for the farms of one call."""

    reflectance: npt.NDArray[np.float32]
    """(K, n), NaN where there is no data."""
    reasons: npt.NDArray[np.uint8]
    """(n,) from the mask band."""
    starts: npt.NDArray[np.int64]
    """(F,) where each farm's pixels start."""


class ResultArrays(NamedTuple):
    """What the kernel fills; F farms, I indices."""

    statistics: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int32]
    """(F, I, 3) touched, valid, used, in pixels of the coarsest input."""
    n_effective: npt.NDArray[np.float64]
    used_area_px: npt.NDArray[np.float64]
    mixed: npt.NDArray[np.bool_]
    fractions: npt.NDArray[np.float64]
    clip: npt.NDArray[np.int16]
    """All rasters after one another."""
    clip_starts: npt.NDArray[np.int64]


class _Scratch(NamedTuple):
    registers: npt.NDArray[np.float32]
    nodata: npt.NDArray[np.int64]
    outside: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    places: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]
    picked: npt.NDArray[np.float32]
    keys: npt.NDArray[np.uint32]
    spare: npt.NDArray[np.uint32]


@kernel
def run_ops(ops: npt.NDArray[np.int32], registers: npt.NDArray[np.float32], n: int) -> None:  # noqa: C901, PLR0912 - one branch per opcode is what an interpreter is
    """Run a register program over the first n columns of the registers."""
    for s in range(ops.shape[0]):
        op = ops[s, 0]
        out = registers[ops[s, 1]]
        a = registers[ops[s, 2]]
        b = registers[ops[s, 3]]
        if op == _ADD:
            for t in range(n):
                out[t] = a[t] + b[t]
        elif op == _SUB:
            for t in range(n):
                out[t] = a[t] - b[t]
        elif op == _MUL:
            for t in range(n):
                out[t] = a[t] * b[t]
        elif op == _DIV:
            for t in range(n):
                out[t] = a[t] / b[t]
        elif op == _POW:
            for t in range(n):
                out[t] = a[t] ** b[t]
        elif op == _MIN:
            for t in range(n):
                out[t] = b[t] if b[t] < a[t] or np.isnan(b[t]) else a[t]
        elif op == _MAX:
            for t in range(n):
                out[t] = b[t] if b[t] > a[t] or np.isnan(b[t]) else a[t]
        elif op == _NEG:
            for t in range(n):
                out[t] = -a[t]
        elif op == _SQRT:
            for t in range(n):
                out[t] = np.sqrt(a[t])
        elif op == _EXP:
            for t in range(n):
                out[t] = np.exp(a[t])
        elif op == _LOG:
            for t in range(n):
                out[t] = np.log(a[t])
        elif op == _ABS:
            for t in range(n):
                out[t] = abs(a[t])


@kernel
def _load_chunk(data: PixelData, first: int, n: int, inputs: int, limit: float, scratch: _Scratch) -> int:
    """Copy the chunk's unmasked pixels into the input registers and mark bad inputs; return how many there are."""
    m = 0
    for t in range(n):
        if data.reasons[first + t] == _VALID:
            scratch.chosen[m] = t
            m += 1
    scratch.nodata[:m] = 0
    scratch.outside[:m] = 0
    top = np.float32(limit)
    zero = np.float32(0.0)
    for k in range(inputs):
        register = scratch.registers[k]
        band = data.reflectance[k]
        bit = np.int64(1) << k
        for t in range(m):
            value = band[first + scratch.chosen[t]]
            register[t] = value
            scratch.nodata[t] |= bit if np.isnan(value) else np.int64(0)
            scratch.outside[t] |= bit if value <= zero or value > top else np.int64(0)
    return m


@kernel
def _keep_valid(i: int, bundle: BundleArrays, coverage: Any, offset: int, m: int, scratch: _Scratch) -> None:
    """Append the chunk's usable values of index i to its list; add the others' coverage to their reason."""
    values = scratch.registers[bundle.outputs[i]]
    used = bundle.used[i]
    count = scratch.counts[i]
    for t in range(m):
        place = offset + scratch.chosen[t]
        value = np.float64(values[t])
        if scratch.nodata[t] & used:
            scratch.weights[i, _NODATA] += coverage[place]
        elif scratch.outside[t] & used:
            scratch.weights[i, _BAD_INPUT] += coverage[place]
        elif bundle.low[i] <= value <= bundle.high[i]:
            scratch.values[i, count] = values[t]
            scratch.places[i, count] = place
            scratch.weights[i, _VALID] += coverage[place]
            count += 1
        else:
            scratch.weights[i, _BAD_VALUE] += coverage[place]
    scratch.counts[i] = count


@kernel
def _quantise(value: float, step: float, origin: float) -> int:
    quantum = np.rint((value - origin) / step)
    return int(min(max(quantum, -float(_RASTER_LIMIT)), float(_RASTER_LIMIT)))


@kernel
def _draw(i: int, area: int, bundle: BundleArrays, areas: AreaArrays, scratch: _Scratch, clip: Any) -> int:
    """Write index i of one farm into its raster and its sort keys; return how many of its pixels are pure."""
    first = areas.ptr[area]
    pure = 0
    step, origin = bundle.step[i], bundle.origin[i]
    for k in range(scratch.counts[i]):
        p = first + scratch.places[i, k]
        quantum = _quantise(np.float64(scratch.values[i, k]), step, origin)
        clip[areas.rows[p], areas.cols[p]] = quantum
        scratch.keys[k] = (np.uint32(quantum + 32768) << np.uint32(8)) | np.uint32(areas.coverage[p])
        scratch.picked[k] = scratch.values[i, k]
        pure += (areas.purity[p] & bundle.pure_bit[i]) != 0
    return pure


@kernel
def _keep_pure(i: int, area: int, bundle: BundleArrays, areas: AreaArrays, scratch: _Scratch) -> int:
    """Drop the keys and values of pixels that are not wholly inside; return how many stay."""
    first = areas.ptr[area]
    n = 0
    for k in range(scratch.counts[i]):
        if areas.purity[first + scratch.places[i, k]] & bundle.pure_bit[i]:
            scratch.keys[n] = scratch.keys[k]
            scratch.picked[n] = scratch.picked[k]
            n += 1
    return n


@kernel
def _finish(
    i: int, f: int, area: int, bundle: BundleArrays, areas: AreaArrays, scratch: _Scratch, out: ResultArrays
) -> None:
    """Climb the purity ladder for index i of one farm and write its results."""
    height, width = areas.windows[area, 2], areas.windows[area, 3]
    begin = out.clip_starts[f] + np.int64(i) * height * width
    clip = out.clip[begin : begin + np.int64(height) * width].reshape((height, width))
    pure = _draw(i, area, bundle, areas, scratch, clip)
    valid = scratch.counts[i]
    ratio2 = bundle.ratio2[i]
    out.counts[f, i, 0] = np.int32(np.ceil((areas.ptr[area + 1] - areas.ptr[area]) / ratio2))
    out.counts[f, i, 1] = np.int32(np.ceil(valid / ratio2))
    if valid == 0:
        return
    weighted = pure < bundle.min_pure * ratio2
    n = valid if weighted else _keep_pure(i, area, bundle, areas, scratch)
    total, squares = summarise(
        scratch.picked, scratch.keys, scratch.spare, n, weighted, bundle.step[i], bundle.origin[i], out.statistics[f, i]
    )
    out.mixed[f, i] = weighted and pure < valid
    out.counts[f, i, 2] = np.int32(np.ceil(n / ratio2))
    out.n_effective[f, i] = total * total / squares / ratio2
    out.used_area_px[f, i] = (total / 255.0 if weighted else total) / ratio2


@kernel
def _make_scratch(bundle: BundleArrays, longest: int, reasons: int) -> _Scratch:
    indices = bundle.outputs.size
    return _Scratch(
        np.empty((bundle.n_registers, _CHUNK), np.float32),
        np.empty(_CHUNK, np.int64),
        np.empty(_CHUNK, np.int64),
        np.empty(_CHUNK, np.int64),
        np.empty((indices, longest), np.float32),
        np.empty((indices, longest), np.int64),
        np.zeros(indices, np.int64),
        np.zeros((indices, reasons), np.int64),
        np.empty(longest, np.float32),
        np.empty(longest, np.uint32),
        np.empty(longest, np.uint32),
    )


@kernel
def _longest(chosen: npt.NDArray[np.int64], ptr: npt.NDArray[np.int64]) -> int:
    longest = 1
    for f in range(chosen.size):
        longest = max(longest, ptr[chosen[f] + 1] - ptr[chosen[f]])
    return longest


@kernel
def _share_reasons(weights: npt.NDArray[np.int64], masked: npt.NDArray[np.int64], out: npt.NDArray[np.float64]) -> None:
    """Write the share of the farm's area per index and reason; the mask's reasons are the same for all indices."""
    for i in range(out.shape[0]):
        total = 0
        for r in range(out.shape[1]):
            total += weights[i, r] + masked[r]
        for r in range(out.shape[1]):
            out[i, r] = (weights[i, r] + masked[r]) / total if total > 0 else 0.0


@kernel
def evaluate(
    chosen: npt.NDArray[np.int64], areas: AreaArrays, data: PixelData, bundle: BundleArrays, out: ResultArrays
) -> None:
    """Compute all indices of F farms.

    Args:
        chosen: (F,) positions of the farms in `areas`.
        areas: pixels, coverage and purity of all farms of the grid.
        data: reflectance and mask reasons of the chosen farms' pixels.
        bundle: the compiled indices and their rules.
        out: filled; statistics must come in as NaN, counts and shares as 0, rasters as RASTER_NODATA.

    """
    inputs = data.reflectance.shape[0]
    scratch = _make_scratch(bundle, _longest(chosen, areas.ptr), out.fractions.shape[2])
    for c in range(bundle.constants.size):
        scratch.registers[inputs + c] = bundle.constants[c]
    masked = np.zeros(out.fractions.shape[2], np.int64)
    for f in range(chosen.size):
        area = chosen[f]
        first = areas.ptr[area]
        n = areas.ptr[area + 1] - first
        scratch.counts[:] = 0
        scratch.weights[:] = 0
        coverage = areas.coverage[first : first + n]
        masked[:] = 0
        for begin in range(0, n, _CHUNK):
            length = min(_CHUNK, n - begin)
            for t in range(length):
                reason = data.reasons[data.starts[f] + begin + t]
                if reason != _VALID:
                    masked[reason] += coverage[begin + t]
            m = _load_chunk(data, data.starts[f] + begin, length, inputs, bundle.reflectance_max, scratch)
            if m == 0:
                continue
            run_ops(bundle.ops, scratch.registers, m)
            for i in range(bundle.outputs.size):
                _keep_valid(i, bundle, coverage, begin, m, scratch)
        _share_reasons(scratch.weights, masked, out.fractions[f])
        for i in range(bundle.outputs.size):
            _finish(i, f, area, bundle, areas, scratch, out)
