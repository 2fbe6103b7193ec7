"""Deflate for the pixels of rasters: a third of what libdeflate costs, within a few percent of its size.

Neighbouring pixels of an index differ by noise. A general compressor searches every place for earlier copies of the
next bytes, and noise has none; what is left to gain is the unequal frequency of the bytes, and runs where nothing is
stored outside a farm. So a pixel is either two coded bytes or part of a run of its predecessor, and all blocks of a
raster share one Huffman code, because building it costs as much as using it on a small farm. Formats: RFC 1950 (zlib),
RFC 1951 (deflate), TIFF 6.0 section 14 (horizontal differencing). Equal pixels give equal bytes on every machine.

All kernels stand in this one file: numba's cache notices changes of the file a kernel stands in, not of its callees'.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.engine.jit import kernel

_LITERALS = 286
"""Literal and length symbols; 256 ends a block."""
_END = 256
_MAX_BITS = 15
_CODE_MAX_BITS = 7
"""Longest code of the alphabet that codes the code lengths."""
_RUN_MAX_PX = 129
"""A match is at most 258 bytes."""
_RUN = 1 << 16
"""Tokens from here on are runs: the number of pixels above it; those below are one pixel each."""
_ADLER = 65521
_HEADER_WORDS = 160
"""32-bit words that are more than any block's header, checksum and end need."""
_DISTANCE_BIT = 1
"""Distance 2, one pixel back, has symbol 1 of two symbols with one bit each; zlib asks for at least two."""
_CODE_ORDER = np.array((16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15))
"""Order in which RFC 1951, 3.2.7 lists the lengths of the code length alphabet."""


def _length_rows() -> npt.NDArray[np.int64]:
    """Return symbol, number of extra bits and their value for every match length 0..258 (RFC 1951, 3.2.5)."""
    rows = np.zeros((259, 3), np.int64)
    length = 3
    for symbol in range(257, 285):
        extra = 0 if symbol < 265 else (symbol - 261) // 4
        for value in range(1 << extra):
            rows[length] = symbol, extra, value
            length += 1
            if length == 259:
                break
    rows[258] = 285, 0, 0
    return rows


_LENGTHS = _length_rows()


def deflate_blocks(pixels: npt.NDArray[np.int16]) -> tuple[bytes, list[int]]:
    """Return each block as a zlib stream of its row-wise differences, least significant byte first.

    Args:
        pixels: (blocks, height, width), C-contiguous; strips or tiles of one raster.

    Returns:
        The streams one after the other, and the size of each.

    """
    content = np.empty(4 * (pixels.size + len(pixels) * _HEADER_WORDS), np.uint8)
    sizes = np.empty(len(pixels), np.int64)
    size = _deflate(pixels, content, sizes)
    return content[:size].tobytes(), sizes.tolist()


@kernel
def _deflate(pixels: npt.NDArray[Any], content: npt.NDArray[Any], sizes: npt.NDArray[Any]) -> int:
    blocks, height, width = pixels.shape
    tokens = np.empty((blocks, height * width), np.int32)
    numbers = np.empty(blocks, np.int64)
    checksums = np.empty(blocks, np.int64)
    counts = np.zeros(_LITERALS, np.int64)
    low = np.zeros((2, 256), np.int64)  # two of each: a counter that was just written is slow to read
    high = np.zeros((2, 256), np.int64)
    for block in range(blocks):
        numbers[block], checksums[block] = _tokenise(pixels[block], tokens[block], low, high, counts)
    for value in range(256):
        counts[value] = low[0, value] + low[1, value] + high[0, value] + high[1, value]
    counts[_END] = blocks
    lengths = np.zeros(_LITERALS + 2, np.int64)
    _code_lengths(counts, _MAX_BITS, lengths)
    codes = _codes(lengths[:_LITERALS])
    lengths[_LITERALS:] = _DISTANCE_BIT
    pieces = np.empty((_LITERALS + 2 + 24, 2), np.int64)
    header = np.empty(_HEADER_WORDS, np.uint32)
    begin = _pack(pieces[: _describe_code(lengths, pieces)], header)
    words = np.empty(height * width + _HEADER_WORDS, np.uint32)
    words[: begin[0]] = header[: begin[0]]
    end = 0
    for block in range(blocks):
        size = _write(words, begin, (codes, lengths), tokens[block, : numbers[block]], checksums[block])
        content[end : end + size] = words.view(np.uint8)[:size]
        end += size
        sizes[block] = size
    return end


