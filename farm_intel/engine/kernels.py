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
_MASKED = 1 << 62
"""The bit behind those of the inputs."""
_ROUNDING = 6755399441055744.0
_FRONT, _BACK = 1, 2
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
    barred: npt.NDArray[np.int64]
    """Per pixel of the chunk, a bit per input that is nodata or out of range, or _MASKED."""
    places: npt.NDArray[np.uint64]
    """Where the chunk's pixels stand in the farm's raster."""
    quanta: npt.NDArray[np.int16]
    codes: npt.NDArray[np.uint32]
    """Of the chunk: sort key."""
    moves: npt.NDArray[np.uint8]
    """Of the chunk: _FRONT, _BACK or 0 for a pixel that does not count."""
    values: npt.NDArray[np.float32]
    """(I, longest) usable values: wholly inside from the front, others from the back."""
    keys: npt.NDArray[np.uint32]
    pure: npt.NDArray[np.int64]
    mixed: npt.NDArray[np.int64]
    """(I,) how many of each there are."""
    weights: npt.NDArray[np.int64]
    spare: npt.NDArray[np.uint32]


@kernel
def run_ops(ops: npt.NDArray[np.int32], registers: npt.NDArray[np.float32], n: int) -> None:  # noqa: C901, PLR0912 - one branch per opcode is what an interpreter is
    """Run a register program over the first n columns of the registers, of which the last is nobody's.

    An operation that overwrites its own operand goes through that one: loops whose output may be an input are not
    vectorised, and cost ten times as much.
    """
    spare = registers.shape[0] - 1
    for s in range(ops.shape[0]):
        op = ops[s, 0]
        target = ops[s, 1]
        detour = target in (ops[s, 2], ops[s, 3])
        out = registers[spare if detour else target]
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
        if detour:
            registers[target, :n] = out[:n]


@kernel
def _load_chunk(data: PixelData, first: int, n: int, inputs: int, limit: float, scratch: _Scratch) -> int:
    """Copy a chunk into the input registers and mark what bars pixels; return how many the mask lets through."""
    m = 0
    for t in range(n):
        clear = data.reasons[first + t] == _VALID
        scratch.barred[t] = np.int64(0) if clear else _MASKED
        m += clear
    if m == 0:
        return 0
    top = np.float32(limit)
    zero = np.float32(0.0)
    for k in range(inputs):
        register = scratch.registers[k]
        band = data.reflectance[k, first : first + n]
        bit = np.int64(1) << k
        for t in range(n):
            value = band[t]
            register[t] = value
            # false for NaN too
            scratch.barred[t] |= np.int64(0) if (value > zero) & (value <= top) else bit
    return m


@kernel
def _quantise_chunk(i: int, bundle: BundleArrays, first: int, n: int, areas: AreaArrays, scratch: _Scratch) -> Any:
    """Write raster value, sort key and destination of the chunk for index i; return pixels that count, their coverage.

    One branch-free loop, so that it is done for many pixels at a time.
    """
    values = scratch.registers[bundle.outputs[i]]
    coverage = areas.coverage[first : first + n]
    purity = areas.purity[first : first + n]
    bit = bundle.pure_bit[i]
    used = bundle.used[i] | _MASKED
    low, high, step, origin = bundle.low[i], bundle.high[i], bundle.step[i], bundle.origin[i]
    count = 0
    weight = np.int64(0)
    for t in range(n):
        value = np.float64(values[t])
        good = ((scratch.barred[t] & used) == 0) & (value >= low) & (value <= high)
        quantum = ((value if good else origin) - origin) / step
        quantum = min(max(quantum, -float(_RASTER_LIMIT)), float(_RASTER_LIMIT))
        # adding and taking away 1.5 * 2**52 rounds half to even, as rint does
        whole = np.int32((quantum + _ROUNDING) - _ROUNDING)
        scratch.quanta[t] = np.int16(whole) if good else np.int16(_RASTER_NODATA)
        scratch.codes[t] = (np.uint32(whole + 32768) << np.uint32(8)) | np.uint32(coverage[t])
        counted = _FRONT if (purity[t] & bit) != 0 else _BACK
        scratch.moves[t] = np.uint8(counted) if good else np.uint8(0)
        count += good
        weight += np.int64(coverage[t]) if good else np.int64(0)
    return count, weight


@kernel
def _blame(i: int, bundle: BundleArrays, coverage: Any, n: int, scratch: _Scratch) -> None:
    """Add the coverage of the chunk's unmasked pixels that index i cannot use to their reason."""
    for t in range(n):
        if scratch.moves[t] or scratch.barred[t] & _MASKED:
            continue
        barred = scratch.barred[t] & bundle.used[i]
        reason = _BAD_INPUT if barred else _BAD_VALUE
        k = 0
        while barred:
            if barred & 1 and np.isnan(scratch.registers[k, t]):
                reason = _NODATA
            barred >>= 1
            k += 1
        scratch.weights[i, reason] += coverage[t]


