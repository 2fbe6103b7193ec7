"""Recurrence rules of RFC 5545 as naive wall times.

Read are FREQ of DAILY, WEEKLY, MONTHLY and YEARLY with INTERVAL, COUNT, UNTIL, BYMONTH, BYMONTHDAY, BYYEARDAY, BYDAY,
BYHOUR, BYMINUTE, BYSETPOS and WKST, combined as the table of section 3.3.10 allows. Refused with a reason: finer
frequencies (a cron line does that), BYSECOND, BYWEEKNO and the extensions RSCALE, SKIP and BYEASTER.

Why not `dateutil`: it searches to the year 9999 for rules that never match (`FREQ=DAILY;BYSETPOS=2` takes many seconds)
and starts at the first date every time. Here the search jumps to the period asked for and ends at the horizon.
`dateutil` is the second opinion in the tests. One difference is meant: BYSETPOS of the first, incomplete week counts
from the start of that week.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from farm_intel.activities.walltime import HORIZON, to_wall
from farm_intel.domain.errors import BadRequestError

WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_LONGEST = 500
_MOST = 10_000
"""Largest INTERVAL and COUNT: more than a lifetime of days."""
_PARTS = frozenset(
    {
        *("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"),
        *("BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYDAY", "BYHOUR", "BYMINUTE", "BYSETPOS"),
    }
)
_MOST_TIMES_WITH_POSITIONS = 24


class Frequency(StrEnum):
    """The period a rule repeats in."""

    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    YEARLY = "YEARLY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A recurrence rule; empty sets restrict nothing."""

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    """Naive wall time, the last that may be."""
    months: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    """1 to 31, or -1 for the month's last day and so on."""
    year_days: tuple[int, ...] = ()
    weekdays: tuple[tuple[int, int], ...] = ()
    """(which, weekday): (0, 0) every Monday, (2, 0) the second, (-1, 0) the last of month or year."""
    hours: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    week_start: int = 0


def parse_rrule(text: str, zone: ZoneInfo) -> Rule:
    """Return a checked rule; an UNTIL in UTC becomes wall time of the zone.

    Raises:
        BadRequestError: a part that is unknown, unsupported, given twice, out of range or not allowed with the FREQ.

    """
    parts = _split(text)
    frequency = _frequency(parts, text)
    rule = Rule(
        frequency=frequency,
        interval=_single(parts, "INTERVAL", text, default=1),
        count=_single(parts, "COUNT", text) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"], zone, text) if "UNTIL" in parts else None,
        months=_numbers(parts, "BYMONTH", range(1, 13), text),
        month_days=_numbers(parts, "BYMONTHDAY", (*range(-31, 0), *range(1, 32)), text),
        year_days=_numbers(parts, "BYYEARDAY", (*range(-366, 0), *range(1, 367)), text),
        weekdays=tuple(_weekday(item, text) for item in _items(parts, "BYDAY")),
        hours=_numbers(parts, "BYHOUR", range(24), text),
        minutes=_numbers(parts, "BYMINUTE", range(60), text),
        positions=_numbers(parts, "BYSETPOS", (*range(-366, 0), *range(1, 367)), text),
        week_start=_weekday(parts.get("WKST", "MO"), text)[1],
    )
    _check_combination(rule, text)
    return rule


def rule_walls(rule: Rule, start: datetime, first: datetime) -> Iterator[datetime]:
    """Yield the naive wall times of a rule counted from `start`, those from `first` on, ascending.

    The start itself is a date only where the rule matches it.
    """
    rule = _completed(rule, start)
    times = [time(hour, minute) for hour in sorted(set(rule.hours)) for minute in sorted(set(rule.minutes))]
    number = 0
    for days in _periods(rule, start.date(), start.date() if rule.count is not None else first.date()):
        for wall in _of_period(rule, days, times):
            if wall < start:
                continue
            if wall >= HORIZON or (rule.until is not None and wall > rule.until):
                return
            number += 1
            if wall >= first:
                yield wall
            if number == rule.count:
                return