@kernel
def _tokenise(
    pixels: npt.NDArray[Any],
    tokens: npt.NDArray[Any],
    low: npt.NDArray[Any],
    high: npt.NDArray[Any],
    counts: npt.NDArray[Any],
) -> tuple[int, int]:
    """Turn one block into tokens, count their symbols, and return how many tokens there are and the Adler-32."""
    height, width = pixels.shape
    number = 0
    run = 0
    last = -1
    total = 0
    weighted = 0
    weight = 2 * height * width
    for y in range(height):
        before = 0
        for x in range(width):
            value = int(pixels[y, x])
            difference = (value - before) & 0xFFFF
            before = value
            both = (difference & 0xFF) + (difference >> 8)
            total += both
            weighted += weight * both - (difference >> 8)
            weight -= 2
            if difference == last and run < _RUN_MAX_PX:
                run += 1
                continue
            if run:
                number = _end_run(run, last, tokens, number, low, high, counts)
                run = 0
                if difference == last:
                    run = 1
                    continue
            last = difference
            tokens[number] = difference
            number += 1
            low[x & 1, difference & 0xFF] += 1
            high[x & 1, difference >> 8] += 1
    if run:
        number = _end_run(run, last, tokens, number, low, high, counts)
    checksum = ((2 * height * width + weighted) % _ADLER) << 16 | (1 + total) % _ADLER
    return number, checksum


@kernel
def _end_run(
    run: int,
    last: int,
    tokens: npt.NDArray[Any],
    number: int,
    low: npt.NDArray[Any],
    high: npt.NDArray[Any],
    counts: npt.NDArray[Any],
) -> int:
    if run == 1:  # two bytes are too short for a match
        tokens[number] = last
        low[0, last & 0xFF] += 1
        high[0, last >> 8] += 1
    else:
        tokens[number] = _RUN + run
        counts[_LENGTHS[2 * run, 0]] += 1
    return number + 1


@kernel
def _code_lengths(counts: npt.NDArray[Any], limit: int, lengths: npt.NDArray[Any]) -> None:
    """Fill the lengths of a Huffman code in which no symbol has more bits than the limit; two symbols at least.

    Moffat and Katajainen, In-place calculation of minimum-redundancy codes (1995); the limit as in miniz.
    """
    keys = _ascending(counts)
    used = len(keys)
    depths = _depths(counts[keys])
    per_length = np.zeros(64, np.int64)
    for depth in depths:
        per_length[min(depth, limit)] += 1
    room = 0
    for bits in range(1, limit + 1):
        room += per_length[bits] << (limit - bits)
    while room > 1 << limit:  # too many short ones: push one down and let it share its place with a longest one
        per_length[limit] -= 1
        bits = limit - 1
        while not per_length[bits]:
            bits -= 1
        per_length[bits] -= 1
        per_length[bits + 1] += 2
        room -= 1
    place = used
    for bits in range(1, limit + 1):
        for _ in range(per_length[bits]):
            place -= 1
            lengths[keys[place]] = bits


