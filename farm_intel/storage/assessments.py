"""Fused observations, daily series, seasons and farm states; implements domain.ports.AssessmentStore."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    literal_column,
    select,
)

from farm_intel.domain.assessment import DailySeries, FarmState, FusedObservation, Season
from farm_intel.storage import assessment_rows as rows
from farm_intel.storage.assessment_tables import daily_series, farm_states, fused_observations, seasons
from farm_intel.storage.bulk import BulkUpsert, one_of
from farm_intel.storage.database import reading, transaction

_STREAM_ROWS = 1000
_BOOKKEEPING = ("recorded_at",)
_FUSED_ROWS = BulkUpsert(fused_observations, bookkeeping=_BOOKKEEPING)
_SERIES_ROWS = BulkUpsert(daily_series, bookkeeping=_BOOKKEEPING)
_SEASON_ROWS = BulkUpsert(seasons, bookkeeping=_BOOKKEEPING)
_STATE_ROWS = BulkUpsert(farm_states, bookkeeping=_BOOKKEEPING)


class SqlAssessmentStore:
    """What is made of observations, in the database that holds them."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine; nothing is opened yet."""
        self.engine = engine

    def save_fused(
        self,
        fused: Sequence[FusedObservation],
        *,
        recorded_at: datetime,
        gone: Sequence[tuple[str, str, date]] = (),
    ) -> None:
        """Upsert fused observations and remove those of `gone` (farm, index, day), in one transaction.

        Raises:
            StoreError: the database refused; nothing was changed.

        """
        unique = list({(item.farm_id, item.index, item.solar_day): item for item in fused}.values())
        with transaction(self.engine) as connection:
            _remove(connection, fused_observations, gone)
            _FUSED_ROWS.run(connection, rows.fused_columns(unique, recorded_at, connection), len(unique))

    def fused(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        indices: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        usable: bool = False,
        with_candidates: bool = True,
    ) -> Iterator[FusedObservation]:
        """Yield fused observations ordered by farm, index, day, streamed; None asks for all, () for none.

        With `usable` only those that carry a value; without candidates (several times faster) theirs are empty.
        """
        c = fused_observations.c
        columns: list[ColumnElement[Any]] = [c[name] for name in rows.FUSED_COLUMNS]
        if not with_candidates:
            columns[rows.FUSED_COLUMNS.index("candidates")] = literal_column("'[]'", Text).label("candidates")
        query = select(*columns).order_by(c.farm_id, c.index_slug, c.solar_day)
        if usable:
            query = query.where(c.value.is_not(None))
        query = _between(query, c.solar_day, start, end)
        yield from self._read(query, ((c.farm_id, farm_ids), (c.index_slug, indices)), rows.parse_fused)

    def fused_fingerprints(
        self, *, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[tuple[str, str, date], str]:
        """Return the fingerprint of every stored fused observation of the block, by farm, index and day."""
        c = fused_observations.c
        with reading(self.engine) as connection:
            query = select(c.farm_id, c.index_slug, c.solar_day, c.fingerprint).where(
                one_of(c.farm_id, farm_ids, connection),
                one_of(c.index_slug, indices, connection),
                c.solar_day.between(start, end),
            )
            return {(farm, index, day): text for farm, index, day, text in connection.execute(query)}

    def save_series(
        self, series: Sequence[DailySeries], *, recorded_at: datetime, gone: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Upsert daily series and remove those of `gone` (farm, index); numbers keep six decimals.

        Raises:
            StoreError: the database refused; nothing was changed.

        """
        unique = list({(item.farm_id, item.index): item for item in series}.values())
        with transaction(self.engine) as connection:
            _remove(connection, daily_series, gone)
            _SERIES_ROWS.run(connection, rows.series_columns(unique, recorded_at, connection), len(unique))

    def series(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[DailySeries]:
        """Yield daily series ordered by farm, index, streamed; None asks for all, () for none."""
        c = daily_series.c
        query = select(daily_series).order_by(c.farm_id, c.index_slug)
        yield from self._read(query, ((c.farm_id, farm_ids), (c.index_slug, indices)), rows.parse_series)

    def save_seasons(
        self, seasons: Sequence[Season], *, recorded_at: datetime, gone: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Upsert seasons and remove those of `gone` (farm, index); numbers of days keep six decimals.

        Raises:
            StoreError: the database refused; nothing was changed.

        """
        unique = list({(item.farm_id, item.index): item for item in seasons}.values())
        with transaction(self.engine) as connection:
            _remove(connection, _SEASONS, gone)
            _SEASON_ROWS.run(connection, rows.season_columns(unique, recorded_at, connection), len(unique))

    def seasons(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[Season]:
        """Yield seasons ordered by farm, index, streamed; None asks for all, () for none."""
        c = _SEASONS.c
        query = select(_SEASONS).order_by(c.farm_id, c.index_slug)
        yield from self._read(query, ((c.farm_id, farm_ids), (c.index_slug, indices)), rows.parse_season)

    def save_states(
        self, states: Sequence[FarmState], *, recorded_at: datetime, gone: Sequence[tuple[str, date]] = ()
    ) -> None:
        """Upsert farm states and remove those of `gone` (farm, day), in one transaction.

        Raises:
            StoreError: the database refused; nothing was changed.

        """
        unique = list({(item.farm_id, item.day): item for item in states}.values())
        with transaction(self.engine) as connection:
            _remove(connection, farm_states, gone)
            _STATE_ROWS.run(connection, rows.state_columns(unique, recorded_at, connection), len(unique))

    def states(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        events_only: bool = False,
    ) -> Iterator[FarmState]:
        """Yield farm states ordered by farm, day, streamed; with `events_only` only days on which an event is dated."""
        c = farm_states.c
        query = select(farm_states).order_by(c.farm_id, c.day)
        if events_only:
            query = query.where(c.event.is_not(None))
        yield from self._read(_between(query, c.day, start, end), ((c.farm_id, farm_ids),), rows.parse_state)

    def _read[T](
        self,
        query: Select[Any],
        chosen: Sequence[tuple[ColumnElement[str], Sequence[str] | None]],
        parse: Callable[[Row[Any]], T],
    ) -> Iterator[T]:
        with reading(self.engine) as connection:
            for column, values in chosen:
                if values is not None:
                    query = query.where(one_of(column, values, connection))
            result = connection.execution_options(yield_per=_STREAM_ROWS).execute(query)
            for row in result:
                yield parse(row)


_SEASONS = seasons
"""The table; inside the class `seasons` is the method."""


def _between(query: Select[Any], day: ColumnElement[Any], start: date | None, end: date | None) -> Select[Any]:
    if start is not None:
        query = query.where(day >= start)
    if end is not None:
        query = query.where(day <= end)
    return query


def _remove(connection: Connection, table: Table, keys: Sequence[tuple[object, ...]]) -> None:
    """Delete rows by their primary key, its columns in the table's order."""
    if not keys:
        return
    columns = list(table.primary_key.columns)
    statement = delete(table).where(*(column == bindparam(f"key_{column.name}") for column in columns))
    names = [f"key_{column.name}" for column in columns]
    connection.execute(statement, [dict(zip(names, key, strict=True)) for key in keys])
