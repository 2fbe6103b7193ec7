"""The Statistical API's arithmetic and answer, in the shape that was recorded from the service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.simulation.emulators.sentinel_hub_pixels import RequestGrid
from farm_intel.simulation.emulators.sentinel_hub_scripts import (
    Evalscript,
    FloatArray,
    RefusedError,
    number_or_text,
    require_only,
)

_DAYS = re.compile(r"P(\d+)D")


def parse_moment(text: str) -> datetime:
    """Return a time as the service writes and reads it: RFC 3339 with Z."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(f"invalid date {text}") from error
    if moment.tzinfo is None:
        raise RefusedError(f"date {text} has no time zone")
    return moment


def intervals(aggregation: Mapping[str, Any]) -> list[tuple[datetime, datetime]]:
    """Return the intervals of whole days; a last one that is not full is left out (`lastIntervalBehavior` SKIP).

    Raises:
        RefusedError: another kind of interval.

    """
    rule = aggregation["aggregationInterval"]
    require_only(rule, ("of",), "aggregationInterval")
    match = _DAYS.fullmatch(rule["of"])
    if match is None or int(match[1]) < 1:
        raise RefusedError(f"this emulator does not implement aggregationInterval {rule['of']}")
    step = timedelta(days=int(match[1]))
    start, end = parse_moment(aggregation["timeRange"]["from"]), parse_moment(aggregation["timeRange"]["to"])
    found = []
    while start + step <= end:
        found.append((start, start + step))
        start += step
    return found


def check_outputs(script: Evalscript) -> None:
    """Refuse scripts without a mask, or with mask bands that belong to no output."""
    mask = script.outputs.get("dataMask")
    if mask is None:
        raise RefusedError("Output dataMask requested but missing from function setup()")
    others = [name for name in script.outputs if name != "dataMask"]
    if mask.bands != ("B0",) and set(mask.bands) != set(others):
        raise RefusedError(f"dataMask bands {mask.bands} are not the outputs {others}")


def interval_outputs(
    script: Evalscript, out: Mapping[str, FloatArray], grid: RequestGrid, calculations: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the `outputs` of one interval.

    Pixels are those of the whole bounding box; what lies outside the polygon counts as no data (recorded: 3036 samples,
    1192 of them no data).
    """
    mask_bands = script.outputs["dataMask"].bands
    answer = {}
    for name, output in script.outputs.items():
        if name == "dataMask":
            continue
        column = mask_bands.index(name) if name in mask_bands else 0
        mask = out["dataMask"][:, column] > 0
        percents = _percents(calculations.get(name) or calculations.get("default") or {})
        answer[name] = {
            "bands": {
                band: {"stats": _stats(out[name][:, k], mask, percents, grid.width * grid.height)}
                for k, band in enumerate(output.bands)
            }
        }
    return answer


def _percents(calculation: Mapping[str, Any]) -> list[float]:
    require_only(calculation, ("statistics",), "calculations")
    statistics = calculation.get("statistics", {})
    require_only(statistics, ("default",), "calculations.statistics")
    return [float(k) for k in statistics.get("default", {}).get("percentiles", {}).get("k", [])]


def _stats(values: FloatArray, mask: npt.NDArray[np.bool_], percents: list[float], samples: int) -> dict[str, Any]:
    """Return one band's statistics over single-precision values; percentiles are order statistics, not interpolated."""
    counted = values[mask].astype(np.float32).astype(np.float64)
    stats: dict[str, Any] = dict.fromkeys(("min", "max", "mean", "stDev"), "NaN")
    if counted.size:
        with np.errstate(invalid="ignore"):
            told = (counted.min(), counted.max(), counted.mean(), counted.std())
        stats = dict(zip(("min", "max", "mean", "stDev"), map(number_or_text, told), strict=True))
    stats["sampleCount"] = samples
    stats["noDataCount"] = samples - counted.size
    if percents:
        stats["percentiles"] = {
            f"{k}": number_or_text(float(np.percentile(counted, k, method="lower"))) if counted.size else "NaN"
            for k in percents
        }
    return stats
