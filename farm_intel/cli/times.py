"""Times on the command line: wall times of farms, instants, and spans like `2h`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_SPAN = re.compile(r"(\d{1,5})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Wall(click.ParamType[datetime]):
    """A wall time on the farm, to the minute: 2026-05-01T06:30."""

    name = "YYYY-MM-DDTHH:MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse it or fail as bad usage."""
        if isinstance(value, datetime):
            return value
        try:
            wall = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time like 2026-05-01T06:30", param, ctx)
        if wall.tzinfo is not None:
            self.fail(f"{value!r} has a time zone: give the time on the farm's clocks", param, ctx)
        return wall.replace(second=0, microsecond=0)


class Instant(click.ParamType[datetime]):
    """A moment: 2026-05-01T06:30Z; without a time zone it is UTC."""

    name = "YYYY-MM-DDTHH:MMZ"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse it or fail as bad usage."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a moment like 2026-05-01T06:30Z", param, ctx)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


class Span(click.ParamType[timedelta]):
    """A length of time: 30m, 2h, 3d, 1w."""

    name = "30m|2h|3d"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse it or fail as bad usage."""
        if isinstance(value, timedelta):
            return value
        found = _SPAN.fullmatch(str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is not a length of time like 30m, 2h or 3d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


WALL, INSTANT, SPAN = Wall(), Instant(), Span()

by_option = click.option("--by", default="operator", show_default=True, help="Who does it; goes into the history.")
