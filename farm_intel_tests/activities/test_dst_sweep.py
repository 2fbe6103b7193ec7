"""Every change of the clocks in every zone from 2024 to 2029, with schedules inside its gap or fold."""

from __future__ import annotations

import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from dateutil.rrule import DAILY, rrule

from farm_intel.activities.recurrence import due_between
from farm_intel.domain.activities import Schedule, ScheduleKind

FIRST_YEAR, LAST_YEAR = 2024, 2029
DISTINCT = 364
"""As reported for tzdata of 2025 and 2026; a later release may add some, never take away from these years' past."""


@dataclass(frozen=True)
class Change:
    zone: str
    at: datetime
    before: timedelta
    after: timedelta

    @property
    def is_gap(self) -> bool:
        return self.after > self.before

    @property
    def inside(self) -> datetime:
        """A wall time 15 minutes into the gap or fold."""
        return self.at.replace(tzinfo=None) + min(self.before, self.after) + timedelta(minutes=15)

    @property
    def ends_on_the_next_date(self) -> bool:
        return self.is_gap and self.at.astimezone(ZoneInfo(self.zone)).date() != self.inside.date()

    @property
    def around(self) -> tuple[datetime, datetime]:
        return self.at - timedelta(days=2), self.at + timedelta(days=2)


@cache
def changes() -> tuple[Change, ...]:
    """The distinct (instant, offset before, offset after), each with the first zone that has it."""
    found: dict[tuple[datetime, timedelta, timedelta], Change] = {}
    for name in sorted(zoneinfo.available_timezones()):
        if "/" in name and not name.startswith(("Etc/", "posix", "right")):
            for change in changes_of(name):
                found.setdefault((change.at, change.before, change.after), change)
    return tuple(found.values())


def changes_of(name: str) -> Iterator[Change]:
    zone = ZoneInfo(name)
    at, end = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
    offset = at.astimezone(zone).utcoffset()
    while at < end:
        later = at + timedelta(days=3)  # Morocco's and Gaza's changes lie weeks apart
        new = later.astimezone(zone).utcoffset()
        if new != offset:
            low, high = at, later
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
            high = high.replace(second=0, microsecond=0)
            yield Change(name, high, offset or timedelta(0), new or timedelta(0))
        at, offset = later, new


def schedule(kind: ScheduleKind, text: str, change: Change, *, days_before: int = 14) -> Schedule:
    start = change.inside - timedelta(days=days_before)
    return Schedule(kind=kind, text=text, start=start, time_zone=change.zone)


def ours(kind: ScheduleKind, text: str) -> Callable[[Change], list[datetime]]:
    def dates(change: Change) -> list[datetime]:
        plan = schedule(kind, text.format(wall=change.inside), change)
        return [due.due_at for due in due_between(plan, *change.around, limit=100)]

    return dates


def cronsim_alone(change: Change) -> list[datetime]:
    wall, (after, until) = change.inside, change.around
    dates = []
    for due in CronSim(f"{wall.minute} {wall.hour} * * *", after.astimezone(ZoneInfo(change.zone))):
        if due.astimezone(UTC) > until:
            return dates
        dates.append(due.astimezone(UTC))
    return dates


def dateutil_alone(change: Change) -> list[datetime]:
    """Instants of an aware rule whose wall time exists: what a system does that drops the ones that do not."""
    zone = ZoneInfo(change.zone)
    start = (change.inside - timedelta(days=14)).replace(tzinfo=zone)
    after, until = change.around
    found = [due.astimezone(UTC) for due in rrule(DAILY, dtstart=start, count=30) if really_exists(due)]
    return [due for due in found if after < due <= until]


def really_exists(wall: datetime) -> bool:
    return wall.astimezone(UTC).astimezone(wall.tzinfo).replace(tzinfo=None) == wall.replace(tzinfo=None)


def on_the_day(change: Change, dates: list[datetime]) -> int:
    """How often a schedule fires on the local date it is scheduled for, by the clocks of that zone."""
    return sum(due.astimezone(ZoneInfo(change.zone)).date() == change.inside.date() for due in dates)


DAILY_SCHEDULES = {
    "cron": ours(ScheduleKind.CRON, "{wall.minute} {wall.hour} * * *"),
    "cron with a star for the minutes' step": ours(ScheduleKind.CRON, "{wall.minute}-59/60 {wall.hour} * * *"),
    "every day": ours(ScheduleKind.EVERY_DAYS, "1"),
    "rrule": ours(ScheduleKind.RRULE, "FREQ=DAILY"),
}


def test_the_sweep_covers_what_was_promised() -> None:
    assert len(changes()) >= DISTINCT
    assert sum(change.is_gap for change in changes()) > 150
    assert sum(not change.is_gap for change in changes()) > 150
    assert sum(change.ends_on_the_next_date for change in changes()) >= 6


@pytest.mark.parametrize("name", DAILY_SCHEDULES)
def test_daily_fires_exactly_once_on_the_date_of_every_change(name: str) -> None:
    counted = Counter(on_the_day(change, DAILY_SCHEDULES[name](change)) for change in changes())

    assert counted == {1: len(changes())}