def _split(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    if len(text) > _LONGEST:
        raise BadRequestError(
            f"a recurrence rule may have {_LONGEST} characters, not {len(text)}", hint="Use a shorter rule."
        )
    for pair in text.strip().upper().removeprefix("RRULE:").rstrip(";").split(";"):
        name, _, value = pair.partition("=")
        if name not in _PARTS:
            raise _refused(text, f"{name!r} is not supported", f"The parts read are {', '.join(sorted(_PARTS))}.")
        if not value or name in parts:
            raise _refused(text, f"{name} is empty or given twice", "Give each part once, e.g. FREQ=WEEKLY;BYDAY=MO.")
        parts[name] = value
    return parts


def _frequency(parts: Mapping[str, str], text: str) -> Frequency:
    try:
        return Frequency(parts.get("FREQ", ""))
    except ValueError as error:
        raise _refused(
            text,
            f"FREQ={parts.get('FREQ', '')} is not supported",
            "Give FREQ as DAILY, WEEKLY, MONTHLY or YEARLY; for anything more frequent use a cron line.",
        ) from error


def _single(parts: Mapping[str, str], name: str, text: str, *, default: int = 0) -> int:
    if name not in parts:
        return default
    return _number(parts[name], name, range(1, _MOST + 1), text)


def _numbers(parts: Mapping[str, str], name: str, allowed: Iterable[int], text: str) -> tuple[int, ...]:
    values = frozenset(allowed)
    return tuple(_number(item, name, values, text) for item in _items(parts, name))


def _items(parts: Mapping[str, str], name: str) -> list[str]:
    return parts[name].split(",") if name in parts else []


def _number(item: str, name: str, allowed: Iterable[int], text: str) -> int:
    digits = item[1:] if item[:1] in {"+", "-"} else item
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(item) in allowed):
        raise _refused(text, f"{name}={item[:20]} is out of range", f"{name} takes whole numbers of its own range.")
    return int(item)


def _weekday(item: str, text: str) -> tuple[int, int]:
    which, name = item[:-2], item[-2:]
    if name not in WEEKDAYS:
        raise _refused(
            text, f"{item[:20]!r} is no weekday", "Weekdays are MO, TU, WE, TH, FR, SA, SU, as in 2MO or -1FR."
        )
    return (_number(which, "BYDAY", (*range(-53, 0), *range(1, 54)), text) if which else 0, WEEKDAYS.index(name))


