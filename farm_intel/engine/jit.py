"""The one way kernels are compiled, so that all share cache, threading and division rules.

Numba's disk cache only notices a change of the file a kernel stands in, not of the kernels it calls nor of constants it
took from elsewhere: after an update a stale machine code would go on computing old numbers. So the cache lives in a
folder named after the contents of every source a kernel can depend on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numba

_HERE = Path(__file__).parent
_CONSTANTS = ("domain/batches.py", "domain/products.py", "indices/program.py")
"""Sources outside this package whose values are frozen into kernels."""


@cache
def source_digest() -> str:
    """Return 12 hex digits over every source the kernels can depend on."""
    kernels = [text for path in sorted(_HERE.glob("*.py")) if b"\n@kernel\n" in (text := path.read_bytes())]
    constants = [(_HERE.parent / name).read_bytes() for name in _CONSTANTS]
    return hashlib.sha256(b"\0".join([*kernels, *constants])).hexdigest()[:12]


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compile with numba: cached on disk, without the GIL, dividing by zero as numpy does (inf or NaN)."""
    return _compile(function, frozenset())


def reduction[F: Callable[..., Any]](function: F) -> F:
    """Compile as `kernel` does, free to add up in any order and to take for granted that no value is NaN.

    Without that freedom a sum waits for each of its additions; the results differ in the last bit of a float64.
    """
    return _compile(function, frozenset({"reassoc", "nnan", "nsz"}))


def _compile[F: Callable[..., Any]](function: F, liberties: frozenset[str]) -> F:
    settings: Any = numba.config  # its names are made at import, numba's types do not know them
    configured = settings.CACHE_DIR
    base = Path(configured) if configured else _HERE / "__pycache__"
    settings.CACHE_DIR = str(base / f"kernels-{source_digest()}")
    try:
        compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=set(liberties))(function)
    finally:
        settings.CACHE_DIR = configured
    # called like the function it was made of; numba's own type hides the signature
    return cast("F", compiled)
