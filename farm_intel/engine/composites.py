"""When the pixels of a composite were seen: best-pixel products mix the days of a window."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np

from farm_intel.domain.products import PixelReason
from farm_intel.domain.scenes import Scene
from farm_intel.engine.emitting import Provenance
from farm_intel.engine.zonal import GatheredPixels

_DAYS_OF_YEAR = 366


def dated(source: Provenance, scene: Scene, pixels: GatheredPixels, area: int) -> Provenance:
    """Return provenance with the median day of an area's valid pixels as its time of acquisition.

    Args:
        source: of the area's numbers; returned as it is for single acquisitions, and where no valid pixel tells a day.
        scene: the home scene; its time is on the first day of the window.
        pixels: as gathered.
        area: position in `pixels`.

    """
    day = median_day(pixels, area)
    return source if day is None else replace(source, acquired_at=seen_at(scene, day))


def median_day(pixels: GatheredPixels, area: int) -> int | None:
    """Return the day of the year of the median valid pixel (the earlier of two), None where none tells one."""
    if pixels.days is None:
        return None
    span = slice(int(pixels.starts[area]), int(pixels.starts[area + 1]))
    days = pixels.days[span][pixels.reasons[span] == PixelReason.VALID]
    # false for NaN too
    days = days[(days >= 1) & (days <= _DAYS_OF_YEAR)]
    if not len(days):
        return None
    middle = (len(days) - 1) // 2
    return int(np.partition(days, middle)[middle])


def seen_at(scene: Scene, day_of_year: int) -> datetime:
    """Return a day of the year as a time near the scene's window; a window may cross the end of a year."""
    first = scene.acquired_at
    moved = day_of_year - first.timetuple().tm_yday
    length = date(first.year, 12, 31).timetuple().tm_yday
    if moved < -length // 2:
        moved += length
    return first + timedelta(days=moved)
