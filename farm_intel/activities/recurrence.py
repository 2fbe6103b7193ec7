"""The dates of a schedule: pure functions of the schedule and the time zone data.

Everything is counted from the schedule's start on naive wall time and turned into instants by the one rule of
`walltime`; nothing depends on when it is asked, so intervals never drift and asking in pieces gives the same dates.

- Each scheduled local date fires exactly once for each scheduled time of it, over all changes of the clocks. Times that
  the same gap skips end up at the same instant beside it: they are one firing, told with the last of them.
- A cron line that runs in every hour (`0 * * * *`, `*/15 * * * *`) counts time passed instead: it fires whenever a
  clock on the wall comes to such a minute, in both passes of a fold and not for an hour that never was. So an hourly
  line is neither silent for two hours in autumn nor doubled in spring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from farm_intel.activities.crontab import cron_walls, parse_cron, runs_by_the_hour
from farm_intel.activities.rrules import parse_rrule, rule_walls
from farm_intel.activities.walltime import (
    EARLIEST,
    HORIZON,
    is_fold,
    is_gap,
    second_pass,
    to_instant,
    to_wall,
    zone_of,
)
from farm_intel.domain.activities import Schedule, ScheduleKind
from farm_intel.domain.errors import BadRequestError

_LONGEST_INTERVAL_DAYS = 3660
_LONGEST_FOLD = timedelta(hours=25)
"""Kwajalein repeated a whole day in 1969; no fold on record is longer."""
_FIRST = EARLIEST.replace(tzinfo=UTC)
_LAST = HORIZON.replace(tzinfo=UTC) + timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTime:
    """One date of a schedule."""

    due_at: datetime
    """UTC."""
    local_date: date
    """Scheduled date on the schedule's calendar."""
    local_time: str
    """Scheduled wall time `HH:MM`; the clocks show another one at `due_at` where they skipped it."""


def check_schedule(schedule: Schedule) -> None:
    """Refuse a schedule that cannot be read or never falls due.

    Raises:
        BadRequestError: unknown zone, unreadable text, wall times with an offset or seconds, the end before the start,
            or a schedule without a single date, e.g. 30 February.

    """
    zone_of(schedule.time_zone)
    for name, wall in (("start", schedule.start), ("until", schedule.until)):
        if wall is not None:
            _check_wall(wall, name)
    if schedule.until is not None and schedule.until < schedule.start:
        raise BadRequestError(
            f"the schedule ends {schedule.until:%Y-%m-%d %H:%M}, before it starts {schedule.start:%Y-%m-%d %H:%M}",
            hint="Give an end after the start, or none.",
        )
    if next_due(schedule, _FIRST) is None:
        raise BadRequestError(
            f"the schedule {schedule.kind.value} {schedule.text[:100]!r} never falls due from {schedule.start:%Y-%m-%d}"
            f" {'on' if schedule.until is None else f'to {schedule.until:%Y-%m-%d}'}",
            hint="Check that its days exist and lie between start and end.",
        )


def due_between(schedule: Schedule, after: datetime, until: datetime, *, limit: int) -> Iterator[DueTime]:
    """Yield the dates in (after, until], ascending and no two at the same instant, at most `limit` of them.

    Lazy: the cost is that of the dates taken, however long the span.

    Args:
        schedule: as accepted by `check_schedule`.
        after: aware; this instant is outside.
        until: aware; this instant is inside.
        limit: how many at most; ask again from the last one's `due_at` for more.

    Raises:
        BadRequestError: a bound without an offset, or a schedule that cannot be read.

    """
    for name, bound in (("after", after), ("until", until)):
        if bound.tzinfo is None:
            raise BadRequestError(f"{name} has no offset: {bound}", hint="Give it in UTC.")
    since = min(max(after.astimezone(UTC), _FIRST), _LAST)
    found = (due for due in _dates(schedule, since) if due.due_at > since)
    return islice(takewhile(lambda due: due.due_at <= until, found), limit)


def next_due(schedule: Schedule, after: datetime) -> DueTime | None:
    """Return the first date after an instant; None where nothing is left.

    Raises:
        BadRequestError: as `due_between`.

    """
    return next(due_between(schedule, after, _LAST, limit=1), None)