@kernel
def _ascending(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the symbols that occur, by count and then by number; a byte of the count at a time."""
    symbols = np.flatnonzero(counts)
    largest = counts.max()
    shift = 0
    while largest >> shift:
        places = np.zeros(257, np.int64)
        for symbol in symbols:
            places[(counts[symbol] >> shift & 0xFF) + 1] += 1
        for value in range(256):
            places[value + 1] += places[value]
        ordered = np.empty_like(symbols)
        for symbol in symbols:
            value = counts[symbol] >> shift & 0xFF
            ordered[places[value]] = symbol
            places[value] += 1
        symbols = ordered
        shift += 8
    return symbols


@kernel
def _depths(weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the depths of the leaves of a Huffman tree over ascending weights, in the same order."""
    tree = weights.copy()
    number = len(tree)
    tree[0] += tree[1]
    root = 0
    leaf = 2
    for node in range(1, number - 1):
        if leaf >= number or tree[root] < tree[leaf]:
            tree[node] = tree[root]
            tree[root] = node
            root += 1
        else:
            tree[node] = tree[leaf]
            leaf += 1
        if leaf >= number or (root < node and tree[root] < tree[leaf]):
            tree[node] += tree[root]
            tree[root] = node
            root += 1
        else:
            tree[node] += tree[leaf]
            leaf += 1
    tree[number - 2] = 0
    for node in range(number - 3, -1, -1):
        tree[node] = tree[tree[node]] + 1
    return _leaf_depths(tree)


@kernel
def _leaf_depths(tree: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Turn depths of inner nodes into depths of leaves, in place."""
    number = len(tree)
    available = 1
    depth = 0
    root = number - 2
    place = number - 1
    while available > 0:
        inner = 0
        while root >= 0 and tree[root] == depth:
            inner += 1
            root -= 1
        while available > inner:
            tree[place] = depth
            place -= 1
            available -= 1
        available = 2 * inner
        depth += 1
    return tree


@kernel
def _codes(lengths: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the canonical codes of RFC 1951, 3.2.2, first bit lowest, as deflate packs them."""
    following = np.zeros(_MAX_BITS + 2, np.int64)
    for length in lengths:
        if length:
            following[length + 1] += 1
    for bits in range(1, _MAX_BITS + 2):
        following[bits] = (following[bits] + following[bits - 1]) << 1 if bits > 1 else 0
    codes = np.zeros(len(lengths), np.uint64)
    for symbol in range(len(lengths)):
        length = lengths[symbol]
        if length:
            code = following[length]
            following[length] += 1
            turned = 0
            for _ in range(length):
                turned = turned << 1 | code & 1
                code >>= 1
            codes[symbol] = turned
    return codes


@kernel
def _describe_code(lengths: npt.NDArray[Any], header: npt.NDArray[Any]) -> int:
    """Fill the pieces (value, bits) of a dynamic block's header (RFC 1951, 3.2.7) and return their number."""
    symbols = np.empty((len(lengths), 3), np.int64)
    number = _shorten(lengths, symbols)
    counts = np.zeros(19, np.int64)
    for k in range(number):
        counts[symbols[k, 0]] += 1
    code_lengths = np.zeros(19, np.int64)
    _code_lengths(counts, _CODE_MAX_BITS, code_lengths)
    codes = _codes(code_lengths)
    listed = 19
    while listed > 4 and not code_lengths[_CODE_ORDER[listed - 1]]:
        listed -= 1
    header[0] = (0x0178, 16)  # zlib: deflate, fastest
    header[1] = (0b101, 3)  # the last block, with its own code
    header[2] = ((_LITERALS - 257) | 1 << 5 | (listed - 4) << 10, 14)
    pieces = 3
    for k in range(listed):
        header[pieces] = (code_lengths[_CODE_ORDER[k]], 3)
        pieces += 1
    for k in range(number):
        symbol = symbols[k, 0]
        bits = code_lengths[symbol]
        header[pieces] = (int(codes[symbol]) | symbols[k, 2] << bits, bits + symbols[k, 1])
        pieces += 1
    return pieces


@kernel
def _shorten(lengths: npt.NDArray[Any], symbols: npt.NDArray[Any]) -> int:
    """Write code lengths as symbols with extra bits and value: 16 repeats the last, 17 and 18 are zeros."""
    number = 0
    k = 0
    while k < len(lengths):
        length = lengths[k]
        same = 1
        while k + same < len(lengths) and lengths[k + same] == length:
            same += 1
        k += same
        if length:
            symbols[number] = (length, 0, 0)
            number += 1
            same -= 1
        while same:
            if length == 0 and same > 10:
                taken = min(same, 138)
                symbols[number] = (18, 7, taken - 11)
            elif length == 0 and same > 2:
                taken = same
                symbols[number] = (17, 3, taken - 3)
            elif length and same > 2:
                taken = min(same, 6)
                symbols[number] = (16, 2, taken - 3)
            else:
                taken = 1
                symbols[number] = (length, 0, 0)
            number += 1
            same -= taken
    return number


@kernel
def _pack(pieces: npt.NDArray[Any], words: npt.NDArray[Any]) -> tuple[int, Any, int]:
    """Pack pieces and return the number of whole words, and the bits that are left over with their number."""
    place = 0
    held = np.uint64(0)
    bits = 0
    for k in range(len(pieces)):
        held |= np.uint64(pieces[k, 0]) << np.uint64(bits)
        bits += pieces[k, 1]
        if bits >= 32:
            words[place] = np.uint32(held & np.uint64(0xFFFFFFFF))
            place += 1
            held >>= np.uint64(32)
            bits -= 32
    return place, held, bits


@kernel
def _write(
    words: npt.NDArray[Any],
    begin: tuple[int, Any, int],
    code: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    tokens: npt.NDArray[Any],
    checksum: int,
) -> int:
    """Pack one stream behind its header, which left off at `begin`, and return its bytes."""
    place, held, bits = begin
    codes, lengths = code
    for token in tokens:
        if token < _RUN:
            first, second = token & 0xFF, token >> 8
            size = lengths[first]
            # joined before they meet what is held, so that only one step waits for the pixel before
            held |= (codes[first] | codes[second] << np.uint64(size)) << np.uint64(bits)
            bits += size + lengths[second]
        else:
            match = 2 * (token - _RUN)
            first = _LENGTHS[match, 0]
            held |= codes[first] << np.uint64(bits)
            bits += lengths[first]
            held |= np.uint64(_LENGTHS[match, 2]) << np.uint64(bits)
            bits += _LENGTHS[match, 1] + 1
            held |= np.uint64(1) << np.uint64(bits - 1)
        # Written whether the word is full or not: a branch that noise decides would cost more than all the rest.
        words[place] = np.uint32(held & np.uint64(0xFFFFFFFF))
        full = bits >> 5
        place += full
        held >>= np.uint64(full << 5)
        bits &= 31
    held |= codes[_END] << np.uint64(bits)
    bits += lengths[_END]
    length: int = 4 * place + (bits + 7) // 8
    if bits >= 32:
        words[place] = np.uint32(held & np.uint64(0xFFFFFFFF))
        place += 1
        held >>= np.uint64(32)
    # the checksum is the only part that is not bits but bytes, most significant first, at the next whole byte
    used = length - 4 * place
    turned = (checksum & 0xFF) << 24 | (checksum & 0xFF00) << 8 | (checksum >> 8) & 0xFF00 | checksum >> 24
    held |= np.uint64(turned) << np.uint64(8 * used)
    words[place] = np.uint32(held & np.uint64(0xFFFFFFFF))
    words[place + 1] = np.uint32(held >> np.uint64(32))
    return length + 4
