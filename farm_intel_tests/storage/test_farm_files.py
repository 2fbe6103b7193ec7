"""Farm files: real parcels in four CRSs and formats, and attributes of every kind."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from farm_intel.domain.errors import BadRequestError
from farm_intel.storage.farm_drafts import FarmFileOptions
from farm_intel.storage.farm_files import read_farm_file, slugify
from farm_intel_tests.storage.farm_file_support import (
    FIELDS,
    LIMITS,
    SPAIN,
    feature,
    needs_data,
    only,
    read,
    reason,
    write,
)


@needs_data
@pytest.mark.parametrize(
    ("name", "options", "zone", "tiles"),
    [
        ("SI_2021.zip", FarmFileOptions(), "Europe/Ljubljana", {"33TWL", "33TWM"}),
        (
            "hr_land_parcels.gpkg",
            FarmFileOptions(id_column="fid"),
            "Europe/Zagreb",
            {"33TVL", "33TWK", "33TWL", "33TXL"},
        ),
        ("be_vlg_2024_fiboa_0_2.parquet", FarmFileOptions(), "Europe/Brussels", {"31UES"}),
        ("india_10k.zip", FarmFileOptions(number_features=True), "Asia/Kolkata", None),
    ],
)
def test_real_parcels_keep_their_area_position_and_identity(
    name: str, options: FarmFileOptions, zone: str, tiles: set[str] | None
) -> None:
    """Shapes and positions against geopandas, areas against an ellipsoidal equal-area projection."""
    path = FIELDS / name
    register = gpd.read_parquet(path) if name.endswith("parquet") else gpd.read_file(path)
    lonlat = register.to_crs(4326)

    result = read_farm_file(path, LIMITS, options)

    assert len(result.farms) == 100
    assert result.rejections == ()
    areas = np.array([draft.boundary.area_ha for draft in result.farms])
    assert areas == pytest.approx(register.to_crs(6933).area.to_numpy() / 1e4, rel=1e-3)
    for draft, expected in zip(result.farms, lonlat.geometry, strict=True):
        assert shapely.from_wkb(draft.boundary.wkb).symmetric_difference(expected).area < 1e-12
        assert expected.covers(shapely.Point(draft.boundary.longitude_deg, draft.boundary.latitude_deg))
        box = draft.boundary.bbox
        assert (box.west, box.south, box.east, box.north) == pytest.approx(expected.bounds)
    zones = [draft.time_zone for draft in result.farms]
    assert max(set(zones), key=zones.count) == zone
    if tiles is not None:
        assert {draft.boundary.home_tile for draft in result.farms} == tiles


@needs_data
def test_real_columns_are_found() -> None:
    slovenia = read_farm_file(FIELDS / "SI_2021.zip", LIMITS)
    flanders = read_farm_file(FIELDS / "be_vlg_2024_fiboa_0_2.parquet", LIMITS)
    fiboa = read_farm_file(FIELDS / "fiboa-example.json", LIMITS)

    assert slovenia.columns == {"farm_id": "ID", "crop": "EC_trans_n"}
    assert (flanders.farms[0].farm_id, flanders.farms[0].crop) == ("2316235718", "Wintertarwe")
    assert [(d.farm_id, d.crop) for d in fiboa.farms] == [("12324", "Ackerland"), ("2713", "Ackerland")]
    assert fiboa.farms[0].boundary.area_ha == pytest.approx(1.6311, rel=1e-3)


@needs_data
def test_bare_geometry_is_named_after_its_file() -> None:
    draft = only(read_farm_file(SPAIN, LIMITS))

    assert (draft.farm_id, draft.time_zone, draft.boundary.home_tile) == ("field", "Europe/Madrid", "30TUM")
    assert draft.boundary.area_ha == pytest.approx(23.24, abs=0.01)


@needs_data
def test_many_features_without_ids_are_refused_with_the_columns_there_are() -> None:
    with pytest.raises(BadRequestError, match=r"none of the columns farm_id, id.*--id-column \(it has: area, sample\)"):
        read_farm_file(FIELDS / "india_10k.zip", LIMITS)


@needs_data
def test_a_column_with_repeated_values_keeps_the_first_of_each() -> None:
    result = read_farm_file(FIELDS / "hr_land_parcels.gpkg", LIMITS, FarmFileOptions(id_column="land_use_id"))

    assert len(result.farms) + len(result.rejections) == 100
    assert len({draft.farm_id for draft in result.farms}) == len(result.farms)
    assert str(result.rejections[0]) == "feature 3 (id 310): the id is already used by feature 1 of this file"


@needs_data
def test_every_format_and_crs_of_the_same_farms_gives_the_same_boundary_hash(tmp_path: Path) -> None:
    farms = gpd.read_file(FIELDS / "SI_2021.zip")[["ID", "geometry"]].head(20)
    farms.to_crs(4326).to_file(tmp_path / "a.geojson", COORDINATE_PRECISION=15)
    farms.to_file(tmp_path / "b.gpkg")
    farms.to_crs(32633).to_parquet(tmp_path / "c.parquet")
    farms.to_file(tmp_path / "d.shp")
    farms.to_file(tmp_path / "e.fgb")

    expected = [draft.boundary.sha for draft in read_farm_file(FIELDS / "SI_2021.zip", LIMITS).farms[:20]]
    for name in ("a.geojson", "b.gpkg", "c.parquet", "d.shp"):
        assert [draft.boundary.sha for draft in read_farm_file(tmp_path / name, LIMITS).farms] == expected, name
    assert {draft.boundary.sha for draft in read_farm_file(tmp_path / "e.fgb", LIMITS).farms} == set(expected)


# --- columns and identity ----------------------------------------------------------------------------------------


def test_all_columns_by_their_aliases(tmp_path: Path) -> None:
    draft = only(
        read(
            tmp_path,
            feature(
                farm_id=None,
                FARM_ID="north",
                Farm_Name="North field",
                crop_type="maize",
                sowing_date="2024-03-14T00:00:00Z",
                tz="Africa/Nairobi",
            ),
        )
    )

    assert (draft.farm_id, draft.name, draft.crop) == ("north", "North field", "maize")
    assert (draft.planting_date, draft.time_zone, draft.time_zone_given) == (
        date(2024, 3, 14),
        "Africa/Nairobi",
        True,
    )


@pytest.mark.parametrize(("given_id", "expected"), [(7, "7"), (310.0, "310"), ("  x_1 ", "x_1")])
def test_ids_become_text(tmp_path: Path, given_id: Any, expected: str) -> None:
    assert only(read(tmp_path, feature(farm_id=given_id))).farm_id == expected


@pytest.mark.parametrize(
    ("given_id", "why"),
    [
        ("Feld 7/b", "has characters"),
        ("x" * 65, "or a length"),
        (3.5, "not a whole number"),
        (True, "no text or number"),
        ("", "no id in column id"),
        (None, "no id in column id"),
    ],
)
def test_unusable_ids_are_rejected_and_the_others_stay(tmp_path: Path, given_id: Any, why: str) -> None:
    result = read(tmp_path, feature(farm_id="good"), feature(farm_id=given_id))

    assert [draft.farm_id for draft in result.farms] == ["good"]
    assert why in result.rejections[0].reason
    assert result.rejections[0].number == 2


def test_ids_are_slugified_only_when_asked_and_say_so(tmp_path: Path) -> None:
    path = write(tmp_path, feature(farm_id="Grünes Feld 7/b"), feature(farm_id="Grunes-Feld-7 b"))
    result = read_farm_file(path, LIMITS, FarmFileOptions(slugify_ids=True))

    assert result.farms[0].farm_id == "Grunes-Feld-7-b"
    assert result.farms[0].notes == ("id 'Grünes Feld 7/b' became 'Grunes-Feld-7-b'",)
    assert "already used by feature 1" in result.rejections[0].reason


def test_a_named_id_column_wins(tmp_path: Path) -> None:
    path = write(tmp_path, feature(farm_id="a", code="c-1"))

    assert only(read_farm_file(path, LIMITS, FarmFileOptions(id_column="code"))).farm_id == "c-1"
    with pytest.raises(BadRequestError, match="no column 'nope'"):
        read_farm_file(path, LIMITS, FarmFileOptions(id_column="nope"))


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ({"time_zone": "Mars/Olympus"}, "'Mars/Olympus' is not an IANA name"),
        ({"planting_date": "03/04/2021"}, "'03/04/2021' is not YYYY-MM-DD"),
        ({"planting_date": "2021-02-30"}, "'2021-02-30' is not YYYY-MM-DD"),
        ({"name": "x" * 201}, "name is longer than 200"),
        ({"crop": "mai\x07ze"}, "control characters"),
    ],
)
def test_unusable_attributes_are_rejected(tmp_path: Path, properties: dict[str, str], why: str) -> None:
    assert why in reason(read(tmp_path, feature(**properties)))


@given(st.text(max_size=100))
def test_slugs_are_ids_or_nothing(text: str) -> None:
    slug = slugify(text)

    assert slug == "" or (len(slug) <= 64 and slug.replace("-", "").replace("_", "x").isalnum() and slug.isascii())