@kernel
def _keep_chunk(i: int, bundle: BundleArrays, n: int, room: int, scratch: _Scratch, clip: Any) -> None:
    """Write index i of the chunk into the farm's raster, and append its usable values and keys.

    Pixels wholly inside go to the front of the farm's room, the others to its back; an unusable one is written where
    the next one will overwrite it. Places are unsigned, because numba looks for a negative one otherwise.
    """
    values = scratch.registers[bundle.outputs[i]]
    kept_values = scratch.values[i]
    kept_keys = scratch.keys[i]
    front = np.uint64(scratch.pure[i])
    back = np.uint64(room - 1 - scratch.mixed[i])
    for t in range(n):
        clip[scratch.places[t]] = scratch.quanta[t]
    for t in range(n):
        move = np.uint64(scratch.moves[t])
        place = back if move & np.uint64(_BACK) else front
        kept_values[place] = values[t]
        kept_keys[place] = scratch.codes[t]
        front += move & np.uint64(_FRONT)
        back -= move >> np.uint64(1)
    scratch.pure[i] = np.int64(front)
    scratch.mixed[i] = room - 1 - np.int64(back)


@kernel
def _close_gap(i: int, room: int, scratch: _Scratch) -> None:
    """Move the values and keys at the back of the farm's room right behind those at its front."""
    shift = room - scratch.mixed[i] - scratch.pure[i]
    if shift:
        for k in range(scratch.pure[i], scratch.pure[i] + scratch.mixed[i]):
            scratch.values[i, k] = scratch.values[i, k + shift]
            scratch.keys[i, k] = scratch.keys[i, k + shift]


@kernel
def _finish(
    i: int, f: int, area: int, bundle: BundleArrays, areas: AreaArrays, scratch: _Scratch, out: ResultArrays
) -> None:
    """Climb the purity ladder for index i of one farm and write its results."""
    room = areas.ptr[area + 1] - areas.ptr[area]
    pure = scratch.pure[i]
    valid = pure + scratch.mixed[i]
    ratio2 = bundle.ratio2[i]
    out.counts[f, i, 0] = np.int32(np.ceil(room / ratio2))
    out.counts[f, i, 1] = np.int32(np.ceil(valid / ratio2))
    if valid == 0:
        return
    weighted = pure < bundle.min_pure * ratio2
    n = pure
    if weighted:
        n = valid
        _close_gap(i, room, scratch)
    total, squares = summarise(
        scratch.values[i],
        scratch.keys[i],
        scratch.spare,
        n,
        weighted,
        bundle.step[i],
        bundle.origin[i],
        out.statistics[f, i],
    )
    out.mixed[f, i] = weighted and pure < valid
    out.counts[f, i, 2] = np.int32(np.ceil(n / ratio2))
    out.n_effective[f, i] = total * total / squares / ratio2
    out.used_area_px[f, i] = (total / 255.0 if weighted else total) / ratio2


@kernel
def _make_scratch(bundle: BundleArrays, longest: int, reasons: int) -> _Scratch:
    indices = bundle.outputs.size
    return _Scratch(
        np.empty((bundle.n_registers + 1, _CHUNK), np.float32),
        np.empty(_CHUNK, np.int64),
        np.empty(_CHUNK, np.uint64),
        np.empty(_CHUNK, np.int16),
        np.empty(_CHUNK, np.uint32),
        np.empty(_CHUNK, np.uint8),
        np.empty((indices, longest), np.float32),
        np.empty((indices, longest), np.uint32),
        np.zeros(indices, np.int64),
        np.zeros(indices, np.int64),
        np.zeros((indices, reasons), np.int64),
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
def _evaluate_chunk(span: Any, bundle: BundleArrays, areas: AreaArrays, scratch: _Scratch, out: ResultArrays) -> None:
    """Take what the program computed for a chunk of m clear pixels into the farm's lists, rasters and reasons."""
    f, area, begin, length, m = span
    first = areas.ptr[area]
    width = np.int64(areas.windows[area, 3])
    pixels = width * areas.windows[area, 2]
    for t in range(length):
        p = first + begin + t
        scratch.places[t] = np.uint64(areas.rows[p] * width + areas.cols[p])
    coverage = areas.coverage[first + begin : first + begin + length]
    for i in range(bundle.outputs.size):
        count, weight = _quantise_chunk(i, bundle, first + begin, length, areas, scratch)
        scratch.weights[i, _VALID] += weight
        if count < m:
            _blame(i, bundle, coverage, length, scratch)
        if count:
            start = out.clip_starts[f] + i * pixels
            clip = out.clip[start : start + pixels]
            _keep_chunk(i, bundle, length, areas.ptr[area + 1] - first, scratch, clip)


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
        scratch.pure[:] = 0
        scratch.mixed[:] = 0
        scratch.weights[:] = 0
        coverage = areas.coverage[first : first + n]
        masked[:] = 0
        for begin in range(0, n, _CHUNK):
            length = min(_CHUNK, n - begin)
            m = _load_chunk(data, data.starts[f] + begin, length, inputs, bundle.reflectance_max, scratch)
            if m < length:
                for t in range(begin, begin + length):
                    masked[data.reasons[data.starts[f] + t]] += coverage[t]
            if m == 0:
                continue
            run_ops(bundle.ops, scratch.registers, length)
            _evaluate_chunk((f, area, begin, length, m), bundle, areas, scratch, out)
        # clear pixels were counted by index
        masked[_VALID] = 0
        _share_reasons(scratch.weights, masked, out.fractions[f])
        for i in range(bundle.outputs.size):
            _finish(i, f, area, bundle, areas, scratch, out)
