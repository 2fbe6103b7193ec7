"""What the Statistical API answers, in every shape that was recorded.

Recorded in sentinelhub-py tests/TestInputs (normal_stat_*.json) and the services' examples: an interval without any
acquisition is absent; one whose pixels are all masked is there with the text "NaN" for its values; one that failed
carries `error`, an object with a `type` or a plain string; `status` is OK, PARTIAL or FAILED.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from farm_intel.domain.errors import BadRequestError, TransientError

_PERMANENT = frozenset({"BAD_REQUEST", "COMMON_BAD_PAYLOAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BandStatistics:
    """Statistics of one band of one output over the pixels its mask lets through."""

    counted: int
    """Pixels the mask let through."""
    mean: float
    """NaN where none was; so are the others."""
    std: float
    min: float
    max: float
    percentiles: Mapping[float, float]
    """Percent -> value; empty where none were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalAnswer:
    """One interval of the answer."""

    start: datetime
    outputs: Mapping[str, Mapping[str, BandStatistics]]
    """Output id -> band name -> statistics; empty where the interval failed."""
    error: str = ""
    """What the service calls the failure."""

    @property
    def transient(self) -> bool:
        """True where asking again may help."""
        return bool(self.error) and self.error not in _PERMANENT


def parse_statistics(content: bytes, what: str) -> list[IntervalAnswer]:
    """Return the intervals of an answer in its order.

    Args:
        content: the body.
        what: the call in words, for messages.

    Raises:
        TransientError: the body is empty, no JSON, or not what was asked for; or the service failed as a whole.
        BadRequestError: the service says the request was wrong.

    """
    try:
        answer = json.loads(content)
        answer = answer[0] if isinstance(answer, list) else answer
        if "data" not in answer:
            raise _failed_whole(answer, what)
        intervals = [_interval(entry) for entry in answer["data"]]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise TransientError(
            f"Sentinel Hub's answer to {what} is unusable ({type(error).__name__}): {content[:60]!r}",
            hint="The answer was damaged on its way; the same request may succeed later.",
        ) from error
    if answer.get("status") == "FAILED" and not intervals:
        raise TransientError(f"Sentinel Hub failed at {what} without saying why", hint="Try again later.")
    return intervals


def _failed_whole(answer: Mapping[str, Any], what: str) -> BadRequestError | TransientError:
    error = _error_text(answer["error"])
    said = f"Sentinel Hub failed at {what}: {error}"
    return BadRequestError(said) if error in _PERMANENT else TransientError(said, hint="Try again later.")


def _interval(entry: Mapping[str, Any]) -> IntervalAnswer:
    start = datetime.fromisoformat(entry["interval"]["from"])
    start = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
    if "error" in entry:
        return IntervalAnswer(start=start, outputs={}, error=_error_text(entry["error"]))
    outputs = {
        output: {name: _band(band["stats"]) for name, band in content["bands"].items()}
        for output, content in entry["outputs"].items()
    }
    return IntervalAnswer(start=start, outputs=outputs)


def _error_text(error: object) -> str:
    if isinstance(error, Mapping):
        return str(error.get("type") or error.get("code") or error.get("message") or "unknown error")
    return str(error) or "unknown error"


def _band(stats: Mapping[str, Any]) -> BandStatistics:
    """Return one band's statistics; the texts "NaN" and "Infinity" are numbers to `float`, histograms are ignored."""
    counted = int(stats["sampleCount"]) - int(stats["noDataCount"])
    percentiles = {float(key): float(value) for key, value in (stats.get("percentiles") or {}).items()}
    band = BandStatistics(
        counted=counted,
        mean=float(stats["mean"]),
        std=float(stats["stDev"]),
        min=float(stats["min"]),
        max=float(stats["max"]),
        percentiles=percentiles,
    )
    if counted < 0 or (counted > 0 and not math.isfinite(band.mean)):
        raise ValueError(f"mean {band.mean} of {counted} pixels")
    return band


def require(intervals: Sequence[IntervalAnswer], outputs: Mapping[str, Sequence[str]], what: str) -> None:
    """Refuse an answer whose good intervals lack outputs or bands that were asked for.

    Raises:
        TransientError: something is missing.

    """
    for interval in intervals:
        if interval.error:
            continue
        for output, bands in outputs.items():
            found = interval.outputs.get(output, {})
            missing = [band for band in bands if band not in found]
            if missing or not found:
                raise TransientError(
                    f"Sentinel Hub's answer to {what} lacks {output} {', '.join(missing)} on {interval.start:%Y-%m-%d}",
                    hint="The answer was damaged on its way; the same request may succeed later.",
                )
