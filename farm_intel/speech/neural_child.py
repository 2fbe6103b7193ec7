"""The child process that holds the neural voice; run as a script, so that it imports nothing of ours.

It reads requests, a length (4 bytes, big-endian) and UTF-8 text, and answers each with a rate in Hz, a length (4 bytes
each, big-endian) and 16-bit samples; rate 0 says that the bytes are the reason of a failure. It ends with its input.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import BinaryIO

_SEED = 0
"""The same text gives the same sound."""


def main() -> None:
    """Answer until the parent closes our input or dies."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    import numpy as np

    voice = None
    while (text := _read(sys.stdin.buffer)) is not None:
        try:
            if voice is None:
                from hibari import Hibari

                voice = Hibari()
            wave = np.asarray(voice(text, seed=_SEED), dtype=np.float64)
            samples = (np.clip(wave, -1.0, 1.0) * 32_767).astype("<i2").tobytes()
            head, body = int(voice.sample_rate), samples
        except Exception as error:  # noqa: BLE001 - the edge of a process: whatever it was, the parent is told
            head, body = 0, f"{type(error).__name__}: {error}"[:500].encode()
        answers.write(struct.pack(">II", head, len(body)) + body)
        answers.flush()


def _read(requests: BinaryIO) -> str | None:
    head = requests.read(4)
    if len(head) < 4:
        return None
    return requests.read(struct.unpack(">I", head)[0]).decode()


if __name__ == "__main__":
    main()
