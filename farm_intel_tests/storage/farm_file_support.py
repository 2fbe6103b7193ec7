"""Farm files for tests: features, files of them, and what reading gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farm_intel.storage.farm_drafts import FarmDraft, FarmFile, FarmLimits
from farm_intel.storage.farm_files import read_farm_file

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