def _until(value: str, zone: ZoneInfo, text: str) -> datetime:
    """Read a date (its whole day), a wall time, or an instant in UTC."""
    for form in ("%Y%m%d", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ"):
        try:
            until = datetime.strptime(value, form)  # noqa: DTZ007 - the zone is decided right below
        except ValueError:
            continue
        if not 1900 <= until.year < HORIZON.year:
            break
        if form.endswith("Z"):
            return to_wall(until.replace(tzinfo=UTC), zone)
        return datetime.combine(until, time(23, 59)) if "T" not in form else until
    raise _refused(text, f"UNTIL={value[:20]} is no date", "Write it as 20261231 or 20261231T180000Z.")


def _check_combination(rule: Rule, text: str) -> None:
    """Refuse what section 3.3.10 of RFC 5545 forbids, and sets too large to count positions in."""
    ordinal = any(which for which, _ in rule.weekdays)
    restricted = rule.months or rule.month_days or rule.year_days or rule.weekdays or rule.hours or rule.minutes
    large = len(set(rule.hours)) * len(set(rule.minutes)) > _MOST_TIMES_WITH_POSITIONS
    longer = rule.frequency in {Frequency.MONTHLY, Frequency.YEARLY}
    for wrong, what in (
        (rule.count is not None and rule.until is not None, "COUNT and UNTIL exclude each other"),
        (rule.frequency is Frequency.WEEKLY and bool(rule.month_days), "BYMONTHDAY has no meaning in a WEEKLY rule"),
        (rule.frequency is not Frequency.YEARLY and bool(rule.year_days), "BYYEARDAY is for YEARLY rules"),
        (ordinal and not longer, "BYDAY with a number is for MONTHLY and YEARLY rules"),
        (bool(rule.positions) and not restricted, "BYSETPOS needs another BY part to choose from"),
        (bool(rule.positions) and large, f"BYSETPOS with more than {_MOST_TIMES_WITH_POSITIONS} times a day"),
    ):
        if wrong:
            raise _refused(text, what, "RFC 5545, section 3.3.10, has the combinations.")


def _refused(text: str, what: str, hint: str) -> BadRequestError:
    return BadRequestError(f"the recurrence rule {text[:100]!r} cannot be used: {what}", hint=hint)


def _completed(rule: Rule, start: datetime) -> Rule:
    """Fill in what a rule leaves to its start: the time of day, and the day where no part chooses one."""
    rule = replace(rule, hours=rule.hours or (start.hour,), minutes=rule.minutes or (start.minute,))
    if rule.month_days or rule.year_days or rule.weekdays or rule.frequency is Frequency.DAILY:
        return rule
    if rule.frequency is Frequency.WEEKLY:
        return replace(rule, weekdays=((0, start.weekday()),))
    if rule.frequency is Frequency.YEARLY and not rule.months:
        rule = replace(rule, months=(start.month,))
    return replace(rule, month_days=(start.day,))


def _periods(rule: Rule, start: date, first: date) -> Iterator[list[date]]:
    """Yield the matching days of each period of the rule, from the one that holds `first` to the horizon."""
    position, days_of = _PERIODS[rule.frequency]
    origin = position(start, rule.week_start)
    reached = max(position(first, rule.week_start) - origin, 0) // rule.interval
    last = position(HORIZON.date(), rule.week_start)
    for number in range(origin + reached * rule.interval, last + 1, rule.interval):
        yield [day for day in days_of(number, rule) if _matches(rule, day)]


def _of_period(rule: Rule, days: list[date], times: list[time]) -> Iterator[datetime]:
    walls = (datetime.combine(day, at) for day in days for at in times)
    if not rule.positions:
        yield from walls
        return
    whole = list(walls)
    size = len(whole)
    chosen = {place - 1 if place > 0 else size + place for place in rule.positions if abs(place) <= size}
    yield from (whole[place] for place in sorted(chosen))


def _day_position(day: date, week_start: int) -> int:
    del week_start
    return day.toordinal()


def _week_position(day: date, week_start: int) -> int:
    return (day.toordinal() - 1 - week_start) // 7


def _month_position(day: date, week_start: int) -> int:
    del week_start
    return day.year * 12 + day.month - 1


def _year_position(day: date, week_start: int) -> int:
    del week_start
    return day.year


def _one_day(number: int, rule: Rule) -> Iterator[date]:
    del rule
    yield date.fromordinal(number)


def _week_days(number: int, rule: Rule) -> Iterator[date]:
    first = number * 7 + 1 + rule.week_start
    return (date.fromordinal(ordinal) for ordinal in range(first, first + 7))


def _month_days(number: int, rule: Rule) -> Iterator[date]:
    year, month = number // 12, number % 12 + 1
    if rule.months and month not in rule.months:
        return iter(())
    return (date(year, month, day) for day in range(1, calendar.monthrange(year, month)[1] + 1))


def _year_days(number: int, rule: Rule) -> Iterator[date]:
    for month in sorted(set(rule.months)) or range(1, 13):
        yield from _month_days(number * 12 + month - 1, rule)


_PERIODS: Mapping[Frequency, tuple[Callable[[date, int], int], Callable[[int, Rule], Iterator[date]]]] = {
    Frequency.DAILY: (_day_position, _one_day),
    Frequency.WEEKLY: (_week_position, _week_days),
    Frequency.MONTHLY: (_month_position, _month_days),
    Frequency.YEARLY: (_year_position, _year_days),
}
"""How each frequency numbers its periods, and the days of one."""


def _matches(rule: Rule, day: date) -> bool:
    if rule.months and day.month not in rule.months:
        return False
    if rule.month_days and not _counted(day.day, calendar.monthrange(day.year, day.month)[1], rule.month_days):
        return False
    if rule.year_days and not _counted(_year_day(day), _year_length(day), rule.year_days):
        return False
    return not rule.weekdays or any(_is_weekday(rule, day, which, weekday) for which, weekday in rule.weekdays)


def _is_weekday(rule: Rule, day: date, which: int, weekday: int) -> bool:
    if day.weekday() != weekday:
        return False
    if not which:
        return True
    if rule.frequency is Frequency.MONTHLY or rule.months:
        place, size = day.day, calendar.monthrange(day.year, day.month)[1]
    else:
        place, size = _year_day(day), _year_length(day)
    return which in {(place - 1) // 7 + 1, -((size - place) // 7 + 1)}


def _counted(place: int, size: int, wanted: tuple[int, ...]) -> bool:
    """Tell whether a place is among those wanted, counted from the front or, as negative numbers, from the back."""
    return place in wanted or place - size - 1 in wanted


def _year_day(day: date) -> int:
    return (day - date(day.year, 1, 1)) // timedelta(days=1) + 1


def _year_length(day: date) -> int:
    return 366 if calendar.isleap(day.year) else 365
