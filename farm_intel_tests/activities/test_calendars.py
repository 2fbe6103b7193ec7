"""Activities out to iCalendar and back, read by other libraries too, and files that are wrong in every way."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import recurring_ical_events
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar

from farm_intel.activities.calendar_rules import cron_rule
from farm_intel.activities.calendars import MAX_BYTES, MAX_EVENTS, Rejected, from_ical, to_ical
from farm_intel.activities.drafts import ActivityDraft
from farm_intel.activities.recurrence import check_schedule, due_between
from farm_intel.activities.types import load_activity_types
from farm_intel.domain.activities import Activity, Schedule, ScheduleKind
from farm_intel.domain.errors import BadRequestError, UnknownNameError

TYPES = load_activity_types()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 5, 6, 30, tzinfo=UTC).replace(tzinfo=None)


def plan(kind: ScheduleKind, text: str, **changes: Any) -> Schedule:
    return replace(Schedule(kind=kind, text=text, start=START, time_zone="Africa/Nairobi"), **changes)


def activity(schedule: Schedule, **changes: Any) -> Activity:
    made = Activity(
        activity_id="a1",
        farm_id="plot-7",
        type="harvest",
        title="Cut, dry; store \\ sell",
        schedule=schedule,
        high_water=NOW,
        created_at=NOW,
        changed_at=NOW,
    )
    return replace(made, **changes)


def read(content: bytes | str, *, time_zone: str = "Africa/Nairobi") -> tuple[list[ActivityDraft], list[Rejected]]:
    data = content.encode() if isinstance(content, str) else content
    return from_ical(data, farm_id="plot-7", time_zone=time_zone, types=TYPES, default_type="scouting")


def event(*lines: str, uid: str = "e1") -> str:
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid}", *lines, "END:VEVENT"])


def calendar(*parts: str) -> str:
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//y//EN", *parts, "END:VCALENDAR", ""])


def instants(schedule: Schedule, *, days: int = 1500, limit: int = 60) -> list[datetime]:
    return [due.due_at for due in due_between(schedule, NOW, NOW + timedelta(days=days), limit=limit)]


SCHEDULES = [
    plan(ScheduleKind.ONCE, "2026-05-01T06:30"),
    plan(ScheduleKind.EVERY_DAYS, "3"),
    plan(ScheduleKind.EVERY_DAYS, "10", until=START + timedelta(days=95)),
    plan(ScheduleKind.CRON, "30 6 * * 1"),
    plan(ScheduleKind.CRON, "0,30 6,18 * * *"),
    plan(ScheduleKind.CRON, "0 6 1,15,L * *"),
    plan(ScheduleKind.CRON, "0 6 * 3-5 MON-FRI"),
    plan(ScheduleKind.CRON, "0 6 * * 5#2,0L"),
    plan(ScheduleKind.CRON, "0 6 * * 7", until=START + timedelta(days=60)),
    plan(ScheduleKind.CRON, "0 * * * *", until=START + timedelta(days=1)),
    plan(ScheduleKind.CRON, "0 6 13 * 5"),
    plan(ScheduleKind.CRON, "0 6 LW * *"),
    plan(ScheduleKind.RRULE, "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH"),
    plan(ScheduleKind.RRULE, "FREQ=MONTHLY;BYDAY=-1FR;COUNT=7"),
    plan(ScheduleKind.RRULE, "FREQ=MONTHLY;BYDAY=2TU;COUNT=30", until=START + timedelta(days=200)),
    plan(ScheduleKind.RRULE, "FREQ=DAILY;INTERVAL=5;UNTIL=20260601"),
    plan(ScheduleKind.RRULE, "RRULE:freq=yearly;bymonth=3,9;bymonthday=-1;"),
]


@pytest.mark.parametrize("zone", ["Africa/Nairobi", "Europe/Berlin", "UTC"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.text)
def test_what_goes_out_comes_back_with_the_same_dates(schedule: Schedule, zone: str) -> None:
    schedule = replace(schedule, time_zone=zone)
    drafts, rejected = read(to_ical([activity(schedule)], now=NOW), time_zone=zone)

    assert rejected == []
    assert [(one.type, one.title, one.schedule.time_zone) for one in drafts] == [
        ("harvest", "Cut, dry; store \\ sell", zone)
    ]
    assert instants(drafts[0].schedule) == instants(schedule) != []


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.text)
def test_another_reader_sees_the_same_dates(schedule: Schedule) -> None:
    """recurring-ical-events over 300 days, in a zone without changes of the clocks."""
    until = NOW + timedelta(days=300)
    content = to_ical([activity(schedule)], now=NOW)
    events = recurring_ical_events.of(Calendar.from_ical(content)).between(NOW, until)

    theirs = sorted(one["DTSTART"].dt.astimezone(UTC) for one in events)
    assert theirs == [due for due in instants(schedule, limit=5000) if due < until] != []


@given(
    st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
    st.integers(1, 4),
    st.lists(
        st.sampled_from(
            ["BYMONTH=3,10", "BYDAY=MO,SU", "BYHOUR=5,23", "BYMONTHDAY=1,-1", "COUNT=9", "UNTIL=20270401T120000Z"]
        ),
        unique=True,
        max_size=3,
    ),
    st.sampled_from(["Africa/Nairobi", "Europe/Berlin", "America/Nuuk", "Australia/Lord_Howe"]),
    st.integers(0, 365 * 24 * 4),
)
@settings(max_examples=80, deadline=None)
def test_any_rule_survives_the_round_trip(
    frequency: str, interval: int, parts: list[str], zone: str, quarters: int
) -> None:
    text = ";".join([f"FREQ={frequency}", f"INTERVAL={interval}", *parts])
    start = START + timedelta(minutes=15 * quarters)
    schedule = plan(ScheduleKind.RRULE, text, time_zone=zone, start=start)
    try:
        check_schedule(schedule)
    except BadRequestError:
        return
    drafts, rejected = read(to_ical([activity(schedule)], now=NOW), time_zone=zone)

    assert rejected == []
    assert instants(drafts[0].schedule, limit=40) == instants(schedule, limit=40)


def test_the_file_says_where_and_what() -> None:
    content = to_ical(
        [activity(plan(ScheduleKind.EVERY_DAYS, "3", time_zone="Europe/Berlin")), activity(SCHEDULES[0], active=False)],
        now=NOW,
    )
    parsed = Calendar.from_ical(content)
    first, second = parsed.walk("VEVENT")

    assert first["DTSTART"].params["TZID"] == "Europe/Berlin"
    assert first["DTSTART"].dt == datetime(2026, 1, 5, 6, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert first["RRULE"].to_ical() == b"FREQ=DAILY;INTERVAL=3"
    assert first["UID"] == "a1"
    assert second["STATUS"] == "CANCELLED"
    assert "RRULE" not in second
    assert {str(zone["TZID"]) for zone in parsed.walk("VTIMEZONE")} == {"Europe/Berlin", "Africa/Nairobi"}
    assert all(len(line) <= 75 for line in content.split(b"\r\n"))


def test_a_title_cannot_add_lines_of_its_own() -> None:
    content = to_ical([activity(SCHEDULES[1], title="Water\r\nATTACH:https://example.org/x")], now=NOW)

    assert "ATTACH" not in Calendar.from_ical(content).walk("VEVENT")[0]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("30 6 * * *", "FREQ=DAILY;BYHOUR=6;BYMINUTE=30"),
        ("30 6 * * 0,7", "FREQ=WEEKLY;BYDAY=SU;BYHOUR=6;BYMINUTE=30"),
        ("0 6 L 2 *", "FREQ=MONTHLY;BYMONTHDAY=-1;BYMONTH=2;BYHOUR=6;BYMINUTE=0"),
        ("0 6 * * 5L", "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=6;BYMINUTE=0"),
        ("0 6 13 * 5", ""),
        ("0 6 LW * *", ""),
    ],
)
def test_cron_lines_become_rules_where_one_says_the_same(line: str, rule: str) -> None:
    assert cron_rule(line) == rule


@pytest.mark.filterwarnings("ignore:Timezone .* is a globally unique TZID")
def test_events_of_other_programs_are_read() -> None:
    drafts, rejected = read(
        calendar(
            event("DTSTART;TZID=W. Europe Standard Time:20260501T063000", "RRULE:FREQ=WEEKLY", "SUMMARY:Outlook"),
            event("DTSTART;TZID=/freeassociation.sourceforge.net/Europe/Paris:20260501T063000", "SUMMARY:Evolution"),
            event("DTSTART:20260501T033000Z", "SUMMARY:Single in UTC"),
            event("DTSTART:20260501T033000Z", "RRULE:FREQ=DAILY", "SUMMARY:Series in UTC"),
            event("DTSTART:20260501T063000", "SUMMARY:Floating", "CATEGORIES:Work,Irrigation"),
            event("DTSTART;VALUE=DATE:20260501", "RRULE:FREQ=YEARLY", "SUMMARY:All day"),
            event("DTSTART:20260501T063000", "ATTENDEE;CN=:::", "BEGIN:VALARM", "ACTION:AUDIO", "END:VALARM"),
        )
    )

    assert rejected == []
    assert [(one.title, one.schedule.start.strftime("%d %H:%M"), one.schedule.time_zone) for one in drafts] == [
        ("Outlook", "01 06:30", "Europe/Berlin"),
        ("Evolution", "01 06:30", "Europe/Paris"),
        ("Single in UTC", "01 06:30", "Africa/Nairobi"),
        ("Series in UTC", "01 03:30", "UTC"),
        ("Floating", "01 06:30", "Africa/Nairobi"),
        ("All day", "01 06:00", "Africa/Nairobi"),
        ("Scouting", "01 06:30", "Africa/Nairobi"),
    ]
    assert [one.type for one in drafts] == ["scouting"] * 4 + ["irrigation", "scouting", "scouting"]
    assert drafts[0].schedule.kind is ScheduleKind.RRULE
    assert drafts[2].schedule.kind is ScheduleKind.ONCE


BAD_EVENTS = [
    (("SUMMARY:x",), "no DTSTART"),
    (("DTSTART:yesterday",), "DTSTART"),
    (("DTSTART:20260501T063000", "DTSTART:20260502T063000"), "DTSTART"),
    (("DTSTART:20260501T063007",), "seconds"),
    (("DTSTART;TZID=Mars/Phobos:20260501T063000",), "Mars/Phobos"),
    (("DTSTART:20260501T063000", "RRULE:FREQ=SECONDLY"), "SECONDLY"),
    (("DTSTART:20260501T063000", "RRULE:FREQ=DAILY;BYDAY=XX"), "XX"),
    (("DTSTART:20260501T063000", "RRULE:FREQ=DAILY;INTERVAL=0"), "INTERVAL"),
    (("DTSTART:20260501T063000", "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "never falls due"),
    (("DTSTART:20260501T063000", "RRULE:FREQ=DAILY", "RRULE:FREQ=WEEKLY"), "more than one RRULE"),
    (("DTSTART:20260501T063000", "RRULE:FREQ=DAILY", "EXDATE:20260502T063000"), "EXDATE"),
    (("DTSTART:20260501T063000", "RDATE:20260502T063000"), "RDATE"),
    (("DTSTART:20260501T063000", "RECURRENCE-ID:20260502T063000"), "changed single date"),
    (("DTSTART:20260501T063000", "STATUS:CANCELLED"), "cancelled"),
    (("DTSTART:20260501T063000", "X-FARM-INTEL-CRON:61 * * * *"), "minute"),
    (("DTSTART:20260501T063000", "RRULE FREQ=DAILY"), "cannot be read"),
    (("DTSTART;VALUE=PERIOD:20260501T063000Z/PT1H",), ""),
    (("DTSTART:00010101T000000",), "year"),
]


@pytest.mark.parametrize(("lines", "reason"), BAD_EVENTS, ids=lambda value: str(value)[:50])
def test_one_bad_event_is_told_and_does_not_spoil_the_others(lines: tuple[str, ...], reason: str) -> None:
    good = event("DTSTART:20260501T063000", "SUMMARY:Good", uid="good")
    drafts, rejected = read(calendar(good, event(*lines, uid="bad"), good))

    assert [one.title for one in drafts] == ["Good", "Good"]
    assert [one.uid for one in rejected] == ["bad"]
    assert reason in rejected[0].reason


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe", b"BEGIN:VEVENT\n", b"{}", b"BEGIN:VCALENDAR\r\n"])
def test_files_that_are_no_calendar_are_refused(content: bytes) -> None:
    with pytest.raises(BadRequestError, match="calendar"):
        read(content)


def test_size_is_capped() -> None:
    one = event("DTSTART:20260501T063000")
    assert len(read(calendar(*[one] * MAX_EVENTS))[0]) == MAX_EVENTS
    with pytest.raises(BadRequestError, match="1001 events"):
        read(calendar(*[one] * (MAX_EVENTS + 1)))
    with pytest.raises(BadRequestError, match="bytes"):
        read(b" " * (MAX_BYTES + 1))


def zone_with_rules(frequency: str, since: int) -> list[str]:
    """A VTIMEZONE, its name behind a folded line, with two rules of its own."""
    lines = ["BEGIN:VTIME", " ZONE", "TZID:Evil/Zone"]
    for part, before, after in (("STANDARD", "+0100", "+0000"), ("DAYLIGHT", "+0000", "+0100")):
        lines += [f"BEGIN:{part}", f"DTSTART:{since}0101T000000", f"RRULE:FREQ={frequency}"]
        lines += [f"TZOFFSETFROM:{before}", f"TZOFFSETTO:{after}", f"END:{part}"]
    return [*lines, "END:VTIMEZONE"]


def test_a_zone_with_rules_of_its_own_costs_nothing() -> None:
    """Mutation partner: the library alone, given far gentler rules, already takes many times as long."""
    evil = event("DTSTART;TZID=Evil/Zone:20260501T063000")
    read(calendar(evil))
    began = time.process_time()
    drafts, rejected = read(calendar(*zone_with_rules("SECONDLY", 1970), evil))
    ours = time.process_time() - began
    began = time.process_time()
    parsed = Calendar.from_ical(calendar(*zone_with_rules("HOURLY", 2010), evil))
    _ = parsed.walk("VEVENT")[0]["DTSTART"].dt.utcoffset()

    assert drafts == []
    assert "Evil/Zone" in rejected[0].reason
    assert ours < (time.process_time() - began) / 5


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(BadRequestError, match="15000 events"):
        read("BEGIN:VCALENDAR\r\n" + "BEGIN:VEVENT\r\n" * 15_000 + "END:VEVENT\r\n" * 15_000 + "END:VCALENDAR\r\n")


def test_zone_and_type_must_be_known() -> None:
    with pytest.raises(BadRequestError, match="Mars"):
        read(calendar(), time_zone="Mars/Phobos")
    with pytest.raises(UnknownNameError):
        from_ical(b"", farm_id="plot-7", time_zone="UTC", types=TYPES, default_type="ploughing")


def test_an_activity_without_dates_is_left_out() -> None:
    content = to_ical([activity(plan(ScheduleKind.ONCE, "2025-01-01T06:30"))], now=NOW)

    assert Calendar.from_ical(content).walk("VEVENT") == []


def test_dates_of_a_line_without_a_rule_reach_a_year_ahead() -> None:
    content = to_ical([activity(plan(ScheduleKind.CRON, "0 6 13 * 5"))], now=NOW)
    exported = Calendar.from_ical(content).walk("VEVENT")[0]

    dates = [exported["DTSTART"].dt.date(), *(one.dt.date() for one in exported["RDATE"].dts)]
    assert all(day.day == 13 or day.weekday() == 4 for day in dates)
    assert dates[0] == date(2026, 1, 9)
    assert date(2026, 12, 20) < dates[-1] <= date(2027, 1, 2)
    assert exported["X-FARM-INTEL-CRON"] == "0 6 13 * 5"