@pytest.mark.parametrize("name", DAILY_SCHEDULES)
def test_daily_fires_once_on_the_days_around_too(name: str) -> None:
    for change in changes():
        days = Counter(due.astimezone(ZoneInfo(change.zone)).date() for due in DAILY_SCHEDULES[name](change))
        assert set(days.values()) == {1}, (change, days)
        assert len(days) == (max(days) - min(days)).days + 1 >= 3, (change, days)


@pytest.mark.parametrize("name", DAILY_SCHEDULES)
def test_a_gap_fires_beside_it_on_the_same_date_and_a_fold_at_its_first_pass(name: str) -> None:
    for change in changes():
        fires = [
            due
            for due in DAILY_SCHEDULES[name](change)
            if due.astimezone(ZoneInfo(change.zone)).date() == change.inside.date()
        ]
        expected = change.at if change.is_gap else (change.inside - change.before).replace(tzinfo=UTC)
        if change.ends_on_the_next_date:
            expected = change.at - timedelta(minutes=1)
        assert fires == [expected], change


@pytest.mark.parametrize(("partner", "missing"), [(cronsim_alone, 6), (dateutil_alone, 150)])
def test_the_sweep_turns_red_without_the_rule(partner: Callable[[Change], list[datetime]], missing: int) -> None:
    """Mutation partners: the libraries alone lose dates; cronsim just the gaps that end on the next date."""
    lost = [change for change in changes() if on_the_day(change, partner(change)) != 1]

    assert len(lost) >= missing
    assert all(change.is_gap for change in lost)
    if partner is cronsim_alone:
        assert lost == [change for change in changes() if change.ends_on_the_next_date]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ScheduleKind.CRON, "{wall.minute} {wall.hour} * * {wall:%w}"),
        (ScheduleKind.RRULE, "FREQ=WEEKLY"),
        (ScheduleKind.RRULE, "FREQ=MONTHLY"),
        (ScheduleKind.EVERY_DAYS, "7"),
    ],
)
def test_rarer_schedules_keep_the_date_of_the_change(kind: ScheduleKind, text: str) -> None:
    """The start lies two weeks before, or for the monthly one on the day itself."""
    for change in changes():
        plan = schedule(kind, text.format(wall=change.inside), change, days_before=0 if "MONTHLY" in text else 14)
        found = list(due_between(plan, *change.around, limit=10))
        assert [due.local_date for due in found] == [change.inside.date()], change
        assert on_the_day(change, [due.due_at for due in found]) == 1, change


def test_star_minutes_within_one_hour_keep_the_date_of_a_gap() -> None:
    """`*/15 2 * * *`: cronsim counts time passed and loses the date; here its four times become the gap's end."""
    lost = 0
    for change in changes():
        if not change.is_gap:
            continue
        plan = schedule(ScheduleKind.CRON, f"*/15 {change.inside.hour} * * *", change)
        found = [due.due_at for due in due_between(plan, *change.around, limit=100)]
        assert on_the_day(change, found) >= 1, change
        assert len(set(found)) == len(found)
        simulated = CronSim(plan.text, change.around[0].astimezone(ZoneInfo(change.zone)))
        theirs = [due.astimezone(UTC) for due, _ in zip(simulated, range(20), strict=False)]
        lost += on_the_day(change, theirs) == 0
    assert lost > 100


@pytest.mark.parametrize(
    ("text", "minutes"), [("0 * * * *", {0}), ("*/15 * * * *", {0, 15, 30, 45}), ("20 * * * *", {20})]
)
def test_hourly_lines_fire_whenever_the_clocks_show_their_minute(text: str, minutes: set[int]) -> None:
    """Truth by brute force: every minute of real time over the change, read off the zone's clocks."""
    for change in changes():
        zone = ZoneInfo(change.zone)
        after, until = change.at - timedelta(hours=4), change.at + timedelta(hours=4)
        truth = [
            instant
            for instant in (after + timedelta(minutes=n) for n in range(1, 8 * 60 + 1))
            if instant.astimezone(zone).minute in minutes
        ]
        plan = schedule(ScheduleKind.CRON, text, change)
        assert [due.due_at for due in due_between(plan, after, until, limit=100)] == truth, change


def test_hourly_lines_are_complete_asked_from_within_a_fold() -> None:
    """The second pass of minutes before the one asked from is still to come."""
    for change in [change for change in changes() if not change.is_gap][::5]:
        plan = schedule(ScheduleKind.CRON, "*/10 * * * *", change)
        start, end = change.at - timedelta(hours=5), change.at + timedelta(hours=5)
        whole = [due.due_at for due in due_between(plan, start, end, limit=100)]
        for minutes in (-170, -95, -50, -25, -1, 0, 1, 25, 50, 95, 170):
            after = change.at + timedelta(minutes=minutes)
            found = [due.due_at for due in due_between(plan, after, end, limit=100)]
            assert found == [due for due in whole if due > after], (change, minutes)
