"""Stores to test on, over the databases of the common conftest."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from farm_intel.storage.observations import SqlObservationStore
from farm_intel.storage.rasters import FolderRasters


@pytest.fixture
def rasters(tmp_path: Path) -> FolderRasters:
    return FolderRasters(tmp_path / "rasters")


@pytest.fixture
def store(engine: Engine, rasters: FolderRasters) -> SqlObservationStore:
    """Return a store on each kind of database."""
    return SqlObservationStore(engine, rasters)


@pytest.fixture
def sqlite_store(sqlite_engine: Engine, rasters: FolderRasters) -> SqlObservationStore:
    return SqlObservationStore(sqlite_engine, rasters)
