"""Times on the command line: wall times of farms, instants, dates of occurrences, and spans like `2h`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import click

MORNING = time(6)
"""Time of day of work whose date is given alone."""
_EVENING = time(23, 59)
_SPAN = re.compile(r"(\d{1,5})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DATE_CHARACTERS = len("2026-05-01")


class Wall(click.ParamType[datetime]):
    """A wall time on the farm, to the minute: 2026-05-01T06:30; a date alone gets the type's own time of day."""

    name = "wall time"

    def __init__(self, at: time) -> None:
        """Keep the time of day of a date that is given alone."""
        self._at = at

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return how it is written."""
        del param, ctx
        return "YYYY-MM-DD[THH:MM]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse it or fail as bad usage."""
        if isinstance(value, datetime):
            return value
        try:
            wall = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time like 2026-05-01T06:30", param, ctx)
        if wall.tzinfo is not None:
            self.fail(f"{value!r} has a time zone: give the time on the farm's clocks, without Z or offset", param, ctx)
        if len(value) <= _DATE_CHARACTERS:
            return datetime.combine(wall.date(), self._at)
        return wall.replace(second=0, microsecond=0)


class Instant(click.ParamType[datetime]):
    """A moment: 2026-05-01T06:30Z; without a time zone it is UTC."""

    name = "moment"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return how it is written."""
        del param, ctx
        return "YYYY-MM-DDTHH:MMZ"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse it or fail as bad usage."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a moment like 2026-05-01T06:30Z", param, ctx)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


class Due(click.ParamType[date]):
    """Which date of a plan: a day on the farm's calendar, or the UTC moment that `occurrences` prints."""

    name = "due"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return how it is written."""
        del param, ctx
        return "YYYY-MM-DD[THH:MMZ]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Parse it or fail as bad usage; a `datetime` is a moment, a plain `date` a day."""
        if isinstance(value, date):
            return value
        if len(value) > _DATE_CHARACTERS:
            return INSTANT.convert(value, param, ctx)
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a day like 2026-05-01 or a moment like 2026-05-01T03:30Z", param, ctx)


class Span(click.ParamType[timedelta]):
    """A length of time: 30m, 2h, 3d, 1w."""

    name = "span"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return how it is written."""
        del param, ctx
        return "30m|2h|3d|1w"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse it or fail as bad usage."""
        if isinstance(value, timedelta):
            return value
        found = _SPAN.fullmatch(str(value).strip().lower())
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is not a length of time like 30m, 2h, 3d or 1w", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


WALL, WALL_END = Wall(MORNING), Wall(_EVENING)
INSTANT, DUE, SPAN = Instant(), Due(), Span()

by_option = click.option("--by", default="operator", show_default=True, help="Who does it; goes into the history.")
