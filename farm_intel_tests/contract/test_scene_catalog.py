"""What every scene catalogue must do, whatever stands behind it; each adapter and the fake run the same tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import shapely

from farm_intel.domain.errors import NotConfiguredError, SceneProblemKind
from farm_intel.domain.geo import BBox
from farm_intel.domain.ports import SceneCatalog
from farm_intel.domain.scenes import Scene, SceneQuery, solar_day
from farm_intel.providers.stac.catalog import StacCatalog
from farm_intel_tests.support.guards import plain_guard
from farm_intel_tests.support.stac_items import make_item
from farm_intel_tests.support.stac_server import StacServer

Items = list[dict[str, Any]]
Maker = Callable[[Items, Path], AbstractContextManager[SceneCatalog]]

BOX = BBox(west=36.2, south=-0.8, east=36.4, north=-0.6)
DAY = date(2026, 1, 5)


def stac_catalog(source: str) -> StacCatalog:
    return StacCatalog(
        source=source,
        dialect="earth-search",
        collection="sentinel-2-l2a",
        timeout_s=5,
        guard=plain_guard(1),
        page_size=2,
        provider="stac",
    )


@contextmanager
def over_api(items: Items, _folder: Path) -> Iterator[SceneCatalog]:
    with StacServer(items) as server:
        yield stac_catalog(server.url)


def write_static(items: Items, folder: Path) -> Path:
    for item in items:
        (folder / f"{item['id']}.json").write_text(json.dumps(item))
    links = [{"rel": "item", "href": f"./{item['id']}.json"} for item in items]
    entry = folder / "collection.json"
    entry.write_text(json.dumps({"type": "Collection", "id": "sentinel-2-l2a", "links": links}))
    return entry


@contextmanager
def over_static(items: Items, folder: Path) -> Iterator[SceneCatalog]:
    yield stac_catalog(str(write_static(items, folder)))


@contextmanager
def over_remote_static(items: Items, folder: Path) -> Iterator[SceneCatalog]:
    write_static(items, folder)
    with StacServer(static_root=folder) as server:
        yield stac_catalog(f"{server.url}/static/collection.json")


@contextmanager
def over_folder(items: Items, folder: Path) -> Iterator[SceneCatalog]:
    write_static(items, folder).unlink()
    yield stac_catalog(str(folder))


@contextmanager
def over_item_collection(items: Items, folder: Path) -> Iterator[SceneCatalog]:
    path = folder / "items.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    yield stac_catalog(str(path))


@pytest.fixture(params=[over_api, over_static, over_remote_static, over_folder, over_item_collection])
def catalog_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Items], SceneCatalog]]:
    """Return a function from items to a catalogue that offers them."""
    entered: list[AbstractContextManager[SceneCatalog]] = []

    def make(items: Items) -> SceneCatalog:
        entered.append(request.param(items, tmp_path))
        return entered[-1].__enter__()

    yield make
    for manager in entered:
        manager.__exit__(None, None, None)


def query(start: date = DAY, end: date = DAY, bbox: BBox = BOX, **changes: Any) -> SceneQuery:
    return SceneQuery(collection="sentinel-2-l2a", bbox=bbox, start=start, end=end, **changes)


def found_ids(catalog: SceneCatalog, asked: SceneQuery) -> list[str]:
    return sorted(scene.scene_id for scene in catalog.search(asked).scenes)


def test_days_are_solar_and_inclusive(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    """At 36 degrees east the solar day begins at 22:00 UTC of the day before."""
    times = {
        "4th, last minute": "2026-01-04T21:59:59Z",
        "5th, first minute": "2026-01-04T22:00:00Z",
        "5th": "2026-01-05T07:41:00Z",
        "5th, last minute": "2026-01-05T21:59:59Z",
        "6th, first minute": "2026-01-05T22:00:00Z",
    }
    catalog = catalog_of([make_item(name, moment) for name, moment in times.items()])

    assert found_ids(catalog, query()) == ["5th", "5th, first minute", "5th, last minute"]
    assert len(catalog.search(query(date(2026, 1, 4), date(2026, 1, 6))).scenes) == 5
    assert found_ids(catalog, query(date(2026, 1, 7), date(2026, 1, 9))) == []
    for scene in catalog.search(query()).scenes:
        assert solar_day(scene.acquired_at, 36.3) == DAY


def test_only_scenes_over_the_box_are_found(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    places = {"over": (36.0, -1.0), "east of it": (37.0, -1.0), "north of it": (36.0, 1.0), "part": (36.3, -0.7)}
    catalog = catalog_of(
        [make_item(name, "2026-01-05T07:41:00Z", west=west, south=south) for name, (west, south) in places.items()]
    )

    assert found_ids(catalog, query()) == ["over", "part"]


def test_the_antimeridian_is_no_edge_of_the_world(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    catalog = catalog_of(
        [
            make_item("west of it", "2026-01-05T22:30:00Z", west=178.9),
            make_item("east of it", "2026-01-05T22:30:00Z", west=-179.9),
            make_item("elsewhere", "2026-01-05T22:30:00Z", west=0.0),
        ]
    )
    box = BBox(west=179.5, south=-0.8, east=-179.5, north=-0.6)

    assert found_ids(catalog, query(date(2026, 1, 5), date(2026, 1, 6), box)) == ["east of it", "west of it"]


def test_all_versions_of_an_acquisition_are_found_and_can_be_ordered(
    catalog_of: Callable[[Items], SceneCatalog],
) -> None:
    """Choosing among them is the engine's task: the newest may be unreadable."""
    catalog = catalog_of(
        [
            make_item(f"S2_{n}", "2026-01-05T07:41:00Z", **{"s2:processing_baseline": baseline, "s2:sequence": str(n)})
            for n, baseline in enumerate(["05.00", "05.11", "05.09"])
        ]
    )

    scenes = catalog.search(query()).scenes

    assert max(scenes, key=lambda scene: scene.revision).scene_id == "S2_1"
    assert min(scenes, key=lambda scene: scene.revision).scene_id == "S2_0"


