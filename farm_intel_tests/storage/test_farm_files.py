"""Farm files: real parcels in four CRSs and formats, and bad input of every kind."""

from __future__ import annotations

import json
import time
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from farm_intel.domain.errors import BadRequestError
from farm_intel.storage.farm_drafts import FarmDraft, FarmFile, FarmFileOptions, FarmLimits
from farm_intel.storage.farm_files import read_farm_file, slugify

FIELDS = Path("../shared/data/fields")
SPAIN = Path("../shared/data/sentinel2_field_spain_2019/field.geojson")
needs_data = pytest.mark.skipif(not FIELDS.is_dir(), reason="the shared data folder is not here")

LIMITS = FarmLimits()
SQUARE = [[36.0, -1.0], [36.01, -1.0], [36.01, -0.99], [36.0, -0.99], [36.0, -1.0]]


def feature(ring: Any = SQUARE, farm_id: Any = "a", **properties: Any) -> dict[str, Any]:
    geometry = ring if isinstance(ring, dict) or ring is None else {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "id": farm_id, "properties": properties, "geometry": geometry}


def write(folder: Path, *features: Any, **members: Any) -> Path:
    path = folder / "farms.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features), **members}), "utf-8")
    return path


def read(folder: Path, *features: Any, limits: FarmLimits = LIMITS, **members: Any) -> FarmFile:
    return read_farm_file(write(folder, *features, **members), limits)


def only(result: FarmFile) -> FarmDraft:
    assert [str(r) for r in result.rejections] == []
    (draft,) = result.farms
    return draft


def reason(result: FarmFile) -> str:
    (rejection,) = result.rejections
    assert result.farms == ()
    return rejection.reason


# --- real files --------------------------------------------------------------------------------------------------


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


# --- geometry ----------------------------------------------------------------------------------------------------


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


BOWTIE = [[36.0, -1.0], [36.01, -0.99], [36.01, -1.0], [36.0, -0.99], [36.0, -1.0]]
HOLE_OUTSIDE = [[37.0, -1.0], [37.01, -1.0], [37.01, -0.99], [37.0, -1.0]]


@pytest.mark.parametrize(
    ("geometry", "why"),
    [
        (None, "empty"),
        (polygon(), "empty"),
        ({"type": "MultiPolygon", "coordinates": []}, "empty"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "empty"),
        ({"type": "Point", "coordinates": [36.0, -1.0]}, "is a Point"),
        ({"type": "LineString", "coordinates": SQUARE}, "is a LineString"),
        ({"type": "GeometryCollection", "geometries": []}, "is a GeometryCollection"),
        (polygon("nonsense"), "not [longitude, latitude]"),
        ({"type": ["Polygon"]}, "is a ['Polygon']"),
        ({"type": "Polygon"}, "no coordinates"),
        (polygon(BOWTIE), "invalid: Self-intersection[36.005 -0.995]"),
        (polygon(SQUARE, HOLE_OUTSIDE), "invalid: Hole lies outside shell"),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}, "invalid: "),
        (polygon(SQUARE[:-1]), "not closed"),
        (polygon(SQUARE[:3]), "3 positions"),
        (polygon([[36.0], [36.1], [36.1], [36.0]]), "not [longitude, latitude]"),
        (polygon([["a", "b"]] * 4), "not [longitude, latitude]"),
        (polygon([None, 3, {}, []]), "not [longitude, latitude]"),
        (polygon([[36.0, -1.0], [float("nan"), -1.0], [36.01, -0.99], [36.0, -1.0]]), "not a finite number"),
        (polygon([[36.0, -1.0], [float("inf"), -1.0], [36.01, -0.99], [36.0, -1.0]]), "not a finite number"),
        (polygon([[x, y + 120.0] for x, y in SQUARE]), "longitude and latitude look swapped"),
        (polygon([[x + 4e5, y + 4e6] for x, y in SQUARE]), "look like metres"),
        (polygon([[x + 400, y] for x, y in SQUARE]), "longitude 436.01 is outside"),
        (polygon([[36 + (x - 36) * 1000, y] for x, y in SQUARE]), "at most 50,000 ha"),
        (polygon([[36 + (x - 36) / 1e5, -1 + (y + 1) / 1e5] for x, y in SQUARE]), "at least 1 m2"),
        (
            {"type": "MultiPolygon", "coordinates": [[SQUARE], [[[x, y + 5] for x, y in SQUARE]]]},
            "km apart",
        ),
        (polygon([[0, 85.0], [1.0, 85.0], [1.0, 85.1], [0, 85.0]]), "outside the UTM zones"),
        (polygon([[0, 80.0], [120.0, 80.0], [-120.0, 80.0], [0, 80.0]]), "around a pole"),
    ],
)
def test_bad_geometries_are_rejected_with_the_reason(tmp_path: Path, geometry: Any, why: str) -> None:
    result = read(tmp_path, feature(farm_id="good"), feature(geometry, farm_id="bad"))

    assert [draft.farm_id for draft in result.farms] == ["good"]
    assert [(r.number, r.farm_id) for r in result.rejections] == [(2, "bad")]
    assert why in result.rejections[0].reason


