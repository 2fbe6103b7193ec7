"""What goes out, key by key: a changed body is a changed meaning, a changed price, or a refused request."""

from __future__ import annotations

import json
from datetime import date

from farm_intel.engine.options import EngineOptions
from farm_intel.engine.pipeline import SceneMajorEngine
from farm_intel.indices.registry import load_registry
from farm_intel.providers.sentinel_hub.blocks import sentinel_hub_block_readers
from farm_intel.providers.sentinel_hub.statistics import SentinelHubStatistics
from farm_intel.providers.sentinel_hub.units import process_units, statistics_units
from farm_intel_tests.providers.sentinel_hub.conftest import PROFILE, Hub, guard

INDEX = load_registry().select(["ndvi"])

PIXELS_SCRIPT = """//VERSION=3
function setup() {
  return {input: [{bands: ["B08", "B04", "SCL", "dataMask"], units: ["REFLECTANCE", "REFLECTANCE", "DN", "DN"]}],
          output: {id: "default", bands: 4, sampleType: "UINT16"}, mosaicking: "SIMPLE"};
}
function number(reflectance) { return Math.max(1, Math.round(10000 * reflectance) + 1000); }
function evaluatePixel(sample) {
  return [number(sample.B08), number(sample.B04), sample.SCL, sample.dataMask];
}
"""

STATISTICS_SCRIPT = """//VERSION=3
function setup() {
  return {input: [{bands: ["B08", "B04", "SCL", "dataMask"], units: ["REFLECTANCE", "REFLECTANCE", "DN", "DN"]}],
          mosaicking: "SIMPLE", output: [
    {id: "ndvi", bands: 1, sampleType: "FLOAT32"},
    {id: "farm_intel_reasons", bands: ["nodata", "cloud", "shadow", "snow", "saturated", "dark", "unclassified", \
"ndvi_input", "ndvi_value"], sampleType: "UINT8"},
    {id: "dataMask", bands: ["ndvi", "farm_intel_reasons"]}
  ]};
}
const REASONS = {"0": 1, "1": 6, "2": 7, "3": 3, "4": 0, "5": 0, "6": 0, "7": 8, "8": 2, "9": 2, "10": 2, "11": 4};
function usable(reflectance) { return reflectance > 0 && reflectance <= 1.6; }
function evaluatePixel(sample) {
  const told = REASONS[sample.SCL];
  const reason = sample.dataMask !== 1 ? -1 : told === undefined ? 1 : told;
  const clear = reason === 0;
  const inputs0 = clear && usable(sample.B08) && usable(sample.B04);
  const value0 = ((sample.B08 - sample.B04) / (sample.B08 + sample.B04));
  const good0 = inputs0 && value0 >= -1.0 && value0 <= 1.0;
  return {
    "ndvi": [good0 ? value0 : 0],
    "farm_intel_reasons": [reason === 1 ? 1 : 0, reason === 2 ? 1 : 0, reason === 3 ? 1 : 0, reason === 4 ? 1 : 0, \
reason === 6 ? 1 : 0, reason === 7 ? 1 : 0, reason === 8 ? 1 : 0, clear && !inputs0 ? 1 : 0, \
inputs0 && !good0 ? 1 : 0],
    dataMask: [good0 ? 1 : 0, sample.dataMask]
  };
}
"""

INPUT = {
    "type": "sentinel-2-l2a",
    "dataFilter": {"mosaickingOrder": "mostRecent"},
    "processing": {"upsampling": "NEAREST", "downsampling": "NEAREST", "harmonizeValues": False},
}


def last_body(hub: Hub, path: str) -> dict[str, object]:
    return json.loads([record.body for record in hub.server.log if record.path == path][-1])


def test_catalogue_query(hub: Hub) -> None:
    hub.catalog(page_size=50).search(hub.query(date(2026, 1, 4), date(2026, 1, 9)))

    assert last_body(hub, "/api/v1/catalog/1.0.0/search") == {
        "collections": ["sentinel-2-l2a"],
        "datetime": "2026-01-03T11:00:00Z/2026-01-10T13:00:00Z",
        "bbox": [35.8, -1.3, 36.2, -0.9],
        "filter-lang": "cql2-text",
        "limit": 50,
    }


def test_process_body(hub: Hub) -> None:
    """One request brings both bands and the mask of a block, on the tile's grid, for the second of the scene."""
    readers = sentinel_hub_block_readers(hub.options(block_px=300), PROFILE, guard())
    list(SceneMajorEngine(readers, EngineOptions()).run(hub.days(1), hub.farms("F001"), INDEX, PROFILE))
    body = last_body(hub, "/api/v1/process")
    bounds = body["input"]["bounds"]  # type: ignore[index]  # parsed JSON
    tile = next(tile for tile in hub.world.tiles if list(tile.grid.bounds) == bounds["bbox"])

    assert hub.count("/process") == 1
    assert body == {
        "input": {
            "bounds": {
                "properties": {"crs": f"http://www.opengis.net/def/crs/EPSG/0/{tile.epsg}"},
                "bbox": list(tile.grid.bounds),
            },
            "data": [
                {
                    **INPUT,
                    "dataFilter": {
                        "timeRange": {"from": "2026-01-04T07:40:59Z", "to": "2026-01-04T07:41:02Z"},
                        "mosaickingOrder": "mostRecent",
                    },
                }
            ],
        },
        "evalscript": PIXELS_SCRIPT,
        "output": {
            "responses": [{"identifier": "default", "format": {"type": "image/tiff"}}],
            "width": 300,
            "height": 300,
        },
    }


def test_statistics_body(hub: Hub) -> None:
    """One request covers all days, beginning where the farm's solar day does: 22:00 UTC at 36 degrees east."""
    days = hub.days()
    list(SentinelHubStatistics(hub.options(), guard(), EngineOptions()).run(days, hub.farms("F001"), INDEX, PROFILE))
    body = last_body(hub, "/api/v1/statistics")
    geometry = body["input"]["bounds"].pop("geometry")  # type: ignore[index]  # parsed JSON
    script = body["aggregation"].pop("evalscript")  # type: ignore[index]  # parsed JSON

    assert hub.count("/statistics") == 1
    assert geometry["type"] == "Polygon"
    assert script == STATISTICS_SCRIPT
    assert body["input"]["bounds"]["properties"]["crs"].startswith("http://www.opengis.net/def/crs/EPSG/0/327")  # type: ignore[index]  # parsed JSON
    assert body["input"]["data"] == [INPUT]  # type: ignore[index]  # parsed JSON
    assert body["aggregation"] == {
        "timeRange": {"from": "2026-01-03T22:00:00Z", "to": "2026-01-24T22:00:00Z"},
        "aggregationInterval": {"of": "P1D"},
        "resx": 10.0,
        "resy": 10.0,
    }
    assert body["calculations"] == {
        "default": {"statistics": {"default": {"percentiles": {"k": [10, 25, 50, 75, 90]}}}}
    }


def test_prices_are_the_documented_ones() -> None:
    """512 x 512 px of three bands is one unit; recorded: 631 x 1047 x 3 bands cost 2.5202."""
    assert process_units(512, 512, 3) == 1.0
    assert process_units(512, 512, 3, float_output=True) == 2.0
    assert abs(process_units(631, 1047, 3) - 2.5202) < 1e-3
    assert process_units(10, 10, 1) == 0.005
    assert abs(statistics_units(631, 1047, 3, 2) - 5.0404) < 1e-3
    assert statistics_units(10, 10, 3, 1) == 0.01
    assert abs(statistics_units(40, 40, 3, 73) - 0.73) < 1e-9
