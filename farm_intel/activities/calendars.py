"""Activities as iCalendar files (RFC 5545), out and in.

Out: one VEVENT per activity with DTSTART in its zone, the zone's VTIMEZONE, and the schedule as

- once: DTSTART alone;
- every n days: RRULE FREQ=DAILY;INTERVAL=n;
- rule: the RRULE itself; where it has COUNT and the schedule an end, UNTIL stands for both;
- cron: an RRULE where one says the same (`calendar_rules.cron_rule`), else RDATEs of the next 366 days and the line
  itself as `X-FARM-INTEL-CRON`, from which reading it back restores the schedule.

DTSTART is the first date, as RFC 5545 wants it. What is lost: how gaps and folds are treated (other readers have rules
of their own), and the form, the assignee and the policies of an activity.

In: what becomes an activity and what is refused, event by event with the reason, is written at `from_ical`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from farm_intel.activities.calendar_rules import cron_rule, ended_rule
from farm_intel.activities.drafts import ActivityDraft, check_draft, draft_of
from farm_intel.activities.recurrence import DueTime, due_between, next_due
from farm_intel.activities.types import ActivityTypes
from farm_intel.activities.walltime import to_wall, zone_of
from farm_intel.domain.activities import Activity, Schedule, ScheduleKind
from farm_intel.domain.errors import BadRequestError, FarmIntelError

if TYPE_CHECKING:
    from icalendar import Event

MAX_BYTES = 1_000_000
MAX_EVENTS = 1_000
ALL_DAY_AT = time(6, 0)
"""When an all-day event falls due: at the start of a farm's working day, not at midnight when nobody looks."""
RDATE_SPAN = timedelta(days=366)
_MOST_RDATES = 2_000
_BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
_FOLD = re.compile(rb"(?:\r?\n)+[ \t]")
_CRON = "X-FARM-INTEL-CRON"
_LONGEST_TITLE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An event that did not become an activity."""

    uid: str
    title: str
    reason: str


def to_ical(activities: Iterable[Activity], *, now: datetime) -> bytes:
    """Return a VCALENDAR with the activities; those without any date are left out, removed ones are CANCELLED.

    Args:
        activities: any number.
        now: UTC; the stamp, and where the 366 days of RDATEs begin.

    """
    from icalendar import Calendar

    calendar = Calendar()
    calendar.add("prodid", "-//farm_intel//activities//EN")
    calendar.add("version", "2.0")
    for activity in activities:
        first = next_due(activity.schedule, _BEGINNING)
        if first is not None:
            calendar.add_component(_event(activity, first, now))
    calendar.add_missing_timezones()
    return bytes(calendar.to_ical())


def from_ical(
    content: bytes, *, farm_id: str, time_zone: str, types: ActivityTypes, default_type: str
) -> tuple[list[ActivityDraft], list[Rejected]]:
    """Return the events of a calendar as checked drafts, and those that cannot be ones with the reason.

    - DTSTART with a TZID keeps that zone, also by its Windows name. Without a zone it is wall time of the farm. In UTC
      it stays UTC where it recurs; a single one becomes wall time of the farm.
    - An all-day event falls due at 06:00.
    - The type is the first category that names one, else `default_type`; an event without SUMMARY is named after it.
    - RRULE as `rrules` reads it. Rejected: no DTSTART, an unknown zone, more than one RRULE, a rule we do not support,
      EXDATE, EXRULE, RDATE (but our own), changed single dates (RECURRENCE-ID), cancelled events, and whatever cannot
      be parsed. Duration, place, alarms and people are not read.

    Args:
        content: the file, at most 1 MB with at most 1,000 events.
        farm_id: whose activities they become.
        time_zone: of the farm.
        types: which types there are.
        default_type: slug for events whose categories name none.

    Raises:
        BadRequestError: the file as a whole: too large, no calendar, too many events; or zone and type given wrongly.

    """
    zone_of(time_zone)
    types.get(default_type)
    reader = _Reader(farm_id=farm_id, time_zone=time_zone, types=types, default_type=default_type)
    drafts: list[ActivityDraft] = []
    rejected: list[Rejected] = []
    for event in _events(content):
        try:
            drafts.append(check_draft(reader.draft(event), types))
        except (FarmIntelError, ValueError, TypeError, AttributeError, OverflowError) as error:
            # a parsed property may be of any type the sender chose: one bad event must not spoil the others
            reason = str(error) if isinstance(error, FarmIntelError) else f"it cannot be read: {error}"
            rejected.append(Rejected(uid=_text(event, "UID"), title=_text(event, "SUMMARY"), reason=reason[:500]))
    return drafts, rejected


def _event(activity: Activity, first: DueTime, now: datetime) -> Event:
    from icalendar import Event, vRecur

    schedule = activity.schedule
    zone = zone_of(schedule.time_zone)
    start = datetime.combine(first.local_date, time.fromisoformat(first.local_time))
    event = Event()
    event.add("uid", activity.activity_id)
    event.add("dtstamp", now.astimezone(UTC))
    event.add("last-modified", activity.changed_at.astimezone(UTC))
    event.add("summary", activity.title)
    event.add("categories", [activity.type])
    event.add("status", "CONFIRMED" if activity.active else "CANCELLED")
    rule = _rule(schedule)
    if rule:
        event.add("rrule", vRecur.from_ical(rule))
    elif schedule.kind is ScheduleKind.CRON:
        dates = list(_dates_ahead(schedule, now))
        start = dates[0] if dates else start
        if dates[1:]:
            event.add("rdate", [wall.replace(tzinfo=zone) for wall in dates[1:]])
        event.add(_CRON, schedule.text)
    event.add("dtstart", start.replace(tzinfo=zone))
    return event


def _rule(schedule: Schedule) -> str:
    """Return the schedule as a rule; empty where it has none."""
    match schedule.kind:
        case ScheduleKind.EVERY_DAYS:
            rule = f"FREQ=DAILY;INTERVAL={int(schedule.text)}"
        case ScheduleKind.RRULE:
            rule = schedule.text.strip().upper().removeprefix("RRULE:").rstrip(";")
        case ScheduleKind.CRON:
            rule = cron_rule(schedule.text)
        case ScheduleKind.ONCE:
            rule = ""
    return ended_rule(rule, schedule) if rule else ""


def _dates_ahead(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    for due in due_between(schedule, now, now + RDATE_SPAN, limit=_MOST_RDATES):
        yield datetime.combine(due.local_date, time.fromisoformat(due.local_time))


def _events(content: bytes) -> list[Event]:
    from icalendar import Calendar, Event

    if len(content) > MAX_BYTES:
        raise BadRequestError(
            f"the calendar has {len(content)} bytes, more than {MAX_BYTES}", hint="Export a shorter span or split it."
        )
    try:
        calendars = Calendar.from_ical(_without_zones(content), multiple=True)
        events = [event for calendar in calendars for event in calendar.walk("VEVENT") if isinstance(event, Event)]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise BadRequestError(
            f"the file is no calendar: {str(error)[:200]}", hint="Give an iCalendar file (.ics)."
        ) from error
    if not calendars or len(events) > MAX_EVENTS:
        raise BadRequestError(
            f"the file has {len(events)} events in {len(calendars)} calendars",
            hint=f"Give a calendar with at most {MAX_EVENTS} events.",
        )
    return events


def _without_zones(content: bytes) -> bytes:
    """Return the unfolded lines of a file without its VTIMEZONEs.

    Zones are known here by name, and the library steps through a zone's own rules from their start whenever it needs
    an offset: two of `FREQ=MINUTELY` since 1970 cost it minutes of CPU.
    """
    kept: list[bytes] = []
    inside = False
    for line in _FOLD.sub(b"", content.removeprefix(codecs.BOM_UTF8)).split(b"\n"):
        word = line.strip().upper()
        if word.endswith(b":VTIMEZONE"):
            inside = word.startswith(b"BEGIN")
        elif not inside:
            kept.append(line)
    return b"\n".join(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads one event after the other."""

    farm_id: str
    time_zone: str
    types: ActivityTypes
    default_type: str

    def draft(self, event: Event) -> ActivityDraft:
        """Return an event as a draft, not checked yet."""
        broken = [f"{name or 'a line'}: {problem}" for name, problem in event.errors if name in _READ]
        if broken:
            raise BadRequestError(f"it cannot be read: {'; '.join(broken)[:200]}", hint="Correct it in your calendar.")
        for name, why in _UNSUPPORTED.items():
            if name in event and not (name == "RDATE" and _CRON in event):
                raise BadRequestError(f"{name}: {why}", hint="Enter such dates as activities of their own.")
        if _text(event, "STATUS").upper() == "CANCELLED":
            raise BadRequestError("it is cancelled", hint="Nothing to do.")
        title = " ".join(_text(event, "SUMMARY").split())[:_LONGEST_TITLE]
        kind = self.types.get(self._type(event))
        return draft_of(kind, farm_id=self.farm_id, title=title, schedule=self._schedule(event))

    def _type(self, event: Event) -> str:
        categories = event.get("CATEGORIES", [])
        for group in categories if isinstance(categories, list) else [categories]:
            for category in getattr(group, "cats", []):
                if (slug := str(category).strip().lower()) in self.types.rows:
                    return slug
        return self.default_type

    def _schedule(self, event: Event) -> Schedule:
        rule, line = event.get("RRULE"), _text(event, _CRON)
        if isinstance(rule, list):
            raise BadRequestError("it has more than one RRULE", hint="Make an event of each.")
        start, time_zone = self._start(event, single=not (rule or line))
        if rule is not None:
            text = rule.to_ical().decode()
            return Schedule(kind=ScheduleKind.RRULE, text=text, start=start, time_zone=time_zone)
        if line:
            return Schedule(kind=ScheduleKind.CRON, text=line, start=start, time_zone=time_zone)
        return Schedule(
            kind=ScheduleKind.ONCE, text=start.isoformat(timespec="minutes"), start=start, time_zone=time_zone
        )

    def _start(self, event: Event, *, single: bool) -> tuple[datetime, str]:
        """Return the start as naive wall time, and its zone."""
        stated = event.get("DTSTART")
        if stated is None or isinstance(stated, list):
            raise BadRequestError("it has no DTSTART, or several", hint="Give it one start.")
        value = stated.dt
        if not isinstance(value, datetime):
            if not isinstance(value, date):
                raise BadRequestError("DTSTART is neither a date nor a time", hint="Give it a start.")
            return datetime.combine(value, ALL_DAY_AT), self.time_zone
        if value.second:
            raise BadRequestError("DTSTART has seconds", hint="Give whole minutes.")
        named = str(stated.params.get("TZID", ""))
        if named and named.upper() != "UTC":
            return value.replace(tzinfo=None, fold=0), _known_zone(named)
        if value.tzinfo is None:
            return value, self.time_zone
        if single:
            return to_wall(value.astimezone(UTC), zone_of(self.time_zone)), self.time_zone
        return value.astimezone(UTC).replace(tzinfo=None), "UTC"


_READ = frozenset({None, "DTSTART", "RRULE", "SUMMARY", "EXDATE", "EXRULE", "RDATE", "RECURRENCE-ID", "STATUS"})
"""What must be readable; a broken attendee does no harm, a line without a name may have been anything."""
_UNSUPPORTED = {
    "RECURRENCE-ID": "a changed single date of a series is not supported",
    "EXDATE": "dates left out of a series are not supported",
    "EXRULE": "rules of dates left out are not supported",
    "RDATE": "lists of dates are not supported",
}


def _known_zone(named: str) -> str:
    """Return the IANA name for a TZID: itself, a Windows name's, or what follows a path as some programs write it."""
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

    parts = named.strip("/").split("/")
    for name in (named, WINDOWS_TO_OLSON.get(named, ""), "/".join(parts[-2:]), "/".join(parts[-3:])):
        try:
            zone_of(name)
        except BadRequestError:
            continue
        return name
    raise BadRequestError(f"its time zone {named[:60]!r} is not known", hint="Use an IANA zone, e.g. Africa/Nairobi.")


def _text(event: Event, name: str) -> str:
    """Return a property as text; empty where it is not there, the first of several."""
    value = event.get(name, "")
    return str(value[0] if isinstance(value, list) and value else value)[:1000]