def test_hostile_polygons_cost_nothing(tmp_path: Path) -> None:
    """A 400-vertex random ring hangs make_valid for 20 s; 100,000 vertices are not even built."""
    rng = np.random.default_rng(7)
    hostile = rng.uniform(0, 0.01, (400, 2)) + np.array([36.0, -1.0])
    bomb = rng.uniform(0, 0.01, (100_000, 2)) + np.array([36.0, -1.0])
    features = [feature(np.vstack([ring, ring[:1]]).tolist(), farm_id=i) for i, ring in enumerate([hostile, bomb])]
    path = write(tmp_path, *features)

    started = time.process_time()
    result = read_farm_file(path, LIMITS)

    assert time.process_time() - started < 2.0
    assert "Self-intersection" in result.rejections[0].reason
    assert result.rejections[1].reason == "100,001 vertices; at most 10,000 are allowed"


def circle(count: int) -> list[list[float]]:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    ring = np.column_stack([36 + 0.01 * np.cos(angles), -1 + 0.01 * np.sin(angles)])
    return [*ring.tolist(), ring[0].tolist()]


def test_vertex_limit_is_inclusive_in_every_format(tmp_path: Path) -> None:
    limits = FarmLimits(max_vertices=100)
    assert len(only(read(tmp_path, feature(circle(99)), limits=limits)).boundary.wkb) > 0
    assert "101 vertices" in reason(read(tmp_path, feature(circle(100)), limits=limits))

    path = tmp_path / "farms.gpkg"
    gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.Polygon(circle(100))], crs=4326).to_file(path)
    assert "101 vertices" in reason(read_farm_file(path, limits))


def test_heights_are_dropped_with_a_note(tmp_path: Path) -> None:
    draft = only(read(tmp_path, feature([[x, y, 1200.0] for x, y in SQUARE])))

    assert not shapely.from_wkb(draft.boundary.wkb).has_z
    assert draft.notes == ("heights (Z) dropped",)
    assert draft.boundary.sha == only(read(tmp_path, feature())).boundary.sha


def test_holes_count_in_area_and_survive(tmp_path: Path) -> None:
    hole = [[36.002, -0.998], [36.002, -0.992], [36.008, -0.992], [36.008, -0.998], [36.002, -0.998]]
    whole = only(read(tmp_path, feature())).boundary
    holed = only(read(tmp_path, feature(polygon(SQUARE, hole)))).boundary

    assert holed.area_ha == pytest.approx(whole.area_ha * 0.64, rel=1e-3)
    assert len(shapely.from_wkb(holed.wkb).interiors) == 1
    assert holed.sha != whole.sha


def test_ring_order_direction_and_wrapping_do_not_change_the_hash(tmp_path: Path) -> None:
    expected = only(read(tmp_path, feature())).boundary.sha
    rotated = [*SQUARE[2:4], *SQUARE[0:3]]

    assert only(read(tmp_path, feature(rotated))).boundary.sha == expected
    assert only(read(tmp_path, feature(SQUARE[::-1]))).boundary.sha == expected
    multi = {"type": "MultiPolygon", "coordinates": [[SQUARE]]}
    assert only(read(tmp_path, feature(multi))).boundary.sha == expected
    jittered = [[x + 1e-9, y] for x, y in SQUARE]
    assert only(read(tmp_path, feature(jittered))).boundary.sha == expected


