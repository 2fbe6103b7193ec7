"""The export is GeoParquet as others read it, whole or not there."""

from __future__ import annotations

import json
from datetime import date, timedelta

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from sqlalchemy import insert

from farm_intel.domain.errors import StoreError
from farm_intel.domain.observations import STATISTICS, ObservationStatus
from farm_intel.storage import tables
from farm_intel.storage.database import transaction
from farm_intel.storage.export import ExportFilter, export_geoparquet
from farm_intel_tests.storage.publications import INDICES, RECORDED_AT, make_publication

DAY = date(2024, 6, 1)
BOXES = {("farm-00000", 1): shapely.box(10, 50, 10.1, 50.1), ("farm-00000", 2): shapely.box(10, 50, 10.2, 50.2)}


@pytest.fixture
def filled(store):
    store.publish(make_publication(4, cloudy=frozenset({2})))
    store.publish(make_publication(4, seed=1, day=DAY + timedelta(days=3)))
    rows = [
        {
            "farm_id": farm_id,
            "version": version,
            "boundary_wkb": shapely.to_wkb(box),
            "boundary_hash": "0",
            "bbox_west": 10,
            "bbox_south": 50,
            "bbox_east": 11,
            "bbox_north": 51,
            "longitude_deg": 10,
            "latitude_deg": 50,
            "area_ha": 1,
            "created_at": RECORDED_AT,
        }
        for (farm_id, version), box in BOXES.items()
    ]
    with transaction(store.engine) as connection:
        connection.execute(insert(tables.farm_versions), rows)
    return store


def test_geopandas_reads_every_observation(filled, tmp_path):
    target = tmp_path / "all.parquet"

    count = export_geoparquet(filled, target, ExportFilter())

    frame = geopandas.read_parquet(target)
    assert count == len(frame) == 40
    assert frame.crs == "OGC:CRS84"
    expected = list(filled.observations())
    assert list(zip(frame["farm_id"], frame["index"], frame["solar_day"], strict=True)) == [
        (row.key.farm_id, row.key.index, row.key.solar_day) for row in expected
    ]
    for name in STATISTICS:
        values = [np.nan if row.statistics is None else getattr(row.statistics, name) for row in expected]
        np.testing.assert_array_equal(frame[name].to_numpy(float), values)
    assert list(frame["status"]) == [row.status.value for row in expected]
    assert [tuple(flags) for flags in frame["flags"]] == [row.flags for row in expected]
    assert set(frame["recorded_at"]) == {RECORDED_AT}
    assert [path.name for path in tmp_path.iterdir() if "parquet" in path.name] == ["all.parquet"]


def test_the_boundary_is_the_version_that_was_measured(filled, tmp_path):
    export_geoparquet(filled, tmp_path / "a.parquet", ExportFilter(farm_ids=["farm-00000", "farm-00001"]))

    frame = geopandas.read_parquet(tmp_path / "a.parquet")
    assert set(frame[frame["farm_id"] == "farm-00000"].geometry) == {BOXES["farm-00000", 1]}
    assert frame[frame["farm_id"] == "farm-00001"].geometry.isna().all()


def test_filters_and_metadata(filled, tmp_path):
    chosen = ExportFilter(indices=INDICES[:1], end=DAY, statuses=[ObservationStatus.OBSERVED])

    assert export_geoparquet(filled, tmp_path / "a.parquet", chosen) == 3

    geo = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"][geo["primary_column"]]["encoding"] == "WKB"


def test_a_large_export_is_written_in_row_groups(filled, tmp_path):
    export_geoparquet(filled, tmp_path / "a.parquet", ExportFilter(), chunk_rows=7)

    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == 6
    assert len(geopandas.read_parquet(tmp_path / "a.parquet")) == 40


def test_nothing_to_export_is_an_empty_table(store, tmp_path):
    assert export_geoparquet(store, tmp_path / "a.parquet", ExportFilter()) == 0
    assert len(geopandas.read_parquet(tmp_path / "a.parquet")) == 0


def test_a_target_that_cannot_be_written_keeps_what_was_there(filled, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        export_geoparquet(filled, tmp_path / "folder", ExportFilter())
    with pytest.raises(StoreError, match="cannot write"):
        export_geoparquet(filled, tmp_path / "no" / "such.parquet", ExportFilter())

    assert [path.name for path in tmp_path.rglob("*.parquet*")] == []
