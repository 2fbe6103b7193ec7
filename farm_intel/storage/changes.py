"""What has been recorded since a caller last looked, so that only farms with news are assessed again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine, func, select

from farm_intel.domain.errors import BadRequestError
from farm_intel.storage.database import reading
from farm_intel.storage.tables import coverage

OVERLAP = timedelta(seconds=60)
"""A row carries the time it was computed and appears when its transaction commits; none takes longer than this."""


def changed_farms(engine: Engine, cursor: str, *, now: datetime) -> tuple[str, dict[str, tuple[date, date]]]:
    """Return the next cursor and, per farm with newly recorded days, the first and the last of those days.

    Rows of the last minute before the cursor moved are told once more rather than lost.

    Args:
        engine: the database.
        cursor: what the last call returned; empty for everything.
        now: timezone-aware.

    Raises:
        BadRequestError: the cursor is none of ours.

    """
    since = _parse(cursor)
    query = select(
        coverage.c.farm_id,
        func.min(coverage.c.solar_day),
        func.max(coverage.c.solar_day),
        func.max(coverage.c.recorded_at, type_=coverage.c.recorded_at.type),
    ).group_by(coverage.c.farm_id)
    if since is not None:
        query = query.where(coverage.c.recorded_at > since)
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    if not rows:
        return cursor, {}
    latest = min(max(row[3] for row in rows), now.astimezone(UTC) - OVERLAP)
    following = latest if since is None else max(since, latest)
    return following.isoformat(), {row[0]: (row[1], row[2]) for row in rows}


def _parse(cursor: str) -> datetime | None:
    if not cursor:
        return None
    try:
        return datetime.fromisoformat(cursor)
    except ValueError as error:
        raise BadRequestError(f"{cursor!r} is no cursor of changes", hint="Reset the cursor to start over.") from error
