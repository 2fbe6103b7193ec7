"""What calls to real services share: when they are made at all, where they look, and what any answer must look like.

Nobody has run them so far; `docs/providers.md` says how. Costs are a handful of requests for each.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import shapely

from farm_intel.bootstrap import Container, build_container, load_settings
from farm_intel.cli.requests import days_between
from farm_intel.domain.geo import BBox
from farm_intel.domain.observations import Observation, ObservationStatus
from farm_intel.domain.scenes import Scene, SceneQuery
from farm_intel.observing.model import ObserveRequest

live_only = pytest.mark.skipif(
    os.environ.get("FARM_INTEL_LIVE_TESTS") != "1",
    reason="calls a real service: set FARM_INTEL_LIVE_TESTS=1 to make them",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and when to look."""

    farm_id: str
    west: float
    south: float
    east: float
    north: float
    first: date
    last: date

    @property
    def box(self) -> BBox:
        return BBox(west=self.west, south=self.south, east=self.east, north=self.north)

    @property
    def outline(self) -> shapely.Polygon:
        return shapely.box(self.west, self.south, self.east, self.north)

    def write(self, path: Path) -> Path:
        """Write the field as a farm file."""
        feature = {
            "type": "Feature",
            "id": self.farm_id,
            "properties": {"farm_id": self.farm_id, "name": "live"},
            "geometry": json.loads(shapely.to_geojson(self.outline)),
        }
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
        return path


FIELD = Place(
    farm_id="LIVE",
    west=11.3000,
    south=44.6000,
    east=11.3038,
    north=44.6027,
    first=date(2024, 7, 1),
    last=date(2024, 7, 8),
)
"""300 x 300 m of fields in Emilia-Romagna, eight days of summer: three passes of Sentinel-2, one of Landsat."""
REGION = Place(
    farm_id="LIVE", west=11.27, south=44.58, east=11.34, north=44.63, first=date(2024, 7, 3), last=date(2024, 7, 4)
)
"""5.5 x 5.5 km around it, for products with pixels of 500 m; 2024-07-03 begins an 8-day composite."""


def container(home: Path, provider: str, place: Place, **settings: Any) -> Container:
    """Return an installation of one provider with the environment's credentials; skips where they are missing."""
    found = build_container(
        load_settings(
            **{
                "home": home,
                "database_url": "",
                "raster_root": "",
                "providers": (provider,),
                "provider_order": {},
                "history_start": place.first,
                "history_end": place.last,
            }
            | settings
        )
    )
    missing = found.sources[0].missing_settings
    if missing:
        pytest.skip(f"no credentials for {provider}: {', '.join(missing)} has no value")
    home.mkdir(parents=True, exist_ok=True)
    found.import_farms(found.read_farm_file(place.write(home / "farm.geojson")).farms)
    return found


def search(installation: Container, place: Place) -> tuple[Scene, ...]:
    """Return the scenes of one search, each checked for what the engine needs."""
    (provider,) = installation.providers.values()
    profile = provider.profile
    bands = frozenset({"red", profile.mask.band})
    query = SceneQuery(collection=profile.collection, bbox=place.box, start=place.first, end=place.last, bands=bands)
    found = provider.catalog.search(query)

    assert found.problems == ()
    assert found.scenes
    for scene in found.scenes:
        assert (scene.provider, scene.collection, scene.dialect) == (
            provider.name,
            profile.collection,
            profile.dialect,
        )
        assert bands <= set(scene.bands)
        assert all(band.href for band in scene.bands.values())
        box = scene.bbox
        assert shapely.box(box.west, box.south, box.east, box.north).intersects(place.outline)
        assert scene.footprint_wkb is None or shapely.intersects(shapely.from_wkb(scene.footprint_wkb), place.outline)
        assert scene.acquired_at.tzinfo is not None
    return tuple(found.scenes)


def observe(installation: Container, place: Place) -> list[Observation]:
    """Return the stored cells of one index, each checked for what a cell must say."""
    (provider,) = installation.providers.values()
    request = ObserveRequest(
        provider=provider.name,
        collection=provider.profile.collection,
        indices=("ndvi",),
        farm_ids=(place.farm_id,),
        days=days_between(place.first, place.last),
    )
    told = list(installation.observing.observe(request, run_id="live"))
    cells = list(installation.observations.observations(provider=provider.name))

    assert installation.observing.problems == ()
    assert told
    assert len(cells) == len(told)
    for cell in cells:
        assert cell.status in {ObservationStatus.OBSERVED, ObservationStatus.CLOUDY}, cell.reason
        assert 0.0 < cell.covered_fraction <= 1.0 + 1e-6
        assert cell.scene_ids
        assert (
            cell.statistics is None or -1.0 <= cell.statistics.min <= cell.statistics.mean <= cell.statistics.max <= 1.0
        )
        assert (cell.statistics is None) == (cell.status is ObservationStatus.CLOUDY)
    return cells


def agree(first: list[Observation], second: list[Observation], *, within: float) -> None:
    """Hold two ways of asking for the same days to each other."""
    by_day = {cell.key.solar_day: cell for cell in second}

    assert {cell.key.solar_day for cell in first} == set(by_day)
    for cell in first:
        other = by_day[cell.key.solar_day]
        assert cell.status is other.status
        if cell.statistics is not None and other.statistics is not None:
            assert cell.statistics.mean == pytest.approx(other.statistics.mean, abs=within)