def _dates(schedule: Schedule, since: datetime) -> Iterator[DueTime]:
    """Return the dates from about `since` on; none that is later is missing."""
    zone = zone_of(schedule.time_zone)
    if schedule.kind is ScheduleKind.CRON and runs_by_the_hour(parse_cron(schedule.text)):
        return _by_time_passed(schedule, since, zone)
    return _by_time_shown(schedule, since, zone)


def _by_time_shown(schedule: Schedule, since: datetime, zone: ZoneInfo) -> Iterator[DueTime]:
    """Yield one date per instant; of wall times that fall together in a gap, the last one's."""
    held: DueTime | None = None
    for wall in _WALLS[schedule.kind](schedule, max(schedule.start, to_wall(since, zone)), zone):
        if schedule.until is not None and wall > schedule.until:
            break
        due = _due(wall, to_instant(wall, zone))
        if held is not None and held.due_at != due.due_at:
            yield held
        held = due
    if held is not None:
        yield held


def _by_time_passed(schedule: Schedule, since: datetime, zone: ZoneInfo) -> Iterator[DueTime]:
    """Yield every instant at which the clocks show a scheduled wall time."""
    start = to_instant(schedule.start, zone)
    end = _LAST if schedule.until is None else second_pass(schedule.until, zone)
    first = max(schedule.start, to_wall(since, zone)) - _shift_near(since, zone)
    again: list[DueTime] = []
    for wall in cron_walls(schedule.text, first):
        if is_gap(wall, zone):
            continue
        ready = [_due(wall, to_instant(wall, zone))]
        if is_fold(wall, zone):
            again.append(_due(wall, second_pass(wall, zone)))
        else:
            ready, again = [*again, *ready], []
        yield from (due for due in ready if start <= due.due_at <= end)
        if ready[-1].due_at > end:
            return


def _shift_near(since: datetime, zone: ZoneInfo) -> timedelta:
    """Return how far back wall times must be looked at for their second pass to come after an instant."""
    near = (since - _LONGEST_FOLD, since, since + _LONGEST_FOLD)
    offsets = [instant.astimezone(zone).utcoffset() or timedelta(0) for instant in near]
    return max(offsets) - min(offsets)


def _due(wall: datetime, instant: datetime) -> DueTime:
    return DueTime(due_at=instant, local_date=wall.date(), local_time=f"{wall:%H:%M}")


def _once(schedule: Schedule, first: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    del zone
    try:
        wall = datetime.fromisoformat(schedule.text)
    except ValueError as error:
        raise BadRequestError(
            f"{schedule.text[:60]!r} is no date and time", hint="Write it as 2026-05-01T06:30, in the farm's time."
        ) from error
    _check_wall(wall, "the date")
    if wall >= first:
        yield wall


def _every_days(schedule: Schedule, first: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Count from the start, whose own date is the first."""
    del zone
    text = schedule.text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _LONGEST_INTERVAL_DAYS):
        raise BadRequestError(
            f"every {schedule.text[:60]!r} days is no interval",
            hint=f"Give a whole number of days from 1 to {_LONGEST_INTERVAL_DAYS}.",
        )
    step = timedelta(days=int(text))
    wall = schedule.start + max(-((schedule.start - first) // step), 0) * step
    while wall < HORIZON:
        yield wall
        wall += step


def _cron(schedule: Schedule, first: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    del zone
    return cron_walls(schedule.text, first)


def _rrule(schedule: Schedule, first: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    return rule_walls(parse_rrule(schedule.text, zone), schedule.start, first)


_WALLS: Mapping[ScheduleKind, Callable[[Schedule, datetime, ZoneInfo], Iterator[datetime]]] = {
    ScheduleKind.ONCE: _once,
    ScheduleKind.EVERY_DAYS: _every_days,
    ScheduleKind.CRON: _cron,
    ScheduleKind.RRULE: _rrule,
}
"""How each kind gives its naive wall times from one on, ascending."""


def _check_wall(wall: datetime, name: str) -> None:
    if wall.tzinfo is not None:
        raise BadRequestError(
            f"{name} carries an offset: {wall.isoformat()}",
            hint="Give the wall time of the farm without one; the time zone stands beside it.",
        )
    if wall.second or wall.microsecond:
        raise BadRequestError(f"{name} has seconds: {wall.isoformat()}", hint="Give whole minutes.")
    if not EARLIEST <= wall < HORIZON:
        raise BadRequestError(
            f"{name} is in the year {wall.year}", hint=f"Give one from {EARLIEST.year} to {HORIZON.year - 1}."
        )
