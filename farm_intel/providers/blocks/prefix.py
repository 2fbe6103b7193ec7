"""Inflates only the first bytes of a zlib stream: farms rarely reach down to the last row of a block.

libdeflate writes its output in order and stops when it is full, so a short buffer holds the beginning of the stream
(Biggers, libdeflate: LIBDEFLATE_INSUFFICIENT_SPACE; parity tests hold us to it). The Python binding throws that buffer
away, hence the same library is called through the GDAL that rasterio ships. Where GDAL was built without it the caller
inflates whole streams: the same pixels, a sixth more CPU.

What is left out cannot be checked: the checksum of a zlib stream stands at its end and covers all of it, so a stream
damaged without breaking its code is noticed only where it is inflated whole.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio._base

_SUCCESS, _INSUFFICIENT_SPACE = 0, 3
"""enum libdeflate_result of libdeflate.h."""
MARGIN_BYTES = 512
"""Room behind the wanted bytes: the copy that would overrun the buffer, at most 258 bytes, is not begun."""


class BrokenStreamError(ValueError):
    """The bytes are no zlib stream, or one that ends too early."""


class _Decompressor:
    """libdeflate's working memory; one per thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.address = library.libdeflate_alloc_decompressor()
        if not self.address:
            raise MemoryError("libdeflate has no memory for a decompressor")

    def __del__(self) -> None:
        self._library.libdeflate_free_decompressor(self.address)


class _PerThread(threading.local):
    decompressor: _Decompressor | None = None


_own = _PerThread()


@cache
def _library() -> ctypes.CDLL | None:
    """Return the libdeflate that GDAL is linked to, found through rasterio's extension module; None without one."""
    library = ctypes.CDLL(rasterio._base.__file__)  # noqa: SLF001 - any extension linked to GDAL serves
    try:
        library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
        library.libdeflate_alloc_decompressor.argtypes = []
        library.libdeflate_free_decompressor.restype = None
        library.libdeflate_free_decompressor.argtypes = [ctypes.c_void_p]
        library.libdeflate_zlib_decompress.restype = ctypes.c_int
        library.libdeflate_zlib_decompress.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p,
        ]  # fmt: skip
    except AttributeError:
        return None
    return library


def inflate_prefix(data: memoryview, out: npt.NDArray[Any], wanted: int) -> bool:
    """Write the first `wanted` bytes of a stream into `out`; return False where that cannot be done.

    It cannot without libdeflate, nor when the buffer has no margin, which is when little would be saved.

    Args:
        data: the zlib stream.
        out: C-contiguous, as large as the whole inflated stream; bytes from `wanted` on are left undefined.
        wanted: bytes.

    Raises:
        BrokenStreamError: the stream is damaged before that, or ends before it.

    """
    room = wanted + MARGIN_BYTES
    library = _library()
    if library is None or room > out.nbytes:
        return False
    if _own.decompressor is None:
        _own.decompressor = _Decompressor(library)
    written = ctypes.c_size_t(0)
    source = np.frombuffer(data, np.uint8)
    result = library.libdeflate_zlib_decompress(
        _own.decompressor.address, source.ctypes.data, source.size, out.ctypes.data, room, ctypes.addressof(written)
    )
    if result not in {_SUCCESS, _INSUFFICIENT_SPACE}:
        raise BrokenStreamError("libdeflate calls the data bad")
    if result == _SUCCESS and written.value < wanted:
        raise BrokenStreamError(f"it ends after {written.value} bytes")
    return True
