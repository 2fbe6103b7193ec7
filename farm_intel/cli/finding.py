"""What a check of `farm-intel doctor` comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check and what came of it."""

    check: str
    result: Literal["fine", "note", "wrong"]
    detail: str
    advice: str = ""
