"""Observations, the calendar and cursors in the relational store; implements domain.ports.ObservationStore."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Engine, Integer, Row, Select, case, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.domain.errors import StoreError
from farm_intel.domain.observations import CoverageDay, Observation, ObservationKey, ObservationStatus
from farm_intel.domain.publication import Publication, PublishReceipt
from farm_intel.storage import tables
from farm_intel.storage.bulk import BulkUpsert, ColumnValues, instant_text, one_of
from farm_intel.storage.database import hold_against_sweep, reading, transaction
from farm_intel.storage.raster_store import RasterStore
from farm_intel.storage.rasters import RasterRecord
from farm_intel.storage.rows import STATUS_RANK, parse_coverage_day, parse_observation, parse_raster

if TYPE_CHECKING:
    from farm_intel.storage.publishing import WrittenRaster

_OBSERVATIONS = tables.observations.c
_COVERAGE = tables.coverage.c
_STREAM_ROWS = 2000


def _is(status: ColumnElement[Any], word: str) -> ColumnElement[bool]:
    # A literal: the only parameters of a bulk statement are its columns. The words are our own enumeration's.
    return status == literal_column(f"'{ObservationStatus(word).value}'")


def _rank(status: ColumnElement[Any]) -> ColumnElement[int]:
    number = len(STATUS_RANK)
    ranked: ColumnElement[int] = literal_column(str(number), Integer)
    for word, rank in STATUS_RANK.items():
        ranked = case((_is(status, word), literal_column(str(rank), Integer)), else_=ranked)
    return ranked


_RASTER_ROWS = BulkUpsert(tables.rasters, bookkeeping=("created_at",))
_OBSERVATION_ROWS = BulkUpsert(
    tables.observations,
    bookkeeping=("recorded_at", "run_id"),
    # A read that failed is not an answer: the number stays, its old fingerprint keeps the cell due.
    guard=lambda incoming: ~_is(incoming["status"], "provider_failed") | ~_is(_OBSERVATIONS.status, "observed"),
)
_BETTER_DAYS = BulkUpsert(
    tables.coverage,
    bookkeeping=("recorded_at",),
    guard=lambda incoming: _rank(incoming["status"]) <= _rank(_COVERAGE.status),
)
_SETTLED_DAYS = BulkUpsert(tables.coverage, bookkeeping=("recorded_at",))


class SqlObservationStore:
    """Observations and calendar in a database, rasters beside it."""

    def __init__(self, engine: Engine, rasters: RasterStore) -> None:
        """Keep both; nothing is opened yet."""
        self.engine = engine
        self.rasters = rasters

    def publish(self, publication: Publication) -> PublishReceipt:
        """Store rasters, then rows, so that a crash at any instant leaves no row without its raster.

        Every cell of the batch gets its row; farms with a number in any index get a raster. Cells whose content is
        stored already change nothing, not even their time. A cell that could not be read never replaces a number.

        Raises:
            StoreError: disk or database refused; no row was written.

        """
        from farm_intel.storage import publishing

        written = publishing.write_rasters(publication, self.rasters)
        present = [raster for raster in written if raster is not None]
        with transaction(self.engine) as connection:
            hold_against_sweep(connection)
            self._restore_swept(publication, present)
            _RASTER_ROWS.run(connection, *publishing.raster_columns(publication, present, connection))
            _OBSERVATION_ROWS.run(connection, *publishing.observation_columns(publication, written, connection))
            statuses = publishing.day_statuses(publication)
            days = publishing.coverage_columns(publication, written, statuses, connection)
            _BETTER_DAYS.run(connection, days, len(written))
            self._settle_days(connection, publication, [status for status, _ in statuses])
        addresses = tuple(raster.sha256 if raster else None for raster in written)
        return PublishReceipt(
            raster_sha256=addresses,
            raster_paths=tuple(self.rasters.relative_path(sha256) if sha256 else None for sha256 in addresses),
        )

    def record_days(self, days: Sequence[CoverageDay]) -> None:
        """Upsert calendar days that have no cells of their own; a day that says more already stays as it is.

        Raises:
            StoreError: the database refused, or a day does not say when it was recorded.

        """
        unique = list({(day.farm_id, day.provider, day.collection, day.solar_day): day for day in days}.values())
        if not unique:
            return
        with transaction(self.engine) as connection:
            columns: dict[str, ColumnValues] = {
                "farm_id": [day.farm_id for day in unique],
                "provider": [day.provider for day in unique],
                "collection": [day.collection for day in unique],
                "solar_day": [day.solar_day.isoformat() for day in unique],
                "status": [day.status.value for day in unique],
                "reason": [day.reason for day in unique],
                "scene_ids": [json.dumps(day.scene_ids, separators=(",", ":")) for day in unique],
                "valid_pixel_fraction": [day.valid_pixel_fraction for day in unique],
                "cloud_fraction": [day.cloud_fraction for day in unique],
                "covered_fraction": [day.covered_fraction for day in unique],
                "raster_sha256": [day.raster_sha256 for day in unique],
                "recorded_at": [_recorded_at(day, connection) for day in unique],
            }
            _BETTER_DAYS.run(connection, columns, len(unique))

    def fingerprints(
        self, *, provider: str, collection: str, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[ObservationKey, tuple[str, ObservationStatus]]:
        """Return fingerprint and status of every stored cell of the block whose raster, where it has one, is there.

        A cell that lost its raster is left out, so that it is computed again as one that was never stored.
        """
        c = _OBSERVATIONS
        with reading(self.engine) as connection:
            query = select(c.farm_id, c.index_slug, c.solar_day, c.fingerprint, c.status, c.raster_sha256).where(
                one_of(c.farm_id, farm_ids, connection),
                one_of(c.index_slug, indices, connection),
                c.provider == provider,
                c.collection == collection,
                c.solar_day.between(start, end),
            )
            rows = connection.execute(query).all()
        lost = self.rasters.lost({row[5] for row in rows if row[5] is not None})
        return {
            ObservationKey(
                farm_id=farm_id, index=index, provider=provider, collection=collection, solar_day=solar_day
            ): (fingerprint, ObservationStatus(status))
            for farm_id, index, solar_day, fingerprint, status, sha256 in rows
            if sha256 not in lost
        }

    def observations(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        indices: Sequence[str] | None = None,
        provider: str | None = None,
        collection: str | None = None,
        start: date | None = None,
        end: date | None = None,
        statuses: Sequence[ObservationStatus] | None = None,
    ) -> Iterator[Observation]:
        """Yield observations ordered by farm, index, day, streamed; None asks for all, an empty sequence for none."""
        c = _OBSERVATIONS
        with reading(self.engine) as connection:
            query = select(tables.observations).order_by(c.farm_id, c.index_slug, c.solar_day, c.provider, c.collection)
            for column, values in ((c.farm_id, farm_ids), (c.index_slug, indices), (c.status, statuses)):
                if values is not None:
                    query = query.where(one_of(column, [str(value) for value in values], connection))
            query = _of_source(query, tables.observations.c, provider, collection)
            query = _between(query, c.solar_day, start, end)
            for row in connection.execution_options(yield_per=_STREAM_ROWS).execute(query):
                yield parse_observation(row)

    def latest(
        self,
        farm_id: str,
        index: str,
        *,
        provider: str | None = None,
        collection: str | None = None,
        until: date | None = None,
    ) -> Observation | None:
        """Return the newest observation with a number, up to and including the day `until`, or None."""
        c = _OBSERVATIONS
        query = select(tables.observations).where(
            c.farm_id == farm_id, c.index_slug == index, c.status == ObservationStatus.OBSERVED.value
        )
        query = _between(_of_source(query, c, provider, collection), c.solar_day, None, until)
        query = query.order_by(c.solar_day.desc(), c.provider, c.collection).limit(1)
        with reading(self.engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else parse_observation(row)

    def calendar(
        self, *, farm_id: str, provider: str | None = None, start: date | None = None, end: date | None = None
    ) -> list[CoverageDay]:
        """Return the farm's calendar ordered by day."""
        c = _COVERAGE
        query = _of_source(select(tables.coverage).where(c.farm_id == farm_id), c, provider, None)
        query = _between(query, c.solar_day, start, end).order_by(c.solar_day, c.provider, c.collection)
        with reading(self.engine) as connection:
            return [parse_coverage_day(row) for row in connection.execute(query)]

    def raster(self, sha256: str) -> RasterRecord | None:
        """Return what is known of a raster without opening it, or None where there is no such raster."""
        with reading(self.engine) as connection:
            row = connection.execute(select(tables.rasters).where(tables.rasters.c.sha256 == sha256)).first()
        return None if row is None else parse_raster(row)

    def get_cursor(self, name: str) -> str | None:
        """Return where a sensor or schedule stopped, or None where it never ran."""
        with reading(self.engine) as connection:
            value = connection.scalar(select(tables.cursors.c.value).where(tables.cursors.c.name == name))
        return None if value is None else str(value)

    def set_cursor(self, name: str, value: str, *, at: datetime) -> None:
        """Remember where a sensor or schedule stopped, and when (timezone-aware)."""
        with transaction(self.engine) as connection:
            insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
            statement = insert(tables.cursors).values(name=name, value=value, updated_at=at)
            new = {"value": statement.excluded.value, "updated_at": statement.excluded.updated_at}
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=new))

    def _restore_swept(self, publication: Publication, written: Sequence[WrittenRaster]) -> None:
        """Write again what the reaper took between our rename and our rows; it cannot come between any more."""
        from farm_intel.storage.publishing import farm_encoder

        lost = self.rasters.lost({raster.sha256 for raster in written})
        gone = [raster for raster in written if raster.sha256 in lost]
        if not gone:
            return
        encode = farm_encoder(publication)
        contents = {raster.sha256: encode(raster.position) for raster in gone}
        self.rasters.put_many({sha256: content for sha256, content in contents.items() if content is not None})

    def _settle_days(self, connection: Connection, publication: Publication, days: Sequence[str]) -> None:
        """Take calendar days back that were better before, where no stored cell says so any more.

        A day is not downgraded because a second index saw less; but after a recomputation under a stricter mask the
        calendar must not promise a number that is no longer there. Rare, so it may read the cells of those farms.
        """
        new = dict(zip(publication.batch.farm_ids, days, strict=True))
        worse = [farm_id for farm_id, status in new.items() if status != ObservationStatus.OBSERVED.value]
        if not worse:
            return
        held = {row.farm_id: row.status for row in self._rows_of_day(connection, publication, tables.coverage, worse)}
        doubtful = [farm_id for farm_id, status in held.items() if status != new[farm_id]]
        if not doubtful:
            return
        best: dict[str, Row[Any]] = {}
        for row in self._rows_of_day(connection, publication, tables.observations, doubtful):
            other = best.get(row.farm_id)
            if other is None or STATUS_RANK[row.status] < STATUS_RANK[other.status]:
                best[row.farm_id] = row
        rows = [row for row in best.values() if STATUS_RANK[row.status] > STATUS_RANK[held[row.farm_id]]]
        columns: dict[str, ColumnValues] = {
            column.name: [getattr(row, column.name) for row in rows] for column in tables.coverage.columns
        }
        columns["solar_day"] = [row.solar_day.isoformat() for row in rows]
        columns["recorded_at"] = [instant_text(row.recorded_at, connection) for row in rows]
        _SETTLED_DAYS.run(connection, columns, len(rows))

    @staticmethod
    def _rows_of_day(
        connection: Connection, publication: Publication, table: Any, farm_ids: Sequence[str]
    ) -> Sequence[Row[Any]]:
        query = select(table).where(
            one_of(table.c.farm_id, farm_ids, connection),
            table.c.provider == publication.provider,
            table.c.collection == publication.collection,
            table.c.solar_day == publication.batch.solar_day,
        )
        return connection.execute(query).all()


def _of_source(query: Select[Any], columns: Any, provider: str | None, collection: str | None) -> Select[Any]:
    if provider is not None:
        query = query.where(columns.provider == provider)
    if collection is not None:
        query = query.where(columns.collection == collection)
    return query


def _between(query: Select[Any], day: ColumnElement[Any], start: date | None, end: date | None) -> Select[Any]:
    if start is not None:
        query = query.where(day >= start)
    if end is not None:
        query = query.where(day <= end)
    return query


def _recorded_at(day: CoverageDay, connection: Connection) -> str:
    if day.recorded_at is None:
        raise StoreError(f"farm {day.farm_id}, {day.solar_day}: the calendar day does not say when it was recorded")
    return instant_text(day.recorded_at, connection)
