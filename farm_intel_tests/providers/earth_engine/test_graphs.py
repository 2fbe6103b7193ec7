"""What is sent to Earth Engine, recorded: a change of any graph has to be meant, and is then written anew.

Write them again with `python -m farm_intel_tests.providers.earth_engine.test_graphs` after judging the difference.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import shapely

from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import BandFile, Scene
from farm_intel.providers.collections import profile
from farm_intel.providers.collections.earth_engine import BAND_FILLS, IMAGE_COLLECTIONS
from farm_intel.providers.earth_engine.addresses import BandAddress
from farm_intel.providers.earth_engine.expressions import DayImage, FarmRegions, address, statistics_table
from farm_intel.providers.earth_engine.options import EarthEngineOptions
from farm_intel.providers.earth_engine.pixels import pixel_request
from farm_intel.providers.earth_engine.session import EarthEngineSession, reset_earth_engine
from farm_intel.simulation.emulators.earth_engine import earth_engine_app, throwaway_key
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.providers.earth_engine.support import LANDSAT, MODIS, REGISTRY, S2, Rig

pytestmark = pytest.mark.xdist_group("earth-engine")
FOLDER = Path(__file__).parent / "snapshots"
CASES = [
    *((S2, slug) for slug in ("ndvi", "evi", "ndmi", "kndvi")),
    (LANDSAT, "ndvi"),
    (MODIS, "ndvi"),
]
SQUARE = shapely.box(300_010.0, 9_899_910.0, 300_060.0, 9_899_960.0)


def scene(collection: str, name: str) -> Scene:
    """A scene that never was, with every band the row knows."""
    source = IMAGE_COLLECTIONS[collection][0]
    fills = BAND_FILLS[collection]
    bands = {}
    for band, key in source.assets.items():
        fill = fills.get(band, fills[""])
        pixel = {S2: 20.0 if band in {"scl", "nir08", "swir16"} else 10.0, LANDSAT: 30.0, MODIS: 500.0}[collection]
        href = BandAddress(
            image_id=f"{source.asset_id}/{name}",
            band=key,
            crs_code="SR-ORG:6974" if collection == MODIS else "EPSG:32737",
            pixel_m=pixel,
            west_m=300_000.0,
            north_m=9_900_000.0,
            width_px=100,
            height_px=100,
            dtype=fill.dtype,
            fill=fill.fill,
        ).href
        bands[band] = BandFile(common_name=band, asset_key=key, href=href, nodata=float(fill.fill))
    return Scene(
        scene_id=name,
        provider="earth_engine",
        dialect="earth-engine",
        collection=collection,
        acquired_at=datetime.combine(date(2026, 1, 4), datetime.min.time(), UTC),
        tile=name,
        platform="",
        bbox=BBox(west=37.0, south=-1.0, east=37.1, north=-0.9),
        footprint_wkb=None,
        bands=bands,
    )


def graphs(collection: str, slug: str) -> dict[str, Any]:
    """The table's graph over a home scene filled by another, and the pixel request of the index's bands."""
    import ee

    row = profile("earth-engine", collection)
    index = REGISTRY.get(slug)
    day = DayImage(
        scenes=(scene(collection, "HOME"), scene(collection, "OTHER")),
        of_home_tile=1,
        profile=row,
        indices=(index,),
        reflectance_max=1.6,
    )
    farms = [FarmRegions(number=0, whole=SQUARE, pure={1: SQUARE.buffer(-1.0, join_style="mitre")})]
    table = statistics_table(ee, day, farms, {1: [0]})
    names = [*index.resolve_bands(row.bands).values(), row.mask.band]
    pixels = pixel_request([address(day.home, name) for name in names], (0, 0, 64, 32), "farm-intel-test")
    return {
        "table": ee.serializer.encode(table, for_cloud_api=True),
        "pixels": {**pixels, "expression": ee.serializer.encode(pixels["expression"], for_cloud_api=True)},
    }


def path_of(collection: str, slug: str) -> Path:
    return FOLDER / f"{collection.replace('/', '_').lower()}.{slug}.json"


@pytest.mark.parametrize(("collection", "slug"), CASES)
def test_the_graph_is_the_recorded_one(rig: Rig, collection: str, slug: str) -> None:
    del rig  # the client has to know the list of algorithms

    assert json.loads(json.dumps(graphs(collection, slug))) == json.loads(path_of(collection, slug).read_text())


def test_our_graphs_ask_for_nothing_that_drops_pixels_silently() -> None:
    for collection, slug in CASES:
        text = path_of(collection, slug).read_text()
        # masks pixels with a negative input, and divides in its own way
        assert "normalizedDifference" not in text
        # would ask for a resampled pyramid level
        assert '"scale"' not in text
        assert '"crsTransform"' in text


def readable(value: Any, depth: int = 0) -> str:
    """JSON with a line per node of a graph, so that a difference shows what changed."""
    if not isinstance(value, dict) or depth > 3:
        return json.dumps(value, sort_keys=True)
    lines = [f"{' ' * depth}{json.dumps(name)}: {readable(value[name], depth + 1)}" for name in sorted(value)]
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"


def write_snapshots() -> None:
    """Record the graphs as they are now."""
    world = FarmWorld(WorldOptions(days=1, farms=0, tile_px=240))
    with EmulatorServer(earth_engine_app(world)) as server:
        options = EarthEngineOptions(project="p", credentials=throwaway_key(server.base_url), url=server.base_url)
        EarthEngineSession(options).initialise()
        FOLDER.mkdir(exist_ok=True)
        for collection, slug in CASES:
            path_of(collection, slug).write_text(readable(graphs(collection, slug)) + "\n")
        reset_earth_engine()


if __name__ == "__main__":
    write_snapshots()
