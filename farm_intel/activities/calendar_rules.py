"""Schedules as RFC 5545 rules other programs read: cron lines where a rule says the same, and the end of a schedule."""

from __future__ import annotations

from datetime import UTC, datetime, time

from cronsim import CronSim

from farm_intel.activities.crontab import parse_cron
from farm_intel.activities.recurrence import due_between
from farm_intel.activities.rrules import WEEKDAYS, parse_rrule
from farm_intel.activities.walltime import EARLIEST, HORIZON, zone_of
from farm_intel.domain.activities import Schedule

_EVERY_DAY = frozenset(range(1, 32))
_EVERY_MONTH = frozenset(range(1, 13))
_DAYS_OF_A_WEEK = 7


def cron_rule(text: str) -> str:
    """Return a rule with the same wall times as a cron line; empty where there is none.

    There is none where both day fields are restricted (crontab's OR has no counterpart) and for `LW`.

    Raises:
        BadRequestError: the line cannot be read.

    """
    line = parse_cron(text)
    any_day = line.days >= _EVERY_DAY
    weekdays = _weekdays(line)
    any_weekday = len({day for which, day in weekdays if not which}) == _DAYS_OF_A_WEEK
    if CronSim.LAST_WEEKDAY in line.days or not (any_day or any_weekday):
        return ""
    if any_day and any_weekday:
        parts = ["FREQ=DAILY"]
    elif any_weekday:
        days = sorted(-1 if day == CronSim.LAST else day for day in line.days)
        parts = ["FREQ=MONTHLY", f"BYMONTHDAY={_joined(days)}"]
    else:
        frequency = "MONTHLY" if any(which for which, _ in weekdays) else "WEEKLY"
        names = [f"{which or ''}{WEEKDAYS[day]}" for which, day in weekdays]
        parts = [f"FREQ={frequency}", f"BYDAY={','.join(names)}"]
    if line.months != _EVERY_MONTH:
        parts.append(f"BYMONTH={_joined(line.months)}")
    return ";".join([*parts, f"BYHOUR={_joined(line.hours)}", f"BYMINUTE={_joined(line.minutes)}"])


def ended_rule(rule: str, schedule: Schedule) -> str:
    """Return a rule that ends with its schedule, any UNTIL in UTC as RFC 5545 wants it beside a start with a zone."""
    zone = zone_of(schedule.time_zone)
    parsed = parse_rrule(rule, zone)
    ends = [end for end in (parsed.until, schedule.until) if end is not None]
    if not ends:
        return rule
    end = min(ends)
    if parsed.count is not None:
        horizon = HORIZON.replace(tzinfo=UTC)
        for due in due_between(schedule, EARLIEST.replace(tzinfo=UTC), horizon, limit=parsed.count):
            end = datetime.combine(due.local_date, time.fromisoformat(due.local_time))
    latest = max(end.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    kept = [part for part in rule.split(";") if not part.startswith(("UNTIL=", "COUNT="))]
    return ";".join([*kept, f"UNTIL={latest:%Y%m%dT%H%M%SZ}"])


def _weekdays(line: CronSim) -> list[tuple[int, int]]:
    """Return (which of the month, 0 for each; weekday, Monday first) without repetition: 0 and 7 are both Sunday."""
    found: set[tuple[int, int]] = set()
    for item in line.weekdays:
        day, which = item if isinstance(item, tuple) else (item, 0)
        found.add((-1 if which == CronSim.LAST else which, (day - 1) % _DAYS_OF_A_WEEK))
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def _joined(numbers: set[int] | list[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
