"""Ranges of local files, copied by the thread that decodes them, into memory that is still in its cache.

A block that one thread reads and another decodes goes through main memory twice more, and each needs memory of its
own: over a scene of 5,000 farms a tenth of a second of CPU and fifty megabytes. The kernel is told of every range as
soon as it is known, so that a slow disk works ahead of the decoding.
"""

from __future__ import annotations

import os
import threading

import numpy as np
import numpy.typing as npt


class _PerThread(threading.local):
    buffer: npt.NDArray[np.uint8] = np.empty(0, np.uint8)


_own = _PerThread()


class LocalRange:
    """A range of a file that is open as long as this object lives: a read that was given up may still be under way."""

    def __init__(self, path: str, start: int, stop: int) -> None:
        """Open the file and let the kernel read ahead.

        Args:
            path: of the file.
            start: first byte.
            stop: one behind the last byte.

        Raises:
            EOFError: the file ends before `stop`; the number of missing bytes is its argument.
            OSError: the file cannot be opened.

        """
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        missing = stop - os.fstat(self._descriptor).st_size
        if missing > 0:
            raise EOFError(missing)
        if not self._in_memory(start):
            os.posix_fadvise(self._descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)

    def _in_memory(self, start: int) -> bool:
        """Return True where nothing need be read ahead: announcing what is there costs as much as copying it."""
        if not hasattr(os, "posix_fadvise"):  # macOS
            return True
        try:
            return bool(os.preadv(self._descriptor, [bytearray(1)], start, os.RWF_NOWAIT))
        except (OSError, AttributeError):  # it is not, or file system or platform cannot tell
            return False

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def piece(self, start: int, size: int) -> memoryview:
        """Return bytes of the file; they hold until the same thread asks for its next piece.

        Raises:
            EOFError: the file was cut off since it was opened.
            OSError: the disk failed.

        """
        if _own.buffer.size < size:
            _own.buffer = np.empty(size + size // 4, np.uint8)
        wanted = memoryview(_own.buffer)[:size]
        done = 0
        while done < size:
            count = os.preadv(self._descriptor, [wanted[done:]], start + done)
            if not count:
                raise EOFError(size - done)
            done += count
        return wanted
