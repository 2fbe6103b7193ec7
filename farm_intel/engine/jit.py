"""The one way kernels are compiled, so that all share cache, threading and division rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compile with numba: cached on disk, without the GIL, dividing by zero as numpy does (inf or NaN)."""
    # called like the function it was made of; numba's own type hides the signature
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