def fiji_pieces() -> dict[str, Any]:
    """RFC 7946: one farm of 0.02 by 0.01 degrees, cut at 180."""
    east = [[179.99, -17.0], [180.0, -17.0], [180.0, -16.99], [179.99, -16.99], [179.99, -17.0]]
    west = [[-180.0, -17.0], [-179.99, -17.0], [-179.99, -16.99], [-180.0, -16.99], [-180.0, -17.0]]
    return {"type": "MultiPolygon", "coordinates": [[east], [west]]}


def fiji_ring(shift: float) -> list[list[float]]:
    return [
        [179.99, -17.0],
        [180.01 + shift, -17.0],
        [180.01 + shift, -16.99],
        [179.99, -16.99],
        [179.99, -17.0],
    ]


@pytest.mark.parametrize("geometry", [fiji_pieces(), polygon(fiji_ring(0.0)), polygon(fiji_ring(-360.0))])
def test_every_spelling_of_a_farm_on_the_antimeridian_is_one_farm(tmp_path: Path, geometry: Any) -> None:
    boundary = only(read(tmp_path, feature(geometry))).boundary

    assert (boundary.bbox.west, boundary.bbox.east) == pytest.approx((179.99, -179.99))
    assert boundary.bbox.crosses_antimeridian
    assert boundary.area_ha == pytest.approx(0.02 * 111.32 * np.cos(np.radians(17)) * 0.01 * 110.66 * 100, rel=2e-3)
    assert boundary.home_tile[:2] in {"01", "60"}
    stored = shapely.from_wkb(boundary.wkb)
    assert len(stored.geoms) == 2
    assert np.abs(shapely.get_coordinates(stored)[:, 0]).max() == 180.0
    assert boundary.sha == only(read(tmp_path, feature(fiji_pieces()))).boundary.sha


def test_a_farm_on_the_antimeridian_in_a_projected_crs(tmp_path: Path) -> None:
    """In UTM 60S the polygon is one piece; its longitudes jump from 180 to -180 only when reprojected."""
    path = tmp_path / "farms.gpkg"
    ring = shapely.box(818_500, 8_116_000, 820_500, 8_117_000)
    gpd.GeoDataFrame({"id": ["a"]}, geometry=[ring], crs=32760).to_file(path)

    boundary = only(read_farm_file(path, LIMITS)).boundary

    assert boundary.bbox.crosses_antimeridian
    assert boundary.bbox.east - boundary.bbox.west + 360 < 0.03
    assert boundary.area_ha == pytest.approx(200.0, rel=3e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-180, 180),
    st.floats(-79, 83),
    st.floats(1e-4, 0.2),
    st.integers(3, 40),
    st.sampled_from([-360.0, 0.0, 360.0]),
)
def test_round_farms_anywhere_are_whole_and_contain_their_point(
    tmp_path_factory: pytest.TempPathFactory, lon: float, lat: float, radius: float, count: int, turn: float
) -> None:
    """Position, box, area and hash do not depend on which turn of the globe the longitudes are written in."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    ring = np.column_stack([lon + radius * np.cos(angles), lat + radius * np.sin(angles)])
    if (np.abs(ring[:, 0] + turn) > 360).any():
        turn = 0.0
    folder = tmp_path_factory.mktemp("round")
    limits = FarmLimits(min_area_ha=0, max_area_ha=1e6)
    plain = np.vstack([ring, ring[:1]])
    expected = only(read(folder, feature(plain.tolist()), limits=limits)).boundary
    boundary = only(read(folder, feature((plain + np.array([turn, 0.0])).tolist()), limits=limits)).boundary

    assert boundary.area_ha == pytest.approx(expected.area_ha, rel=1e-6)
    assert boundary.home_tile == expected.home_tile
    assert shapely.from_wkb(boundary.wkb).covers(shapely.Point(boundary.longitude_deg, boundary.latitude_deg))
    width = (boundary.bbox.east - boundary.bbox.west) % 360
    assert width == pytest.approx(np.ptp(ring[:, 0]), abs=1e-9)


# --- CRS and files -----------------------------------------------------------------------------------------------


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
