"""Farm files as files: their CRS, their layers, and content that is none."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from farm_intel.domain.errors import BadRequestError
from farm_intel.storage.farm_drafts import FarmFileOptions
from farm_intel.storage.farm_files import read_farm_file
from farm_intel_tests.storage.farm_file_support import (
    FIELDS,
    LIMITS,
    SQUARE,
    feature,
    needs_data,
    only,
    read,
    reason,
)


def test_legacy_crs_member_is_obeyed(tmp_path: Path) -> None:
    ring = [[550_000, 5_100_000], [551_000, 5_100_000], [551_000, 5_101_000], [550_000, 5_100_000]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}

    boundary = only(read(tmp_path, feature(ring), crs=crs)).boundary

    assert boundary.area_ha == pytest.approx(50.0, rel=2e-3)
    assert boundary.home_tile == "33TWM"


def test_degrees_declared_as_metres_are_rejected_with_the_hint(tmp_path: Path) -> None:
    path = tmp_path / "farms.gpkg"
    triangle = shapely.Polygon([(15, 46), (15.1, 46), (15, 46.1)])
    gpd.GeoDataFrame({"id": ["a"]}, geometry=[triangle], crs=3794).to_file(path)

    assert "look like degrees" in reason(read_farm_file(path, LIMITS))


def test_x_and_y_swapped_in_a_projected_crs_is_outside(tmp_path: Path) -> None:
    path = tmp_path / "farms.gpkg"
    swapped = shapely.box(5_100_000, 550_000, 5_101_000, 551_000)
    gpd.GeoDataFrame({"id": ["a"]}, geometry=[swapped], crs=32633).to_file(path)

    assert "outside" in reason(read_farm_file(path, LIMITS))


@needs_data
def test_shapefile_without_prj_needs_a_crs(tmp_path: Path) -> None:
    with zipfile.ZipFile(FIELDS / "SI_2021.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "SI_2021_EC21.prj").unlink()
    path = tmp_path / "SI_2021_EC21.shp"

    with pytest.raises(BadRequestError, match="does not say which CRS"):
        read_farm_file(path, LIMITS)
    named = read_farm_file(path, LIMITS, FarmFileOptions(crs="EPSG:3794"))
    assert named.farms[0].boundary.sha == read_farm_file(FIELDS / "SI_2021.zip", LIMITS).farms[0].boundary.sha


def test_two_layers_need_a_name(tmp_path: Path) -> None:
    path = tmp_path / "farms.gpkg"
    frame = gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.Polygon(SQUARE)], crs=4326)
    frame.to_file(path, layer="north")
    frame.to_file(path, layer="south")

    with pytest.raises(BadRequestError, match="2 layers with geometry: north, south"):
        read_farm_file(path, LIMITS)
    assert only(read_farm_file(path, LIMITS, FarmFileOptions(layer="south"))).farm_id == "a"
    with pytest.raises(BadRequestError, match="not readable"):
        read_farm_file(path, LIMITS, FarmFileOptions(layer="west"))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.geojson", b"{", "not readable as GeoJSON"),
        ("a.geojson", b"\xff\xfe\x00", "not readable as GeoJSON"),
        ("a.geojson", b"[1, 2]", "not GeoJSON"),
        ("a.geojson", b'{"type": "FeatureCollection"}', "not GeoJSON"),
        ("a.geojson", b'{"type": "FeatureCollection", "features": []}', "no features"),
        ("a.geojson", b"[" * 100_000, "not readable as GeoJSON"),
        ("a.parquet", b"PAR1nonsense", "not readable as Parquet"),
        ("a.gpkg", b"nonsense", "not readable"),
        ("a.zip", b"nonsense", "not readable"),
        ("a.shp", b"nonsense", "not readable"),
        ("a.csv", b"id,wkt", "not supported"),
    ],
)
def test_unusable_files_are_one_clear_error(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(BadRequestError, match=why):
        read_farm_file(path, LIMITS)


def test_missing_file_and_unknown_crs(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="no such file"):
        read_farm_file(tmp_path / "none.geojson", LIMITS)
    with pytest.raises(BadRequestError, match="CRS is not understood"):
        read(tmp_path, feature(), crs={"type": "name", "properties": {"name": "EPSG:123456"}})


def test_parquet_says_what_it_lacks(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.Polygon(SQUARE)])
    frame.drop(columns="geometry").to_parquet(tmp_path / "plain.parquet")
    frame.to_parquet(tmp_path / "nocrs.parquet")
    frame.set_crs(4326).to_parquet(tmp_path / "arrow.parquet", geometry_encoding="geoarrow")

    for name, why in (("plain", "without geometry"), ("nocrs", "CRS is unknown"), ("arrow", "not supported")):
        with pytest.raises(BadRequestError, match=why):
            read_farm_file(tmp_path / f"{name}.parquet", LIMITS)


def test_a_broken_geometry_in_parquet_costs_one_feature(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = shapely.to_wkb(shapely.Polygon(SQUARE))
    geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    table = pa.table({"id": ["a", "b", "c"], "geometry": [good, good[:40], None]})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), tmp_path / "f.parquet")

    result = read_farm_file(tmp_path / "f.parquet", LIMITS)

    assert [draft.farm_id for draft in result.farms] == ["a"]
    assert [r.reason.split(":")[0] for r in result.rejections] == [
        "the geometry cannot be read",
        "the geometry is empty",
    ]


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda s: st.lists(s, max_size=5)))
def test_any_json_as_coordinates_is_a_rejection_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, coordinates: Any
) -> None:
    for kind in ("Polygon", "MultiPolygon"):
        broken = feature({"type": kind, "coordinates": coordinates})
        assert len(read(tmp_path_factory.mktemp("any"), broken).rejections) == 1