def test_scenes_are_complete_values(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    catalog = catalog_of([make_item("S2", "2026-01-05T07:41:00Z")])

    (scene,) = catalog.search(query()).scenes

    assert isinstance(scene, Scene)
    assert scene.provider == catalog.provider
    assert (scene.dialect, scene.collection, scene.tile) == ("earth-search", "sentinel-2-l2a", "37MBV")
    assert scene.acquired_at.utcoffset() is not None
    assert scene.bbox == BBox(west=36, south=-1, east=37, north=0)
    assert shapely.from_wkb(scene.footprint_wkb).bounds == (36, -1, 37, 0)
    assert set(scene.bands) == {"blue", "green", "red", "nir", "swir16", "scl"}
    assert all(file.href.startswith(("/", "http")) for file in scene.bands.values())
    assert scene.processing_baseline == "05.09"
    assert scene.offset_applied is True
    assert scene.epsg == 32737


def test_a_scene_without_a_needed_band_carries_the_problem(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    lacking = make_item("lacking", "2026-01-05T07:41:00Z")
    del lacking["assets"]["nir"]
    catalog = catalog_of([lacking, make_item("whole", "2026-01-05T07:42:00Z")])

    scenes = {s.scene_id: s for s in catalog.search(query(bands=frozenset({"red", "nir"}))).scenes}

    assert [(p.kind, p.band) for p in scenes["lacking"].problems] == [(SceneProblemKind.MISSING_ASSET, "nir")]
    assert scenes["whole"].problems == ()


def test_an_unusable_item_is_told_and_the_others_are_found(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    broken = make_item("broken", "2026-01-05T07:41:00Z") | {"assets": {}}
    catalog = catalog_of([broken, make_item("whole", "2026-01-05T07:42:00Z")])

    found = catalog.search(query())

    assert [scene.scene_id for scene in found.scenes] == ["whole"]
    assert [(p.scene_id, p.kind) for p in found.problems] == [("broken", SceneProblemKind.MISSING_ASSET)]


def test_an_empty_catalogue_has_no_scenes_and_no_problems(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    found = catalog_of([]).search(query())

    assert (found.scenes, found.problems) == ((), ())


def test_another_collection_is_refused(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    catalog = catalog_of([make_item("S2", "2026-01-05T07:41:00Z")])

    with pytest.raises(NotConfiguredError):
        catalog.search(replace(query(), collection="sentinel-9"))


def test_refreshing_keeps_the_scenes_identity(catalog_of: Callable[[Items], SceneCatalog]) -> None:
    catalog = catalog_of([make_item("S2", "2026-01-05T07:41:00Z")])
    (scene,) = catalog.search(query()).scenes

    fresh = catalog.refresh(scene)

    assert fresh.version_text == scene.version_text
    assert fresh.bands.keys() == scene.bands.keys()
