"""Static catalogues: on disk and over HTTP, real and built, changing while we look."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farm_intel.domain.errors import NotConfiguredError, SceneProblemKind
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import SceneQuery
from farm_intel.providers.collections import profile
from farm_intel.providers.stac.catalog import StacCatalog
from farm_intel.providers.stac.documents import REMOTE_AGE_S, DocumentReader
from farm_intel.providers.stac.http import StacHttp
from farm_intel.providers.stac.static import StaticSource
from farm_intel.resilience.retry import without_waiting
from farm_intel_tests.support.clock import FakeClock
from farm_intel_tests.support.guards import plain_guard
from farm_intel_tests.support.stac_items import SHARED_DATA, make_item, needs_shared_data
from farm_intel_tests.support.stac_server import Fault, StacServer

AREA = BBox(west=36.2, south=-0.8, east=36.4, north=-0.6)
FIRST = date(2026, 1, 1)
QUERY = SceneQuery(collection="sentinel-2-l2a", bbox=AREA, start=FIRST, end=date(2026, 12, 31))


def catalog(source: str | Path) -> StacCatalog:
    return StacCatalog(
        source=str(source),
        dialect="earth-search",
        collection="sentinel-2-l2a",
        timeout_s=5,
        guard=plain_guard(1),
        page_size=10,
        provider="stac",
    )


def items(count: int) -> list[dict[str, Any]]:
    moment = datetime(2026, 1, 1, 7, 41, tzinfo=UTC)
    return [make_item(f"S2_{n:04d}", moment + timedelta(hours=n)) for n in range(count)]


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_catalogue(folder: Path, members: Sequence[dict[str, Any]]) -> Path:
    """Write catalog.json -> collection.json -> items, with the links back that make circles."""
    for item in members:
        links = [{"rel": "collection", "href": "../collection.json"}, {"rel": "root", "href": "../catalog.json"}]
        write(folder / item["id"] / f"{item['id']}.json", item | {"links": links})
    up = [{"rel": "root", "href": "./catalog.json"}, {"rel": "parent", "href": "./catalog.json"}]
    down = [{"rel": "item", "href": f"./{item['id']}/{item['id']}.json"} for item in members]
    write(folder / "collection.json", {"type": "Collection", "id": "sentinel-2-l2a", "links": [*up, *down]})
    child = {"rel": "child", "href": "./collection.json"}
    return write(
        folder / "catalog.json",
        {"type": "Catalog", "id": "test", "links": [child, {"rel": "root", "href": "./catalog.json"}]},
    )


def ids(catalogue: StacCatalog, query: SceneQuery = QUERY) -> list[str]:
    return [scene.scene_id for scene in catalogue.search(query).scenes]


@needs_shared_data
def test_the_spanish_field_has_33_scenes_of_2019() -> None:
    found = catalog(SHARED_DATA / "sentinel2_field_spain_2019" / "catalog.json").search(
        SceneQuery(
            collection="sentinel-2-l2a",
            bbox=BBox(west=-4.873, south=41.772, east=-4.870, north=41.775),
            start=date(2019, 1, 1),
            end=date(2019, 12, 31),
        )
    )

    assert len(found.scenes) == 33
    assert found.problems == ()
    assert found.requests == 0
    assert [scene.acquired_at for scene in found.scenes] == sorted(scene.acquired_at for scene in found.scenes)
    for scene in found.scenes:
        assert scene.problems == ()
        assert scene.offset_applied is True
        assert set(scene.bands) == {"red", "nir", "scl"}
        assert all(Path(file.href).is_file() for file in scene.bands.values())


@needs_shared_data
def test_a_folder_of_items_needs_no_catalogue() -> None:
    box = BBox(west=15.9, south=45.8, east=16.0, north=45.9)
    query = SceneQuery(collection="sentinel-2-l2a", bbox=box, start=date(2023, 8, 13), end=date(2023, 8, 18))

    found = catalog(SHARED_DATA / "sentinel2_33T_120m" / "items").search(query)

    assert {(scene.tile, scene.acquired_at.date().isoformat()) for scene in found.scenes} == {
        ("33TWL", "2023-08-13"),
        ("33TWL", "2023-08-15"),
        ("33TWL", "2023-08-18"),
    }
    assert all(Path(file.href).is_file() for scene in found.scenes for file in scene.bands.values())


@needs_shared_data
def test_links_to_items_that_are_gone_are_problems_not_failures() -> None:
    """The real collection.json points at item files that were not kept."""
    query = SceneQuery(
        collection="sentinel-2-l2a",
        bbox=BBox(west=15, south=45, east=17, north=47),
        start=date(2023, 8, 1),
        end=date(2023, 8, 31),
    )

    found = catalog(SHARED_DATA / "sentinel2_33T_120m" / "collection.json").search(query)

    assert found.scenes == ()
    assert [problem.kind for problem in found.problems] == [SceneProblemKind.NOT_FOUND] * 10
    assert "S2A_33TWL_20230815_0_L2A" in {problem.scene_id for problem in found.problems}


def test_a_file_with_many_items_is_a_catalogue(tmp_path: Path) -> None:
    path = write(tmp_path / "search.json", {"type": "FeatureCollection", "features": items(4)})

    found = catalog(path).search(QUERY)

    assert [scene.scene_id for scene in found.scenes] == ["S2_0000", "S2_0001", "S2_0002", "S2_0003"]
    assert found.scenes[0].bands["red"].href == str(tmp_path / "S2_0000" / "red.tif")


def test_a_folder_with_a_catalogue_is_entered_by_it(tmp_path: Path) -> None:
    write_catalogue(tmp_path, items(3))
    write(tmp_path / "not-linked.json", make_item("not-linked", "2026-01-01T07:00:00Z"))

    assert ids(catalog(tmp_path)) == ["S2_0000", "S2_0001", "S2_0002"]


def test_items_of_other_collections_are_left_out(tmp_path: Path) -> None:
    other = make_item("L8", "2026-01-01T07:00:00Z") | {"collection": "landsat-c2-l2"}
    anonymous = make_item("anonymous", "2026-01-01T08:00:00Z")
    del anonymous["collection"]
    path = write(tmp_path / "all.json", {"type": "FeatureCollection", "features": [other, anonymous, *items(1)]})

    assert ids(catalog(path)) == ["S2_0000", "anonymous"]


def test_a_catalogue_of_other_collections_only_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a.json", make_item("L8", "2026-01-01T07:00:00Z") | {"collection": "landsat-c2-l2"})

    with pytest.raises(NotConfiguredError, match="landsat-c2-l2"):
        catalog(tmp_path).search(QUERY)


def test_new_changed_and_deleted_items_are_seen_by_a_long_lived_process(tmp_path: Path) -> None:
    first, second = items(2)
    path = write(tmp_path / "first.json", first)
    watching = catalog(tmp_path)
    assert ids(watching) == ["S2_0000"]

    write(tmp_path / "second.json", second)
    assert ids(watching) == ["S2_0000", "S2_0001"]

    first["properties"]["updated"] = "2026-02-02T00:00:00Z"
    write(path, first)
    os.utime(path, ns=(1, 1))
    assert [scene.updated for scene in watching.search(QUERY).scenes] == [
        "2026-02-02T00:00:00Z",
        "2026-01-02T00:00:00Z",
    ]

    path.unlink()
    assert ids(watching) == ["S2_0001"]


def test_a_cut_item_file_is_a_problem_until_it_is_whole(tmp_path: Path) -> None:
    whole, other = items(2)
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(whole)[:300])
    write(tmp_path / "other.json", other)
    watching = catalog(tmp_path)

    found = watching.search(QUERY)
    assert [scene.scene_id for scene in found.scenes] == ["S2_0001"]
    assert [(p.scene_id, p.kind) for p in found.problems] == [("whole", SceneProblemKind.UNREADABLE_FILE)]

    write(path, whole)
    assert ids(watching) == ["S2_0000", "S2_0001"]


@pytest.mark.parametrize("content", [None, "<html></html>", "[1]"], ids=["missing", "html", "list"])
def test_a_source_that_is_no_catalogue_is_not_configured(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "catalog.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(NotConfiguredError, match="FARM_INTEL_STAC_URL"):
        catalog(path).search(QUERY)


def test_thousands_of_items_are_read_once_and_found_quickly(tmp_path: Path) -> None:
    many = items(3000)
    write_catalogue(tmp_path, many)
    watching = catalog(tmp_path)
    started = time.process_time()
    first = ids(watching)
    read_s = time.process_time() - started
    started = time.process_time()
    again = ids(
        watching, SceneQuery(collection="sentinel-2-l2a", bbox=AREA, start=date(2026, 2, 1), end=date(2026, 2, 3))
    )
    again_s = time.process_time() - started

    assert len(first) == 3000
    assert len(again) == 72
    assert again_s < read_s / 5


def test_a_static_catalogue_is_read_over_http(tmp_path: Path) -> None:
    write_catalogue(tmp_path, items(12))
    with StacServer(static_root=tmp_path) as server:
        found = catalog(f"{server.url}/static/catalog.json").search(QUERY)

        assert len(found.scenes) == 12
        assert found.scenes[0].bands["red"].href == f"{server.url}/static/S2_0000/S2_0000/red.tif"
        assert found.requests == len(server.log)


def test_failures_of_a_static_server_are_retried_and_broken_items_are_problems(tmp_path: Path) -> None:
    write_catalogue(tmp_path, items(3))
    (tmp_path / "S2_0001" / "S2_0001.json").write_text("<html>oops</html>")
    (tmp_path / "S2_0002" / "S2_0002.json").unlink()
    with StacServer(static_root=tmp_path) as server, without_waiting():
        server.faults = [Fault("/static/collection.json", 503), Fault("/static/S2_0000/S2_0000.json", 502)]
        found = catalog(f"{server.url}/static/catalog.json").search(QUERY)

    assert [scene.scene_id for scene in found.scenes] == ["S2_0000"]
    assert {problem.scene_id for problem in found.problems} == {"S2_0001", "S2_0002"}


def test_a_remote_catalogue_is_read_again_after_a_while(tmp_path: Path) -> None:
    write_catalogue(tmp_path, items(2))
    clock = FakeClock()
    http = StacHttp(timeout_s=5, guard=plain_guard(0), provider="stac", clock=clock)
    row = profile("earth-search", "sentinel-2-l2a")
    with StacServer(static_root=tmp_path) as server:
        source = StaticSource(f"{server.url}/static/catalog.json", DocumentReader(http, clock), row, provider="stac")
        assert len(list(source.find(QUERY))) == 2
        asked = len(server.log)
        write_catalogue(tmp_path, items(3))

        assert len(list(source.find(QUERY))) == 2
        assert len(server.log) == asked

        clock.advance(REMOTE_AGE_S)
        assert len(list(source.find(QUERY))) == 3
