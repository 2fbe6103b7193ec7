"""Only farms with news come up, none is lost between two looks, and quiet stays quiet."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.observations import CoverageDay, ObservationStatus
from farm_intel.storage.changes import changed_farms
from farm_intel.storage.database import migrate, open_database
from farm_intel.storage.observations import SqlObservationStore
from farm_intel.storage.rasters import FolderRasters

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path) -> Engine:
    database = open_database(f"sqlite:///{tmp_path / 'changes.db'}")
    migrate(database)
    return database


def record(engine: Engine, tmp_path, farm: str, day: date, at: datetime) -> None:
    store = SqlObservationStore(engine, FolderRasters(tmp_path / "rasters"))
    store.record_days(
        [
            CoverageDay(
                farm_id=farm,
                provider="stac",
                collection="s2",
                solar_day=day,
                status=ObservationStatus.NO_ACQUISITION,
                reason="",
                recorded_at=at,
            )
        ]
    )


def test_first_everything_then_only_news_then_nothing(engine, tmp_path):
    record(engine, tmp_path, "a", date(2026, 5, 1), NOON)
    record(engine, tmp_path, "a", date(2026, 5, 9), NOON)
    record(engine, tmp_path, "b", date(2026, 5, 4), NOON)

    cursor, first = changed_farms(engine, "", now=NOON + timedelta(hours=1))
    record(engine, tmp_path, "b", date(2026, 5, 7), NOON + timedelta(hours=2))
    cursor, second = changed_farms(engine, cursor, now=NOON + timedelta(hours=3))
    cursor, third = changed_farms(engine, cursor, now=NOON + timedelta(hours=4))

    assert first == {"a": (date(2026, 5, 1), date(2026, 5, 9)), "b": (date(2026, 5, 4), date(2026, 5, 4))}
    assert second == {"b": (date(2026, 5, 7), date(2026, 5, 7))}
    assert third == {}


def test_a_row_that_commits_after_a_younger_one_is_not_lost(engine, tmp_path):
    record(engine, tmp_path, "young", date(2026, 5, 1), NOON)
    cursor, _ = changed_farms(engine, "", now=NOON + timedelta(seconds=1))
    record(engine, tmp_path, "late", date(2026, 5, 1), NOON - timedelta(seconds=30))

    _, told = changed_farms(engine, cursor, now=NOON + timedelta(seconds=2))

    assert "late" in told


def test_a_strange_cursor_is_refused(engine):
    with pytest.raises(BadRequestError, match="no cursor"):
        changed_farms(engine, "yesterday", now=NOON)
