"""Wall time of a zone and the one rule that turns it into an instant.

- A wall time that exists is its instant; one that the clocks show twice (a fold) is the first of the two, as for
  Debian's cron and `cronsim`.
- One that the clocks skip (a gap) becomes the end of the gap where that is still the same date, and otherwise the last
  minute before the gap: Greenland goes from 22:59 on a Saturday in March to 00:00 on Sunday, and what is planned for
  Saturday at 23:15 is due on Saturday at 22:59. So every scheduled date has its firing on that very date by the clocks
  of the zone. (`cronsim` and Dagster's iterator both fire on the Sunday; a sweep that reads the date off the iterator's
  unnormalised answer does not notice.) Of a whole day that is skipped, as Samoa did on 30 December 2011, the times are
  due in the last minute of the day before.

The rule never goes backwards: a later wall time never becomes an earlier instant, so dates stay in order.
"""

from __future__ import annotations

import hashlib
import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from zoneinfo import ZoneInfo

from farm_intel.domain.errors import BadRequestError

EARLIEST = datetime(1900, 1, 1)  # noqa: DTZ001 - wall time is naive on purpose; its zone stands beside it
HORIZON = datetime(2200, 1, 1)  # noqa: DTZ001 - wall time, as above
"""Nothing falls due from here on: what zones will do so late nobody knows, and it bounds every search."""
_OF_THE_MACHINE = frozenset({"localtime", "posixrules", "Factory"})


@cache
def zone_of(name: str) -> ZoneInfo:
    """Return a zone by its IANA name.

    Raises:
        BadRequestError: there is no such zone, or the name stands for whatever this machine is set to.

    """
    problem = BadRequestError(
        f"there is no time zone {name[:64]!r}", hint="Give an IANA name, e.g. Africa/Nairobi or UTC."
    )
    if name in _OF_THE_MACHINE:
        raise problem
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise problem from error


def is_gap(wall: datetime, zone: ZoneInfo) -> bool:
    """Tell whether the clocks skip a naive wall time."""
    first, second = _offsets(wall, zone)
    return first < second


def is_fold(wall: datetime, zone: ZoneInfo) -> bool:
    """Tell whether the clocks show a naive wall time twice."""
    first, second = _offsets(wall, zone)
    return first > second


def to_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the UTC instant of a naive wall time, by the rule above."""
    if is_gap(wall, zone):
        return _beside_gap(wall, zone)
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def second_pass(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the later UTC instant of a wall time that comes twice; of any other its only one."""
    if is_gap(wall, zone):
        return _beside_gap(wall, zone)
    return wall.replace(tzinfo=zone, fold=1).astimezone(UTC)


def to_wall(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return what the clocks of a zone show at an instant, naive."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _offsets(wall: datetime, zone: ZoneInfo) -> tuple[timedelta, timedelta]:
    first = wall.replace(tzinfo=zone, fold=0).utcoffset()
    second = wall.replace(tzinfo=zone, fold=1).utcoffset()
    return first or timedelta(0), second or timedelta(0)


@lru_cache(maxsize=1024)
def _beside_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the gap's end if that is on the wall time's date, else the last minute before the gap."""
    change = _change(wall, zone)
    return change if to_wall(change, zone).date() == wall.date() else change - timedelta(minutes=1)


def _change(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant at which the clocks skip a wall time, to the second, by halving the span it must lie in."""
    before, after = _offsets(wall, zone)
    low = (wall - after).replace(tzinfo=UTC)
    high = (wall - before).replace(tzinfo=UTC)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


@cache
def zone_version() -> str:
    """Return the version of the time zone data in force, e.g. `2026f`.

    Zones change by law at short notice. Nothing that lies ahead is stored but `next_due`, which is computed anew
    with every occurrence that is made; so where this version differs from that of the last run, it is enough to
    compute `next_due` of every active activity once more. Occurrences keep the instant they were made with.

    Where the system's data states no version, a fingerprint of its files stands for it.
    """
    for folder in map(Path, zoneinfo.TZPATH):
        if (folder / "UTC").exists():
            return _version_of(folder)
    return str(import_module("tzdata").IANA_VERSION)


def _version_of(folder: Path) -> str:
    stated = folder / "tzdata.zi"
    if stated.exists():
        with stated.open(encoding="utf-8") as lines:
            first = lines.readline().split()
        if first[:2] == ["#", "version"] and len(first) == 3:  # "# version 2025b"
            return first[2]
    digest = hashlib.sha256()
    for path in sorted(folder.glob("[A-Z]*/*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return f"system-{digest.hexdigest()[:12]}"
