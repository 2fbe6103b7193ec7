"""The farm's logbook; implements activities.ports.LogbookStore. Its rows are never changed and never removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, insert, select

from farm_intel.domain.activities import LogEntry
from farm_intel.storage.activity_rows import entry_columns, parse_entry
from farm_intel.storage.activity_tables import logbook
from farm_intel.storage.bulk import one_of
from farm_intel.storage.database import reading, transaction


class SqlLogbook:
    """Lines of the logbook in the database; answers write theirs with the occurrence, see occurrence_moves."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine; nothing is opened yet."""
        self.engine = engine

    def add(self, entry: LogEntry) -> None:
        """Write a line about work nobody planned.

        Raises:
            StoreError: the database refused; nothing was changed.

        """
        with transaction(self.engine) as connection:
            connection.execute(insert(logbook).values(entry_columns(entry)))

    def entries(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        activity_types: Sequence[str] | None = None,
        limit: int = 100_000,
    ) -> list[LogEntry]:
        """Return lines by farm and time done; instants from `start` inclusive to `end` exclusive; None asks for all."""
        column = logbook.c
        query = select(logbook).order_by(column.farm_id, column.done_at, column.entry_id).limit(limit)
        if start is not None:
            query = query.where(column.done_at >= start)
        if end is not None:
            query = query.where(column.done_at < end)
        with reading(self.engine) as connection:
            if farm_ids is not None:
                query = query.where(one_of(column.farm_id, farm_ids, connection))
            if activity_types is not None:
                query = query.where(one_of(column.type, activity_types, connection))
            return [parse_entry(row) for row in connection.execute(query).mappings()]
