"""Five-field cron lines as naive wall times, read by `cronsim`.

What `cronsim` permits is permitted: names (`MON`, `JAN`), `7` for Sunday, `L` and `LW` as day of the month, `5L` and
`5#2` as day of the week, and crontab(5)'s OR between the two day fields where both are restricted. Refused: a sixth
field (seconds or years, nobody agrees which) and nicknames such as `@daily`, whose fields the message gives.

`cronsim` is asked for naive wall times only. Its own handling of zones loses the date where a gap ends on the next one
(6 of the 364 changes of 2024 to 2029) or where minutes have a star (`*/15 2 * * *` in a gap); the rule in `walltime`
does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cronsim import CronSim, CronSimError

from farm_intel.activities.walltime import EARLIEST, HORIZON
from farm_intel.domain.errors import BadRequestError

_LONGEST = 200
_HOURS_OF_A_DAY = 24
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def parse_cron(text: str) -> CronSim:
    """Return a checked cron line; its fields can be read from the result.

    Raises:
        BadRequestError: not five fields, a field out of range, or a day no month has.

    """
    return _simulator(text, EARLIEST)


def cron_walls(text: str, first: datetime) -> Iterator[datetime]:
    """Yield the naive wall times of a cron line from `first` on, ascending, without end but for the horizon.

    Raises:
        BadRequestError: as `parse_cron`.

    """
    for wall in _simulator(text, first - timedelta(microseconds=1)):
        if wall >= HORIZON:
            return
        yield wall


def runs_by_the_hour(line: CronSim) -> bool:
    """Tell whether a line runs in every hour of its days, so that what counts is time passed and not time shown."""
    return len(line.hours) == _HOURS_OF_A_DAY


def _simulator(text: str, after: datetime) -> CronSim:
    fields = text.split()
    if len(text) > _LONGEST or len(fields) != 5:
        raise BadRequestError(f"{text[:60]!r} is not a cron line of five fields", hint=_field_hint(fields))
    try:
        return CronSim(text, after)
    except CronSimError as error:
        raise BadRequestError(
            f"the cron line {text!r} cannot be read: {error}",
            hint="The fields are minute 0-59, hour 0-23, day of the month 1-31 (one its months have), month 1-12 and "
            "day of the week 0-7 or SUN-SAT.",
        ) from error


def _field_hint(fields: list[str]) -> str:
    if len(fields) == 1 and (equivalent := _NICKNAMES.get(fields[0].lower())):
        return f"Nicknames are not taken; write {equivalent!r}."
    if len(fields) in {6, 7}:
        return "Seconds and years are not taken; give minute, hour, day of the month, month, day of the week."
    return "Give minute, hour, day of the month, month and day of the week, e.g. '30 6 * * 1' for Mondays at 06:30."
