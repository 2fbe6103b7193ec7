"""Items for tests: built ones in the Earth Search dialect, and where the recorded real ones are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
RECORDED = SHARED_DATA / "stac_recorded"
needs_shared_data = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="../shared/data is not here")

BANDS = ("blue", "green", "red", "nir", "swir16")


def make_item(
    item_id: str,
    when: datetime | str,
    *,
    west: float = 36.0,
    south: float = -1.0,
    size_deg: float = 1.0,
    **properties: Any,
) -> dict[str, Any]:
    """Return a Sentinel-2 item as Earth Search writes them, over a square; west may be up to 180."""
    moment = when if isinstance(when, str) else when.astimezone(UTC).isoformat().replace("+00:00", "Z")
    east, north = west + size_deg, south + size_deg
    east = east - 360 if east > 180 else east
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    raster = [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}]
    assets: dict[str, Any] = {
        name: {
            "href": f"./{item_id}/{name}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "eo:bands": [{"name": name, "common_name": name}],
            "raster:bands": raster,
        }
        for name in BANDS
    }
    assets["scl"] = {"href": f"./{item_id}/scl.tif", "raster:bands": [{"nodata": 0, "data_type": "uint8"}]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": moment,
            "platform": "sentinel-2b",
            "proj:epsg": 32737,
            "grid:code": "MGRS-37MBV",
            "s2:processing_baseline": "05.09",
            "earthsearch:boa_offset_applied": True,
            "updated": "2026-01-02T00:00:00Z",
            **properties,
        },
        "links": [],
        "assets": assets,
    }


def recorded_json(name: str) -> dict[str, Any]:
    """Return one recorded document."""
    content: dict[str, Any] = json.loads((RECORDED / name).read_text())
    return content


def cassette_items(name: str) -> Iterator[dict[str, Any]]:
    """Yield every item in the recorded answers of a vcr cassette."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for interaction in yaml.load((RECORDED / name).read_text(), Loader=loader)["interactions"]:  # noqa: S506 - safe loaders
        body = interaction["response"]["body"].get("string") or b""
        if isinstance(body, str):
            body = body.encode()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        if body[:1] != b"{":
            continue
        document = json.loads(body)
        if document.get("type") == "Feature":
            yield document
        elif document.get("type") == "FeatureCollection":
            yield from document["features"]
